//! Port: who is due to be told by mail, and what became of it: `notify_due` → `mails` → settled.

use std::time::Duration;

use async_trait::async_trait;

use super::StorageError;
use crate::domain::{ConversationId, Frontier, Seq, Timestamp, UserId};

/// When a due conversation becomes mails.
#[derive(Debug, Clone)]
pub struct DuePolicy {
    /// A conversation is due only through an event within this frontier: what has been published for a whole
    /// grace, so that devices had that long to confirm it.
    pub settled: Frontier,
    /// A mail tells of events within this frontier only: what has been published to the nodes.
    pub published: Frontier,
    /// At least so long between two mails to one member of one conversation; zero: no interval.
    pub min_interval: Duration,
    /// At most so many mails to one person in 24 hours; more end as `capped`.
    pub per_day: u32,
    /// What is overdue by more than this ends as `too_old`.
    pub max_age: Duration,
    /// Conversations at most in this call.
    pub limit: u32,
}

/// What became of due conversations.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Raised {
    /// Mails to send.
    pub mails: u32,
    /// Members who were not to be told, with the recorded reason.
    pub skipped: Vec<(ConversationId, UserId, &'static str)>,
    /// When the next conversation is due, where one waits.
    pub next_due: Option<Timestamp>,
}

/// A mail that this worker may send until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeasedMail {
    /// Its number.
    pub id: i64,
    /// The conversation.
    pub conversation: ConversationId,
    /// Who is told.
    pub user: UserId,
    /// How often it was tried before.
    pub attempts: u32,
    /// When it was raised: retries end `notify` retry time after this.
    pub created_at: Timestamp,
    /// The same in each try; becomes the Message-ID.
    pub message_id: uuid::Uuid,
}

/// What a mail says, read just before it is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The recipient's name.
    pub recipient_name: String,
    /// The recipient's address.
    pub email: String,
    /// The sender's name.
    pub sender_name: String,
    /// How many messages of others are unconfirmed.
    pub count: u32,
    /// The first of them, oldest first, at most 20.
    pub contents: Vec<String>,
    /// The first and last seq told of.
    pub from: Seq,
    /// See `from`.
    pub to: Seq,
}

/// How a try ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settlement {
    /// The channel took it.
    Sent,
    /// Try again after this long.
    Retry {
        /// How long to wait.
        after: Duration,
        /// Why, without address or content.
        reason: String,
    },
    /// Never again: a dead letter with its reason.
    Failed {
        /// Why, without address or content.
        reason: String,
    },
    /// It was confirmed, or all of it deleted, before it was sent.
    Withdrawn,
    /// The way was closed before its turn came: it keeps its place, and the try does not count.
    Untried {
        /// Why, without address or content.
        reason: String,
    },
}

/// Notifications.
#[async_trait]
pub trait Notifications: Send + Sync {
    /// Turns due conversations into mails, one transaction: for each member with others' messages above
    /// `greatest(delivered, read, notified)`, the first of which was stored a grace ago or earlier, one mail
    /// for everything published or a recorded reason (`no_address`, `disabled`, `capped`, `too_old`), and
    /// `notified` moves there. A member within `min_interval` waits for it. What is due and not yet
    /// published is looked at again a second later.
    async fn raise_due(&self, policy: &DuePolicy) -> Result<Raised, StorageError>;

    /// Leases mails whose time has come, the longest due first; no other worker gets them before the lease
    /// ends.
    async fn lease_mails(&self, lease: Duration, limit: u32) -> Result<Vec<LeasedMail>, StorageError>;

    /// What the mail says now; `None` when nothing unconfirmed is left of it, the recipient has no address any
    /// more or was disabled, or it is settled already.
    async fn letter(&self, mail: i64) -> Result<Option<Letter>, StorageError>;

    /// Records how a try ended; of a settled mail nothing changes.
    async fn settle_mail(&self, mail: i64, settlement: &Settlement) -> Result<(), StorageError>;

    /// When a conversation is due, where it is.
    async fn due_at(&self, conversation: ConversationId) -> Result<Option<Timestamp>, StorageError>;

    /// When the next due conversation or mail may need work.
    async fn next_work(&self) -> Result<Option<Timestamp>, StorageError>;
}
