//! Ports that a simulation does not use: people, their lists, their mails and when they were seen. Whoever calls them is
//! refused.

use std::time::Duration;

use async_trait::async_trait;
use chatd::domain::{
    Audience, ConversationId, ListPlace, NameKey, ProfileChange, Subject, Timestamp, User, UserId,
};
use chatd::storage::{
    Conversations, DuePolicy, LeasedMail, Letter, Listed, NewUser, Notifications, PageOf, Raised, Saved,
    Settlement, Sighting, Sightings, StorageError, Users,
};

use super::SimStore;

fn outside<T>() -> Result<T, StorageError> {
    Err(StorageError::Refused("not part of the simulation".into()))
}

#[async_trait]
impl Users for SimStore {
    async fn user(&self, _: &Subject) -> Result<Option<User>, StorageError> {
        outside()
    }

    async fn provision(&self, _: &Subject, _: Option<&str>) -> Result<User, StorageError> {
        outside()
    }

    async fn save(&self, _: &[NewUser]) -> Result<Vec<Saved>, StorageError> {
        outside()
    }

    async fn add_missing(&self, _: &[NewUser]) -> Result<(), StorageError> {
        outside()
    }

    async fn named(&self, _: &NameKey, _: u32) -> Result<Vec<User>, StorageError> {
        outside()
    }

    async fn change(&self, _: UserId, _: &ProfileChange) -> Result<Option<User>, StorageError> {
        outside()
    }

    async fn list(&self, _: i64, _: u32) -> Result<Vec<User>, StorageError> {
        outside()
    }
}

#[async_trait]
impl Sightings for SimStore {
    async fn saw(&self, _: &[(UserId, Timestamp)]) -> Result<(), StorageError> {
        outside()
    }

    async fn sightings(&self, _: &[UserId]) -> Result<Vec<Sighting>, StorageError> {
        outside()
    }

    async fn show_to(&self, _: UserId, _: Audience) -> Result<(), StorageError> {
        outside()
    }

    async fn sharing(&self, _: &[(UserId, UserId)]) -> Result<Vec<bool>, StorageError> {
        outside()
    }
}

#[async_trait]
impl Conversations for SimStore {
    async fn conversations(
        &self,
        _: UserId,
        _: Option<ListPlace>,
        _: u32,
    ) -> Result<PageOf<Listed>, StorageError> {
        outside()
    }

    async fn conversation(&self, _: UserId, _: ConversationId) -> Result<Option<Listed>, StorageError> {
        outside()
    }
}

#[async_trait]
impl Notifications for SimStore {
    async fn raise_due(&self, _: &DuePolicy) -> Result<Raised, StorageError> {
        outside()
    }

    async fn lease_mails(&self, _: Duration, _: u32) -> Result<Vec<LeasedMail>, StorageError> {
        outside()
    }

    async fn letter(&self, _: i64) -> Result<Option<Letter>, StorageError> {
        outside()
    }

    async fn settle_mail(&self, _: i64, _: &Settlement) -> Result<(), StorageError> {
        outside()
    }

    async fn due_at(&self, _: ConversationId) -> Result<Option<Timestamp>, StorageError> {
        outside()
    }

    async fn next_work(&self) -> Result<Option<Timestamp>, StorageError> {
        outside()
    }
}
