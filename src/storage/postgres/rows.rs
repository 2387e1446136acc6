//! Rows and what they mean in the domain. What was checked when it came in is checked again here: a database
//! can be changed by others.

use super::error::Fault;
use super::statement::Id;
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
pub(super) type EventRow = (i64, i32, i32, i64, Id, String, i64, BodyRow, i64);

/// Kind, content, data, reply_to, target, and when it was edited and deleted.
type BodyRow = (String, Option<String>, Option<String>, Option<Id>, Option<Id>, (Option<i64>, Option<i64>));

pub(super) fn event(conversation: ConversationId, row: EventRow) -> Result<Event, Fault> {
    let (seq, log, partition, offset, id, client_id, from, body, at) = row;
    let (kind, content, data, reply_to, target, (edited_at, deleted_at)) = body;
    let (reply_to, target) = (reply_to.map(|id| id.0), target.map(|id| id.0));
    let columns = Columns { kind, content, data, reply_to, target, digest: None, edited_at, deleted_at };
    Ok(Event {
        conversation,
        seq: Seq(seq),
        position: position(log, partition, offset)?,
        id: MessageId(id.0),
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
    (String, Option<String>, Option<String>, Option<Id>, Option<Id>, Option<Id>, Option<i64>);

pub(super) fn asked(row: AskedRow) -> Columns {
    let (kind, content, data, reply_to, target, digest, deleted_at) = row;
    let [reply_to, target, digest] = [reply_to, target, digest].map(|id| id.map(|id| id.0));
    Columns { kind, content, data, reply_to, target, digest, edited_at: None, deleted_at }
}

/// The columns of a rejection, in the order of `RejectionRow`; `r` is the table.
macro_rules! rejection_columns {
    () => {
        "r.conversation, r.log_number, r.partition, r.log_offset, r.message_id, r.client_id, r.sender_id, r.code, \
         r.digest"
    };
}
pub(super) use rejection_columns;

/// See `rejection_columns`.
pub(super) type RejectionRow = (String, i32, i32, i64, Id, String, i64, String, Option<Id>);

pub(super) fn rejection(row: RejectionRow) -> Result<Rejection, Fault> {
    let (conversation, log, partition, offset, id, client_id, from, code, digest) = row;
    Ok(Rejection {
        conversation: conversation_id(&conversation)?,
        position: position(log, partition, offset)?,
        id: MessageId(id.0),
        client_id: ClientId::new(client_id).map_err(Fault::refused)?,
        from: user_id(from)?,
        code: rejection_code(&code)?,
        digest: digest.map(|id| Digest(id.0)),
    })
}

/// The codes that `domain::history` rejects with.
pub(super) fn rejection_code(text: &str) -> Result<ErrorCode, Fault> {
    [ErrorCode::ClientIdReused, ErrorCode::NotFound, ErrorCode::Forbidden, ErrorCode::Conflict]
        .into_iter()
        .find(|code| code.as_str() == text)
        .ok_or_else(|| Fault::refused(format_args!("a rejection with the unknown code {text}")))
}

pub(super) fn position(log: i32, partition: i32, offset: i64) -> Result<Position, Fault> {
    let partition = Partition::try_from(partition).map_err(Fault::refused)?;
    Ok(Position { log: LogNumber(log), partition, offset })
}

/// A partition as its column has it.
pub(super) fn slot(partition: Partition) -> Result<i32, Fault> {
    i32::try_from(partition).map_err(Fault::refused)
}

pub(super) fn user_id(id: i64) -> Result<UserId, Fault> {
    UserId::new(id).map_err(Fault::refused)
}

pub(super) fn conversation_id(text: &str) -> Result<ConversationId, Fault> {
    text.parse().map_err(Fault::refused)
}
