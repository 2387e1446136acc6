//! Connections: one that writes, a few that read, and what a transaction is.

use std::error::Error as StdError;
use std::sync::{Mutex, PoisonError};

use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use diesel_async::sync_connection_wrapper::{SpawnBlocking, SyncConnectionWrapper};
use futures_util::future::{BoxFuture, FutureExt};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::Fault;
use crate::storage::StorageError;

/// Runs work on the blocking threads of the runtime that opened the store.
///
/// The wrapper's own `Tokio` blocks in place when a future is dropped before its end, which panics on the
/// single-threaded runtimes of actix. Here the work goes on by itself, and whoever takes the connection next
/// takes turns with it.
pub(super) struct Blocking(pub(super) Handle);

impl SpawnBlocking for Blocking {
    fn spawn_blocking<'a, R>(
        &mut self,
        task: impl FnOnce() -> R + Send + 'static,
    ) -> BoxFuture<'a, Result<R, Box<dyn StdError + Send + Sync + 'static>>>
    where
        R: Send + 'static,
    {
        let running = self.0.spawn_blocking(task);
        async move { running.await.map_err(Into::into) }.boxed()
    }

    fn get_runtime() -> Self {
        Self(Handle::current())
    }
}

/// A connection whose work runs on a blocking thread, one piece at a time.
pub(super) type Connection = SyncConnectionWrapper<SqliteConnection, Blocking>;

/// Runs `work` on a connection's blocking thread.
pub(super) async fn run<T: Send + 'static>(
    connection: &mut Connection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault> + Send + 'static,
) -> Result<T, StorageError> {
    match connection.spawn_blocking(move |conn| Ok(work(conn))).await {
        Ok(result) => result.map_err(|fault| fault.0),
        Err(lost) => Err(Fault::from(lost).0),
    }
}

/// Connections that read, each in use by one at a time.
pub(super) struct Readers {
    free: Mutex<Vec<Connection>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn new(connections: Vec<Connection>) -> Self {
        Self { permits: Semaphore::new(connections.len()), free: Mutex::new(connections) }
    }

    /// Waits for a free connection.
    pub(super) async fn take(&self) -> Result<Reader<'_>, StorageError> {
        let closed = || StorageError::Unavailable("the database is closed".into());
        let permit = self.permits.acquire().await.map_err(|_| closed())?;
        let connection = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
        Ok(Reader { connection: Some(connection.ok_or_else(closed)?), readers: self, _permit: permit })
    }
}

/// A connection that goes back to the others when it is dropped, also when its work was abandoned.
pub(super) struct Reader<'a> {
    connection: Option<Connection>,
    readers: &'a Readers,
    _permit: SemaphorePermit<'a>,
}

impl Reader<'_> {
    /// Runs `work` in one snapshot.
    pub(super) async fn snapshot<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        match &mut self.connection {
            Some(connection) => run(connection, move |conn| transaction(conn, "BEGIN", work)).await,
            None => Err(StorageError::Unavailable("the database is closed".into())),
        }
    }

    /// Runs `work` outside of a transaction.
    pub(super) async fn plain<T: Send + 'static>(
        mut self,
        work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StorageError> {
        match &mut self.connection {
            Some(connection) => run(connection, work).await,
            None => Err(StorageError::Unavailable("the database is closed".into())),
        }
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.readers.free.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
        }
    }
}

/// A transaction that survives a loss of power once it has ended: it syncs the log file, and with it every
/// transaction before.
pub(super) fn durably<T>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    if let Err(error) = conn.batch_execute("PRAGMA synchronous = FULL") {
        // It cannot change inside a transaction, so one was left open: see `transaction`.
        let _ = conn.batch_execute("ROLLBACK");
        return Err(error.into());
    }
    let result = immediately(conn, work);
    // Should this fail, later transactions are only more careful than they need to be.
    let _ = conn.batch_execute("PRAGMA synchronous = NORMAL");
    result
}

/// A transaction that survives a crash of the process; one that power loss takes back, the message log
/// replays.
pub(super) fn immediately<T>(
    conn: &mut SqliteConnection,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    transaction(conn, "BEGIN IMMEDIATE", work)
}

fn transaction<T>(
    conn: &mut SqliteConnection,
    begin: &str,
    work: impl FnOnce(&mut SqliteConnection) -> Result<T, Fault>,
) -> Result<T, Fault> {
    if let Err(error) = conn.batch_execute(begin) {
        // Work that panicked leaves its transaction open; this ends it for whoever comes next.
        let _ = conn.batch_execute("ROLLBACK");
        return Err(error.into());
    }
    let result = work(conn).and_then(|value| {
        conn.batch_execute("COMMIT")?;
        Ok(value)
    });
    if result.is_err() {
        // On a full disk SQLite has rolled back by itself, and there is nothing left to roll back.
        let _ = conn.batch_execute("ROLLBACK");
    }
    result
}
