//! What a sender asks for, as the log keeps it. Storing gives it a seq; see `history`.

use super::content::{Content, Data};
use super::{ClientId, ConversationId, MessageId, Timestamp, UserId};

/// A record of the log: one thing that somebody wants to happen in a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// Follows from conversation, sender and client_id.
    pub id: MessageId,
    /// The sender's own id.
    pub client_id: ClientId,
    /// Where it happens.
    pub conversation: ConversationId,
    /// Who wants it.
    pub from: UserId,
    /// When it was accepted, by the accepting node's clock.
    pub at: Timestamp,
    /// What is wanted.
    pub body: RecordBody,
}

/// What a record wants; more kinds come with groups and edits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordBody {
    /// A new message.
    Message(MessageBody),
}

/// A message, as sent and as stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBody {
    /// The text.
    pub content: Content,
    /// The application's own data.
    pub data: Option<Data>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
}

impl Record {
    /// Whether `other`, of the same id, asks for the same thing: a retry, not a reuse.
    pub fn is_retry_of(&self, other: &RecordBody) -> bool {
        self.body == *other
    }
}
