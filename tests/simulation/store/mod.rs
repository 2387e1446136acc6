//! A store in memory that keeps to the ports' promises: rows, the fence, and the one transaction.

mod ledger;
mod outside;
mod reads;
mod receipts;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chatd::domain::history::{Asked, Head, Kind, Past, Rules, Stored, decide};
use chatd::domain::{
    ConversationId, ConversationKey, Digest, ErrorCode, Event, EventBody, Frontier, Message, MessageBody,
    MessageId, Offset, Outcome, Partition, Record, RecordBody, Rejection, Seq, Timestamp, UserId,
};
use chatd::storage::{Applied, Batch, PartitionBatch, StorageError};
use uuid::Uuid;

pub use ledger::INCARNATION;

use crate::mutant::Mutant;
use crate::world::{ActorId, LOG, PARTITIONS, Shared, World, pause};

/// Content that starts so is refused by the store for good, as by a constraint.
pub const REFUSED: &str = "refuse";

/// A row of `log_partitions`.
#[derive(Debug, Clone, Default)]
pub struct Row {
    pub epoch: i64,
    pub next_offset: Offset,
    pub published: Offset,
    pub last_digest: Option<Uuid>,
    /// Who claimed it last; known to the checker only.
    pub owner: Option<ActorId>,
}

/// A member's cursors.
#[derive(Debug, Clone, Copy, Default)]
pub struct Cursors {
    pub delivered: Seq,
    pub read: Seq,
    pub gap_to: Seq,
}

/// A conversation.
#[derive(Debug, Clone)]
pub struct Conversation {
    pub key: ConversationKey,
    pub events: Vec<Arc<Event>>,
    pub members: BTreeMap<UserId, Cursors>,
}

impl Conversation {
    /// The last seq that a frontier covers; positions grow with seq.
    pub fn covered(&self, frontier: &Frontier) -> Seq {
        Seq(self.events.partition_point(|event| frontier.covers(event.position)) as i64)
    }

    pub fn last_seq(&self) -> Seq {
        self.events.last().map_or(Seq(0), |event| event.seq)
    }
}

/// A transaction whose COMMIT has no answer yet: it holds its partitions' rows.
#[derive(Debug, Clone)]
pub struct InFlight {
    batch: Batch,
    pub commits: bool,
}

/// Everything that is kept.
#[derive(Debug, Clone)]
pub struct Store {
    pub rows: Vec<Row>,
    pub conversations: BTreeMap<ConversationId, Conversation>,
    /// By internal key: in the order in which they began.
    pub of_user: BTreeMap<UserId, Vec<ConversationId>>,
    /// As they were when they came.
    pub stored: HashMap<MessageId, Arc<Event>>,
    /// Messages that have been changed since, as they are now.
    pub changed: HashMap<MessageId, Message>,
    /// Records that were rejected for what they refer to.
    pub impossible: HashMap<(MessageId, Digest), ErrorCode>,
    pub outcomes: Vec<BTreeMap<Offset, Outcome>>,
    pub rejections: Vec<Rejection>,
    pub dead: Vec<(Partition, Offset)>,
    pub in_flight: Vec<InFlight>,
}

impl Store {
    pub fn new() -> Self {
        let row = Row { published: -1, ..Row::default() };
        Self {
            rows: vec![row; PARTITIONS as usize],
            conversations: BTreeMap::new(),
            of_user: BTreeMap::new(),
            stored: HashMap::new(),
            changed: HashMap::new(),
            impossible: HashMap::new(),
            outcomes: vec![BTreeMap::new(); PARTITIONS as usize],
            rejections: Vec::new(),
            dead: Vec::new(),
            in_flight: Vec::new(),
        }
    }

    pub fn frontier(&self) -> Frontier {
        Frontier { log: LOG, offsets: self.rows.iter().map(|row| row.next_offset - 1).collect() }
    }

    pub fn cursors(&self, conversation: ConversationId, user: UserId) -> Cursors {
        let found = self.conversations.get(&conversation).and_then(|found| found.members.get(&user));
        found.copied().unwrap_or_default()
    }

    fn locked(&self, partitions: &[Partition]) -> bool {
        let mut held = self.in_flight.iter().flat_map(|one| &one.batch.partitions);
        held.any(|batch| partitions.contains(&batch.partition))
    }

    fn past(&self, records: &[(Offset, Record)]) -> Past {
        let mut past = Past::default();
        for (_, record) in records {
            if let Some(found) = self.conversations.get(&record.conversation)
                && let Some(last) = found.events.last()
            {
                past.heads.insert(record.conversation, Head { last_seq: last.seq, last_at: last.at });
            }
            for id in std::iter::once(record.id).chain(record.body.refers_to()) {
                past.stored.extend(self.stored.get(&id).map(|event| (id, self.judged(event))));
            }
            let key = (record.id, record.body.digest());
            past.rejected.extend(self.impossible.get(&key).map(|code| (key, *code)));
        }
        past
    }

