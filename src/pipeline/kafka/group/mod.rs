//! The consumer group: who of all readers should own which partition.
//!
//! A member in Kafka's classic protocol, so that Kafka 3 and 4 know it and `kafka-consumer-groups.sh` shows it.
//! It lives in a task of its own, which beats however long the owner is busy with a batch. What it says is
//! advice: the claim and the fence in storage decide. So a member that loses its coordinator goes on with what
//! it has, and offsets are committed for Kafka's tools only and never read back.

mod calls;
mod commits;
mod member;
mod membership;
mod wire;

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

pub use calls::Names;

use super::cluster::Cluster;
use crate::domain::{Offset, Partition};
use crate::pipeline::Assignment;
use commits::Commits;
use member::Member;

/// What the member's task and its owner tell each other.
struct Shared {
    assigned: watch::Sender<Assignment>,
    drained: watch::Sender<u64>,
    commits: Mutex<Commits>,
    leaving: CancellationToken,
}

impl Shared {
    /// Tells the owner what it should own from now on, and returns the number of that round.
    fn assign(&self, partitions: Vec<Partition>) -> u64 {
        self.assigned.send_modify(|assignment| {
            assignment.round += 1;
            assignment.partitions = partitions;
        });
        self.assigned.borrow().round
    }

    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn commits<T>(&self, change: impl FnOnce(&mut Commits) -> T) -> T {
        change(&mut self.commits.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// This process's place in the group. Dropped without [`leave`](Self::leave), it is missed after 6 s.
pub struct Group {
    cluster: Arc<Cluster>,
    names: Names,
    partitions: Partition,
    shared: Arc<Shared>,
    /// None before the first look at the assignment, and after leaving.
    task: Mutex<Option<AbortOnDropHandle<()>>>,
}

impl Group {
    /// A group that shares out so many partitions. Joins nothing yet.
    pub fn new(cluster: Arc<Cluster>, names: Names, partitions: Partition) -> Self {
        let shared = Shared {
            assigned: watch::Sender::default(),
            drained: watch::Sender::new(0),
            commits: Mutex::default(),
            leaving: CancellationToken::new(),
        };
        Self { cluster, names, partitions, shared: Arc::new(shared), task: Mutex::new(None) }
    }

    /// What this process should own, as it changes. The first call joins the group.
    pub fn assigned(&self) -> watch::Receiver<Assignment> {
        let mut task = self.task.lock().unwrap_or_else(PoisonError::into_inner);
        if task.is_none() && !self.shared.leaving.is_cancelled() {
            let shared = Arc::clone(&self.shared);
            let member = Member::new(Arc::clone(&self.cluster), self.names.clone(), self.partitions, shared);
            *task = Some(AbortOnDropHandle::new(tokio::spawn(member.run())));
        }
        self.shared.assigned.subscribe()
    }

    /// Nothing of an assignment before `round` is being applied any more.
    pub fn drained(&self, round: u64) {
        self.shared.drained.send_if_modified(|known| {
            let news = round > *known;
            *known = round.max(*known);
            news
        });
    }

    /// How far partitions are: the next offset to read of each. Those that this process owns are committed
    /// about once a second where they moved.
    pub fn reached(&self, next: &[(Partition, Offset)]) {
        self.shared.commits(|commits| commits.reached(next));
    }

    /// Gives everything up and leaves, within 2 s.
    pub async fn leave(&self) {
        self.shared.leaving.cancel();
        let task = self.task.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(task) = task
            && let Err(error) = task.await
        {
            tracing::error!(%error, "the member of the consumer group ended early");
        }
    }
}
