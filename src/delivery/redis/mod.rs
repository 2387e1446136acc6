//! Fan-out through Redis: one channel a node, and a look at who is where before each telling.
//!
//! What concerns a user goes to the nodes that hold the user; how far each partition is goes to all. Where there
//! is one node it is told everything, unasked. So is a node whose users cannot be told now, and of rejections,
//! which are rare, every node is told: the one that accepted the record remembers it (`chat::recent`), whether or
//! not its sender has a socket there. Why nothing is lost unnoticed: `crate::redis`.

mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;

use self::wire::{Told, Unreadable, Written};
use super::hub::members;
use super::{Fanout, FanoutError, Hint, Hub, Link, Publication, Typing};
use crate::domain::{ConversationId, Outcome, UserId};
use crate::redis::{Connection, Messages, Missed, Peer, Redis, RedisError};
use crate::storage::Receipt;

/// Between two registrations where Redis answers, but refuses.
const PAUSE: Duration = Duration::from_millis(500);

/// The way from owners to nodes, and this node's end of it.
pub struct RedisFanout {
    redis: Arc<Redis>,
    hub: Arc<Hub>,
    /// Said once: who reads the log knows then that another release is at work.
    warned: AtomicBool,
}

impl RedisFanout {
    /// Fan-out from this process, and into this hub.
    pub fn new(redis: Arc<Redis>, hub: Arc<Hub>) -> Self {
        Self { redis, hub, warned: AtomicBool::new(false) }
    }

    async fn tell(&self, publications: &[Publication]) -> Result<(), RedisError> {
        let connection = self.redis.connection()?;
        if publications.is_empty() {
            return connection.ping().await;
        }
        let peers = self.redis.routes().live(&connection, self.redis.node()).await?;
        let outcomes = publications.iter().flat_map(|publication| publication.outcomes.iter());
        let places = self.places(&connection, &peers, || outcomes.map(concerned).collect()).await?;
        let written = Written::new(publications);
        let mut messages = Vec::new();
        // Often the same for all: then it is written once.
        let mut everything: Option<Vec<Bytes>> = None;
        for (number, peer) in peers.iter().enumerate() {
            let for_peer = if places.is_known(number) {
                written.messages(Some(peer.generation), |outcome| places.concerns(number, outcome))
            } else {
                everything.get_or_insert_with(|| written.messages(None, |_| true)).clone()
            };
            messages.extend(for_peer.into_iter().map(|message| (peer.channel.clone(), message)));
        }
        publish(&connection, messages).await
    }

    async fn tell_typing(&self, typing: &[Typing]) -> Result<(), RedisError> {
        let connection = self.redis.connection()?;
        let peers = self.redis.routes().live(&connection, self.redis.node()).await?;
        let own = self.redis.keys().node();
        let others: Vec<Peer> = peers.iter().filter(|peer| peer.node != own).cloned().collect();
        let concerned = || typing.iter().map(to_others).collect();
        let places = self.places(&connection, &others, concerned).await?;
        let mut messages = Vec::new();
        for (number, peer) in others.iter().enumerate() {
            let for_peer = wire::typing(typing, |one| places.concerns(number, one));
            messages.extend(for_peer.into_iter().map(|message| (peer.channel.clone(), message)));
        }
        publish(&connection, messages).await
    }

    async fn tell_presence(&self, hints: &[Hint]) -> Result<(), RedisError> {
        let connection = self.redis.connection()?;
        // Not a list of a second ago: a node that it lacks would keep what it has told.
        let peers = self.redis.routes().live_now(&connection, self.redis.node()).await?;
        let own = self.redis.keys().node();
        let written = wire::presence(hints);
        let others = peers.iter().filter(|peer| peer.node != own);
        let messages =
            others.flat_map(|peer| written.iter().map(|message| (peer.channel.clone(), message.clone())));
        publish(&connection, messages.collect()).await
    }

    async fn tell_receipts(&self, receipts: &[Receipt]) -> Result<(), RedisError> {
        let connection = self.redis.connection()?;
        let peers = self.redis.routes().live(&connection, self.redis.node()).await?;
        let concerned = || receipts.iter().map(|one| of_conversation(one.conversation)).collect();
        let places = self.places(&connection, &peers, concerned).await?;
        let mut messages = Vec::new();
        for (number, peer) in peers.iter().enumerate() {
            let for_peer = wire::receipts(receipts, |receipt| places.concerns(number, receipt));
            messages.extend(for_peer.into_iter().map(|message| (peer.channel.clone(), message)));
        }
        publish(&connection, messages).await
    }

