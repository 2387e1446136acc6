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
    /// Moves of one member count together, whatever their order. Moves beyond a conversation's last seq end at
    /// it; moves of non-members do nothing. Returns the new cursors of those that moved, by conversation and
    /// user.
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

/// Moves by conversation and user, so that each can be judged by itself: those of a member have the greatest
/// `read` of all of them, and ranges in order that do not touch.
pub(in crate::storage) fn in_order(moves: &[Move]) -> Vec<Move> {
    let mut sorted = moves.to_vec();
    sorted.sort_by_key(|each| (each.conversation, each.user, each.delivered_from));
    let mut apart: Vec<Move> = Vec::with_capacity(sorted.len());
    for each in sorted {
        match apart.last_mut() {
            // What moves nothing comes first, from 0 to 0, and touches whatever follows.
            Some(last) if same_member(last, &each) && each.delivered_from <= last.delivered_to.next() => {
                last.delivered_to = last.delivered_to.max(each.delivered_to);
                last.read = last.read.max(each.read);
            }
            _ => apart.push(each),
        }
    }
    for member in apart.chunk_by_mut(same_member) {
        let read = member.iter().map(|each| each.read).max().unwrap_or_default();
        member.iter_mut().for_each(|each| each.read = read);
    }
    apart
}

fn same_member(a: &Move, b: &Move) -> bool {
    (a.conversation, a.user) == (b.conversation, b.user)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(who: i64, from: i64, to: i64, read: i64) -> Move {
        let user = |id| UserId::new(id).unwrap();
        let conversation = ConversationId::dm(user(1), user(2)).unwrap();
        Move {
            conversation,
            user: user(who),
            delivered_from: Seq(from),
            delivered_to: Seq(to),
            read: Seq(read),
        }
    }

    #[test]
    fn moves_of_a_member_become_ranges_that_do_not_touch() {
        let moves =
            [step(2, 8, 9, 0), step(1, 1, 1, 0), step(2, 3, 4, 0), step(2, 0, 0, 2), step(2, 5, 6, 1)];
        assert_eq!(
            in_order(&moves),
            [step(1, 1, 1, 0), step(2, 0, 0, 2), step(2, 3, 6, 2), step(2, 8, 9, 2)]
        );
    }
}
