//! The frames of protocol.md section 3: what a client says, parsed; what the server says, encoded.

use std::borrow::Cow;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::close::Close;
use crate::chat::resume::Changed;
use crate::chat::send::Accepted;
use crate::chat::wire::SendBody;
use crate::delivery::frame::encode;
use crate::domain::{
    ClientId, ConversationId, Error, ErrorCode, Secret, Seq, Timestamp, User, UserId, json,
};

/// A client's own mark of a frame, repeated in its answer: at most 64 characters.
pub type Ref = Option<Box<str>>;

/// Something that a client says.
#[derive(Debug)]
pub enum Said {
    /// `send`.
    Send(Box<SendBody>),
    /// `received`.
    Received(ConversationId, Seq),
    /// `read`.
    Read(ConversationId, Seq),
    /// `resume`, with the cursor where there is one.
    Resume(Option<String>),
    /// `auth`.
    Auth(Secret<String>),
    /// `ping`.
    Ping,
}

/// What is wrong with a frame, and what its answer repeats.
#[derive(Debug)]
pub struct Refusal {
    /// The frame's mark, where it could be read.
    pub mark: Ref,
    /// The frame's client_id, where it could be read.
    pub client_id: Option<String>,
    /// What is wrong.
    pub error: Error,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<Cow<'a, str>>,
    #[serde(rename = "ref", borrow)]
    mark: Option<Cow<'a, str>>,
}

/// Just enough of a frame to answer it when the rest is wrong.
#[derive(Deserialize)]
struct Marked {
    client_id: Option<String>,
}

/// Reads a frame.
pub fn parse(text: &str) -> Result<(Ref, Said), Box<Refusal>> {
    let refuse = |mark: Ref, client_id, error| Box::new(Refusal { mark, client_id, error });
    let bad = |message: &str| Error::new(ErrorCode::BadJson, message);
    if !json::is_within_depth(text.as_bytes(), json::DEPTH_MAX) {
        return Err(refuse(None, None, bad("the frame is nested more than 32 deep")));
    }
    let envelope: Envelope<'_> = serde_json::from_str(text).map_err(|error| {
        let message = if error.is_data() { "a frame is an object with a `type`" } else { "not JSON" };
        refuse(None, None, bad(message))
    })?;
    let mark: Ref = envelope.mark.as_deref().map(Box::from);
    if mark.as_ref().is_some_and(|mark| mark.chars().count() > 64) {
        return Err(refuse(None, None, Error::invalid("ref", "a ref has at most 64 characters")));
    }
    let Some(kind) = envelope.kind else {
        return Err(refuse(mark, None, Error::invalid("type", "a frame has a `type`")));
    };
    match said(&kind, text) {
        Ok(said) => Ok((mark, said)),
        Err(error) => {
            let client_id = serde_json::from_str::<Marked>(text).ok().and_then(|marked| marked.client_id);
            let client_id = client_id.filter(|id| ClientId::new(id.as_str()).is_ok());
            Err(refuse(mark, client_id, error))
        }
    }
}

fn said(kind: &str, text: &str) -> Result<Said, Error> {
    match kind {
        "send" => SendBody::parse(text).map(|body| Said::Send(Box::new(body))),
        "received" => place(text).map(|(conversation, seq)| Said::Received(conversation, seq)),
        "read" => place(text).map(|(conversation, seq)| Said::Read(conversation, seq)),
        "resume" => cursor(text).map(Said::Resume),
        "auth" => token(text).map(Said::Auth),
        "ping" => Ok(Said::Ping),
        _ => Err(Error::new(ErrorCode::UnknownType, "this version does not know that frame type")),
    }
}

fn place(text: &str) -> Result<(ConversationId, Seq), Error> {
    #[derive(Deserialize)]
    struct Place<'a> {
        #[serde(borrow)]
        conversation: Option<&'a serde_json::value::RawValue>,
        #[serde(borrow)]
        seq: Option<&'a serde_json::value::RawValue>,
    }
    let place: Place<'_> = field("conversation", "conversation and seq are given once", text)?;
    let conversation = place.conversation.ok_or_else(|| Error::invalid("conversation", "it is missing"))?;
    let seq = place.seq.ok_or_else(|| Error::invalid("seq", "it is missing"))?;
    Ok((
        field("conversation", "a conversation id is dm-<low>-<high> or grp-<uuid>", conversation.get())?,
        field("seq", "a seq is an integer", seq.get())?,
    ))
}

