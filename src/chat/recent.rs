//! What this node accepted lately, so that a retry is answered at once and a reused client_id is refused
//! before it reaches the log. Only a hint: the applier decides (`domain::history`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{
    Content, Data, Event, EventBody, Message, MessageBody, MessageId, RecordBody, Seq, Timestamp,
};

/// Records of one generation; two are kept, about 100 bytes a record.
const GENERATION: usize = 50_000;

/// What is known of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Remembered {
    at: Timestamp,
    fingerprint: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// On its way into the log, or that failed.
    Open,
    /// Durable in the log.
    Accepted,
    /// In history.
    Stored(Seq),
    /// What stands under this id is not known here: a record of it was rejected, or the words that it was stored with
    /// could not be told.
    Contested,
}

/// The memory; a clone shares it. Two generations of records: when the young one is full it becomes the old
/// one, and the old one is forgotten. So the last 50,000 are always known, and forgetting costs nothing.
#[derive(Clone, Default)]
pub struct Recent {
    generations: Arc<Mutex<Generations>>,
    hasher: RandomState,
}

#[derive(Default)]
struct Generations {
    young: HashMap<MessageId, Remembered>,
    old: HashMap<MessageId, Remembered>,
}

impl Generations {
    fn get(&mut self, id: MessageId) -> Option<&mut Remembered> {
        self.young.get_mut(&id).or_else(|| self.old.get_mut(&id))
    }

    fn insert(&mut self, id: MessageId, known: Remembered) {
        if self.young.len() >= GENERATION {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(id, known);
    }
}

/// What a record's id says about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recall {
    /// Never seen, or long ago.
    Unknown,
    /// A retry of what is durable in the log.
    Retry {
        /// When it was accepted first.
        at: Timestamp,
        /// Its seq, once it is stored.
        seq: Option<Seq>,
    },
    /// The same id was used for something else.
    Reused,
}

impl Recent {
    /// What is known of a record.
    pub fn recall(&self, id: MessageId, body: &RecordBody) -> Recall {
        let Some(known) = self.lock().get(id).copied() else { return Recall::Unknown };
        let seq = match known.fate {
            Fate::Open | Fate::Contested => return Recall::Unknown,
            Fate::Accepted => None,
            Fate::Stored(seq) => Some(seq),
        };
        let is_retry = known.fingerprint == self.fingerprint(body);
        if is_retry { Recall::Retry { at: known.at, seq } } else { Recall::Reused }
    }

    /// The record is on its way into the log; its fate may be heard of before the log's answer is.
    pub fn sent(&self, id: MessageId, fingerprint: u64, at: Timestamp) {
        let mut generations = self.lock();
        if generations.get(id).is_none() {
            generations.insert(id, Remembered { at, fingerprint, fate: Fate::Open });
        }
    }

    /// The record is durable in the log. Of two with the same id the first one counts.
    pub fn accepted(&self, id: MessageId, fingerprint: u64, at: Timestamp) {
        let accepted = Remembered { at, fingerprint, fate: Fate::Accepted };
        let mut generations = self.lock();
        match generations.get(id) {
            Some(known) if known.fate == Fate::Open => *known = accepted,
            Some(_) => {}
            None => generations.insert(id, accepted),
        }
    }

    /// The record is stored, and its body is the one that stands. One that this node did not accept is not
    /// remembered.
    pub fn stored(&self, event: &Event) {
        if let Some(known) = self.lock().get(event.id) {
            let (fingerprint, is_as_it_came) = self.read(&event.body);
            if is_as_it_came || fingerprint == Some(known.fingerprint) {
                known.fingerprint = fingerprint.unwrap_or(known.fingerprint);
                known.fate = Fate::Stored(event.seq);
            } else {
                known.fate = Fate::Contested;
            }
        }
    }

    /// A record of this id was rejected. Unless the one that stands is known here, all of this id have to go
    /// through the log from now on, which tells them apart.
    pub fn rejected(&self, id: MessageId) {
        if let Some(known) = self.lock().get(id)
            && !matches!(known.fate, Fate::Stored(_))
        {
            known.fate = Fate::Contested;
        }
    }

