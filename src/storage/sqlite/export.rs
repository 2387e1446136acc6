//! `Export` on SQLite: the file as it is at one moment, read in pages; nobody writes meanwhile.

use std::path::Path;

use async_trait::async_trait;
use diesel::connection::SimpleConnection;
use diesel::sqlite::SqliteConnection;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::connection::{self, Blocking, Connection};
use super::error::{Fault, OpenError};
use super::open::{connect, failed};
use super::rows;
use super::statement::statement;
use crate::storage::StorageError;
use crate::storage::transfer::{
    ConversationRow, DeadLetterRow, DeploymentRow, EventRow, Export, Key, ListingRow, LogPartitionRow,
    LogRow, MailRow, MemberRow, NotifyDueRow, PresenceRow, RejectionRow, Rows, Table, UserRow, read_row,
};

/// A database that nobody can write to until this is dropped. Its schema has to be this release's, and it is
/// left as it was.
pub struct SqliteExport {
    connection: Connection,
}

impl SqliteExport {
    /// Opens an existing file. To be called within the runtime whose blocking threads then do the work.
    ///
    /// # Errors
    /// It cannot be read, or another process is writing to it for longer than 5 s.
    pub async fn open(path: &Path) -> Result<Self, OpenError> {
        let handle = Handle::current();
        let (file, unusable) = (path.to_owned(), path.to_owned());
        let opened = handle.spawn_blocking(move || {
            let mut conn = connect(&file)?;
            conn.batch_execute("BEGIN IMMEDIATE").map_err(|error| failed(&file, &error))?;
            Ok(conn)
        });
        let lost =
            |error: tokio::task::JoinError| OpenError::Unusable { path: unusable, reason: error.to_string() };
        let conn = opened.await.map_err(lost)??;
        Ok(Self { connection: Connection::with_runtime(conn, Blocking(handle)) })
    }
}

#[async_trait]
impl Export for SqliteExport {
    async fn rows(&mut self, table: Table, after: Key, limit: u32) -> Result<Rows, StorageError> {
        connection::run(&mut self.connection, move |conn| page(conn, table, after, i64::from(limit))).await
    }
}

fn page(conn: &mut SqliteConnection, table: Table, [a, b, c]: Key, limit: i64) -> Result<Rows, Fault> {
    Ok(match table {
        Table::Deployment => Rows::Deployment(each(select_deployment(conn, a, limit)?, deployment)?),
        Table::Logs => Rows::Logs(each(select_logs(conn, a, limit)?, log)?),
        Table::LogPartitions => {
            Rows::LogPartitions(each(select_log_partitions(conn, a, b, limit)?, log_partition)?)
        }
        Table::Users => Rows::Users(each(select_users(conn, a, limit)?, user)?),
        Table::Presence => Rows::Presence(each(select_presence(conn, a, limit)?, presence)?),
        Table::Conversations => {
            Rows::Conversations(each(select_conversations(conn, a, limit)?, conversation)?)
        }
        Table::Members => Rows::Members(each(select_members(conn, a, b, limit)?, member)?),
        Table::Listings => Rows::Listings(each(select_listings(conn, a, b, c, limit)?, listing)?),
        Table::Events => Rows::Events(each(select_events(conn, a, b, limit)?, event)?),
        Table::Rejections => Rows::Rejections(each(select_rejections(conn, a, limit)?, rejection)?),
        Table::DeadLetters => {
            Rows::DeadLetters(each(select_dead_letters(conn, a, b, c, limit)?, dead_letter)?)
        }
        Table::NotifyDue => Rows::NotifyDue(each(select_notify_due(conn, a, limit)?, notify_due)?),
        Table::Mails => Rows::Mails(each(select_mails(conn, a, limit)?, mail)?),
    })
}

fn each<T, R>(rows: Vec<T>, read: fn(T) -> Result<R, Fault>) -> Result<Vec<R>, Fault> {
    rows.into_iter().map(read).collect()
}

fn uuid(bytes: Vec<u8>) -> Result<Uuid, Fault> {
    rows::uuid(&bytes)
}

fn maybe_uuid(bytes: Option<Vec<u8>>) -> Result<Option<Uuid>, Fault> {
    bytes.map(uuid).transpose()
}

fn truth(number: i64) -> Result<bool, Fault> {
    Ok(number != 0)
}

type LogPartitionColumns = (i64, i64, i64, i64, i64, Option<Vec<u8>>, Option<String>, i64);
type UserColumns = (
    i64,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    i64,
    i64,
    i64,
    Option<String>,
    Option<String>,
    Option<String>,
);
type EventColumns = (
    i64,
    i64,
    i64,
    i64,
    i64,
    Vec<u8>,
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<Vec<u8>>,
    i64,
    i64,
    Option<Vec<u8>>,
    Option<Vec<u8>>,
    Option<i64>,
    Option<i64>,
);
type RejectionColumns = (i64, i64, i64, i64, String, Vec<u8>, String, i64, String, i64, Option<Vec<u8>>);
type MailColumns =
    (i64, i64, i64, i64, i64, Vec<u8>, String, Option<String>, i64, i64, i64, i64, Option<i64>);

