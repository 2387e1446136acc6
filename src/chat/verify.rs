//! Proof of the first two promises: what the log still holds, compared with what storage made of it, record by
//! record; and every conversation's order. Reads only, beside running servers: of each partition up to where it
//! was applied when the comparison began.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::domain::{ConversationId, LogNumber, MessageId, Offset, Partition, Record};
use crate::pipeline::record::{self, Undecodable};
use crate::pipeline::{EventSource, FetchLimits, LogError, LogRecord};
use crate::storage::{Audited, Kept, StorageError};

/// Records compared in one step.
const STEP: FetchLimits =
    FetchLimits { records_max: 2_000, bytes_max: 8 * 1024 * 1024, patience: Duration::from_secs(5) };
/// Conversations looked at in one step.
const CONVERSATIONS_STEP: u32 = 500;

/// What was found. Records = stored + retries + rejected + dead letters + differences among them.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// Records of the log that were compared.
    pub records: u64,
    /// In history once, as the log has them.
    pub stored: u64,
    /// Of these, messages whose content has been erased since: they were deleted.
    pub erased: u64,
    /// Retries of what is in history, and rejections of more than 30 days ago, which are not kept.
    pub retries: u64,
    /// Rejected, told to their sender.
    pub rejected: u64,
    /// Kept as dead letters.
    pub dead_letters: u64,
    /// Events whose record the log does not hold any more.
    pub aged_out: u64,
    /// Records that have not been applied yet, and were not compared.
    pub waiting: u64,
    /// Conversations whose order was looked at.
    pub conversations: u64,
    /// What is not as it has to be; each was told.
    pub differences: u64,
}

/// Something that is not as it has to be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Difference {
    /// The log has a record that came to nothing.
    #[error("partition {partition}, offset {offset}: record {id} of {conversation} is not in history")]
    Missing {
        /// The partition.
        partition: Partition,
        /// The record's offset.
        offset: Offset,
        /// The record's id.
        id: MessageId,
        /// Its conversation.
        conversation: ConversationId,
    },
    /// History says something else than the log.
    #[error("partition {partition}, offset {offset}: history has {what}")]
    Other {
        /// The partition.
        partition: Partition,
        /// The offset.
        offset: Offset,
        /// What it has, without content.
        what: String,
    },
    /// A conversation is not in order.
    #[error("{conversation}: {what}")]
    Disorder {
        /// The conversation.
        conversation: ConversationId,
        /// What is wrong, without content.
        what: String,
    },
}

/// Why the comparison was not finished.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Storage.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The log gives nothing where it says that it holds something.
    #[error("the log gave nothing of partition {partition} from offset {offset} on within 5 s")]
    Silent {
        /// The partition.
        partition: Partition,
        /// Where.
        offset: Offset,
    },
}

/// Compares everything. `tell` hears of each difference.
///
/// # Errors
/// Storage or the log cannot be read; what was told until then stands.
pub async fn verify(
    storage: &dyn Audited,
    source: &dyn EventSource,
    log: LogNumber,
    tell: &mut dyn FnMut(&Difference),
) -> Result<Report, VerifyError> {
    let mut report = Report::default();
    let partitions = source.identity().partitions;
    let applied = storage.frontier(log).await?;
    let bounds = source.bounds().await?;
    let mut differ = |report: &mut Report, difference: Difference| {
        report.differences += 1;
        tell(&difference);
    };
    for (partition, bound) in (0..partitions).zip(&bounds) {
        let next = applied.offset(partition) + 1;
        report.waiting += u64::try_from(bound.end - next).unwrap_or(0);
        let mut from = bound.start;
        while from < next {
            let fetched = source.fetch(&[(partition, from)], STEP).await?.into_iter().next();
            let mut records = fetched.map(|fetched| fetched.records).unwrap_or_default();
            records.retain(|record| record.offset < next);
            let Some(last) = records.last().map(|record| record.offset) else {
                return Err(VerifyError::Silent { partition, offset: from });
            };
            let kept = storage.kept(log, partition, from..last + 1).await?;
            let compared = compare((partition, partitions), &records, kept);
            for (offset, record) in stored_elsewhere(storage, compared.elsewhere, &mut report).await? {
                let Record { id, conversation, .. } = record;
                differ(&mut report, Difference::Missing { partition, offset, id, conversation });
            }
            compared.differences.into_iter().for_each(|one| differ(&mut report, one));
            report.records += records.len() as u64;
            report.stored += compared.stored;
            report.erased += compared.erased;
            report.rejected += compared.rejected;
            report.dead_letters += compared.dead_letters;
            from = last + 1;
        }
    }
    let starts: Vec<Offset> = bounds.iter().map(|bound| bound.start).collect();
    report.aged_out = storage.aged_out(log, &starts).await?;
    let mut after = None;
    loop {
        let looked = storage.disorder(after, CONVERSATIONS_STEP).await?;
        report.conversations += u64::from(looked.conversations);
        for (conversation, what) in looked.broken {
            differ(&mut report, Difference::Disorder { conversation, what });
        }
        after = looked.last;
        if looked.conversations < CONVERSATIONS_STEP {
            return Ok(report);
        }
    }
}

