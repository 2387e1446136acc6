//! Records become history: the one transaction behind the fence.
//!
//! Three round trips whatever the size of the batch, four where conversations begin:
//! 1. BEGIN, the fence, and a look-up of heads. Each statement sees what was committed when it began, and the
//!    fence holds its partitions from then on: whoever else would add to their conversations has to move their
//!    offsets first.
//! 2. (New conversations, whose keys the rest needs.)
//! 3. Events, heads and what is due; all together on their way.
//! 4. COMMIT, once everything before it is known to be there.
//!
//! Retries of stored messages are rare, and a unique index finds them when they are inserted. So nothing looks
//! for them beforehand; where one is found, the transaction is rolled back and done again with that look-up.
//!
//! A record that refers to another (an edit, a deletion, an answer) is judged by that one. So where a batch has some,
//! two look-ups travel with that of heads: of the records that are referred to, and whether the same was rejected
//! before. Edits and deletions add two statements to the third step: their rows, and what they make of their messages.
//!
//! A conversation's row in `notify_due` is inserted from the update of its head, so while its head is locked:
//! whoever removes such a row holds the same lock, and one of the two sees the other (see `raise`).

use std::collections::{HashMap, HashSet};

use diesel_async::AsyncPgConnection;

use super::connection::Loan;
use super::error::Fault;
use super::events::{self, nth};
use super::insert::{self, Last};
use super::messages::{self, Changes};
use super::rows;
use super::statement::{Id, statement};
use crate::domain::history::{self, Head, Past, Rules};
use crate::domain::{
    ConversationId, Digest, ErrorCode, EventBody, LogNumber, MessageId, Outcome, Partition, Position, Record,
    Seq, Timestamp,
};
use crate::storage::{Applied, Batch, DeadLetter, PartitionBatch, StorageError};

/// Applies a batch in a transaction of its own.
pub(super) async fn apply(conn: &Loan, batch: Batch) -> Result<Vec<Applied>, StorageError> {
    match conn.self_committing(attempt(conn, batch.clone(), Retries::Unknown)).await {
        Err(StorageError::Refused(_)) => conn.self_committing(attempt(conn, batch, Retries::LookedUp)).await,
        done => done,
    }
}

/// Whether it is known which records are stored already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Retries {
    Unknown,
    LookedUp,
}

async fn attempt(conn: &Loan, batch: Batch, retries: Retries) -> Result<Vec<Applied>, Fault> {
    let Batch { log, mut partitions, grace, rules } = batch;
    // The order in which everybody locks them.
    partitions.sort_by_key(|batch| batch.partition);
    let records: Vec<&Record> =
        partitions.iter().flat_map(|batch| &batch.records).map(|(_, record)| record).collect();
    let (begun, owned, found) = futures_util::join!(
        conn.command("BEGIN"),
        pass_fences(conn, log, &partitions),
        look_up(conn, &records, retries)
    );
    begun?;
    let (owned, Found { keys, mut past }) = (owned?, found?);
    let mut written = Written::default();
    let applied: Vec<Applied> = partitions
        .into_iter()
        .map(|batch| match owned.contains(&batch.partition) {
            true => decide((log, &rules), batch, &mut past, &mut written),
            false => Ok(Applied::Fenced { partition: batch.partition }),
        })
        .collect::<Result<_, _>>()?;
    let grace_ms = i64::try_from(grace.as_millis()).unwrap_or(i64::MAX);
    write(conn, log, &applied, written, keys, grace_ms).await?;
    conn.command("COMMIT").await?;
    Ok(applied)
}

/// Moves `next_offset` of those partitions whose epoch and offset are still the owner's, and returns them.
async fn pass_fences(
    conn: &AsyncPgConnection,
    log: LogNumber,
    batches: &[PartitionBatch],
) -> Result<Vec<Partition>, Fault> {
    let slots: Vec<i32> =
        batches.iter().map(|batch| rows::slot(batch.partition)).collect::<Result<_, _>>()?;
    let epochs: Vec<i64> = batches.iter().map(|batch| batch.epoch).collect();
    let expected: Vec<i64> = batches.iter().map(|batch| batch.expected).collect();
    let next: Vec<i64> = batches.iter().map(|batch| batch.next).collect();
    // Above `next - 1` nothing can have been published.
    let published: Vec<i64> = batches.iter().map(|batch| batch.published.min(batch.next - 1)).collect();
    let digests: Vec<Id> = batches.iter().map(|batch| Id(batch.last_digest)).collect();
    let rows = move_offsets(conn, &slots, &epochs, &expected, &next, &published, &digests, log.0).await?;
    rows.into_iter().map(|(slot,)| Partition::try_from(slot).map_err(Fault::refused)).collect()
}

/// What is stored already and touches the records of a batch.
struct Found {
    keys: HashMap<ConversationId, i64>,
    past: Past,
}

async fn look_up(conn: &AsyncPgConnection, records: &[&Record], retries: Retries) -> Result<Found, Fault> {
    let mut found = Found { keys: HashMap::with_capacity(records.len()), past: Past::default() };
    if records.is_empty() {
        return Ok(found);
    }
    let mut seen = HashSet::with_capacity(records.len());
    let asked: Vec<ConversationId> =
        records.iter().map(|record| record.conversation).filter(|each| seen.insert(*each)).collect();
    let names: Vec<String> = asked.iter().map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let referring: Vec<&Record> =
        records.iter().copied().filter(|record| record.body.refers_to().is_some()).collect();
    let (heads, stored, rejected) = futures_util::join!(
        select_heads(conn, &names),
        look_up_stored(conn, if retries == Retries::LookedUp { records } else { &referring }),
        look_up_rejected(conn, &referring),
    );
    for (n, key, last_seq, last_at) in heads? {
        let conversation = *nth(&asked, n)?;
        found.keys.insert(conversation, key);
        let head = Head { last_seq: Seq(last_seq), last_at: Timestamp(last_at) };
        found.past.heads.insert(conversation, head);
    }
    found.past.stored = stored?;
    found.past.rejected = rejected?;
    Ok(found)
}

