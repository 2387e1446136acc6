//! A consistent copy of a log, also of one that a running server writes, from any process.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use diesel::prelude::*;
use diesel::sql_types::{Integer, Text};

use super::{file, table};
use crate::pipeline::{Bounds, LogIdentity};

/// Why there is no copy. What was begun of it is removed.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// There is no log to copy.
    #[error("{} is not a message log of chatd that can be read: {what}", path.display())]
    Source {
        /// The log.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
    /// The copy cannot be written; a file that is there already is never written over.
    #[error("{} cannot be written: {what}", path.display())]
    Target {
        /// The copy.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
}

/// What a copy holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// Which log it is.
    pub identity: LogIdentity,
    /// The offsets of each partition in order.
    pub bounds: Vec<Bounds>,
}

/// Copies the log at `source` to the new file `target` as it is at one moment, with everything that has been
/// answered by then, and returns when the copy is on the disk, with what it holds. Writing goes on meanwhile. The copy is compact,
/// needs no other file beside it, and is put in the place of the original to restore it.
///
/// Whoever backs up the storage as well copies the storage first: the log may be ahead of it, never behind.
pub fn backup(source: &Path, target: &Path) -> Result<Copied, BackupError> {
    let of_source = |what: String| BackupError::Source { path: source.to_owned(), what };
    let of_target = |what: String| BackupError::Target { path: target.to_owned(), what };
    let name = target.to_str().ok_or_else(|| of_target("its name is not UTF-8".into()))?;
    let mut connection = file::connect(source).map_err(|error| of_source(error.to_string()))?;
    let application: i32 = diesel::dsl::sql::<Integer>("PRAGMA application_id")
        .get_result(&mut connection)
        .map_err(|error| of_source(error.to_string()))?;
    if application != file::APPLICATION_ID {
        return Err(of_source("it is a SQLite file of something else".into()));
    }
    // SQLite writes into an empty file, and would make a missing one readable to everyone.
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(target)
        .map_err(|error| of_target(error.to_string()))?;
    let copied = diesel::sql_query("VACUUM INTO ?")
        .bind::<Text, _>(name)
        .execute(&mut connection)
        .map_err(|error| of_target(error.to_string()))
        .and_then(|_| sync(target).map_err(|error| of_target(error.to_string())))
        .and_then(|()| contents(target).map_err(of_target));
    if copied.is_err() {
        // The failure that led here is the one to report.
        let _ = fs::remove_file(target);
    }
    copied
}

fn contents(copy: &Path) -> Result<Copied, String> {
    let mut connection = file::connect(copy).map_err(|error| error.to_string())?;
    let sqlite = |error: diesel::result::Error| error.to_string();
    let (identity, _) = file::read_identity(&mut connection)
        .map_err(sqlite)?
        .ok_or_else(|| "it does not say which log it is".to_owned())?;
    let bounds = table::bounds(&mut connection, identity.partitions).map_err(sqlite)?;
    Ok(Copied { identity, bounds })
}

fn sync(target: &Path) -> io::Result<()> {
    File::open(target)?.sync_all()?;
    File::open(file::folder(target))?.sync_all()
}
