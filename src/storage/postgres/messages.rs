//! Messages, and what edits and deletions make of them: a statement each, whatever the number of rows.

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;

use super::error::Fault;
use super::insert::key_of;
use super::rows;
use super::statement::{Id, now_ms, statement};
use crate::domain::history::Past;
use crate::domain::{ConversationId, Digest, Event, EventBody, Message, MessageId};
use crate::storage::columns::{DELETE, EDIT, MESSAGE};

/// What all rows of events have, as arrays.
struct Columns<'a> {
    keys: Vec<i64>,
    seqs: Vec<i64>,
    logs: Vec<i32>,
    partitions: Vec<i32>,
    offsets: Vec<i64>,
    ids: Vec<Id>,
    client_ids: Vec<&'a str>,
    senders: Vec<i64>,
    ats: Vec<i64>,
}

impl<'a> Columns<'a> {
    fn new(
        events: impl Iterator<Item = &'a Event> + Clone,
        keys: &HashMap<ConversationId, i64>,
    ) -> Result<Self, Fault> {
        let each = || events.clone();
        Ok(Self {
            keys: each().map(|event| key_of(keys, event.conversation)).collect::<Result<_, _>>()?,
            seqs: each().map(|event| event.seq.0).collect(),
            logs: each().map(|event| event.position.log.0).collect(),
            partitions: each().map(|event| rows::slot(event.position.partition)).collect::<Result<_, _>>()?,
            offsets: each().map(|event| event.position.offset).collect(),
            ids: each().map(|event| Id(event.id.0)).collect(),
            client_ids: each().map(|event| event.client_id.as_str()).collect(),
            senders: each().map(|event| event.from.get()).collect(),
            ats: each().map(|event| event.at.0).collect(),
        })
    }
}

/// Stores messages.
pub(super) async fn insert(
    conn: &AsyncPgConnection,
    messages: &[(&Event, &Message)],
    keys: &HashMap<ConversationId, i64>,
) -> Result<(), Fault> {
    if messages.is_empty() {
        return Ok(());
    }
    let Columns { keys, seqs, logs, partitions, offsets, ids, client_ids, senders, ats } =
        Columns::new(messages.iter().map(|(event, _)| *event), keys)?;
    let message = || messages.iter().map(|(_, message)| *message);
    let contents: Vec<Option<&str>> =
        message().map(|message| message.content.as_ref().map(|content| content.as_str())).collect();
    let data: Vec<Option<&str>> =
        message().map(|message| message.data.as_ref().map(|data| data.as_str())).collect();
    let replies: Vec<Option<Id>> = message().map(|message| message.reply_to.map(|id| Id(id.0))).collect();
    insert_messages(
        conn,
        MESSAGE,
        &keys,
        &seqs,
        &logs,
        &partitions,
        &offsets,
        &ids,
        &client_ids,
        &senders,
        &contents,
        &data,
        &replies,
        &ats,
    )
    .await?;
    Ok(())
}

/// The edits and deletions of a batch.
#[derive(Default)]
pub(super) struct Changes {
    /// Their own rows, with what each asked for.
    events: Vec<(Event, Digest)>,
    /// What becomes of each message in the end.
    messages: HashMap<(ConversationId, MessageId), Standing>,
}

/// What a message is after the changes of a batch.
struct Standing {
    /// What it asked for when it was sent.
    digest: Digest,
    content: Option<String>,
    edited_at: Option<i64>,
    deleted_at: Option<i64>,
}

impl Changes {
    /// Adds an event that was just decided, where it is a change.
    pub(super) fn add(&mut self, event: &Event, past: &Past) -> Result<(), Fault> {
        let (target, content) = match &event.body {
            EventBody::Message(_) => return Ok(()),
            EventBody::Edited { target, content } => (*target, content.as_ref()),
            EventBody::Deleted { target } => (*target, None),
        };
        let asked = |id: MessageId| {
            let stored = past.stored.get(&id).ok_or_else(|| Fault::refused("a change of nothing"))?;
            Ok::<_, Fault>(stored.asked.digest())
        };
        let digest = asked(target)?;
        let standing = self.messages.entry((event.conversation, target)).or_insert(Standing {
            digest,
            content: None,
            edited_at: None,
            deleted_at: None,
        });
        standing.content = content.map(|content| content.as_str().to_owned());
        let moment = if content.is_some() { &mut standing.edited_at } else { &mut standing.deleted_at };
        *moment = Some(event.at.0);
        self.events.push((event.clone(), asked(event.id)?));
        Ok(())
    }
}

