//! What SQLite's answers mean to those who asked.

use std::path::PathBuf;

use diesel::result::{DatabaseErrorKind, Error};

use crate::storage::StorageError;

/// Why a database was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its folder or file cannot be made, read or written.
    #[error("the database {path} cannot be opened: {reason}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What the system says.
        reason: String,
    },
    /// The file is something else, or what it holds is broken; it is left as it is.
    #[error(
        "the database {path} is damaged or not a chatd database ({reason}); it was left untouched: restore a \
         backup, or move it away to begin anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A newer release has changed its schema.
    #[error(
        "the database {path} was written by a newer release of chatd (schema {found}, this release knows \
         {known}); run that release"
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// The newest schema version in the file.
        found: String,
        /// The newest schema version of this release.
        known: String,
    },
    /// Its schema is older than this release, and it may not be changed by itself.
    #[error("the database {path} needs {count} migrations: run `chatd migrate`")]
    Pending {
        /// The file.
        path: PathBuf,
        /// How many.
        count: usize,
    },
    /// A migration failed; it was rolled back.
    #[error("migrating the database {path} failed and was rolled back: {reason}")]
    Migration {
        /// The file.
        path: PathBuf,
        /// What SQLite says.
        reason: String,
    },
    /// A backup was not made.
    #[error("the database {path} was not backed up: {reason}")]
    Backup {
        /// The file that was to be copied.
        path: PathBuf,
        /// Why.
        reason: String,
    },
}

/// A failure inside a transaction, on its way to the caller of the port.
#[derive(Debug)]
pub(super) struct Fault(pub(super) StorageError);

impl From<StorageError> for Fault {
    fn from(error: StorageError) -> Self {
        Self(error)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(storage_error(&error))
    }
}

impl Fault {
    /// A row that this release cannot read, or a value that no row can hold.
    pub(super) fn refused(what: impl std::fmt::Display) -> Self {
        Self(StorageError::Refused(what.to_string()))
    }
}

/// SQLite's texts for results that are about the data itself (`sqlite3ErrStr` in main.c). Diesel keeps the
/// text and, but for constraints, not the code.
const ABOUT_THE_DATA: [&str; 3] = ["datatype mismatch", "string or blob too big", "constraint failed"];

/// Sorts an error into "later, perhaps" and "never". Whatever is not clearly about the data is `Unavailable`:
/// a wrong `Refused` would bury a good message as a dead letter.
fn storage_error(error: &Error) -> StorageError {
    match error {
        Error::DatabaseError(kind, information) => match kind {
            DatabaseErrorKind::UniqueViolation
            | DatabaseErrorKind::ForeignKeyViolation
            | DatabaseErrorKind::NotNullViolation
            | DatabaseErrorKind::CheckViolation
            | DatabaseErrorKind::RestrictViolation
            | DatabaseErrorKind::ExclusionViolation => StorageError::Refused(information.message().into()),
            DatabaseErrorKind::Unknown if is_about_the_data(information.message()) => {
                StorageError::Refused(information.message().into())
            }
            // Busy, full, read-only, out of memory, an input or output error, a damaged page.
            _ => StorageError::Unavailable(information.message().into()),
        },
        Error::InvalidCString(_)
        | Error::DeserializationError(_)
        | Error::SerializationError(_)
        | Error::NotFound => StorageError::Refused(error.to_string()),
        // Both enums are non-exhaustive: the rest is about queries, transactions and what later releases of
        // diesel add.
        _ => StorageError::Unavailable(error.to_string()),
    }
}

/// Strict tables say "cannot store TEXT value in INTEGER column" for SQLITE_CONSTRAINT_DATATYPE.
fn is_about_the_data(message: &str) -> bool {
    message.starts_with("cannot store ") || ABOUT_THE_DATA.iter().any(|text| message.contains(text))
}

/// Whether an answer says that the file itself is no good: SQLITE_CORRUPT and SQLITE_NOTADB.
pub(super) fn is_damage(message: &str) -> bool {
    message.contains("malformed") || message.contains("not a database")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_data_is_refused() {
        let unknown = |text: &str| {
            storage_error(&Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned())))
        };
        for text in
            ["datatype mismatch", "string or blob too big", "cannot store TEXT value in BLOB column a.b"]
        {
            assert!(matches!(unknown(text), StorageError::Refused(_)), "{text}");
        }
        for text in [
            "database is locked",
            "disk I/O error",
            "database or disk is full",
            "unable to open database file",
            "attempt to write a readonly database",
            "out of memory",
            "database disk image is malformed",
            "something of a later release",
        ] {
            assert!(matches!(unknown(text), StorageError::Unavailable(_)), "{text}");
        }
    }
}
