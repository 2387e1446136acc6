//! What commands need of the backends beside a running server: the storage alone, its schema, the books, a
//! backup.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::backends::{self, Logged, OpenError, Stored};
use super::consistent::{Inconsistent, check};
use super::lock::DataLock;
use super::moved;
use crate::config::{Config, LogBackend, StorageBackend};
use crate::domain::Secret;
use crate::pipeline::EventSource;
use crate::pipeline::embedded::{self, BackupError};
use crate::storage::postgres::{self, PostgresImport};
use crate::storage::sqlite::{self, OpenError as SqliteError, SqliteExport};
use crate::storage::transfer::{Export, Import};
use crate::storage::{Audited, Storage};

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Shared backends are copied with their own tools.
    #[error(
        "chatd copies the files of its embedded backends only: back PostgreSQL up with its own tools \
         (docs/operations.md), and let Kafka keep what the backup does not hold yet"
    )]
    Shared,
    /// There is nothing to copy.
    #[error("there is no database {path} yet: there is nothing to back up")]
    Absent {
        /// The file.
        path: PathBuf,
    },
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
/// It cannot be reached or used.
pub async fn storage(config: &Config) -> Result<Arc<dyn Storage>, OpenError> {
    moved::refuse(config)?;
    // A command reads one thing at a time.
    Ok(backends::storage(config, 1, false).await?.storage)
}

/// As [`storage`], for commands that only look: refuses to make a database.
///
/// # Errors
/// There is none, or it cannot be reached or used.
pub async fn existing_storage(config: &Config) -> Result<Arc<dyn Storage>, OpenError> {
    present(config)?;
    Ok(backends::storage(config, 1, false).await?.storage)
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
    present(config)?;
    if let LogBackend::Embedded { path } = &config.log.backend
        && !path.exists()
    {
        return Err(OpenError::NoLog { path: path.clone() });
    }
    let lock = config.keeps_data().then(|| DataLock::take(&config.data)).transpose()?;
    let Stored { audited, .. } = backends::storage(config, 1, false).await?;
    let Logged { source, .. } = backends::log(config, true).await?;
    Ok(Books { storage: audited, source, lock })
}

/// The file of embedded storage.
///
/// # Errors
/// It is not there.
pub fn embedded_storage(config: &Config) -> Result<PathBuf, OpenError> {
    match &config.database.backend {
        StorageBackend::Sqlite { path } if path.exists() => Ok(path.clone()),
        StorageBackend::Sqlite { path } => Err(OpenError::Absent { path: path.clone() }),
        StorageBackend::Postgres { .. } => Err(OpenError::Absent { path: config.data.clone() }),
    }
}

/// Opens embedded storage to be read whole; nobody writes to it meanwhile.
///
/// # Errors
/// It cannot be read, or somebody is writing.
pub async fn export(path: &Path) -> Result<Box<dyn Export>, OpenError> {
    Ok(Box::new(SqliteExport::open(path).await?))
}

/// Why a history cannot go to a database.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// What `--to` says.
    #[error("--to: {0}")]
    Url(String),
    /// The database.
    #[error(transparent)]
    Open(OpenError),
}

impl From<postgres::OpenError> for TargetError {
    fn from(error: postgres::OpenError) -> Self {
        match error {
            postgres::OpenError::Url(what) => Self::Url(what),
            error => Self::Open(error.into()),
        }
    }
}

/// Opens a PostgreSQL that is to take a history over, with what the settings say of databases; and its name.
///
/// # Errors
/// It cannot be reached or used.
pub async fn import(config: &Config, url: &Secret<String>) -> Result<(Box<dyn Import>, String), TargetError> {
    let import = PostgresImport::open(backends::postgres_settings(config, url, 1)).await?;
    let name = import.name.clone();
    Ok((Box::new(import), name))
}

/// Where storage is, as people are told; holds no secret.
pub fn storage_name(config: &Config) -> String {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => path.display().to_string(),
        StorageBackend::Postgres { .. } => match &config.database.schema {
            Some(schema) => format!("PostgreSQL, schema {schema}"),
            None => "PostgreSQL".to_owned(),
        },
    }
}

/// Runs the migrations that the database lacks and returns their versions, oldest first; makes the database
/// where it is absent.
///
/// # Errors
/// It cannot be reached or used, or a migration failed and was rolled back.
pub async fn migrate(config: &Config) -> Result<Vec<String>, OpenError> {
    match &config.database.backend {
        StorageBackend::Sqlite { path } => Ok(sqlite::migrate(path)?),
        StorageBackend::Postgres { url } => {
            Ok(postgres::migrate(&backends::postgres_settings(config, url, 1)).await?)
        }
    }
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
/// There is nothing to copy, a file cannot be read or written, the copies do not belong together, or they are
/// not chatd's own files.
pub fn backup(config: &Config, folder: &Path) -> Result<Copies, CopyError> {
    let (StorageBackend::Sqlite { path: source }, LogBackend::Embedded { path: log }) =
        (&config.database.backend, &config.log.backend)
    else {
        return Err(CopyError::Shared);
    };
    if !source.exists() {
        return Err(CopyError::Absent { path: source.clone() });
    }
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

fn present(config: &Config) -> Result<(), OpenError> {
    match &config.database.backend {
        StorageBackend::Sqlite { path } if !path.exists() => Err(OpenError::Absent { path: path.clone() }),
        StorageBackend::Sqlite { .. } | StorageBackend::Postgres { .. } => Ok(()),
    }
}
