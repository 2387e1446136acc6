//! The frames of protocol.md section 3: what a client says, parsed; what the server says, encoded.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::close::Close;
use crate::chat::resume::Changed;
use crate::chat::send::{Accepted, Command, Target};
use crate::chat::wire::{self, ChangeBody, SendBody, UserRef};
use crate::delivery::frame::encode;
use crate::delivery::watchers::WATCHED_MAX;
use crate::domain::{ClientId, ConversationId, Error, ErrorCode, Secret, Seq, Timestamp, User, UserId};

/// A client's own mark of a frame, repeated in its answer: at most 64 characters.
pub type Ref = Option<Box<str>>;

/// Something that a client says.
#[derive(Debug)]
pub enum Said {
    /// `send`, `edit` or `delete`.
    Command(Box<Command>),
    /// `received`.
    Received(ConversationId, Seq),
    /// `read`.
    Read(ConversationId, Seq),
    /// `typing`, and whether they do.
    Typing(Target, bool),
    /// `watch`.
    Watch(Vec<UserRef>),
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
    pub client_id: Option<ClientId>,
    /// What is wrong.
    pub error: Error,
}

/// The fields that more than one type of frame has; those of commands are in `chat::wire`.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(rename = "type", borrow)]
    kind: Option<&'a RawValue>,
    #[serde(rename = "ref", borrow)]
    mark: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    seq: Option<&'a RawValue>,
    #[serde(borrow)]
    to: Option<&'a RawValue>,
    #[serde(borrow)]
    active: Option<&'a RawValue>,
    #[serde(borrow)]
    users: Option<&'a RawValue>,
    #[serde(borrow)]
    cursor: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
}

/// Reads a frame.
pub fn parse(text: &str) -> Result<(Ref, Said), Box<Refusal>> {
    let refuse = |mark: Ref, client_id, error| Box::new(Refusal { mark, client_id, error });
    let fields: Fields<'_> = wire::parse(text, wire::DEPTH_MAX).map_err(|error| refuse(None, None, error))?;
    let mark = mark(fields.mark).map_err(|error| refuse(None, None, error))?;
    let kind: String = match wire::required(fields.kind, "type", "a frame has a `type`, a text") {
        Ok(kind) => kind,
        Err(error) => return Err(refuse(mark, None, error)),
    };
    let said = match kind.as_str() {
        "send" | "edit" | "delete" => match command(&kind, text) {
            Ok(command) => Ok(Said::Command(Box::new(command))),
            Err((client_id, error)) => return Err(refuse(mark, client_id, error)),
        },
        "received" => place(&fields).map(|(conversation, seq)| Said::Received(conversation, seq)),
        "read" => place(&fields).map(|(conversation, seq)| Said::Read(conversation, seq)),
        "typing" => typing(&fields),
        "watch" => watch(fields.users).map(Said::Watch),
        "resume" => wire::optional(fields.cursor, "cursor", "a cursor is a text").map(Said::Resume),
        "auth" => wire::required(fields.token, "token", "a token is a text").map(Said::Auth),
        "ping" => Ok(Said::Ping),
        _ => Err(Error::new(ErrorCode::UnknownType, "this version does not know that frame type")),
    };
    match said {
        Ok(said) => Ok((mark, said)),
        Err(error) => Err(refuse(mark, None, error)),
    }
}

fn mark(raw: Option<&RawValue>) -> Result<Ref, Error> {
    const EXPECTED: &str = "a ref is a text of at most 64 characters";
    let mark: Ref = wire::optional(raw, "ref", EXPECTED)?;
    match mark {
        Some(mark) if mark.chars().count() > 64 => Err(Error::invalid("ref", EXPECTED)),
        mark => Ok(mark),
    }
}

/// What becomes a record; an error names it by its client_id, where that could be read.
fn command(kind: &str, text: &str) -> Result<Command, (Option<ClientId>, Error)> {
    let unnamed = |error| (None, error);
    if kind == "send" {
        let body: SendBody<'_> = wire::parse(text, wire::DEPTH_MAX).map_err(unnamed)?;
        let client_id = body.client_id().map_err(unnamed)?;
        return body.into_send().map(Command::Send).map_err(|error| (client_id, error));
    }
    let body: ChangeBody<'_> = wire::parse(text, wire::DEPTH_MAX).map_err(unnamed)?;
    let client_id = body.client_id().map_err(unnamed)?;
    let change = if kind == "edit" { body.into_edit() } else { body.into_delete() };
    change.map(Command::Change).map_err(|error| (client_id, error))
}

fn place(fields: &Fields<'_>) -> Result<(ConversationId, Seq), Error> {
    let conversation = wire::conversation(fields.conversation)?;
    Ok((conversation, wire::required(fields.seq, "seq", "a seq is an integer")?))
}

fn typing(fields: &Fields<'_>) -> Result<Said, Error> {
    let target = wire::target(fields.to, fields.conversation)?;
    Ok(Said::Typing(target, wire::required(fields.active, "active", "active is true or false")?))
}

fn watch(users: Option<&RawValue>) -> Result<Vec<UserRef>, Error> {
    const EXPECTED: &str = "users is an array of at most 500 users";
    let users = users.ok_or_else(|| Error::invalid("users", EXPECTED))?;
    let users: Vec<&RawValue> =
        serde_json::from_str(users.get()).map_err(|_| Error::invalid("users", EXPECTED))?;
    if users.len() > WATCHED_MAX {
        return Err(Error::invalid("users", EXPECTED));
    }
    users.into_iter().map(|user| UserRef::parse(user.get(), "users")).collect()
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
    wire::accepted(accepted, mark.as_deref())
}

/// `error`.
pub fn error(error: &Error, mark: &Ref, client_id: Option<&ClientId>) -> Bytes {
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
        client_id: Option<&'a ClientId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        retry_after_ms: Option<u64>,
    }
    let retry_after_ms =
        matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded).then_some(1_000);
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

#[cfg(test)]
mod tests;