    /// A record as later ones are judged by it.
    fn judged(&self, event: &Event) -> Stored {
        let Event { conversation, from, at, .. } = *event;
        let is_deleted = self.changed.get(&event.id).is_some_and(|message| message.deleted_at.is_some());
        let kind = match event.body {
            EventBody::Message(_) if is_deleted => Kind::Tombstone,
            EventBody::Message(_) => Kind::Message,
            EventBody::Edited { .. } | EventBody::Deleted { .. } => Kind::Change,
        };
        Stored { conversation, from, at, asked: Asked::Body(asked(&event.body)), kind }
    }

    /// An event as it is read: with the words of now.
    pub fn as_read(&self, event: &Event) -> Event {
        let body = match &event.body {
            EventBody::Message(message) => {
                EventBody::Message(self.changed.get(&event.id).unwrap_or(message).clone())
            }
            EventBody::Edited { target, .. } => {
                EventBody::Edited { target: *target, content: self.changed[target].content.clone() }
            }
            EventBody::Deleted { target } => EventBody::Deleted { target: *target },
        };
        Event { body, ..event.clone() }
    }

    /// Messages that were deleted.
    pub fn tombstones(&self) -> HashSet<MessageId> {
        let deleted = self.changed.iter().filter(|(_, message)| message.deleted_at.is_some());
        deleted.map(|(id, _)| *id).collect()
    }

    /// What a change makes of its message.
    fn change(&mut self, event: &Event) {
        let (target, content) = match &event.body {
            EventBody::Message(_) => return,
            EventBody::Edited { target, content } => (*target, content.clone()),
            EventBody::Deleted { target } => (*target, None),
        };
        // A seeded bug may have let a change of nothing in.
        let Some(EventBody::Message(original)) = self.stored.get(&target).map(|event| &event.body) else {
            return;
        };
        let message = self.changed.entry(target).or_insert_with(|| original.clone());
        match content {
            Some(_) => message.edited_at = Some(event.at),
            None => (message.data, message.deleted_at) = (None, Some(event.at)),
        }
        message.content = content;
    }

    fn insert(&mut self, partition: Partition, outcome: &Outcome) {
        self.outcomes[partition as usize].insert(outcome.position().offset, outcome.clone());
        match outcome {
            Outcome::Rejected(rejection) => {
                self.rejections.push(rejection.clone());
                self.impossible
                    .extend(rejection.digest.map(|digest| ((rejection.id, digest), rejection.code)));
            }
            Outcome::Stored(event) => {
                let event = Arc::new(event.clone());
                let conversation = event.conversation;
                let key = ConversationKey(1 + self.conversations.len() as i64);
                let new = || Conversation { key, events: Vec::new(), members: BTreeMap::new() };
                let found = self.conversations.entry(conversation).or_insert_with(new);
                if found.events.is_empty() {
                    let ConversationId::Dm(low, high) = conversation else { return };
                    for member in [low, high] {
                        found.members.insert(member, Cursors::default());
                        self.of_user.entry(member).or_default().push(conversation);
                    }
                }
                found.events.push(Arc::clone(&event));
                self.stored.insert(event.id, Arc::clone(&event));
                self.change(&event);
            }
        }
    }
}

fn is_refused(record: &Record) -> bool {
    match &record.body {
        RecordBody::Message(message) => message.content.as_str().starts_with(REFUSED),
        RecordBody::Edit { content, .. } => content.as_str().starts_with(REFUSED),
        RecordBody::Delete { .. } => false,
    }
}

/// What a record asked for, from what it was when it came.
fn asked(body: &EventBody) -> RecordBody {
    match body {
        EventBody::Message(Message { content: Some(content), data, reply_to, .. }) => {
            let (content, data, reply_to) = (content.clone(), data.clone(), *reply_to);
            RecordBody::Message(MessageBody { content, data, reply_to })
        }
        EventBody::Edited { target, content: Some(content) } => {
            RecordBody::Edit { target: *target, content: content.clone() }
        }
        EventBody::Deleted { target } => RecordBody::Delete { target: *target },
        EventBody::Message(_) | EventBody::Edited { .. } => panic!("it came without words: {body:?}"),
    }
}

