//! Who is connected, and where: the port. Adapters: `memory`, `redis`.
//!
//! Presence is a hint for people and for the story in the terminal. Nothing of the promise rests on it: who
//! is notified follows from what was confirmed.

pub mod attendance;
pub mod memory;
pub mod redis;

use async_trait::async_trait;

use crate::domain::UserId;

pub use attendance::Attendance;

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

    /// Waits until users of this node have come or gone, as `online` of every node answers by then; each user since
    /// the last call, in any order. What many nodes' users did at once may be left to `outlook`. One waiter.
    async fn changed(&self) -> Vec<UserId>;

    /// A number that is another one when users may have come or gone without a word: when nodes began, ended, or
    /// have told anew who is there.
    async fn outlook(&self) -> Result<u64, PresenceError>;
}
