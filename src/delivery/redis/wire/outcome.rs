//! One outcome: a stored event or a rejection.

use bytes::{BufMut, BytesMut};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Unreadable;
use super::numbers::{Reader, put_signed, put_slice, put_unsigned};
use crate::domain::{
    ClientId, Content, ConversationId, Data, ErrorCode, Event, EventBody, LogNumber, Message, MessageId,
    Offset, Outcome, Partition, Position, Rejection, Seq, Timestamp, UserId,
};

/// The first byte of a stored message says what follows.
const MESSAGE: u8 = 1;
const HAS_DATA: u8 = 2;
const HAS_REPLY_TO: u8 = 4;
/// Likewise of a message and of an edit: without a text.
const HAS_NO_CONTENT: u8 = 8;
/// The first byte of a rejection.
const REJECTED: u8 = 0x10;
/// The first byte of a stored edit.
const EDITED: u8 = 0x20;
/// The first byte of a stored deletion.
const DELETED: u8 = 0x40;

/// The first byte of a conversation.
const DM: u8 = 0;
const GROUP: u8 = 1;

/// The codes that `domain::history` rejects with.
const CODES: [ErrorCode; 4] =
    [ErrorCode::ClientIdReused, ErrorCode::NotFound, ErrorCode::Forbidden, ErrorCode::Conflict];

/// Writes an outcome of a publication that begins after `prev`.
pub(super) fn put(bytes: &mut BytesMut, outcome: &Outcome, prev: Offset) {
    match outcome {
        Outcome::Stored(event) => put_event(bytes, event, prev),
        Outcome::Rejected(rejection) => put_rejection(bytes, rejection, prev),
    }
}

fn put_event(bytes: &mut BytesMut, event: &Event, prev: Offset) {
    let flag = |is_set: bool, flag: u8| if is_set { flag } else { 0 };
    bytes.put_u8(match &event.body {
        EventBody::Message(Message { content, data, reply_to, .. }) => {
            MESSAGE
                | flag(data.is_some(), HAS_DATA)
                | flag(reply_to.is_some(), HAS_REPLY_TO)
                | flag(content.is_none(), HAS_NO_CONTENT)
        }
        EventBody::Edited { content, .. } => EDITED | flag(content.is_none(), HAS_NO_CONTENT),
        EventBody::Deleted { .. } => DELETED,
    });
    put_unsigned(bytes, event.position.offset.abs_diff(prev));
    put_conversation(bytes, event.conversation);
    put_signed(bytes, event.seq.0);
    bytes.put_slice(event.id.0.as_bytes());
    put_slice(bytes, event.client_id.as_str().as_bytes());
    put_signed(bytes, event.from.get());
    put_signed(bytes, event.at.0);
    match &event.body {
        EventBody::Message(Message { content, data, reply_to, .. }) => {
            put_content(bytes, content.as_ref());
            if let Some(data) = data {
                put_slice(bytes, data.as_str().as_bytes());
            }
            if let Some(reply_to) = reply_to {
                bytes.put_slice(reply_to.0.as_bytes());
            }
        }
        EventBody::Edited { target, content } => {
            put_content(bytes, content.as_ref());
            bytes.put_slice(target.0.as_bytes());
        }
        EventBody::Deleted { target } => bytes.put_slice(target.0.as_bytes()),
    }
}

fn put_content(bytes: &mut BytesMut, content: Option<&Content>) {
    if let Some(content) = content {
        put_slice(bytes, content.as_str().as_bytes());
    }
}

fn put_rejection(bytes: &mut BytesMut, rejection: &Rejection, prev: Offset) {
    bytes.put_u8(REJECTED);
    put_unsigned(bytes, rejection.position.offset.abs_diff(prev));
    put_conversation(bytes, rejection.conversation);
    bytes.put_slice(rejection.id.0.as_bytes());
    put_slice(bytes, rejection.client_id.as_str().as_bytes());
    put_signed(bytes, rejection.from.get());
    put_slice(bytes, rejection.code.as_str().as_bytes());
}

