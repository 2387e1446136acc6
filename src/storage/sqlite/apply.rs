//! Records become history: the one transaction behind the fence.
//!
//! A batch costs a fence a partition, one statement for the heads of its conversations and one for the ids
//! that exist already, both over a JSON array so that one prepared text serves every size; then one insert an
//! event and one update a conversation. Who is new (a conversation, its members) costs more, once, and a
//! conversation that gets another place in its members' lists, once a minute at most.

use std::collections::HashMap;
use std::fmt::Write;

use diesel::sqlite::SqliteConnection;

use super::error::Fault;
use super::rows::{self, MESSAGE};
use super::statement::statement;
use crate::domain::history::{self, Head, Past};
use crate::domain::{
    ConversationId, Event, LogNumber, MessageBody, Outcome, Position, RecordBody, Rejection, Seq, Timestamp,
};
use crate::storage::conversations::LISTED_WITHIN_MS;
use crate::storage::{Applied, Batch, DeadLetter, PartitionBatch};

/// A conversation that a batch touches.
struct Touched {
    key: i64,
    /// When it is looked at for those who did not confirm; `i64::MAX` where nobody waits.
    due_at: i64,
    /// Its place in its members' lists.
    listed_at: i64,
    /// The last event that this batch stored.
    last: Option<(Seq, Timestamp, Position)>,
}

/// Applies a batch inside the caller's transaction.
pub(super) fn apply(conn: &mut SqliteConnection, batch: Batch) -> Result<Vec<Applied>, Fault> {
    let now = Timestamp::now();
    let mut owned = Vec::with_capacity(batch.partitions.len());
    let mut applied = Vec::with_capacity(batch.partitions.len());
    for partition in batch.partitions {
        if fence(conn, batch.log, &partition)? {
            owned.push(partition);
        } else {
            applied.push(Applied::Fenced { partition: partition.partition });
        }
    }
    let (mut touched, mut past) = look_up(conn, &owned)?;
    for partition in owned {
        applied.push(apply_partition(conn, batch.log, partition, &mut touched, &mut past, now)?);
    }
    let grace_ms = i64::try_from(batch.grace.as_millis()).unwrap_or(i64::MAX);
    for conversation in touched.values() {
        if let Some((seq, at, position)) = conversation.last {
            let (log, partition) = (position.log.0, i64::from(position.partition));
            update_head(conn, seq.0, at.0, log, partition, position.offset, conversation.key)?;
            if at.0 - conversation.listed_at >= LISTED_WITHIN_MS {
                place(conn, conversation, at)?;
            }
            // Somebody may be waiting for longer than that, such as one who had a mail lately.
            let due_at = now.plus(batch.grace).0;
            if conversation.due_at > due_at {
                insert_due(conn, conversation.key, due_at, grace_ms)?;
            }
        }
    }
    Ok(applied)
}

/// Gives a conversation another place in its members' lists.
fn place(conn: &mut SqliteConnection, conversation: &Touched, at: Timestamp) -> Result<(), Fault> {
    delete_listings(conn, conversation.key, conversation.listed_at, conversation.key)?;
    update_listed(conn, at.0, conversation.key)?;
    insert_listings(conn, at.0, conversation.key)?;
    Ok(())
}

/// Moves `next_offset` where epoch and offset are still the owner's.
fn fence(conn: &mut SqliteConnection, log: LogNumber, batch: &PartitionBatch) -> Result<bool, Fault> {
    let digest: &[u8] = batch.last_digest.as_bytes();
    // Above `next - 1` nothing can have been published.
    let published = batch.published.min(batch.next - 1);
    let partition = i64::from(batch.partition);
    let rows =
        move_offset(conn, batch.next, published, digest, log.0, partition, batch.epoch, batch.expected)?;
    Ok(rows == 1)
}

fn apply_partition(
    conn: &mut SqliteConnection,
    log: LogNumber,
    batch: PartitionBatch,
    touched: &mut HashMap<ConversationId, Touched>,
    past: &mut Past,
    now: Timestamp,
) -> Result<Applied, Fault> {
    let partition = batch.partition;
    let mut outcomes = Vec::with_capacity(batch.records.len());
    let mut duplicates = 0;
    for (offset, record) in batch.records {
        let Some(outcome) = history::decide(past, record, Position { log, partition, offset }) else {
            duplicates += 1;
            continue;
        };
        match &outcome {
            Outcome::Stored(event) => {
                let conversation = match touched.get_mut(&event.conversation) {
                    Some(known) => known,
                    None => touched.entry(event.conversation).or_insert(begin(conn, event)?),
                };
                conversation.last = Some((event.seq, event.at, event.position));
                store_event(conn, conversation.key, event, now)?;
            }
            Outcome::Rejected(rejection) => store_rejection(conn, rejection, now)?,
        }
        outcomes.push(outcome);
    }
    for letter in &batch.dead {
        store_dead_letter(conn, log, partition, letter, now)?;
    }
    Ok(Applied::Done { partition, outcomes, duplicates, dead: batch.dead.len() })
}

