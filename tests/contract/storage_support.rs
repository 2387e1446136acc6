//! What the storage suites stand on: an empty database of each adapter, people, and an owner of the log's
//! partitions who applies what they say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use chatd::domain::history::Rules;
use chatd::domain::{
    ClientId, Content, ConversationId, Event, EventBody, Frontier, LogNumber, MessageBody, MessageId, Offset,
    Outcome, Partition, Position, Record, RecordBody, Seq, Timestamp, UserId,
};
use chatd::pipeline::LogIdentity;
use chatd::pipeline::partitioner::partition_of;
use chatd::storage::postgres::{PostgresSettings, PostgresStore};
use chatd::storage::sqlite::{SqliteSettings, SqliteStore};
use chatd::storage::{Applied, Batch, Claim, PartitionBatch, Storage};
use uuid::Uuid;

use crate::postgres_schema::Schema;

/// Runs each test of a suite on an empty database of each adapter.
macro_rules! on_each_storage {
    ($($test:ident),+ $(,)?) => {
        mod sqlite {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::storage_support::sqlite().await).await;
                }
            )+
        }
        mod postgres {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::$test($crate::storage_support::postgres().await).await;
                }
            )+
        }
    };
}
pub(crate) use on_each_storage;

/// A database of its own, gone with the test.
#[derive(Clone)]
pub struct Store {
    ports: Arc<dyn Storage>,
    _place: Arc<dyn Send + Sync>,
}

impl Store {
    /// Ports over a database that goes with its place.
    pub fn new(ports: Arc<dyn Storage>, place: Arc<dyn Send + Sync>) -> Self {
        Self { ports, _place: place }
    }
}

impl Deref for Store {
    type Target = dyn Storage;
    fn deref(&self) -> &Self::Target {
        &*self.ports
    }
}

pub async fn sqlite() -> Store {
    let folder = tempfile::tempdir().unwrap();
    let store = SqliteStore::open(SqliteSettings::new(folder.path().join("chatd.db"))).await.unwrap();
    Store { ports: Arc::new(store), _place: Arc::new(folder) }
}

/// A schema of its own in the shared PostgreSQL.
pub async fn postgres() -> Store {
    let schema = Schema::new();
    let settings = schema.settings();
    postgres_on(schema, settings).await
}

/// A store with settings of one's own in a schema that goes with it.
pub async fn postgres_on(schema: Schema, settings: PostgresSettings) -> Store {
    let store = PostgresStore::open(settings).await.unwrap();
    Store { ports: Arc::new(store), _place: Arc::new(schema) }
}

pub fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub fn dm(a: i64, b: i64) -> ConversationId {
    ConversationId::dm(user(a), user(b)).unwrap()
}

/// A message as it lies on the log.
pub fn message(from: i64, to: i64, client_id: &str, content: &str, at: i64) -> Record {
    let client_id = ClientId::new(client_id).unwrap();
    let conversation = dm(from, to);
    Record {
        id: MessageId::derive(conversation, user(from), &client_id),
        client_id,
        conversation,
        from: user(from),
        at: Timestamp(at),
        body: RecordBody::Message(MessageBody {
            content: Content::new(content).unwrap(),
            data: None,
            reply_to: None,
        }),
    }
}

/// The text of a message that has one.
pub fn content_of(event: &Event) -> &str {
    let EventBody::Message(message) = &event.body else { panic!("no message: {event:?}") };
    message.content.as_ref().expect("a text").as_str()
}

/// The id of a message as `message` makes it.
pub fn id_of(from: i64, to: i64, client_id: &str) -> MessageId {
    MessageId::derive(dm(from, to), user(from), &ClientId::new(client_id).unwrap())
}

/// An edit of a message by one of the two, as it lies on the log.
pub fn edit(from: i64, to: i64, client_id: &str, target: MessageId, content: &str) -> Record {
    let content = Content::new(content).unwrap();
    Record { body: RecordBody::Edit { target, content }, ..message(from, to, client_id, "x", 1) }
}

/// The deletion of a message by one of the two, as it lies on the log.
pub fn delete(from: i64, to: i64, client_id: &str, target: MessageId) -> Record {
    Record { body: RecordBody::Delete { target }, ..message(from, to, client_id, "x", 1) }
}

/// An answer to a message, as it lies on the log.
pub fn answer(from: i64, to: i64, client_id: &str, reply_to: MessageId) -> Record {
    let mut record = message(from, to, client_id, "an answer", 1);
    let RecordBody::Message(message) = &mut record.body else { unreachable!() };
    message.reply_to = Some(reply_to);
    record
}

pub fn seqs(events: &[Event]) -> Vec<i64> {
    events.iter().map(|event| event.seq.0).collect()
}

pub async fn history(store: &Store, conversation: ConversationId) -> Vec<Event> {
    store.events(conversation, Seq(0), 10_000).await.unwrap().rows
}

