//! A history's move out of one process: from embedded storage into an empty PostgreSQL, and from the embedded log
//! on to Kafka where the settings name it.
//!
//! The source is only read, but for what was accepted and not applied yet: that becomes history first, as a later
//! log begins behind everything of the one before. The target changes in one transaction; until its COMMIT nothing
//! has happened, so a move that fails or dies is simply begun again.

use std::path::Path;
use std::time::Duration;

use uuid::Uuid;

use super::App;
use super::backends::{self, Logged, OpenError};
use super::build::{BuildError, Built, build_here};
use super::lock::DataLock;
use super::open::TargetError;
use super::{moved, open};
use crate::chat::apply::{ApplyError, Owner};
use crate::chat::batch::Halt;
use crate::chat::transfer::{Copied, Progress, TransferError, transfer};
use crate::config::{Config, LogBackend};
use crate::domain::{Offset, Partition, Secret};
use crate::pipeline::{Bounds, LogIdentity};
use crate::storage::StorageError;
use crate::storage::transfer::{Export, FIRST, Rows, Table};
use crate::telemetry::story::Story;

/// Why a history was not moved. All but the last leave the target as it was.
#[derive(Debug, thiserror::Error)]
pub enum MoveError {
    /// The source cannot be opened.
    #[error(transparent)]
    Source(#[from] BuildError),
    /// The target cannot be opened.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// There is nothing to move.
    #[error("there are neither users nor messages in {0}: nothing to move; start the new servers right away")]
    Nothing(String),
    /// The target holds this very history.
    #[error(
        "{database} holds this history already: it was moved there before, and nothing was changed now. Start \
         the new servers (docs/operations.md, \"Growing out of one process\"){notice}"
    )]
    AlreadyThere {
        /// The target.
        database: String,
        /// What went wrong besides.
        notice: String,
    },
    /// The target holds something else.
    #[error(
        "{database} is not empty: its table {table} has rows. Name an empty database with --to, or an empty \
         schema with database.schema"
    )]
    Occupied {
        /// The target.
        database: String,
        /// What is in it.
        table: String,
    },
    /// The topic is in use.
    #[error(
        "Kafka's topic is not empty, and what it holds ({0} in all) belongs to another history: name another \
         topic with kafka.topic_prefix, or delete this one where nobody needs it"
    )]
    TopicInUse(Offset),
    /// What was accepted cannot become history.
    #[error("partition {partition} stands still: {halt}. Mend that first; `chatd verify` tells more")]
    StandsStill {
        /// The partition.
        partition: Partition,
        /// Why.
        halt: Halt,
    },
    /// What was accepted did not become history.
    #[error("what was accepted and is not history yet could not be applied: {0}")]
    Apply(#[from] ApplyError),
    /// The copy failed.
    #[error("nothing was moved: {0}")]
    Transfer(#[from] TransferError),
    /// The last answer did not come.
    #[error(
        "whether the history was moved is open, as the database did not answer in the end ({0}): run the same \
         command again, which says so, or moves it"
    )]
    Open(StorageError),
}

impl From<OpenError> for MoveError {
    fn from(error: OpenError) -> Self {
        Self::Source(error.into())
    }
}

/// What the new servers follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case", tag = "follows")]
pub enum NextLog {
    /// The first log that they meet: no server has run on the old storage.
    Any,
    /// The log that the old server followed.
    Same,
    /// Kafka's topic, under a new number.
    Kafka {
        /// The number.
        number: i32,
    },
}

/// What was moved.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Moved {
    /// Where to: `HOST:PORT/NAME`.
    pub database: String,
    /// Records that were accepted, and became history only now.
    pub applied: u64,
    /// The tables, each the same on both sides.
    pub tables: Vec<Copied>,
    /// The log from now on.
    pub log: NextLog,
    /// What went wrong afterwards, in sentences.
    pub notices: Vec<String>,
}

/// Moves everything; `tell` hears how far it is.
///
/// # Errors
/// See [`MoveError`].
pub async fn move_to(
    config: &Config,
    to: &Secret<String>,
    tell: &mut (dyn FnMut(Progress) + Send),
) -> Result<Moved, MoveError> {
    let alone = config.alone();
    let path = open::embedded_storage(&alone)?;
    // Nobody else uses the data folder until the end.
    let _lock = DataLock::take(&config.data).map_err(BuildError::from)?;
    // Reached before anything is begun.
    let (mut target, database) = open::import(config, to).await?;
    let (followed, applied) = prepare(config, &alone).await?;
    let mut source = open::export(&path).await?;
    let incarnation = incarnation(source.as_mut(), &path).await?;
    let tables = match transfer(source.as_mut(), target.as_mut(), tell).await {
        Ok(tables) => tables,
        Err(TransferError::Occupied(there)) if there.incarnation == incarnation => {
            // Where it died between the COMMIT and the mark.
            let notice = unmarked(config, &database).map_or_else(String::new, |what| format!("; {what}"));
            return Err(MoveError::AlreadyThere { database, notice });
        }
        Err(TransferError::Occupied(there)) => {
            return Err(MoveError::Occupied { database, table: there.table });
        }
        Err(error) => return Err(error.into()),
    };
    let next = match &followed {
        Followed::Next(identity, next) => Some((*identity, next.clone())),
        Followed::Nothing | Followed::Same => None,
    };
    let number = target.finish(next).await.map_err(|error| match error {
        StorageError::Unavailable(_) => MoveError::Open(error),
        error => TransferError::Begin(error).into(),
    })?;
    let log = match (number, followed) {
        (Some(number), _) => NextLog::Kafka { number: number.0 },
        (None, Followed::Nothing) => NextLog::Any,
        (None, _) => NextLog::Same,
    };
    let notices = unmarked(config, &database).into_iter().collect();
    Ok(Moved { database, applied, tables, log, notices })
}

