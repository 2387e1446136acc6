//! `Conversations` on SQLite.

use std::collections::HashMap;
use std::fmt::Write;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::Fault;
use super::rows::{self, EventRow, event_columns};
use super::statement::statement;
use crate::domain::{ConversationId, ListPlace, UserId};
use crate::storage::conversations::{
    FRONT, LAST_MESSAGE_AMONG, LISTED_WITHIN_MS, ListedRow, MEMBERS_MAX, UNREAD_AMONG, UNREAD_MAX, listed,
    page_of,
};
use crate::storage::{Conversations, Listed, PageOf, StorageError};

#[async_trait]
impl Conversations for SqliteStore {
    async fn conversations(
        &self,
        user: UserId,
        after: Option<ListPlace>,
        limit: u32,
    ) -> Result<PageOf<Listed>, StorageError> {
        self.read(move |conn| {
            let (user, ListPlace { last_at, key }) = (user.get(), after.unwrap_or(FRONT));
            let (at, key, one_more) = (last_at.0, key.0, i64::from(limit) + 1);
            let found = select_page(
                conn,
                user,
                at,
                key,
                one_more,
                LISTED_WITHIN_MS,
                UNREAD_AMONG,
                UNREAD_MAX,
                MEMBERS_MAX,
            )?;
            Ok(page_of(with_last_messages(conn, found)?, limit))
        })
        .await
    }

    async fn conversation(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<Listed>, StorageError> {
        self.read(move |conn| {
            let (user, id) = (user.get(), conversation.to_string());
            let found = select_one(conn, user, &id, UNREAD_AMONG, UNREAD_MAX, MEMBERS_MAX)?;
            Ok(with_last_messages(conn, found)?.into_iter().next())
        })
        .await
    }
}

fn with_last_messages(conn: &mut SqliteConnection, rows: Vec<ListedRow>) -> Result<Vec<Listed>, Fault> {
    let mut all: Vec<Listed> =
        rows.into_iter().map(|row| listed(row).map_err(Fault::refused)).collect::<Result<_, _>>()?;
    let mut asked = String::from("[");
    for each in &all {
        let separator = if asked.len() == 1 { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(asked, "{separator}[{},{}]", each.place.key.0, each.last_seq.0);
    }
    asked.push(']');
    let mut messages: HashMap<i64, EventRow> =
        select_last_messages(conn, LAST_MESSAGE_AMONG, &asked)?.into_iter().collect();
    for each in &mut all {
        let message = messages.remove(&each.place.key.0);
        each.last_message = message.map(|row| rows::event(each.conversation, row)).transpose()?;
    }
    Ok(all)
}

/// The columns of `ListedRow`; `p` is the conversation, `m` the user's own member, `own` the parameters.
macro_rules! listed_columns {
    () => {
        "p.conversation_key, p.id, p.last_seq, p.last_at,
         (SELECT count(*) FROM (
              SELECT 1 FROM events AS e
              WHERE e.conversation_key = p.conversation_key AND e.seq > max(m.read, p.last_seq - own.among)
                  AND e.sender_id <> m.user_id AND e.kind = 'message' AND e.deleted_at IS NULL
              LIMIT (SELECT unread_max FROM own))),
         (SELECT json_group_array(json_array(o.user_id, coalesce(u.name, ''), o.delivered, o.read))
          FROM (SELECT user_id, delivered, read, user_id <> m.user_id AS is_other FROM members
                WHERE conversation_key = p.conversation_key
                ORDER BY is_other, user_id LIMIT (SELECT members_max FROM own)) AS o
          LEFT JOIN users AS u ON u.id = o.user_id),
         (SELECT count(*) FROM members AS o WHERE o.conversation_key = p.conversation_key)"
    };
}

/// The places of a user after one, before it is known in which order. What is asked for comes as single values, so
/// that SQLite takes the places in the order of their key.
macro_rules! places {
    () => {
        "listings AS l CROSS JOIN conversations AS c
             ON c.conversation_key = l.conversation_key AND c.listed_at = l.listed_at
         WHERE l.user_id = (SELECT user_id FROM own) AND l.listed_at <= (SELECT at FROM own)
             AND (c.last_at, c.conversation_key) < (SELECT at, before FROM own)"
    };
}

// `near` are as many as wanted by their place in the list, each of which may lie a minute behind; so none of those
// wanted is placed a minute before the last of them.
//
// Plan: SEARCH l USING PRIMARY KEY (user_id=? AND listed_at<?), backwards, and (user_id=? AND listed_at>? AND
// listed_at<?); conversations by key; the events of each after its `read`, and its members, by their keys. A sort of
// the page only. With 10,000 and with 100,000 conversations 0.3 ms for 20 and 1.1 ms for 100, at any depth; each
// conversation that is active in the same minute as the last of the page adds 0.3 µs.
statement!(
    fn select_page(
        user: i64,
        at: i64,
        before: i64,
        limit: i64,
        within_ms: i64,
        among: i64,
        unread_max: i64,
        members_max: i64,
    ) -> ListedRow = concat!(
        "WITH own (user_id, at, before, wanted, within_ms, among, unread_max, members_max) AS MATERIALIZED (
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)
         ), near AS MATERIALIZED (
             SELECT c.last_at FROM ", places!(), "
             ORDER BY l.listed_at DESC LIMIT (SELECT wanted FROM own)
         ), page AS MATERIALIZED (
             SELECT c.conversation_key, c.id, c.last_seq, c.last_at FROM ", places!(), "
             AND l.listed_at > (SELECT coalesce(min(near.last_at), 0) - own.within_ms FROM own LEFT JOIN near)
             ORDER BY c.last_at DESC, c.conversation_key DESC LIMIT (SELECT wanted FROM own)
         )
         SELECT ", listed_columns!(), "
         FROM own CROSS JOIN page AS p
         CROSS JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = own.user_id
         ORDER BY p.last_at DESC, p.conversation_key DESC"
    )
);

statement!(
    fn select_one(user: i64, id: &'a str, among: i64, unread_max: i64, members_max: i64) -> ListedRow = concat!(
        "WITH own (user_id, id, among, unread_max, members_max) AS MATERIALIZED (VALUES (?, ?, ?, ?, ?))
         SELECT ", listed_columns!(), "
         FROM own CROSS JOIN conversations AS p ON p.id = own.id
         CROSS JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = own.user_id"
    )
);

// Plan: for each, `events` by its key, backwards until a message is found.
statement!(
    fn select_last_messages(among: i64, asked: &'a str) -> (i64, EventRow) = concat!(
        "SELECT e.conversation_key, ", event_columns!(), "
         FROM (SELECT value ->> 0 AS key, value ->> 1 AS last, ? AS among FROM json_each(?)) AS asked
         CROSS JOIN events AS e ON e.conversation_key = asked.key AND e.seq = (
             SELECT b.seq FROM events AS b
             WHERE b.conversation_key = asked.key AND b.seq <= asked.last AND b.seq > asked.last - asked.among
                 AND b.kind = 'message'
             ORDER BY b.seq DESC LIMIT 1)"
    )
);
