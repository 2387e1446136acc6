//! Port: people and their addresses.

use async_trait::async_trait;

use super::StorageError;
use crate::domain::{NameKey, ProfileChange, Subject, User, UserId};

/// A user as an operator adds one; the address counts as verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewUser {
    /// The id.
    pub id: UserId,
    /// What others see.
    pub name: String,
    /// Where mail goes; `None` leaves the address of an existing user as it is.
    pub email: Option<String>,
}

/// What `save` did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Saved {
    /// The user is new.
    Added,
    /// The user was there and now has this name and address.
    Updated,
    /// The user was there already, just so.
    Unchanged,
}

/// People. Reads see what another process committed before they began.
#[async_trait]
pub trait Users: Send + Sync {
    /// The user of a subject.
    async fn user(&self, subject: &Subject) -> Result<Option<User>, StorageError>;

    /// The user of a subject, made where absent (an external one gets the next id from 2^40 on). Many at
    /// once make one. `name` fills an empty name, never replaces one.
    async fn provision(&self, subject: &Subject, name: Option<&str>) -> Result<User, StorageError>;

    /// Adds or updates users, all or none; the answers are in the order asked.
    async fn save(&self, users: &[NewUser]) -> Result<Vec<Saved>, StorageError>;

    /// Adds those that are absent and leaves the others as they are, all in one transaction.
    async fn add_missing(&self, users: &[NewUser]) -> Result<(), StorageError>;

    /// Users whose names begin so, by name, at most `limit`; nobody who is disabled.
    async fn named(&self, beginning: &NameKey, limit: u32) -> Result<Vec<User>, StorageError>;

    /// Changes what a user says of themselves, and returns the user as they are now; `None` where there is none.
    async fn change(&self, id: UserId, change: &ProfileChange) -> Result<Option<User>, StorageError>;

    /// Users with an id above `after`, by id, at most `limit`.
    async fn list(&self, after: i64, limit: u32) -> Result<Vec<User>, StorageError>;
}
