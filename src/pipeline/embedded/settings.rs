//! What the embedded log can be told; the section `[log]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::Partition;

/// The most partitions a log can have; each costs a page that is written at each commit that touches it.
pub const PARTITIONS_MAX: Partition = 1024;

/// The settings of [`EmbeddedLog`](super::EmbeddedLog).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EmbeddedLogSettings {
    /// The file; its folder is made where it is missing.
    pub path: PathBuf,
    /// How many partitions a new log gets, 1 to [`PARTITIONS_MAX`]; an existing one keeps its own number.
    pub partitions: Partition,
    /// The least time from one commit to the next; a batch that is small by then waits up to 16 times as long
    /// for more. An append that finds the log idle is committed at once.
    pub linger: Duration,
    /// Records younger than this are kept even when the reader needs them no more.
    pub retention: Duration,
    /// How many records may wait to be written.
    pub queue_records_max: usize,
    /// How many bytes of values may wait to be written; a larger record is taken when nothing else waits.
    pub queue_bytes_max: usize,
}

impl Default for EmbeddedLogSettings {
    fn default() -> Self {
        Self {
            path: PathBuf::from("data/log.db"),
            partitions: 6,
            linger: Duration::from_millis(1),
            retention: Duration::from_secs(3600),
            queue_records_max: 20_000,
            queue_bytes_max: 32 << 20,
        }
    }
}