/// The heads of all conversations of these batches, and what of their records is stored already.
fn look_up(
    conn: &mut SqliteConnection,
    batches: &[PartitionBatch],
) -> Result<(HashMap<ConversationId, Touched>, Past), Fault> {
    let records = || batches.iter().flat_map(|batch| &batch.records).map(|(_, record)| record);
    let mut seen = HashMap::with_capacity(records().count());
    let mut asked: Vec<ConversationId> = Vec::with_capacity(records().count());
    let mut json = String::from("[");
    for record in records() {
        seen.entry(record.conversation).or_insert_with(|| {
            let separator = if asked.is_empty() { "" } else { "," };
            // Writing to a string cannot fail; an id holds no character that JSON would escape.
            let _ = write!(json, "{separator}\"{}\"", record.conversation);
            asked.push(record.conversation);
        });
    }
    json.push(']');
    let mut past = Past::default();
    let mut touched = HashMap::with_capacity(asked.len());
    for (index, key, last_seq, last_at, due_at, listed_at) in select_heads(conn, &json)? {
        let index = usize::try_from(index).map_err(Fault::refused)?;
        let conversation = *asked.get(index).ok_or_else(|| Fault::refused("a head nobody asked for"))?;
        past.heads.insert(conversation, Head { last_seq: Seq(last_seq), last_at: Timestamp(last_at) });
        let due_at = due_at.unwrap_or(i64::MAX);
        touched.insert(conversation, Touched { key, due_at, listed_at, last: None });
    }
    let mut json = String::from("{");
    for record in records() {
        // A conversation without a row has no event that could have the id.
        if let Some(conversation) = touched.get(&record.conversation) {
            let separator = if json.len() == 1 { "" } else { "," };
            let _ = write!(json, "{separator}\"{}\":{}", record.id.0.simple(), conversation.key);
        }
    }
    json.push('}');
    if json.len() > 2 {
        for (id, kind, content, data, reply_to) in select_known(conn, &json)? {
            past.stored.insert(rows::message_id(&id)?, rows::body(&kind, content, data, reply_to)?);
        }
    }
    Ok((touched, past))
}

/// The rows of a conversation that has its first event.
fn begin(conn: &mut SqliteConnection, event: &Event) -> Result<Touched, Fault> {
    let id = event.conversation.to_string();
    let partition = i64::from(event.position.partition);
    let listed_at = event.at.0;
    let rows = insert_conversation(conn, &id, listed_at, event.position.log.0, partition, listed_at)?;
    let (key,) = rows.into_iter().next().ok_or_else(|| Fault::refused("a conversation without a key"))?;
    if let ConversationId::Dm(low, high) = event.conversation {
        insert_member(conn, key, low.get())?;
        insert_member(conn, key, high.get())?;
    }
    insert_listings(conn, listed_at, key)?;
    Ok(Touched { key, due_at: i64::MAX, listed_at, last: None })
}

fn store_event(conn: &mut SqliteConnection, key: i64, event: &Event, now: Timestamp) -> Result<(), Fault> {
    let RecordBody::Message(MessageBody { content, data, reply_to }) = &event.body;
    insert_event(
        conn,
        key,
        event.seq.0,
        event.position.log.0,
        i64::from(event.position.partition),
        event.position.offset,
        event.id.0.as_bytes(),
        event.client_id.as_str(),
        MESSAGE,
        event.from.get(),
        Some(content.as_str()),
        data.as_ref().map(|data| data.as_str()),
        reply_to.as_ref().map(|id| id.0.as_bytes().as_slice()),
        event.at.0,
        now.0,
    )?;
    Ok(())
}

fn store_rejection(conn: &mut SqliteConnection, rejection: &Rejection, now: Timestamp) -> Result<(), Fault> {
    insert_rejection(
        conn,
        rejection.position.log.0,
        i64::from(rejection.position.partition),
        rejection.position.offset,
        &rejection.conversation.to_string(),
        rejection.id.0.as_bytes(),
        rejection.client_id.as_str(),
        rejection.from.get(),
        rejection.code.as_str(),
        now.0,
    )?;
    Ok(())
}

