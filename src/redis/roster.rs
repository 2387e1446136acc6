//! Who is on this node, and whom of them Redis knows: the pure part of a registration.
//!
//! It says what to tell Redis next, a batch at a time, and is told what Redis answered. Between the two there is
//! one batch at most on its way, so that of two commands for one user the later one is the later one in Redis.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::num::NonZeroU64;

use tokio::sync::oneshot;

use crate::domain::UserId;

/// One registration of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(NonZeroU64);

impl Generation {
    /// Another one than all before.
    pub fn random() -> Self {
        Self(NonZeroU64::new(rand::random()).unwrap_or(NonZeroU64::MIN))
    }

    /// From a number; 0 is none.
    pub fn new(number: u64) -> Option<Self> {
        NonZeroU64::new(number).map(Self)
    }

    /// The number.
    pub fn get(self) -> u64 {
        self.0.get()
    }

    /// From what `Display` wrote.
    pub(super) fn parse(text: &str) -> Option<Self> {
        u64::from_str_radix(text, 16).ok().and_then(Self::new)
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How far the registration is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// There is none.
    Away,
    /// Users are on their way into the set.
    Registering(Generation),
    /// All who were there when it began are in the set, and so is whoever came since and was told so.
    Sound(Generation),
}

/// What a socket's user has to wait for.
#[derive(Debug)]
pub(super) enum Joined {
    /// Nothing: Redis knows the user.
    Known,
    /// Nothing: the next generation begins with the user.
    Later,
    /// For this; an error when the generation ended first, which is the same as `Later`.
    Wait(Generation, oneshot::Receiver<()>),
}

/// Users to put into and to take out of a generation's set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) generation: Generation,
    pub(super) enter: Vec<UserId>,
    pub(super) leave: Vec<UserId>,
}

/// Whether a user is in the set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Out,
    Entering,
    In,
    Leaving,
}

#[derive(Debug, Default)]
struct Entry {
    sockets: usize,
    place: Place,
    queued: bool,
    waiting: Vec<oneshot::Sender<()>>,
}

/// The users of this node. Holds an entry a user, no more.
#[derive(Debug)]
pub(super) struct Roster {
    phase: Phase,
    users: HashMap<UserId, Entry>,
    /// Users to be looked at by the next batch, each once.
    queue: VecDeque<UserId>,
    /// Users in the set, as far as Redis answered.
    inside: usize,
}

impl Roster {
    pub(super) fn new() -> Self {
        Self { phase: Phase::Away, users: HashMap::new(), queue: VecDeque::new(), inside: 0 }
    }

    /// A socket of the user came.
    pub(super) fn join(&mut self, user: UserId) -> Joined {
        let generation = self.generation();
        let entry = self.users.entry(user).or_default();
        entry.sockets += 1;
        match generation {
            None => Joined::Later,
            Some(_) if entry.place == Place::In => Joined::Known,
            Some(generation) => {
                let (sender, receiver) = oneshot::channel();
                // Those who were given up wait no more.
                entry.waiting.retain(|waiting| !waiting.is_closed());
                entry.waiting.push(sender);
                self.enqueue(user);
                Joined::Wait(generation, receiver)
            }
        }
    }

    /// A socket of the user went.
    pub(super) fn leave(&mut self, user: UserId) {
        let Some(entry) = self.users.get_mut(&user) else { return };
        entry.sockets = entry.sockets.saturating_sub(1);
        if entry.sockets > 0 {
            return;
        }
        if entry.place == Place::Out && !entry.queued {
            self.users.remove(&user);
        } else {
            self.enqueue(user);
        }
    }

    /// Begins to register everybody who is here.
    pub(super) fn begin(&mut self, generation: Generation) {
        self.end();
        self.phase = Phase::Registering(generation);
        self.queue.extend(self.users.keys());
        self.users.values_mut().for_each(|entry| entry.queued = true);
    }

    /// What to tell Redis next: `max` users at most. Its answer is told to `answered` before this is asked again.
    pub(super) fn batch(&mut self, max: usize) -> Option<Batch> {
        let generation = self.generation()?;
        let mut batch = Batch { generation, enter: Vec::new(), leave: Vec::new() };
        while batch.enter.len() + batch.leave.len() < max {
            let Some(user) = self.queue.pop_front() else { break };
            let Some(entry) = self.users.get_mut(&user) else { continue };
            entry.queued = false;
            match (entry.sockets > 0, entry.place) {
                (true, Place::Out) => {
                    entry.place = Place::Entering;
                    batch.enter.push(user);
                }
                (false, Place::In) => {
                    entry.place = Place::Leaving;
                    batch.leave.push(user);
                }
                (false, Place::Out) => _ = self.users.remove(&user),
                (true, Place::In) => entry.tell_in(),
                (_, Place::Entering | Place::Leaving) => {}
            }
        }
        (!batch.enter.is_empty() || !batch.leave.is_empty()).then_some(batch)
    }

    /// Redis has done it.
    pub(super) fn answered(&mut self, batch: &Batch) {
        if self.generation() != Some(batch.generation) {
            return;
        }
        for user in &batch.enter {
            if let Some(entry) = self.users.get_mut(user) {
                entry.place = Place::In;
                entry.tell_in();
            }
        }
        for user in &batch.leave {
            if let Some(entry) = self.users.get_mut(user) {
                entry.place = Place::Out;
                if entry.sockets == 0 && !entry.queued {
                    self.users.remove(user);
                }
            }
        }
        self.inside = self.inside + batch.enter.len() - batch.leave.len();
    }

    /// How many users the set holds now, when nothing is on its way.
    pub(super) fn inside(&self) -> usize {
        self.inside
    }

    /// Redis has found the set whole, and marked it; false when this generation ended meanwhile.
    pub(super) fn sound(&mut self, generation: Generation) -> bool {
        let registering = self.phase == Phase::Registering(generation);
        if registering {
            self.phase = Phase::Sound(generation);
        }
        registering
    }

    /// Ends the generation. Who waits learns it: the next one begins with them.
    pub(super) fn end(&mut self) {
        self.phase = Phase::Away;
        self.queue.clear();
        self.inside = 0;
        self.users.retain(|_, entry| {
            (entry.place, entry.queued) = (Place::Out, false);
            entry.waiting.clear();
            entry.sockets > 0
        });
    }

    /// The generation that there is.
    pub(super) fn generation(&self) -> Option<Generation> {
        match self.phase {
            Phase::Away => None,
            Phase::Registering(generation) | Phase::Sound(generation) => Some(generation),
        }
    }

    fn enqueue(&mut self, user: UserId) {
        if let Some(entry) = self.users.get_mut(&user)
            && !entry.queued
        {
            entry.queued = true;
            self.queue.push_back(user);
        }
    }
}

impl Entry {
    fn tell_in(&mut self) {
        for waiting in self.waiting.drain(..) {
            // Who gave up waiting needs no answer.
            let _ = waiting.send(());
        }
    }
}

#[cfg(test)]
mod tests;
