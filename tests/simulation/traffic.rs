//! What senders put into the log: new messages, edits, deletions and answers, retries, reused ids, and values that are no
//! records.

use std::collections::VecDeque;
use std::sync::OnceLock;

use bytes::Bytes;
use chatd::domain::history::Rules;
use chatd::domain::{
    ClientId, Content, ConversationId, MessageBody, MessageId, Record, RecordBody, Timestamp,
};
use chatd::pipeline::partitioner::partition_of;
use chatd::pipeline::record;
use chatd::storage::{Batch, PartitionBatch};

use crate::log::Log;
use crate::store::{REFUSED, Store};
use crate::world::{Dice, Faults, LOG, PARTITIONS, World, dm, user};

/// Users of an ordinary schedule; each may write to each.
pub const USERS: i64 = 4;

/// A value that a newer release wrote.
pub const NEWER: &[u8] = b"{\"v\":2,\"kind\":\"message\"}";

/// Senders.
#[derive(Default)]
pub struct Traffic {
    sent: Vec<Record>,
    /// What comes next of somebody who referred to a message before it was sent.
    queue: VecDeque<Record>,
    /// Whether a value of a newer release may come, and stop its partition for good.
    newer: bool,
}

fn message(from: i64, to: i64, client_id: &str, content: &str, at: i64) -> Record {
    let conversation = dm(from, to);
    let (from, client_id) = (user(from), ClientId::new(client_id).unwrap());
    let content = Content::new(content).unwrap();
    Record {
        id: MessageId::derive(conversation, from, &client_id),
        client_id,
        conversation,
        from,
        at: Timestamp(at),
        body: RecordBody::Message(MessageBody { content, data: None, reply_to: None }),
    }
}

impl Traffic {
    pub fn new(newer: bool) -> Self {
        Self { newer, ..Self::default() }
    }

    /// An edit, a deletion or an answer; at times to a message that comes later, and then this is tried again.
    fn referring(&mut self, dice: &mut Dice, (old, from): (Record, i64), client_id: &str, at: i64) -> Record {
        let to = old.conversation.peer_of(user(from)).unwrap().get();
        let early = dice.chance(0.15);
        let later = message(from, to, &format!("later-{client_id}"), "what was referred to", at);
        let target = if early { later.id } else { old.id };
        let mut new = message(from, to, client_id, &format!("an answer {client_id}"), at);
        new.body = match (dice.below(10), new.body) {
            (0..=4, _) => {
                RecordBody::Edit { target, content: Content::new(format!("edited {client_id}")).unwrap() }
            }
            (5..=6, _) => RecordBody::Delete { target },
            (_, RecordBody::Message(body)) => {
                RecordBody::Message(MessageBody { reply_to: Some(target), ..body })
            }
            (_, body) => body,
        };
        if early {
            self.queue.extend([later, new.clone()]);
        }
        new
    }

    /// Appends something.
    pub fn append(&mut self, world: &mut World) {
        let dice = &mut world.dice;
        // Clocks of nodes differ by some seconds.
        let at = 1_700_000_000_000 + self.sent.len() as i64 * 100 + dice.between(-3_000, 3_000);
        let (from, mut to) = (dice.between(1, USERS), dice.between(1, USERS - 1));
        to += i64::from(to >= from);
        let number = self.sent.len();
        let kind = dice.below(100);
        let mut new = message(from, to, &format!("c{number}"), &format!("text {number}"), at);
        if kind < 22 && number > 0 {
            let old = &self.sent[dice.below(number)];
            new = Record { at: Timestamp(at), ..old.clone() };
            if kind < 8 {
                new.body = message(1, 2, "x", &format!("other {number}"), at).body;
            }
        } else if kind < 25 {
            new.body = message(1, 2, "x", REFUSED, at).body;
        } else if kind < 50 && number > 0 {
            let old = self.sent[dice.below(number)].clone();
            let by_author = dice.chance(0.85);
            let from = if by_author { old.from } else { old.conversation.peer_of(old.from).unwrap() };
            new = self.referring(dice, (old, from.get()), &format!("c{number}"), at);
        } else if kind < 60
            && let Some(next) = self.queue.pop_front()
        {
            new = Record { at: Timestamp(at), ..next };
        }
        let (conversation, id) = (new.conversation, new.id);
        let mut value = record::encode(&new);
        if kind >= 97 {
            value = Bytes::from_static(b"{\"v\":1,\"kind\":\"message\",\"id\":0}");
        } else if kind >= 95 && self.newer {
            value = Bytes::from_static(NEWER);
        } else {
            self.sent.push(new);
        }
        let partition = partition_of(conversation, PARTITIONS);
        let offset = world.log.append(partition, value);
        world.checker.tell(|| format!("log {partition}/{offset}: {conversation} {id} (kind {kind})"));
    }
}

/// Histories that are there before a schedule begins, too long to be made anew for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    Nothing,
    /// A conversation that is too long to be pushed.
    Long,
    /// More than is pushed in all.
    Wide,
    /// More conversations than are looked up at once.
    Many,
}

impl Before {
    /// A log, and the store that has applied it.
    pub fn history(self) -> (Log, Store) {
        static LONG: OnceLock<(Log, Store)> = OnceLock::new();
        static WIDE: OnceLock<(Log, Store)> = OnceLock::new();
        static MANY: OnceLock<(Log, Store)> = OnceLock::new();
        match self {
            Self::Nothing => (Log::new(), Store::new()),
            Self::Long => LONG.get_or_init(|| applied(&[(2, 620), (3, 30)])).clone(),
            Self::Wide => {
                let peers: Vec<_> = (2..=13).map(|peer| (peer, 470)).collect();
                WIDE.get_or_init(|| applied(&peers)).clone()
            }
            Self::Many => {
                let peers: Vec<_> = (2..=540).map(|peer| (peer, 1)).collect();
                MANY.get_or_init(|| applied(&peers)).clone()
            }
        }
    }
}

/// Conversations of user 1 with others, each with so many messages.
fn applied(peers: &[(i64, usize)]) -> (Log, Store) {
    let mut world = World::new(Dice::new(0), Faults::default(), None, (Log::new(), Store::new()));
    for (peer, count) in peers {
        for number in 0..*count {
            let new = message(1, *peer, &format!("before-{number}"), &format!("before {number}"), 1);
            let partition = partition_of(ConversationId::dm(user(1), user(*peer)).unwrap(), PARTITIONS);
            world.log.append(partition, record::encode(&new));
        }
    }
    world.apply_all();
    (world.log, world.store)
}

impl World {
    /// Applies the whole log at once, without any fault: what a replay into an empty store gives.
    pub fn apply_all(&mut self) {
        for partition in 0..PARTITIONS {
            let values = self.log.lanes[partition as usize].values.clone();
            let mut batch = PartitionBatch {
                partition,
                epoch: 0,
                expected: 0,
                next: 0,
                last_digest: uuid::Uuid::nil(),
                published: -1,
                records: Vec::new(),
                dead: Vec::new(),
            };
            for (offset, value) in (0..).zip(values) {
                batch.records.push((offset, record::decode(&value, partition, PARTITIONS).unwrap()));
                (batch.next, batch.last_digest) = (offset + 1, record::digest(&value));
                batch.published = offset;
            }
            let grace = std::time::Duration::ZERO;
            self.commit(Batch { log: LOG, partitions: vec![batch], grace, rules: Rules::default() }).unwrap();
        }
    }
}
