//! How requests and answers of the verbs look as JSON, the same in a frame of the socket and in a body of
//! REST: bounded depth, each field read by itself so that an error names the one at fault.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::error::Category;
use serde_json::value::RawValue;

use super::change::Change;
use super::send::{Accepted, Send, Target};
use crate::delivery::frame::encode;
use crate::domain::ids::IdError;
use crate::domain::{
    ClientId, Content, ConversationId, Data, Error, ErrorCode, MessageBody, MessageId, Seq, Timestamp, UserId,
};

/// How deep arrays and objects may lie in each other (protocol.md section 1).
pub const DEPTH_MAX: usize = 32;

/// The longest `external_id`, in characters (protocol.md section 1).
const EXTERNAL_ID_CHARS_MAX: usize = 255;

/// Reads a JSON object whose fields are [`RawValue`]s, so that only its own form can be at fault here: not
/// JSON or too deep is `bad_json`, no object or a name twice is `invalid`. Unknown names are ignored.
pub fn parse<'a, T: Deserialize<'a>>(text: &'a str, depth_max: usize) -> Result<T, Error> {
    if depth(text.as_bytes()) > depth_max {
        let message = format!("arrays and objects lie more than {depth_max} deep in each other");
        return Err(Error::new(ErrorCode::BadJson, message));
    }
    if !text.trim_ascii_start().starts_with('{') {
        // A derived struct would read an array as its fields in order.
        serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|error| bad_json(&error))?;
        return Err(Error::new(ErrorCode::Invalid, "a JSON object is expected"));
    }
    serde_json::from_str(text).map_err(|error| match error.classify() {
        Category::Data => Error::new(ErrorCode::Invalid, "a name stands twice in the object"),
        Category::Syntax | Category::Eof | Category::Io => bad_json(&error),
    })
}

/// The place tells the developer more than the words, and neither holds anything of the text.
fn bad_json(error: &serde_json::Error) -> Error {
    let message = format!("not JSON, at line {} column {}", error.line(), error.column());
    Error::new(ErrorCode::BadJson, message)
}

/// The deepest nesting of a JSON text; of a text that is no JSON, any number.
fn depth(json: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0);
    let (mut in_string, mut escaped) = (false, false);
    for byte in json {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'{' | b'[' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b'}' | b']' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// A field that may be absent; `null` counts as absent.
pub fn optional<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<Option<T>, Error> {
    let read = |raw: &RawValue| serde_json::from_str(raw.get()).map_err(|_| Error::invalid(field, expected));
    raw.map(read).transpose()
}

/// A field that has to be there.
pub fn required<T: DeserializeOwned>(
    raw: Option<&RawValue>,
    field: &'static str,
    expected: &'static str,
) -> Result<T, Error> {
    optional(raw, field, expected)?.ok_or_else(|| Error::invalid(field, expected))
}

/// A user, as a request names one.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(untagged)]
pub enum UserRef {
    /// By chatd's number, 1 to 2^53 - 1.
    #[schema(value_type = i64)]
    Id(UserId),
    /// By the host application's own id, of the issuer of the caller's token.
    External {
        /// 1 to 255 characters.
        #[schema(example = "ana")]
        external_id: String,
    },
}

impl UserRef {
    /// Reads `3` or `{"external_id":"ana"}`; anything else is `invalid` with this field.
    pub fn parse(json: &str, field: &'static str) -> Result<Self, Error> {
        const EXPECTED: &str = r#"a user is a number, as in 3, or {"external_id":"ana"}"#;
        let user = serde_json::from_str(json).map_err(|_| Error::invalid(field, EXPECTED))?;
        match &user {
            Self::External { external_id: id }
                if id.is_empty() || id.contains('\0') || id.chars().count() > EXTERNAL_ID_CHARS_MAX =>
            {
                Err(Error::invalid(field, "an external_id has 1 to 255 characters"))
            }
            Self::Id(_) | Self::External { .. } => Ok(user),
        }
    }
}

/// What `send` and `POST /v1/messages` hold; `null` counts as absent.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
pub struct SendBody<'a> {
    /// The sender's own id, 1 to 64 characters of `[A-Za-z0-9._:-]`; made by the server where absent.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "c1", pattern = "^[A-Za-z0-9._:-]{1,64}$")]
    client_id: Option<&'a RawValue>,
    /// For whom; this or `conversation`.
    #[serde(borrow)]
    #[schema(value_type = Option<UserRef>)]
    to: Option<&'a RawValue>,
    /// Where; this or `to`.
    #[serde(borrow)]
    #[schema(value_type = Option<String>, example = "dm-1-2")]
    conversation: Option<&'a RawValue>,
    /// The text: 1 to 16,384 bytes of UTF-8, not blank, no NUL.
    #[serde(borrow)]
    #[schema(value_type = String, example = "Hello")]
    content: Option<&'a RawValue>,
    /// The application's own data, at most 4,096 bytes.
    #[serde(borrow)]
    #[schema(value_type = Option<Object>)]
    data: Option<&'a RawValue>,
    /// A message of the same conversation that this one answers.
    #[serde(borrow)]
    #[schema(value_type = Option<uuid::Uuid>)]
    reply_to: Option<&'a RawValue>,
}