/// The log that every test follows, unless it says otherwise.
pub fn log_identity(partitions: Partition) -> LogIdentity {
    LogIdentity { id: Uuid::from_u128(0x0106), partitions }
}

/// Owns all partitions of a log and applies to them.
pub struct Owner {
    pub store: Store,
    pub log: LogNumber,
    pub epochs: Vec<i64>,
    pub next: Vec<Offset>,
    /// How long until what it applies is due.
    pub grace: Duration,
    /// By what it judges.
    pub rules: Rules,
    /// How many messages of its own it has said: the names of its retries.
    pub said: u32,
}

impl Owner {
    pub async fn new(store: &Store, partitions: Partition) -> Self {
        let log = store.attach_log(log_identity(partitions)).await.unwrap();
        let all: Vec<Partition> = (0..partitions).collect();
        let claims = store.claim(log, &all).await.unwrap();
        Self::of(store, log, claims)
    }

    /// Of a log that was claimed already.
    pub fn of(store: &Store, log: LogNumber, claims: Vec<Claim>) -> Self {
        Self {
            store: store.clone(),
            log,
            epochs: claims.iter().map(|claim| claim.epoch).collect(),
            next: claims.iter().map(|claim| claim.next_offset).collect(),
            grace: Duration::from_secs(3_600),
            rules: Rules::default(),
            said: 0,
        }
    }

    /// Another hand of the same owner: two apply at the same time where each keeps to partitions of its own.
    pub fn other_hand(&self) -> Self {
        let Self { store, log, epochs, next, grace, rules, said } = self;
        let (store, epochs, next) = (store.clone(), epochs.clone(), next.clone());
        Self { store, log: *log, epochs, next, grace: *grace, rules: *rules, said: *said }
    }

    pub fn partition(&self, conversation: ConversationId) -> Partition {
        partition_of(conversation, Partition::try_from(self.epochs.len()).unwrap())
    }

    /// Records placed one after the other in their partitions, as one batch. Nothing moves yet.
    pub fn batch(&self, records: Vec<Record>) -> Batch {
        let mut partitions: Vec<PartitionBatch> = Vec::new();
        for record in records {
            let partition = self.partition(record.conversation);
            let index = partitions.iter().position(|each| each.partition == partition).unwrap_or_else(|| {
                partitions.push(self.empty(partition));
                partitions.len() - 1
            });
            let batch = &mut partitions[index];
            batch.records.push((batch.next, record));
            batch.next += 1;
        }
        Batch { log: self.log, partitions, grace: self.grace, rules: self.rules }
    }

    /// A batch of a partition without records.
    pub fn empty(&self, partition: Partition) -> PartitionBatch {
        let (epoch, next) = (self.epochs[partition as usize], self.next[partition as usize]);
        PartitionBatch {
            partition,
            epoch,
            expected: next,
            next,
            last_digest: Uuid::from_u128(1),
            published: -1,
            records: Vec::new(),
            dead: Vec::new(),
        }
    }

    /// Applies a batch that must pass its fences, and takes its offsets over. Outcomes by offset, duplicates.
    pub async fn apply(&mut self, batch: Batch) -> (Vec<Outcome>, usize) {
        let nexts: Vec<_> = batch.partitions.iter().map(|each| (each.partition, each.next)).collect();
        let (mut all, mut retries) = (Vec::new(), 0);
        for applied in self.store.apply(batch).await.unwrap() {
            match applied {
                Applied::Done { outcomes, duplicates, .. } => {
                    all.extend(outcomes);
                    retries += duplicates;
                }
                Applied::Fenced { partition } => panic!("partition {partition} was fenced"),
            }
        }
        for (partition, next) in nexts {
            self.next[partition as usize] = next;
        }
        (all, retries)
    }

    pub async fn apply_records(&mut self, records: Vec<Record>) -> (Vec<Outcome>, usize) {
        let batch = self.batch(records);
        self.apply(batch).await
    }

    /// A new message, stored.
    pub async fn say(&mut self, from: i64, to: i64, content: &str) -> Event {
        self.said += 1;
        let record = message(from, to, &format!("said-{}", self.said), content, i64::from(self.said));
        let (outcomes, _) = self.apply_records(vec![record]).await;
        match outcomes.into_iter().next().unwrap() {
            Outcome::Stored(event) => event,
            Outcome::Rejected(rejection) => panic!("{rejection:?}"),
        }
    }

    /// Everything applied.
    pub async fn frontier(&self) -> Frontier {
        self.store.frontier(self.log).await.unwrap()
    }

    pub fn nothing(&self) -> Frontier {
        Frontier::nothing(self.log, self.epochs.len())
    }

    pub fn at(&self, partition: Partition, offset: Offset) -> Position {
        Position { log: self.log, partition, offset }
    }
}

/// Waits until the clock that storage uses too has passed a moment.
pub async fn until(moment: Timestamp) {
    while Timestamp::now() <= moment {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}
