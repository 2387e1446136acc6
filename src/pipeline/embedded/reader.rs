//! Reads what is no longer in memory from the file, off the async threads.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use diesel::prelude::*;
use diesel::sqlite::SqliteConnection;

use super::error::log_error;
use super::file;
use super::table::{self, Range};
use crate::pipeline::{LogError, LogRecord};

/// The one read connection, made when first needed. Who keeps up never needs it, so one is enough.
#[derive(Clone)]
pub(super) struct Reader {
    path: Arc<PathBuf>,
    /// None before its first use and after a failure.
    connection: Arc<Mutex<Option<SqliteConnection>>>,
}

impl Reader {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path: Arc::new(path), connection: Arc::default() }
    }

    /// What the file holds of a range. Goes on by itself, and harms nothing, when its future is dropped.
    pub(super) async fn read(&self, range: Range) -> Result<Vec<LogRecord>, LogError> {
        let this = self.clone();
        let reading = tokio::task::spawn_blocking(move || this.read_blocking(range));
        reading.await.unwrap_or_else(|error| Err(LogError::Unavailable(error.to_string())))
    }

    fn read_blocking(&self, range: Range) -> Result<Vec<LogRecord>, LogError> {
        let mut held = self.connection.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connection = match held.take() {
            Some(connection) => connection,
            None => connect(&self.path)?,
        };
        // A failure drops the connection, and the next read makes a new one.
        let records = table::read(&mut connection, range).map_err(|error| log_error(&error))?;
        *held = Some(connection);
        Ok(records)
    }

    /// Waits for a read under way, then lets go of the file.
    pub(super) fn close(&self) {
        self.connection.lock().unwrap_or_else(PoisonError::into_inner).take();
    }
}

fn connect(path: &std::path::Path) -> Result<SqliteConnection, LogError> {
    let unavailable = |what: String| LogError::Unavailable(what);
    let mut connection = file::connect(path).map_err(|error| unavailable(error.to_string()))?;
    let query_only = diesel::sql_query("PRAGMA query_only = ON").execute(&mut connection);
    query_only.map_err(|error| unavailable(error.to_string()))?;
    Ok(connection)
}
