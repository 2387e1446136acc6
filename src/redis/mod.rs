//! What the Redis adapters of `auth`, `delivery` and `presence` share: the one connection of a process, and this
//! node's registration there. A room of its own, because adapters do not name each other, and because the
//! connection, the subscription and the registration have to live and die together. No port: only those three
//! adapters and `app/build.rs` name it. Redis 6.2 or newer, or what speaks the same (RESP3, `SMISMEMBER`).
//!
//! In Redis, all of it with `redis.prefix` before it, and all of it gone by itself when nobody renews it:
//!
//! | key | what |
//! |---|---|
//! | `nodes` | set of the names of nodes that hold a lease, or held one lately |
//! | `lease:<node>` | the node's generation; lives for three heartbeats and a second |
//! | `linger:<node>` | the same, for `presence.offline_after` longer: so long who was there counts as there |
//! | `users:<node>:<generation>` | set of the users with a socket there, and the mark `0` |
//! | `ticket:<hash>` | see `auth::redis` |
//! | channel `node:<node>` | what the node is told |
//!
//! What makes a node hear of everything that concerns its sockets, or know that it does not:
//!
//! 1. A *generation* is one registration of a node: a random number, and a set of users that nothing but this
//!    registration's own commands fills, one after the other on one connection. A connection that is lost, a
//!    command that failed and a lease that is gone each end the generation. What is late of it then changes a set
//!    that nobody reads any more.
//! 2. A generation is *sound* once Redis holds all of its users. The command that says so compares the number of
//!    users in the set with the number that was put in, marks the set and takes the lease, atomically. So the mark
//!    stands in whole sets only: whatever Redis loses of a set (`FLUSHALL`, eviction, expiry), it loses the mark.
//! 3. A user is in the set before the session reads from storage how far it is (`Node::joined`); an owner asks who
//!    is where after its commit (`Routes::lookup`). So what the session does not read, the owner finds it for.
//! 4. An owner reads the mark and the members with one command. A node whose set is not whole is told everything.
//! 5. What concerns some users only names the generation that it was looked up in, and a node takes it while that
//!    generation is sound. What it does not take is a hole for the next publication, and a hole is repaired.
//! 6. While no generation is sound the node reads storage again and again. `joined` waits for nothing while there
//!    is no generation: the next one begins with everybody who is there. While one is registering it waits; where
//!    that takes too long, it ends the generation before it returns.
//! 7. The subscription is the connection's first command, so that publications are never lost while the
//!    connection goes on; and every user of the connection ends it when an answer does not come.

pub mod connection;
pub mod inspect;
mod keys;
pub mod node;
mod reconnect;
mod roster;
pub mod routes;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::domain::Secret;

pub use connection::{Connection, Messages, Missed};
pub use keys::Keys;
pub use node::Node;
pub use reconnect::Unsettled;
pub use roster::Generation;
pub use routes::{Peer, Routes};

/// How to reach Redis, and who is asking.
#[derive(Debug, Clone)]
pub struct RedisSettings {
    /// `redis://`, `rediss://`, `redis-sentinel://` or `rediss-sentinel://`, with user, password and database.
    pub url: Secret<String>,
    /// A PEM of the authorities to believe; the system's by default.
    pub ca_file: Option<PathBuf>,
    /// Begins every key and channel.
    pub prefix: String,
    /// This process's name, unique among all.
    pub node: String,
    /// The time between two renewals of the lease.
    pub heartbeat: Duration,
    /// So long the users of a node that has ended count as there.
    pub linger: Duration,
}

impl RedisSettings {
    /// One small command every three seconds.
    pub const HEARTBEAT: Duration = Duration::from_secs(3);
}

/// Settings that can never work.
#[derive(Debug, thiserror::Error)]
pub enum RedisSetupError {
    /// Not a URL that leads to Redis; the sentence holds no part of it.
    #[error("redis.url cannot be used: {0}")]
    Url(String),
    /// The file of authorities.
    #[error("the authorities to believe cannot be read from {place}: {reason}")]
    Authorities {
        /// The file, or the system.
        place: String,
        /// Why.
        reason: String,
    },
}

/// Redis did not do what was asked, or did not say so in time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Redis: {0}")]
pub struct RedisError(pub String);

/// Redis, as this process knows it. The connection is made in the background, and again whenever it is lost.
pub struct Redis {
    current: watch::Receiver<Option<Connection>>,
    keys: Arc<Keys>,
    node: Node,
    routes: Routes,
    unsettled: Arc<Unsettled>,
    _ends: DropGuard,
}

impl Redis {
    /// Begins to connect; waits for nothing. Ends when it is dropped. Needs to be called within a runtime.
    ///
    /// # Errors
    /// The settings can never work. That Redis is away is none.
    pub fn open(settings: RedisSettings) -> Result<Arc<Self>, RedisSetupError> {
        let config = connection::config(&settings)?;
        let keys = Arc::new(Keys::new(&settings.prefix, &settings.node));
        let unsettled = Arc::new(Unsettled::new(settings.heartbeat));
        let ends = CancellationToken::new();
        let current = reconnect::keep_connected(config, &keys, &unsettled, ends.clone());
        Ok(Arc::new(Self {
            current,
            node: Node::new(Arc::clone(&keys), &settings, Arc::clone(&unsettled)),
            routes: Routes::new(Arc::clone(&keys)),
            keys,
            unsettled,
            _ends: ends.drop_guard(),
        }))
    }

    /// The connection that stands now.
    ///
    /// # Errors
    /// There is none: nothing waits for Redis to come back.
    pub fn connection(&self) -> Result<Connection, RedisError> {
        self.current.borrow().clone().ok_or_else(|| RedisError("not connected".to_owned()))
    }

    /// Waits until there is a connection.
    pub async fn connected(&self) -> Connection {
        let mut current = self.current.clone();
        loop {
            if let Some(connection) = current.borrow_and_update().clone() {
                return connection;
            }
            if current.changed().await.is_err() {
                // The task that connects has ended with its runtime.
                std::future::pending::<()>().await;
            }
        }
    }

    /// This node's registration.
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// Who is where.
    pub fn routes(&self) -> &Routes {
        &self.routes
    }

    /// The names of keys.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// Whether nodes may still have to register again: who is not found may be connected all the same.
    pub fn is_unsettled(&self) -> bool {
        self.unsettled.is_unsettled()
    }
}
