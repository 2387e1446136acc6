//! A schedule: which task goes on next, and what happens in between. All of it follows from the seed.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use chatd::app::App;
use chatd::domain::Partition;

use crate::checker::Violation;
use crate::client::Client;
use crate::mutant::Mutant;
use crate::net::Link;
use crate::node;
use crate::traffic::{Before, Traffic, USERS};
use crate::world::{ActorId, Dice, Faults, PARTITIONS, Shared, World, user};

/// Nodes of a deployment.
pub const NODES: usize = 3;
/// Tasks that own partitions, or believe so, at most.
pub const OWNERS_MAX: usize = 5;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Owner,
    Repair,
    Flush,
    Fetch,
    Session(usize),
}

/// A task: polled when its turn comes, dropped when it crashes.
pub struct Actor {
    pub id: ActorId,
    pub kind: Kind,
    pub node: usize,
    pub asleep: bool,
    task: Pin<Box<dyn Future<Output = ()>>>,
}

/// A running schedule.
pub struct Schedule {
    pub world: Shared,
    pub actors: Vec<Actor>,
    pub nodes: Vec<Arc<App>>,
    pub traffic: Traffic,
    /// How likely devices are there rather than away.
    present: f64,
    next_id: ActorId,
    pub next_socket: usize,
    hash: u64,
}

/// How a schedule ended.
pub struct Outcome {
    pub violation: Option<Violation>,
    /// The same for the same seed.
    pub hash: u64,
    pub story: Vec<String>,
    pub counts: std::collections::BTreeMap<&'static str, u64>,
}

/// Runs the schedule of a seed.
pub async fn run(seed: u64, mutant: Option<Mutant>, told: bool) -> Outcome {
    let mut schedule = Schedule::new(seed, mutant, told);
    let steps = schedule.with(|world| world.dice.between(100, 600));
    for _ in 0..steps {
        if schedule.is_broken() {
            break;
        }
        schedule.step().await;
    }
    schedule.heal().await;
    let mut world = schedule.world.lock();
    let checker = &mut world.checker;
    Outcome {
        violation: checker.violation.take(),
        hash: schedule.hash,
        story: checker.story.take().unwrap_or_default(),
        counts: std::mem::take(&mut checker.counts),
    }
}

fn faults(dice: &mut Dice) -> Faults {
    // Each schedule has some kinds of faults and not others: what one hides, another shows.
    let mut some = |probability: f64| if dice.chance(0.5) { probability } else { 0.0 };
    Faults {
        store_call: some(0.04),
        store_answer: some(0.04),
        store_late: some(0.06),
        store_away: false,
        log: some(0.04),
        fanout: some(0.06),
        lost: some(0.15),
        repeated: some(0.1),
        reordered: some(0.2),
        cancelled: some(0.05),
    }
}

impl Schedule {
    fn new(seed: u64, mutant: Option<Mutant>, told: bool) -> Self {
        let mut dice = Dice::new(seed);
        let before = match seed % 128 {
            5 | 69 => Before::Long,
            37 => Before::Many,
            101 => Before::Wide,
            _ => Before::Nothing,
        };
        let faults = faults(&mut dice);
        let newer = dice.chance(0.1);
        let present = [0.15, 0.5, 1.0][dice.below(3)];
        let mut world = World::new(dice, faults, mutant, before.history());
        world.checker.story = told.then(Vec::new);
        if world.dice.chance(0.3) {
            world.durable = Some(Box::new(world.store.clone()));
        }
        for number in 0..2 * USERS as usize {
            let (acks, named) = (world.dice.chance(0.4), world.dice.chance(0.6));
            let name = named.then(|| format!("device-{number}"));
            world.clients.push(Client::new(user(1 + number as i64 / 2), acks, name));
        }
        world.net.links = (0..NODES).map(|_| Link::default()).collect();
        let mut schedule = Self {
            world: Shared::new(world),
            actors: Vec::new(),
            nodes: Vec::new(),
            traffic: Traffic::new(newer),
            present,
            next_id: 1,
            next_socket: 0,
            hash: seed,
        };
        for number in 0..NODES {
            schedule.start_node(number);
        }
        schedule.start_owner((0..PARTITIONS).collect());
        schedule
    }

    pub fn with<T>(&self, what: impl FnOnce(&mut World) -> T) -> T {
        what(&mut self.world.lock())
    }

    pub fn is_broken(&self) -> bool {
        self.with(|world| world.checker.violation.is_some())
    }

