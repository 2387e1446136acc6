//! `Events` on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
use super::error::Fault;
use super::rows::{self, AskedRow, EventRow, RejectionRow, asked_columns, event_columns, rejection_columns};
use super::statement::{Id, statement};
use crate::domain::history::Stored;
use crate::domain::{
    ConversationId, Event, LogNumber, MessageId, Offset, Outcome, Partition, Seq, Timestamp,
};
use crate::storage::{Events, Page, PageOf, Scanned, StorageError};

#[async_trait]
impl Events for PostgresStore {
    async fn events(
        &self,
        conversation: ConversationId,
        after: Seq,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let id = conversation.to_string();
            page_of(conversation, select_events(&conn, &id, after.0, i64::from(limit) + 1).await?, limit)
        })
        .await
    }

    async fn messages(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        let conn = self.take().await?;
        conn.run(read_messages(&conn, conversation, page, limit)).await
    }

    async fn stored(
        &self,
        conversation: ConversationId,
        ids: &[MessageId],
    ) -> Result<HashMap<MessageId, Stored>, StorageError> {
        let wanted: Vec<_> = ids.iter().map(|id| (conversation, *id)).collect();
        let conn = self.take().await?;
        conn.run(look_up(&conn, &wanted)).await
    }

    async fn last_seq(&self, conversation: ConversationId) -> Result<Seq, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let rows = select_last_seq(&conn, &conversation.to_string()).await?;
            Ok(rows.first().map_or(Seq::default(), |&(last,)| Seq(last)))
        })
        .await
    }

    async fn scan(
        &self,
        log: LogNumber,
        partition: Partition,
        after: Offset,
        limit: u32,
    ) -> Result<Scanned, StorageError> {
        let conn = self.take().await?;
        conn.run(scan(&conn, log, partition, after, limit)).await
    }
}

/// One statement: a snapshot, and one round trip.
async fn read_messages(
    conn: &AsyncPgConnection,
    conversation: ConversationId,
    page: Page,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let id = conversation.to_string();
    let one_more = i64::from(limit) + 1;
    let found = match page {
        Page::After(seq) => select_after(conn, &id, seq.0, one_more).await?,
        Page::Before(seq) => select_before(conn, &id, seq.0, one_more).await?,
        Page::Newest { skip: 0 } => select_before(conn, &id, i64::MAX, one_more).await?,
        Page::Newest { skip } => select_older(conn, &id, i64::from(skip), one_more).await?,
    };
    page_of(conversation, found, limit)
}

/// One row more than asked for tells whether there are more.
fn page_of(
    conversation: ConversationId,
    mut found: Vec<EventRow>,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let rows = found.into_iter().map(|row| rows::event(conversation, row)).collect::<Result<_, _>>()?;
    Ok(PageOf { rows, has_more })
}

