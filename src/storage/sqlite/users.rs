//! `Users` on SQLite.

use async_trait::async_trait;
use diesel::QueryResult;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::connection::durably;
use super::error::Fault;
use super::rows;
use super::statement::statement;
use crate::domain::{NameKey, ProfileChange, Subject, Timestamp, User, UserId};
use crate::storage::{NewUser, Saved, StorageError, Users};

/// Names whose keys are made in one go.
const FILLED_AT_ONCE: i64 = 1_000;

#[async_trait]
impl Users for SqliteStore {
    async fn user(&self, subject: &Subject) -> Result<Option<User>, StorageError> {
        let subject = subject.clone();
        self.read(move |conn| find(conn, &subject)).await
    }

    async fn provision(&self, subject: &Subject, name: Option<&str>) -> Result<User, StorageError> {
        let name = name.unwrap_or_default().to_owned();
        if let Some(user) = self.user(subject).await?
            && (!user.name.is_empty() || name.is_empty())
        {
            return Ok(user);
        }
        let subject = subject.clone();
        self.write(move |conn| durably(conn, |conn| provision(conn, &subject, &name))).await
    }

    async fn save(&self, users: &[NewUser]) -> Result<Vec<Saved>, StorageError> {
        let users = users.to_vec();
        self.write(move |conn| {
            durably(conn, |conn| users.iter().map(|user| save(conn, user)).collect::<Result<_, _>>())
        })
        .await
    }

    async fn add_missing(&self, users: &[NewUser]) -> Result<(), StorageError> {
        let users = users.to_vec();
        self.write(move |conn| {
            durably(conn, |conn| {
                for user in &users {
                    insert(conn, user)?;
                }
                Ok(())
            })
        })
        .await
    }

    async fn named(&self, beginning: &NameKey, limit: u32) -> Result<Vec<User>, StorageError> {
        let (first, end) = (beginning.as_str().to_owned(), beginning.end());
        self.read(move |conn| {
            select_named(conn, &first, &end, i64::from(limit))?
                .into_iter()
                .map(user)
                .collect::<Result<_, _>>()
        })
        .await
    }

    async fn change(&self, id: UserId, change: &ProfileChange) -> Result<Option<User>, StorageError> {
        let change = change.clone();
        self.write(move |conn| durably(conn, |conn| self::change(conn, id, &change))).await
    }

    async fn list(&self, after: i64, limit: u32) -> Result<Vec<User>, StorageError> {
        self.read(move |conn| {
            select_users(conn, after, i64::from(limit))?.into_iter().map(user).collect::<Result<_, _>>()
        })
        .await
    }
}

fn find(conn: &mut SqliteConnection, subject: &Subject) -> Result<Option<User>, Fault> {
    let rows = match subject {
        Subject::Id(id) => select_by_id(conn, id.get())?,
        Subject::External { issuer, id } => select_by_external_id(conn, issuer, id)?,
    };
    rows.into_iter().next().map(user).transpose()
}

/// Inside a transaction, so that of many at once the first inserts and the others find.
fn provision(conn: &mut SqliteConnection, subject: &Subject, name: &str) -> Result<User, Fault> {
    let now = Timestamp::now().0;
    let key = NameKey::of(name);
    if let Some(known) = find(conn, subject)? {
        fill_name(conn, name, key.as_str(), known.id.get())?;
    } else {
        match subject {
            Subject::Id(id) => insert_user(conn, id.get(), name, key.as_str(), None, 0, now)?,
            Subject::External { issuer, id } => {
                let rows = next_user_id(conn)?;
                let &(next,) = rows.first().ok_or_else(|| Fault::refused("no counter of user ids"))?;
                insert_external(conn, next, issuer, id, name, key.as_str(), now)?
            }
        };
    }
    find(conn, subject)?.ok_or_else(|| Fault::refused("a user who was just made is not there"))
}

fn insert(conn: &mut SqliteConnection, user: &NewUser) -> Result<bool, Fault> {
    let verified = i64::from(user.email.is_some());
    let now = Timestamp::now().0;
    let (key, email) = (NameKey::of(&user.name), user.email.as_deref());
    Ok(insert_user(conn, user.id.get(), &user.name, key.as_str(), email, verified, now)? == 1)
}

