//! `Users` on PostgreSQL.

use std::collections::HashMap;

use async_trait::async_trait;
use diesel_async::AsyncPgConnection;

use super::PostgresStore;
use super::error::Fault;
use super::rows;
use super::statement::{now_ms, statement};
use crate::domain::{Subject, User};
use crate::storage::{NewUser, Saved, StorageError, Users};

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
            let Columns { ids, names, emails } = columns(&users);
            insert_missing(&conn, &ids, &names, &emails).await?;
            Ok(())
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
    match subject {
        Subject::Id(id) => {
            insert_user(conn, id.get(), name).await?;
        }
        Subject::External { issuer, id } => {
            insert_external(conn, issuer, id, name).await?;
            fill_name(conn, name, issuer, id).await?;
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
        let Columns { ids, names, emails } = columns(&named);
        for (id, is_new) in upsert(conn, &ids, &names, &emails).await? {
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
    emails: Vec<Option<&'a str>>,
}

fn columns<'a>(users: &[&'a NewUser]) -> Columns<'a> {
    let mut users = users.to_vec();
    users.sort_by_key(|user| user.id);
    Columns {
        ids: users.iter().map(|user| user.id.get()).collect(),
        names: users.iter().map(|user| user.name.as_str()).collect(),
        emails: users.iter().map(|user| user.email.as_deref()).collect(),
    }
}

/// A text that PostgreSQL can hold: a token may say anything.
fn text(text: &str) -> Result<&str, Fault> {
    if text.contains('\0') { Err(Fault::refused("a name with a NUL character")) } else { Ok(text) }
}

/// id, external_id, name, verified address, disabled.
type UserRow = (i64, Option<String>, String, Option<String>, bool);

fn user((id, external_id, name, email, disabled): UserRow) -> Result<User, Fault> {
    Ok(User { id: rows::user_id(id)?, external_id, name, email, disabled })
}

macro_rules! user_columns {
    () => {
        "id, external_id, name, CASE WHEN email_verified THEN email END, disabled"
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
    fn insert_user(id: i64, name: &'a str) = concat!(
        "INSERT INTO users (id, name, created_at) VALUES (?, ?, ", now_ms!(), ")
         ON CONFLICT (id) DO UPDATE SET name = excluded.name
         WHERE users.name = '' AND excluded.name <> ''"
    )
);

statement!(
    /// Looks first, so that ids are not used up by those who are there.
    fn insert_external(issuer: &'a str, external_id: &'a str, name: &'a str) = concat!(
        "INSERT INTO users (id, issuer, external_id, name, created_at)
         SELECT nextval('user_ids'), asked.issuer, asked.external_id, asked.name, ", now_ms!(), "
         FROM (SELECT ?::text AS issuer, ?::text AS external_id, ?::text AS name) AS asked
         WHERE NOT EXISTS (SELECT 1 FROM users AS u
                           WHERE u.issuer = asked.issuer AND u.external_id = asked.external_id)
         ON CONFLICT (issuer, external_id) DO NOTHING"
    )
);

statement!(
    fn fill_name(name: &'a str, issuer: &'a str, external_id: &'a str) =
        "UPDATE users SET name = ? WHERE issuer = ? AND external_id = ? AND name = ''"
);

statement!(
    fn insert_missing(ids: &'a [i64], names: &'a [&'a str], emails: &'a [Option<&'a str>]) = concat!(
        "INSERT INTO users (id, name, email, email_verified, created_at)
         SELECT n.id, n.name, n.email, n.email IS NOT NULL, ", now_ms!(), "
         FROM unnest(?, ?, ?) AS n(id, name, email)
         ON CONFLICT (id) DO NOTHING"
    )
);

statement!(
    /// Returns those that are new or changed, and whether they are new: only then nothing was there to lock.
    fn upsert(ids: &'a [i64], names: &'a [&'a str], emails: &'a [Option<&'a str>]) -> (i64, bool) = concat!(
        "INSERT INTO users (id, name, email, email_verified, created_at)
         SELECT n.id, n.name, n.email, n.email IS NOT NULL, ", now_ms!(), "
         FROM unnest(?, ?, ?) AS n(id, name, email)
         ON CONFLICT (id) DO UPDATE SET
             name = excluded.name,
             email = coalesce(excluded.email, users.email),
             email_verified = users.email_verified OR excluded.email_verified
         WHERE users.name <> excluded.name
            OR excluded.email <> coalesce(users.email, '')
            OR (excluded.email_verified AND NOT users.email_verified)
         RETURNING id, xmax = 0"
    )
);
