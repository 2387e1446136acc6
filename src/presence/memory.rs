//! Presence within one process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;

use super::{Presence, PresenceError};
use crate::domain::UserId;

/// Counts the sockets of each user. Never fails.
#[derive(Debug, Default)]
pub struct MemoryPresence {
    sockets: Mutex<HashMap<UserId, usize>>,
}

impl MemoryPresence {
    fn lock(&self) -> MutexGuard<'_, HashMap<UserId, usize>> {
        self.sockets.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn joined(&self, user: UserId) -> Result<(), PresenceError> {
        *self.lock().entry(user).or_default() += 1;
        Ok(())
    }

    async fn left(&self, user: UserId) -> Result<(), PresenceError> {
        let mut sockets = self.lock();
        if let Some(count) = sockets.get_mut(&user) {
            *count -= 1;
            if *count == 0 {
                sockets.remove(&user);
            }
        }
        Ok(())
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, PresenceError> {
        let sockets = self.lock();
        Ok(users.iter().map(|user| sockets.contains_key(user)).collect())
    }
}