impl SendBody<'_> {
    /// The sender's own id, by itself: an error about another field still names the message.
    pub fn client_id(&self) -> Result<Option<ClientId>, Error> {
        client_id(self.client_id)
    }

    /// The command that the fields ask for; the first one at fault is named.
    pub fn into_send(self) -> Result<Send, Error> {
        let client_id = self.client_id()?;
        let target = target(self.to, self.conversation)?;
        let text: String = required(self.content, "content", "content is a text")?;
        let data = self.data.map(data).transpose()?;
        let reply_to: Option<MessageId> = optional(self.reply_to, "reply_to", "reply_to is a message's id")?;
        let body = MessageBody { content: Content::new(text)?, data, reply_to };
        Ok(Send { client_id, target, body })
    }
}

/// The fields `to` and `conversation`, of which one has to be there.
pub fn target(to: Option<&RawValue>, place: Option<&RawValue>) -> Result<Target, Error> {
    match (to, place) {
        (Some(_), Some(_)) => Err(Error::invalid("to", "name `to` or `conversation`, not both")),
        (None, None) => Err(Error::invalid("to", "name `to` or `conversation`")),
        (Some(to), None) => Ok(match UserRef::parse(to.get(), "to")? {
            UserRef::Id(id) => Target::User(id),
            UserRef::External { external_id } => Target::External(external_id),
        }),
        (None, Some(_)) => conversation(place).map(Target::Conversation),
    }
}

/// What `edit` and `delete` hold; `null` counts as absent.
#[derive(Debug, Default, Deserialize)]
pub struct ChangeBody<'a> {
    #[serde(borrow)]
    client_id: Option<&'a RawValue>,
    #[serde(borrow)]
    conversation: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    #[serde(borrow)]
    content: Option<&'a RawValue>,
}

impl ChangeBody<'_> {
    /// The caller's own id of the change, by itself: an error about another field still names it.
    pub fn client_id(&self) -> Result<Option<ClientId>, Error> {
        client_id(self.client_id)
    }

    /// The edit that the fields ask for; the first one at fault is named.
    pub fn into_edit(self) -> Result<Change, Error> {
        let change = self.change()?;
        Ok(Change { content: Some(content(self.content)?), ..change })
    }

    /// The deletion that the fields ask for; the first one at fault is named.
    pub fn into_delete(self) -> Result<Change, Error> {
        self.change()
    }

    fn change(&self) -> Result<Change, Error> {
        Ok(Change {
            client_id: self.client_id()?,
            conversation: conversation(self.conversation)?,
            target: required(self.id, "id", "id is a message's id")?,
            content: None,
        })
    }
}

fn client_id(raw: Option<&RawValue>) -> Result<Option<ClientId>, Error> {
    optional(raw, "client_id", "a client_id has 1 to 64 characters of A-Z a-z 0-9 . _ : -")
}

fn content(raw: Option<&RawValue>) -> Result<Content, Error> {
    let content: String = required(raw, "content", "content is a text")?;
    Content::new(content)
}

/// The field `conversation`, where it has to be there.
pub fn conversation(raw: Option<&RawValue>) -> Result<ConversationId, Error> {
    let text: String = required(raw, "conversation", "a conversation id is a text")?;
    text.parse().map_err(|error| bad_conversation(&error))
}

/// What is told about a text that is no conversation id, wherever it stood.
pub fn bad_conversation(error: &IdError) -> Error {
    Error::invalid("conversation", error.0)
}

/// Kept as sent, but every reader of JSON has to be able to read it: half a surrogate pair and numbers out of
/// range pass the syntax, and would break strict clients on the other side.
fn data(raw: &RawValue) -> Result<Data, Error> {
    let data = Data::new(raw.to_owned())?;
    match serde_json::from_str::<serde_json::Value>(data.as_str()) {
        Ok(_) => Ok(data),
        Err(_) => Err(Error::invalid("data", "data holds half a surrogate pair or a number out of range")),
    }
}

/// `accepted`: durable in the log.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct AcceptedFrame<'a> {
    /// Always `accepted`.
    #[serde(rename = "type")]
    #[schema(example = "accepted")]
    kind: &'static str,
    /// What the request gave, in a frame of the socket.
    #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
    reference: Option<&'a str>,
    /// The sender's own id.
    #[schema(value_type = String)]
    client_id: &'a ClientId,
    /// The message's id; of an edit or a deletion its own, not that of the message.
    #[schema(value_type = uuid::Uuid)]
    id: MessageId,
    /// The conversation.
    #[schema(value_type = String, example = "dm-1-2")]
    conversation: ConversationId,
    /// When it was accepted.
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// Its place in the conversation, where it is stored already.
    #[schema(value_type = Option<i64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    seq: Option<Seq>,
}

/// The `accepted` frame, with the `ref` of the request where it had one.
pub fn accepted(accepted: &Accepted, reference: Option<&str>) -> Bytes {
    let Accepted { client_id, id, conversation, at, seq } = accepted;
    encode(&AcceptedFrame {
        kind: "accepted",
        reference,
        client_id,
        id: *id,
        conversation: *conversation,
        at: *at,
        seq: *seq,
    })
}

#[cfg(test)]
mod tests;
