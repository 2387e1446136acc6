//! Where in a conversation a frontier lies. Within a conversation positions grow with seq, so that a binary
//! search over seqs finds it: a dozen look-ups (function calls here, not round trips) at any length and age,
//! without another index on events.

use diesel::sqlite::SqliteConnection;

use super::error::Fault;
use super::rows;
use super::statement::statement;
use crate::domain::{Frontier, Position, Seq};

/// The head of a conversation as its row has it.
pub(super) struct Reach {
    pub(super) key: i64,
    pub(super) last: Seq,
    pub(super) last_position: Position,
}

/// The last seq that a frontier covers, or `known` where that is greater.
pub(super) fn covered(
    conn: &mut SqliteConnection,
    conversation: &Reach,
    known: Seq,
    frontier: &Frontier,
) -> Result<Seq, Fault> {
    if conversation.last <= known || frontier.covers(conversation.last_position) {
        return Ok(conversation.last.max(known));
    }
    // Invariant: `low` is covered or `known`, `high` is not covered. The end moves in growing steps first, as
    // most frontiers lie near the head.
    let (mut low, mut high) = (known.0, conversation.last.0);
    let mut step = 1;
    while high - low > 1 {
        let middle = if step > 0 { (high - step).max(low + 1) } else { low + (high - low) / 2 };
        if frontier.covers(position_of(conn, conversation.key, middle)?) {
            low = middle;
            step = 0;
        } else {
            high = middle;
            step *= 2;
        }
    }
    Ok(Seq(low))
}

fn position_of(conn: &mut SqliteConnection, key: i64, seq: i64) -> Result<Position, Fault> {
    let rows = select_position(conn, key, seq)?;
    let &(log, partition, offset) =
        rows.first().ok_or_else(|| Fault::refused("a conversation with a missing seq"))?;
    rows::position(log, partition, offset)
}

statement!(
    fn select_position(key: i64, seq: i64) -> (i32, i64, i64) =
        "SELECT log_number, partition, log_offset FROM events WHERE conversation_key = ? AND seq = ?"
);