impl World {
    /// The transaction of `Ledger::apply`: fences, then everything that follows from the records.
    pub fn commit(&mut self, batch: Batch) -> Result<Vec<Applied>, StorageError> {
        let (passed, fenced): (Vec<_>, Vec<_>) =
            batch.partitions.into_iter().partition(|one| self.passes(one));
        if passed.iter().flat_map(|one| &one.records).any(|(_, record)| is_refused(record)) {
            return Err(StorageError::Refused("simulated".into()));
        }
        let mut applied: Vec<_> =
            fenced.into_iter().map(|one| Applied::Fenced { partition: one.partition }).collect();
        for one in passed {
            let row = &self.store.rows[one.partition as usize];
            if one.epoch != row.epoch {
                self.checker.fail("fence", || format!("epoch {} wrote in {}", one.epoch, row.epoch));
            }
            applied.push(self.write_rows(one));
        }
        Ok(applied)
    }

    fn passes(&self, batch: &PartitionBatch) -> bool {
        let row = &self.store.rows[batch.partition as usize];
        let epoch = self.has(Mutant::FenceIgnoresEpoch) || batch.epoch == row.epoch;
        let offset = self.has(Mutant::FenceIgnoresOffset) || batch.expected == row.next_offset;
        epoch && offset
    }

    fn write_rows(&mut self, batch: PartitionBatch) -> Applied {
        let PartitionBatch { partition, next, last_digest, published, mut records, dead, .. } = batch;
        if self.has(Mutant::HalfBatch) && records.len() > 1 {
            records.truncate(records.len() / 2);
        }
        let mut past = self.store.past(&records);
        if self.has(Mutant::ForgetsTime) {
            past.heads.values_mut().for_each(|head| head.last_at = Timestamp(0));
        }
        if self.has(Mutant::ForgetsRejections) {
            past.rejected.clear();
        }
        if self.has(Mutant::ChangesTombstones) {
            let tombstones = past.stored.values_mut().filter(|stored| stored.kind == Kind::Tombstone);
            tombstones.for_each(|stored| stored.kind = Kind::Message);
        }
        let (mut outcomes, mut duplicates) = (Vec::new(), 0);
        for (offset, record) in records {
            if self.has(Mutant::KeepsDuplicates) {
                past.stored.remove(&record.id);
            }
            let position = chatd::domain::Position { log: LOG, partition, offset };
            match decide(&mut past, &Rules::default(), record, position) {
                None => duplicates += 1,
                Some(outcome) => {
                    self.store.insert(partition, &outcome);
                    outcomes.push(outcome);
                }
            }
        }
        self.store.dead.extend(dead.iter().map(|letter| (partition, letter.offset)));
        let row = &mut self.store.rows[partition as usize];
        (row.next_offset, row.last_digest, row.published) = (next, Some(last_digest), published);
        Applied::Done { partition, outcomes, duplicates, dead: dead.len() }
    }

    /// Everything committed so far survives a loss of power.
    pub fn sync(&mut self) {
        if let Some(durable) = &mut self.durable {
            **durable = self.store.clone();
        }
    }

    /// The machine starts again with what had reached the disk.
    pub fn lose_power(&mut self) {
        if let Some(durable) = &self.durable {
            self.store = Store::clone(durable);
            self.store.in_flight.clear();
        }
        self.stopping.clear();
        self.net.links.iter_mut().for_each(|link| link.queue.clear());
        let sockets: Vec<usize> = self.sockets.keys().copied().collect();
        sockets.into_iter().for_each(|socket| self.close(socket));
    }

    /// Ends a transaction whose COMMIT had no answer.
    pub fn settle(&mut self) {
        if self.store.in_flight.is_empty() {
            return;
        }
        let index = self.dice.below(self.store.in_flight.len());
        let one = self.store.in_flight.remove(index);
        if one.commits {
            // Nobody waits for the answer; a refusal rolls it back.
            let _ = self.commit(one.batch);
        }
    }
}

/// The ports over it.
#[derive(Clone)]
pub struct SimStore(pub Shared);

fn away() -> StorageError {
    StorageError::Unavailable("simulated".into())
}

impl SimStore {
    /// A request on its way to storage; it may not arrive.
    async fn reach(&self) -> Result<(), StorageError> {
        pause().await;
        let mut world = self.0.lock();
        let probability = world.faults.store_call;
        if world.faults.store_away || world.dice.chance(probability) { Err(away()) } else { Ok(()) }
    }

    /// The answer on its way back; it may be lost.
    async fn answer<T>(&self, answer: T) -> Result<T, StorageError> {
        if self.0.lock().dice.chance(0.5) {
            pause().await;
        }
        let mut world = self.0.lock();
        let probability = world.faults.store_answer;
        if world.dice.chance(probability) { Err(away()) } else { Ok(answer) }
    }
}