read_row!(deployment: (Vec<u8>, i64, i64) => DeploymentRow {
    incarnation (uuid), next_user_id, created_at
});
read_row!(log: (i64, Vec<u8>, i64, i64) => LogRow {
    number, log_id (uuid), partitions, attached_at
});
read_row!(log_partition: LogPartitionColumns => LogPartitionRow {
    log_number, partition, epoch, next_offset, published, last_digest (maybe_uuid), standstill, is_breach
    (truth)
});
read_row!(user: UserColumns => UserRow {
    id, issuer, external_id, name, email, email_verified (truth), disabled (truth), created_at, name_key, time_zone, language
});
read_row!(presence: (i64, Option<i64>, Option<String>) => PresenceRow {
    user_id, last_seen, audience
});
read_row!(conversation: (i64, String, i64, i64, i64, i64, i64, i64) => ConversationRow {
    conversation_key, id, last_seq, last_at, last_log, last_partition, last_offset, listed_at
});
read_row!(member: (i64, i64, i64, i64, i64, i64) => MemberRow {
    conversation_key, user_id, delivered, read, notified, gap_to
});
read_row!(listing: (i64, i64, i64) => ListingRow {
    user_id, listed_at, conversation_key
});
read_row!(event: EventColumns => EventRow {
    conversation_key, seq, log_number, partition, log_offset, message_id (uuid), client_id, kind,
    sender_id, content, data, reply_to (maybe_uuid), at, stored_at, target (maybe_uuid), digest (maybe_uuid),
    edited_at, deleted_at
});
read_row!(rejection: RejectionColumns => RejectionRow {
    id, log_number, partition, log_offset, conversation, message_id (uuid), client_id, sender_id, code,
    stored_at, digest (maybe_uuid)
});
read_row!(dead_letter: (i64, i64, i64, String, Vec<u8>, i64) => DeadLetterRow {
    log_number, partition, log_offset, reason, value, stored_at
});
read_row!(notify_due: (i64, i64, i64) => NotifyDueRow {
    conversation_key, due_at, grace_ms
});
read_row!(mail: MailColumns => MailRow {
    id, conversation_key, user_id, from_seq, to_seq, message_id (uuid), state, reason, attempts,
    next_attempt_at, lease_until, created_at, settled_at
});

// Each by its key, from a place on.
statement!(
    fn select_deployment(after: i64, limit: i64) -> (Vec<u8>, i64, i64) =
        "SELECT incarnation, next_user_id, created_at FROM deployment WHERE created_at > ? LIMIT ?"
);
statement!(
    fn select_logs(after: i64, limit: i64) -> (i64, Vec<u8>, i64, i64) =
        "SELECT number, log_id, partitions, attached_at FROM logs WHERE number > ? ORDER BY number LIMIT ?"
);
statement!(
    fn select_log_partitions(a: i64, b: i64, limit: i64) -> LogPartitionColumns =
        "SELECT log_number, partition, epoch, next_offset, published, last_digest, standstill, is_breach
         FROM log_partitions WHERE (log_number, partition) > (?, ?) ORDER BY log_number, partition LIMIT ?"
);
statement!(
    fn select_users(after: i64, limit: i64) -> UserColumns =
        "SELECT id, issuer, external_id, name, email, email_verified, disabled, created_at, name_key, time_zone,
             language
         FROM users WHERE id > ? ORDER BY id LIMIT ?"
);
statement!(
    fn select_presence(after: i64, limit: i64) -> (i64, Option<i64>, Option<String>) =
        "SELECT user_id, last_seen, audience FROM presence WHERE user_id > ? ORDER BY user_id LIMIT ?"
);
statement!(
    fn select_conversations(after: i64, limit: i64) -> (i64, String, i64, i64, i64, i64, i64, i64) =
        "SELECT conversation_key, id, last_seq, last_at, last_log, last_partition, last_offset, listed_at
         FROM conversations WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);
statement!(
    fn select_members(a: i64, b: i64, limit: i64) -> (i64, i64, i64, i64, i64, i64) =
        "SELECT conversation_key, user_id, delivered, read, notified, gap_to
         FROM members WHERE (conversation_key, user_id) > (?, ?) ORDER BY conversation_key, user_id LIMIT ?"
);
statement!(
    fn select_listings(a: i64, b: i64, c: i64, limit: i64) -> (i64, i64, i64) =
        "SELECT user_id, listed_at, conversation_key
         FROM listings WHERE (user_id, listed_at, conversation_key) > (?, ?, ?)
         ORDER BY user_id, listed_at, conversation_key LIMIT ?"
);
statement!(
    fn select_events(a: i64, b: i64, limit: i64) -> EventColumns =
        "SELECT conversation_key, seq, log_number, partition, log_offset, message_id, client_id, kind,
             sender_id, content, data, reply_to, at, stored_at, target, digest, edited_at, deleted_at
         FROM events WHERE (conversation_key, seq) > (?, ?) ORDER BY conversation_key, seq LIMIT ?"
);
statement!(
    fn select_rejections(after: i64, limit: i64) -> RejectionColumns =
        "SELECT id, log_number, partition, log_offset, conversation, message_id, client_id, sender_id, code,
             stored_at, digest
         FROM rejections WHERE id > ? ORDER BY id LIMIT ?"
);
statement!(
    fn select_dead_letters(a: i64, b: i64, c: i64, limit: i64) -> (i64, i64, i64, String, Vec<u8>, i64) =
        "SELECT log_number, partition, log_offset, reason, value, stored_at
         FROM dead_letters WHERE (log_number, partition, log_offset) > (?, ?, ?)
         ORDER BY log_number, partition, log_offset LIMIT ?"
);
statement!(
    fn select_notify_due(after: i64, limit: i64) -> (i64, i64, i64) =
        "SELECT conversation_key, due_at, grace_ms
         FROM notify_due WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);
statement!(
    fn select_mails(after: i64, limit: i64) -> MailColumns =
        "SELECT id, conversation_key, user_id, from_seq, to_seq, message_id, state, reason, attempts,
             next_attempt_at, lease_until, created_at, settled_at
         FROM mails WHERE id > ? ORDER BY id LIMIT ?"
);
