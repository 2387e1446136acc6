//! `Audit` on PostgreSQL.

use std::collections::{HashMap, HashSet};
use std::ops::Range;

use async_trait::async_trait;

use super::PostgresStore;
use super::error::Fault;
use super::rows;
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
        let conn = self.take().await?;
        conn.run(async {
            let (slot, from, to) = (rows::slot(partition)?, offsets.start, offsets.end);
            let (events, rejections, dead) = futures_util::join!(
                select_events(&conn, log.0, slot, from, to),
                select_rejections(&conn, log.0, slot, from, to),
                select_dead_letters(&conn, log.0, slot, from, to)
            );
            let mut kept = events?.into_iter().map(event).collect::<Result<Vec<_>, Fault>>()?;
            kept.extend(
                rejections?.into_iter().map(|(offset, id)| (offset, Kept::Rejection(MessageId(id.0)))),
            );
            kept.extend(dead?.into_iter().map(|(offset,)| (offset, Kept::DeadLetter)));
            kept.sort_by_key(|(offset, _)| *offset);
            Ok(kept)
        })
        .await
    }

    async fn is_stored(&self, records: &[(ConversationId, MessageId)]) -> Result<Vec<bool>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let conversations: Vec<String> = records.iter().map(|(id, _)| id.to_string()).collect();
            let conversations: Vec<&str> = conversations.iter().map(String::as_str).collect();
            let ids: Vec<Id> = records.iter().map(|(_, id)| Id(id.0)).collect();
            let found = select_stored(&conn, &conversations, &ids).await?;
            let found: HashSet<i64> = found.into_iter().map(|(place,)| place).collect();
            Ok((1..).zip(records).map(|(place, _)| found.contains(&place)).collect())
        })
        .await
    }

    async fn aged_out(&self, log: LogNumber, starts: &[Offset]) -> Result<u64, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let counted = count_aged_out(&conn, starts, log.0, log.0).await?;
            Ok(counted.first().map_or(0, |(count,)| u64::try_from(*count).unwrap_or(0)))
        })
        .await
    }

    async fn disorder(&self, after: Option<ConversationKey>, limit: u32) -> Result<Disorder, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let after = after.map_or(0, |key| key.0);
            let heads = select_heads(&conn, after, i64::from(limit)).await?;
            let last = heads.last().map(|(key, ..)| *key);
            let until = last.unwrap_or(after);
            let (events, beyond) = futures_util::join!(
                select_events_of(&conn, after, until),
                select_cursors_beyond(&conn, after, until)
            );
            judge(heads, last, events?, beyond?)
        })
        .await
    }
}

type EventRow = (String, i64, Id, i64, String, Option<String>, Option<String>, Option<Id>);

fn event(row: EventRow) -> Result<(Offset, Kept), Fault> {
    let (conversation, offset, id, from, kind, content, data, reply_to) = row;
    let body = match content {
        Some(_) => Some(rows::body(&kind, content, data, reply_to)?),
        None => None,
    };
    let (conversation, from) = (rows::conversation_id(&conversation)?, rows::user_id(from)?);
    Ok((offset, Kept::Event { conversation, id: MessageId(id.0), from, body }))
}

/// Counts of a conversation's events: how many, the first and the last seq, how many out of order.
type Counts = (i64, i64, i64, i64);

fn judge(
    heads: Vec<(i64, String, i64)>,
    last: Option<i64>,
    events: Vec<(i64, i64, i64, i64, i64)>,
    beyond: Vec<(i64, i64)>,
) -> Result<Disorder, Fault> {
    let events: HashMap<i64, Counts> =
        events.into_iter().map(|(key, a, b, c, d)| (key, (a, b, c, d))).collect();
    let beyond: HashMap<i64, i64> = beyond.into_iter().collect();
    let mut found = Disorder {
        conversations: u32::try_from(heads.len()).unwrap_or(u32::MAX),
        last: last.map(ConversationKey),
        broken: Vec::new(),
    };
    for (key, id, last_seq) in heads {
        let id = rows::conversation_id(&id)?;
        let counts = events.get(&key).copied().unwrap_or_default();
        let beyond = beyond.get(&key).copied().unwrap_or_default();
        found.broken.extend(Disorder::of(last_seq, counts, beyond).map(|what| (id, what)));
    }
    Ok(found)
}

statement!(
    fn select_events(log: i32, partition: i32, from: i64, to: i64) -> EventRow =
        "SELECT c.id, e.log_offset, e.message_id, e.sender_id, e.kind, e.content, e.data::text, e.reply_to
         FROM events AS e JOIN conversations AS c ON c.conversation_key = e.conversation_key
         WHERE e.log_number = ? AND e.partition = ? AND e.log_offset >= ? AND e.log_offset < ?"
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
        "SELECT asked.place FROM unnest(?, ?) WITH ORDINALITY AS asked(conversation, id, place)
         JOIN conversations AS c ON c.id = asked.conversation
         JOIN events AS e ON e.conversation_key = c.conversation_key AND e.message_id = asked.id"
);

statement!(
    fn count_aged_out(starts: &'a [i64], log: i32, same_log: i32) -> (i64,) =
        "SELECT (SELECT count(*) FROM events AS e
                 JOIN unnest(?) WITH ORDINALITY AS held(start, place) ON e.partition = held.place - 1
                 WHERE e.log_number = ? AND e.log_offset < held.start)
              + (SELECT count(*) FROM events WHERE log_number < ?)"
);

statement!(
    fn select_heads(after: i64, limit: i64) -> (i64, String, i64) =
        "SELECT conversation_key, id, last_seq FROM conversations
         WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);

statement!(
    fn select_events_of(after: i64, until: i64) -> (i64, i64, i64, i64, i64) =
        "SELECT conversation_key, count(*), min(seq), max(seq),
                count(*) FILTER (WHERE (log_number, log_offset) < (before_log, before_offset)
                                 OR at < before_at)
         FROM (SELECT conversation_key, seq, log_number, log_offset, at,
                      lag(log_number) OVER w AS before_log, lag(log_offset) OVER w AS before_offset,
                      lag(at) OVER w AS before_at
               FROM events WHERE conversation_key > ? AND conversation_key <= ?
               WINDOW w AS (PARTITION BY conversation_key ORDER BY seq)) AS e
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