/// Those of these records that are stored, and those that they refer to.
async fn look_up_stored(
    conn: &AsyncPgConnection,
    records: &[&Record],
) -> Result<HashMap<MessageId, history::Stored>, Fault> {
    let ids = |record: &&Record| {
        let conversation = record.conversation;
        std::iter::once(record.id).chain(record.body.refers_to()).map(move |id| (conversation, id))
    };
    let wanted: Vec<_> = records.iter().flat_map(ids).collect();
    events::look_up(conn, &wanted).await
}

/// Those of these records that were rejected before for what they refer to.
async fn look_up_rejected(
    conn: &AsyncPgConnection,
    referring: &[&Record],
) -> Result<HashMap<(MessageId, Digest), ErrorCode>, Fault> {
    if referring.is_empty() {
        return Ok(HashMap::new());
    }
    let ids: Vec<Id> = referring.iter().map(|record| Id(record.id.0)).collect();
    let digests: Vec<Id> = referring.iter().map(|record| Id(record.body.digest().0)).collect();
    let found = select_rejected(conn, &ids, &digests).await?.into_iter();
    found
        .map(|(id, digest, code)| Ok(((MessageId(id.0), Digest(digest.0)), rows::rejection_code(&code)?)))
        .collect()
}

/// What a batch adds beside its outcomes.
#[derive(Default)]
struct Written {
    /// The last event of each conversation.
    heads: Last,
    /// What edits and deletions make of messages.
    changes: Changes,
    dead: Vec<(Partition, DeadLetter)>,
}

/// Gives a partition's records their fates.
fn decide(
    (log, rules): (LogNumber, &Rules),
    batch: PartitionBatch,
    past: &mut Past,
    written: &mut Written,
) -> Result<Applied, Fault> {
    let partition = batch.partition;
    let mut outcomes = Vec::with_capacity(batch.records.len());
    let mut duplicates = 0;
    for (offset, record) in batch.records {
        let Some(outcome) = history::decide(past, rules, record, Position { log, partition, offset }) else {
            duplicates += 1;
            continue;
        };
        if let Outcome::Stored(event) = &outcome {
            written.heads.insert(event.conversation, (event.seq, event.at, event.position));
            written.changes.add(event, past)?;
        }
        outcomes.push(outcome);
    }
    let dead = batch.dead.len();
    written.dead.extend(batch.dead.into_iter().map(|letter| (partition, letter)));
    Ok(Applied::Done { partition, outcomes, duplicates, dead })
}

/// Stores everything.
async fn write(
    conn: &AsyncPgConnection,
    log: LogNumber,
    applied: &[Applied],
    written: Written,
    mut keys: HashMap<ConversationId, i64>,
    grace_ms: i64,
) -> Result<(), Fault> {
    let (known, new): (Last, Last) =
        written.heads.into_iter().partition(|(conversation, _)| keys.contains_key(conversation));
    let begun = insert::begin(conn, &new).await?;
    keys.extend(begun.iter().copied());
    let (mut messages, mut rejections) = (Vec::new(), Vec::new());
    for each in applied {
        let Applied::Done { outcomes, .. } = each else { continue };
        for outcome in outcomes {
            match outcome {
                Outcome::Stored(event) => {
                    if let EventBody::Message(message) = &event.body {
                        messages.push((event, message));
                    }
                }
                Outcome::Rejected(rejection) => rejections.push(rejection),
            }
        }
    }
    // In this order: a message may come and change in one batch.
    let (joined, stored, changed, moved, rejected, dead) = futures_util::join!(
        insert::join(conn, &begun, grace_ms),
        messages::insert(conn, &messages, &keys),
        messages::change(conn, &written.changes, &keys),
        insert::move_heads(conn, &known, &keys, grace_ms),
        insert::rejections(conn, &rejections),
        insert::dead_letters(conn, log, &written.dead),
    );
    joined?;
    stored?;
    changed?;
    moved?;
    rejected?;
    dead
}

statement!(
    /// Rows are taken in the order of the arrays.
    fn move_offsets(
        partitions: &'a [i32],
        epochs: &'a [i64],
        expected: &'a [i64],
        next: &'a [i64],
        published: &'a [i64],
        digests: &'a [Id],
        log: i32,
    ) -> (i32,) = "UPDATE log_partitions AS p
         SET next_offset = b.next, published = greatest(p.published, b.published), last_digest = b.digest
         FROM unnest(?, ?, ?, ?, ?, ?) AS b(partition, epoch, expected, next, published, digest)
         WHERE p.log_number = ? AND p.partition = b.partition AND p.epoch = b.epoch
           AND p.next_offset = b.expected
         RETURNING p.partition"
);

statement!(
    fn select_heads(conversations: &'a [&'a str]) -> (i64, i64, i64, i64) =
        "SELECT asked.n, c.conversation_key, c.last_seq, c.last_at
         FROM unnest(?) WITH ORDINALITY AS asked(conversation, n)
         JOIN conversations AS c ON c.id = asked.conversation"
);

// Plan: for each, `rejections_by_id`.
statement!(
    fn select_rejected(ids: &'a [Id], digests: &'a [Id]) -> (Id, Id, String) =
        "SELECT r.message_id, r.digest, r.code
         FROM unnest(?, ?) AS asked (message_id, digest)
         JOIN rejections AS r
             ON r.message_id = asked.message_id AND r.digest = asked.digest AND r.digest IS NOT NULL"
);
