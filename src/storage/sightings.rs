//! Port: when users were there last, who may see it, and who shares a conversation.

use async_trait::async_trait;

use super::StorageError;
use crate::domain::{Audience, Timestamp, UserId};

/// What is kept of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sighting {
    /// When they were there last; none: never.
    pub last_seen: Option<Timestamp>,
    /// Whom they show it to; none where they have not said.
    pub audience: Option<Audience>,
}

/// Sightings. Nothing of the promise rests on them: a loss of power may take back what was written last.
#[async_trait]
pub trait Sightings: Send + Sync {
    /// These users were there at these moments. What is kept never goes back.
    async fn saw(&self, seen: &[(UserId, Timestamp)]) -> Result<(), StorageError>;

    /// What is kept of users, in the order asked.
    async fn sightings(&self, users: &[UserId]) -> Result<Vec<Sighting>, StorageError>;

    /// A user shows it to these from now on. Durable.
    async fn show_to(&self, user: UserId, audience: Audience) -> Result<(), StorageError>;

    /// Whether each two are in some conversation together, in the order asked.
    async fn sharing(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<bool>, StorageError>;
}
