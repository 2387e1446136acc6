//! `Audit` on PostgreSQL.

use std::ops::Range;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
use super::error::Fault;
use super::rows::{self, AskedRow, asked_columns};
use super::statement::{Id, statement};
use crate::domain::{ConversationId, ConversationKey, LogNumber, MessageId, Offset, Partition};
use crate::storage::StorageError;
use crate::storage::audit::{Audit, Disorder, Kept};

#[async_trait]
impl Audit for PostgresStore {
    async fn kept(
        &self,
        log: LogNumber,
        partition: Partition,
        offsets: Range<Offset>,
    ) -> Result<Vec<(Offset, Kept)>, StorageError> {
        self.take().await?.long_snapshot(async |conn| kept(conn, log, partition, offsets).await).await
    }

    async fn is_stored(&self, records: &[(ConversationId, MessageId)]) -> Result<Vec<bool>, StorageError> {
        let names: Vec<String> = records.iter().map(|(conversation, _)| conversation.to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let ids: Vec<Id> = records.iter().map(|(_, id)| Id(id.0)).collect();
        let conn = self.take().await?;
        conn.run(async {
            let mut stored = vec![false; records.len()];
            for (n,) in select_stored(&conn, &names, &ids).await? {
                let place = usize::try_from(n - 1).ok().and_then(|index| stored.get_mut(index));
                *place.ok_or_else(|| Fault::refused("a record nobody asked for"))? = true;
            }
            Ok(stored)
        })
        .await
    }

    async fn aged_out(&self, log: LogNumber, starts: &[Offset]) -> Result<u64, StorageError> {
        let rows = async |conn: &AsyncPgConnection| Ok(count_aged_out(conn, log.0, log.0, starts).await?);
        let rows = self.take().await?.long_snapshot(rows).await?;
        Ok(rows.first().map_or(0, |(count,)| u64::try_from(*count).unwrap_or(0)))
    }

    async fn disorder(&self, after: Option<ConversationKey>, limit: u32) -> Result<Disorder, StorageError> {
        let after = after.map_or(0, |key| key.0);
        self.take().await?.long_snapshot(async |conn| disorder(conn, after, limit).await).await
    }
}

async fn kept(
    conn: &AsyncPgConnection,
    log: LogNumber,
    partition: Partition,
    offsets: Range<Offset>,
) -> Result<Vec<(Offset, Kept)>, Fault> {
    let (slot, from, to) = (rows::slot(partition)?, offsets.start, offsets.end);
    let mut kept = Vec::new();
    for (conversation, offset, id, from, asked) in select_events(conn, log.0, slot, from, to).await? {
        let (conversation, from) = (rows::conversation_id(&conversation)?, rows::user_id(from)?);
        let columns = rows::asked(asked);
        let (id, erased) = (MessageId(id.0), columns.is_erased());
        kept.push((offset, Kept::Event { conversation, id, from, asked: columns.asked()?, erased }));
    }
    for (offset, id) in select_rejections(conn, log.0, slot, from, to).await? {
        kept.push((offset, Kept::Rejection(MessageId(id.0))));
    }
    let dead = select_dead_letters(conn, log.0, slot, from, to).await?;
    kept.extend(dead.into_iter().map(|(offset,)| (offset, Kept::DeadLetter)));
    kept.sort_by_key(|(offset, _)| *offset);
    Ok(kept)
}

async fn disorder(conn: &AsyncPgConnection, after: i64, limit: u32) -> Result<Disorder, Fault> {
    let heads = select_heads(conn, after, i64::from(limit)).await?;
    let until = heads.last().map_or(after, |(key, ..)| *key);
    let events = select_events_of(conn, after, until).await?;
    let beyond = select_cursors_beyond(conn, after, until).await?;
    let heads = heads.into_iter().map(|(key, id, seq)| Ok((key, rows::conversation_id(&id)?, seq)));
    Ok(Disorder::judge(heads.collect::<Result<_, Fault>>()?, events, beyond))
}

statement!(
    fn select_events(log: i32, partition: i32, from: i64, to: i64)
        -> (String, i64, Id, i64, AskedRow) = concat!(
        "SELECT c.id, e.log_offset, e.message_id, e.sender_id, ", asked_columns!(), "
         FROM events AS e JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE e.log_number = ? AND e.partition = ? AND e.log_offset >= ? AND e.log_offset < ?"
    )
);

statement!(
    fn select_rejections(log: i32, partition: i32, from: i64, to: i64) -> (i64, Id) =
        "SELECT log_offset, message_id FROM rejections
         WHERE log_number = ? AND partition = ? AND log_offset >= ? AND log_offset < ?"
);

statement!(
    fn select_dead_letters(log: i32, partition: i32, from: i64, to: i64) -> (i64,) =
        "SELECT log_offset FROM dead_letters
         WHERE log_number = ? AND partition = ? AND log_offset >= ? AND log_offset < ?"
);

statement!(
    fn select_stored(conversations: &'a [&'a str], ids: &'a [Id]) -> (i64,) =
        "SELECT asked.n
         FROM unnest(?, ?) WITH ORDINALITY AS asked(conversation, message_id, n)
         JOIN conversations AS c ON c.id = asked.conversation
         JOIN events AS e ON e.conversation_key = c.conversation_key AND e.message_id = asked.message_id"
);

statement!(
    fn count_aged_out(earlier_than: i32, log: i32, starts: &'a [i64]) -> (i64,) =
        "SELECT (SELECT count(*) FROM events WHERE log_number < ?)
                + coalesce(sum((SELECT count(*) FROM events AS e
                                WHERE e.log_number = l.number AND e.partition = s.n - 1
                                  AND e.log_offset < s.start)), 0)::bigint
         FROM (SELECT ?::integer AS number) AS l
         CROSS JOIN unnest(?) WITH ORDINALITY AS s(start, n)"
);

statement!(
    fn select_heads(after: i64, limit: i64) -> (i64, String, i64) =
        "SELECT conversation_key, id, last_seq FROM conversations
         WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);

statement!(
    fn select_events_of(after: i64, until: i64) -> (i64, i64, i64, i64, i64) =
        "SELECT conversation_key, count(*), min(seq), max(seq),
                count(*) FILTER (WHERE (log_number, log_offset) < (before_log, before_offset) OR at < before_at)
         FROM (SELECT conversation_key, seq, log_number, log_offset, at,
                      lag(log_number) OVER w AS before_log, lag(log_offset) OVER w AS before_offset,
                      lag(at) OVER w AS before_at
               FROM events WHERE conversation_key > ? AND conversation_key <= ?
               WINDOW w AS (PARTITION BY conversation_key ORDER BY seq)) AS pairs
         GROUP BY conversation_key"
);

statement!(
    fn select_cursors_beyond(after: i64, until: i64) -> (i64, i64) =
        "SELECT m.conversation_key, count(*) FROM members AS m
         JOIN conversations AS c ON c.conversation_key = m.conversation_key
         WHERE m.conversation_key > ? AND m.conversation_key <= ?
           AND greatest(m.delivered, m.read, m.notified) > c.last_seq
         GROUP BY m.conversation_key"
);
