//! The few frames of protocol.md section 3 that a driver reads and writes, and tokens of its users.

use jsonwebtoken::{EncodingKey, Header};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::domain::{ConversationId, MessageId, Secret, Seq, Timestamp, UserId};

/// The fields of a server's frame that the driver looks at, borrowed from it.
#[derive(Debug, Deserialize)]
pub(super) struct Inbound<'a> {
    /// The type of the frame.
    #[serde(rename = "type")]
    pub kind: &'a str,
    /// The message.
    pub id: Option<MessageId>,
    /// Its conversation.
    pub conversation: Option<&'a str>,
    /// Its place there.
    pub seq: Option<Seq>,
    /// Its sender's own id of it.
    pub client_id: Option<&'a str>,
    /// The error code, in quotes; the close code in `closing`, a number.
    #[serde(borrow)]
    code: Option<&'a RawValue>,
    /// The first seq of a gap; a user in other frames.
    #[serde(borrow)]
    from: Option<&'a RawValue>,
    /// The last seq of a gap; a user in other frames.
    #[serde(borrow)]
    to: Option<&'a RawValue>,
}

impl<'a> Inbound<'a> {
    /// Reads a frame; `None` when it is no JSON object with a type.
    pub(super) fn read(payload: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(payload).ok()
    }

    /// The code of an `error` or `rejected` frame.
    pub(super) fn code(&self) -> &'a str {
        self.code.map_or("none", |code| code.get().trim_matches('"'))
    }

    /// The seqs that a `gap` frame names.
    pub(super) fn gap(&self) -> Option<(Seq, Seq)> {
        let seq = |raw: Option<&RawValue>| raw.and_then(|raw| raw.get().parse().ok()).map(Seq);
        seq(self.from).zip(seq(self.to))
    }
}

/// A frame of the driver.
#[derive(Debug, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub(super) enum Outbound<'a> {
    Send { client_id: &'a str, to: UserId, content: &'a str },
    Received { conversation: ConversationId, seq: Seq },
    Resume,
}

/// A day: longer than any run, and production rules want an expiry.
const TOKEN_SECONDS: i64 = 24 * 3_600;

#[derive(Serialize)]
struct Claims {
    #[serde(rename = "userId")]
    user: UserId,
    name: String,
    exp: i64,
}

/// An HS256 token of a user named `user<id>`.
pub(super) fn token(
    user: UserId,
    secret: &Secret<String>,
) -> Result<Secret<String>, jsonwebtoken::errors::Error> {
    let exp = Timestamp::now().0 / 1_000 + TOKEN_SECONDS;
    let claims = Claims { user, name: format!("user{user}"), exp };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).map(Secret::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_of_all_kinds_are_read() {
        let id = "1ba04d0a-f5b1-834e-870a-1336a013b369";
        let text = format!(
            r#"{{"type":"message","conversation":"dm-2-3","seq":7,"id":"{id}","from":2,"to":3,"content":"a\n\"ä"}}"#
        );
        let frame = Inbound::read(text.as_bytes()).unwrap();
        assert_eq!((frame.kind, frame.conversation, frame.seq), ("message", Some("dm-2-3"), Some(Seq(7))));
        assert_eq!(frame.id.unwrap().to_string(), id);
        let frame = Inbound::read(br#"{"type":"gap","conversation":"dm-2-3","from":1,"to":900}"#).unwrap();
        assert_eq!(frame.gap(), Some((Seq(1), Seq(900))));
        assert_eq!(Inbound::read(br#"{"type":"error","code":"invalid"}"#).unwrap().code(), "invalid");
        assert_eq!(Inbound::read(br#"{"type":"closing","code":1001,"reason":"x"}"#).unwrap().code(), "1001");
        assert!(Inbound::read(b"[]").is_none());
    }

    #[test]
    fn frames_are_written_as_the_protocol_has_them() {
        let json = |frame| serde_json::to_string(&frame).unwrap();
        let to = UserId::new(3).unwrap();
        assert_eq!(
            json(Outbound::Send { client_id: "r-1", to, content: "hi" }),
            r#"{"type":"send","client_id":"r-1","to":3,"content":"hi"}"#
        );
        assert_eq!(json(Outbound::Resume), r#"{"type":"resume"}"#);
        assert_eq!(
            json(Outbound::Received { conversation: "dm-2-3".parse().unwrap(), seq: Seq(9) }),
            r#"{"type":"received","conversation":"dm-2-3","seq":9}"#
        );
    }
}
