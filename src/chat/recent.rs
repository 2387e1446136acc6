//! What this node accepted lately, so that a retry is answered at once and a reused client_id is refused
//! before it reaches the log. Only a hint: the applier decides (`domain::history`).

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::{MessageBody, MessageId, RecordBody, Seq, Timestamp};

/// Records of one generation; two are kept, about 100 bytes a record.
const GENERATION: usize = 50_000;

/// What is known of an accepted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// When it was accepted.
    pub at: Timestamp,
    /// Its seq, once it is stored.
    pub seq: Option<Seq>,
    fingerprint: u64,
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
    Retry(Remembered),
    /// The same id was used for something else.
    Reused,
}

impl Recent {
    /// What is known of a record.
    pub fn recall(&self, id: MessageId, body: &RecordBody) -> Recall {
        let Some(known) = self.lock().get(id).copied() else { return Recall::Unknown };
        if known.fingerprint == self.fingerprint(body) { Recall::Retry(known) } else { Recall::Reused }
    }

    /// The record is durable in the log.
    pub fn accepted(&self, id: MessageId, fingerprint: u64, at: Timestamp) {
        self.lock().insert(id, Remembered { at, seq: None, fingerprint });
    }

    /// The record is stored. One that this node did not accept is not remembered.
    pub fn stored(&self, id: MessageId, seq: Seq) {
        if let Some(known) = self.lock().get(id) {
            known.seq = Some(seq);
        }
    }

    /// A number that tells two bodies apart.
    pub fn fingerprint(&self, body: &RecordBody) -> u64 {
        let RecordBody::Message(MessageBody { content, data, reply_to }) = body;
        self.hasher.hash_one((content, data.as_ref().map(|data| data.as_str()), reply_to))
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientId, Content, ConversationId, UserId};

    fn id(n: usize) -> MessageId {
        let user = |id| UserId::new(id).unwrap();
        let conversation = ConversationId::dm(user(1), user(2)).unwrap();
        MessageId::derive(conversation, user(1), &ClientId::new(n.to_string()).unwrap())
    }

    fn body(text: &str) -> RecordBody {
        RecordBody::Message(MessageBody { content: Content::new(text).unwrap(), data: None, reply_to: None })
    }

    #[test]
    fn a_retry_is_known_with_its_seq_and_a_reuse_is_told_apart() {
        let recent = Recent::default();
        assert_eq!(recent.recall(id(1), &body("a")), Recall::Unknown);
        recent.accepted(id(1), recent.fingerprint(&body("a")), Timestamp(5));
        recent.stored(id(1), Seq(7));
        let Recall::Retry(known) = recent.recall(id(1), &body("a")) else { panic!("not known") };
        assert_eq!((known.at, known.seq), (Timestamp(5), Some(Seq(7))));
        assert_eq!(recent.recall(id(1), &body("b")), Recall::Reused);
    }

    #[test]
    fn the_last_records_are_known_and_memory_is_bounded() {
        let recent = Recent::default();
        let print = recent.fingerprint(&body("a"));
        for n in 0..=2 * GENERATION {
            recent.accepted(id(n), print, Timestamp(0));
        }
        assert_eq!(recent.recall(id(0), &body("a")), Recall::Unknown);
        assert!(matches!(recent.recall(id(GENERATION + 1), &body("a")), Recall::Retry(_)));
        let generations = recent.lock();
        assert!(generations.young.len() + generations.old.len() <= 2 * GENERATION);
    }
}
