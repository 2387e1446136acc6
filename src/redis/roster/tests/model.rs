//! A registration in every order that a proptest finds: users who come and go, commands that wait or are done late,
//! a Redis that loses everything, owners that look up and nodes that listen late. Rules are taken away one by one,
//! to see that each is needed and that the model would notice.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use proptest::prelude::*;
use proptest::test_runner::{RngAlgorithm, TestRng, TestRunner};
use tokio::sync::oneshot::error::TryRecvError;

use super::*;

/// A rule that is broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutant {
    /// A set is marked whether or not it is whole.
    Uncounted,
    /// A session reads storage before Redis knows its user.
    NeverWaits,
    /// One who waited too long goes on, and so does the generation.
    GivesUpSilently,
    /// An owner believes a set that has lost its mark.
    MarkUnread,
    /// A node takes what was looked up in another generation.
    TakesAny,
}

impl Mutant {
    const ALL: [Self; 5] =
        [Self::Uncounted, Self::NeverWaits, Self::GivesUpSilently, Self::MarkUnread, Self::TakesAny];
}

/// A command on its way to Redis.
#[derive(Debug, Clone)]
enum Command {
    Change(Batch),
    Register(Generation, usize),
    Renew(Generation, usize),
}

/// What a user was told when: records stored after it are the node's to deliver.
struct Session {
    user: i64,
    wait: Option<(Generation, oneshot::Receiver<()>)>,
    /// How many records there were when it read storage.
    read: Option<usize>,
}

/// A publication on its way to the node: of a generation, or complete.
struct Told {
    generation: Option<Generation>,
    prev: usize,
    through: usize,
    users: BTreeSet<i64>,
}

/// One node, Redis, one owner, and records that each concern one user.
struct World {
    mutant: Option<Mutant>,
    roster: Roster,
    begun: u64,
    is_sound: Option<Generation>,
    commands: VecDeque<Command>,
    /// On connections that are lost, and perhaps done all the same.
    late: Vec<Command>,
    /// Sets of users, 0 for the mark, and the lease.
    sets: BTreeMap<u64, BTreeSet<i64>>,
    lease: Option<u64>,
    listed: Option<u64>,
    records: Vec<i64>,
    published: usize,
    told: VecDeque<Told>,
    known: usize,
    sessions: Vec<Session>,
    delivered: usize,
}

impl World {
    fn new(mutant: Option<Mutant>) -> Self {
        Self {
            mutant,
            roster: Roster::new(),
            begun: 0,
            is_sound: None,
            commands: VecDeque::new(),
            late: Vec::new(),
            sets: BTreeMap::new(),
            lease: None,
            listed: None,
            records: Vec::new(),
            published: 0,
            told: VecDeque::new(),
            known: 0,
            sessions: Vec::new(),
            delivered: 0,
        }
    }

    /// What `Node::keep` does next, where nothing of it is on its way.
    fn keep(&mut self) {
        if !self.commands.is_empty() {
            return;
        }
        let Some(current) = self.roster.generation() else {
            self.begun += 1;
            return self.roster.begin(generation(self.begun));
        };
        if let Some(batch) = self.roster.batch(2) {
            self.commands.push_back(Command::Change(batch));
        } else if self.is_sound == Some(current) {
            self.commands.push_back(Command::Renew(current, self.roster.inside()));
        } else {
            self.commands.push_back(Command::Register(current, self.roster.inside()));
        }
    }

    /// Redis does the oldest command, and answers, or the connection is lost with the answer on it.
    fn redis(&mut self, is_answered: bool) {
        let Some(command) = self.commands.pop_front() else { return };
        let done = self.execute(&command);
        if !is_answered || !done {
            return self.end();
        }
        match command {
            Command::Change(batch) => self.roster.answered(&batch),
            Command::Register(generation, _) if self.roster.sound(generation) => {
                self.is_sound = Some(generation);
            }
            Command::Register(..) | Command::Renew(..) => {}
        }
    }

    fn execute(&mut self, command: &Command) -> bool {
        match command {
            Command::Change(batch) => {
                let set = self.sets.entry(batch.generation.get()).or_default();
                set.extend(batch.enter.iter().map(|user| user.get()));
                batch.leave.iter().for_each(|user| _ = set.remove(&user.get()));
                true
            }
            Command::Register(generation, inside) => {
                let set = self.sets.entry(generation.get()).or_default();
                let is_whole = set.len() == *inside || self.mutant == Some(Mutant::Uncounted);
                if is_whole {
                    set.insert(0);
                    self.lease = Some(generation.get());
                }
                is_whole
            }
            Command::Renew(generation, inside) => {
                let set = self.sets.entry(generation.get()).or_default();
                self.lease == Some(generation.get()) && set.contains(&0) && set.len() == inside + 1
            }
        }
    }

    /// The generation ends; a command that was sent may still be done later.
    fn end(&mut self) {
        self.late.extend(self.commands.drain(..));
        self.roster.end();
        self.is_sound = None;
    }

    fn join(&mut self, id: i64) {
        let wait = match self.roster.join(user(id)) {
            Joined::Known | Joined::Later => None,
            Joined::Wait(..) if self.mutant == Some(Mutant::NeverWaits) => None,
            Joined::Wait(generation, known) => Some((generation, known)),
        };
        self.sessions.push(Session { user: id, wait, read: None });
    }

