//! Presence within one process.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use super::{Presence, PresenceError};
use crate::domain::UserId;

/// Counts the sockets of each user. Never fails.
#[derive(Debug, Default)]
pub struct MemoryPresence {
    inner: Mutex<Inner>,
    changes: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    sockets: HashMap<UserId, usize>,
    changed: HashSet<UserId>,
}

impl MemoryPresence {
    fn change(&self, user: UserId) {
        self.lock().changed.insert(user);
        self.changes.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Presence for MemoryPresence {
    async fn joined(&self, user: UserId) -> Result<(), PresenceError> {
        let is_first = {
            let mut inner = self.lock();
            let count = inner.sockets.entry(user).or_default();
            *count += 1;
            *count == 1
        };
        if is_first {
            self.change(user);
        }
        Ok(())
    }

    async fn left(&self, user: UserId) -> Result<(), PresenceError> {
        let is_last = {
            let mut inner = self.lock();
            let count = inner.sockets.get_mut(&user).map(|count| {
                *count -= 1;
                *count
            });
            count == Some(0) && inner.sockets.remove(&user).is_some()
        };
        if is_last {
            self.change(user);
        }
        Ok(())
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, PresenceError> {
        let inner = self.lock();
        Ok(users.iter().map(|user| inner.sockets.contains_key(user)).collect())
    }

    async fn changed(&self) -> Vec<UserId> {
        loop {
            let changed = std::mem::take(&mut self.lock().changed);
            if !changed.is_empty() {
                return changed.into_iter().collect();
            }
            self.changes.notified().await;
        }
    }

    async fn outlook(&self) -> Result<u64, PresenceError> {
        // There is one node, for as long as anybody asks.
        Ok(0)
    }
}
