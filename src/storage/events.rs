//! Port: history as it is read.

use async_trait::async_trait;

use super::StorageError;
use crate::domain::{ConversationId, Event, LogNumber, Offset, Outcome, Partition, Seq};

/// Which part of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Page {
    /// The events just after this seq, oldest first.
    After(Seq),
    /// The events just before this seq, newest first.
    Before(Seq),
    /// The newest events but `skip`, newest first.
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

/// History. Each method is one snapshot.
#[async_trait]
pub trait Events: Send + Sync {
    /// A page of at most `limit` events; empty for a conversation without events.
    async fn page(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError>;

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