/// Stores edits and deletions, and changes their messages.
pub(super) async fn change(
    conn: &AsyncPgConnection,
    changes: &Changes,
    keys: &HashMap<ConversationId, i64>,
) -> Result<(), Fault> {
    if changes.events.is_empty() {
        return Ok(());
    }
    let (inserted, updated) =
        futures_util::join!(store(conn, &changes.events, keys), update(conn, &changes.messages, keys));
    inserted?;
    updated
}

async fn store(
    conn: &AsyncPgConnection,
    changes: &[(Event, Digest)],
    keys: &HashMap<ConversationId, i64>,
) -> Result<(), Fault> {
    let each = || changes.iter().map(|(event, _)| event);
    let named = |event: &Event| match &event.body {
        EventBody::Edited { target, .. } => Ok((EDIT, Id(target.0))),
        EventBody::Deleted { target } => Ok((DELETE, Id(target.0))),
        EventBody::Message(_) => Err(Fault::refused("a message among changes")),
    };
    let (kinds, targets): (Vec<&str>, Vec<Id>) =
        each().map(named).collect::<Result<Vec<_>, _>>()?.into_iter().unzip();
    let Columns { keys, seqs, logs, partitions, offsets, ids, client_ids, senders, ats } =
        Columns::new(each(), keys)?;
    let digests: Vec<Id> = changes.iter().map(|(_, digest)| Id(digest.0)).collect();
    insert_changes(
        conn,
        &kinds,
        &keys,
        &seqs,
        &logs,
        &partitions,
        &offsets,
        &ids,
        &client_ids,
        &senders,
        &targets,
        &digests,
        &ats,
    )
    .await?;
    Ok(())
}

async fn update(
    conn: &AsyncPgConnection,
    messages: &HashMap<(ConversationId, MessageId), Standing>,
    keys: &HashMap<ConversationId, i64>,
) -> Result<(), Fault> {
    let each = || messages.values();
    let all: Vec<i64> =
        messages.keys().map(|(conversation, _)| key_of(keys, *conversation)).collect::<Result<_, _>>()?;
    let ids: Vec<Id> = messages.keys().map(|(_, id)| Id(id.0)).collect();
    let contents: Vec<Option<&str>> = each().map(|standing| standing.content.as_deref()).collect();
    let digests: Vec<Id> = each().map(|standing| Id(standing.digest.0)).collect();
    let edited: Vec<Option<i64>> = each().map(|standing| standing.edited_at).collect();
    let deleted: Vec<Option<i64>> = each().map(|standing| standing.deleted_at).collect();
    update_messages(conn, &all, &ids, &contents, &digests, &edited, &deleted).await?;
    Ok(())
}

statement!(
    fn insert_messages(
        kind: &'a str,
        keys: &'a [i64],
        seqs: &'a [i64],
        logs: &'a [i32],
        partitions: &'a [i32],
        offsets: &'a [i64],
        ids: &'a [Id],
        client_ids: &'a [&'a str],
        senders: &'a [i64],
        contents: &'a [Option<&'a str>],
        data: &'a [Option<&'a str>],
        replies: &'a [Option<Id>],
        ats: &'a [i64],
    ) = concat!(
        "INSERT INTO events (stored_at, kind, conversation_key, seq, log_number, partition, log_offset,
                             message_id, client_id, sender_id, content, data, reply_to, at)
         SELECT (SELECT ", now_ms!(), "), ?, new.*
         FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS new"
    )
);

statement!(
    fn insert_changes(
        kinds: &'a [&'a str],
        keys: &'a [i64],
        seqs: &'a [i64],
        logs: &'a [i32],
        partitions: &'a [i32],
        offsets: &'a [i64],
        ids: &'a [Id],
        client_ids: &'a [&'a str],
        senders: &'a [i64],
        targets: &'a [Id],
        digests: &'a [Id],
        ats: &'a [i64],
    ) = concat!(
        "INSERT INTO events (stored_at, kind, conversation_key, seq, log_number, partition, log_offset,
                             message_id, client_id, sender_id, target, digest, at)
         SELECT (SELECT ", now_ms!(), "), new.*
         FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) AS new"
    )
);

// Each message is changed by the owner of its partition alone, so nobody waits for another here.
//
// Plan: for each, `events_by_id`.
statement!(
    fn update_messages(
        keys: &'a [i64],
        ids: &'a [Id],
        contents: &'a [Option<&'a str>],
        digests: &'a [Id],
        edited: &'a [Option<i64>],
        deleted: &'a [Option<i64>],
    ) = "UPDATE events AS e
         SET content = new.content, data = CASE WHEN new.deleted_at IS NULL THEN e.data END,
             digest = new.digest, edited_at = coalesce(new.edited_at, e.edited_at), deleted_at = new.deleted_at
         FROM unnest(?, ?, ?, ?, ?, ?) AS new (key, id, content, digest, edited_at, deleted_at)
         WHERE e.conversation_key = new.key AND e.message_id = new.id"
);
