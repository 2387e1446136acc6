//! Port: everything that is kept, row by row as it lies, on its way from one database into another.
//!
//! Rows are not interpreted: what a column holds is what arrives, also where this release would not write it.
//! A table is read in pages by its key, so that a move needs the memory of a page, whatever the history holds.

use async_trait::async_trait;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::StorageError;
use crate::domain::{LogNumber, Offset};
use crate::pipeline::LogIdentity;

/// A row's place within its table: the columns of its key, in order; zeros where there are fewer than three.
pub type Key = [i64; 3];

/// Before every row.
pub const FIRST: Key = [i64::MIN; 3];

/// Makes, of each table: its name, its columns, its row, and how a row is told apart and digested.
macro_rules! tables {
    ($(
        $(#[$doc:meta])*
        $table:ident, $row:ident: $name:literal by ($($key:ident),+) {
            $($column:ident: $type:ty),+ $(,)?
        }
    )+) => {
        /// The tables of a history, in the order in which they are written.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Table {
            $($(#[$doc])* $table,)+
        }

        impl Table {
            /// All of them.
            pub const ALL: &'static [Self] = &[$(Self::$table),+];

            /// As the databases name it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$table => $name,)+
                }
            }

            /// The columns that go along.
            pub fn columns(self) -> &'static [&'static str] {
                match self {
                    $(Self::$table => &[$(stringify!($column)),+],)+
                }
            }
        }

        $(
            #[doc = concat!("A row of `", $name, "`.")]
            #[derive(Debug, Clone, PartialEq, Eq)]
            #[allow(missing_docs, reason = "the columns, as the migrations explain them")]
            pub struct $row {
                $(pub $column: $type,)+
            }
        )+

        /// A page of one table, in the order of its key.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Rows {
            $($(#[$doc])* $table(Vec<$row>),)+
        }

        impl Rows {
            /// Whose rows they are.
            pub fn table(&self) -> Table {
                match self {
                    $(Self::$table(_) => Table::$table,)+
                }
            }

            /// How many.
            pub fn len(&self) -> usize {
                match self {
                    $(Self::$table(rows) => rows.len(),)+
                }
            }

            /// The place of the last one.
            pub fn last(&self) -> Option<Key> {
                match self {
                    $(Self::$table(rows) => rows.last().map(|row| key([$(row.$key),+])),)+
                }
            }

            /// Feeds every value of every row, in order.
            pub fn digest(&self, hash: &mut Sha256) {
                match self {
                    $(Self::$table(rows) => rows.iter().for_each(|row| {
                        $(row.$column.feed(hash);)+
                    }),)+
                }
            }
        }
    };
}

/// Makes a function that takes the columns of a row, as an adapter reads them, for the row; behind a column stands
/// what reads its value further.
macro_rules! read_row {
    ($name:ident: $columns:ty => $row:ident { $($column:ident $(($read:ident))?),+ $(,)? }) => {
        fn $name(($($column),+): $columns) -> Result<$row, Fault> {
            $($(let $column = $read($column)?;)?)+
            Ok($row { $($column),+ })
        }
    };
}
pub(super) use read_row;