    /// Who of those concerned is where. One node alone is not asked for.
    async fn places(
        &self,
        connection: &Connection,
        peers: &[Peer],
        concerned: impl FnOnce() -> Vec<Concerned>,
    ) -> Result<Places, RedisError> {
        if peers.len() < 2 {
            return Ok(Places::default());
        }
        let concerned = concerned();
        let mut users: Vec<UserId> = concerned.iter().flat_map(Concerned::users).copied().collect();
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Ok(Places::default());
        }
        let found = self.redis.routes().lookup(connection, peers, &users).await?;
        Ok(Places { concerned, users, found })
    }

    /// Feeds the hub from one connection until it ends, or the registration fails.
    async fn follow(&self, connection: &Connection) {
        let node = self.redis.node();
        tokio::select! {
            () = connection.ended() => {}
            () = self.receive(connection.messages()) => {}
            () = self.doubt() => {}
            error = node.keep(connection) => {
                tracing::warn!(%error, "this node cannot be registered: trying again");
            }
        }
        node.away();
        self.hub.doubt(true);
    }

    async fn receive(&self, mut messages: Messages) {
        while let Some(message) = messages.next().await {
            match message {
                Ok(message) => self.take(&message),
                // The next publication of the same partitions leaves a hole; a hint leaves none.
                Err(Missed(count)) => {
                    metrics::counter!("chatd_fanout_dropped_total").increment(count);
                    self.hub.watchers().hint_all();
                }
            }
        }
    }

    fn take(&self, message: &[u8]) {
        match wire::read(message) {
            Ok(Told::Publications { generation, publications }) => {
                if generation.is_none_or(|generation| self.redis.node().is_sound(generation)) {
                    publications.iter().for_each(|publication| self.hub.receive(publication));
                }
            }
            Ok(Told::Receipts(receipts)) => self.hub.receipts(&receipts),
            Ok(Told::Typing(typing)) => self.hub.typing(&typing),
            Ok(Told::Presence(hints)) => self.hub.watchers().hint(hints),
            Err(error @ (Unreadable::Version(_) | Unreadable::Damaged)) => {
                if !self.warned.swap(true, Ordering::Relaxed) {
                    tracing::warn!(%error, "what owners tell cannot be read: this node reads storage in its place");
                }
            }
        }
    }

    /// Lets the hub know whether this node can vouch for what it hears. Each new generation ends with a look at
    /// storage, since what the one before did not take may have left no trace.
    async fn doubt(&self) {
        let mut sound = self.redis.node().sound();
        loop {
            let is_sound = sound.borrow_and_update().is_some();
            self.hub.doubt(true);
            if is_sound {
                self.hub.doubt(false);
            }
            if sound.changed().await.is_err() {
                return;
            }
        }
    }
}

async fn publish(connection: &Connection, messages: Vec<(String, Bytes)>) -> Result<(), RedisError> {
    if messages.is_empty() { Ok(()) } else { connection.publish(messages).await }
}

/// Whom an outcome or a receipt concerns.
enum Concerned {
    /// These.
    Users(Vec<UserId>),
    /// Whoever there is.
    All,
}

impl Concerned {
    fn users(&self) -> &[UserId] {
        match self {
            Self::Users(users) => users,
            Self::All => &[],
        }
    }
}

fn concerned(outcome: &Outcome) -> Concerned {
    match outcome {
        Outcome::Stored(event) => of_conversation(event.conversation),
        Outcome::Rejected(_) => Concerned::All,
    }
}

fn of_conversation(conversation: ConversationId) -> Concerned {
    Concerned::Users(members(conversation).collect())
}

fn to_others(typing: &Typing) -> Concerned {
    Concerned::Users(members(typing.conversation).filter(|member| *member != typing.user).collect())
}

/// Which nodes hold whom; without an entry for a node, nothing is known of it.
#[derive(Default)]
struct Places {
    /// By the number of the outcome or receipt.
    concerned: Vec<Concerned>,
    /// All of them, sorted.
    users: Vec<UserId>,
    /// By the number of the node, then of the user.
    found: Vec<Option<Vec<bool>>>,
}

impl Places {
    fn is_known(&self, node: usize) -> bool {
        matches!(self.found.get(node), Some(Some(_)))
    }

    /// Whether a node is told; one of which nothing is known is told everything.
    fn concerns(&self, node: usize, number: usize) -> bool {
        let Some(Some(found)) = self.found.get(node) else { return true };
        let Some(Concerned::Users(users)) = self.concerned.get(number) else { return true };
        let is_there =
            |user: &UserId| self.users.binary_search(user).is_ok_and(|place| found.get(place) == Some(&true));
        users.iter().any(is_there)
    }
}

#[async_trait]
impl Fanout for RedisFanout {
    async fn publish(&self, publications: Vec<Publication>) -> Result<(), FanoutError> {
        self.tell(&publications).await.map_err(|error| FanoutError(error.to_string()))
    }

    async fn receipts(&self, receipts: Vec<Receipt>) -> Result<(), FanoutError> {
        if receipts.is_empty() {
            return Ok(());
        }
        self.tell_receipts(&receipts).await.map_err(|error| FanoutError(error.to_string()))
    }

    async fn typing(&self, typing: Vec<Typing>) -> Result<(), FanoutError> {
        self.hub.typing(&typing);
        if typing.is_empty() {
            return Ok(());
        }
        self.tell_typing(&typing).await.map_err(|error| FanoutError(error.to_string()))
    }

    async fn presence(&self, hints: &[Hint]) -> Result<(), FanoutError> {
        self.hub.watchers().hint(hints.iter().copied());
        if hints.is_empty() {
            return Ok(());
        }
        self.tell_presence(hints).await.map_err(|error| FanoutError(error.to_string()))
    }
}

#[async_trait]
impl Link for RedisFanout {
    async fn run(&self, stop: CancellationToken) {
        self.hub.doubt(true);
        loop {
            let connection = tokio::select! {
                connection = self.redis.connected() => connection,
                () = stop.cancelled() => return,
            };
            tokio::select! {
                () = self.follow(&connection) => {}
                () = stop.cancelled() => {
                    if let Err(error) = self.redis.node().unregister(&connection).await {
                        tracing::warn!(%error, "this node's registration ends by itself");
                    }
                    return;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = stop.cancelled() => return,
            }
        }
    }
}