/// Those of these records that are stored.
pub(super) async fn look_up(
    conn: &AsyncPgConnection,
    wanted: &[(ConversationId, MessageId)],
) -> Result<HashMap<MessageId, Stored>, Fault> {
    let mut found = HashMap::with_capacity(wanted.len());
    if wanted.is_empty() {
        return Ok(found);
    }
    let names: Vec<String> = wanted.iter().map(|(conversation, _)| conversation.to_string()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let ids: Vec<Id> = wanted.iter().map(|(_, id)| Id(id.0)).collect();
    for (n, from, at, asked) in select_stored(conn, &names, &ids).await? {
        let (conversation, id) = *nth(wanted, n)?;
        let stored = rows::asked(asked).stored(conversation, rows::user_id(from)?, Timestamp(at))?;
        found.insert(id, stored);
    }
    Ok(found)
}

/// The element that SQL calls `n`.
pub(super) fn nth<T>(asked: &[T], n: i64) -> Result<&T, Fault> {
    let found = usize::try_from(n - 1).ok().and_then(|index| asked.get(index));
    found.ok_or_else(|| Fault::refused("a row nobody asked for"))
}

/// The offset that is applied is read first: nothing up to it is missing from what is read after it, and what
/// was applied since is left for the next scan.
async fn scan(
    conn: &AsyncPgConnection,
    log: LogNumber,
    partition: Partition,
    after: Offset,
    limit: u32,
) -> Result<Scanned, Fault> {
    let one_more = i64::from(limit) + 1;
    let slot = rows::slot(partition)?;
    let (applied, events, rejections) = futures_util::join!(
        select_applied(conn, log.0, slot),
        scan_events(conn, log.0, slot, after, one_more),
        scan_rejections(conn, log.0, slot, after, one_more),
    );
    let applied = applied?.first().map_or(-1, |&(next,)| next - 1);
    let mut outcomes = Vec::new();
    for (id, row) in events? {
        outcomes.push(Outcome::Stored(rows::event(rows::conversation_id(&id)?, row)?));
    }
    for row in rejections? {
        outcomes.push(Outcome::Rejected(rows::rejection(row)?));
    }
    outcomes.sort_unstable_by_key(|outcome| outcome.position().offset);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_cut = outcomes.len() > limit;
    outcomes.truncate(limit);
    let through = match outcomes.last() {
        Some(last) if is_cut => last.position().offset.min(applied),
        _ => applied,
    };
    outcomes.retain(|outcome| outcome.position().offset <= through);
    Ok(Scanned { outcomes, through })
}

statement!(
    fn select_last_seq(id: &'a str) -> (i64,) = "SELECT last_seq FROM conversations WHERE id = ?"
);

statement!(
    fn select_events(id: &'a str, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?) AND e.seq > ?
         ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_after(id: &'a str, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?) AND e.seq > ?
             AND e.kind = 'message'
         ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_before(id: &'a str, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?) AND e.seq < ?
             AND e.kind = 'message'
         ORDER BY e.seq DESC LIMIT ?"
    )
);

// Seqs have no gap: what is skipped can be counted off, where nothing but messages has a seq. Else each is looked at,
// 10,000 at most (5 ms).
//
// Plan: `events_beside_messages` up to its first entry, then `events_pkey` backwards.
statement!(
    fn select_older(id: &'a str, skip: i64, limit: i64) -> EventRow = concat!(
        "WITH place AS MATERIALIZED (
             SELECT c.conversation_key AS key, c.last_seq, EXISTS (
                 SELECT FROM events AS b
                 WHERE b.conversation_key = c.conversation_key AND b.kind <> 'message') AS is_mixed
             FROM conversations AS c WHERE c.id = ?)
         SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT key FROM place) AND e.kind = 'message'
             AND e.seq <= (SELECT last_seq - CASE WHEN is_mixed THEN 0 ELSE ? END FROM place)
         ORDER BY e.seq DESC
         LIMIT ? OFFSET (SELECT CASE WHEN is_mixed THEN $2 ELSE 0 END FROM place)"
    )
);

// Plan: for each, `conversations_id_key`, then `events_by_id`.
statement!(
    fn select_stored(conversations: &'a [&'a str], ids: &'a [Id]) -> (i64, i64, i64, AskedRow) = concat!(
        "SELECT asked.n, e.sender_id, e.at, ", asked_columns!(), "
         FROM unnest(?, ?) WITH ORDINALITY AS asked (conversation, message_id, n)
         JOIN conversations AS c ON c.id = asked.conversation
         JOIN events AS e ON e.conversation_key = c.conversation_key AND e.message_id = asked.message_id"
    )
);

statement!(
    fn select_applied(log: i32, partition: i32) -> (i64,) =
        "SELECT next_offset FROM log_partitions WHERE log_number = ? AND partition = ?"
);

statement!(
    fn scan_events(log: i32, partition: i32, after: i64, limit: i64) -> (String, EventRow) = concat!(
        "SELECT c.id, ", event_columns!(), " FROM events AS e
         JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE e.log_number = ? AND e.partition = ? AND e.log_offset > ? ORDER BY e.log_offset LIMIT ?"
    )
);

statement!(
    fn scan_rejections(log: i32, partition: i32, after: i64, limit: i64) -> RejectionRow = concat!(
        "SELECT ", rejection_columns!(), " FROM rejections AS r
         WHERE r.log_number = ? AND r.partition = ? AND r.log_offset > ? ORDER BY r.log_offset LIMIT ?"
    )
);
