//! What the Kafka log can be told; the section `[kafka]` of the configuration.

use std::path::PathBuf;
use std::time::Duration;

use crate::domain::{Partition, Secret};

/// How to log in at the brokers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// RFC 4616.
    Plain,
    /// RFC 7677.
    ScramSha256,
    /// As SCRAM-SHA-256, with SHA-512.
    ScramSha512,
}

/// Credentials for the brokers.
#[derive(Debug, Clone)]
pub struct SaslSettings {
    /// How they are proved.
    pub mechanism: SaslMechanism,
    /// The user.
    pub username: String,
    /// The password.
    pub password: Secret<String>,
}

/// The settings of [`KafkaLog`](super::KafkaLog).
#[derive(Debug, Clone)]
pub struct KafkaSettings {
    /// Where to ask for the cluster: each `host:port`, at least one.
    pub brokers: Vec<String>,
    /// Speak TLS to the brokers.
    pub tls: bool,
    /// A PEM of the authorities to believe; the system's where absent.
    pub ca_file: Option<PathBuf>,
    /// Log in with these.
    pub sasl: Option<SaslSettings>,
    /// The topic that is the log.
    pub topic: String,
    /// The consumer group of all readers.
    pub group: String,
    /// How many partitions a new topic gets; an existing one keeps its own number.
    pub partitions: Partition,
    /// Under load a broker gets the next Produce request so long after the one before, so that records share
    /// requests; while little comes, a fifth of that (`tempo`). A record that comes when nothing was sent for so long
    /// is sent at once.
    pub linger: Duration,
    /// Under load records are fetched so long after the ones before, so that they share fetches and whatever
    /// follows from one; while little comes, two fifths of that (`tempo`). A record that comes when nothing was read
    /// for so long is fetched at once.
    pub gather: Duration,
    /// How many records may wait for an answer of the brokers.
    pub queue_records_max: usize,
    /// How many bytes of values may wait for an answer; a larger record is taken when nothing else waits.
    pub queue_bytes_max: usize,
}

impl Default for KafkaSettings {
    fn default() -> Self {
        Self {
            brokers: vec!["127.0.0.1:9092".into()],
            tls: false,
            ca_file: None,
            sasl: None,
            topic: "chat.messages".into(),
            group: "chatd".into(),
            partitions: 6,
            linger: Duration::from_millis(5),
            gather: Duration::from_millis(10),
            queue_records_max: 20_000,
            queue_bytes_max: 32 << 20,
        }
    }
}
