//! Port: reading storage to prove that it says what the log says. Nothing here is needed to serve anybody.

use std::collections::HashMap;
use std::ops::Range;

use async_trait::async_trait;

use super::StorageError;
use crate::domain::history::Asked;
use crate::domain::{ConversationId, ConversationKey, LogNumber, MessageId, Offset, Partition, UserId};

/// What storage keeps of one record of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// An event.
    Event {
        /// Where.
        conversation: ConversationId,
        /// The record's id.
        id: MessageId,
        /// Whose it is.
        from: UserId,
        /// What it asked for; `None` where nothing tells that any more.
        asked: Option<Asked>,
        /// It is a message whose content is gone.
        erased: bool,
    },
    /// A rejection of the record with this id.
    Rejection(MessageId),
    /// A dead letter.
    DeadLetter,
}

/// What is wrong within some conversations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Disorder {
    /// How many conversations were looked at.
    pub conversations: u32,
    /// The last of them; the next call goes on after it. `None`: there are no more.
    pub last: Option<ConversationKey>,
    /// Those that are not in order, each with what is wrong, in a sentence without content.
    pub broken: Vec<(ConversationId, String)>,
}

impl Disorder {
    /// What is wrong with these conversations (key, id, last seq by the head, in the order of keys), by their
    /// events (key, how many, the first and the last seq, how many before their predecessor) and by how many
    /// members' cursors point beyond the head (key, how many).
    pub(super) fn judge(
        heads: Vec<(i64, ConversationId, i64)>,
        events: Vec<(i64, i64, i64, i64, i64)>,
        beyond: Vec<(i64, i64)>,
    ) -> Self {
        let events: HashMap<_, _> = events
            .into_iter()
            .map(|(key, count, first, last, late)| (key, (count, first, last, late)))
            .collect();
        let beyond: HashMap<_, _> = beyond.into_iter().collect();
        let mut found = Self {
            conversations: u32::try_from(heads.len()).unwrap_or(u32::MAX),
            last: heads.last().map(|(key, ..)| ConversationKey(*key)),
            broken: Vec::new(),
        };
        for (key, id, last_seq) in heads {
            let counts = events.get(&key).copied().unwrap_or_default();
            let beyond = beyond.get(&key).copied().unwrap_or_default();
            found.broken.extend(sentences(last_seq, counts, beyond).map(|what| (id, what)));
        }
        found
    }
}

/// What is wrong with one conversation.
fn sentences(
    last_seq: i64,
    (count, first, last, disordered): (i64, i64, i64, i64),
    beyond: i64,
) -> impl Iterator<Item = String> {
    let whole = (count, first, last) == (last_seq, 1, last_seq);
    let gap =
        (!whole).then(|| format!("{count} events, seqs {first} to {last}, where its head says {last_seq}"));
    let order =
        (disordered > 0).then(|| format!("{disordered} events lie before their predecessor in log or time"));
    let cursors =
        (beyond > 0).then(|| format!("the cursors of {beyond} members point beyond seq {last_seq}"));
    [gap, order, cursors].into_iter().flatten()
}

/// Auditing. Each method is one snapshot.
#[async_trait]
pub trait Audit: Send + Sync {
    /// What is kept of the records at these offsets of a partition, by offset; nothing for one that changed
    /// nothing (a retry).
    async fn kept(
        &self,
        log: LogNumber,
        partition: Partition,
        offsets: Range<Offset>,
    ) -> Result<Vec<(Offset, Kept)>, StorageError>;

    /// Whether each of these records is in history, wherever it came from.
    async fn is_stored(&self, records: &[(ConversationId, MessageId)]) -> Result<Vec<bool>, StorageError>;

    /// How many events came from a record below these offsets of their partition, or from a log before this
    /// one: the log does not hold it any more.
    async fn aged_out(&self, log: LogNumber, starts: &[Offset]) -> Result<u64, StorageError>;

    /// Looks at the next `limit` conversations: seqs 1, 2, 3 … without a gap up to the head, positions and times
    /// that never decrease along them, cursors of members that do not point beyond.
    async fn disorder(&self, after: Option<ConversationKey>, limit: u32) -> Result<Disorder, StorageError>;
}
