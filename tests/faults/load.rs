//! Pairs of people who write to each other all the time, and what they saw.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use chatd::cli::bench::checker::{Checker, Device};
use chatd::domain::{ConversationId, MessageId, UserId};
use tokio::task::JoinSet;

use crate::history;
use crate::judge::{self, Seen, Trace};
use crate::person::Person;

/// Everything that is waited for comes within this, also in a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// How much is sent.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    /// Pairs of people; both of a pair send.
    pub pairs: u32,
    /// The time between two messages of one person.
    pub period: Duration,
    /// Messages of one person that may wait for their answers.
    pub window: usize,
    /// Bytes of a message.
    pub bytes: usize,
    /// The first person's id; the others follow.
    pub first: i64,
    /// Whether the first of each pair has a second device, which writes too.
    pub second_devices: bool,
}

impl Pace {
    /// 20 people, some 300 messages a second, and none waits for another's answer.
    pub const BUSY: Self = Self {
        pairs: 10,
        period: Duration::from_millis(66),
        window: usize::MAX,
        bytes: 100,
        first: 1,
        second_devices: false,
    };

    /// Two people, by the number of their pair.
    fn pair(&self, pair: u32) -> (UserId, UserId) {
        let first = self.first + 2 * i64::from(pair);
        (UserId::new(first).unwrap(), UserId::new(first + 1).unwrap())
    }

    /// Everybody's devices: whose, the how many-th of them, and who is written to.
    fn devices(&self) -> Vec<(UserId, u32, UserId)> {
        let of_pair = |pair| {
            let (one, other) = self.pair(pair);
            let second = self.second_devices.then_some((one, 1, other));
            [(one, 0, other), (other, 0, one)].into_iter().chain(second)
        };
        (0..self.pairs).flat_map(of_pair).collect()
    }
}

/// What everybody shares.
pub struct World {
    pub pace: Pace,
    /// Where the servers are.
    addresses: Mutex<Vec<String>>,
    /// Grows with each server.
    epoch: AtomicU32,
    /// No new messages.
    quiet: AtomicBool,
    /// Everybody goes home.
    over: AtomicBool,
    record: Mutex<Record>,
}

/// What was seen so far.
#[derive(Default)]
pub struct Record {
    pub trace: Trace,
    /// When each thing of the trace was seen.
    pub at: Vec<Instant>,
    /// When each message without an answer was sent last.
    asked: HashMap<MessageId, Instant>,
    /// The longest that a message waited for its answer on a socket that stayed.
    pub slowest_answer: Duration,
    pub checker: Checker,
    /// The content of each message, by its id.
    contents: HashMap<MessageId, String>,
    /// The messages that have their `accepted`, or `rejected`.
    answered: HashSet<MessageId>,
    /// `accepted` on sockets that were opened in an epoch, and when the first came.
    pub accepted: BTreeMap<u32, (u64, Instant)>,
    /// Sockets with a `hello`, by epoch.
    pub greeted: BTreeMap<u32, u32>,
    /// Each person's last cursor, for those who have one.
    pub cursors: HashMap<Device, String>,
    /// Codes of errors to messages, and how often.
    pub errors: BTreeMap<String, u64>,
    /// `closing`, and the close code after it.
    pub farewells: Vec<Farewell>,
    /// What must not be: a wrong content, an error without a message, a strange frame.
    pub wrong: Vec<String>,
}

/// How a socket ended.
#[derive(Debug, Clone)]
pub struct Farewell {
    /// The frame `closing`, where one came.
    pub closing: Option<serde_json::Value>,
    /// 1006 where the socket just broke.
    pub code: u16,
}

impl World {
    fn new(pace: Pace, addresses: &[&str]) -> Self {
        let mut record = Record::default();
        for (user, nth, peer) in pace.devices() {
            let conversation = ConversationId::dm(user, peer).unwrap();
            record.trace.watchers.push((device(user, nth), conversation));
        }
        record.checker = judge::checker(&record.trace.watchers);
        Self {
            pace,
            addresses: Mutex::new(addresses.iter().map(|&address| address.to_owned()).collect()),
            epoch: AtomicU32::new(0),
            quiet: AtomicBool::new(false),
            over: AtomicBool::new(false),
            record: Mutex::new(record),
        }
    }

    /// Where to try next: the servers in turn.
    pub fn address(&self, turn: usize) -> String {
        let addresses = self.addresses.lock().unwrap();
        addresses[turn % addresses.len()].clone()
    }

    /// One of several servers is somewhere else now.
    pub fn found_at(&self, place: usize, address: &str) {
        address.clone_into(&mut self.addresses.lock().unwrap()[place]);
    }

