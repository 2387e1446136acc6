//! Port: how far each member has got. Cursors only grow.

use async_trait::async_trait;

use super::StorageError;
use crate::domain::{ConversationId, Frontier, Seq, UserId};

/// What a device says about a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Move {
    /// The conversation.
    pub conversation: ConversationId,
    /// Whose device.
    pub user: UserId,
    /// `delivered` moves to `delivered_to` where it has reached `delivered_from - 1`; 0 to 0 moves nothing.
    pub delivered_from: Seq,
    /// See `delivered_from`.
    pub delivered_to: Seq,
    /// `read` and `delivered` move here; 0 moves nothing.
    pub read: Seq,
}

/// A member's cursors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Receipt {
    /// The conversation.
    pub conversation: ConversationId,
    /// The member.
    pub user: UserId,
    /// Confirmed, or fetched, without a hole up to here.
    pub delivered: Seq,
    /// Read up to here; never above `delivered`.
    pub read: Seq,
}

/// Receipts.
#[async_trait]
pub trait Receipts: Send + Sync {
    /// Applies moves in one transaction, sorted by conversation and user so that two nodes never deadlock.
    /// Moves beyond a conversation's last seq end at it; moves of non-members do nothing. Returns the new
    /// cursors of those that moved.
    async fn advance(&self, moves: &[Move]) -> Result<Vec<Receipt>, StorageError>;

    /// A cursor confirms: in each of the user's conversations `delivered` moves to the last event that the
    /// frontier covers, except where a gap was named that is not yet confirmed (`delivered` below it).
    /// Returns those that moved.
    async fn confirm_frontier(&self, user: UserId, frontier: &Frontier)
    -> Result<Vec<Receipt>, StorageError>;

    /// Remembers that a gap up to this seq was named to a device, before the device is told.
    async fn name_gaps(&self, user: UserId, gaps: &[(ConversationId, Seq)]) -> Result<(), StorageError>;

    /// Every member's cursors of one conversation; empty before its first event.
    async fn receipts(&self, conversation: ConversationId) -> Result<Vec<Receipt>, StorageError>;
}
