//! `Users` on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use diesel::QueryResult;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
use super::error::Fault;
use super::rows;
use super::statement::{now_ms, statement};
use crate::domain::{NameKey, ProfileChange, Subject, User, UserId};
use crate::storage::{NewUser, Saved, StorageError, Users};

/// Names whose keys are made in one go.
const FILLED_AT_ONCE: i64 = 1_000;

#[async_trait]
impl Users for PostgresStore {
    async fn user(&self, subject: &Subject) -> Result<Option<User>, StorageError> {
        let conn = self.take().await?;
        conn.run(find(&conn, subject)).await
    }

    async fn provision(&self, subject: &Subject, name: Option<&str>) -> Result<User, StorageError> {
        let name = name.unwrap_or_default();
        let conn = self.take().await?;
        conn.run(provision(&conn, subject, name)).await
    }

    async fn save(&self, users: &[NewUser]) -> Result<Vec<Saved>, StorageError> {
        let conn = self.take().await?;
        conn.transaction(save(&conn, users)).await
    }

    async fn add_missing(&self, users: &[NewUser]) -> Result<(), StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let users: Vec<&NewUser> = users.iter().collect();
            let Columns { ids, names, keys, emails } = columns(&users);
            insert_missing(&conn, &ids, &names, &keys, &emails).await?;
            Ok(())
        })
        .await
    }

    async fn named(&self, beginning: &NameKey, limit: u32) -> Result<Vec<User>, StorageError> {
        let (first, end) = (beginning.as_str(), beginning.end());
        let conn = self.take().await?;
        conn.run(async {
            // No name has one.
            if first.contains('\0') {
                return Ok(Vec::new());
            }
            select_named(&conn, first, &end, i64::from(limit)).await?.into_iter().map(user).collect()
        })
        .await
    }

    async fn change(&self, id: UserId, change: &ProfileChange) -> Result<Option<User>, StorageError> {
        let (name, key) = (change.name.as_deref(), change.name.as_deref().map(NameKey::of));
        let (time_zone, language) = (change.time_zone.as_deref(), change.language.as_deref());
        let key = key.as_ref().map(NameKey::as_str);
        let conn = self.take().await?;
        conn.run(async {
            let rows = update_profile(&conn, name, key, time_zone, language, id.get()).await?;
            rows.into_iter().next().map(user).transpose()
        })
        .await
    }

    async fn list(&self, after: i64, limit: u32) -> Result<Vec<User>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            select_users(&conn, after, i64::from(limit)).await?.into_iter().map(user).collect()
        })
        .await
    }
}

async fn find(conn: &AsyncPgConnection, subject: &Subject) -> Result<Option<User>, Fault> {
    let rows = match subject {
        Subject::Id(id) => select_by_id(conn, id.get()).await?,
        Subject::External { issuer, id } => {
            let (issuer, id) = (text(issuer)?, text(id)?);
            select_by_external_id(conn, issuer, id).await?
        }
    };
    rows.into_iter().next().map(user).transpose()
}

/// Of many at once one inserts, and the others wait for it and find.
async fn provision(conn: &AsyncPgConnection, subject: &Subject, name: &str) -> Result<User, Fault> {
    let name = text(name)?;
    let found = find(conn, subject).await?;
    if let Some(user) = found.filter(|user| !user.name.is_empty() || name.is_empty()) {
        return Ok(user);
    }
    let key = NameKey::of(name);
    match subject {
        Subject::Id(id) => {
            insert_user(conn, id.get(), name, key.as_str()).await?;
        }
        Subject::External { issuer, id } => {
            insert_external(conn, issuer, id, name, key.as_str()).await?;
            fill_name(conn, name, key.as_str(), issuer, id).await?;
        }
    }
    find(conn, subject).await?.ok_or_else(|| Fault::refused("a user who was just made is not there"))
}

