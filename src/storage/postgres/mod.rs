//! Storage in PostgreSQL, 13 or later: every port over one database, for any number of processes.
//!
//! **Connections.** A pool of `database.pool` connections; a port call borrows one, and whatever waits for
//! something waits a bounded time: for a connection 5 s, for an answer 9 s in all. The server has limits of its
//! own just below. So a server that is silent is `Unavailable` in time, and a process that is paused inside a
//! transaction loses it after 5 s: nobody waits longer for its locks. Through PgBouncer only with session
//! pooling: statements stay prepared, and settings are the connection's.
//!
//! **Round trips.** What has no need of an answer travels with what follows (see `statement`): a batch of
//! records is three round trips whatever its size. Lists travel as arrays: no statement a message.
//!
//! **Locks** are taken in this order, by everyone: partitions of the log (by number), conversations (by key),
//! `notify_due` (by key), users (by id), members (by key, then user), mails (by id). Two transactions that keep
//! to it never deadlock. Who skips locked rows may take them in any order, as it waits for none: so does
//! `raise` with `notify_due` and, at its end, with conversations.
//!
//! **What survives what.** A commit is as durable as the server's `synchronous_commit` says, on by default.
//! `make_durable` syncs in any case, so that the message log forgets nothing that the server could lose.
//!
//! **Backups** are PostgreSQL's (`pg_dump`, a base backup). A restored history may go on otherwise than the
//! lost one, and clients' cursors may lie beyond it; PostgreSQL does not tell a database that it was restored,
//! so the operator does (`renew_incarnation`).

mod apply;
mod audit;
mod catchup;
mod connection;
mod conversations;
mod decide;
mod error;
mod events;
mod import;
mod insert;
mod inspect;
mod ledger;
mod messages;
mod notifications;
mod raise;
mod receipts;
mod rows;
mod schema;
mod seek;
mod sightings;
mod statement;
mod target;
mod tls;
mod users;

use std::sync::Arc;

pub use error::OpenError;
pub use import::PostgresImport;
pub use inspect::{Inspection, inspect, renew_incarnation};

use super::StorageError;
use crate::domain::Secret;
use connection::{Connections, Loan};
use target::Target;

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostgresSettings {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=…`, as libpq reads it.
    pub url: Secret<String>,
    /// Connections at most; 1 at least.
    pub pool: usize,
    /// The schema of the tables, made by the migrations where it is absent; `None`: the first of the
    /// connection's own search path.
    pub schema: Option<String>,
    /// What to do when the schema is older than this release.
    pub migrate: Migrate,
    /// Refuse a URL by which the server does not prove who it is.
    pub verify_tls: bool,
}

/// What to do when the schema is older than this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Migrate.
    Auto,
    /// Refuse to open.
    Check,
}

/// Every storage port over one PostgreSQL database.
pub struct PostgresStore {
    connections: Connections,
}

impl PostgresStore {
    /// Reaches the database, migrates it or refuses an older one, as asked. To be called within the runtime
    /// that then drives the connections.
    ///
    /// # Errors
    /// The URL or the database cannot be used, or a migration failed.
    pub async fn open(settings: PostgresSettings) -> Result<Self, OpenError> {
        let target = Target::new(&settings)?;
        let mut conn = schema::connect(&target).await?;
        let pending = schema::pending(&target, &conn).await?;
        match settings.migrate {
            Migrate::Check if !pending.is_empty() => {
                return Err(OpenError::Pending { database: target.name, count: pending.len() });
            }
            Migrate::Auto if !pending.is_empty() => {
                schema::run(&target, &mut conn).await?;
            }
            Migrate::Check | Migrate::Auto => {}
        }
        let connections = Connections::new(Arc::new(target), settings.pool).map_err(OpenError::Url)?;
        Ok(Self { connections })
    }

    /// A connection for one port call.
    async fn take(&self) -> Result<Loan, StorageError> {
        self.connections.take().await
    }
}

/// Runs the migrations that the database lacks and returns their versions, oldest first.
///
/// # Errors
/// The URL or the database cannot be used, or a migration failed and was rolled back.
pub async fn migrate(settings: &PostgresSettings) -> Result<Vec<String>, OpenError> {
    let target = Target::new(settings)?;
    let mut conn = schema::connect(&target).await?;
    schema::run(&target, &mut conn).await
}

/// The schema versions that the database lacks, oldest first. Changes nothing.
///
/// # Errors
/// The URL or the database cannot be used.
pub async fn pending(settings: &PostgresSettings) -> Result<Vec<String>, OpenError> {
    let target = Target::new(settings)?;
    let conn = schema::connect(&target).await?;
    schema::pending(&target, &conn).await
}