    /// A number that tells two bodies apart.
    pub fn fingerprint(&self, body: &RecordBody) -> u64 {
        match body {
            RecordBody::Message(MessageBody { content, data, reply_to }) => {
                self.of_message(content, data.as_ref(), *reply_to)
            }
            RecordBody::Edit { target, content } => self.of_edit(*target, content),
            RecordBody::Delete { target } => self.of_deletion(*target),
        }
    }

    /// The number of what an event says, and whether that is sure to be what its record asked for. One that was read
    /// later than it happened may have other words by now: a message says so, an edit does not.
    fn read(&self, body: &EventBody) -> (Option<u64>, bool) {
        match body {
            EventBody::Message(Message { content: Some(content), data, reply_to, edited_at, .. }) => {
                (Some(self.of_message(content, data.as_ref(), *reply_to)), edited_at.is_none())
            }
            EventBody::Edited { target, content: Some(content) } => {
                (Some(self.of_edit(*target, content)), false)
            }
            EventBody::Message(_) | EventBody::Edited { .. } => (None, false),
            EventBody::Deleted { target } => (Some(self.of_deletion(*target)), true),
        }
    }

    fn of_message(&self, content: &Content, data: Option<&Data>, reply_to: Option<MessageId>) -> u64 {
        self.hasher.hash_one((content, data.map(|data| data.as_str()), reply_to))
    }

    fn of_edit(&self, target: MessageId, content: &Content) -> u64 {
        self.hasher.hash_one(("edit", target, content))
    }

    fn of_deletion(&self, target: MessageId) -> u64 {
        self.hasher.hash_one(("delete", target))
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientId, ConversationId, LogNumber, Position, UserId};

    fn conversation() -> ConversationId {
        let user = |id| UserId::new(id).unwrap();
        ConversationId::dm(user(1), user(2)).unwrap()
    }

    fn client_id(n: usize) -> ClientId {
        ClientId::new(n.to_string()).unwrap()
    }

    fn id(n: usize) -> MessageId {
        MessageId::derive(conversation(), UserId::new(1).unwrap(), &client_id(n))
    }

    fn body(text: &str) -> RecordBody {
        RecordBody::Message(MessageBody { content: Content::new(text).unwrap(), data: None, reply_to: None })
    }

    fn event(n: usize, text: &str, seq: i64) -> Event {
        Event {
            conversation: conversation(),
            seq: Seq(seq),
            position: Position { log: LogNumber(1), partition: 0, offset: seq },
            id: id(n),
            client_id: client_id(n),
            from: UserId::new(1).unwrap(),
            at: Timestamp(9),
            body: body(text).into(),
        }
    }

    fn retry(recent: &Recent, n: usize, text: &str) -> (Timestamp, Option<Seq>) {
        let Recall::Retry { at, seq } = recent.recall(id(n), &body(text)) else { panic!("not known") };
        (at, seq)
    }

    #[test]
    fn a_retry_is_known_with_its_seq_and_a_reuse_is_told_apart() {
        let recent = Recent::default();
        let print = recent.fingerprint(&body("a"));
        recent.sent(id(1), print, Timestamp(5));
        assert_eq!(recent.recall(id(1), &body("a")), Recall::Unknown, "its fate is open");
        recent.accepted(id(1), print, Timestamp(5));
        assert_eq!(retry(&recent, 1, "a"), (Timestamp(5), None));
        recent.stored(&event(1, "a", 7));
        assert_eq!(retry(&recent, 1, "a"), (Timestamp(5), Some(Seq(7))));
        assert_eq!(recent.recall(id(1), &body("b")), Recall::Reused);
    }

    #[test]
    fn what_is_stored_before_the_logs_answer_is_heard_keeps_its_seq() {
        let recent = Recent::default();
        let print = recent.fingerprint(&body("a"));
        recent.sent(id(1), print, Timestamp(5));
        recent.stored(&event(1, "a", 7));
        recent.accepted(id(1), print, Timestamp(5));
        assert_eq!(retry(&recent, 1, "a"), (Timestamp(5), Some(Seq(7))));
    }

