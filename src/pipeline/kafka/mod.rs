//! The message log in Kafka: one small client of its own.

mod assignor;
mod cluster;
mod connection;
mod error;
mod group;
mod promise;
mod security;
mod settings;
mod topic;

pub use error::KafkaError;
pub use settings::{KafkaSettings, SaslMechanism, SaslSettings};
