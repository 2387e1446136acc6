//! What PostgreSQL's answers mean to those who asked.

use diesel::result::{DatabaseErrorKind, Error};

use crate::storage::StorageError;

/// Why a database was not opened. `database` is `HOST:PORT/NAME`, without credentials.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// `database.url` or what it names cannot be used.
    #[error("database.url: {0}")]
    Url(String),
    /// It cannot be reached, or lets nobody in.
    #[error("the database {database} cannot be reached: {reason}")]
    Unreachable {
        /// The database.
        database: String,
        /// What the system or the server says.
        reason: String,
    },
    /// A server or a database that chatd does not work with.
    #[error("the database {database} cannot be used: {reason}")]
    Unsuitable {
        /// The database.
        database: String,
        /// In which way.
        reason: String,
    },
    /// A newer release has changed its schema.
    #[error(
        "the database {database} was written by a newer release of chatd (schema {found}, this release knows \
         {known}); run that release"
    )]
    Newer {
        /// The database.
        database: String,
        /// The newest schema version in the database.
        found: String,
        /// The newest schema version of this release.
        known: String,
    },
    /// Its schema is older than this release, and it may not be changed by itself.
    #[error("the database {database} needs {count} migrations: run `chatd migrate`")]
    Pending {
        /// The database.
        database: String,
        /// How many.
        count: usize,
    },
    /// A migration failed; it was rolled back.
    #[error("migrating the database {database} failed and was rolled back: {reason}")]
    Migration {
        /// The database.
        database: String,
        /// What PostgreSQL says.
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

/// PostgreSQL's texts for answers of the classes 22 (data) and 54 (limits) that chatd's statements can draw
/// forth. Diesel keeps the text and, but for constraints, not the code. What reaches a statement was checked
/// before, so these are a second line: on a server that speaks another language such a value is merely tried
/// again.
const ABOUT_THE_DATA: [&str; 6] = [
    "invalid byte sequence",
    "out of range",
    "value too long",
    "exceeds btree",
    "row is too big",
    "invalid memory alloc request size",
];

/// Sorts an error into "later, perhaps" and "never". Whatever is not clearly about the data is `Unavailable`:
/// a wrong `Refused` would bury a good message as a dead letter. So a missing table or right (class 42) is
/// `Unavailable` too: it is about the schema, and the same for every message.
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
            // A lost connection, a deadlock, a timeout, a server that starts or stops, a full disk.
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

fn is_about_the_data(message: &str) -> bool {
    ABOUT_THE_DATA.iter().any(|text| message.contains(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unknown(text: &str) -> StorageError {
        storage_error(&Error::DatabaseError(DatabaseErrorKind::Unknown, Box::new(text.to_owned())))
    }

    #[test]
    fn only_what_is_about_the_data_is_refused() {
        for text in [
            "invalid byte sequence for encoding \"UTF8\": 0x00",
            "bigint out of range",
            "index row size 2840 exceeds btree version 4 maximum 2704 for index \"x\"",
        ] {
            assert!(matches!(unknown(text), StorageError::Refused(_)), "{text}");
        }
        for text in [
            "relation \"events\" does not exist",
            "permission denied for table events",
            "canceling statement due to lock timeout",
            "deadlock detected",
            "the database system is starting up",
            "could not extend file \"base/5/16384\": No space left on device",
            "etwas in einer anderen Sprache",
        ] {
            assert!(matches!(unknown(text), StorageError::Unavailable(_)), "{text}");
        }
    }

    #[test]
    fn a_violated_constraint_is_refused_in_any_language() {
        let error = Error::DatabaseError(DatabaseErrorKind::CheckViolation, Box::new("…".to_owned()));
        assert_eq!(storage_error(&error), StorageError::Refused("…".into()));
    }
}