    #[test]
    fn of_two_on_their_way_with_one_id_the_stored_one_stands() {
        let recent = Recent::default();
        for text in ["a", "b"] {
            recent.sent(id(1), recent.fingerprint(&body(text)), Timestamp(5));
        }
        for text in ["a", "b"] {
            recent.accepted(id(1), recent.fingerprint(&body(text)), Timestamp(5));
        }
        assert_eq!(retry(&recent, 1, "a"), (Timestamp(5), None), "the first");
        recent.stored(&event(1, "b", 7));
        assert_eq!(retry(&recent, 1, "b"), (Timestamp(5), Some(Seq(7))), "what was stored knows better");
        assert_eq!(recent.recall(id(1), &body("a")), Recall::Reused);
    }

    #[test]
    fn an_append_that_failed_may_be_tried_again_with_another_content() {
        let recent = Recent::default();
        recent.sent(id(1), recent.fingerprint(&body("a")), Timestamp(5));
        let print = recent.fingerprint(&body("b"));
        recent.sent(id(1), print, Timestamp(6));
        recent.accepted(id(1), print, Timestamp(6));
        assert_eq!(retry(&recent, 1, "b"), (Timestamp(6), None));
    }

    #[test]
    fn what_was_rejected_goes_through_the_log_again_and_so_does_what_stands() {
        let recent = Recent::default();
        let print = recent.fingerprint(&body("b"));
        recent.sent(id(1), print, Timestamp(5));
        recent.rejected(id(1));
        recent.accepted(id(1), print, Timestamp(5));
        for text in ["a", "b"] {
            assert_eq!(recent.recall(id(1), &body(text)), Recall::Unknown, "{text}");
        }
        recent.stored(&event(1, "a", 7));
        recent.rejected(id(1));
        assert_eq!(retry(&recent, 1, "a"), (Timestamp(5), Some(Seq(7))), "what stands is known");
        assert_eq!(recent.recall(id(1), &body("b")), Recall::Reused);
    }

    #[test]
    fn what_was_changed_before_it_was_heard_of_goes_through_the_log_again() {
        let recent = Recent::default();
        let target = id(7);
        let edit = RecordBody::Edit { target, content: Content::new("a").unwrap() };
        let delete = RecordBody::Delete { target };
        let mut changed = event(1, "b", 7);
        let EventBody::Message(message) = &mut changed.body else { unreachable!() };
        message.edited_at = Some(Timestamp(10));
        let stored = |n: usize, body: &RecordBody| Event { body: body.clone().into(), ..event(n, "x", 7) };
        let other = RecordBody::Edit { target, content: Content::new("b").unwrap() };
        let known = [(1, body("a"), changed), (2, edit.clone(), stored(2, &other))];
        for (n, body, event) in &known {
            recent.sent(id(*n), recent.fingerprint(body), Timestamp(5));
            recent.accepted(id(*n), recent.fingerprint(body), Timestamp(5));
            assert_eq!(recent.recall(id(*n), body), Recall::Retry { at: Timestamp(5), seq: None });
            recent.stored(event);
            assert_eq!(recent.recall(id(*n), body), Recall::Unknown, "{n}");
        }
        recent.accepted(id(4), recent.fingerprint(&edit), Timestamp(5));
        recent.stored(&stored(4, &edit));
        assert_eq!(recent.recall(id(4), &edit), Recall::Retry { at: Timestamp(5), seq: Some(Seq(7)) });
        assert_eq!(recent.recall(id(4), &other), Recall::Reused, "it has the words that it came with");
        recent.accepted(id(3), recent.fingerprint(&delete), Timestamp(5));
        recent.stored(&stored(3, &delete));
        assert_eq!(recent.recall(id(3), &delete), Recall::Retry { at: Timestamp(5), seq: Some(Seq(7)) });
        assert_eq!(recent.recall(id(3), &edit), Recall::Reused, "a deletion has no words that could change");
    }

    #[test]
    fn what_another_node_accepted_is_not_remembered() {
        let recent = Recent::default();
        recent.stored(&event(1, "a", 7));
        assert_eq!(recent.recall(id(1), &body("a")), Recall::Unknown);
    }

    #[test]
    fn the_last_records_are_known_and_memory_is_bounded() {
        let recent = Recent::default();
        let print = recent.fingerprint(&body("a"));
        for n in 0..=2 * GENERATION {
            recent.accepted(id(n), print, Timestamp(0));
        }
        assert_eq!(recent.recall(id(0), &body("a")), Recall::Unknown);
        assert!(matches!(recent.recall(id(GENERATION + 1), &body("a")), Recall::Retry { .. }));
        let generations = recent.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
