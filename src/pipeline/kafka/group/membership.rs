//! What a member of the group does next: the classic protocol's states without its network.
//!
//! A member joins, is told the group's generation, hands in or learns who gets what (`SyncGroup`), and then
//! beats. When the coordinator answers that the group arranges itself anew, the member first lets go of what it
//! has, in an orderly way, and only then joins again, so that nobody applies what somebody else takes over.
//! That is a courtesy which saves work and warnings: what protects is the fence in storage.

use std::collections::BTreeMap;

use kafka_protocol::error::ResponseError;

use crate::domain::Partition;
use crate::pipeline::kafka::assignor::{Candidate, assign};

/// What each member gets, by its id.
pub type Plan = BTreeMap<String, Vec<Partition>>;

/// What to do next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Have the owner let go of everything, then say [`Membership::drained`].
    Drain,
    /// Join as this candidate (its id is empty while it has none), then say [`Membership::joined`].
    Join(Candidate),
    /// Hand in the plan, which is empty unless this member leads; then say [`Membership::synced`].
    Sync {
        /// The member.
        id: String,
        /// The generation that was joined.
        generation: i32,
        /// Who gets what.
        plan: Plan,
    },
    /// All is well: say so now and then, and [`Membership::refused`] when the answer is an error.
    Beat {
        /// The member.
        id: String,
        /// Its generation.
        generation: i32,
    },
}

/// The coordinator's answer to a member that has joined.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Joined {
    /// The member's id.
    pub id: String,
    /// The generation that begins.
    pub generation: i32,
    /// All members, when this one leads.
    pub members: Option<Vec<Candidate>>,
}

/// What a refusal asks for beside the next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The next step at once: this is how the protocol goes.
    Proceed,
    /// The next step after a pause.
    Retry,
    /// Another broker coordinates the group, or none for the moment: find it after a pause.
    Find,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Phase {
    Draining,
    Joining,
    Syncing { generation: i32, plan: Plan },
    Stable,
}

/// A member, from its first join on.
#[derive(Debug, Clone)]
pub struct Membership {
    partitions: Partition,
    phase: Phase,
    /// Empty until the coordinator gave one.
    id: String,
    /// What was assigned last, and in which generation.
    had: Vec<Partition>,
    generation: i32,
}

impl Membership {
    /// One that has not joined yet, of a group that shares out so many partitions.
    pub fn new(partitions: Partition) -> Self {
        Self { partitions, phase: Phase::Joining, id: String::new(), had: Vec::new(), generation: -1 }
    }

    /// What to do next. Asked again without an answer in between (a call failed), it is the same.
    pub fn next(&self) -> Step {
        match &self.phase {
            Phase::Draining => Step::Drain,
            Phase::Joining => Step::Join(Candidate {
                id: self.id.clone(),
                owned: self.had.clone(),
                generation: self.generation,
            }),
            Phase::Syncing { generation, plan } => {
                Step::Sync { id: self.id.clone(), generation: *generation, plan: plan.clone() }
            }
            Phase::Stable => Step::Beat { id: self.id.clone(), generation: self.generation },
        }
    }

    /// The id to leave with; none where the coordinator knows of no such member.
    pub fn id(&self) -> Option<&str> {
        (!self.id.is_empty()).then_some(self.id.as_str())
    }

    /// What this member was assigned last: its own until it has let go.
    pub fn had(&self) -> &[Partition] {
        &self.had
    }

    /// The generation of what it was assigned last.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// Nothing is being applied any more, or the wait for it is over.
    pub fn drained(&mut self) {
        if self.phase == Phase::Draining {
            self.phase = Phase::Joining;
        }
    }

    /// The coordinator wants the member to join under this id (KIP-394).
    pub fn identified(&mut self, id: String) {
        self.id = id;
    }

    /// The group is complete.
    pub fn joined(&mut self, joined: Joined) {
        self.id = joined.id;
        let plan = joined.members.map(|members| assign(&members, self.partitions)).unwrap_or_default();
        self.phase = Phase::Syncing { generation: joined.generation, plan };
    }

    /// This is what the member gets.
    pub fn synced(&mut self, mut partitions: Vec<Partition>) {
        if let Phase::Syncing { generation, .. } = self.phase {
            partitions.retain(|partition| *partition < self.partitions);
            (self.had, self.generation) = (partitions, generation);
            self.phase = Phase::Stable;
        }
    }

    /// The coordinator answered with an error.
    pub fn refused(&mut self, error: ResponseError) -> Remedy {
        match error {
            ResponseError::RebalanceInProgress => {
                self.start_anew();
                Remedy::Proceed
            }
            // The group has gone on without this member.
            ResponseError::IllegalGeneration => {
                self.start_anew();
                Remedy::Retry
            }
            // The coordinator has forgotten this member.
            ResponseError::UnknownMemberId | ResponseError::FencedInstanceId => {
                self.id.clear();
                self.start_anew();
                Remedy::Retry
            }
            ResponseError::NotCoordinator
            | ResponseError::CoordinatorNotAvailable
            | ResponseError::CoordinatorLoadInProgress => Remedy::Find,
            _ => Remedy::Retry,
        }
    }

    fn start_anew(&mut self) {
        self.phase = match self.phase {
            Phase::Stable | Phase::Draining => Phase::Draining,
            Phase::Joining | Phase::Syncing { .. } => Phase::Joining,
        };
    }
}

#[cfg(test)]
mod tests;
