//! The message log in Kafka: one small client of its own.

mod cluster;
mod connection;
mod error;
mod security;
mod settings;

pub use error::KafkaError;
pub use settings::{KafkaSettings, SaslMechanism, SaslSettings};
