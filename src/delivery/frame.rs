//! The frames of events, rejections and receipts as clients see them (protocol.md section 3), encoded once
//! for all who get the same.

use bytes::Bytes;
use serde::Serialize;

use super::typing::Typing;
use crate::domain::{
    ClientId, ConversationId, Event, EventBody, Message, MessageId, Rejection, Seen, Seq, Timestamp, UserId,
};
use crate::storage::Receipt;

/// What a frame takes beside content and data, mostly.
const FIELDS_BYTES: usize = 288;
/// What a user takes in `presence`.
const SEEN_BYTES: usize = 96;

/// A stored message, as the sender's devices (`client_id`) and the others see it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct MessageFrame<'a> {
    /// Always `message`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The conversation.
    #[schema(value_type = String, example = "dm-1-2")]
    pub conversation: ConversationId,
    /// Its place in the conversation.
    #[schema(value_type = i64)]
    pub seq: Seq,
    /// The message's id.
    #[schema(value_type = uuid::Uuid)]
    pub id: MessageId,
    /// The sender.
    #[schema(value_type = i64)]
    pub from: UserId,
    /// The recipient, in a two-person conversation.
    #[schema(value_type = Option<i64>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<UserId>,
    /// The text; null once it was deleted.
    pub content: Option<&'a str>,
    /// The application's own data; absent once it was deleted.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<&'a crate::domain::Data>,
    /// The message that it answers.
    #[schema(value_type = Option<uuid::Uuid>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<MessageId>,
    /// The sender's own id, on the sender's devices.
    #[schema(value_type = Option<String>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_id: Option<&'a ClientId>,
    /// When it was stored.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

impl<'a> MessageFrame<'a> {
    /// The frame of a message for one who sees it.
    pub fn new(event: &'a Event, message: &'a Message, viewer: UserId) -> Self {
        Self {
            kind: "message",
            conversation: event.conversation,
            seq: event.seq,
            id: event.id,
            from: event.from,
            to: event.conversation.peer_of(event.from),
            content: message.content.as_ref().map(|content| content.as_str()),
            data: message.data.as_ref(),
            reply_to: message.reply_to,
            client_id: (viewer == event.from).then_some(&event.client_id),
            at: event.at,
        }
    }
}

/// A stored edit.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EditedFrame<'a> {
    /// Always `edited`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The conversation.
    #[schema(value_type = String, example = "dm-1-2")]
    pub conversation: ConversationId,
    /// Its place in the conversation.
    #[schema(value_type = i64)]
    pub seq: Seq,
    /// The id of the message that was edited.
    #[schema(value_type = uuid::Uuid)]
    pub id: MessageId,
    /// The message's text; null once it was deleted.
    pub content: Option<&'a str>,
    /// Who edited it.
    #[schema(value_type = i64)]
    pub by: UserId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// A stored deletion.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct DeletedFrame {
    /// Always `deleted`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The conversation.
    #[schema(value_type = String, example = "dm-1-2")]
    pub conversation: ConversationId,
    /// Its place in the conversation.
    #[schema(value_type = i64)]
    pub seq: Seq,
    /// The id of the message that was deleted.
    #[schema(value_type = uuid::Uuid)]
    pub id: MessageId,
    /// Who deleted it.
    #[schema(value_type = i64)]
    pub by: UserId,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
}

/// The frame of an event for one who sees it.
pub fn event(event: &Event, viewer: UserId) -> Bytes {
    let Event { conversation, seq, from, at, .. } = *event;
    match &event.body {
        EventBody::Message(message) => {
            let frame = MessageFrame::new(event, message, viewer);
            let data_bytes = frame.data.map_or(0, |data| data.as_str().len());
            encode_in(FIELDS_BYTES + frame.content.map_or(0, str::len) + data_bytes, &frame)
        }
        EventBody::Edited { target, content } => {
            let content = content.as_ref().map(|content| content.as_str());
            let room = FIELDS_BYTES + content.map_or(0, str::len);
            encode_in(
                room,
                &EditedFrame { kind: "edited", conversation, seq, id: *target, content, by: from, at },
            )
        }
        EventBody::Deleted { target } => {
            encode(&DeletedFrame { kind: "deleted", conversation, seq, id: *target, by: from, at })
        }
    }
}

/// `rejected`, for the sender.
pub fn rejected(rejection: &Rejection) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        conversation: ConversationId,
        id: MessageId,
        client_id: &'a ClientId,
        code: &'static str,
    }
    encode(&Frame {
        kind: "rejected",
        conversation: rejection.conversation,
        id: rejection.id,
        client_id: &rejection.client_id,
        code: rejection.code.as_str(),
    })
}

/// `receipt`, for every member.
pub fn receipt(receipt: &Receipt) -> Bytes {
    #[derive(Serialize)]
    struct Frame {
        #[serde(rename = "type")]
        kind: &'static str,
        conversation: ConversationId,
        user: UserId,
        delivered: Seq,
        read: Seq,
    }
    encode(&Frame {
        kind: "receipt",
        conversation: receipt.conversation,
        user: receipt.user,
        delivered: receipt.delivered,
        read: receipt.read,
    })
}

/// `typing`, for the other members.
pub fn typing(typing: &Typing) -> Bytes {
    #[derive(Serialize)]
    struct Frame {
        #[serde(rename = "type")]
        kind: &'static str,
        conversation: ConversationId,
        user: UserId,
        active: bool,
    }
    let Typing { conversation, user, active } = *typing;
    encode(&Frame { kind: "typing", conversation, user, active })
}

/// `presence`, for who watches these.
pub fn presence(users: &[Seen], mark: Option<&str>) -> Bytes {
    #[derive(Serialize)]
    struct Frame<'a> {
        #[serde(rename = "type")]
        kind: &'static str,
        users: &'a [Seen],
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        mark: Option<&'a str>,
    }
    encode_in(SEEN_BYTES * (users.len() + 1), &Frame { kind: "presence", users, mark })
}

/// A frame as JSON text. Frames hold strings, numbers and JSON that was parsed before: nothing in them fails.
pub fn encode<T: Serialize>(frame: &T) -> Bytes {
    encode_in(FIELDS_BYTES, frame)
}

/// The same, into room for so many bytes, so that it need not grow.
fn encode_in<T: Serialize>(room: usize, frame: &T) -> Bytes {
    let mut bytes = Vec::with_capacity(room);
    match serde_json::to_writer(&mut bytes, frame) {
        Ok(()) => Bytes::from(bytes),
        Err(_) => Bytes::new(),
    }
}
