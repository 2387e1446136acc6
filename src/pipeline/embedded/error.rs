//! Why the file of the log was not opened, in sentences for whoever starts chatd; and SQLite's errors sorted.

use std::io;
use std::path::{Path, PathBuf};

use crate::pipeline::LogError;

/// Why the log was not opened. Nothing was changed in a file that is refused.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A setting is out of its range.
    #[error("log.partitions is {0}, and must be 1 to 1024")]
    Partitions(u32),
    /// Another process has it open.
    #[error("{} is in use by another chatd: stop that one, or give this one another data folder", .0.display())]
    InUse(PathBuf),
    /// It is a file of something else.
    #[error("{} is not a message log of chatd ({what}): move it away, or set another path", path.display())]
    Foreign {
        /// The file.
        path: PathBuf,
        /// What it seems to be.
        what: String,
    },
    /// A newer release wrote it.
    #[error("{} has format {format}, written by a newer chatd: use that release", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: i32,
    },
    /// It is broken.
    #[error("{} is damaged ({what}): restore a backup of the data folder, or move the file away", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The folder or the file cannot be written.
    #[error("{} cannot be written ({what}): check the folder's owner, permissions and mount", path.display())]
    ReadOnly {
        /// The file.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
    /// No room is left.
    #[error("the disk of {} is full: free some space", .0.display())]
    Full(PathBuf),
    /// Anything else.
    #[error("{} cannot be opened: {what}", path.display())]
    Other {
        /// The file.
        path: PathBuf,
        /// What the system says.
        what: String,
    },
}

impl OpenError {
    /// The sentence for a failed system call on `path`.
    pub(super) fn of_io(path: &Path, error: &io::Error) -> Self {
        let (path, what) = (path.to_owned(), error.to_string());
        match error.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full(path),
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::NotADirectory => Self::ReadOnly { path, what },
            io::ErrorKind::AlreadyExists => {
                Self::ReadOnly { path, what: "a file lies where its folder should be".into() }
            }
            _ => Self::Other { path, what },
        }
    }

    /// The sentence for what SQLite says about `path`.
    pub(super) fn of_sqlite(path: &Path, what: &impl ToString) -> Self {
        let (path, what) = (path.to_owned(), what.to_string());
        match Fault::of(&what) {
            Fault::NotSqlite => Self::Foreign { path, what: "it is no SQLite file".into() },
            Fault::Malformed => Self::Damaged { path, what },
            Fault::Full => Self::Full(path),
            Fault::ReadOnly => Self::ReadOnly { path, what },
            // SQLite says no more than this, also when there is no room for its index of the WAL.
            Fault::Other if what == "disk I/O error" => {
                Self::Other { path, what: format!("{what}; the disk may be full or failing") }
            }
            Fault::Other => Self::Other { path, what },
        }
    }

    /// The sentence for a file that lacks what a log has.
    pub(super) fn damaged(path: &Path, what: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), what: what.into() }
    }
}

/// What a failed statement means for a caller of the log.
pub(super) fn log_error(error: &diesel::result::Error) -> LogError {
    let what = error.to_string();
    match Fault::of(&what) {
        Fault::NotSqlite | Fault::Malformed => LogError::Corrupt(what),
        Fault::Full | Fault::ReadOnly | Fault::Other => LogError::Unavailable(what),
    }
}

/// SQLite's result codes as far as they matter here. Diesel hands on only their texts, which are those of
/// `sqlite3ErrStr` in sqlite3.c.
enum Fault {
    NotSqlite,
    Malformed,
    Full,
    ReadOnly,
    Other,
}

impl Fault {
    fn of(text: &str) -> Self {
        let says = |part: &str| text.contains(part);
        if says("file is not a database") {
            Self::NotSqlite
        } else if says("malformed") || says("no such table") || says("no such column") {
            Self::Malformed
        } else if says("database or disk is full") {
            Self::Full
        } else if says("readonly database") || says("unable to open database file") {
            Self::ReadOnly
        } else {
            Self::Other
        }
    }
}