/// Marks the folder; what to do by hand where that fails.
fn unmarked(config: &Config, database: &str) -> Option<String> {
    let error = moved::mark(config, database).err()?;
    Some(format!(
        "the folder could not be marked as moved ({error}): see to it that nobody starts a server on it again"
    ))
}

/// What the target is to follow.
enum Followed {
    /// The source never met a log.
    Nothing,
    /// The log that the source follows.
    Same,
    /// Kafka, from these offsets on.
    Next(LogIdentity, Vec<Offset>),
}

/// Looks at the logs, and makes history of what the embedded one has beyond: what is to be followed, and how many
/// records became history only now.
async fn prepare(config: &Config, alone: &Config) -> Result<(Followed, u64), MoveError> {
    // Migrates it; nobody else is at work here, so no mail is in anybody's hands.
    let storage = backends::storage(alone, 1, true).await?.storage;
    let known = storage.followed().await.map_err(BuildError::from)?;
    drop(storage);
    let has_log = matches!(&alone.log.backend, LogBackend::Embedded { path } if path.exists());
    if known.is_none() && !has_log {
        return Ok((Followed::Nothing, 0));
    }
    let topic = match &config.log.backend {
        LogBackend::Kafka(_) => Some(topic(config).await?),
        LogBackend::Embedded { .. } => None,
    };
    if let (Some((identity, _)), Some((_, known))) = (&topic, known)
        && identity.id == known.id
    {
        return Ok((Followed::Same, 0));
    }
    if let Some((_, bounds)) = &topic {
        let held: Offset = bounds.iter().map(|bound| bound.end - bound.start).sum();
        if held > 0 {
            return Err(MoveError::TopicInUse(held));
        }
    }
    let Built { app, .. } = build_here(alone, Story::default()).await?;
    let applied = apply(&app).await;
    app.log.close().await;
    let followed = topic.map_or(Followed::Same, |(identity, bounds)| {
        Followed::Next(identity, bounds.iter().map(|bound| bound.end).collect())
    });
    Ok((followed, applied?))
}

/// Kafka's topic, which is made where it is absent, and what it holds.
async fn topic(config: &Config) -> Result<(LogIdentity, Vec<Bounds>), MoveError> {
    let Logged { log, source, .. } = backends::log(config, true).await?;
    let (identity, bounds) = (log.identity(), source.bounds().await);
    log.close().await;
    Ok((identity, bounds.map_err(BuildError::from)?))
}

/// Applies all that the log holds beyond history.
async fn apply(app: &App) -> Result<u64, MoveError> {
    let partitions: Vec<Partition> = (0..app.log.identity().partitions).collect();
    let mut owner = Owner::claim(app, &partitions).await?;
    let mut applied = 0;
    loop {
        let fetched = owner.read(app, Duration::ZERO).await?;
        let is_end = fetched.is_empty();
        if !is_end {
            applied += owner.work(app, fetched).await?.records as u64;
        }
        if let Some((partition, halt)) = owner.halted().iter().min_by_key(|(partition, _)| **partition) {
            return Err(MoveError::StandsStill { partition: *partition, halt: halt.clone() });
        }
        if is_end {
            owner.release(app).await.map_err(ApplyError::from)?;
            return Ok(applied);
        }
    }
}

/// Whose history it is; refuses one with nothing in it.
async fn incarnation(source: &mut dyn Export, path: &Path) -> Result<Uuid, MoveError> {
    let mut first = async |table| source.rows(table, FIRST, 1).await.map_err(BuildError::from);
    let deployment = first(Table::Deployment).await?;
    if first(Table::Users).await?.is_empty() && first(Table::Events).await?.is_empty() {
        return Err(MoveError::Nothing(path.display().to_string()));
    }
    match deployment {
        Rows::Deployment(rows) if rows.len() == 1 => Ok(rows[0].incarnation),
        _ => Err(MoveError::Nothing(path.display().to_string())),
    }
}
