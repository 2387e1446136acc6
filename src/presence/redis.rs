//! Presence through Redis: who is in the set of users of any node that holds a lease.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Presence, PresenceError};
use crate::domain::UserId;
use crate::redis::{Connection, Peer, Redis, RedisError};

/// Asks all nodes' registrations. Answers an error where it cannot know, never "offline".
pub struct RedisPresence {
    redis: Arc<Redis>,
}

impl RedisPresence {
    /// Presence of this process's sockets, and of everybody's.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis }
    }

    async fn ask(&self, users: &[UserId]) -> Result<Vec<bool>, RedisError> {
        let connection = self.redis.connection()?;
        let (routes, node) = (self.redis.routes(), self.redis.node());
        let peers = routes.live(&connection, node).await?;
        let mut answer = self.found(&connection, &peers, users).await?;
        if !answer.is_whole {
            // A node that registered again since the list was read.
            let peers = routes.live_now(&connection, node).await?;
            answer = self.found(&connection, &peers, users).await?;
        }
        let unsure = !answer.is_whole || self.redis.is_unsettled();
        if unsure && answer.online.contains(&false) {
            return Err(RedisError("nodes are registering again".to_owned()));
        }
        Ok(answer.online)
    }

    async fn found(
        &self,
        connection: &Connection,
        peers: &[Peer],
        users: &[UserId],
    ) -> Result<Found, RedisError> {
        let mut found = Found { online: vec![false; users.len()], is_whole: true };
        for there in self.redis.routes().lookup(connection, peers, users).await? {
            let Some(there) = there else {
                found.is_whole = false;
                continue;
            };
            found.online.iter_mut().zip(there).for_each(|(online, there)| *online |= there);
        }
        Ok(found)
    }
}

struct Found {
    online: Vec<bool>,
    /// All nodes could be asked.
    is_whole: bool,
}

#[async_trait]
impl Presence for RedisPresence {
    async fn joined(&self, user: UserId) -> Result<(), PresenceError> {
        self.redis.node().joined(user).await.map_err(|error| PresenceError(error.to_string()))
    }

    async fn left(&self, user: UserId) -> Result<(), PresenceError> {
        self.redis.node().left(user);
        Ok(())
    }

    async fn online(&self, users: &[UserId]) -> Result<Vec<bool>, PresenceError> {
        self.ask(users).await.map_err(|error| PresenceError(error.to_string()))
    }
}