async fn save(conn: &AsyncPgConnection, users: &[NewUser]) -> Result<Vec<Saved>, Fault> {
    let mut saved = vec![Saved::Unchanged; users.len()];
    let mut waiting: Vec<(usize, &NewUser)> = users.iter().enumerate().collect();
    // One statement changes a row once; who is named twice takes a second turn.
    while !waiting.is_empty() {
        let mut turn = HashMap::with_capacity(waiting.len());
        waiting.retain(|(index, user)| match turn.entry(user.id.get()) {
            std::collections::hash_map::Entry::Occupied(_) => true,
            std::collections::hash_map::Entry::Vacant(free) => {
                free.insert(*index);
                false
            }
        });
        let named: Vec<&NewUser> = turn.values().map(|index| &users[*index]).collect();
        let Columns { ids, names, keys, emails } = columns(&named);
        for (id, is_new) in upsert(conn, &ids, &names, &keys, &emails).await? {
            if let Some(index) = turn.get(&id) {
                saved[*index] = if is_new { Saved::Added } else { Saved::Updated };
            }
        }
    }
    Ok(saved)
}

/// Users as arrays, by id: whoever writes the same ones at the same time takes their rows in this order.
struct Columns<'a> {
    ids: Vec<i64>,
    names: Vec<&'a str>,
    keys: Vec<String>,
    emails: Vec<Option<&'a str>>,
}

fn columns<'a>(users: &[&'a NewUser]) -> Columns<'a> {
    let mut users = users.to_vec();
    users.sort_by_key(|user| user.id);
    Columns {
        ids: users.iter().map(|user| user.id.get()).collect(),
        names: users.iter().map(|user| user.name.as_str()).collect(),
        keys: users.iter().map(|user| NameKey::of(&user.name).as_str().to_owned()).collect(),
        emails: users.iter().map(|user| user.email.as_deref()).collect(),
    }
}

/// A text that PostgreSQL can hold: a token may say anything.
fn text(text: &str) -> Result<&str, Fault> {
    if text.contains('\0') { Err(Fault::refused("a name with a NUL character")) } else { Ok(text) }
}

/// Makes the keys of names that have none; within a migration, whose transaction it is.
pub(super) async fn fill_name_keys(conn: &AsyncPgConnection) -> QueryResult<()> {
    loop {
        let rows = select_without_key(conn, FILLED_AT_ONCE).await?;
        if rows.is_empty() {
            return Ok(());
        }
        let ids: Vec<i64> = rows.iter().map(|(id, _)| *id).collect();
        let keys: Vec<String> = rows.iter().map(|(_, name)| NameKey::of(name).as_str().to_owned()).collect();
        set_name_keys(conn, &ids, &keys).await?;
    }
}

/// id, external_id, name, verified address, disabled, time zone, language.
type UserRow = (i64, Option<String>, String, Option<String>, bool, Option<String>, Option<String>);

fn user(row: UserRow) -> Result<User, Fault> {
    let (id, external_id, name, email, disabled, time_zone, language) = row;
    Ok(User { id: rows::user_id(id)?, external_id, name, email, disabled, time_zone, language })
}

macro_rules! user_columns {
    () => {
        "id, external_id, name, CASE WHEN email_verified THEN email END, disabled, time_zone, language"
    };
}

statement!(
    fn select_by_id(id: i64) -> UserRow = concat!("SELECT ", user_columns!(), " FROM users WHERE id = ?")
);

statement!(
    fn select_by_external_id(issuer: &'a str, id: &'a str) -> UserRow =
        concat!("SELECT ", user_columns!(), " FROM users WHERE issuer = ? AND external_id = ?")
);

statement!(
    fn select_users(after: i64, limit: i64) -> UserRow =
        concat!("SELECT ", user_columns!(), " FROM users WHERE id > ? ORDER BY id LIMIT ?")
);

statement!(
    fn insert_user(id: i64, name: &'a str, key: &'a str) = concat!(
        "INSERT INTO users (id, name, name_key, created_at) VALUES (?, ?, ?, ", now_ms!(), ")
         ON CONFLICT (id) DO UPDATE SET name = excluded.name, name_key = excluded.name_key
         WHERE users.name = '' AND excluded.name <> ''"
    )
);

