//! `Receipts` on SQLite.

use std::collections::BTreeMap;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::connection::durably;
use super::error::Fault;
use super::rows;
use super::seek::{self, Reach};
use super::statement::statement;
use crate::domain::{ConversationId, Frontier, Seq, UserId};
use crate::storage::receipts::in_order;
use crate::storage::{Move, Receipt, Receipts, StorageError};

#[async_trait]
impl Receipts for SqliteStore {
    async fn advance(&self, moves: &[Move]) -> Result<Vec<Receipt>, StorageError> {
        if moves.is_empty() {
            return Ok(Vec::new());
        }
        let moves = in_order(moves);
        self.write(move |conn| durably(conn, |conn| advance(conn, &moves))).await
    }

    async fn confirm_frontier(
        &self,
        user: UserId,
        frontier: &Frontier,
    ) -> Result<Vec<Receipt>, StorageError> {
        let frontier = frontier.clone();
        self.write(move |conn| durably(conn, |conn| confirm(conn, user, &frontier))).await
    }

    async fn name_gaps(&self, user: UserId, gaps: &[(ConversationId, Seq)]) -> Result<(), StorageError> {
        if gaps.is_empty() {
            return Ok(());
        }
        let gaps = gaps.to_vec();
        self.write(move |conn| {
            durably(conn, |conn| {
                for (conversation, to) in &gaps {
                    name_gap(conn, to.0, user.get(), &conversation.to_string())?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn receipts(&self, conversation: ConversationId) -> Result<Vec<Receipt>, StorageError> {
        self.read(move |conn| {
            select_receipts(conn, &conversation.to_string())?
                .into_iter()
                .map(|(user, delivered, read)| receipt(conversation, user, delivered, read))
                .collect()
        })
        .await
    }
}

/// A receipt from its columns.
pub(super) fn receipt(
    conversation: ConversationId,
    user: i64,
    delivered: i64,
    read: i64,
) -> Result<Receipt, Fault> {
    Ok(Receipt { conversation, user: rows::user_id(user)?, delivered: Seq(delivered), read: Seq(read) })
}

fn advance(conn: &mut SqliteConnection, moves: &[Move]) -> Result<Vec<Receipt>, Fault> {
    let mut moved = BTreeMap::new();
    for each in moves {
        let (conversation, user) = (each.conversation, each.user);
        let rows = select_member(conn, &conversation.to_string(), user.get())?;
        let Some(&(key, last, delivered, read)) = rows.first() else { continue };
        let now = Receipt { conversation, user, delivered: Seq(delivered), read: Seq(read) };
        if let Some(next) = advanced(now, each, Seq(last)) {
            update_member(conn, next.delivered.0, next.read.0, key, user.get())?;
            moved.insert((conversation, user), next);
        }
    }
    Ok(moved.into_values().collect())
}

/// A member's cursors after a move, where they move at all.
fn advanced(now: Receipt, step: &Move, last: Seq) -> Option<Receipt> {
    let mut next = now;
    next.read = next.read.max(step.read.min(last));
    next.delivered = next.delivered.max(next.read);
    // Contiguous: what was not confirmed stays a hole, and the cursor stays before it.
    if step.delivered_from <= next.delivered.next() {
        next.delivered = next.delivered.max(step.delivered_to.min(last));
    }
    (next != now).then_some(next)
}

fn confirm(conn: &mut SqliteConnection, user: UserId, frontier: &Frontier) -> Result<Vec<Receipt>, Fault> {
    let mut moved = Vec::new();
    for row in select_unconfirmed(conn, user.get())? {
        let (id, key, last, delivered, read, (log, partition, offset)) = row;
        let last_position = rows::position(log, partition, offset)?;
        let reach = Reach { key, last: Seq(last), last_position };
        let covered = seek::covered(conn, &reach, Seq(delivered), frontier)?;
        if covered > Seq(delivered) {
            update_member(conn, covered.0, read, key, user.get())?;
            moved.push(receipt(rows::conversation_id(&id)?, user.get(), covered.0, read)?);
        }
    }
    Ok(moved)
}

statement!(
    fn select_member(conversation: &'a str, user: i64) -> (i64, i64, i64, i64) =
        "SELECT c.conversation_key, c.last_seq, m.delivered, m.read
         FROM conversations AS c JOIN members AS m ON m.conversation_key = c.conversation_key
         WHERE c.id = ? AND m.user_id = ?"
);

statement!(
    fn update_member(delivered: i64, read: i64, key: i64, user: i64) =
        "UPDATE members SET delivered = ?, read = ? WHERE conversation_key = ? AND user_id = ?"
);

statement!(
    fn select_unconfirmed(user: i64) -> (String, i64, i64, i64, i64, (i32, i64, i64)) =
        "SELECT c.id, c.conversation_key, c.last_seq, m.delivered, m.read, c.last_log, c.last_partition,
                c.last_offset
         FROM members AS m JOIN conversations AS c ON c.conversation_key = m.conversation_key
         WHERE m.user_id = ? AND m.delivered < c.last_seq AND m.gap_to <= m.delivered
         ORDER BY m.conversation_key"
);

statement!(
    fn name_gap(to: i64, user: i64, conversation: &'a str) =
        "UPDATE members SET gap_to = max(gap_to, ?)
         WHERE user_id = ?
           AND conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?)"
);

statement!(
    fn select_receipts(conversation: &'a str) -> (i64, i64, i64) =
        "SELECT m.user_id, m.delivered, m.read
         FROM conversations AS c JOIN members AS m ON m.conversation_key = c.conversation_key
         WHERE c.id = ? ORDER BY m.user_id"
);

#[cfg(test)]
mod tests {
    use super::*;

    fn at(delivered: i64, read: i64) -> Receipt {
        let (low, high) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let conversation = ConversationId::dm(low, high).unwrap();
        Receipt { conversation, user: low, delivered: Seq(delivered), read: Seq(read) }
    }

    fn step(from: i64, to: i64, read: i64) -> Move {
        let Receipt { conversation, user, .. } = at(0, 0);
        Move { conversation, user, delivered_from: Seq(from), delivered_to: Seq(to), read: Seq(read) }
    }

    #[test]
    fn cursors_only_grow_without_a_hole_and_not_beyond_the_end() {
        for (now, each, then) in [
            (at(3, 1), step(4, 6, 0), Some(at(6, 1))),
            (at(3, 1), step(2, 6, 0), Some(at(6, 1))),
            (at(3, 1), step(5, 6, 0), None),
            (at(3, 1), step(1, 2, 1), None),
            (at(3, 1), step(4, 99, 0), Some(at(9, 1))),
            (at(3, 1), step(0, 0, 5), Some(at(5, 5))),
            (at(3, 1), step(0, 0, 99), Some(at(9, 9))),
            (at(3, 3), step(0, 0, 0), None),
        ] {
            assert_eq!(advanced(now, &each, Seq(9)), then, "{now:?} {each:?}");
        }
    }
}