fn save(conn: &mut SqliteConnection, user: &NewUser) -> Result<Saved, Fault> {
    if insert(conn, user)? {
        return Ok(Saved::Added);
    }
    let (name, email, id) = (user.name.as_str(), user.email.as_deref(), user.id.get());
    let key = NameKey::of(name);
    let changed = match email {
        Some(email) => update_user(conn, name, key.as_str(), email, id, name, email)?,
        None => update_name(conn, name, key.as_str(), id, name)?,
    };
    Ok(if changed == 1 { Saved::Updated } else { Saved::Unchanged })
}

fn change(conn: &mut SqliteConnection, id: UserId, change: &ProfileChange) -> Result<Option<User>, Fault> {
    let (name, key) = (change.name.as_deref(), change.name.as_deref().map(NameKey::of));
    let (time_zone, language) = (change.time_zone.as_deref(), change.language.as_deref());
    update_profile(conn, name, key.as_ref().map(NameKey::as_str), time_zone, language, id.get())?;
    by_id(conn, id)
}

/// Makes the keys of names that have none; within a migration, whose transaction it is.
pub(super) fn fill_name_keys(conn: &mut SqliteConnection) -> QueryResult<()> {
    loop {
        let rows = select_without_key(conn, FILLED_AT_ONCE)?;
        if rows.is_empty() {
            return Ok(());
        }
        for (id, name) in rows {
            set_name_key(conn, NameKey::of(&name).as_str(), id)?;
        }
    }
}

/// id, external_id, name, verified address, disabled, time zone, language.
type UserRow = (i64, Option<String>, String, Option<String>, i64, Option<String>, Option<String>);

fn user(row: UserRow) -> Result<User, Fault> {
    let (id, external_id, name, email, disabled, time_zone, language) = row;
    let (id, disabled) = (rows::user_id(id)?, disabled != 0);
    Ok(User { id, external_id, name, email, disabled, time_zone, language })
}

/// A user by id, for other parts of this adapter.
pub(super) fn by_id(conn: &mut SqliteConnection, id: UserId) -> Result<Option<User>, Fault> {
    select_by_id(conn, id.get())?.into_iter().next().map(user).transpose()
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
    fn next_user_id() -> (i64,) =
        "UPDATE deployment SET next_user_id = next_user_id + 1 RETURNING next_user_id - 1"
);

statement!(
    fn insert_user(
        id: i64,
        name: &'a str,
        key: &'a str,
        email: Option<&'a str>,
        verified: i64,
        now: i64,
    ) = "INSERT INTO users (id, name, name_key, email, email_verified, created_at) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (id) DO NOTHING"
);

statement!(
    fn insert_external(
        id: i64,
        issuer: &'a str,
        external_id: &'a str,
        name: &'a str,
        key: &'a str,
        now: i64,
    ) = "INSERT INTO users (id, issuer, external_id, name, name_key, created_at) VALUES (?, ?, ?, ?, ?, ?)"
);

statement!(
    fn fill_name(name: &'a str, key: &'a str, id: i64) =
        "UPDATE users SET name = ?, name_key = ? WHERE id = ? AND name = ''"
);

statement!(
    fn update_user(
        name: &'a str,
        key: &'a str,
        email: &'a str,
        id: i64,
        old_name: &'a str,
        old_email: &'a str,
    ) = "UPDATE users SET name = ?, name_key = ?, email = ?, email_verified = 1
         WHERE id = ? AND (name <> ? OR email IS NOT ? OR email_verified = 0)"
);

statement!(
    fn update_name(name: &'a str, key: &'a str, id: i64, old_name: &'a str) =
        "UPDATE users SET name = ?, name_key = ? WHERE id = ? AND name <> ?"
);

statement!(
    fn update_profile(
        name: Option<&'a str>,
        key: Option<&'a str>,
        time_zone: Option<&'a str>,
        language: Option<&'a str>,
        id: i64,
    ) = "UPDATE users SET name = coalesce(?, name), name_key = coalesce(?, name_key),
             time_zone = coalesce(?, time_zone), language = coalesce(?, language)
         WHERE id = ?"
);

// Plan: SEARCH users USING INDEX users_by_name (name_key>? AND name_key<?).
statement!(
    fn select_named(first: &'a str, end: &'a str, limit: i64) -> UserRow = concat!(
        "SELECT ", user_columns!(), " FROM users
         WHERE name_key >= ? AND name_key < ? AND disabled = 0 ORDER BY name_key, id LIMIT ?"
    )
);

statement!(
    fn select_without_key(limit: i64) -> (i64, String) =
        "SELECT id, name FROM users WHERE name_key IS NULL LIMIT ?"
);

statement!(
    fn set_name_key(key: &'a str, id: i64) = "UPDATE users SET name_key = ? WHERE id = ?"
);
