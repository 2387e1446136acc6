//! Nodes for the suites of presence, fan-out and tickets: what `app/build.rs` puts together for one process, with
//! a hub that writes down what it was told.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use chatd::auth::Tickets;
use chatd::auth::redis::RedisTickets;
use chatd::auth::tickets::MemoryTickets;
use chatd::delivery::hub::Limits;
use chatd::delivery::memory::MemoryFanout;
use chatd::delivery::redis::RedisFanout;
use chatd::delivery::{Attachment, Fanout, Hub, Link, Publication};
use chatd::domain::{
    ClientId, Content, ConversationId, ErrorCode, Event, Frontier, LogNumber, MessageBody, MessageId, Offset,
    Outcome, Position, RecordBody, Rejection, Secret, Seq, Timestamp, UserId,
};
use chatd::presence::Presence;
use chatd::presence::memory::MemoryPresence;
use chatd::presence::redis::RedisPresence;
use chatd::redis::{Redis, RedisSettings};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub const LOG: LogNumber = LogNumber(1);
/// Long enough for any machine; only a failing test waits so long.
pub const LONG: Duration = Duration::from_secs(30);
/// Short, so that what comes back with a heartbeat is soon back.
pub const HEARTBEAT: Duration = Duration::from_millis(300);

/// A process with sockets.
pub struct Node {
    pub presence: Arc<dyn Presence>,
    pub fanout: Arc<dyn Fanout>,
    pub tickets: Arc<dyn Tickets>,
    pub hub: Arc<Hub>,
    told: Arc<Mutex<BTreeSet<Offset>>>,
    stop: CancellationToken,
    link: Option<JoinHandle<()>>,
}

impl Node {
    pub fn memory() -> Self {
        let (hub, told) = hub();
        let fanout = Arc::new(MemoryFanout::new(Arc::clone(&hub)));
        let (presence, tickets) = (Arc::new(MemoryPresence::default()), Arc::new(MemoryTickets::new()));
        Self::put_together(presence, fanout.clone(), fanout, tickets, (hub, told))
    }

    /// One that has registered.
    pub async fn redis(settings: RedisSettings) -> Self {
        let node = Self::unregistered(settings);
        eventually("the node is registered", || !node.hub.is_doubtful()).await;
        node
    }

    /// One that has only begun to.
    pub fn unregistered(settings: RedisSettings) -> Self {
        let redis = Redis::open(settings).unwrap();
        let (hub, told) = hub();
        let fanout = Arc::new(RedisFanout::new(Arc::clone(&redis), Arc::clone(&hub)));
        let presence = Arc::new(RedisPresence::new(Arc::clone(&redis)));
        // As when the link begins: what is not registered yet is in doubt.
        hub.doubt(true);
        Self::put_together(presence, fanout.clone(), fanout, Arc::new(RedisTickets::new(redis)), (hub, told))
    }

    fn put_together(
        presence: Arc<dyn Presence>,
        fanout: Arc<dyn Fanout>,
        link: Arc<dyn Link>,
        tickets: Arc<dyn Tickets>,
        (hub, told): (Arc<Hub>, Arc<Mutex<BTreeSet<Offset>>>),
    ) -> Self {
        let stop = CancellationToken::new();
        let until = stop.clone();
        let link = Some(tokio::spawn(async move { link.run(until).await }));
        Self { presence, fanout, tickets, hub, told, stop, link }
    }

    /// A socket of a user.
    pub async fn socket(&self, id: i64) -> Attachment {
        let attachment = self.hub.attach(user(id), None);
        self.presence.joined(user(id)).await.unwrap();
        attachment
    }

    pub async fn online(&self, ids: &[i64]) -> Vec<bool> {
        let users: Vec<_> = ids.iter().map(|id| user(*id)).collect();
        self.presence.online(&users).await.unwrap()
    }

    /// The offsets of the records that it was told of.
    pub fn told(&self) -> Vec<Offset> {
        self.told.lock().unwrap().iter().copied().collect()
    }

    /// How far it has heard.
    pub fn heard(&self) -> Offset {
        self.hub.heard().offset(0)
    }

    pub async fn hears(&self, offset: Offset) {
        eventually(&format!("it hears of {offset}"), || self.heard() == offset).await;
    }

    /// What the repair does: all up to here was read from storage.
    pub fn repaired(&self, through: Offset) {
        let prev = self.heard();
        self.hub.receive(&publication(prev, through, Vec::new()));
    }

