//! What commands need of the adapters beside a running server: the storage alone, its schema, a backup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::consistent::{Inconsistent, check};
use super::lock::{DataLock, LockError};
use crate::config::{Config, LogBackend, Migrate, StorageBackend};
use crate::pipeline::EventSource;
use crate::pipeline::embedded::{
    self, BackupError, EmbeddedLog, EmbeddedLogSettings, OpenError as LogOpenError,
};
use crate::storage::sqlite::{self, OpenError as SqliteError, SqliteSettings, SqliteStore};
use crate::storage::{Audited, Storage};

/// Why a command cannot work on what is kept.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// There is no database, and the command makes none.
    #[error("there is no database {path} yet: `chatd all`, `chatd user add` or `chatd migrate` makes it")]
    Absent {
        /// The file.
        path: PathBuf,
    },
    /// The database cannot be opened or migrated.
    #[error(transparent)]
    Storage(#[from] SqliteError),
    /// Another server uses the data folder.
    #[error(transparent)]
    Locked(#[from] LockError),
    /// The log cannot be opened.
    #[error(transparent)]
    Log(#[from] LogOpenError),
    /// There is no log, and the command makes none.
    #[error("there is no message log {path} yet: `chatd all` makes it")]
    NoLog {
        /// The file.
        path: PathBuf,
    },
    /// A copy was not made, or is no good.
    #[error(transparent)]
    Copy(#[from] CopyError),
    /// The backend has no adapter in this release.
    #[error("{0} is not in this release")]
    Missing(&'static str),
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// The database.
    #[error(transparent)]
    Storage(SqliteError),
    /// The log.
    #[error(transparent)]
    Log(BackupError),
    /// The copies do not belong together.
    #[error(transparent)]
    Inconsistent(Inconsistent),
}

/// Opens storage; makes it where it is absent, and migrates it unless `database.migrate` is `check`.
///
/// # Errors
/// The file cannot be used.
pub async fn storage(config: &Config) -> Result<Arc<dyn Storage>, OpenError> {
    // A command reads one thing at a time.
    let path = database(config)?.to_owned();
    let settings = SqliteSettings { path, readers: 1, migrate: migration(config) };
    Ok(Arc::new(SqliteStore::open(settings).await?))
}

/// As [`storage`], for commands that only look: refuses to make a database.
///
/// # Errors
/// There is none, or the file cannot be used.
pub async fn existing_storage(config: &Config) -> Result<Arc<dyn Storage>, OpenError> {
    present(database(config)?)?;
    storage(config).await
}

/// The books: storage and the log that it follows, for those who audit or mend them.
pub struct Books {
    /// What history says.
    pub storage: Arc<dyn Audited>,
    /// What the log says.
    pub source: Arc<dyn EventSource>,
    /// Held where they lie in the data folder: no server may run on it.
    pub lock: Option<DataLock>,
}

/// Opens storage and the log that it follows; makes neither.
///
/// # Errors
/// One of them is not there or cannot be used, or a server uses the data folder.
pub async fn books(config: &Config) -> Result<Books, OpenError> {
    let path = database(config)?;
    present(path)?;
    let LogBackend::Embedded { path: log } = &config.log.backend else {
        return Err(OpenError::Missing("Kafka"));
    };
    if !log.exists() {
        return Err(OpenError::NoLog { path: log.clone() });
    }
    let lock = config.keeps_data().then(|| DataLock::take(&config.data)).transpose()?;
    let settings = SqliteSettings { path: path.to_owned(), readers: 1, migrate: migration(config) };
    let storage = Arc::new(SqliteStore::open(settings).await?);
    let settings = EmbeddedLogSettings { path: log.clone(), ..EmbeddedLogSettings::default() };
    Ok(Books { storage, source: Arc::new(EmbeddedLog::open(&settings)?), lock })
}

/// Where storage is, as people are told; holds no secret.
///
/// # Errors
/// The backend has no adapter.
pub fn storage_name(config: &Config) -> Result<String, OpenError> {
    Ok(database(config)?.display().to_string())
}

/// Runs the migrations that the database lacks and returns their versions, oldest first; makes the database
/// where it is absent. Blocks.
///
/// # Errors
/// The file cannot be used, or a migration failed and was rolled back.
pub fn migrate(config: &Config) -> Result<Vec<String>, OpenError> {
    Ok(sqlite::migrate(database(config)?)?)
}

/// The copies that a backup made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copies {
    /// The file that was copied, and its copy.
    pub storage: (PathBuf, PathBuf),
    /// The same of the log; none where no server has made one yet.
    pub log: Option<(PathBuf, PathBuf)>,
}

/// Copies storage, then the log, to new files in `folder`, beside running servers, and checks that a server
/// can go on from the two. On an error copies may be left. Blocks for as long as copying takes.
///
/// # Errors
/// There is nothing to copy, a file cannot be read or written, or the copies do not belong together.
pub fn backup(config: &Config, folder: &Path) -> Result<Copies, OpenError> {
    let source = database(config)?;
    let LogBackend::Embedded { path: log } = &config.log.backend else {
        return Err(OpenError::Missing("Kafka"));
    };
    present(source)?;
    let target = folder.join("chatd.db");
    let followed = sqlite::backup(source, &target).map_err(CopyError::Storage)?;
    let storage = (source.to_owned(), target);
    if followed.is_none() && !log.exists() {
        return Ok(Copies { storage, log: None });
    }
    let target = folder.join("log.db");
    let copied = embedded::backup(log, &target).map_err(CopyError::Log)?;
    let followed = followed.as_ref().map(|followed| (followed.log, followed.next.as_slice()));
    check(followed, copied.identity, &copied.bounds).map_err(CopyError::Inconsistent)?;
    Ok(Copies { storage, log: Some((log.clone(), target)) })
}

fn migration(config: &Config) -> sqlite::Migrate {
    match config.database.migrate {
        Migrate::Auto => sqlite::Migrate::Auto,
        Migrate::Check => sqlite::Migrate::Check,
    }
}

fn database(config: &Config) -> Result<&Path, OpenError> {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => Ok(path),
        StorageBackend::Postgres { .. } => Err(OpenError::Missing("PostgreSQL")),
    }
}

fn present(path: &Path) -> Result<(), OpenError> {
    if path.exists() { Ok(()) } else { Err(OpenError::Absent { path: path.to_owned() }) }
}