fn store_dead_letter(
    conn: &mut SqliteConnection,
    log: LogNumber,
    partition: u32,
    letter: &DeadLetter,
    now: Timestamp,
) -> Result<(), Fault> {
    let partition = i64::from(partition);
    insert_dead_letter(conn, log.0, partition, letter.offset, &letter.reason, &letter.value, now.0)?;
    Ok(())
}

statement!(
    fn move_offset(
        next: i64,
        published: i64,
        digest: &'a [u8],
        log: i32,
        partition: i64,
        epoch: i64,
        expected: i64,
    ) = "UPDATE log_partitions SET next_offset = ?, published = max(published, ?), last_digest = ?
         WHERE log_number = ? AND partition = ? AND epoch = ? AND next_offset = ?"
);

statement!(
    fn select_heads(ids: &'a str) -> (i64, i64, i64, i64, Option<i64>, i64) =
        "SELECT asked.key, c.conversation_key, c.last_seq, c.last_at, d.due_at, c.listed_at
         FROM json_each(?) AS asked
         CROSS JOIN conversations AS c ON c.id = asked.value
         LEFT JOIN notify_due AS d ON d.conversation_key = c.conversation_key"
);

statement!(
    fn select_known(ids: &'a str) -> (Vec<u8>, String, Option<String>, Option<String>, Option<Vec<u8>>) =
        "SELECT e.message_id, e.kind, e.content, e.data, e.reply_to
         FROM json_each(?) AS asked
         CROSS JOIN events AS e ON e.conversation_key = asked.value AND e.message_id = unhex(asked.key)"
);

statement!(
    fn insert_conversation(id: &'a str, at: i64, log: i32, partition: i64, listed_at: i64) -> (i64,) =
        "INSERT INTO conversations (id, last_seq, last_at, last_log, last_partition, last_offset, listed_at)
         VALUES (?, 0, ?, ?, ?, -1, ?) RETURNING conversation_key"
);

statement!(
    fn insert_member(key: i64, user: i64) = "INSERT INTO members (conversation_key, user_id) VALUES (?, ?)"
);

statement!(
    fn insert_event(
        key: i64,
        seq: i64,
        log: i32,
        partition: i64,
        offset: i64,
        id: &'a [u8],
        client_id: &'a str,
        kind: &'a str,
        sender: i64,
        content: Option<&'a str>,
        data: Option<&'a str>,
        reply_to: Option<&'a [u8]>,
        at: i64,
        stored_at: i64,
    ) = "INSERT INTO events (conversation_key, seq, log_number, partition, log_offset, message_id, client_id,
         kind, sender_id, content, data, reply_to, at, stored_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn update_head(seq: i64, at: i64, log: i32, partition: i64, offset: i64, key: i64) =
        "UPDATE conversations
         SET last_seq = ?, last_at = ?, last_log = ?, last_partition = ?, last_offset = ?
         WHERE conversation_key = ?"
);

statement!(
    fn delete_listings(key: i64, listed_at: i64, same_key: i64) = "DELETE FROM listings
         WHERE user_id IN (SELECT user_id FROM members WHERE conversation_key = ?)
             AND listed_at = ? AND conversation_key = ?"
);

statement!(
    fn update_listed(listed_at: i64, key: i64) =
        "UPDATE conversations SET listed_at = ? WHERE conversation_key = ?"
);

statement!(
    fn insert_listings(listed_at: i64, key: i64) =
        "INSERT OR IGNORE INTO listings (user_id, listed_at, conversation_key)
         SELECT user_id, ?, conversation_key FROM members WHERE conversation_key = ?"
);

statement!(
    fn insert_due(key: i64, due_at: i64, grace_ms: i64) =
        "INSERT INTO notify_due (conversation_key, due_at, grace_ms) VALUES (?, ?, ?)
         ON CONFLICT (conversation_key) DO UPDATE SET due_at = excluded.due_at, grace_ms = excluded.grace_ms"
);

statement!(
    fn insert_rejection(
        log: i32,
        partition: i64,
        offset: i64,
        conversation: &'a str,
        id: &'a [u8],
        client_id: &'a str,
        sender: i64,
        code: &'a str,
        now: i64,
    ) = "INSERT INTO rejections (log_number, partition, log_offset, conversation, message_id, client_id,
         sender_id, code, stored_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_dead_letter(
        log: i32,
        partition: i64,
        offset: i64,
        reason: &'a str,
        value: &'a [u8],
        now: i64,
    ) = "INSERT INTO dead_letters (log_number, partition, log_offset, reason, value, stored_at)
         VALUES (?, ?, ?, ?, ?, ?)"
);
