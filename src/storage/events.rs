//! Port: history as it is read.

use std::collections::HashMap;

use async_trait::async_trait;

use super::StorageError;
use crate::domain::history::Stored;
use crate::domain::{ConversationId, Event, LogNumber, MessageId, Offset, Outcome, Partition, Seq};

/// Which messages of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// Those just after this seq, oldest first.
    After(Seq),
    /// Those just before this seq, newest first.
    Before(Seq),
    /// The newest but `skip`, newest first.
    Newest {
        /// How many of the newest to leave out.
        skip: u32,
    },
}

/// One page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageOf<T> {
    /// Its rows, in the order of the `Page` asked for.
    pub rows: Vec<T>,
    /// Whether there are more in that direction.
    pub has_more: bool,
}

/// What a scan of a partition found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Events and rejections in offset order.
    pub outcomes: Vec<Outcome>,
    /// Nothing up to this offset is missing from `outcomes` or from what was known before.
    pub through: Offset,
}

/// History. Each method is one snapshot. Messages and edits have the words of now: the last ones, and none once the
/// message was deleted.
#[async_trait]
pub trait Events: Send + Sync {
    /// The events just after a seq, at most `limit`, oldest first: every seq. Empty for a conversation without events.
    async fn events(
        &self,
        conversation: ConversationId,
        after: Seq,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError>;

    /// A page of at most `limit` messages, and of nothing else that has a seq.
    async fn messages(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError>;

    /// Those of these records that are stored in a conversation, as later ones are judged by them.
    async fn stored(
        &self,
        conversation: ConversationId,
        ids: &[MessageId],
    ) -> Result<HashMap<MessageId, Stored>, StorageError>;

    /// The last seq of a conversation; 0 without events.
    async fn last_seq(&self, conversation: ConversationId) -> Result<Seq, StorageError>;

    /// What was stored from a partition after an offset, at most `limit` outcomes: the one repair path.
    /// `through` is the partition's applied offset where all was returned, else that of the last outcome.
    async fn scan(
        &self,
        log: LogNumber,
        partition: Partition,
        after: Offset,
        limit: u32,
    ) -> Result<Scanned, StorageError>;
}
