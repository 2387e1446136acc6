//! The ports of a running chatd, put together: every use case gets this as its first parameter.

pub mod backends;
pub mod build;
pub mod consistent;
pub mod doctor;
pub mod health;
pub mod lock;
pub mod moved;
pub mod moving;
pub mod open;

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use crate::auth::{Tickets, TokenVerifier};
use crate::chat::directory::Directory;
use crate::chat::receipts::Pending;
use crate::chat::recent::Recent;
use crate::delivery::{Fanout, Hub, Link};
use crate::domain::history::Rules;
use crate::domain::{Audience, LogNumber};
use crate::pipeline::{EventLog, EventSource};
use crate::presence::{Attendance, Presence};
use crate::storage::Storage;
use crate::telemetry::story::Story;
use health::Health;

/// Everything that a use case may need. Ports are shared; state has one owner each.
pub struct App {
    /// Everything that is kept.
    pub storage: Arc<dyn Storage>,
    /// The message log, written.
    pub log: Arc<dyn EventLog>,
    /// The message log, read.
    pub source: Arc<dyn EventSource>,
    /// Live events and receipts to nodes.
    pub fanout: Arc<dyn Fanout>,
    /// This node's end of them.
    pub link: Arc<dyn Link>,
    /// This node's sockets.
    pub hub: Arc<Hub>,
    /// Who is connected.
    pub presence: Arc<dyn Presence>,
    /// This node's users, and when they were seen.
    pub attendance: Attendance,
    /// Tokens.
    pub tokens: Arc<dyn TokenVerifier>,
    /// One-use tickets.
    pub tickets: Arc<dyn Tickets>,
    /// Users as this node has read them lately.
    pub directory: Directory,
    /// What this node accepted lately.
    pub recent: Recent,
    /// Receipts on their way to storage.
    pub pending: Pending,
    /// What is wrong now.
    pub health: Health,
    /// A line for each message, in development.
    pub story: Arc<Story>,
    /// Which log the storage follows.
    pub log_number: LogNumber,
    /// The incarnation of the history; cursors belong to it.
    pub incarnation: Uuid,
    /// What use cases want of the configuration.
    pub settings: Settings,
}

/// What use cases want of the configuration; sizes in bytes.
#[derive(Debug, Clone)]
pub struct Settings {
    /// This node's name in `hello`, unique among nodes.
    pub node: String,
    /// Whether a first token makes its user.
    pub provision: bool,
    /// Who sees whether somebody is there, unless that one says otherwise.
    pub visible_to: Audience,
    /// How long an unconfirmed message waits before it is notified.
    pub grace: Duration,
    /// By what records are judged.
    pub rules: Rules,
    /// Whether an answered ping confirms what was written before it.
    pub pong_confirms: bool,
    /// The time between two heartbeats of a socket.
    pub heartbeat: Duration,
    /// How long a socket may take nothing.
    pub stall: Duration,
    /// Frames that are no JSON, forgiven in a minute.
    pub bad_json_per_minute: u32,
    /// The longest WebSocket message.
    pub message_bytes_max: usize,
    /// The longest content.
    pub content_bytes_max: usize,
    /// The largest `data`.
    pub data_bytes_max: usize,
    /// The most sockets of this node.
    pub sockets_max: usize,
    /// Events of one conversation that a resume pushes; the rest is a gap.
    pub gap_per_conversation: i64,
    /// Events that a resume pushes in all.
    pub gap_total: i64,
}