/// Counts the retries; returns what is in history nowhere.
async fn stored_elsewhere(
    storage: &dyn Audited,
    records: Vec<(Offset, Record)>,
    report: &mut Report,
) -> Result<Vec<(Offset, Record)>, StorageError> {
    let ids: Vec<_> = records.iter().map(|(_, record)| (record.conversation, record.id)).collect();
    if ids.is_empty() {
        return Ok(records);
    }
    let stored = storage.is_stored(&ids).await?;
    let mut stored = stored.into_iter();
    let missing: Vec<_> = records.into_iter().filter(|_| !stored.next().unwrap_or(false)).collect();
    report.retries += (ids.len() - missing.len()) as u64;
    Ok(missing)
}

/// What a comparison of consecutive offsets found.
#[derive(Debug, Default)]
struct Compared {
    stored: u64,
    erased: u64,
    rejected: u64,
    dead_letters: u64,
    /// Records without a row of their own: retries, if they are in history elsewhere.
    elsewhere: Vec<(Offset, Record)>,
    differences: Vec<Difference>,
}

/// Compares records with what is kept of them. Pure.
fn compare(
    (partition, partitions): (Partition, Partition),
    records: &[LogRecord],
    kept: Vec<(Offset, Kept)>,
) -> Compared {
    let mut compared = Compared::default();
    let mut by_offset: BTreeMap<Offset, Kept> = BTreeMap::new();
    let mut twice = HashSet::new();
    for (offset, kept) in kept {
        if by_offset.insert(offset, kept).is_some() {
            twice.insert(offset);
        }
    }
    let other = |compared: &mut Compared, offset, what: &str| {
        compared.differences.push(Difference::Other { partition, offset, what: what.to_owned() });
    };
    for LogRecord { offset, value } in records {
        let found = by_offset.remove(offset);
        if twice.contains(offset) {
            other(&mut compared, *offset, "more than one fate");
            continue;
        }
        match (record::decode(value, partition, partitions), found) {
            (_, Some(Kept::DeadLetter)) => compared.dead_letters += 1,
            (Ok(record), Some(Kept::Event { conversation, id, from, asked, erased })) => {
                let same = (conversation, id, from) == (record.conversation, record.id, record.from);
                match asked {
                    _ if !same => other(&mut compared, *offset, &format!("another record, {id}")),
                    Some(asked) if !asked.is_for(&record.body) => {
                        other(&mut compared, *offset, &format!("another content of record {id}"));
                    }
                    _ => {
                        compared.stored += 1;
                        compared.erased += u64::from(erased);
                    }
                }
            }
            (Ok(record), Some(Kept::Rejection(id))) if id == record.id => compared.rejected += 1,
            (Ok(_), Some(Kept::Rejection(id))) => {
                other(&mut compared, *offset, &format!("a rejection of another record, {id}"));
            }
            (Ok(record), None) => compared.elsewhere.push((*offset, record)),
            (Err(Undecodable::Malformed(_)), None) => {
                other(
                    &mut compared,
                    *offset,
                    "nothing, and the value is no record: its dead letter is missing",
                );
            }
            (Err(Undecodable::Newer { .. }), None) => {
                other(&mut compared, *offset, "passed over a record that a newer release wrote");
            }
            (Err(_), Some(_)) => other(&mut compared, *offset, "an event, and the value is no record"),
        }
    }
    for offset in by_offset.into_keys() {
        other(&mut compared, offset, "something, and the log has nothing there");
    }
    compared
}

#[cfg(test)]
mod tests;
