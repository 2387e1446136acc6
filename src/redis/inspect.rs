//! What an operator asks of Redis beside running servers.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fred::interfaces::{ClientLike, ConfigInterface};
use fred::types::InfoKind;

use super::connection::{self, CONNECT_WITHIN, Connection};
use super::{Keys, RedisError, RedisSettings, RedisSetupError};
use crate::domain::Timestamp;

/// A published message comes back within this time.
const ROUND_TRIP_WITHIN: Duration = Duration::from_secs(1);

/// Redis as `chatd doctor` finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// The server's version, such as "7.0.15".
    pub version: String,
    /// `maxmemory-policy`; none where the server does not tell.
    pub eviction: Option<String>,
    /// `maxmemory` in bytes; 0 is without limit.
    pub memory_max: Option<u64>,
    /// How long a message to a channel takes to come back.
    pub round_trip: Duration,
    /// Its clock when it was asked.
    pub clock: Timestamp,
}

/// Why there is no inspection.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The settings can never work.
    #[error(transparent)]
    Setup(#[from] RedisSetupError),
    /// Redis does not answer as it should.
    #[error(transparent)]
    Redis(#[from] RedisError),
}

/// Looks at Redis; changes nothing.
///
/// # Errors
/// It cannot be reached, or a published message does not come back.
pub async fn inspect(settings: &RedisSettings) -> Result<Inspection, InspectError> {
    let config = connection::config(settings)?;
    let channel = Keys::new(&settings.prefix, &settings.node).channel(&settings.node);
    let opened = tokio::time::timeout(CONNECT_WITHIN, Connection::open(&config, &channel)).await;
    let (connection, _driver) = opened.map_err(|_| RedisError("it does not answer".to_owned()))??;
    let facts: String = connection.ask(connection.client().info(Some(InfoKind::Server))).await?;
    let version = line(&facts, "redis_version").unwrap_or("unknown").to_owned();
    // Hosted servers often hide these.
    let told = |name: &'static str| {
        let client = connection.client().clone();
        async move { client.config_get::<HashMap<String, String>, _>(name).await.ok()?.remove(name) }
    };
    let (eviction, memory_max) = (told("maxmemory-policy").await, told("maxmemory").await);
    // Seconds and microseconds.
    let clock: Vec<i64> = connection.eval("return redis.call('TIME')", Vec::new(), Vec::new()).await?;
    let part = |index: usize| clock.get(index).copied().unwrap_or_default();
    Ok(Inspection {
        version,
        eviction,
        memory_max: memory_max.and_then(|bytes| bytes.parse().ok()),
        round_trip: round_trip(&connection, channel).await?,
        clock: Timestamp(part(0) * 1_000 + part(1) / 1_000),
    })
}

async fn round_trip(connection: &Connection, channel: String) -> Result<Duration, RedisError> {
    let mut messages = connection.messages();
    let began = Instant::now();
    connection.publish(vec![(channel, bytes::Bytes::from_static(b"?"))]).await?;
    match tokio::time::timeout(ROUND_TRIP_WITHIN, messages.next()).await {
        Ok(Some(Ok(_))) => Ok(began.elapsed()),
        _ => Err(RedisError("a message to a channel does not come back".to_owned())),
    }
}

/// The value of a line `name:value`.
fn line<'a>(facts: &'a str, name: &str) -> Option<&'a str> {
    facts.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
