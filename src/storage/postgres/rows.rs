//! Rows and what they mean in the domain. What was checked when it came in is checked again here: a database
//! can be changed by others.

use serde_json::value::RawValue;

use super::error::Fault;
use super::statement::Id;
use crate::domain::{
    ClientId, Content, ConversationId, Data, ErrorCode, Event, LogNumber, MessageBody, MessageId, Partition,
    Position, RecordBody, Rejection, Seq, Timestamp, UserId,
};

/// The columns of an event, in the order of `EventRow`; `e` is the table.
macro_rules! event_columns {
    () => {
        "e.seq, e.log_number, e.partition, e.log_offset, e.message_id, e.client_id, e.kind, e.sender_id, \
         e.content, e.data, e.reply_to, e.at"
    };
}
pub(super) use event_columns;

/// See `event_columns`.
pub(super) type EventRow =
    (i64, i32, i32, i64, Id, String, String, i64, Option<String>, Option<String>, Option<Id>, i64);

/// The name of the one kind of event that there is.
pub(super) const MESSAGE: &str = "message";

pub(super) fn event(conversation: ConversationId, row: EventRow) -> Result<Event, Fault> {
    let (seq, log, partition, offset, id, client_id, kind, from, content, data, reply_to, at) = row;
    Ok(Event {
        conversation,
        seq: Seq(seq),
        position: position(log, partition, offset)?,
        id: MessageId(id.0),
        client_id: ClientId::new(client_id).map_err(Fault::refused)?,
        from: user_id(from)?,
        at: Timestamp(at),
        body: body(&kind, content, data, reply_to)?,
    })
}

/// The body of an event from its columns.
pub(super) fn body(
    kind: &str,
    content: Option<String>,
    data: Option<String>,
    reply_to: Option<Id>,
) -> Result<RecordBody, Fault> {
    if kind != MESSAGE {
        return Err(Fault::refused(format_args!("an event of kind {kind}, newer than this release")));
    }
    let content = content.ok_or_else(|| Fault::refused("a message without content"))?;
    let data = match data {
        Some(text) => {
            let raw = RawValue::from_string(text).map_err(Fault::refused)?;
            Some(Data::new(raw).map_err(Fault::refused)?)
        }
        None => None,
    };
    Ok(RecordBody::Message(MessageBody {
        content: Content::new(content).map_err(Fault::refused)?,
        data,
        reply_to: reply_to.map(|id| MessageId(id.0)),
    }))
}

/// The columns of a rejection: conversation, log, partition, offset, id, client_id, sender, code.
pub(super) type RejectionRow = (String, i32, i32, i64, Id, String, i64, String);

pub(super) fn rejection(row: RejectionRow) -> Result<Rejection, Fault> {
    let (conversation, log, partition, offset, id, client_id, from, code) = row;
    Ok(Rejection {
        conversation: conversation_id(&conversation)?,
        position: position(log, partition, offset)?,
        id: MessageId(id.0),
        client_id: ClientId::new(client_id).map_err(Fault::refused)?,
        from: user_id(from)?,
        code: rejection_code(&code)?,
    })
}

/// The codes that `domain::history` rejects with.
fn rejection_code(text: &str) -> Result<ErrorCode, Fault> {
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