    /// Whoever need not wait any more reads storage; one who waited too long ends the generation first.
    fn sessions(&mut self, impatient: bool) {
        let mut gave_up = false;
        for session in self.sessions.iter_mut().filter(|session| session.read.is_none()) {
            if let Some((generation, known)) = &mut session.wait {
                let waits = known.try_recv() == Err(TryRecvError::Empty);
                if waits && !impatient {
                    continue;
                }
                gave_up |= waits && self.roster.generation() == Some(*generation);
            }
            session.read = Some(self.records.len());
        }
        if gave_up && self.mutant != Some(Mutant::GivesUpSilently) {
            self.end();
        }
    }

    fn leave(&mut self, id: i64) {
        if let Some(place) = self.sessions.iter().position(|session| session.user == id) {
            self.sessions.remove(place);
            self.roster.leave(user(id));
        }
    }

    /// The owner publishes what was stored since the last time, to the generation that it has listed.
    fn publish(&mut self) {
        let (prev, through) = (self.published, self.records.len());
        self.published = through;
        let Some(listed) = self.listed else { return };
        let whole = |set: &&BTreeSet<i64>| set.contains(&0) || self.mutant == Some(Mutant::MarkUnread);
        let set = self.sets.get(&listed).filter(whole);
        let generation = set.map(|_| generation(listed));
        let concerned = self.records[prev..through].iter().copied();
        let users = concerned.filter(|id| set.is_none_or(|set| set.contains(id))).collect();
        self.told.push_back(Told { generation, prev, through, users });
    }

    /// The node takes what it was told, and every session is given what it did not read itself.
    fn hear(&mut self) -> Result<(), TestCaseError> {
        let Some(told) = self.told.pop_front() else { return Ok(()) };
        let takes = told.generation.is_none_or(|generation| {
            self.is_sound == Some(generation) || self.mutant == Some(Mutant::TakesAny)
        });
        if !takes || told.prev > self.known || told.through <= self.known {
            return Ok(());
        }
        for number in self.known..told.through {
            let id = self.records[number];
            for session in self.sessions.iter().filter(|session| session.user == id) {
                // One who has not read storage yet reads this there.
                let is_owed = session.read.is_some_and(|read| read <= number);
                prop_assert!(
                    !is_owed || told.users.contains(&id),
                    "record {} of {} was left out",
                    number,
                    id
                );
                self.delivered += usize::from(is_owed);
            }
        }
        self.known = told.through;
        Ok(())
    }

    fn step(&mut self, step: Step, id: i64) -> Result<(), TestCaseError> {
        match step {
            Step::Keep => self.keep(),
            Step::Redis => self.redis(true),
            Step::AnswerLost => self.redis(false),
            Step::Join => self.join(id),
            Step::Leave => self.leave(id),
            Step::Sessions => self.sessions(false),
            Step::Impatient => self.sessions(true),
            Step::Record => self.records.push(id),
            Step::Publish => self.publish(),
            Step::Hear => self.hear()?,
            Step::List => self.listed = self.lease,
            Step::Flush => {
                self.sets.clear();
                self.lease = None;
            }
            Step::EvictSet => drop(self.sets.pop_last()),
            Step::EvictLease => self.lease = None,
            Step::ConnectionLost => self.end(),
            Step::Late if self.late.is_empty() => {}
            Step::Late => {
                let command = self.late.swap_remove(id as usize % self.late.len());
                self.execute(&command);
            }
            Step::Repair => self.known = self.records.len(),
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy)]
enum Step {
    Keep,
    Redis,
    AnswerLost,
    Join,
    Leave,
    Sessions,
    Impatient,
    Record,
    Publish,
    Hear,
    List,
    Flush,
    EvictSet,
    EvictLease,
    ConnectionLost,
    Late,
    Repair,
}

/// Mostly what happens all the time, so that the rest finds something to break.
fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        60 => Just(Step::Keep),
        80 => Just(Step::Redis),
        2 => Just(Step::AnswerLost),
        30 => Just(Step::Join),
        20 => Just(Step::Leave),
        40 => Just(Step::Sessions),
        2 => Just(Step::Impatient),
        40 => Just(Step::Record),
        40 => Just(Step::Publish),
        50 => Just(Step::Hear),
        20 => Just(Step::List),
        2 => Just(Step::Flush),
        3 => Just(Step::EvictSet),
        1 => Just(Step::EvictLease),
        2 => Just(Step::ConnectionLost),
        4 => Just(Step::Late),
        10 => Just(Step::Repair),
    ]
}

/// Steps until a record is left out.
fn run(mutant: Option<Mutant>) -> Result<usize, String> {
    let delivered = Cell::new(0);
    let config = ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let steps = proptest::collection::vec((steps(), 1i64..5), 50..300);
    let outcome = runner.run(&steps, |steps| {
        let mut world = World::new(mutant);
        for (step, id) in steps {
            world.step(step, id)?;
        }
        delivered.set(delivered.get() + world.delivered);
        Ok(())
    });
    outcome.map(|()| delivered.get()).map_err(|error| error.to_string())
}

#[test]
fn a_node_misses_nothing_unnoticed() {
    let delivered = run(None).unwrap();
    assert!(delivered > 10_000, "only {delivered} records were told live: too few to find anything");
}

#[test]
fn each_rule_is_needed() {
    for mutant in Mutant::ALL {
        assert!(run(Some(mutant)).is_err(), "{mutant:?} was not noticed");
    }
}
