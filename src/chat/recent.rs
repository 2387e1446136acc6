//! What this node accepted lately, so that a retry is answered at once and a reused client_id is refused
//! before it reaches the log. Only a hint: the applier decides (`domain::history`).

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use moka::sync::Cache;

use crate::domain::{MessageBody, MessageId, RecordBody, Seq, Timestamp};

/// Records kept at most; about 100 bytes each.
const RECORDS_MAX: u64 = 100_000;
/// How long a retry is likely to come.
const KEPT: Duration = Duration::from_secs(600);

/// What is known of an accepted record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Remembered {
    /// When it was accepted.
    pub at: Timestamp,
    /// Its seq, once it is stored.
    pub seq: Option<Seq>,
    fingerprint: u64,
}

/// The memory; a clone shares it.
#[derive(Clone)]
pub struct Recent {
    records: Cache<MessageId, Remembered>,
    hasher: RandomState,
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

impl Default for Recent {
    fn default() -> Self {
        let records = Cache::builder().max_capacity(RECORDS_MAX).time_to_live(KEPT).build();
        Self { records, hasher: RandomState::new() }
    }
}

impl Recent {
    /// What is known of a record.
    pub fn recall(&self, id: MessageId, body: &RecordBody) -> Recall {
        match self.records.get(&id) {
            None => Recall::Unknown,
            Some(known) if known.fingerprint == self.fingerprint(body) => Recall::Retry(known),
            Some(_) => Recall::Reused,
        }
    }

    /// The record is durable in the log.
    pub fn accepted(&self, id: MessageId, fingerprint: u64, at: Timestamp) {
        self.records.insert(id, Remembered { at, seq: None, fingerprint });
    }

    /// The record is stored. One that this node did not accept is not remembered.
    pub fn stored(&self, id: MessageId, seq: Seq) {
        if let Some(known) = self.records.get(&id) {
            self.records.insert(id, Remembered { seq: Some(seq), ..known });
        }
    }

    /// A number that tells two bodies apart.
    pub fn fingerprint(&self, body: &RecordBody) -> u64 {
        let RecordBody::Message(MessageBody { content, data, reply_to }) = body;
        self.hasher.hash_one((content, data.as_ref().map(|data| data.as_str()), reply_to))
    }
}
