//! Presence through Redis: who is in the set of users of any node that holds a lease, or held one until a moment ago
//! (`RedisSettings::linger`).

use std::hash::{DefaultHasher, Hash, Hasher};
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
        let peers = routes.known(&connection, node).await?;
        let mut answer = self.found(&connection, &peers, users).await?;
        if !answer.is_whole {
            // A node that registered again since the list was read.
            let peers = routes.known_now(&connection, node).await?;
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
        let answers = self.redis.routes().lookup(connection, peers, users).await?;
        for (peer, there) in peers.iter().zip(answers) {
            let Some(there) = there else {
                // Of one that has ended nobody will say more.
                found.is_whole &= !peer.is_live;
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
        if users.is_empty() {
            return Ok(Vec::new());
        }
        self.ask(users).await.map_err(|error| PresenceError(error.to_string()))
    }

    async fn changed(&self) -> Vec<UserId> {
        self.redis.node().changed().await
    }

    async fn outlook(&self) -> Result<u64, PresenceError> {
        let nodes = async {
            let connection = self.redis.connection()?;
            self.redis.routes().known(&connection, self.redis.node()).await
        };
        let nodes = nodes.await.map_err(|error: RedisError| PresenceError(error.to_string()))?;
        let mut registrations: Vec<_> =
            nodes.iter().map(|peer| (peer.node.as_str(), peer.generation)).collect();
        registrations.sort_unstable();
        let mut hasher = DefaultHasher::new();
        registrations.hash(&mut hasher);
        Ok(hasher.finish())
    }
}
