//! What has happened in a conversation: stored records with their seq.

use super::record::RecordBody;
use super::{ClientId, ConversationId, ErrorCode, MessageId, Position, Seq, Timestamp, UserId};

/// A stored record: it has a seq, the same on every device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Where it happened.
    pub conversation: ConversationId,
    /// Its place there.
    pub seq: Seq,
    /// Where in the log it came from.
    pub position: Position,
    /// The record's id.
    pub id: MessageId,
    /// The sender's own id of it.
    pub client_id: ClientId,
    /// Who did it.
    pub from: UserId,
    /// When: never decreases along seq.
    pub at: Timestamp,
    /// What.
    pub body: RecordBody,
}

/// An accepted record that the log's order made impossible; its sender is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// Where it would have happened.
    pub conversation: ConversationId,
    /// Where in the log it is.
    pub position: Position,
    /// The record's id.
    pub id: MessageId,
    /// The sender's own id of it.
    pub client_id: ClientId,
    /// Who is told.
    pub from: UserId,
    /// Why.
    pub code: ErrorCode,
}

/// What became of a record that the applier read: what nodes are told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Stored, in history once.
    Stored(Event),
    /// Refused; told to the sender.
    Rejected(Rejection),
}

impl Outcome {
    /// Where in the log the record is.
    pub fn position(&self) -> Position {
        match self {
            Self::Stored(event) => event.position,
            Self::Rejected(rejection) => rejection.position,
        }
    }
}
