//! `Conversations` on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
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
impl Conversations for PostgresStore {
    async fn conversations(
        &self,
        user: UserId,
        after: Option<ListPlace>,
        limit: u32,
    ) -> Result<PageOf<Listed>, StorageError> {
        let (user, ListPlace { last_at, key }) = (user.get(), after.unwrap_or(FRONT));
        let (at, key, one_more) = (last_at.0, key.0, i64::from(limit) + 1);
        let conn = self.take().await?;
        conn.run(async {
            let found = select_page(
                &conn,
                user,
                at,
                key,
                one_more,
                LISTED_WITHIN_MS,
                UNREAD_AMONG,
                UNREAD_MAX,
                MEMBERS_MAX,
            )
            .await?;
            Ok(page_of(with_last_messages(&conn, found).await?, limit))
        })
        .await
    }

    async fn conversation(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<Listed>, StorageError> {
        let (user, id) = (user.get(), conversation.to_string());
        let conn = self.take().await?;
        conn.run(async {
            let found = select_one(&conn, user, &id, UNREAD_AMONG, UNREAD_MAX, MEMBERS_MAX).await?;
            Ok(with_last_messages(&conn, found).await?.into_iter().next())
        })
        .await
    }
}

/// The last message up to the last event of each row: what is stored meanwhile is not mixed in.
async fn with_last_messages(conn: &AsyncPgConnection, rows: Vec<ListedRow>) -> Result<Vec<Listed>, Fault> {
    let mut all: Vec<Listed> =
        rows.into_iter().map(|row| listed(row).map_err(Fault::refused)).collect::<Result<_, _>>()?;
    let keys: Vec<i64> = all.iter().map(|each| each.place.key.0).collect();
    let lasts: Vec<i64> = all.iter().map(|each| each.last_seq.0).collect();
    let messages = select_last_messages(conn, LAST_MESSAGE_AMONG, &keys, &lasts).await?;
    let mut messages: HashMap<i64, EventRow> = messages.into_iter().collect();
    for each in &mut all {
        let message = messages.remove(&each.place.key.0);
        each.last_message = message.map(|row| rows::event(each.conversation, row)).transpose()?;
    }
    Ok(all)
}

/// The columns of `ListedRow`; `p` is the conversation, `m` the user's own member, and the parameters are by
/// number: how many events `unread` is looked for among, its greatest, and the most members.
macro_rules! listed_columns {
    ($among:literal, $unread_max:literal, $members_max:literal) => {
        concat!(
            "p.conversation_key, p.id, p.last_seq, p.last_at,
         (SELECT count(*) FROM (
              SELECT FROM events AS e
              WHERE e.conversation_key = p.conversation_key AND e.seq > greatest(m.read, p.last_seq - ",
            $among,
            ") AND e.sender_id <> m.user_id AND e.kind = 'message' AND e.deleted_at IS NULL
              LIMIT ",
            $unread_max,
            ") AS counted),
         (SELECT json_agg(json_build_array(o.user_id, coalesce(u.name, ''), o.delivered, o.read))::text
          FROM (SELECT user_id, delivered, read FROM members
                WHERE conversation_key = p.conversation_key
                ORDER BY user_id <> m.user_id, user_id LIMIT ",
            $members_max,
            ") AS o
          LEFT JOIN users AS u ON u.id = o.user_id),
         (SELECT count(*) FROM members AS o WHERE o.conversation_key = p.conversation_key)"
        )
    };
}

/// The places of the user $1 after the place ($2, $3), before it is known in which order. A row below its
/// conversation's place counts for nothing; asked by `<=`, as the planner would take `=` for a rare coincidence, and
/// would sort all that it could read in order.
macro_rules! places {
    () => {
        "listings AS l
         JOIN conversations AS c ON c.conversation_key = l.conversation_key AND c.listed_at <= l.listed_at
         WHERE l.user_id = $1 AND l.listed_at <= $2 AND (c.last_at, c.conversation_key) < ($2, $3)"
    };
}

// `near` are as many as wanted by their place in the list, each of which may lie a minute behind; so none of those
// wanted is placed a minute before the last of them.
//
// `own` gives the parameters their numbers and types. The user comes along as a column, so that each member is looked
// up by the whole key: by the parameter, all members of the user might be compared with each conversation.
//
// Plan: Index Only Scan Backward using listings_pkey, twice; conversations by key; the events of each after its
// `read`, and its members, by their keys. A sort of the page only. With 10,000 and with 100,000 conversations 0.6 ms
// for 20 and 2 ms for 100, at any depth; each conversation that is active in the same minute as the last of the page
// adds 1 µs.
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
        "WITH own AS (
             SELECT ?::bigint, ?::bigint, ?::bigint, ?::bigint, ?::bigint, ?::bigint, ?::bigint, ?::bigint
         ), near AS MATERIALIZED (
             SELECT c.last_at FROM ", places!(), "
             ORDER BY l.listed_at DESC LIMIT $4
         ), page AS MATERIALIZED (
             SELECT l.user_id, c.conversation_key, c.id, c.last_seq, c.last_at FROM ", places!(), "
                 AND l.listed_at > coalesce((SELECT min(last_at) FROM near), 0) - $5
             ORDER BY c.last_at DESC, c.conversation_key DESC LIMIT $4
         )
         SELECT ", listed_columns!("$6", "$7", "$8"), "
         FROM page AS p
         JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = p.user_id
         ORDER BY p.last_at DESC, p.conversation_key DESC"
    )
);

statement!(
    fn select_one(user: i64, id: &'a str, among: i64, unread_max: i64, members_max: i64) -> ListedRow = concat!(
        "WITH own AS (SELECT ?::bigint, ?::text, ?::bigint, ?::bigint, ?::bigint)
         SELECT ", listed_columns!("$3", "$4", "$5"), "
         FROM conversations AS p
         JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = $1
         WHERE p.id = $2"
    )
);

// Plan: for each, `events_pkey` backwards until a message is found.
statement!(
    fn select_last_messages(among: i64, keys: &'a [i64], lasts: &'a [i64]) -> (i64, EventRow) = concat!(
        "SELECT e.conversation_key, ", event_columns!(), "
         FROM (SELECT key, last, ?::bigint AS among FROM unnest(?::bigint[], ?::bigint[]) AS given (key, last)) AS asked
         CROSS JOIN LATERAL (
             SELECT * FROM events AS b
             WHERE b.conversation_key = asked.key AND b.seq <= asked.last AND b.seq > asked.last - asked.among
                 AND b.kind = 'message'
             ORDER BY b.seq DESC LIMIT 1) AS e"
    )
);
