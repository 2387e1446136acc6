//! `Audit` on SQLite.

use std::ops::Range;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::Fault;
use super::rows::{self, AskedRow, asked_columns};
use super::statement::statement;
use crate::domain::{ConversationId, ConversationKey, LogNumber, MessageId, Offset, Partition};
use crate::storage::StorageError;
use crate::storage::audit::{Audit, Disorder, Kept};

#[async_trait]
impl Audit for SqliteStore {
    async fn kept(
        &self,
        log: LogNumber,
        partition: Partition,
        offsets: Range<Offset>,
    ) -> Result<Vec<(Offset, Kept)>, StorageError> {
        self.read(move |conn| kept(conn, log, partition, &offsets)).await
    }

    async fn is_stored(&self, records: &[(ConversationId, MessageId)]) -> Result<Vec<bool>, StorageError> {
        let records = records.to_vec();
        self.read(move |conn| {
            let found = |(conversation, id): &(ConversationId, MessageId)| {
                Ok(!select_stored(conn, &conversation.to_string(), id.0.as_bytes())?.is_empty())
            };
            records.iter().map(found).collect()
        })
        .await
    }

    async fn aged_out(&self, log: LogNumber, starts: &[Offset]) -> Result<u64, StorageError> {
        let starts = starts.to_vec();
        self.read(move |conn| {
            let mut events = 0;
            for (partition, start) in (0..).zip(starts) {
                events += count(&count_below(conn, log.0, partition, start)?);
            }
            Ok(events + count(&count_before(conn, log.0)?))
        })
        .await
    }

    async fn disorder(&self, after: Option<ConversationKey>, limit: u32) -> Result<Disorder, StorageError> {
        let after = after.map_or(0, |key| key.0);
        self.read(move |conn| disorder(conn, after, limit)).await
    }
}

fn count(rows: &[(i64,)]) -> u64 {
    rows.first().map_or(0, |(count,)| u64::try_from(*count).unwrap_or(0))
}

fn kept(
    conn: &mut SqliteConnection,
    log: LogNumber,
    partition: Partition,
    offsets: &Range<Offset>,
) -> Result<Vec<(Offset, Kept)>, Fault> {
    let (slot, from, to) = (i64::from(partition), offsets.start, offsets.end);
    let mut kept = Vec::new();
    for (conversation, offset, id, from, asked) in select_events(conn, log.0, slot, from, to)? {
        let conversation = rows::conversation_id(&conversation)?;
        let (id, from, columns) = (rows::message_id(&id)?, rows::user_id(from)?, rows::asked(asked)?);
        let erased = columns.is_erased();
        kept.push((offset, Kept::Event { conversation, id, from, asked: columns.asked()?, erased }));
    }
    for (offset, id) in select_rejections(conn, log.0, slot, from, to)? {
        kept.push((offset, Kept::Rejection(rows::message_id(&id)?)));
    }
    let dead = select_dead_letters(conn, log.0, slot, from, to)?;
    kept.extend(dead.into_iter().map(|(offset,)| (offset, Kept::DeadLetter)));
    kept.sort_by_key(|(offset, _)| *offset);
    Ok(kept)
}

fn disorder(conn: &mut SqliteConnection, after: i64, limit: u32) -> Result<Disorder, Fault> {
    let heads = select_heads(conn, after, i64::from(limit))?;
    let until = heads.last().map_or(after, |(key, ..)| *key);
    let events = select_events_of(conn, after, until)?;
    let beyond = select_cursors_beyond(conn, after, until)?;
    let heads = heads.into_iter().map(|(key, id, seq)| Ok((key, rows::conversation_id(&id)?, seq)));
    Ok(Disorder::judge(heads.collect::<Result<_, Fault>>()?, events, beyond))
}

statement!(
    fn select_events(log: i32, partition: i64, from: i64, to: i64)
        -> (String, i64, Vec<u8>, i64, AskedRow) = concat!(
        "SELECT c.id, e.log_offset, e.message_id, e.sender_id, ", asked_columns!(), "
         FROM events AS e JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE e.log_number = ? AND e.partition = ? AND e.log_offset >= ? AND e.log_offset < ?"
    )
);

statement!(
    fn select_rejections(log: i32, partition: i64, from: i64, to: i64) -> (i64, Vec<u8>) =
        "SELECT log_offset, message_id FROM rejections
         WHERE log_number = ? AND partition = ? AND log_offset >= ? AND log_offset < ?"
);

statement!(
    fn select_dead_letters(log: i32, partition: i64, from: i64, to: i64) -> (i64,) =
        "SELECT log_offset FROM dead_letters
         WHERE log_number = ? AND partition = ? AND log_offset >= ? AND log_offset < ?"
);

statement!(
    fn select_stored(conversation: &'a str, id: &'a [u8]) -> (i64,) =
        "SELECT e.seq FROM events AS e JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE c.id = ? AND e.message_id = ?"
);

statement!(
    fn count_below(log: i32, partition: i64, start: i64) -> (i64,) =
        "SELECT count(*) FROM events WHERE log_number = ? AND partition = ? AND log_offset < ?"
);

statement!(
    fn count_before(log: i32) -> (i64,) = "SELECT count(*) FROM events WHERE log_number < ?"
);

statement!(
    fn select_heads(after: i64, limit: i64) -> (i64, String, i64) =
        "SELECT conversation_key, id, last_seq FROM conversations
         WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);

statement!(
    fn select_events_of(after: i64, until: i64) -> (i64, i64, i64, i64, i64) =
        "SELECT conversation_key, count(*), min(seq), max(seq),
                coalesce(sum((log_number, log_offset) < (before_log, before_offset) OR at < before_at), 0)
         FROM (SELECT conversation_key, seq, log_number, log_offset, at,
                      lag(log_number) OVER w AS before_log, lag(log_offset) OVER w AS before_offset,
                      lag(at) OVER w AS before_at
               FROM events WHERE conversation_key > ? AND conversation_key <= ?
               WINDOW w AS (PARTITION BY conversation_key ORDER BY seq))
         GROUP BY conversation_key"
);

statement!(
    fn select_cursors_beyond(after: i64, until: i64) -> (i64, i64) =
        "SELECT m.conversation_key, count(*) FROM members AS m
         JOIN conversations AS c ON c.conversation_key = m.conversation_key
         WHERE m.conversation_key > ? AND m.conversation_key <= ?
           AND max(m.delivered, m.read, m.notified) > c.last_seq
         GROUP BY m.conversation_key"
);
