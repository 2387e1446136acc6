//! `Import` on PostgreSQL: a history comes in within one transaction, is read back within it, and is either there
//! whole after its COMMIT or not at all.
//!
//! Whoever else writes waits meanwhile (all tables are locked), and gives up by the limits of its own
//! connection; so nothing comes in beside what is moved.

mod read;
mod write;

use std::time::Duration;

use async_trait::async_trait;
use diesel_async::{AsyncPgConnection, SimpleAsyncConnection};
use tokio::time::timeout;

use super::connection::establish_mover;
use super::error::{Fault, OpenError};
use super::ledger;
use super::statement::{Id, statement};
use super::target::Target;
use super::{PostgresSettings, PostgresStore};
use crate::domain::{LogNumber, Offset};
use crate::pipeline::LogIdentity;
use crate::storage::StorageError;
use crate::storage::transfer::{Export, Import, Key, Occupied, Rows, Table};

/// How long one step may take: a page, or the COMMIT of everything.
const STEP_LIMIT: Duration = Duration::from_secs(120);

/// What has rows besides the tables that go along: a history that lived here.
const OWN_TABLES: [&str; 1] = ["notify_later"];

/// An empty database that takes a history over.
pub struct PostgresImport {
    conn: AsyncPgConnection,
    /// `HOST:PORT/NAME`, without credentials.
    pub name: String,
}

impl PostgresImport {
    /// Reaches the database, and migrates it or refuses an older one, as asked.
    ///
    /// # Errors
    /// The URL or the database cannot be used, or a migration failed.
    pub async fn open(settings: PostgresSettings) -> Result<Self, OpenError> {
        let target = Target::new(&settings)?;
        let name = target.name.clone();
        drop(PostgresStore::open(settings).await?);
        let conn = establish_mover(&target)
            .await
            .map_err(|error| OpenError::Unreachable { database: name.clone(), reason: error.to_string() })?;
        Ok(Self { conn, name })
    }

    async fn command(&mut self, sql: &str) -> Result<(), StorageError> {
        let conn = &mut self.conn;
        bounded(async { Ok(conn.batch_execute(sql).await?) }).await
    }
}

/// A step with its limit. What was under way when that ended, nobody knows: the connection is good for nothing
/// more, and its transaction goes with it.
async fn bounded<T>(step: impl Future<Output = Result<T, Fault>>) -> Result<T, StorageError> {
    match timeout(STEP_LIMIT, step).await {
        Ok(done) => done.map_err(|fault| fault.0),
        Err(_) => Err(StorageError::Unavailable(format!(
            "the database did not answer within {} s",
            STEP_LIMIT.as_secs()
        ))),
    }
}

#[async_trait]
impl Export for PostgresImport {
    async fn rows(&mut self, table: Table, after: Key, limit: u32) -> Result<Rows, StorageError> {
        bounded(read::page(&self.conn, table, after, i64::from(limit))).await
    }
}

#[async_trait]
impl Import for PostgresImport {
    async fn begin(&mut self) -> Result<Option<Occupied>, StorageError> {
        let names: Vec<&str> = Table::ALL.iter().map(|table| table.name()).chain(OWN_TABLES).collect();
        self.command("BEGIN").await?;
        // Whatever the role has: what was moved survives a crash of the server.
        self.command("SET LOCAL synchronous_commit = on").await?;
        self.command(&format!("LOCK TABLE {} IN EXCLUSIVE MODE", names.join(", "))).await?;
        let conn = &self.conn;
        bounded(async {
            let occupied = select_occupied(conn).await?.into_iter().next();
            Ok(occupied.map(|(table, Id(incarnation))| Occupied { table, incarnation }))
        })
        .await
    }

    async fn write(&mut self, rows: Rows) -> Result<(), StorageError> {
        bounded(write::page(&self.conn, rows)).await
    }

    async fn finish(
        &mut self,
        next: Option<(LogIdentity, Vec<Offset>)>,
    ) -> Result<Option<LogNumber>, StorageError> {
        let conn = &self.conn;
        let number = bounded(async {
            set_sequences(conn).await?;
            Ok(match next {
                Some((identity, next)) => Some(ledger::hand_over(conn, identity, &next).await?),
                None => None,
            })
        })
        .await?;
        self.command("COMMIT").await?;
        Ok(number)
    }
}

statement!(
    /// A table with rows, and whose they are; nothing where all but `deployment` are empty.
    fn select_occupied() -> (String, Id) =
        "SELECT found.name, d.incarnation FROM deployment AS d CROSS JOIN (
             SELECT 'users' AS name WHERE EXISTS (SELECT FROM users)
             UNION ALL SELECT 'presence' WHERE EXISTS (SELECT FROM presence)
             UNION ALL SELECT 'logs' WHERE EXISTS (SELECT FROM logs)
             UNION ALL SELECT 'log_partitions' WHERE EXISTS (SELECT FROM log_partitions)
             UNION ALL SELECT 'conversations' WHERE EXISTS (SELECT FROM conversations)
             UNION ALL SELECT 'members' WHERE EXISTS (SELECT FROM members)
             UNION ALL SELECT 'listings' WHERE EXISTS (SELECT FROM listings)
             UNION ALL SELECT 'events' WHERE EXISTS (SELECT FROM events)
             UNION ALL SELECT 'rejections' WHERE EXISTS (SELECT FROM rejections)
             UNION ALL SELECT 'dead_letters' WHERE EXISTS (SELECT FROM dead_letters)
             UNION ALL SELECT 'notify_due' WHERE EXISTS (SELECT FROM notify_due)
             UNION ALL SELECT 'notify_later' WHERE EXISTS (SELECT FROM notify_later)
             UNION ALL SELECT 'mails' WHERE EXISTS (SELECT FROM mails)) AS found
         LIMIT 1"
);

statement!(
    /// Keys that are given from here on follow those that came along.
    fn set_sequences() -> (i64, i64, i64) =
        "SELECT setval(pg_get_serial_sequence('conversations', 'conversation_key'),
                       (SELECT coalesce(max(conversation_key), 0) + 1 FROM conversations), false),
                setval(pg_get_serial_sequence('rejections', 'id'),
                       (SELECT coalesce(max(id), 0) + 1 FROM rejections), false),
                setval(pg_get_serial_sequence('mails', 'id'),
                       (SELECT coalesce(max(id), 0) + 1 FROM mails), false)"
);
