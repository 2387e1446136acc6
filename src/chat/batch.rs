//! The pure steps of applying: from values of the log to the batch of a partition, the check that the log is
//! the one that was applied, and the narrowing down of data that storage refuses.

use std::collections::HashMap;

use crate::domain::{Offset, Partition};
use crate::pipeline::record::{self, Undecodable};
use crate::pipeline::{EventSource, Fetched, LogError, LogRecord};
use crate::storage::{Claim, DeadLetter, PartitionBatch, Standstill};

/// Why a partition stands still until somebody looks at it. Nothing of it is skipped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Halt {
    /// The record before the next one is not the one that was applied.
    #[error(
        "the record at offset {0} is not the one that was stored: the log was replaced, or restored without \
         its database; restore both from one backup"
    )]
    Replaced(Offset),
    /// What comes next is no longer, or not yet, in the log.
    #[error(
        "offset {next} is next, but the log holds {start} to {end}: records are missing; restore the log and \
         the database from one backup"
    )]
    OutOfRange {
        /// The next offset to apply.
        next: Offset,
        /// The first offset held.
        start: Offset,
        /// The offset after the last one held.
        end: Offset,
    },
    /// A newer release wrote the next record.
    #[error("offset {0} holds {1}: start the release that wrote it")]
    Newer(Offset, String),
}

impl From<&Halt> for Standstill {
    fn from(halt: &Halt) -> Self {
        // A newer release stores what is in the log, and then whatever comes after it.
        Self { reason: halt.to_string(), is_breach: !matches!(halt, Halt::Newer(..)) }
    }
}

/// Values of a partition to apply, in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Work {
    /// The partition.
    pub partition: Partition,
    /// Its values.
    pub records: Vec<LogRecord>,
    /// Storage refuses the one value there is: it becomes a dead letter with this reason.
    pub condemned: Option<String>,
}

impl From<Fetched> for Work {
    fn from(fetched: Fetched) -> Self {
        Self { partition: fetched.partition, records: fetched.records, condemned: None }
    }
}

/// The batch of consecutive values, up to the first that a newer release wrote. The work ends there too: should
/// it be narrowed down, no part of it may begin behind that value.
pub fn batch_of(
    claim: &Claim,
    partitions: Partition,
    work: &mut Work,
) -> (Option<PartitionBatch>, Option<Halt>) {
    let mut batch = PartitionBatch {
        partition: claim.partition,
        epoch: claim.epoch,
        expected: claim.next_offset,
        next: claim.next_offset,
        last_digest: uuid::Uuid::nil(),
        published: claim.published,
        records: Vec::with_capacity(work.records.len()),
        dead: Vec::new(),
    };
    let (mut last, mut halt) = (None, None);
    for LogRecord { offset, value } in &work.records {
        let decoded = match &work.condemned {
            Some(reason) => Err(Undecodable::Malformed(reason.clone())),
            None => record::decode(value, claim.partition, partitions),
        };
        match decoded {
            Ok(record) => batch.records.push((*offset, record)),
            Err(Undecodable::Malformed(reason)) => {
                tracing::error!(partition = claim.partition, offset, reason, "a dead letter in the log");
                batch.dead.push(DeadLetter { offset: *offset, reason, value: value.clone() });
            }
            Err(newer @ Undecodable::Newer { .. }) => {
                halt = Some(Halt::Newer(*offset, newer.to_string()));
                break;
            }
        }
        batch.next = offset + 1;
        last = Some(value);
    }
    let batch = close(batch, last);
    if let Some(Halt::Newer(offset, _)) = halt {
        work.records.retain(|record| record.offset < offset);
    }
    (batch, halt)
}

fn close(mut batch: PartitionBatch, last: Option<&bytes::Bytes>) -> Option<PartitionBatch> {
    batch.last_digest = record::digest(last?);
    Some(batch)
}

/// Halves work that storage refused: partitions first, then the values of one, until a single value is
/// condemned. `None` when even its dead letter was refused. The first half is to be tried first.
pub fn bisect(mut works: Vec<Work>, reason: &str) -> Option<Vec<Vec<Work>>> {
    if works.len() > 1 {
        let later = works.split_off(works.len() / 2);
        return Some(vec![works, later]);
    }
    let mut work = works.pop()?;
    if work.records.len() > 1 {
        let records = work.records.split_off(work.records.len() / 2);
        let later = Work { partition: work.partition, records, condemned: None };
        return Some(vec![vec![work], vec![later]]);
    }
    if work.condemned.is_some() {
        return None;
    }
    work.condemned = Some(reason.to_owned());
    Some(vec![vec![work]])
}

/// Compares what storage knows of each partition with what the log holds; those that must stand still.
pub async fn check(source: &dyn EventSource, claims: &[Claim]) -> Result<HashMap<Partition, Halt>, LogError> {
    let bounds = source.bounds().await?;
    let mut halted = HashMap::new();
    for claim in claims {
        let Some(bound) = bounds.get(claim.partition as usize) else { continue };
        let next = claim.next_offset;
        if next < bound.start || next > bound.end {
            halted.insert(claim.partition, Halt::OutOfRange { next, start: bound.start, end: bound.end });
            continue;
        }
        let before = source.record_at(claim.partition, next - 1).await?;
        let found = before.map(|record| record::digest(&record.value));
        if found.is_some() && found != claim.last_digest {
            halted.insert(claim.partition, Halt::Replaced(next - 1));
        }
    }
    Ok(halted)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(offsets: std::ops::Range<i64>) -> Work {
        let records = offsets.map(|offset| LogRecord { offset, value: bytes::Bytes::new() }).collect();
        Work { partition: 0, records, condemned: None }
    }

    #[test]
    fn a_refused_value_is_found_and_the_others_keep_their_order() {
        let mut queue = vec![vec![work(0..7)]];
        let (mut stored, mut dead) = (Vec::new(), Vec::new());
        while let Some(works) = queue.pop() {
            let offsets: Vec<i64> = works.iter().flat_map(|w| &w.records).map(|r| r.offset).collect();
            if works.iter().all(|w| w.condemned.is_some()) {
                dead.extend(offsets);
            } else if offsets.contains(&4) {
                queue.extend(bisect(works, "no").unwrap().into_iter().rev());
            } else {
                stored.extend(offsets);
            }
        }
        assert_eq!((stored, dead), (vec![0, 1, 2, 3, 5, 6], vec![4]));
    }

    #[test]
    fn nothing_is_applied_behind_what_a_newer_release_wrote() {
        let value = |text: &'static str| bytes::Bytes::from_static(text.as_bytes());
        let newer = value(r#"{"v":2,"kind":"message"}"#);
        let values = [value("?"), newer, value("?"), value("?")];
        let records = (5..).zip(values).map(|(offset, value)| LogRecord { offset, value }).collect();
        let mut work = Work { partition: 0, records, condemned: None };
        let claim = Claim { partition: 0, epoch: 1, next_offset: 5, published: 4, last_digest: None };
        let (batch, halt) = batch_of(&claim, 1, &mut work);
        assert_eq!(batch.map(|batch| batch.next), Some(6));
        assert!(matches!(halt, Some(Halt::Newer(6, _))));
        let offsets: Vec<i64> = work.records.iter().map(|record| record.offset).collect();
        assert_eq!(offsets, [5], "what narrows it down sees no more than this");
    }

    #[test]
    fn a_value_whose_dead_letter_is_refused_too_ends_the_search() {
        let condemned = bisect(vec![work(3..4)], "no").unwrap().remove(0);
        assert_eq!(bisect(condemned, "no"), None);
    }
}