statement!(
    /// Looks first, so that ids are not used up by those who are there.
    fn insert_external(issuer: &'a str, external_id: &'a str, name: &'a str, key: &'a str) = concat!(
        "INSERT INTO users (id, issuer, external_id, name, name_key, created_at)
         SELECT nextval('user_ids'), asked.issuer, asked.external_id, asked.name, asked.key, ", now_ms!(), "
         FROM (SELECT ?::text AS issuer, ?::text AS external_id, ?::text AS name, ?::text AS key) AS asked
         WHERE NOT EXISTS (SELECT 1 FROM users AS u
                           WHERE u.issuer = asked.issuer AND u.external_id = asked.external_id)
         ON CONFLICT (issuer, external_id) DO NOTHING"
    )
);

statement!(
    fn fill_name(name: &'a str, key: &'a str, issuer: &'a str, external_id: &'a str) =
        "UPDATE users SET name = ?, name_key = ? WHERE issuer = ? AND external_id = ? AND name = ''"
);

statement!(
    fn insert_missing(
        ids: &'a [i64],
        names: &'a [&'a str],
        keys: &'a [String],
        emails: &'a [Option<&'a str>],
    ) = concat!(
        "INSERT INTO users (id, name, name_key, email, email_verified, created_at)
         SELECT n.id, n.name, n.key, n.email, n.email IS NOT NULL, ", now_ms!(), "
         FROM unnest(?, ?, ?, ?) AS n(id, name, key, email)
         ON CONFLICT (id) DO NOTHING"
    )
);

statement!(
    /// Returns those that are new or changed, and whether they are new: only then nothing was there to lock.
    fn upsert(
        ids: &'a [i64],
        names: &'a [&'a str],
        keys: &'a [String],
        emails: &'a [Option<&'a str>],
    ) -> (i64, bool) = concat!(
        "INSERT INTO users (id, name, name_key, email, email_verified, created_at)
         SELECT n.id, n.name, n.key, n.email, n.email IS NOT NULL, ", now_ms!(), "
         FROM unnest(?, ?, ?, ?) AS n(id, name, key, email)
         ON CONFLICT (id) DO UPDATE SET
             name = excluded.name,
             name_key = excluded.name_key,
             email = coalesce(excluded.email, users.email),
             email_verified = users.email_verified OR excluded.email_verified
         WHERE users.name <> excluded.name
            OR excluded.email <> coalesce(users.email, '')
            OR (excluded.email_verified AND NOT users.email_verified)
         RETURNING id, xmax = 0"
    )
);

statement!(
    fn update_profile(
        name: Option<&'a str>,
        key: Option<&'a str>,
        time_zone: Option<&'a str>,
        language: Option<&'a str>,
        id: i64,
    ) -> UserRow = concat!(
        "UPDATE users SET name = coalesce(?, name), name_key = coalesce(?, name_key),
             time_zone = coalesce(?, time_zone), language = coalesce(?, language)
         WHERE id = ? RETURNING ", user_columns!()
    )
);

// Plan: Index Scan using users_by_name (name_key >= … AND name_key < …), in its order.
statement!(
    fn select_named(first: &'a str, end: &'a str, limit: i64) -> UserRow = concat!(
        "SELECT ", user_columns!(), " FROM users
         WHERE name_key >= ? AND name_key < ? AND NOT disabled ORDER BY name_key, id LIMIT ?"
    )
);

statement!(
    fn select_without_key(limit: i64) -> (i64, String) =
        "SELECT id, name FROM users WHERE name_key IS NULL LIMIT ?"
);

statement!(
    fn set_name_keys(ids: &'a [i64], keys: &'a [String]) =
        "UPDATE users AS u SET name_key = n.key FROM unnest(?, ?) AS n(id, key) WHERE u.id = n.id"
);
