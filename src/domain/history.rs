//! A conversation is a pure function of the log: records in, fates out. No clock, no randomness.

use std::collections::HashMap;

use super::event::{Event, Outcome, Rejection};
use super::record::{Record, RecordBody};
use super::{ConversationId, ErrorCode, MessageId, Position, Seq, Timestamp};

/// How far a conversation has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Head {
    /// The last seq given; 0 before the first.
    pub last_seq: Seq,
    /// The time of the last event.
    pub last_at: Timestamp,
}

/// What is already stored and touches the records at hand: the heads of their conversations and the bodies
/// of those ids that exist. What a batch stores is added, so that a repeat within the batch is seen too.
#[derive(Debug, Default)]
pub struct Past {
    /// Heads of conversations; one that is absent has no event yet.
    pub heads: HashMap<ConversationId, Head>,
    /// Stored records by id.
    pub stored: HashMap<MessageId, RecordBody>,
}

/// Gives a record its fate. `None`: a retry of what is stored already, nothing new happens.
pub fn decide(past: &mut Past, record: Record, position: Position) -> Option<Outcome> {
    if let Some(stored) = past.stored.get(&record.id) {
        if record.is_retry_of(stored) {
            return None;
        }
        return Some(Outcome::Rejected(Rejection {
            conversation: record.conversation,
            position,
            id: record.id,
            client_id: record.client_id,
            from: record.from,
            code: ErrorCode::ClientIdReused,
        }));
    }
    let head = past.heads.entry(record.conversation).or_default();
    // Clocks of accepting nodes differ; along seq, time only grows.
    *head = Head { last_seq: head.last_seq.next(), last_at: head.last_at.max(record.at) };
    past.stored.insert(record.id, record.body.clone());
    Some(Outcome::Stored(Event {
        conversation: record.conversation,
        seq: head.last_seq,
        position,
        id: record.id,
        client_id: record.client_id,
        from: record.from,
        at: head.last_at,
        body: record.body,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::content::Content;
    use crate::domain::record::MessageBody;
    use crate::domain::{ClientId, LogNumber, UserId};

    fn record(client_id: &str, content: &str, at: i64) -> Record {
        let (from, to) = (UserId::new(2).unwrap(), UserId::new(3).unwrap());
        let conversation = ConversationId::dm(from, to).unwrap();
        let client_id = ClientId::new(client_id).unwrap();
        Record {
            id: MessageId::derive(conversation, from, &client_id),
            client_id,
            conversation,
            from,
            at: Timestamp(at),
            body: RecordBody::Message(MessageBody {
                content: Content::new(content).unwrap(),
                data: None,
                reply_to: None,
            }),
        }
    }

    fn at(offset: i64) -> Position {
        Position { log: LogNumber(1), partition: 0, offset }
    }

    #[test]
    fn seqs_grow_by_one_and_time_never_decreases() {
        let mut past = Past::default();
        let Some(Outcome::Stored(first)) = decide(&mut past, record("a", "x", 50), at(0)) else { panic!() };
        let Some(Outcome::Stored(second)) = decide(&mut past, record("b", "x", 40), at(1)) else { panic!() };
        assert_eq!((first.seq, second.seq), (Seq(1), Seq(2)));
        assert_eq!((first.at, second.at), (Timestamp(50), Timestamp(50)));
    }

    #[test]
    fn a_retry_stores_nothing_and_a_reuse_is_rejected() {
        let mut past = Past::default();
        decide(&mut past, record("a", "x", 1), at(0));
        assert_eq!(decide(&mut past, record("a", "x", 2), at(1)), None);
        let Some(Outcome::Rejected(rejection)) = decide(&mut past, record("a", "y", 3), at(2)) else {
            panic!()
        };
        assert_eq!((rejection.code, rejection.position), (ErrorCode::ClientIdReused, at(2)));
        let Some(Outcome::Stored(next)) = decide(&mut past, record("b", "x", 4), at(3)) else { panic!() };
        assert_eq!(next.seq, Seq(2), "neither took a seq");
    }
}
