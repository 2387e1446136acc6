//! Which nodes there are, and which of them hold whom.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fred::types::Value;
use tokio::time::Instant;

use super::RedisError;
use super::connection::Connection;
use super::keys::{Keys, LIVE, MARK};
use super::node::Node;
use super::roster::Generation;
use crate::domain::UserId;

/// A list of nodes is good for so long: a node that it lacks finds a hole or silence, and one too many hears
/// nothing.
pub(super) const FRESH: Duration = Duration::from_secs(1);

/// A node that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub node: String,
    /// Its registration.
    pub generation: Generation,
    /// Where it listens.
    pub channel: String,
}

/// A list of nodes, and when it was read.
type Listed = (Instant, Arc<[Peer]>);

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
        let listed = self.listed.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let sound = own.sound_now();
        let has_own =
            |peers: &[Peer]| sound.is_none_or(|own| peers.iter().any(|peer| peer.generation == own));
        match listed {
            Some((at, peers)) if at.elapsed() < FRESH && has_own(&peers) => Ok(peers),
            _ => self.live_now(connection, own).await,
        }
    }

    /// The nodes that hold a lease now.
    ///
    /// # Errors
    /// As `live`.
    pub async fn live_now(&self, connection: &Connection, own: &Node) -> Result<Arc<[Peer]>, RedisError> {
        let at = Instant::now();
        let sound = own.sound_now();
        let arguments = vec![self.keys.leases().into()];
        let names: Vec<String> = connection.eval(LIVE, vec![self.keys.nodes()], arguments).await?;
        let peers: Arc<[Peer]> = names.chunks_exact(2).filter_map(|pair| self.peer(pair)).collect();
        if let Some(generation) = sound
            && !peers.iter().any(|peer| peer.generation == generation)
        {
            own.lost(generation);
        }
        *self.listed.lock().unwrap_or_else(PoisonError::into_inner) = Some((at, Arc::clone(&peers)));
        Ok(peers)
    }

    fn peer(&self, pair: &[String]) -> Option<Peer> {
        let [node, generation] = pair else { return None };
        let generation = Generation::parse(generation)?;
        Some(Peer { node: node.clone(), generation, channel: self.keys.channel(node) })
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
