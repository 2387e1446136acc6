//! The message log: ports, the versioned record, and the partitioner. Adapters: `embedded`, `kafka`.
//!
//! The log is the one place where an accepted message is durable before it is history. An adapter promises:
//!
//! - **Durable.** An append that is answered with an offset survives any crash of process or machine.
//! - **Ordered.** Appends to a partition get growing offsets in the order of the calls to `append` (the call
//!   itself, not the await). Offsets of a partition have no gap as long as nothing is forgotten.
//! - **Fail-stop.** When an append fails, every append of the same or an older generation that is called
//!   after it fails too, until the caller takes the new generation: what was queued behind a failure never
//!   overtakes it. An append that failed may still be stored ("its fate is open"); its id makes a retry safe.
//! - **Identified.** A log has an id that it keeps for life; a new, emptied or replaced log has another.

pub mod embedded;
pub mod kafka;
pub mod partitioner;
pub mod record;

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::{ConversationId, Offset, Partition};

/// Why the log did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// It cannot be reached or written now; the fate of an append is open.
    #[error("the message log is unavailable: {0}")]
    Unavailable(String),
    /// Too much waits to be written; this append was not taken.
    #[error("the message log has too much waiting to be written")]
    Overloaded,
    /// An append queued behind one that failed; it was not taken.
    #[error("an earlier append of this sender failed")]
    Behind,
    /// The offset lies before what the log still holds, or after its end.
    #[error("offset {offset} of partition {partition} is outside of what the log holds, {start} to {end}")]
    OutOfRange {
        /// The partition asked for.
        partition: Partition,
        /// The offset asked for.
        offset: Offset,
        /// The first offset held.
        start: Offset,
        /// The offset after the last one held.
        end: Offset,
    },
    /// The log's own data is damaged; nothing is read over it.
    #[error("the message log is damaged: {0}")]
    Corrupt(String),
}

/// Which log this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogIdentity {
    /// Kafka's topic id, or the embedded log's own UUID.
    pub id: Uuid,
    /// How many partitions it has; fixed for its life.
    pub partitions: Partition,
}

/// Grows with each failed append; see the module's *fail-stop*.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Generation(pub u64);

/// A record to append.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Where it belongs: `partitioner::partition_of(key, partitions)`.
    pub partition: Partition,
    /// The key, for logs that keep one.
    pub key: ConversationId,
    /// The encoded record.
    pub value: Bytes,
}

/// An append under way: the offset once it is durable.
pub type Appending = BoxFuture<'static, Result<Offset, LogError>>;

/// Writing. All methods return at once; only the returned future waits, at most 5 s.
pub trait EventLog: Send + Sync {
    /// Which log this is.
    fn identity(&self) -> LogIdentity;

    /// The generation that a sender with nothing in flight takes for its next appends.
    fn generation(&self) -> Generation;

    /// Queues a record. Dropping the future does not take the record back.
    fn append(&self, entry: Entry, generation: Generation) -> Appending;

    /// Writes what is queued and takes nothing more; for the end of the process.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// A record as read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    /// Its place.
    pub offset: Offset,
    /// The encoded record.
    pub value: Bytes,
}

/// What one fetch got from a partition: records in offset order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The partition.
    pub partition: Partition,
    /// At least one record.
    pub records: Vec<LogRecord>,
    /// The offset after the last durable one of the partition, for the lag.
    pub end: Offset,
}

/// How much a fetch may bring, and how long it may wait for the first record.
#[derive(Debug, Clone, Copy)]
pub struct FetchLimits {
    /// Records over all partitions.
    pub records_max: usize,
    /// Bytes of values over all partitions; one record is returned even when it is larger.
    pub bytes_max: usize,
    /// How long to wait when nothing is there.
    pub patience: Duration,
}

/// What a partition holds: offsets `start..end`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// The first offset held.
    pub start: Offset,
    /// The offset after the last one.
    pub end: Offset,
}

/// The partitions that this process should own.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Assignment {
    /// Grows with each change.
    pub round: u64,
    /// In order; empty while the group is being arranged anew.
    pub partitions: Vec<Partition>,
}

/// Reading, for the one owner of each partition. Who should own what is agreed on by the group of all readers
/// (there is just one of the embedded log); who does own it, the claim in storage says.
#[async_trait]
pub trait EventSource: Send + Sync {
    /// Which log this is.
    fn identity(&self) -> LogIdentity;

    /// The partitions that this process should own, as they change. The first call joins the group.
    fn assigned(&self) -> watch::Receiver<Assignment>;

    /// Says that nothing of an assignment before `round` is being applied any more, so that others may take it
    /// over. The group waits for this for a moment only: the fence in storage is what protects.
    async fn drained(&self, round: u64);

    /// Leaves the group, so that others take everything over at once.
    async fn leave(&self);

    /// Durable records from each given offset on; empty when none came within `limits.patience`.
    /// An offset that the log no longer holds, or beyond its end, is `OutOfRange`.
    async fn fetch(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError>;

    /// What each partition holds, in partition order.
    async fn bounds(&self) -> Result<Vec<Bounds>, LogError>;

    /// One record; `None` where the log does not hold that offset.
    async fn record_at(&self, partition: Partition, offset: Offset) -> Result<Option<LogRecord>, LogError>;

    /// Says that the reader will never again need what lies below these offsets. The log may drop it, but
    /// keeps the record just below each (the identity check reads it) and whatever its retention asks for.
    async fn forget(&self, below: &[(Partition, Offset)]) -> Result<(), LogError>;
}
