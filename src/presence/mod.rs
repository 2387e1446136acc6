//! Who is connected, and where: the port. Adapters: `memory`, `redis`.
//!
//! Presence is a hint for people and for the story in the terminal. Nothing of the promise rests on it: who
//! is notified follows from what was confirmed.

pub mod memory;
pub mod redis;

use async_trait::async_trait;

use crate::domain::UserId;

/// Presence cannot be asked now; never to be read as "offline".
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("presence is unavailable: {0}")]
pub struct PresenceError(pub String);

/// Which users have a socket somewhere.
#[async_trait]
pub trait Presence: Send + Sync {
    /// A socket of this user is on this node from now on. Counted: as many `left` end it.
    async fn joined(&self, user: UserId) -> Result<(), PresenceError>;

    /// A socket of this user left this node.
    async fn left(&self, user: UserId) -> Result<(), PresenceError>;

    /// Whether each user has a socket on any node, in the order asked.
    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, PresenceError>;
}
