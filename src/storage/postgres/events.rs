//! `Events` on PostgreSQL.

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
use super::error::Fault;
use super::rows::{self, EventRow, RejectionRow, event_columns};
use super::statement::statement;
use crate::domain::{ConversationId, Event, LogNumber, Offset, Outcome, Partition, Seq};
use crate::storage::{Events, Page, PageOf, Scanned, StorageError};

#[async_trait]
impl Events for PostgresStore {
    async fn page(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        let conn = self.take().await?;
        conn.run(read_page(&conn, conversation, page, limit)).await
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
async fn read_page(
    conn: &AsyncPgConnection,
    conversation: ConversationId,
    page: Page,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let id = conversation.to_string();
    // One more than asked for tells whether there are more.
    let one_more = i64::from(limit) + 1;
    let mut found = match page {
        Page::After(seq) => select_after(conn, &id, seq.0, one_more).await?,
        Page::Before(seq) => select_before(conn, &id, seq.0, one_more).await?,
        Page::Newest { skip: 0 } => select_before(conn, &id, i64::MAX, one_more).await?,
        // Seqs have no gap: what is skipped can be counted off.
        Page::Newest { skip } => select_older(conn, &id, &id, i64::from(skip), one_more).await?,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let rows = found.into_iter().map(|row| rows::event(conversation, row)).collect::<Result<_, _>>()?;
    Ok(PageOf { rows, has_more })
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
    fn select_after(id: &'a str, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?) AND e.seq > ?
         ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_before(id: &'a str, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?) AND e.seq < ?
         ORDER BY e.seq DESC LIMIT ?"
    )
);

statement!(
    fn select_older(id: &'a str, same: &'a str, skip: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = (SELECT conversation_key FROM conversations WHERE id = ?)
           AND e.seq <= (SELECT last_seq FROM conversations WHERE id = ?) - ?
         ORDER BY e.seq DESC LIMIT ?"
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
    fn scan_rejections(log: i32, partition: i32, after: i64, limit: i64) -> RejectionRow = "SELECT conversation, log_number, partition, log_offset, message_id, client_id, sender_id, code
         FROM rejections
         WHERE log_number = ? AND partition = ? AND log_offset > ? ORDER BY log_offset LIMIT ?"
);