fn cursor(text: &str) -> Result<Option<String>, Error> {
    #[derive(Deserialize)]
    struct Resume {
        cursor: Option<String>,
    }
    field::<Resume>("cursor", "a cursor is a string", text).map(|resume| resume.cursor)
}

fn token(text: &str) -> Result<Secret<String>, Error> {
    #[derive(Deserialize)]
    struct Auth {
        token: Secret<String>,
    }
    field::<Auth>("token", "a token is a string", text).map(|auth| auth.token)
}

fn field<'a, T: Deserialize<'a>>(name: &'static str, message: &str, text: &'a str) -> Result<T, Error> {
    serde_json::from_str(text).map_err(|_| Error::invalid(name, message))
}

/// The limits that `hello` names, in bytes.
#[derive(Debug, Clone, Serialize)]
pub struct HelloLimits {
    /// The longest WebSocket message.
    pub message_bytes: usize,
    /// The longest content.
    pub content_bytes: usize,
    /// The largest `data`.
    pub data_bytes: usize,
}

/// `hello`: always first.
pub fn hello(user: &User, session: &str, node: &str, heartbeat_ms: u64, limits: &HelloLimits) -> Bytes {
    #[derive(Serialize)]
    struct Who<'a> {
        id: UserId,
        #[serde(skip_serializing_if = "Option::is_none")]
        external_id: Option<&'a str>,
        name: &'a str,
    }
    #[derive(Serialize)]
    struct Hello<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        user: Who<'a>,
        session: &'a str,
        node: &'a str,
        heartbeat_ms: u64,
        limits: &'a HelloLimits,
        server_time: Timestamp,
    }
    let user = Who { id: user.id, external_id: user.external_id.as_deref(), name: &user.name };
    encode(&Hello { kind: "hello", user, session, node, heartbeat_ms, limits, server_time: Timestamp::now() })
}

/// `accepted`.
pub fn accepted(accepted: &Accepted, mark: &Ref) -> Bytes {
    crate::chat::wire::accepted(accepted, mark.as_deref())
}

/// `error`.
pub fn error(error: &Error, mark: &Ref, client_id: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        code: &'static str,
        message: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        field: Option<&'static str>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        mark: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        client_id: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    }
    let retry_after_ms = matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded).then_some(1_000);
    encode(&Frame {
        kind: "error",
        code: error.code.as_str(),
        message: &error.message,
        field: error.field,
        mark: mark.as_deref(),
        client_id,
        retry_after_ms,
    })
}

/// `pong`.
pub fn pong(cursor: Option<&str>, mark: &Ref) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        server_time: Timestamp,
        #[serde(skip_serializing_if = "Option::is_none")]
        cursor: Option<&'a str>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        mark: Option<&'a str>,
    }
    encode(&Frame { kind: "pong", server_time: Timestamp::now(), cursor, mark: mark.as_deref() })
}

/// `authenticated`.
pub fn authenticated(expires_at: Option<Timestamp>, mark: &Ref) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        #[serde(skip_serializing_if = "Option::is_none")]
        expires_at: Option<Timestamp>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        mark: Option<&'a str>,
    }
    encode(&Frame { kind: "authenticated", expires_at, mark: mark.as_deref() })
}

/// `cursor`.
pub fn cursor_frame(cursor: &str) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        cursor: &'a str,
    }
    encode(&Frame { kind: "cursor", cursor })
}

/// `gap`.
pub fn gap(conversation: ConversationId, from: Seq, to: Seq) -> Bytes {
    #[derive(Serialize)]
    struct Frame {
        #[serde(rename = "type")]
        kind: &'static str,
        conversation: ConversationId,
        from: Seq,
        to: Seq,
    }
    encode(&Frame { kind: "gap", conversation, from, to })
}

/// `resumed`.
pub fn resumed(cursor: &str, conversations: &[Changed], mark: &Ref) -> Bytes {
    #[derive(Serialize)]
    struct One {
        conversation: ConversationId,
        last_seq: Seq,
        unread: u32,
    }
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        cursor: &'a str,
        conversations: Vec<One>,
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        mark: Option<&'a str>,
    }
    let one = |c: &Changed| One { conversation: c.conversation, last_seq: c.last_seq, unread: c.unread };
    let conversations = conversations.iter().map(one).collect();
    encode(&Frame { kind: "resumed", cursor, conversations, mark: mark.as_deref() })
}

/// `closing`.
pub fn closing(close: &Close) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        code: u16,
        reason: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        reconnect_after_ms: Option<u64>,
    }
    let reconnect_after_ms = close.reconnect_after_ms;
    encode(&Frame { kind: "closing", code: close.code, reason: close.reason, reconnect_after_ms })
}

