//! Port: the books. Which log the database follows, who owns a partition, and the one transaction that
//! turns records into history.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use uuid::Uuid;

use super::StorageError;
use crate::domain::history::Rules;
use crate::domain::{Frontier, LogNumber, Offset, Outcome, Partition, Record, Timestamp};
use crate::pipeline::LogIdentity;

/// A partition as its owner took it over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The partition.
    pub partition: Partition,
    /// Grows with each claim; a fence with an older one matches no row.
    pub epoch: i64,
    /// The offset of the next record to apply.
    pub next_offset: Offset,
    /// The nodes have been told that history reaches up to here; never above `next_offset - 1`.
    pub published: Offset,
    /// `pipeline::record::digest` of the record at `next_offset - 1`, where one was applied.
    pub last_digest: Option<Uuid>,
}

/// A value of the log that can never become history, kept for the operator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its place.
    pub offset: Offset,
    /// Why, in a sentence without content.
    pub reason: String,
    /// The value itself.
    pub value: Bytes,
}

/// Why a partition stands still until somebody looks at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standstill {
    /// In a sentence.
    pub reason: String,
    /// Its log and its history do not fit together: what came into that log now might never become history.
    pub is_breach: bool,
}

/// What an owner says of its partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark<T> {
    /// The partition.
    pub partition: Partition,
    /// The owner's epoch; a mark with another one than storage has changes nothing.
    pub epoch: i64,
    /// What is said.
    pub value: T,
}

/// The records of one partition to apply, in offset order.
#[derive(Debug, Clone)]
pub struct PartitionBatch {
    /// The partition.
    pub partition: Partition,
    /// The owner's epoch.
    pub epoch: i64,
    /// The `next_offset` that storage must have now.
    pub expected: Offset,
    /// The `next_offset` that it has afterwards.
    pub next: Offset,
    /// The digest of the value at `next - 1`.
    pub last_digest: Uuid,
    /// How far the owner has published by now.
    pub published: Offset,
    /// Records by offset, all within `expected..next`.
    pub records: Vec<(Offset, Record)>,
    /// Values that are no records.
    pub dead: Vec<DeadLetter>,
}

/// Batches of several partitions for one transaction.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The log that they come from.
    pub log: LogNumber,
    /// One batch a partition at most.
    pub partitions: Vec<PartitionBatch>,
    /// How long after now, by the database's clock, an unconfirmed message is due to be notified.
    pub grace: Duration,
    /// By what the records are judged.
    pub rules: Rules,
}

/// What one partition's batch became.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// Committed: what nodes are told, in offset order, and how many records were retries of stored ones.
    Done {
        /// The partition.
        partition: Partition,
        /// New events and rejections.
        outcomes: Vec<Outcome>,
        /// Retries, which changed nothing.
        duplicates: usize,
        /// Dead letters kept.
        dead: usize,
    },
    /// The fence did not match: nothing of this partition's batch happened. Read the claim again.
    Fenced {
        /// The partition.
        partition: Partition,
    },
}

/// The books of the message log.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// The incarnation of this history: made with the database, anew when a backup is restored.
    async fn incarnation(&self) -> Result<Uuid, StorageError>;

    /// The log that the database follows, and its number; none before it has met one.
    async fn followed(&self) -> Result<Option<(LogNumber, LogIdentity)>, StorageError>;

    /// Binds the database to a log (the first one it meets) and makes the rows of its partitions, or finds
    /// the number it has; another log than the one it follows is `ForeignLog`.
    async fn attach_log(&self, identity: LogIdentity) -> Result<LogNumber, StorageError>;

    /// From now on the database follows this log, from `next` on (an offset a partition): a new log number
    /// after all before it, in one transaction. It may be the log that was followed before. Owners of the
    /// former number match no fence any more, and claims of it are `Superseded`.
    async fn hand_over(&self, identity: LogIdentity, next: &[Offset]) -> Result<LogNumber, StorageError>;

    /// Takes partitions over: `epoch = epoch + 1`. From then on the former owner's fence matches nothing.
    /// `Superseded` where the database follows a later log number.
    async fn claim(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError>;

    /// Partitions as they stand, without taking them over; for an owner whose COMMIT had no answer.
    async fn claims(&self, log: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError>;

    /// Applies batches in one transaction: fences first (a partition whose fence does not match is left out,
    /// the others go on), then everything that follows from the records as `domain::history::decide` says:
    /// conversations and their heads, both members, events, what edits and deletions make of messages,
    /// rejections, dead letters, `notify_due`.
    /// An error means that the transaction was rolled back or, with `Unavailable`, that its COMMIT's answer
    /// was lost.
    async fn apply(&self, batch: Batch) -> Result<Vec<Applied>, StorageError>;

    /// Records how far partitions have been published, for an owner without a batch at hand, and says how far
    /// all are, those of other owners included. Never moves back, nor beyond what is applied.
    async fn mark_published(
        &self,
        log: LogNumber,
        published: &[Mark<Offset>],
    ) -> Result<Frontier, StorageError>;

    /// Records which partitions stand still, and which do not any more.
    async fn mark_standstills(
        &self,
        log: LogNumber,
        standstills: &[Mark<Option<Standstill>>],
    ) -> Result<(), StorageError>;

    /// The partitions that stand still, as their owners say. `Superseded` where the database follows a later
    /// log number.
    async fn standstills(&self, log: LogNumber) -> Result<Vec<(Partition, Standstill)>, StorageError>;

    /// How far each partition has been applied.
    async fn frontier(&self, log: LogNumber) -> Result<Frontier, StorageError>;

    /// Makes everything applied so far survive a loss of power, and says how far that is: the log may forget
    /// what lies below.
    async fn make_durable(&self, log: LogNumber) -> Result<Frontier, StorageError>;

    /// Deletes rejections, settled mails and other leftovers older than `before`, in bounded steps; how many.
    async fn prune(&self, before: Timestamp) -> Result<u64, StorageError>;
}