/// Writes a conversation's id.
pub(super) fn put_conversation(bytes: &mut BytesMut, conversation: ConversationId) {
    match conversation {
        ConversationId::Dm(low, high) => {
            bytes.put_u8(DM);
            put_signed(bytes, low.get());
            put_signed(bytes, high.get());
        }
        ConversationId::Group(id) => {
            bytes.put_u8(GROUP);
            bytes.put_slice(id.as_bytes());
        }
    }
}

/// Reads an outcome of a publication that begins after `prev`.
pub(super) fn get(
    reader: &mut Reader<'_>,
    log: LogNumber,
    partition: Partition,
    prev: Offset,
) -> Result<Outcome, Unreadable> {
    let kind = reader.byte()?;
    let offset = prev.checked_add(reader.number()?).ok_or(Unreadable::Damaged)?;
    let position = Position { log, partition, offset };
    let conversation = conversation(reader)?;
    if kind == REJECTED {
        return rejection(reader, position, conversation).map(Outcome::Rejected);
    }
    let seq = Seq(reader.signed()?);
    let id = message_id(reader)?;
    let client_id = client_id(reader)?;
    let from = user(reader)?;
    let at = Timestamp(reader.signed()?);
    let body = body(reader, kind)?;
    Ok(Outcome::Stored(Event { conversation, seq, position, id, client_id, from, at, body }))
}

/// What happened, as the first byte says.
fn body(reader: &mut Reader<'_>, kind: u8) -> Result<EventBody, Unreadable> {
    let is_message = kind & !(HAS_DATA | HAS_REPLY_TO | HAS_NO_CONTENT) == MESSAGE;
    if !is_message && kind & !HAS_NO_CONTENT != EDITED && kind != DELETED {
        return Err(Unreadable::Damaged);
    }
    if kind == DELETED {
        return Ok(EventBody::Deleted { target: message_id(reader)? });
    }
    let content = (kind & HAS_NO_CONTENT == 0).then(|| content(reader)).transpose()?;
    if !is_message {
        return Ok(EventBody::Edited { target: message_id(reader)?, content });
    }
    let data = (kind & HAS_DATA != 0).then(|| data(reader)).transpose()?;
    let reply_to = (kind & HAS_REPLY_TO != 0).then(|| message_id(reader)).transpose()?;
    // What is told as it happens was not changed yet.
    Ok(EventBody::Message(Message { content, data, reply_to, edited_at: None, deleted_at: None }))
}

fn rejection(
    reader: &mut Reader<'_>,
    position: Position,
    conversation: ConversationId,
) -> Result<Rejection, Unreadable> {
    let id = message_id(reader)?;
    let client_id = client_id(reader)?;
    let from = user(reader)?;
    let name = reader.text()?;
    let code = CODES.into_iter().find(|code| code.as_str() == name).ok_or(Unreadable::Damaged)?;
    Ok(Rejection { conversation, position, id, client_id, from, code, digest: None })
}

/// Reads a conversation's id.
pub(super) fn conversation(reader: &mut Reader<'_>) -> Result<ConversationId, Unreadable> {
    match reader.byte()? {
        DM => ConversationId::dm(user(reader)?, user(reader)?).map_err(|_| Unreadable::Damaged),
        GROUP => Ok(ConversationId::Group(Uuid::from_bytes(reader.sixteen()?))),
        _ => Err(Unreadable::Damaged),
    }
}

fn user(reader: &mut Reader<'_>) -> Result<UserId, Unreadable> {
    UserId::new(reader.signed()?).map_err(|_| Unreadable::Damaged)
}

fn message_id(reader: &mut Reader<'_>) -> Result<MessageId, Unreadable> {
    Ok(MessageId(Uuid::from_bytes(reader.sixteen()?)))
}

fn client_id(reader: &mut Reader<'_>) -> Result<ClientId, Unreadable> {
    ClientId::new(reader.text()?).map_err(|_| Unreadable::Damaged)
}

fn content(reader: &mut Reader<'_>) -> Result<Content, Unreadable> {
    Content::new(reader.text()?).map_err(|_| Unreadable::Damaged)
}

fn data(reader: &mut Reader<'_>) -> Result<Data, Unreadable> {
    let raw = RawValue::from_string(reader.text()?.to_owned()).map_err(|_| Unreadable::Damaged)?;
    Data::new(raw).map_err(|_| Unreadable::Damaged)
}
