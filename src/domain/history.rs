//! A conversation is a pure function of the log: records in, fates out. No clock, no randomness.

use std::collections::HashMap;
use std::time::Duration;

use super::event::{Event, Outcome, Rejection};
use super::record::{Digest, Record, RecordBody};
use super::rights::{Change, Role, may_change};
use super::{ConversationId, ErrorCode, MessageId, Position, Seq, Timestamp, UserId};

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last seq given; 0 before the first.
    pub last_seq: Seq,
    /// The time of the last event.
    pub last_at: Timestamp,
}

/// What the operator has laid down. A replay gives the same history under the same rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rules {
    /// An edit that was accepted longer than this after its message was stored comes too late; `None`: none does.
    pub edit_within: Option<Duration>,
}

/// What is already stored and touches the records at hand: the heads of their conversations, and of the ids that they
/// have or refer to those that exist. What a batch stores is added, so that it counts within the batch too.
#[derive(Debug, Default)]
pub struct Past {
    /// Heads of conversations; one that is absent has no event yet.
    pub heads: HashMap<ConversationId, Head>,
    /// Stored records by id.
    pub stored: HashMap<MessageId, Stored>,
    /// Records that were rejected for what they refer to: a retry of one ends as it did.
    pub rejected: HashMap<(MessageId, Digest), ErrorCode>,
}

/// A stored record, as far as later ones are judged by it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Where it is.
    pub conversation: ConversationId,
    /// Whose it is.
    pub from: UserId,
    /// The time that it has in history.
    pub at: Timestamp,
    /// What it asked for.
    pub asked: Asked,
    /// What it is now.
    pub kind: Kind,
}

/// What a stored record asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// In its words.
    Body(RecordBody),
    /// Its words have been changed or erased since.
    Digest(Digest),
}

impl Asked {
    /// Whether another record of the same id asks for the same: a retry, not a reuse.
    pub fn is_for(&self, body: &RecordBody) -> bool {
        match self {
            Self::Body(known) => known == body,
            Self::Digest(known) => *known == body.digest(),
        }
    }

    /// The digest of it.
    pub fn digest(&self) -> Digest {
        match self {
            Self::Body(known) => known.digest(),
            Self::Digest(known) => *known,
        }
    }
}

/// What a stored record is to those that refer to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A message.
    Message,
    /// A message that was deleted.
    Tombstone,
    /// A change of a message.
    Change,
}

impl Stored {
    /// Why somebody cannot change this in such a way, now and ever after; `None` where they can for now.
    pub fn refuses(&self, change: Change, by: UserId) -> Option<ErrorCode> {
        match self.kind {
            Kind::Change | Kind::Tombstone => Some(ErrorCode::NotFound),
            Kind::Message if may_change(change, Role::Member, self.from == by) => None,
            Kind::Message => Some(ErrorCode::Forbidden),
        }
    }
}

/// Gives a record its fate. `None`: a retry of what is stored already, nothing new happens.
pub fn decide(past: &mut Past, rules: &Rules, record: Record, position: Position) -> Option<Outcome> {
    if let Some(stored) = past.stored.get(&record.id) {
        if stored.asked.is_for(&record.body) {
            return None;
        }
        return Some(Outcome::Rejected(rejection(record, position, ErrorCode::ClientIdReused, None)));
    }
    if let Some(target) = record.body.refers_to() {
        let digest = record.body.digest();
        let key = (record.id, digest);
        let code = past.rejected.get(&key).copied().or_else(|| judge(past, rules, &record, target));
        if let Some(code) = code {
            past.rejected.insert(key, code);
            return Some(Outcome::Rejected(rejection(record, position, code, Some(digest))));
        }
        if let (RecordBody::Delete { .. }, Some(message)) = (&record.body, past.stored.get_mut(&target)) {
            message.kind = Kind::Tombstone;
        }
    }
    Some(Outcome::Stored(store(past, record, position)))
}

/// Why a record cannot happen, by what it refers to.
fn judge(past: &Past, rules: &Rules, record: &Record, target: MessageId) -> Option<ErrorCode> {
    let found = past.stored.get(&target).filter(|found| found.conversation == record.conversation);
    let Some(found) = found else { return Some(ErrorCode::NotFound) };
    match &record.body {
        // Whoever answers a message while it is being deleted has an answer to a tombstone.
        RecordBody::Message(_) => (found.kind == Kind::Change).then_some(ErrorCode::NotFound),
        RecordBody::Delete { .. } => found.refuses(Change::Delete, record.from),
        RecordBody::Edit { .. } => found.refuses(Change::Edit, record.from).or_else(|| {
            let late = rules.edit_within.is_some_and(|within| record.at > found.at.plus(within));
            late.then_some(ErrorCode::Forbidden)
        }),
    }
}

fn store(past: &mut Past, record: Record, position: Position) -> Event {
    let Record { id, client_id, conversation, from, at, body } = record;
    let head = past.heads.entry(conversation).or_default();
    // Clocks of accepting nodes differ; along seq, time only grows.
    *head = Head { last_seq: head.last_seq.next(), last_at: head.last_at.max(at) };
    let (seq, at) = (head.last_seq, head.last_at);
    let kind = match &body {
        RecordBody::Message(_) => Kind::Message,
        RecordBody::Edit { .. } | RecordBody::Delete { .. } => Kind::Change,
    };
    past.stored.insert(id, Stored { conversation, from, at, asked: Asked::Body(body.clone()), kind });
    Event { conversation, seq, position, id, client_id, from, at, body: body.into() }
}

fn rejection(record: Record, position: Position, code: ErrorCode, digest: Option<Digest>) -> Rejection {
    let Record { id, client_id, conversation, from, .. } = record;
    Rejection { conversation, position, id, client_id, from, code, digest }
}

#[cfg(test)]
mod tests;
