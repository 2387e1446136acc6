//! What a sender asks for, as the log keeps it. Storing gives it a seq; see `history`.

use sha2::{Digest as _, Sha256};
use uuid::Uuid;

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

/// What a record wants; more kinds come with groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordBody {
    /// A new message.
    Message(MessageBody),
    /// Another text for a message.
    Edit {
        /// The message; never an edit of it.
        target: MessageId,
        /// The text that it has from now on.
        content: Content,
    },
    /// The end of a message.
    Delete {
        /// The message.
        target: MessageId,
    },
}

/// A message, as sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MessageBody {
    /// The text.
    pub content: Content,
    /// The application's own data.
    pub data: Option<Data>,
    /// The message it answers.
    pub reply_to: Option<MessageId>,
}

/// Tells what records ask for apart where their words are not kept: the first 16 bytes of a SHA-256 over all that a
/// retry has to repeat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub Uuid);

impl RecordBody {
    /// The message that must be there for this to happen: the one to change, or to answer.
    pub fn refers_to(&self) -> Option<MessageId> {
        match self {
            Self::Message(message) => message.reply_to,
            Self::Edit { target, .. } | Self::Delete { target } => Some(*target),
        }
    }

    /// See [`Digest`].
    pub fn digest(&self) -> Digest {
        match self {
            Self::Message(MessageBody { content, data, reply_to }) => {
                let data = data.as_ref().map(|data| data.as_str());
                digest(b"message", *reply_to, &[Some(content.as_str()), data])
            }
            Self::Edit { target, content } => digest(b"edit", Some(*target), &[Some(content.as_str())]),
            Self::Delete { target } => digest(b"delete", Some(*target), &[]),
        }
    }
}

/// Each part with its length before it, so that no two bodies have the same bytes.
fn digest(kind: &[u8], other: Option<MessageId>, texts: &[Option<&str>]) -> Digest {
    let mut hash = Sha256::new();
    hash.update(kind);
    let other = other.as_ref().map(|id| id.0.as_bytes().as_slice());
    let texts = texts.iter().map(|text| text.map(str::as_bytes));
    for part in std::iter::once(other).chain(texts) {
        // No part is that long, so this stands for one that is not there.
        hash.update(part.map_or(u64::MAX, |part| part.len() as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    Digest(Uuid::from_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(content: &str, data: Option<&str>, reply_to: Option<u128>) -> RecordBody {
        RecordBody::Message(MessageBody {
            content: Content::new(content).unwrap(),
            data: data.map(|data| serde_json::from_str(data).unwrap()),
            reply_to: reply_to.map(|id| MessageId(Uuid::from_u128(id))),
        })
    }

    #[test]
    fn a_digest_is_of_everything_that_a_retry_repeats() {
        let target = MessageId(Uuid::from_u128(7));
        let edit = |content: &str| RecordBody::Edit { target, content: Content::new(content).unwrap() };
        let other = MessageId(Uuid::from_u128(8));
        let bodies = [
            message("a", None, None),
            message("b", None, None),
            message("a", Some("{}"), None),
            message("a{}", None, None),
            message("a", None, Some(7)),
            message("a", None, Some(8)),
            edit("a"),
            edit("b"),
            RecordBody::Edit { target: other, content: Content::new("a").unwrap() },
            RecordBody::Delete { target },
            RecordBody::Delete { target: other },
        ];
        let digests: std::collections::HashSet<_> = bodies.iter().map(RecordBody::digest).collect();
        assert_eq!(digests.len(), bodies.len());
        assert_eq!(bodies[2].digest(), bodies[2].clone().digest());
    }

    #[test]
    fn the_digest_of_a_text_stays_what_it_is_in_databases() {
        let digest = message("Hello", None, None).digest();
        assert_eq!(digest, Digest(uuid::uuid!("d2831fe5-777a-3c95-c5d8-88ca2dbb5c96")));
    }
}
