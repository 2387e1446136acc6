//! `Events` on SQLite.

use std::collections::HashMap;
use std::fmt::Write;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::Fault;
use super::rows::{self, AskedRow, EventRow, RejectionRow, asked_columns, event_columns, rejection_columns};
use super::statement::statement;
use crate::domain::history::Stored;
use crate::domain::{
    ConversationId, Event, LogNumber, MessageId, Offset, Outcome, Partition, Seq, Timestamp,
};
use crate::storage::{Events, Page, PageOf, Scanned, StorageError};

#[async_trait]
impl Events for SqliteStore {
    async fn events(
        &self,
        conversation: ConversationId,
        after: Seq,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        self.read(move |conn| read_events(conn, conversation, after, limit)).await
    }

    async fn messages(
        &self,
        conversation: ConversationId,
        page: Page,
        limit: u32,
    ) -> Result<PageOf<Event>, StorageError> {
        self.read(move |conn| read_messages(conn, conversation, page, limit)).await
    }

    async fn stored(
        &self,
        conversation: ConversationId,
        ids: &[MessageId],
    ) -> Result<HashMap<MessageId, Stored>, StorageError> {
        let ids = ids.to_vec();
        self.read(move |conn| {
            let mut found = HashMap::with_capacity(ids.len());
            if let Some((key, _)) = head(conn, conversation)? {
                let wanted: Vec<_> = ids.into_iter().map(|id| (conversation, id, key)).collect();
                look_up(conn, &wanted, |id, stored| _ = found.insert(id, stored))?;
            }
            Ok(found)
        })
        .await
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

fn read_events(
    conn: &mut SqliteConnection,
    conversation: ConversationId,
    after: Seq,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let Some((key, _)) = head(conn, conversation)? else {
        return Ok(PageOf { rows: Vec::new(), has_more: false });
    };
    page_of(conversation, select_events(conn, key, after.0, i64::from(limit) + 1)?, limit)
}

fn read_messages(
    conn: &mut SqliteConnection,
    conversation: ConversationId,
    page: Page,
    limit: u32,
) -> Result<PageOf<Event>, Fault> {
    let Some((key, last)) = head(conn, conversation)? else {
        return Ok(PageOf { rows: Vec::new(), has_more: false });
    };
    let one_more = i64::from(limit) + 1;
    let found = match page {
        Page::After(seq) => select_after(conn, key, seq.0, one_more)?,
        Page::Before(seq) => select_before(conn, key, seq.0, one_more, 0)?,
        Page::Newest { skip } if select_beside(conn, key)?.is_empty() => {
            // Seqs have no gap: what is skipped can be counted off.
            select_before(conn, key, last.0 + 1 - i64::from(skip), one_more, 0)?
        }
        Page::Newest { skip } => select_before(conn, key, i64::MAX, one_more, i64::from(skip))?,
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

/// Those of these records that are stored: conversation, id, the conversation's key.
pub(super) fn look_up(
    conn: &mut SqliteConnection,
    wanted: &[(ConversationId, MessageId, i64)],
    mut found: impl FnMut(MessageId, Stored),
) -> Result<(), Fault> {
    if wanted.is_empty() {
        return Ok(());
    }
    let mut json = String::from("{");
    for (index, (_, id, key)) in wanted.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        // Writing to a string cannot fail; nothing in it would be escaped by JSON.
        let _ = write!(json, "{separator}\"{}\":{key}", id.0.simple());
    }
    json.push('}');
    let rows = select_stored(conn, &json)?;
    if rows.is_empty() {
        return Ok(());
    }
    let places: HashMap<i64, ConversationId> = wanted.iter().map(|(place, _, key)| (*key, *place)).collect();
    for (key, id, from, at, asked) in rows {
        let conversation = *places.get(&key).ok_or_else(|| Fault::refused("a row nobody asked for"))?;
        let stored = rows::asked(asked)?.stored(conversation, rows::user_id(from)?, Timestamp(at))?;
        found(rows::message_id(&id)?, stored);
    }
    Ok(())
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
    fn select_events(key: i64, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = ? AND e.seq > ? ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_after(key: i64, seq: i64, limit: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = ? AND e.seq > ? AND e.kind = 'message' ORDER BY e.seq LIMIT ?"
    )
);

statement!(
    fn select_before(key: i64, seq: i64, limit: i64, skip: i64) -> EventRow = concat!(
        "SELECT ", event_columns!(), " FROM events AS e
         WHERE e.conversation_key = ? AND e.seq < ? AND e.kind = 'message'
         ORDER BY e.seq DESC LIMIT ? OFFSET ?"
    )
);

statement!(
    /// Something in a conversation that is no message, if there is.
    fn select_beside(key: i64) -> (i64,) =
        "SELECT seq FROM events WHERE conversation_key = ? AND kind <> 'message' LIMIT 1"
);

statement!(
    fn select_stored(wanted: &'a str) -> (i64, Vec<u8>, i64, i64, AskedRow) = concat!(
        "SELECT e.conversation_key, e.message_id, e.sender_id, e.at, ", asked_columns!(), "
         FROM json_each(?) AS asked
         CROSS JOIN events AS e ON e.conversation_key = asked.value AND e.message_id = unhex(asked.key)"
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
    fn scan_rejections(log: i32, partition: i64, after: i64, limit: i64) -> RejectionRow = concat!(
        "SELECT ", rejection_columns!(), " FROM rejections
         WHERE log_number = ? AND partition = ? AND log_offset > ? ORDER BY log_offset LIMIT ?"
    )
);
