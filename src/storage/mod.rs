//! Everything that is kept: ports. Adapters: `sqlite`, `postgres`.
//!
//! Each port is a narrow trait; one adapter implements all of them over one database. A transaction lives
//! inside one method: either all of it happened or nothing. Times in rows are the database's own clock,
//! except `at`, which comes with the record.

pub mod audit;
pub mod catchup;
mod columns;
pub mod conversations;
pub mod events;
pub mod ledger;
pub mod notifications;
pub mod postgres;
pub mod receipts;
pub mod sightings;
pub mod sqlite;
pub mod transfer;
pub mod users;

pub use audit::{Audit, Disorder, Kept};
pub use catchup::{Catchup, Missed, Since};
pub use conversations::{Conversations, Listed, ListedMember};
pub use events::{Events, Page, PageOf, Scanned};
pub use ledger::{Applied, Batch, Claim, DeadLetter, Ledger, Mark, PartitionBatch, Standstill};
pub use notifications::{DuePolicy, LeasedMail, Letter, Notifications, Raised, Settlement};
pub use receipts::{Move, Receipt, Receipts};
pub use sightings::{Sighting, Sightings};
pub use users::{NewUser, Saved, Users};

/// Why storage did not do what was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorageError {
    /// It cannot be reached, is busy beyond its timeout, or out of space. Whether a write happened is open.
    #[error("storage is unavailable: {0}")]
    Unavailable(String),
    /// The database refuses this data for good (a constraint, a value); trying it again changes nothing.
    #[error("storage refuses this for good: {0}")]
    Refused(String),
    /// The database belongs to another message log.
    #[error(
        "this database belongs to the message log {expected}, not to {found}: restore both from one backup"
    )]
    ForeignLog {
        /// The log that the database follows.
        expected: uuid::Uuid,
        /// The log that was offered.
        found: uuid::Uuid,
    },
    /// The database has been handed over to another log since this process was started.
    #[error("the database follows another message log by now: start this process again")]
    Superseded,
}

/// Every port over one database.
pub trait Storage:
    Users + Conversations + Ledger + Events + Catchup + Receipts + Notifications + Sightings
{
}

impl<T: Users + Conversations + Ledger + Events + Catchup + Receipts + Notifications + Sightings> Storage
    for T
{
}

/// What an audit of the books needs.
pub trait Audited: Ledger + Audit {}

impl<T: Ledger + Audit> Audited for T {}
