//! The same rows read back, in the same order.

use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::super::error::Fault;
use super::super::statement::{Id, statement};
use crate::storage::transfer::{
    ConversationRow, DeadLetterRow, DeploymentRow, EventRow, Key, ListingRow, LogPartitionRow, LogRow,
    MailRow, MemberRow, NotifyDueRow, PresenceRow, RejectionRow, Rows, Table, UserRow, read_row,
};

/// At most `limit` rows behind a key.
pub(super) async fn page(
    conn: &AsyncPgConnection,
    table: Table,
    [a, b, c]: Key,
    limit: i64,
) -> Result<Rows, Fault> {
    Ok(match table {
        Table::Deployment => Rows::Deployment(each(select_deployment(conn, a, limit).await?, deployment)?),
        Table::Logs => Rows::Logs(each(select_logs(conn, a, limit).await?, log)?),
        Table::LogPartitions => {
            Rows::LogPartitions(each(select_log_partitions(conn, a, b, limit).await?, log_partition)?)
        }
        Table::Users => Rows::Users(each(select_users(conn, a, limit).await?, user)?),
        Table::Presence => Rows::Presence(each(select_presence(conn, a, limit).await?, presence)?),
        Table::Conversations => {
            Rows::Conversations(each(select_conversations(conn, a, limit).await?, conversation)?)
        }
        Table::Members => Rows::Members(each(select_members(conn, a, b, limit).await?, member)?),
        Table::Listings => Rows::Listings(each(select_listings(conn, a, b, c, limit).await?, listing)?),
        Table::Events => Rows::Events(each(select_events(conn, a, b, limit).await?, event)?),
        Table::Rejections => Rows::Rejections(each(select_rejections(conn, a, limit).await?, rejection)?),
        Table::DeadLetters => {
            Rows::DeadLetters(each(select_dead_letters(conn, a, b, c, limit).await?, dead_letter)?)
        }
        Table::NotifyDue => Rows::NotifyDue(each(select_notify_due(conn, a, limit).await?, notify_due)?),
        Table::Mails => Rows::Mails(each(select_mails(conn, a, limit).await?, mail)?),
    })
}

fn each<T, R>(rows: Vec<T>, read: fn(T) -> Result<R, Fault>) -> Result<Vec<R>, Fault> {
    rows.into_iter().map(read).collect()
}

fn uuid(id: Id) -> Result<Uuid, Fault> {
    Ok(id.0)
}

fn maybe_uuid(id: Option<Id>) -> Result<Option<Uuid>, Fault> {
    Ok(id.map(|id| id.0))
}

type LogPartitionColumns = (i64, i64, i64, i64, i64, Option<Id>, Option<String>, bool);
type UserColumns = (
    i64,
    Option<String>,
    Option<String>,
    String,
    Option<String>,
    bool,
    bool,
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
    Id,
    String,
    String,
    i64,
    Option<String>,
    Option<String>,
    Option<Id>,
    i64,
    i64,
    Option<Id>,
    Option<Id>,
    Option<i64>,
    Option<i64>,
);
type RejectionColumns = (i64, i64, i64, i64, String, Id, String, i64, String, i64, Option<Id>);
type MailColumns = (i64, i64, i64, i64, i64, Id, String, Option<String>, i64, i64, i64, i64, Option<i64>);

read_row!(deployment: (Id, i64, i64) => DeploymentRow {
    incarnation (uuid), next_user_id, created_at
});
read_row!(log: (i64, Id, i64, i64) => LogRow {
    number, log_id (uuid), partitions, attached_at
});
read_row!(log_partition: LogPartitionColumns => LogPartitionRow {
    log_number, partition, epoch, next_offset, published, last_digest (maybe_uuid), standstill, is_breach
});
read_row!(user: UserColumns => UserRow {
    id, issuer, external_id, name, email, email_verified, disabled, created_at, name_key, time_zone, language
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
    fn select_deployment(after: i64, limit: i64) -> (Id, i64, i64) =
        "SELECT d.incarnation, u.last_value + u.is_called::integer, d.created_at
         FROM deployment AS d CROSS JOIN user_ids AS u WHERE d.created_at > ? LIMIT ?"
);
statement!(
    fn select_logs(after: i64, limit: i64) -> (i64, Id, i64, i64) =
        "SELECT number::bigint, log_id, partitions::bigint, attached_at FROM logs WHERE number > ? ORDER BY number LIMIT ?"
);
statement!(
    fn select_log_partitions(a: i64, b: i64, limit: i64) -> LogPartitionColumns =
        "SELECT log_number::bigint, partition::bigint, epoch, next_offset, published, last_digest, standstill, is_breach
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
        "SELECT conversation_key, id, last_seq, last_at, last_log::bigint, last_partition::bigint, last_offset,
             listed_at
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
        "SELECT conversation_key, seq, log_number::bigint, partition::bigint, log_offset, message_id, client_id, kind,
             sender_id, content, data, reply_to, at, stored_at, target, digest, edited_at, deleted_at
         FROM events WHERE (conversation_key, seq) > (?, ?) ORDER BY conversation_key, seq LIMIT ?"
);
statement!(
    fn select_rejections(after: i64, limit: i64) -> RejectionColumns =
        "SELECT id, log_number::bigint, partition::bigint, log_offset, conversation, message_id, client_id, sender_id, code,
             stored_at, digest
         FROM rejections WHERE id > ? ORDER BY id LIMIT ?"
);
statement!(
    fn select_dead_letters(a: i64, b: i64, c: i64, limit: i64) -> (i64, i64, i64, String, Vec<u8>, i64) =
        "SELECT log_number::bigint, partition::bigint, log_offset, reason, value, stored_at
         FROM dead_letters WHERE (log_number, partition, log_offset) > (?, ?, ?)
         ORDER BY log_number, partition, log_offset LIMIT ?"
);
statement!(
    fn select_notify_due(after: i64, limit: i64) -> (i64, i64, i64) =
        "SELECT conversation_key, due_at, grace_ms
         FROM (SELECT * FROM notify_due UNION ALL SELECT * FROM notify_later) AS due
         WHERE conversation_key > ? ORDER BY conversation_key LIMIT ?"
);
statement!(
    fn select_mails(after: i64, limit: i64) -> MailColumns =
        "SELECT id, conversation_key, user_id, from_seq, to_seq, message_id, state, reason, attempts::bigint,
             next_attempt_at, lease_until, created_at, settled_at
         FROM mails WHERE id > ? ORDER BY id LIMIT ?"
);
