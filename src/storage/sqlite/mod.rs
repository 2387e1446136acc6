//! Storage in one SQLite file: every port over `data/chatd.db`.
//!
//! **Connections.** One writes, behind a queue of its own, so that writers of this process never spin on
//! SQLite's lock; a few read, each in snapshots of the write-ahead log, so that readers never wait for the
//! writer. Other processes (`chatd user add`, `chatd backup`) come and go beside it; for them there is the
//! busy timeout. Each port method is one piece of work on one blocking thread.
//!
//! **What survives what.** Everything committed survives a crash of the process. Against a loss of power
//! there are two kinds of transaction. *Applying records* runs with `synchronous = NORMAL`: its commit is a
//! write without a sync, and what a power loss takes back, the message log (which did sync) replays into the
//! same rows. *What the log cannot replay* (users, receipts, mails, claims of partitions) commits with
//! `synchronous = FULL`: it syncs the write-ahead log, and with it every transaction before, so that a
//! receipt never outlives the event that it confirms. `make_durable` is such a commit: it reads how far the
//! partitions have come in the same transaction that it syncs, so that the message log may forget just that.
//! Then it copies the write-ahead log into the database file (a passive checkpoint, on a reader's connection,
//! beside the writer). The writer does that itself only when the write-ahead log has grown to 32 MiB.
//!
//! **Memory.** Page caches of 4 MiB for the writer and 1 MiB a reader, no memory map.
//!
//! **Backups.** `backup` copies a live database into a file of its own and marks the copy; the first opening
//! of the copy gives it a new incarnation. Cursors of clients then count as foreign, and they read everything
//! again: the restored history may differ from the one they saw. A backup is restored into a folder without
//! `chatd.db-wal` and `chatd.db-shm`: those of the lost database would be taken for its own.

mod apply;
mod audit;
mod backup;
mod catchup;
mod connection;
mod conversations;
mod error;
mod events;
mod export;
mod insert;
mod ledger;
mod notifications;
mod open;
mod raise;
mod receipts;
mod rows;
mod seek;
mod sightings;
mod statement;
mod users;

use std::path::PathBuf;

use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use tokio::runtime::Handle;
use tokio::sync::Mutex;

pub use backup::{Followed, backup};
pub use error::OpenError;
pub use export::SqliteExport;
pub use open::{migrate, pending};

use super::StorageError;
use connection::{Blocking, Connection, Readers};
use error::Fault;

/// What to open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SqliteSettings {
    /// The file; it and its folder are made where absent (0600, 0700).
    pub path: PathBuf,
    /// Connections that read, 1 to 16.
    pub readers: u32,
    /// What to do when the schema is older than this release.
    pub migrate: Migrate,
}

impl SqliteSettings {
    /// The file at `path`, with 3 readers and migrations run by themselves.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), readers: 3, migrate: Migrate::Auto }
    }
}

/// What to do when the schema is older than this release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Migrate {
    /// Migrate.
    Auto,
    /// Refuse to open.
    Check,
}

/// Every storage port over one SQLite file.
pub struct SqliteStore {
    writer: Mutex<Connection>,
    readers: Readers,
}

impl SqliteStore {
    /// Opens the database, and creates or migrates it where needed. To be called within the runtime whose
    /// blocking threads then do the work.
    pub async fn open(settings: SqliteSettings) -> Result<Self, OpenError> {
        let handle = Handle::current();
        let path = settings.path.clone();
        let opened = handle.spawn_blocking(move || open::connections(&settings)).await;
        let connections = opened.map_err(|lost| OpenError::Unusable { path, reason: lost.to_string() })??;
        let wrap = |conn| Connection::with_runtime(conn, Blocking(handle.clone()));
        Ok(Self {
            writer: Mutex::new(wrap(connections.writer)),
            readers: Readers::new(connections.readers.into_iter().map(wrap).collect()),
        })
    }

    /// Runs `work` on the connection that writes. Transactions are its own business: `durably` or
    /// `immediately`.
    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        let mut writer = self.writer.lock().await;
        connection::run(&mut writer, work).await
    }

    /// Runs `work` in one snapshot.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        self.readers.take().await?.snapshot(work).await
    }

    /// Copies the write-ahead log into the database file, as far as no reader stands in the way.
    async fn checkpoint(&self) -> Result<(), StorageError> {
        let reader = self.readers.take().await?;
        reader.plain(|conn| Ok(conn.batch_execute("PRAGMA wal_checkpoint(PASSIVE)")?)).await
    }
}

#[cfg(test)]
mod tests;
