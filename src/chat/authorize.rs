//! Who may read what. A read takes a `Member`, and only this file makes one.

use crate::domain::{ConversationId, Error, UserId};

/// Proof that a user is a member of a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    user: UserId,
    conversation: ConversationId,
}

impl Member {
    /// Who.
    pub fn user(self) -> UserId {
        self.user
    }

    /// Of what.
    pub fn conversation(self) -> ConversationId {
        self.conversation
    }
}

/// The proof, or `not_found`: the same whether the conversation exists for others or not.
pub fn member(user: UserId, conversation: ConversationId) -> Result<Member, Error> {
    match conversation.peer_of(user) {
        Some(_) => Ok(Member { user, conversation }),
        None => Err(Error::not_found()),
    }
}
