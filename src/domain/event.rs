//! What has happened in a conversation: stored records with their seq.

use super::record::{MessageBody, RecordBody};
use super::{
    ClientId, Content, ConversationId, Data, Digest, ErrorCode, MessageId, Position, Seq, Timestamp, UserId,
};

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
    pub body: EventBody,
}

/// What happened. Told as it happens it has the record's words. Read later it has those of now: the last ones,
/// and none once the message was deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventBody {
    /// Somebody wrote a message.
    Message(Message),
    /// Its author changed a message.
    Edited {
        /// The message.
        target: MessageId,
        /// Its text; `None` once it was deleted.
        content: Option<Content>,
    },
    /// A message was deleted.
    Deleted {
        /// The message.
        target: MessageId,
    },
}

/// A message, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The text; `None` once it was deleted.
    pub content: Option<Content>,
    /// The application's own data; `None` once it was deleted.
    pub data: Option<Data>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
    /// When it was last edited.
    pub edited_at: Option<Timestamp>,
    /// When it was deleted.
    pub deleted_at: Option<Timestamp>,
}

impl From<RecordBody> for EventBody {
    /// What happens when this is stored.
    fn from(body: RecordBody) -> Self {
        match body {
            RecordBody::Message(MessageBody { content, data, reply_to }) => Self::Message(Message {
                content: Some(content),
                data,
                reply_to,
                edited_at: None,
                deleted_at: None,
            }),
            RecordBody::Edit { target, content } => Self::Edited { target, content: Some(content) },
            RecordBody::Delete { target } => Self::Deleted { target },
        }
    }
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
    /// What it asked for, where a retry of it is to end the same way: kept, and told to nobody.
    pub digest: Option<Digest>,
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
