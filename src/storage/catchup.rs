//! Port: what a device missed.

use async_trait::async_trait;

use super::{Receipt, StorageError};
use crate::domain::{ConversationId, ConversationKey, Frontier, Rejection, Seq, UserId};

/// From where a device wants to catch up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Since {
    /// Its cursor.
    Frontier(Frontier),
    /// What this user's devices have confirmed, conversation by conversation.
    Confirmed,
    /// The first event: a damaged cursor, or one of another deployment.
    Beginning,
}

/// A conversation with events that the device has not seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Storage's own number for the conversation: from where to go on.
    pub key: ConversationKey,
    /// The conversation.
    pub conversation: ConversationId,
    /// The first missed seq.
    pub from: Seq,
    /// The last one within the frontier asked for.
    pub to: Seq,
    /// Others' messages after the user's own `read` and up to `to`, at most 1,000.
    pub unread: u32,
    /// Every member's cursors.
    pub receipts: Vec<Receipt>,
}

/// Catching up.
#[async_trait]
pub trait Catchup: Send + Sync {
    /// The user's conversations with events after `since` and within `until`, by their internal key, at most
    /// `limit` of those behind the key `after`. Few statements whatever their number. (A key, not a count:
    /// what is confirmed meanwhile leaves the list, and must not shift what comes next.)
    async fn missed(
        &self,
        user: UserId,
        since: &Since,
        until: &Frontier,
        after: Option<ConversationKey>,
        limit: u32,
    ) -> Result<Vec<Missed>, StorageError>;

    /// The user's rejections after a frontier (`None`: all that are kept) and within `until`, in order, at
    /// most `limit` newest.
    async fn rejections(
        &self,
        user: UserId,
        since: Option<&Frontier>,
        until: &Frontier,
        limit: u32,
    ) -> Result<Vec<Rejection>, StorageError>;
}
