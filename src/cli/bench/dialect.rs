//! Which server is driven: chatd, or the Node reference that it is compared with.

use clap::ValueEnum;
use uuid::Uuid;

use super::client::Address;
use super::load::Partner;
use crate::domain::ids::IdError;
use crate::domain::{ConversationId, Secret, UserId};

/// The protocol of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Dialect {
    /// docs/protocol.md.
    #[default]
    Chatd,
    /// The Node reference: `?token=`, numbers for ids, no seq, no copy to the sender, no resume.
    Reference,
}

impl Dialect {
    /// A user and the one it writes to, with the conversations that the checker knows them by.
    ///
    /// # Errors
    /// Both are the same.
    pub(super) fn partner(self, user: UserId, to: UserId) -> Result<Partner, IdError> {
        let conversation = ConversationId::dm(user, to)?;
        let (outgoing, incoming) = match self {
            Self::Chatd => (conversation, conversation),
            // Nothing orders the two directions, so that each is a conversation of its own.
            Self::Reference => (direction(user, to), direction(to, user)),
        };
        Ok(Partner { user, to, outgoing, incoming, incoming_text: incoming.to_string() })
    }

    /// What a handshake asks for, and the header that goes with it.
    pub(super) fn greet(
        self,
        address: &Address,
        token: &Secret<String>,
    ) -> (Address, Option<(&'static str, String)>) {
        match self {
            Self::Chatd => (address.clone(), Some(("Authorization", format!("Bearer {}", token.expose())))),
            Self::Reference => {
                let joint = if address.path.contains('?') { '&' } else { '?' };
                let path = format!("{}{joint}token={}", address.path, token.expose());
                (Address { authority: address.authority.clone(), path }, None)
            }
        }
    }
}

/// What one user writes to another, under a name that no server sees.
fn direction(from: UserId, to: UserId) -> ConversationId {
    ConversationId::Group(Uuid::from_u64_pair(from.get().unsigned_abs(), to.get().unsigned_abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_of_a_pair_are_one_conversation_or_two() {
        let [a, b] = [2, 3].map(|id| UserId::new(id).unwrap());
        let both = |dialect: Dialect| (dialect.partner(a, b).unwrap(), dialect.partner(b, a).unwrap());
        let (first, second) = both(Dialect::Chatd);
        assert_eq!((first.outgoing, first.incoming), (second.outgoing, second.incoming));
        let (first, second) = both(Dialect::Reference);
        assert_eq!((first.outgoing, first.incoming), (second.incoming, second.outgoing));
        assert_ne!(first.outgoing, first.incoming);
    }

    #[test]
    fn the_token_goes_where_the_server_looks_for_it() {
        let (address, token) = ("ws://h:1/ws?a=b".parse().unwrap(), Secret::new("t".to_owned()));
        let (asked, header) = Dialect::Chatd.greet(&address, &token);
        assert_eq!((asked.path.as_str(), header.unwrap().1.as_str()), ("/ws?a=b", "Bearer t"));
        let (asked, header) = Dialect::Reference.greet(&address, &token);
        assert_eq!((asked.path.as_str(), header), ("/ws?a=b&token=t", None));
    }
}
