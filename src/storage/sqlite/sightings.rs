//! `Sightings` on SQLite.

use async_trait::async_trait;

use super::SqliteStore;
use super::connection::{durably, immediately};
use super::error::Fault;
use super::statement::statement;
use crate::domain::{Audience, ConversationId, Timestamp, UserId};
use crate::storage::{Sighting, Sightings, StorageError};

#[async_trait]
impl Sightings for SqliteStore {
    async fn saw(&self, seen: &[(UserId, Timestamp)]) -> Result<(), StorageError> {
        let seen = seen.to_vec();
        self.write(move |conn| {
            immediately(conn, |conn| {
                for (user, at) in &seen {
                    upsert_seen(conn, user.get(), at.0)?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn sightings(&self, users: &[UserId]) -> Result<Vec<Sighting>, StorageError> {
        let users = users.to_vec();
        self.read(move |conn| {
            let one = |user: &UserId| {
                let row = select_sighting(conn, user.get())?.into_iter().next();
                row.map_or(Ok(Sighting::default()), sighting)
            };
            users.iter().map(one).collect()
        })
        .await
    }

    async fn show_to(&self, user: UserId, audience: Audience) -> Result<(), StorageError> {
        self.write(move |conn| {
            durably(conn, |conn| {
                upsert_audience(conn, user.get(), audience.as_str())?;
                Ok(())
            })
        })
        .await
    }

    async fn sharing(&self, pairs: &[(UserId, UserId)]) -> Result<Vec<bool>, StorageError> {
        let pairs = pairs.to_vec();
        self.read(move |conn| {
            let one = |(a, b): &(UserId, UserId)| {
                if let Ok(dm) = ConversationId::dm(*a, *b)
                    && !select_conversation(conn, &dm.to_string())?.is_empty()
                {
                    return Ok(true);
                }
                Ok(!select_shared(conn, a.get(), b.get())?.is_empty())
            };
            pairs.iter().map(one).collect()
        })
        .await
    }
}

fn sighting((last_seen, audience): (Option<i64>, Option<String>)) -> Result<Sighting, Fault> {
    let known = |text: String| Audience::parse(&text).ok_or_else(|| Fault::refused("an unknown audience"));
    Ok(Sighting { last_seen: last_seen.map(Timestamp), audience: audience.map(known).transpose()? })
}

statement!(
    fn upsert_seen(user: i64, at: i64) =
        "INSERT INTO presence (user_id, last_seen) VALUES (?, ?)
         ON CONFLICT (user_id) DO UPDATE SET last_seen = excluded.last_seen
         WHERE last_seen IS NULL OR last_seen < excluded.last_seen"
);

statement!(
    fn upsert_audience(user: i64, audience: &'a str) =
        "INSERT INTO presence (user_id, audience) VALUES (?, ?)
         ON CONFLICT (user_id) DO UPDATE SET audience = excluded.audience"
);

statement!(
    fn select_sighting(user: i64) -> (Option<i64>, Option<String>) =
        "SELECT last_seen, audience FROM presence WHERE user_id = ?"
);

// Most pairs that are asked for write to each other: their conversation is found by its id. For the others, the
// conversations of one by `members_by_user`, the other in each by the key.
statement!(
    fn select_conversation(id: &'a str) -> (i64,) = "SELECT conversation_key FROM conversations WHERE id = ?"
);

statement!(
    fn select_shared(a: i64, b: i64) -> (i64,) =
        "SELECT m.conversation_key FROM members AS m CROSS JOIN members AS o
             ON o.conversation_key = m.conversation_key
         WHERE m.user_id = ? AND o.user_id = ? LIMIT 1"
);
