//! Live events to the nodes that hold sockets: the port, and this node's hub. Adapters: `memory`, `redis`.
//!
//! The owner of a partition publishes what it applied, in offset order, each publication naming where the one
//! before ended (`prev`) and where it ends (`through`). A node that finds a hole, or hears nothing for 3 s,
//! reads storage from what it knows (`chat::deliver`), so a lost publication costs time, never a message.

pub mod frame;
pub mod hub;
pub mod mailbox;
pub mod memory;
pub mod pace;
pub mod redis;
pub mod track;
pub mod typing;
pub mod watchers;

use std::sync::Arc;

use async_trait::async_trait;
use tokio_util::sync::CancellationToken;

use crate::domain::{LogNumber, Offset, Outcome, Partition};
use crate::storage::Receipt;

pub use hub::{Attachment, Hub, Place};
pub use mailbox::{Item, Mailbox};
pub use typing::Typing;
pub use watchers::Hint;

/// What an owner tells the nodes about its partition.
#[derive(Debug, Clone)]
pub struct Publication {
    /// The log.
    pub log: LogNumber,
    /// The partition.
    pub partition: Partition,
    /// Where the publication before this one ended.
    pub prev: Offset,
    /// Where this one ends; equal to `prev` in an owner's beat.
    pub through: Offset,
    /// Everything stored or rejected after `prev` and up to `through`, in offset order.
    pub outcomes: Arc<[Outcome]>,
}

/// Why the nodes could not be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("fan-out is unavailable: {0}")]
pub struct FanoutError(pub String);

/// Telling nodes. At most once, in order for each partition; what is lost is repaired by the scan.
///
/// A node that registered a user (`presence::Presence::joined`) before a record was stored is told of what
/// concerns that user, or finds a hole later: an adapter looks up who is where after the record was stored.
#[async_trait]
pub trait Fanout: Send + Sync {
    /// Tells every node: all hear how far each partition is, and what concerns their sockets. With nothing to
    /// publish it only finds out whether nodes can be reached.
    async fn publish(&self, publications: Vec<Publication>) -> Result<(), FanoutError>;

    /// Tells the members of their conversations about moved cursors. Best effort: `resume` tells them again.
    async fn receipts(&self, receipts: Vec<Receipt>) -> Result<(), FanoutError>;

    /// Tells the other members of their conversations that somebody types, or stopped; those on this node first, and
    /// whatever the answer is. Best effort: what is lost ends by itself (`Hub::typing`).
    async fn typing(&self, typing: Vec<Typing>) -> Result<(), FanoutError>;

    /// Tells every node, this one first, that something about these users' presence changed, so that it looks at
    /// those whom its sockets watch. A node that was told of a change can see it. After an error others may not have
    /// been told: tell them again.
    async fn presence(&self, hints: &[Hint]) -> Result<(), FanoutError>;
}

/// This node's end of the fan-out.
#[async_trait]
pub trait Link: Send + Sync {
    /// Feeds the hub with what owners publish, until it is told to stop. While it cannot vouch that all of it
    /// arrives, the hub is in doubt (`Hub::doubt`), and the node scans.
    async fn run(&self, stop: CancellationToken);
}
