//! Why a broker did not do what was asked.

use kafka_protocol::error::ResponseError;

use crate::pipeline::LogError;

/// Why Kafka did not do what was asked. Cheap to clone: one failure ends many calls.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KafkaError {
    /// No connection could be made.
    #[error("{address} cannot be reached: {what}")]
    Connect {
        /// `host:port`.
        address: String,
        /// What the system says.
        what: String,
    },
    /// A broker did not answer in time; the connection is closed.
    #[error("{address} did not answer in time")]
    Timeout {
        /// `host:port`.
        address: String,
    },
    /// The connection ended before the answer.
    #[error("the connection to {address} ended: {what}")]
    Closed {
        /// `host:port`.
        address: String,
        /// Why.
        what: String,
    },
    /// Too many requests wait on one connection; this one was not sent.
    #[error("too many requests wait for {address}")]
    Busy {
        /// `host:port`.
        address: String,
    },
    /// The broker answered with an error.
    #[error("{what} was refused: {code}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// The broker's error.
        code: ResponseError,
    },
    /// The broker is too old, or too new, for a request that chatd needs.
    #[error("{address} has no version of request {api} that chatd speaks; Kafka 3 or 4 is needed")]
    Unsupported {
        /// `host:port`.
        address: String,
        /// Kafka's number of the request.
        api: i16,
    },
    /// A request that cannot be written, or an answer that cannot be read.
    #[error("not in Kafka's format: {0}")]
    Malformed(String),
    /// TLS cannot be set up.
    #[error("TLS to the brokers cannot be set up: {0}")]
    Tls(String),
    /// The credentials were not accepted.
    #[error("the login at {address} failed: {what}")]
    Login {
        /// `host:port`.
        address: String,
        /// What the broker or the mechanism says.
        what: String,
    },
    /// There is no such topic.
    #[error("the topic {0} does not exist")]
    NoTopic(String),
    /// Nobody leads a partition at the moment.
    #[error("partition {0} has no leader")]
    NoLeader(i32),
    /// The topic was deleted and made anew, or has another number of partitions.
    #[error("the topic {0} is not the one it was: it was deleted and made anew, or its partitions changed")]
    Foreign(String),
}

impl KafkaError {
    /// An answer's error code as a result.
    pub(super) fn check(what: &'static str, code: i16) -> Result<(), Self> {
        match ResponseError::try_from_code(code) {
            None => Ok(()),
            Some(code) => Err(Self::Refused { what, code }),
        }
    }

    /// Something that is not in Kafka's format.
    pub(super) fn malformed(error: impl std::fmt::Display) -> Self {
        Self::Malformed(error.to_string())
    }
}

impl From<KafkaError> for LogError {
    fn from(error: KafkaError) -> Self {
        match error {
            KafkaError::Foreign(_) => Self::Corrupt(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}
