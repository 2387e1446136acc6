//! Which nodes there are, and which of them hold whom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::types::Value;
use tokio::time::Instant;

use super::RedisError;
use super::connection::Connection;
use super::keys::{KNOWN, Keys, MARK};
use super::node::Node;
use super::roster::Generation;
use crate::domain::UserId;

/// A list of nodes is good for so long: a node that it lacks finds a hole or silence, and one too many hears
/// nothing.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// A node that holds a lease, or did until a moment ago.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Its registration.
    pub generation: Generation,
    /// Where it listens.
    pub channel: String,
    /// It holds a lease.
    pub is_live: bool,
}

/// A list of nodes, and when it was read.
#[derive(Clone)]
struct Listed {
    at: Instant,
    known: Arc<[Peer]>,
    /// Those of them that hold a lease.
    live: Arc<[Peer]>,
}

/// Finds nodes. Keeps the list of them for a second.
pub struct Routes {
    keys: Arc<Keys>,
    listed: Mutex<Option<Listed>>,
}

impl Routes {
    pub(super) fn new(keys: Arc<Keys>) -> Self {
        Self { keys, listed: Mutex::default() }
    }

    /// The nodes that hold a lease, as of a second ago at most. `own` is this process's registration: a list that
    /// lacks it shows that Redis lost something.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn live(&self, connection: &Connection, own: &Node) -> Result<Arc<[Peer]>, RedisError> {
        Ok(self.listed(connection, own).await?.live)
    }

    /// The nodes whose users count as there, as of a second ago at most: also those that held a lease until a moment
    /// ago.
    ///
    /// # Errors
    /// As `live`.
    pub async fn known(&self, connection: &Connection, own: &Node) -> Result<Arc<[Peer]>, RedisError> {
        Ok(self.listed(connection, own).await?.known)
    }

    async fn listed(&self, connection: &Connection, own: &Node) -> Result<Listed, RedisError> {
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sound = own.sound_now();
        let has_own =
            |peers: &[Peer]| sound.is_none_or(|own| peers.iter().any(|peer| peer.generation == own));
        match listed {
            Some(listed) if listed.at.elapsed() < FRESH && has_own(&listed.live) => Ok(listed),
            _ => self.list(connection, own).await,
        }
    }

    /// The nodes that hold a lease now.
    ///
    /// # Errors
    /// As `live`.
    pub async fn live_now(&self, connection: &Connection, own: &Node) -> Result<Arc<[Peer]>, RedisError> {
        Ok(self.list(connection, own).await?.live)
    }

    /// The nodes whose users count as there now.
    ///
    /// # Errors
    /// As `live`.
    pub async fn known_now(&self, connection: &Connection, own: &Node) -> Result<Arc<[Peer]>, RedisError> {
        Ok(self.list(connection, own).await?.known)
    }

    async fn list(&self, connection: &Connection, own: &Node) -> Result<Listed, RedisError> {
        let at = Instant::now();
        let sound = own.sound_now();
        let arguments = vec![self.keys.leases().into(), self.keys.lingering().into()];
        let names: Vec<String> = connection.eval(KNOWN, vec![self.keys.nodes()], arguments).await?;
        let known: Arc<[Peer]> = names.chunks_exact(3).filter_map(|node| self.peer(node)).collect();
        let live: Arc<[Peer]> = known.iter().filter(|peer| peer.is_live).cloned().collect();
        if let Some(generation) = sound
            && !live.iter().any(|peer| peer.generation == generation)
        {
            own.lost(generation);
        }
        let listed = Listed { at, known, live };
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some(listed.clone());
        Ok(listed)
    }

    fn peer(&self, named: &[String]) -> Option<Peer> {
        let [node, generation, lease] = named else { return None };
        let generation = Generation::parse(generation)?;
        let channel = self.keys.channel(node);
        Some(Peer { node: node.clone(), generation, channel, is_live: lease == "1" })
    }

    /// For each node in turn whether each user is there; none where the node's set is not whole. What was stored
    /// before this call is stored before it is asked who is where.
    ///
    /// # Errors
    /// Redis does not answer.
    pub async fn lookup(
        &self,
        connection: &Connection,
        peers: &[Peer],
        users: &[UserId],
    ) -> Result<Vec<Option<Vec<bool>>>, RedisError> {
        let mut members = Vec::with_capacity(users.len() + 1);
        members.push(Value::from(MARK));
        members.extend(users.iter().map(|user| Value::from(user.get())));
        let keys = peers.iter().map(|peer| self.keys.users(&peer.node, peer.generation));
        let answers = connection.members(keys, &members).await?;
        if answers.len() != peers.len() {
            return Err(RedisError("it did not answer for each node".to_owned()));
        }
        let whole = |answer: Vec<i64>| match answer.split_first() {
            Some((1, there)) if there.len() == users.len() => Some(there.iter().map(|is| *is == 1).collect()),
            _ => None,
        };
        Ok(answers.into_iter().map(whole).collect())
    }
}