    pub fn below(&self, end: usize) -> usize {
        self.with(|world| world.dice.below(end))
    }

    pub fn chance(&self, probability: f64) -> bool {
        self.with(|world| world.dice.chance(probability))
    }

    pub fn tell(&self, line: impl FnOnce() -> String) {
        self.with(|world| world.checker.tell(line));
    }

    pub fn start(&mut self, kind: Kind, node: usize, task: impl Future<Output = ()> + 'static) -> ActorId {
        let id = self.next_id;
        self.next_id += 1;
        self.tell(|| format!("task {id} on node {node}: {kind:?}"));
        self.actors.push(Actor {
            id,
            kind,
            node,
            asleep: false,
            task: Box::pin(tokio::task::unconstrained(task)),
        });
        id
    }

    pub fn start_node(&mut self, number: usize) {
        let known = self.with(|world| world.store.frontier());
        let app = node::boot(&self.world, number, &known);
        self.with(|world| world.net.links[number].hub = Some(Arc::clone(&app.hub)));
        match self.nodes.get_mut(number) {
            Some(node) => *node = Arc::clone(&app),
            None => self.nodes.push(Arc::clone(&app)),
        }
        self.start(Kind::Repair, number, node::repair(self.world.clone(), Arc::clone(&app)));
        self.start(Kind::Flush, number, node::flush(app));
    }

    pub fn restart_node(&mut self, number: usize) {
        self.tell(|| format!("node {number} restarts"));
        self.actors.retain(|actor| actor.node != number);
        self.with(|world| {
            let here = world.sockets.iter().filter(|(_, socket)| socket.node == number);
            let gone: Vec<usize> = here.map(|(socket, _)| *socket).collect();
            gone.into_iter().for_each(|socket| world.close(socket));
        });
        self.start_node(number);
    }

    pub fn start_owner(&mut self, partitions: Vec<Partition>) {
        let node = self.below(NODES);
        let app = Arc::clone(&self.nodes[node]);
        self.start(Kind::Owner, node, node::own(self.world.clone(), app, partitions));
    }

    /// A task goes on for some steps.
    fn poll_some(&mut self, index: usize) {
        let id = self.actors[index].id;
        for _ in 0..=self.below(10) {
            if self.actors.get(index).is_some_and(|actor| actor.id == id) {
                self.poll(index);
            }
        }
    }

    /// One step of one task.
    pub fn poll(&mut self, index: usize) {
        let actor = &mut self.actors[index];
        let (id, kind) = (actor.id, actor.kind);
        self.world.lock().actor = id;
        let mut context = Context::from_waker(Waker::noop());
        let ended = actor.task.as_mut().poll(&mut context).is_ready();
        self.note(id);
        if ended {
            self.tell(|| format!("task {id} ends"));
            drop(self.actors.remove(index));
            if let Kind::Session(socket) = kind {
                self.with(|world| world.close(socket));
            }
        }
    }

    fn note(&mut self, what: u64) {
        self.hash = (self.hash ^ what).wrapping_mul(0x0100_0000_01b3);
    }

    async fn step(&mut self) {
        if self.chance(0.05) {
            self.with(|world| world.faults.store_away = false);
        }
        let roll = self.below(1_000);
        self.note(roll as u64);
        match roll {
            0..600 => {
                let awake: Vec<_> = (0..self.actors.len()).filter(|i| !self.actors[*i].asleep).collect();
                if !awake.is_empty() {
                    self.poll_some(awake[self.below(awake.len())]);
                }
            }
            600..700 => self.deliver(),
            700..790 => self.consume(),
            790..860 => self.append(),
            860..890 => {
                let milliseconds = self.with(|world| world.dice.between(50, 1_500));
                self.advance(milliseconds as u64).await;
            }
            890..935 if self.chance(self.present) => self.connect_some(),
            890..935 => self.disconnect_some(),
            935..950 => self.disconnect_some(),
            950..972 => self.disturb_owners(),
            972..978 => self.restart_node(self.below(NODES)),
            978..984 => self.with(|world| world.faults.store_away = true),
            984..990 => {
                self.with(World::settle);
                if self.chance(0.5) {
                    self.forget();
                }
            }
            990..992 => self.burst(),
            992 => self.lose_power(),
            993..997 => self.fetch(),
            _ => self.forget(),
        }
    }

    pub async fn advance(&self, milliseconds: u64) {
        tokio::time::advance(Duration::from_millis(milliseconds)).await;
    }
}
