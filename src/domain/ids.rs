//! Identifiers as protocol.md section 1 writes them: users, conversations, messages, client ids, seqs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

/// Why a text is not an identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct IdError(pub &'static str);

/// A user: an integer from 1 to 2^53 - 1, so that JavaScript can hold it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "i64", into = "i64")]
pub struct UserId(i64);

impl UserId {
    /// The largest id, 2^53 - 1.
    pub const MAX: i64 = (1 << 53) - 1;
    /// Ids from here on, 2^40, are made by chatd itself; a token's `userId` lies below.
    pub const GENERATED: i64 = 1 << 40;

    /// Takes an id from 1 to 2^53 - 1.
    pub fn new(id: i64) -> Result<Self, IdError> {
        if (1..=Self::MAX).contains(&id) {
            Ok(Self(id))
        } else {
            Err(IdError("a user id is an integer from 1 to 2^53 - 1"))
        }
    }

    /// The number itself.
    pub fn get(self) -> i64 {
        self.0
    }
}

impl TryFrom<i64> for UserId {
    type Error = IdError;
    fn try_from(id: i64) -> Result<Self, IdError> {
        Self::new(id)
    }
}

impl From<UserId> for i64 {
    fn from(id: UserId) -> i64 {
        id.0
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A conversation: `dm-<low>-<high>` of two users, or `grp-<uuid>`. One spelling each; no other parses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConversationId {
    /// Two people, the lower id first.
    Dm(UserId, UserId),
    /// A group.
    Group(Uuid),
}

impl ConversationId {
    /// The conversation of two people, in either order; nobody converses with oneself.
    pub fn dm(a: UserId, b: UserId) -> Result<Self, IdError> {
        match a.cmp(&b) {
            std::cmp::Ordering::Less => Ok(Self::Dm(a, b)),
            std::cmp::Ordering::Greater => Ok(Self::Dm(b, a)),
            std::cmp::Ordering::Equal => Err(IdError("a conversation with oneself is not possible")),
        }
    }

    /// The other side of a two-person conversation, where `user` is one of the two.
    pub fn peer_of(self, user: UserId) -> Option<UserId> {
        match self {
            Self::Dm(low, high) if user == low => Some(high),
            Self::Dm(low, high) if user == high => Some(low),
            Self::Dm(..) | Self::Group(_) => None,
        }
    }
}

impl fmt::Display for ConversationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dm(low, high) => write!(f, "dm-{low}-{high}"),
            Self::Group(id) => write!(f, "grp-{}", id.hyphenated()),
        }
    }
}

impl FromStr for ConversationId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        const ERROR: IdError = IdError("a conversation id is dm-<low>-<high> or grp-<uuid>");
        let parsed = if let Some(pair) = text.strip_prefix("dm-") {
            let (low, high) = pair.split_once('-').ok_or(ERROR)?;
            let number = |s: &str| s.parse::<i64>().ok().and_then(|n| UserId::new(n).ok()).ok_or(ERROR);
            Self::Dm(number(low)?, number(high)?)
        } else if let Some(id) = text.strip_prefix("grp-") {
            Self::Group(Uuid::try_parse(id).map_err(|_| ERROR)?)
        } else {
            return Err(ERROR);
        };
        let ordered = !matches!(parsed, Self::Dm(low, high) if low >= high);
        // One spelling: what prints otherwise (leading zeros, a sign, capitals) is refused, not normalised.
        if ordered && parsed.to_string() == text { Ok(parsed) } else { Err(ERROR) }
    }
}

impl Serialize for ConversationId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ConversationId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// The sender's own id of a record: 1 to 64 characters of `[A-Za-z0-9._:-]`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ClientId(String);

impl ClientId {
    /// Takes an id that keeps to the alphabet and the length.
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let allowed = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b':' | b'-');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text))
        } else {
            Err(IdError("a client_id has 1 to 64 characters of A-Z a-z 0-9 . _ : -"))
        }
    }

    /// A random one, for a sender that gave none.
    pub fn random() -> Self {
        Self(Uuid::new_v4().simple().to_string())
    }

    /// The text itself.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientId {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl From<ClientId> for String {
    fn from(id: ClientId) -> String {
        id.0
    }
}

impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record's id, a function of (conversation, sender, client_id): a retry has the id of the first try.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub Uuid);

impl MessageId {
    /// UUIDv8 (RFC 9562 section 5.8) of the first 128 bits of
    /// `SHA-256(conversation ‖ 0x00 ‖ sender in decimal ‖ 0x00 ‖ client_id)`.
    pub fn derive(conversation: ConversationId, sender: UserId, client_id: &ClientId) -> Self {
        let mut hash = Sha256::new();
        hash.update(conversation.to_string());
        hash.update([0]);
        hash.update(sender.to_string());
        hash.update([0]);
        hash.update(client_id.as_str());
        Self(uuid_v8(&hash.finalize()))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

fn uuid_v8(digest: &[u8]) -> Uuid {
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&digest[..16]);
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A stored event's place in its conversation: 1, 2, 3 … without a gap. 0 is "before the first".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seq(pub i64);

impl Seq {
    /// The place after this one.
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Storage's own number for a conversation; every key of events and members begins with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConversationKey(pub i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_has_one_spelling() {
        for good in ["dm-1-2", "dm-7-1099511627776", "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769"] {
            assert_eq!(good.parse::<ConversationId>().map(|c| c.to_string()), Ok(good.to_owned()));
        }
        for bad in [
            "",
            "dm-",
            "dm-1",
            "dm-2-1",
            "dm-1-1",
            "dm-01-2",
            "dm-+1-2",
            "dm--1-2",
            "dm-0-2",
            "dm-1-2-3",
            "dm-1-9007199254740992",
            "grp-",
            "grp-9C576241-b6d9-8ea7-83d0-7c71fe5af769",
            "grp-9c576241b6d98ea783d07c71fe5af769",
            "DM-1-2",
            " dm-1-2",
        ] {
            assert!(bad.parse::<ConversationId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_client_id_keeps_to_its_alphabet() {
        assert!(ClientId::new("a.B_c-9:x").is_ok());
        assert!(ClientId::new("0".repeat(64)).is_ok());
        for bad in ["", "a b", "ä", "a/b", &"0".repeat(65)] {
            assert!(ClientId::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn message_ids_follow_the_vectors() {
        let vectors = [
            ("dm-2-3", 2, "c1", "1ba04d0a-f5b1-834e-870a-1336a013b369"),
            ("dm-2-3", 3, "c1", "fe1027e8-4a09-8547-bbfb-4d5977054d19"),
            ("dm-1001-1002", 1001, "a.B_c-9:x", "f107475a-c9b7-8f50-8062-f16041a02b8a"),
            ("grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769", 2, "c1", "cb12f0bf-7c7b-8dad-8790-635a8ef5a698"),
        ];
        for (conversation, sender, client_id, id) in vectors {
            let derived = MessageId::derive(
                conversation.parse().unwrap(),
                UserId::new(sender).unwrap(),
                &ClientId::new(client_id).unwrap(),
            );
            assert_eq!(derived.to_string(), id);
        }
    }
}
