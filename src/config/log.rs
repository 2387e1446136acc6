//! `[log]`: the message log, in which a message is durable before it is accepted.

use std::time::Duration;

use super::backends::LogBackend;
use super::kafka::Kafka;
use super::reader::Reader;

/// The embedded log, in the data folder.
pub(super) const EMBEDDED_FILE: &str = "log.db";

/// Settings of the message log.
#[derive(Debug, Clone)]
pub struct Log {
    /// The embedded log under the data folder, or Kafka where `KAFKA_BROKERS` is set.
    pub backend: LogBackend,
    /// `log.partitions`: pinned when the log is made. 6.
    pub partitions: u32,
    /// `log.linger`: so long the first record of a batch waits for others. 1 ms.
    pub linger: Duration,
}

impl Log {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let embedded = LogBackend::Embedded { path: r.data(EMBEDDED_FILE) };
        Self {
            backend: Kafka::read(r).map_or(embedded, LogBackend::Kafka),
            partitions: r.within("log.partitions", 6, 1..=1_024),
            linger: r.within("log.linger", Duration::from_millis(1), Duration::ZERO..=Duration::from_secs(1)),
        }
    }
}
