//! `Events` on SQLite.

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::Fault;
use super::rows::{self, EventRow, RejectionRow, event_columns};
use super::statement::statement;
use crate::domain::{ConversationId, Event, LogNumber, Offset, Outcome, Partition, Seq};
use crate::storage::{Events, Page, PageOf, Scanned, StorageError};

#[async_trait]
impl Events for SqliteStore {
    async fn page(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        self.read(move |conn| read_page(conn, conversation, page, limit)).await
    }

    async fn last_seq(&self, conversation: ConversationId) -> Result<Seq, StorageError> {
        self.read(move |conn| Ok(head(conn, conversation)?.map_or(Seq::default(), |(_, last)| last))).await
    }

    async fn scan(
        &self,
        log: LogNumber,
        partition: Partition,
        after: Offset,
        limit: u32,
    ) -> Result<Scanned, StorageError> {
        self.read(move |conn| scan(conn, log, partition, after, limit)).await
    }
}

/// The key and the last seq of a conversation that has events.
pub(super) fn head(
    conn: &mut SqliteConnection,
    conversation: ConversationId,
) -> Result<Option<(i64, Seq)>, Fault> {
    let rows = select_head(conn, &conversation.to_string())?;
    Ok(rows.first().map(|&(key, last)| (key, Seq(last))))
}

fn read_page(
    conn: &mut SqliteConnection,
    conversation: ConversationId,
    page: Page,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let Some((key, last)) = head(conn, conversation)? else {
        return Ok(PageOf { rows: Vec::new(), has_more: false });
    };
    // One more than asked for tells whether there are more.
    let one_more = i64::from(limit) + 1;
    let mut found = match page {
        Page::After(seq) => select_after(conn, key, seq.0, one_more)?,
        Page::Before(seq) => select_before(conn, key, seq.0, one_more)?,
        // Seqs have no gap: what is skipped can be counted off.
        Page::Newest { skip } => select_before(conn, key, last.0 + 1 - i64::from(skip), one_more)?,
    };
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = found.len() > limit;
    found.truncate(limit);
    let rows = found.into_iter().map(|row| rows::event(conversation, row)).collect::<Result<_, _>>()?;
    Ok(PageOf { rows, has_more })
}

fn scan(
    conn: &mut SqliteConnection,
    log: LogNumber,
    partition: Partition,
    after: Offset,
    limit: u32,
) -> Result<Scanned, Fault> {
    let one_more = i64::from(limit) + 1;
    let slot = i64::from(partition);
    let mut outcomes = Vec::new();
    for (id, row) in scan_events(conn, log.0, slot, after, one_more)? {
        outcomes.push(Outcome::Stored(rows::event(rows::conversation_id(&id)?, row)?));
    }
    for row in scan_rejections(conn, log.0, slot, after, one_more)? {
        outcomes.push(Outcome::Rejected(rows::rejection(row)?));
    }
    outcomes.sort_unstable_by_key(|outcome| outcome.position().offset);
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let through = if outcomes.len() > limit {
        outcomes.truncate(limit);
        outcomes.last().map_or(after, |last| last.position().offset)
    } else {
        super::ledger::frontier(conn, log)?.offset(partition)
    };
    Ok(Scanned { outcomes, through })
}

statement!(
    fn select_head(id: &'a str) -> (i64, i64) =
        "SELECT conversation_key, last_seq FROM conversations WHERE id = ?"
);

statement!(
    fn select_after(key: i64, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_before(key: i64, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = ? AND e.seq < ? ORDER BY e.seq DESC LIMIT ?"
    )
);

statement!(
    fn scan_events(log: i32, partition: i64, after: i64, limit: i64) -> (String, EventRow) = concat!(
        "SELECT c.id, ", event_columns!(), " FROM events AS e
         JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE e.log_number = ? AND e.partition = ? AND e.log_offset > ? ORDER BY e.log_offset LIMIT ?"
    )
);

statement!(
    fn scan_rejections(log: i32, partition: i64, after: i64, limit: i64) -> RejectionRow = "SELECT conversation, log_number, partition, log_offset, message_id, client_id, sender_id, code
         FROM rejections
         WHERE log_number = ? AND partition = ? AND log_offset > ? ORDER BY log_offset LIMIT ?"
);
