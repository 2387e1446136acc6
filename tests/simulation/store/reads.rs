//! History as it is read: pages, scans, and what a device missed.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use chatd::domain::history::Stored;
use chatd::domain::{
    ConversationId, ConversationKey, Event, EventBody, Frontier, LogNumber, MessageId, Offset, Outcome,
    Partition, Rejection, Seq, UserId,
};
use chatd::storage::{Catchup, Events, Missed, Page, PageOf, Receipt, Scanned, Since, StorageError};

use super::{Conversation, SimStore, Store};
use crate::mutant::Mutant;
use crate::world::World;

/// The most that `unread` counts.
const UNREAD_MAX: usize = 1_000;
/// How many events the replica of `Mutant::StaleReads` lags behind.
const REPLICA_LAG: usize = 2;

impl World {
    /// How many events of a conversation reads see.
    fn visible(&self, conversation: &Conversation) -> usize {
        let lag = if self.has(Mutant::StaleReads) && !self.healing { REPLICA_LAG } else { 0 };
        conversation.events.len().saturating_sub(lag)
    }

    /// The events after a seq that are wanted.
    fn page(
        &self,
        conversation: ConversationId,
        after: Seq,
        limit: usize,
        wanted: fn(&Event) -> bool,
    ) -> PageOf<Event> {
        let Some(found) = self.store.conversations.get(&conversation) else {
            return PageOf { rows: Vec::new(), has_more: false };
        };
        let events = found.events[..self.visible(found)].iter();
        let mut later = events.filter(|event| event.seq > after && wanted(event));
        let rows = later.by_ref().take(limit).map(|event| self.as_read(event)).collect();
        PageOf { rows, has_more: later.next().is_some() }
    }

    fn as_read(&self, event: &Event) -> Event {
        if self.has(Mutant::ReadsOldWords) { event.clone() } else { self.store.as_read(event) }
    }

    fn scan(&self, partition: Partition, after: Offset, limit: usize) -> Scanned {
        let end = self.store.rows[partition as usize].next_offset - 1;
        // A smaller step than asked for is not allowed: the caller takes it for the end.
        let found = self.store.outcomes[partition as usize].range(after + 1..);
        let as_read = |outcome: &Outcome| match outcome {
            Outcome::Stored(event) => Outcome::Stored(self.as_read(event)),
            Outcome::Rejected(_) => outcome.clone(),
        };
        let mut outcomes: Vec<Outcome> = found.take(limit).map(|(_, outcome)| as_read(outcome)).collect();
        let full = outcomes.len() == limit;
        let mut through = match outcomes.last() {
            Some(last) if full => last.position().offset,
            _ => end,
        };
        if self.has(Mutant::ScanSkipsRejections) {
            outcomes.retain(|outcome| matches!(outcome, Outcome::Stored(_)));
        }
        if self.has(Mutant::ScanOverstates) {
            outcomes.truncate(1);
            through = end;
        }
        Scanned { outcomes, through }
    }

    fn missed(&self, user: UserId, since: &Since, until: &Frontier) -> Vec<Missed> {
        let conversations = self.store.of_user.get(&user).into_iter().flatten();
        conversations.filter_map(|id| self.missed_of(user, *id, since, until)).collect()
    }

    fn missed_of(&self, user: UserId, id: ConversationId, since: &Since, until: &Frontier) -> Option<Missed> {
        let found = &self.store.conversations[&id];
        let cursors = found.members[&user];
        let known = match since {
            Since::Frontier(frontier) => found.covered(frontier),
            Since::Confirmed => cursors.delivered,
            Since::Beginning => Seq(0),
        };
        let mut to = found.covered(until);
        if self.has(Mutant::BeyondUntil) {
            to = found.last_seq();
        }
        to = to.min(Seq(self.visible(found) as i64));
        let unread = found.events[..to.0 as usize].iter().rev().take_while(|event| event.seq > cursors.read);
        let is_message = |event: &&Arc<Event>| match self.store.as_read(event).body {
            EventBody::Message(message) => message.deleted_at.is_none(),
            EventBody::Edited { .. } | EventBody::Deleted { .. } => false,
        };
        let unread = unread.filter(|event| event.from != user).filter(is_message);
        let unread = unread.take(UNREAD_MAX).count() as u32;
        let receipts = receipts_of(&self.store, id);
        (to > known).then(|| Missed {
            key: found.key,
            conversation: id,
            from: known.next(),
            to,
            unread,
            receipts,
        })
    }
}

/// Every member's cursors.
pub fn receipts_of(store: &Store, conversation: ConversationId) -> Vec<Receipt> {
    let members = store.conversations.get(&conversation).into_iter().flat_map(|found| &found.members);
    members
        .map(|(user, cursors)| Receipt {
            conversation,
            user: *user,
            delivered: cursors.delivered,
            read: cursors.read,
        })
        .collect()
}

#[async_trait]
impl Events for SimStore {
    async fn events(
        &self,
        conversation: ConversationId,
        after: Seq,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        self.reach().await?;
        let found = self.0.lock().page(conversation, after, limit as usize, |_| true);
        self.answer(found).await
    }

    async fn messages(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        let Page::After(after) = page else {
            return Err(StorageError::Refused("not part of the simulation".into()));
        };
        self.reach().await?;
        let is_message = |event: &Event| matches!(event.body, EventBody::Message(_));
        let found = self.0.lock().page(conversation, after, limit as usize, is_message);
        self.answer(found).await
    }

    async fn stored(
        &self,
        _: ConversationId,
        _: &[MessageId],
    ) -> Result<HashMap<MessageId, Stored>, StorageError> {
        Err(StorageError::Refused("not part of the simulation".into()))
    }

    async fn last_seq(&self, conversation: ConversationId) -> Result<Seq, StorageError> {
        self.reach().await?;
        let last = self.0.lock().store.conversations.get(&conversation).map(Conversation::last_seq);
        self.answer(last.unwrap_or_default()).await
    }

    async fn scan(
        &self,
        _: LogNumber,
        partition: Partition,
        after: Offset,
        limit: u32,
    ) -> Result<Scanned, StorageError> {
        self.reach().await?;
        let scanned = self.0.lock().scan(partition, after, limit as usize);
        self.answer(scanned).await
    }
}

#[async_trait]
impl Catchup for SimStore {
    async fn missed(
        &self,
        user: UserId,
        since: &Since,
        until: &Frontier,
        after: Option<ConversationKey>,
        limit: u32,
    ) -> Result<Vec<Missed>, StorageError> {
        self.reach().await?;
        let mut found = self.0.lock().missed(user, since, until);
        found.retain(|one| after.is_none_or(|after| one.key > after));
        found.truncate(limit as usize);
        self.answer(found).await
    }

    async fn rejections(
        &self,
        user: UserId,
        since: Option<&Frontier>,
        until: &Frontier,
        limit: u32,
    ) -> Result<Vec<Rejection>, StorageError> {
        self.reach().await?;
        let mut found: Vec<Rejection> = {
            let world = self.0.lock();
            let own = world.store.rejections.iter().filter(|rejection| rejection.from == user);
            let new = own.filter(|one| !since.is_some_and(|since| since.covers(one.position)));
            new.filter(|one| until.covers(one.position)).cloned().collect()
        };
        found.drain(..found.len().saturating_sub(limit as usize));
        self.answer(found).await
    }
}
