//! Opaque strings that clients keep and give back: the account cursor of protocol.md section 1, "everything up
//! to here", and the place in a list of conversations where a page ended.
//!
//! Base64url of: version, deployment (8 bytes), user, then log number and one offset a partition (LEB128
//! varints), or the place; closed by the first 4 bytes of SHA-256 over all of it, so that damage is seen. It
//! carries no secret: a forged one only skips its forger's own events.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::{ConversationKey, Frontier, LogNumber, Offset, Timestamp, UserId};

const VERSION: u8 = 1;
/// Of a place in a list; no version of the account cursor, so that neither is taken for the other.
const PLACE_VERSION: u8 = 0x81;
const CHECKSUM_BYTES: usize = 4;
/// More partitions than any log of chatd has; bounds what a hostile cursor makes us allocate.
const PARTITIONS_MAX: u64 = 4_096;

/// Whose cursors: a deployment's history in one incarnation (a restored backup is another) and a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CursorScope {
    /// The incarnation of the history, made with the database and anew when a backup is restored.
    pub incarnation: Uuid,
    /// The user whose conversations it covers.
    pub user: UserId,
}

/// A conversation's place in a user's list: the list goes from the latest activity to the earliest, and where
/// that is the same, from the greater key to the smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ListPlace {
    /// When the last event of the conversation happened.
    pub last_at: Timestamp,
    /// Storage's own number for the conversation.
    pub key: ConversationKey,
}

impl CursorScope {
    /// The cursor that stands for `frontier`.
    pub fn encode(&self, frontier: &Frontier) -> String {
        let mut bytes = self.begin(VERSION, 24 + 3 * frontier.offsets.len());
        push_varint(&mut bytes, u64::from(frontier.log.0.unsigned_abs()));
        push_varint(&mut bytes, frontier.offsets.len() as u64);
        for offset in &frontier.offsets {
            // -1, "nothing yet", becomes 0.
            push_varint(&mut bytes, u64::try_from(offset + 1).unwrap_or(0));
        }
        seal(bytes)
    }

    /// What a cursor stands for; `None` when it is damaged, or of another deployment or user.
    pub fn decode(&self, text: &str) -> Option<Frontier> {
        let bytes = unseal(text)?;
        let mut rest = self.after_scope(VERSION, &bytes)?;
        let log = LogNumber(i32::try_from(take_varint(&mut rest)?).ok()?);
        let partitions = take_varint(&mut rest)?;
        if partitions > PARTITIONS_MAX {
            return None;
        }
        let mut offsets = Vec::with_capacity(usize::try_from(partitions).ok()?);
        for _ in 0..partitions {
            offsets.push(Offset::try_from(take_varint(&mut rest)?).ok()? - 1);
        }
        rest.is_empty().then(|| Frontier { log, offsets: offsets.into() })
    }

    /// The cursor that stands for a place in this user's list of conversations.
    pub fn encode_place(&self, place: ListPlace) -> String {
        let mut bytes = self.begin(PLACE_VERSION, 40);
        bytes.extend_from_slice(&place.last_at.0.to_be_bytes());
        bytes.extend_from_slice(&place.key.0.to_be_bytes());
        seal(bytes)
    }

    /// The place that a cursor stands for; `None` when it is damaged, or of another deployment or user.
    pub fn decode_place(&self, text: &str) -> Option<ListPlace> {
        let bytes = unseal(text)?;
        let (last_at, key) = self.after_scope(PLACE_VERSION, &bytes)?.split_at_checked(8)?;
        let number = |bytes: &[u8]| Some(i64::from_be_bytes(bytes.try_into().ok()?));
        Some(ListPlace { last_at: Timestamp(number(last_at)?), key: ConversationKey(number(key)?) })
    }

    /// Version and scope, with room for `more` bytes behind them.
    fn begin(&self, version: u8, more: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(20 + more);
        bytes.push(version);
        bytes.extend_from_slice(&self.incarnation.as_bytes()[..8]);
        push_varint(&mut bytes, self.user.get().unsigned_abs());
        bytes
    }

    /// What stands behind version and scope, where they are these.
    fn after_scope<'a>(&self, version: u8, bytes: &'a [u8]) -> Option<&'a [u8]> {
        let (&found, rest) = bytes.split_first()?;
        let (incarnation, mut rest) = rest.split_at_checked(8)?;
        let is_mine = found == version
            && incarnation == &self.incarnation.as_bytes()[..8]
            && take_varint(&mut rest)? == self.user.get().unsigned_abs();
        is_mine.then_some(rest)
    }
}

fn seal(mut bytes: Vec<u8>) -> String {
    let checksum = Sha256::digest(&bytes);
    bytes.extend_from_slice(&checksum[..CHECKSUM_BYTES]);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// The bytes that were sealed; `None` where they were damaged since.
fn unseal(text: &str) -> Option<Vec<u8>> {
    let mut bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
    let (body, checksum) = bytes.split_at_checked(bytes.len().checked_sub(CHECKSUM_BYTES)?)?;
    if Sha256::digest(body)[..CHECKSUM_BYTES] != *checksum {
        return None;
    }
    bytes.truncate(bytes.len() - CHECKSUM_BYTES);
    Some(bytes)
}

fn push_varint(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

fn take_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scope(incarnation: u128, user: i64) -> CursorScope {
        CursorScope { incarnation: Uuid::from_u128(incarnation << 64), user: UserId::new(user).unwrap() }
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(log in 1..i32::MAX, offsets in prop::collection::vec(-1..i64::MAX / 2, 0..70)) {
            let frontier = Frontier { log: LogNumber(log), offsets: offsets.into() };
            prop_assert_eq!(scope(7, 42).decode(&scope(7, 42).encode(&frontier)), Some(frontier));
        }

        #[test]
        fn damage_is_seen_and_nothing_panics(text in "[A-Za-z0-9_-]{0,120}") {
            prop_assert_eq!(scope(7, 42).decode(&text), None);
            prop_assert_eq!(scope(7, 42).decode_place(&text), None);
        }

        #[test]
        fn a_place_is_decoded_by_whom_it_was_given(last_at in any::<i64>(), key in any::<i64>(), cut in 1..30usize) {
            let place = ListPlace { last_at: Timestamp(last_at), key: ConversationKey(key) };
            let text = scope(7, 42).encode_place(place);
            prop_assert_eq!(scope(7, 42).decode_place(&text), Some(place));
            prop_assert_eq!(scope(7, 43).decode_place(&text), None);
            prop_assert_eq!(scope(8, 42).decode_place(&text), None);
            prop_assert_eq!(scope(7, 42).decode_place(&text[..text.len() - cut]), None);
            prop_assert_eq!(scope(7, 42).decode(&text), None, "it is no account cursor");
        }
    }

    #[test]
    fn an_account_cursor_is_no_place() {
        let text = scope(7, 42).encode(&Frontier::nothing(LogNumber(1), 6));
        assert_eq!(scope(7, 42).decode_place(&text), None);
    }

    #[test]
    fn a_cursor_of_another_user_or_deployment_is_none() {
        let text = scope(7, 42).encode(&Frontier::nothing(LogNumber(1), 6));
        assert!(scope(7, 42).decode(&text).is_some());
        assert_eq!(scope(7, 43).decode(&text), None);
        assert_eq!(scope(8, 42).decode(&text), None);
    }
}
