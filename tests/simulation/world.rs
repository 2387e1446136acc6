//! What the simulated ports share: one source of chance, the faults that may happen, the seeded bug if any,
//! and the state of the log, the store, the network and the devices.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::Poll;

use chatd::domain::{ConversationId, LogNumber, UserId};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::checker::Checker;
use crate::client::{Client, Socket};
use crate::log::Log;
use crate::mutant::Mutant;
use crate::net::Net;
use crate::store::Store;

/// The one log of a simulation.
pub const LOG: LogNumber = LogNumber(1);
/// How many partitions it has: of five, the conversations of four users lie in three.
pub const PARTITIONS: u32 = 5;

/// A task of the simulation.
pub type ActorId = u64;

/// All chance of a schedule comes from here.
pub struct Dice(SmallRng);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// Whether something of this probability happens.
    pub fn chance(&mut self, probability: f64) -> bool {
        probability > 0.0 && self.0.random_bool(probability)
    }

    /// A number from 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0.random_range(0..end.max(1))
    }

    /// A number from `start` to `end`.
    pub fn between(&mut self, start: i64, end: i64) -> i64 {
        self.0.random_range(start..=end)
    }
}

/// What may go wrong, as probabilities a call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// A call does not reach storage.
    pub store_call: f64,
    /// Storage did it, the answer is lost.
    pub store_answer: f64,
    /// A COMMIT has no answer, and happens later or never.
    pub store_late: f64,
    /// Storage is away altogether.
    pub store_away: bool,
    /// The log does not answer.
    pub log: f64,
    /// The fan-out fails, after it told some nodes or none.
    pub fanout: f64,
    /// A publication does not reach a node.
    pub lost: f64,
    /// A publication reaches a node twice.
    pub repeated: f64,
    /// A publication overtakes others.
    pub reordered: f64,
    /// A call is given up half-way by who made it, who then goes on.
    pub cancelled: f64,
}

/// The state of a schedule.
pub struct World {
    pub dice: Dice,
    pub faults: Faults,
    pub mutant: Option<Mutant>,
    pub log: Log,
    pub store: Store,
    /// What a loss of power leaves of the store, where one may happen.
    pub durable: Option<Box<Store>>,
    pub net: Net,
    pub sockets: BTreeMap<usize, Socket>,
    pub clients: Vec<Client>,
    pub checker: Checker,
    /// Who runs now.
    pub actor: ActorId,
    /// Owners that are asked to stop.
    pub stopping: BTreeSet<ActorId>,
    /// Nothing goes wrong any more.
    pub healing: bool,
}

impl World {
    /// A world in which nothing has happened but this history.
    pub fn new(dice: Dice, faults: Faults, mutant: Option<Mutant>, (log, store): (Log, Store)) -> Self {
        Self {
            dice,
            faults,
            mutant,
            log,
            store,
            durable: None,
            net: Net::default(),
            sockets: BTreeMap::new(),
            clients: Vec::new(),
            checker: Checker::default(),
            actor: 0,
            stopping: BTreeSet::new(),
            healing: false,
        }
    }

    /// Whether this seeded bug is switched on.
    pub fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }
}

/// The world, from wherever a port needs it. Locked for moments only, never across an await.
#[derive(Clone)]
pub struct Shared(Arc<Mutex<World>>);

impl Shared {
    pub fn new(world: World) -> Self {
        Self(Arc::new(Mutex::new(world)))
    }

    pub fn lock(&self) -> MutexGuard<'_, World> {
        self.0.lock().unwrap()
    }
}

/// A point where anything else may happen before this task goes on.
pub async fn pause() {
    let mut passed = false;
    poll_fn(|_| {
        if passed {
            return Poll::Ready(());
        }
        passed = true;
        Poll::Pending
    })
    .await;
}

/// Runs a future for at most so many pauses, then drops it half-way.
pub async fn at_most<F: Future>(pauses: usize, future: F) -> Option<F::Output> {
    let mut future = std::pin::pin!(future);
    let mut left = pauses;
    poll_fn(|context| match future.as_mut().poll(context) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending if left == 0 => Poll::Ready(None),
        Poll::Pending => {
            left -= 1;
            Poll::Pending
        }
    })
    .await
}

/// The user of a small number.
pub fn user(number: i64) -> UserId {
    UserId::new(number).unwrap()
}

/// The conversation of two small numbers.
pub fn dm(a: i64, b: i64) -> ConversationId {
    ConversationId::dm(user(a), user(b)).unwrap()
}