    /// Ends in order.
    pub async fn stop(mut self) {
        self.stop.cancel();
        self.link.take().unwrap().await.unwrap();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(link) = &self.link {
            link.abort();
        }
    }
}

fn hub() -> (Arc<Hub>, Arc<Mutex<BTreeSet<Offset>>>) {
    let told = Arc::<Mutex<BTreeSet<Offset>>>::default();
    let telling = Arc::clone(&told);
    let observer = move |outcome: &Outcome, _| _ = telling.lock().unwrap().insert(outcome.position().offset);
    (Hub::new(&Frontier::nothing(LOG, 1), Limits::default(), Box::new(observer)), told)
}

pub fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

/// A message of one to another.
pub fn message(offset: Offset, from: i64, to: i64) -> Outcome {
    text(offset, from, to, "hello")
}

pub fn text(offset: Offset, from: i64, to: i64, content: &str) -> Outcome {
    let conversation = ConversationId::dm(user(from), user(to)).unwrap();
    let client_id = ClientId::new(format!("c{offset}")).unwrap();
    Outcome::Stored(Event {
        conversation,
        seq: Seq(offset + 1),
        position: Position { log: LOG, partition: 0, offset },
        id: MessageId::derive(conversation, user(from), &client_id),
        client_id,
        from: user(from),
        at: Timestamp::now(),
        body: RecordBody::Message(MessageBody {
            content: Content::new(content).unwrap(),
            data: None,
            reply_to: None,
        })
        .into(),
    })
}

pub fn rejection(offset: Offset, from: i64, to: i64) -> Outcome {
    let Outcome::Stored(event) = message(offset, from, to) else { unreachable!() };
    let Event { conversation, position, id, client_id, from, .. } = event;
    Outcome::Rejected(Rejection {
        conversation,
        position,
        id,
        client_id,
        from,
        code: ErrorCode::Conflict,
        digest: None,
    })
}

pub fn publication(prev: Offset, through: Offset, outcomes: Vec<Outcome>) -> Publication {
    Publication { log: LOG, partition: 0, prev, through, outcomes: outcomes.into() }
}

/// How many frames wait for a socket.
pub fn frames(attachment: &Attachment) -> usize {
    attachment.mailbox().take(usize::MAX).items.len()
}

/// Waits for what has to come about.
pub async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let until = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {LONG:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Settings for a node of this name, under a prefix of the test's own.
pub fn settings(url: &str, prefix: &str, node: &str) -> RedisSettings {
    RedisSettings {
        url: Secret::new(url.to_owned()),
        ca_file: None,
        prefix: prefix.to_owned(),
        node: node.to_owned(),
        heartbeat: HEARTBEAT,
        linger: Duration::ZERO,
    }
}

/// A prefix that no other test has, and no other run.
pub fn prefix() -> String {
    format!("t{}:", uuid::Uuid::new_v4().simple())
}

/// A connection of the test's own, for what chatd never does.
pub struct Raw(BufReader<TcpStream>);

impl Raw {
    pub fn connect(url: &str) -> Self {
        let address = url.trim_start_matches("redis://").trim_end_matches("/0").to_owned();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        Self(BufReader::new(stream))
    }

    /// Sends a command and answers the texts and numbers of the answer, one a line.
    pub fn ask(&mut self, command: &[&str]) -> Vec<String> {
        let mut request = format!("*{}\r\n", command.len());
        command.iter().for_each(|word| request += &format!("${}\r\n{word}\r\n", word.len()));
        self.0.get_mut().write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        self.read(&mut answer);
        answer
    }

    fn read(&mut self, answer: &mut Vec<String>) {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        let (kind, rest) = line.trim_end().split_at(1);
        match kind {
            "*" => (0..rest.parse().unwrap_or(0)).for_each(|_| self.read(answer)),
            "$" => {
                let Ok(length) = rest.parse::<usize>() else { return };
                let mut text = vec![0; length + 2];
                self.0.read_exact(&mut text).unwrap();
                text.truncate(length);
                answer.push(String::from_utf8(text).unwrap());
            }
            "+" | ":" => answer.push(rest.to_owned()),
            _ => panic!("Redis refuses: {rest}"),
        }
    }

    /// The keys of a test.
    pub fn keys(&mut self, prefix: &str) -> Vec<String> {
        let mut keys = self.ask(&["KEYS", &format!("{prefix}*")]);
        keys.sort();
        keys
    }

    /// Forgets the keys of a test that match.
    pub fn forget(&mut self, pattern: &str) {
        for key in self.ask(&["KEYS", pattern]) {
            self.ask(&["DEL", &key]);
        }
    }
}