    /// The server has gone, and another will listen at the same address; its epoch.
    pub fn moved(&self) -> u32 {
        self.epoch.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub fn epoch(&self) -> u32 {
        self.epoch.load(Ordering::SeqCst)
    }

    pub fn is_quiet(&self) -> bool {
        self.quiet.load(Ordering::SeqCst)
    }

    pub fn is_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }

    pub fn record(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap()
    }

    /// What somebody is about to send; false where all is to be quiet. Whoever waits until all is settled
    /// looks under the same lock, so that nothing is begun after that.
    pub fn write(&self, id: MessageId, content: &str) -> bool {
        let mut record = self.record();
        if self.is_quiet() {
            return false;
        }
        record.contents.insert(id, content.to_owned());
        true
    }

    /// Messages accepted by the server of this epoch.
    pub fn accepted_in(&self, epoch: u32) -> u64 {
        self.record().accepted.get(&epoch).map_or(0, |(count, _)| *count)
    }

    /// Waits until this is so.
    #[track_caller]
    pub fn until(&self, what: &str, is_so: impl Fn(&Record) -> bool) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            let until = Instant::now() + PATIENCE;
            while !is_so(&self.record()) {
                if Instant::now() > until {
                    let record = self.record();
                    let verdict = record.checker.verdict();
                    let state =
                        format!("{verdict}; {:?}; {:?}; {:?}", record.errors, record.wrong(), record.greeted);
                    drop(record);
                    panic!("{what} did not come ({place}): {state}");
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
}

impl Record {
    /// Writes down what was seen.
    pub fn see(&mut self, seen: Seen) {
        let now = Instant::now();
        if let Seen::Accepted(id, _) | Seen::Rejected(id) = &seen {
            self.answered.insert(*id);
        }
        match &seen {
            Seen::Sent(_, _, id) => drop(self.asked.insert(*id, now)),
            Seen::Accepted(id, _) | Seen::Failed(id) => {
                let waited = self.asked.remove(id).map_or(Duration::ZERO, |asked| now - asked);
                self.slowest_answer = self.slowest_answer.max(waited);
            }
            _ => {}
        }
        judge::tell(&mut self.checker, &seen);
        self.trace.seen.push(seen);
        self.at.push(now);
    }

    /// The first of what was wrong, which is enough to read.
    fn wrong(&self) -> &[String] {
        &self.wrong[..self.wrong.len().min(3)]
    }

    /// Everything was accepted in the end, also what had failed, and all copies have come.
    fn is_settled(&self) -> bool {
        self.answered.len() == self.contents.len() && self.checker.is_settled()
    }

    /// Whether a message is what was sent under its id.
    pub fn is_as_sent(&self, id: MessageId, content: &str) -> bool {
        self.contents.get(&id).is_some_and(|sent| sent == content)
    }
}

/// Everybody's first device is numbered as its person.
pub fn device(user: UserId, nth: u32) -> Device {
    Device(u32::try_from(user.get()).unwrap() + nth * 100_000)
}

/// People at work.
pub struct Load {
    pub world: Arc<World>,
    people: JoinSet<()>,
}

impl Load {
    /// Makes everybody known, as only somebody who is can be written to, and lets them begin.
    pub async fn start(pace: Pace, address: &str) -> Self {
        Self::among(pace, &[address]).await
    }

    /// The same among several servers, over which people spread.
    pub async fn among(pace: Pace, addresses: &[&str]) -> Self {
        let world = Arc::new(World::new(pace, addresses));
        let mut people = JoinSet::new();
        let devices = pace.devices();
        for (user, ..) in devices.iter().filter(|(_, nth, _)| *nth == 0) {
            assert_eq!(history::get(addresses[0], "/v1/me", user.get()).await.0, 200);
        }
        for (place, (user, nth, peer)) in devices.into_iter().enumerate() {
            let begins = pace.period * u32::try_from(place % 20).unwrap() / 20;
            let person = Person::new(user, nth, peer, begins);
            people.spawn(person.live(Arc::clone(&world)));
        }
        Self { world, people }
    }

    /// Nobody writes anything new; waits until everything has its answer and all its copies.
    pub async fn settle(&self) {
        self.world.quiet.store(true, Ordering::SeqCst);
        self.world.until("the last answers and copies", Record::is_settled).await;
    }

    /// Settles, sends them home, and gives what they saw.
    pub async fn finish(self) -> Trace {
        self.settle().await;
        self.leave().await
    }

    /// Sends them home as they are.
    pub async fn leave(mut self) -> Trace {
        self.world.over.store(true, Ordering::SeqCst);
        while let Some(ended) = self.people.join_next().await {
            ended.unwrap();
        }
        let record = self.world.record();
        assert!(record.wrong.is_empty(), "{:#?}", record.wrong());
        record.trace.clone()
    }
}