tables! {
    /// What the database is: one row.
    Deployment, DeploymentRow: "deployment" by (created_at) {
        incarnation: Uuid,
        next_user_id: i64,
        created_at: i64,
    }
    /// The message logs that it has followed.
    Logs, LogRow: "logs" by (number) {
        number: i64,
        log_id: Uuid,
        partitions: i64,
        attached_at: i64,
    }
    /// How far each partition has come.
    LogPartitions, LogPartitionRow: "log_partitions" by (log_number, partition) {
        log_number: i64,
        partition: i64,
        epoch: i64,
        next_offset: i64,
        published: i64,
        last_digest: Option<Uuid>,
        standstill: Option<String>,
        is_breach: bool,
    }
    /// Users, with their addresses.
    Users, UserRow: "users" by (id) {
        id: i64,
        issuer: Option<String>,
        external_id: Option<String>,
        name: String,
        email: Option<String>,
        email_verified: bool,
        disabled: bool,
        created_at: i64,
        name_key: Option<String>,
        time_zone: Option<String>,
        language: Option<String>,
    }
    /// When users were there last, and who may see it.
    Presence, PresenceRow: "presence" by (user_id) {
        user_id: i64,
        last_seen: Option<i64>,
        audience: Option<String>,
    }
    /// Conversations and their heads.
    Conversations, ConversationRow: "conversations" by (conversation_key) {
        conversation_key: i64,
        id: String,
        last_seq: i64,
        last_at: i64,
        last_log: i64,
        last_partition: i64,
        last_offset: i64,
        listed_at: i64,
    }
    /// Their members, with what each has got and read.
    Members, MemberRow: "members" by (conversation_key, user_id) {
        conversation_key: i64,
        user_id: i64,
        delivered: i64,
        read: i64,
        notified: i64,
        gap_to: i64,
    }
    /// Their places in their members' lists.
    Listings, ListingRow: "listings" by (user_id, listed_at, conversation_key) {
        user_id: i64,
        listed_at: i64,
        conversation_key: i64,
    }
    /// History.
    Events, EventRow: "events" by (conversation_key, seq) {
        conversation_key: i64,
        seq: i64,
        log_number: i64,
        partition: i64,
        log_offset: i64,
        message_id: Uuid,
        client_id: String,
        kind: String,
        sender_id: i64,
        content: Option<String>,
        data: Option<String>,
        reply_to: Option<Uuid>,
        at: i64,
        stored_at: i64,
        target: Option<Uuid>,
        digest: Option<Uuid>,
        edited_at: Option<i64>,
        deleted_at: Option<i64>,
    }
    /// Records that proved impossible.
    Rejections, RejectionRow: "rejections" by (id) {
        id: i64,
        log_number: i64,
        partition: i64,
        log_offset: i64,
        conversation: String,
        message_id: Uuid,
        client_id: String,
        sender_id: i64,
        code: String,
        stored_at: i64,
        digest: Option<Uuid>,
    }
    /// Values of the log that are no records.
    DeadLetters, DeadLetterRow: "dead_letters" by (log_number, partition, log_offset) {
        log_number: i64,
        partition: i64,
        log_offset: i64,
        reason: String,
        value: Vec<u8>,
        stored_at: i64,
    }
    /// Conversations in which somebody may have to be told by mail.
    NotifyDue, NotifyDueRow: "notify_due" by (conversation_key) {
        conversation_key: i64,
        due_at: i64,
        grace_ms: i64,
    }
    /// Mails, and why there are none.
    Mails, MailRow: "mails" by (id) {
        id: i64,
        conversation_key: i64,
        user_id: i64,
        from_seq: i64,
        to_seq: i64,
        message_id: Uuid,
        state: String,
        reason: Option<String>,
        attempts: i64,
        next_attempt_at: i64,
        lease_until: i64,
        created_at: i64,
        settled_at: Option<i64>,
    }
}

impl Rows {
    /// Whether the table holds nothing more.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn key<const N: usize>(parts: [i64; N]) -> Key {
    let mut key = [0; 3];
    key.iter_mut().zip(parts).for_each(|(place, part)| *place = part);
    key
}

/// A value that goes into a digest so that no two different rows feed the same bytes.
trait Feed {
    fn feed(&self, hash: &mut Sha256);
}

impl Feed for i64 {
    fn feed(&self, hash: &mut Sha256) {
        hash.update(self.to_be_bytes());
    }
}

impl Feed for bool {
    fn feed(&self, hash: &mut Sha256) {
        hash.update([u8::from(*self)]);
    }
}

impl Feed for Uuid {
    fn feed(&self, hash: &mut Sha256) {
        hash.update(self.as_bytes());
    }
}

impl Feed for Vec<u8> {
    fn feed(&self, hash: &mut Sha256) {
        hash.update((self.len() as u64).to_be_bytes());
        hash.update(self);
    }
}

impl Feed for String {
    fn feed(&self, hash: &mut Sha256) {
        hash.update((self.len() as u64).to_be_bytes());
        hash.update(self.as_bytes());
    }
}

impl<T: Feed> Feed for Option<T> {
    fn feed(&self, hash: &mut Sha256) {
        self.is_some().feed(hash);
        if let Some(value) = self {
            value.feed(hash);
        }
    }
}

/// A database that is read whole.
#[async_trait]
pub trait Export: Send {
    /// At most `limit` rows of a table behind a key, in the order of keys; empty where there are no more. All
    /// pages are of one state of the database.
    async fn rows(&mut self, table: Table, after: Key, limit: u32) -> Result<Rows, StorageError>;
}

/// What stands where a history was to go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupied {
    /// A table with rows.
    pub table: String,
    /// The history that they belong to.
    pub incarnation: Uuid,
}

/// An empty database that takes a history over: all of it, or nothing. Whatever is written can be read back
/// through [`Export`] before it is finished; nobody else sees it until then, and where this is dropped before,
/// the database is as it was.
#[async_trait]
pub trait Import: Export {
    /// Begins; nobody else writes into the database from here on. Says what is there already, in which case
    /// nothing may be written.
    async fn begin(&mut self) -> Result<Option<Occupied>, StorageError>;

    /// Writes a page, as it is.
    async fn write(&mut self, rows: Rows) -> Result<(), StorageError>;

    /// Lets the database follow another log from these offsets on, as `Ledger::hand_over` does, where one is
    /// given, and makes everything durable and seen. `Unavailable` where the answer to that was lost: then a
    /// `begin` says whether it happened. Returns the number of the new log.
    async fn finish(
        &mut self,
        next: Option<(LogIdentity, Vec<Offset>)>,
    ) -> Result<Option<LogNumber>, StorageError>;
}

#[cfg(test)]
mod tests;
