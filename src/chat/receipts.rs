//! How far each member has got: collected on this node, flushed every 250 ms in one statement, told to the
//! members. They do not pass through the log: a cursor that only grows needs no order.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::{Member, history};
use crate::app::App;
use crate::domain::{ConversationId, Error, Frontier, Seq, UserId};
use crate::storage::{Move, Receipt, StorageError};

/// Members whose cursors may wait for storage; more are refused until some have been flushed, and are
/// confirmed again by the next pong, `received` or resume.
const PENDING_MAX: usize = 100_000;

/// Moves on their way to storage, merged by member.
#[derive(Debug, Default)]
pub struct Pending {
    moves: Mutex<HashMap<(ConversationId, UserId), Vec<Move>>>,
    some: Notify,
}

impl Pending {
    /// Adds a move.
    pub fn add(&self, new: Move) {
        let mut moves = self.lock();
        let was_empty = moves.is_empty();
        if moves.len() >= PENDING_MAX && !moves.contains_key(&(new.conversation, new.user)) {
            return;
        }
        merge(moves.entry((new.conversation, new.user)).or_default(), new);
        drop(moves);
        if was_empty {
            self.some.notify_one();
        }
    }

    /// Waits until there is something to flush.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    fn take(&self) -> Vec<Move> {
        let mut moves: Vec<Move> = std::mem::take(&mut *self.lock()).into_values().flatten().collect();
        moves.sort_by_key(|one| (one.conversation, one.user, one.delivered_from));
        moves
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(ConversationId, UserId), Vec<Move>>> {
        self.moves.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Joins a move to those of the same member: ranges that touch become one, others stay apart, in order.
fn merge(moves: &mut Vec<Move>, new: Move) {
    for old in moves.iter_mut() {
        let touches =
            new.delivered_from <= old.delivered_to.next() && old.delivered_from <= new.delivered_to.next();
        if touches || new.delivered_to == Seq(0) {
            if new.delivered_to != Seq(0) {
                old.delivered_from = old.delivered_from.min(new.delivered_from);
                old.delivered_to = old.delivered_to.max(new.delivered_to);
            }
            old.read = old.read.max(new.read);
            return;
        }
    }
    moves.push(new);
}

/// A device confirmed the events `from..=to`, all of which it was given.
pub fn delivered(app: &App, member: Member, from: Seq, to: Seq) {
    let (conversation, user) = (member.conversation(), member.user());
    app.pending.add(Move { conversation, user, delivered_from: from, delivered_to: to, read: Seq(0) });
}

/// A device says `received`: everything up to `seq`, gaps included. `known` is the highest seq that the
/// caller knows to exist; beyond it storage is asked.
pub async fn received(app: &App, member: Member, seq: Seq, known: Seq) -> Result<(), Error> {
    check(app, member, seq, known).await?;
    delivered(app, member, Seq(1), seq);
    Ok(())
}

/// A device says `read`: everything up to `seq`; implies `received`.
pub async fn read(app: &App, member: Member, seq: Seq, known: Seq) -> Result<(), Error> {
    check(app, member, seq, known).await?;
    let (conversation, user) = (member.conversation(), member.user());
    app.pending.add(Move { conversation, user, delivered_from: Seq(1), delivered_to: seq, read: seq });
    Ok(())
}

/// The same for who is answered only then: it is stored, told to the members, and seen by whoever asks next.
pub async fn read_now(app: &App, member: Member, seq: Seq) -> Result<(), Error> {
    check(app, member, seq, Seq(0)).await?;
    let (conversation, user) = (member.conversation(), member.user());
    let step = Move { conversation, user, delivered_from: Seq(1), delivered_to: seq, read: seq };
    let moved = app.storage.advance(&[step]).await?;
    tell(app, moved).await;
    Ok(())
}

async fn tell(app: &App, moved: Vec<Receipt>) {
    if let Err(error) = app.fanout.receipts(moved).await {
        tracing::warn!(%error, "receipts were stored but not told");
    }
}

async fn check(app: &App, member: Member, seq: Seq, known: Seq) -> Result<(), Error> {
    if seq < Seq(1) {
        return Err(Error::invalid("seq", "a seq begins at 1"));
    }
    if seq > known && seq > history::last_seq(app, member).await? {
        return Err(Error::invalid("seq", "the conversation has not come so far"));
    }
    Ok(())
}

/// Writes what has been collected and tells the members. On an error everything is kept for the next time.
pub async fn flush(app: &App) -> Result<(), StorageError> {
    let moves = app.pending.take();
    if moves.is_empty() {
        return Ok(());
    }
    match app.storage.advance(&moves).await {
        Ok(moved) => {
            tell(app, moved).await;
            Ok(())
        }
        Err(error) => {
            moves.into_iter().for_each(|one| app.pending.add(one));
            Err(error)
        }
    }
}

/// A cursor that a device came back with confirms everything that it covers.
pub async fn confirm_frontier(app: &App, user: UserId, frontier: &Frontier) -> Result<(), Error> {
    let moved = app.storage.confirm_frontier(user, frontier).await?;
    tell(app, moved).await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(from: i64, to: i64, read: i64) -> Move {
        let (a, b) = (UserId::new(1).unwrap(), UserId::new(2).unwrap());
        let conversation = ConversationId::dm(a, b).unwrap();
        Move { conversation, user: a, delivered_from: Seq(from), delivered_to: Seq(to), read: Seq(read) }
    }

    fn merged(moves: &[Move]) -> Vec<Move> {
        moves.iter().fold(Vec::new(), |mut all, one| {
            merge(&mut all, *one);
            all
        })
    }

    #[test]
    fn ranges_that_touch_become_one_and_a_hole_stays_a_hole() {
        assert_eq!(merged(&[range(1, 2, 0), range(3, 4, 0)]), [range(1, 4, 0)]);
        assert_eq!(merged(&[range(5, 6, 0), range(1, 4, 3)]), [range(1, 6, 3)]);
        assert_eq!(merged(&[range(1, 2, 0), range(4, 5, 0)]), [range(1, 2, 0), range(4, 5, 0)]);
    }
}
