//! How far each member has got.

use async_trait::async_trait;
use chatd::domain::{ConversationId, Frontier, Seq, UserId};
use chatd::storage::{Move, Receipt, Receipts, StorageError};

use super::reads::receipts_of;
use super::{Cursors, SimStore};
use crate::mutant::Mutant;
use crate::world::World;

impl World {
    fn advance(&mut self, one: &Move) -> Option<Receipt> {
        let found = self.store.conversations.get(&one.conversation)?;
        let last = found.last_seq();
        let now = *found.members.get(&one.user)?;
        let mut next = now;
        let touches = one.delivered_from <= now.delivered.next() || self.has(Mutant::DeliveredSkips);
        if touches && one.delivered_to > Seq(0) {
            next.delivered = one.delivered_to.min(last);
            if !self.has(Mutant::DeliveredBack) {
                next.delivered = next.delivered.max(now.delivered);
            }
        }
        next.read = now.read.max(one.read.min(last));
        next.delivered = next.delivered.max(next.read);
        self.set_cursors(one.conversation, one.user, now, next)
    }

    fn confirm(&mut self, user: UserId, frontier: &Frontier) -> Vec<Receipt> {
        let mut moved = Vec::new();
        for conversation in self.store.of_user.get(&user).cloned().unwrap_or_default() {
            let found = &self.store.conversations[&conversation];
            let now = found.members[&user];
            if now.gap_to > now.delivered && !self.has(Mutant::CursorConfirmsGaps) {
                continue;
            }
            let next = Cursors { delivered: found.covered(frontier).max(now.delivered), ..now };
            moved.extend(self.set_cursors(conversation, user, now, next));
        }
        moved
    }

    fn set_cursors(
        &mut self,
        conversation: ConversationId,
        user: UserId,
        now: Cursors,
        next: Cursors,
    ) -> Option<Receipt> {
        if (now.delivered, now.read) == (next.delivered, next.read) {
            return None;
        }
        self.checker.delivered(conversation, user, now.delivered, next.delivered);
        self.store.conversations.get_mut(&conversation)?.members.insert(user, next);
        self.sync();
        Some(Receipt { conversation, user, delivered: next.delivered, read: next.read })
    }
}

#[async_trait]
impl Receipts for SimStore {
    async fn advance(&self, moves: &[Move]) -> Result<Vec<Receipt>, StorageError> {
        self.reach().await?;
        let moved: Vec<_> = {
            let mut world = self.0.lock();
            moves.iter().filter_map(|one| world.advance(one)).collect()
        };
        self.answer(moved).await
    }

    async fn confirm_frontier(
        &self,
        user: UserId,
        frontier: &Frontier,
    ) -> Result<Vec<Receipt>, StorageError> {
        self.reach().await?;
        let moved = self.0.lock().confirm(user, frontier);
        self.answer(moved).await
    }

    async fn name_gaps(&self, user: UserId, gaps: &[(ConversationId, Seq)]) -> Result<(), StorageError> {
        self.reach().await?;
        {
            let mut world = self.0.lock();
            for (conversation, to) in gaps {
                let found = world.store.conversations.get_mut(conversation);
                if let Some(cursors) = found.and_then(|found| found.members.get_mut(&user)) {
                    cursors.gap_to = cursors.gap_to.max(*to);
                }
            }
            world.sync();
        }
        self.answer(()).await
    }

    async fn receipts(&self, conversation: ConversationId) -> Result<Vec<Receipt>, StorageError> {
        self.reach().await?;
        let receipts = receipts_of(&self.0.lock().store, conversation);
        self.answer(receipts).await
    }
}
