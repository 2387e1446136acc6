//! What applying writes of records, row by row.

use diesel::sqlite::SqliteConnection;

use super::error::Fault;
use super::statement::statement;
use crate::domain::history::Past;
use crate::domain::{Digest, Event, EventBody, LogNumber, Message, MessageId, Rejection, Timestamp};
use crate::storage::DeadLetter;
use crate::storage::columns::{DELETE, EDIT, MESSAGE};

/// Stores an event; an edit or a deletion changes its message too.
pub(super) fn store_event(
    conn: &mut SqliteConnection,
    key: i64,
    event: &Event,
    past: &Past,
    now: Timestamp,
) -> Result<(), Fault> {
    match &event.body {
        EventBody::Message(Message { content, data, reply_to, .. }) => {
            insert_event(
                conn,
                key,
                event.seq.0,
                event.position.log.0,
                i64::from(event.position.partition),
                event.position.offset,
                event.id.0.as_bytes(),
                event.client_id.as_str(),
                MESSAGE,
                event.from.get(),
                content.as_ref().map(|content| content.as_str()),
                data.as_ref().map(|data| data.as_str()),
                reply_to.as_ref().map(|id| id.0.as_bytes().as_slice()),
                event.at.0,
                now.0,
            )?;
        }
        EventBody::Edited { target, content } => {
            let content = content.as_ref().map(|content| content.as_str());
            store_change(conn, key, event, (EDIT, target), past, now)?;
            let digest = digest_of(past, *target)?;
            edit_message(conn, content, digest.0.as_bytes(), event.at.0, key, target.0.as_bytes())?;
        }
        EventBody::Deleted { target } => {
            store_change(conn, key, event, (DELETE, target), past, now)?;
            let digest = digest_of(past, *target)?;
            delete_message(conn, digest.0.as_bytes(), event.at.0, key, target.0.as_bytes())?;
        }
    }
    Ok(())
}

/// The row of an edit or a deletion.
fn store_change(
    conn: &mut SqliteConnection,
    key: i64,
    event: &Event,
    (kind, target): (&str, &MessageId),
    past: &Past,
    now: Timestamp,
) -> Result<(), Fault> {
    insert_change(
        conn,
        key,
        event.seq.0,
        event.position.log.0,
        i64::from(event.position.partition),
        event.position.offset,
        event.id.0.as_bytes(),
        event.client_id.as_str(),
        kind,
        event.from.get(),
        target.0.as_bytes(),
        digest_of(past, event.id)?.0.as_bytes(),
        event.at.0,
        now.0,
    )?;
    Ok(())
}

/// What a stored record asked for: from now on its row does not say it any more.
fn digest_of(past: &Past, id: MessageId) -> Result<Digest, Fault> {
    let stored = past.stored.get(&id).ok_or_else(|| Fault::refused("a change of nothing"))?;
    Ok(stored.asked.digest())
}

/// Keeps a rejection for its sender.
pub(super) fn store_rejection(
    conn: &mut SqliteConnection,
    rejection: &Rejection,
    now: Timestamp,
) -> Result<(), Fault> {
    insert_rejection(
        conn,
        rejection.position.log.0,
        i64::from(rejection.position.partition),
        rejection.position.offset,
        &rejection.conversation.to_string(),
        rejection.id.0.as_bytes(),
        rejection.client_id.as_str(),
        rejection.from.get(),
        rejection.code.as_str(),
        rejection.digest.as_ref().map(|digest| digest.0.as_bytes().as_slice()),
        now.0,
    )?;
    Ok(())
}

/// Keeps a value that is no record.
pub(super) fn store_dead_letter(
    conn: &mut SqliteConnection,
    log: LogNumber,
    partition: u32,
    letter: &DeadLetter,
    now: Timestamp,
) -> Result<(), Fault> {
    let partition = i64::from(partition);
    insert_dead_letter(conn, log.0, partition, letter.offset, &letter.reason, &letter.value, now.0)?;
    Ok(())
}

statement!(
    fn insert_event(
        key: i64,
        seq: i64,
        log: i32,
        partition: i64,
        offset: i64,
        id: &'a [u8],
        client_id: &'a str,
        kind: &'a str,
        sender: i64,
        content: Option<&'a str>,
        data: Option<&'a str>,
        reply_to: Option<&'a [u8]>,
        at: i64,
        stored_at: i64,
    ) = "INSERT INTO events (conversation_key, seq, log_number, partition, log_offset, message_id, client_id,
         kind, sender_id, content, data, reply_to, at, stored_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_change(
        key: i64,
        seq: i64,
        log: i32,
        partition: i64,
        offset: i64,
        id: &'a [u8],
        client_id: &'a str,
        kind: &'a str,
        sender: i64,
        target: &'a [u8],
        digest: &'a [u8],
        at: i64,
        stored_at: i64,
    ) = "INSERT INTO events (conversation_key, seq, log_number, partition, log_offset, message_id, client_id,
         kind, sender_id, target, digest, at, stored_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn edit_message(content: Option<&'a str>, digest: &'a [u8], at: i64, key: i64, id: &'a [u8]) =
        "UPDATE events SET content = ?, digest = ?, edited_at = ?
         WHERE conversation_key = ? AND message_id = ?"
);

statement!(
    fn delete_message(digest: &'a [u8], at: i64, key: i64, id: &'a [u8]) =
        "UPDATE events SET content = NULL, data = NULL, digest = ?, deleted_at = ?
         WHERE conversation_key = ? AND message_id = ?"
);

statement!(
    fn insert_rejection(
        log: i32,
        partition: i64,
        offset: i64,
        conversation: &'a str,
        id: &'a [u8],
        client_id: &'a str,
        sender: i64,
        code: &'a str,
        digest: Option<&'a [u8]>,
        now: i64,
    ) = "INSERT INTO rejections (log_number, partition, log_offset, conversation, message_id, client_id,
         sender_id, code, digest, stored_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_dead_letter(
        log: i32,
        partition: i64,
        offset: i64,
        reason: &'a str,
        value: &'a [u8],
        now: i64,
    ) = "INSERT INTO dead_letters (log_number, partition, log_offset, reason, value, stored_at)
         VALUES (?, ?, ?, ?, ?, ?)"
);
