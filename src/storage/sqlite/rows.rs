//! Rows and what they mean in the domain. What was checked when it came in is checked again here: a file can
//! be changed by others.

use uuid::Uuid;

use super::error::Fault;
use crate::domain::{
    ClientId, ConversationId, Digest, ErrorCode, Event, LogNumber, MessageId, Partition, Position, Rejection,
    Seq, Timestamp, UserId,
};
use crate::storage::columns::Columns;

/// The columns of an event, in the order of `EventRow`; `e` is the table. An edit has the text that its message has.
macro_rules! event_columns {
    () => {
        "e.seq, e.log_number, e.partition, e.log_offset, e.message_id, e.client_id, e.sender_id, e.kind, \
         CASE e.kind WHEN 'edit' THEN (SELECT t.content FROM events AS t \
             WHERE t.conversation_key = e.conversation_key AND t.message_id = e.target) \
             ELSE e.content END, \
         e.data, e.reply_to, e.target, e.edited_at, e.deleted_at, e.at"
    };
}
pub(super) use event_columns;

/// See `event_columns`.
pub(super) type EventRow = (i64, i32, i64, i64, Vec<u8>, String, i64, BodyRow, i64);

/// Kind, content, data, reply_to, target, and when it was edited and deleted.
type BodyRow =
    (String, Option<String>, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>, (Option<i64>, Option<i64>));

pub(super) fn event(conversation: ConversationId, row: EventRow) -> Result<Event, Fault> {
    let (seq, log, partition, offset, id, client_id, from, body, at) = row;
    let (kind, content, data, reply_to, target, (edited_at, deleted_at)) = body;
    let (reply_to, target) = (optional(reply_to)?, optional(target)?);
    let columns = Columns { kind, content, data, reply_to, target, digest: None, edited_at, deleted_at };
    Ok(Event {
        conversation,
        seq: Seq(seq),
        position: position(log, partition, offset)?,
        id: message_id(&id)?,
        client_id: ClientId::new(client_id).map_err(Fault::refused)?,
        from: user_id(from)?,
        at: Timestamp(at),
        body: columns.event()?,
    })
}

/// The columns of an event that say what its record asked for, in the order of `AskedRow`; `e` is the table.
macro_rules! asked_columns {
    () => {
        "e.kind, e.content, e.data, e.reply_to, e.target, e.digest, e.deleted_at"
    };
}
pub(super) use asked_columns;

/// See `asked_columns`.
pub(super) type AskedRow =
    (String, Option<String>, Option<String>, Option<Vec<u8>>, Option<Vec<u8>>, Option<Vec<u8>>, Option<i64>);

pub(super) fn asked(row: AskedRow) -> Result<Columns, Fault> {
    let (kind, content, data, reply_to, target, digest, deleted_at) = row;
    let (reply_to, target, digest) = (optional(reply_to)?, optional(target)?, optional(digest)?);
    Ok(Columns { kind, content, data, reply_to, target, digest, edited_at: None, deleted_at })
}

fn optional(bytes: Option<Vec<u8>>) -> Result<Option<Uuid>, Fault> {
    bytes.as_deref().map(uuid).transpose()
}

/// The columns of a rejection, in the order of `RejectionRow`.
macro_rules! rejection_columns {
    () => {
        "conversation, log_number, partition, log_offset, message_id, client_id, sender_id, code, digest"
    };
}
pub(super) use rejection_columns;

/// See `rejection_columns`.
pub(super) type RejectionRow = (String, i32, i64, i64, Vec<u8>, String, i64, String, Option<Vec<u8>>);

pub(super) fn rejection(row: RejectionRow) -> Result<Rejection, Fault> {
    let (conversation, log, partition, offset, id, client_id, from, code, digest) = row;
    Ok(Rejection {
        conversation: conversation_id(&conversation)?,
        position: position(log, partition, offset)?,
        id: message_id(&id)?,
        client_id: ClientId::new(client_id).map_err(Fault::refused)?,
        from: user_id(from)?,
        code: rejection_code(&code)?,
        digest: optional(digest)?.map(Digest),
    })
}

/// The codes that `domain::history` rejects with.
pub(super) fn rejection_code(text: &str) -> Result<ErrorCode, Fault> {
    [ErrorCode::ClientIdReused, ErrorCode::NotFound, ErrorCode::Forbidden, ErrorCode::Conflict]
        .into_iter()
        .find(|code| code.as_str() == text)
        .ok_or_else(|| Fault::refused(format_args!("a rejection with the unknown code {text}")))
}

pub(super) fn position(log: i32, partition: i64, offset: i64) -> Result<Position, Fault> {
    let partition = Partition::try_from(partition).map_err(Fault::refused)?;
    Ok(Position { log: LogNumber(log), partition, offset })
}

pub(super) fn user_id(id: i64) -> Result<UserId, Fault> {
    UserId::new(id).map_err(Fault::refused)
}

pub(super) fn conversation_id(text: &str) -> Result<ConversationId, Fault> {
    text.parse().map_err(Fault::refused)
}

pub(super) fn message_id(bytes: &[u8]) -> Result<MessageId, Fault> {
    uuid(bytes).map(MessageId)
}

pub(super) fn uuid(bytes: &[u8]) -> Result<Uuid, Fault> {
    Uuid::from_slice(bytes).map_err(Fault::refused)
}
