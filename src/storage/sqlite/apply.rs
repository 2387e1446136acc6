//! Records become history: the one transaction behind the fence.
//!
//! A batch costs a fence a partition, one statement for the heads of its conversations and one for the ids
//! that exist already, both over a JSON array so that one prepared text serves every size; then one insert an
//! event and one update a conversation. Who is new (a conversation, its members) costs more, once; so do records that
//! refer to others, by one statement a batch, edits and deletions, by an update of their message each, and a
//! conversation that gets another place in its members' lists, once a minute at most.

use std::collections::HashMap;
use std::fmt::Write;

use diesel::sqlite::SqliteConnection;

use super::error::Fault;
use super::events;
use super::insert::{store_dead_letter, store_event, store_rejection};
use super::rows;
use super::statement::statement;
use crate::domain::history::{self, Head, Past, Rules};
use crate::domain::{ConversationId, Digest, Event, LogNumber, Outcome, Position, Record, Seq, Timestamp};
use crate::storage::conversations::LISTED_WITHIN_MS;
use crate::storage::{Applied, Batch, PartitionBatch};

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

/// Records on their way into history.
struct Applying {
    log: LogNumber,
    rules: Rules,
    now: Timestamp,
    touched: HashMap<ConversationId, Touched>,
    past: Past,
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
    let (touched, past) = look_up(conn, &owned)?;
    let mut applying = Applying { log: batch.log, rules: batch.rules, now, touched, past };
    for partition in owned {
        applied.push(apply_partition(conn, partition, &mut applying)?);
    }
    let grace_ms = i64::try_from(batch.grace.as_millis()).unwrap_or(i64::MAX);
    for conversation in applying.touched.values() {
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
    batch: PartitionBatch,
    applying: &mut Applying,
) -> Result<Applied, Fault> {
    let Applying { log, rules, now, touched, past } = applying;
    let partition = batch.partition;
    let mut outcomes = Vec::with_capacity(batch.records.len());
    let mut duplicates = 0;
    for (offset, record) in batch.records {
        let position = Position { log: *log, partition, offset };
        let Some(outcome) = history::decide(past, rules, record, position) else {
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
                store_event(conn, conversation.key, event, past, *now)?;
            }
            Outcome::Rejected(rejection) => store_rejection(conn, rejection, *now)?,
        }
        outcomes.push(outcome);
    }
    for letter in &batch.dead {
        store_dead_letter(conn, *log, partition, letter, *now)?;
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
    let mut wanted = Vec::with_capacity(records().count());
    for record in records() {
        // A conversation without a row has no event that could have the id.
        if let Some(conversation) = touched.get(&record.conversation) {
            let ids = std::iter::once(record.id).chain(record.body.refers_to());
            wanted.extend(ids.map(|id| (record.conversation, id, conversation.key)));
        }
    }
    events::look_up(conn, &wanted, |id, stored| _ = past.stored.insert(id, stored))?;
    look_up_rejected(conn, records(), &mut past)?;
    Ok((touched, past))
}

/// Records that refer to others, and were rejected before.
fn look_up_rejected<'a>(
    conn: &mut SqliteConnection,
    records: impl Iterator<Item = &'a Record>,
    past: &mut Past,
) -> Result<(), Fault> {
    let referring: Vec<_> = records.filter(|record| record.body.refers_to().is_some()).collect();
    if referring.is_empty() {
        return Ok(());
    }
    let mut json = String::from("[");
    for (index, record) in referring.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let (id, digest) = (record.id.0.simple(), record.body.digest().0);
        let _ = write!(json, "{separator}[\"{id}\",\"{}\"]", digest.simple());
    }
    json.push(']');
    for (id, digest, code) in select_rejected(conn, &json)? {
        let key = (rows::message_id(&id)?, Digest(rows::uuid(&digest)?));
        past.rejected.insert(key, rows::rejection_code(&code)?);
    }
    Ok(())
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
    fn select_rejected(ids: &'a str) -> (Vec<u8>, Vec<u8>, String) = "SELECT r.message_id, r.digest, r.code
         FROM json_each(?) AS asked
         CROSS JOIN rejections AS r
             ON r.message_id = unhex(asked.value ->> 0) AND r.digest = unhex(asked.value ->> 1)
         WHERE r.digest IS NOT NULL"
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
