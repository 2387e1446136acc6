//! Pages of rows as arrays: one statement a page.

use diesel_async::AsyncPgConnection;
use uuid::Uuid;

use super::super::error::Fault;
use super::super::statement::{Id, now_ms, statement};
use crate::storage::transfer::{
    ConversationRow, DeadLetterRow, DeploymentRow, EventRow, ListingRow, LogPartitionRow, LogRow, MailRow,
    MemberRow, NotifyDueRow, PresenceRow, RejectionRow, Rows, UserRow,
};

/// A column of a page.
macro_rules! column {
    ($rows:ident.$name:ident) => {
        &$rows.iter().map(|row| row.$name).collect::<Vec<_>>()
    };
    ($rows:ident.$name:ident as $read:expr) => {
        &$rows.iter().map(|row| $read(&row.$name)).collect::<Vec<_>>()
    };
}

fn id(value: &Uuid) -> Id {
    Id(*value)
}

fn maybe_id(value: &Option<Uuid>) -> Option<Id> {
    value.map(Id)
}

fn maybe_text(value: &Option<String>) -> Option<&str> {
    value.as_deref()
}

/// Writes a page as it is.
pub(super) async fn page(conn: &AsyncPgConnection, rows: Rows) -> Result<(), Fault> {
    match rows {
        Rows::Deployment(rows) => deployment(conn, &rows).await?,
        Rows::Logs(rows) => logs(conn, &rows).await?,
        Rows::LogPartitions(rows) => log_partitions(conn, &rows).await?,
        Rows::Users(rows) => users(conn, &rows).await?,
        Rows::Presence(rows) => presence(conn, &rows).await?,
        Rows::Conversations(rows) => conversations(conn, &rows).await?,
        Rows::Members(rows) => members(conn, &rows).await?,
        Rows::Listings(rows) => listings(conn, &rows).await?,
        Rows::Events(rows) => events(conn, &rows).await?,
        Rows::Rejections(rows) => rejections(conn, &rows).await?,
        Rows::DeadLetters(rows) => dead_letters(conn, &rows).await?,
        Rows::NotifyDue(rows) => notify_due(conn, &rows).await?,
        Rows::Mails(rows) => mails(conn, &rows).await?,
    };
    Ok(())
}

type Written = diesel::QueryResult<usize>;

/// The row is there since the first migration.
async fn deployment(conn: &AsyncPgConnection, rows: &[DeploymentRow]) -> Written {
    for row in rows {
        set_deployment(conn, Id(row.incarnation), row.created_at).await?;
        set_next_user_id(conn, row.next_user_id).await?;
    }
    Ok(rows.len())
}

async fn logs(conn: &AsyncPgConnection, rows: &[LogRow]) -> Written {
    insert_logs(
        conn,
        column!(rows.number),
        column!(rows.log_id as id),
        column!(rows.partitions),
        column!(rows.attached_at),
    )
    .await
}

async fn log_partitions(conn: &AsyncPgConnection, rows: &[LogPartitionRow]) -> Written {
    insert_log_partitions(
        conn,
        column!(rows.log_number),
        column!(rows.partition),
        column!(rows.epoch),
        column!(rows.next_offset),
        column!(rows.published),
        column!(rows.last_digest as maybe_id),
        column!(rows.standstill as maybe_text),
        column!(rows.is_breach),
    )
    .await
}

async fn users(conn: &AsyncPgConnection, rows: &[UserRow]) -> Written {
    insert_users(
        conn,
        column!(rows.id),
        column!(rows.issuer as maybe_text),
        column!(rows.external_id as maybe_text),
        column!(rows.name as String::as_str),
        column!(rows.email as maybe_text),
        column!(rows.email_verified),
        column!(rows.disabled),
        column!(rows.created_at),
        column!(rows.name_key as maybe_text),
        column!(rows.time_zone as maybe_text),
        column!(rows.language as maybe_text),
    )
    .await
}

async fn presence(conn: &AsyncPgConnection, rows: &[PresenceRow]) -> Written {
    let (users, seen) = (column!(rows.user_id), column!(rows.last_seen));
    insert_presence(conn, users, seen, column!(rows.audience as maybe_text)).await
}

async fn conversations(conn: &AsyncPgConnection, rows: &[ConversationRow]) -> Written {
    insert_conversations(
        conn,
        column!(rows.conversation_key),
        column!(rows.id as String::as_str),
        column!(rows.last_seq),
        column!(rows.last_at),
        column!(rows.last_log),
        column!(rows.last_partition),
        column!(rows.last_offset),
        column!(rows.listed_at),
    )
    .await
}

async fn members(conn: &AsyncPgConnection, rows: &[MemberRow]) -> Written {
    insert_members(
        conn,
        column!(rows.conversation_key),
        column!(rows.user_id),
        column!(rows.delivered),
        column!(rows.read),
        column!(rows.notified),
        column!(rows.gap_to),
    )
    .await
}

async fn listings(conn: &AsyncPgConnection, rows: &[ListingRow]) -> Written {
    let (users, places) = (column!(rows.user_id), column!(rows.listed_at));
    insert_listings(conn, users, places, column!(rows.conversation_key)).await
}

async fn events(conn: &AsyncPgConnection, rows: &[EventRow]) -> Written {
    insert_events(
        conn,
        column!(rows.conversation_key),
        column!(rows.seq),
        column!(rows.log_number),
        column!(rows.partition),
        column!(rows.log_offset),
        column!(rows.message_id as id),
        column!(rows.client_id as String::as_str),
        column!(rows.kind as String::as_str),
        column!(rows.sender_id),
        column!(rows.content as maybe_text),
        column!(rows.data as maybe_text),
        column!(rows.reply_to as maybe_id),
        column!(rows.at),
        column!(rows.stored_at),
        column!(rows.target as maybe_id),
        column!(rows.digest as maybe_id),
        column!(rows.edited_at),
        column!(rows.deleted_at),
    )
    .await
}

async fn rejections(conn: &AsyncPgConnection, rows: &[RejectionRow]) -> Written {
    insert_rejections(
        conn,
        column!(rows.id),
        column!(rows.log_number),
        column!(rows.partition),
        column!(rows.log_offset),
        column!(rows.conversation as String::as_str),
        column!(rows.message_id as id),
        column!(rows.client_id as String::as_str),
        column!(rows.sender_id),
        column!(rows.code as String::as_str),
        column!(rows.stored_at),
        column!(rows.digest as maybe_id),
    )
    .await
}

async fn dead_letters(conn: &AsyncPgConnection, rows: &[DeadLetterRow]) -> Written {
    insert_dead_letters(
        conn,
        column!(rows.log_number),
        column!(rows.partition),
        column!(rows.log_offset),
        column!(rows.reason as String::as_str),
        column!(rows.value as Vec::as_slice),
        column!(rows.stored_at),
    )
    .await
}

async fn notify_due(conn: &AsyncPgConnection, rows: &[NotifyDueRow]) -> Written {
    insert_due(conn, column!(rows.conversation_key), column!(rows.due_at), column!(rows.grace_ms)).await
}

async fn mails(conn: &AsyncPgConnection, rows: &[MailRow]) -> Written {
    insert_mails(
        conn,
        column!(rows.id),
        column!(rows.conversation_key),
        column!(rows.user_id),
        column!(rows.from_seq),
        column!(rows.to_seq),
        column!(rows.message_id as id),
        column!(rows.state as String::as_str),
        column!(rows.reason as maybe_text),
        column!(rows.attempts),
        column!(rows.next_attempt_at),
        column!(rows.lease_until),
        column!(rows.created_at),
        column!(rows.settled_at),
    )
    .await
}

statement!(
    fn set_deployment(incarnation: Id, created_at: i64) =
        "UPDATE deployment SET incarnation = ?, created_at = ?"
);

statement!(
    fn set_next_user_id(next: i64) -> (i64,) = "SELECT setval('user_ids', ?, false)"
);

statement!(
    fn insert_logs(numbers: &'a [i64], ids: &'a [Id], partitions: &'a [i64], attached: &'a [i64]) =
        "INSERT INTO logs (number, log_id, partitions, attached_at) SELECT * FROM unnest(?, ?, ?, ?)"
);

statement!(
    fn insert_log_partitions(
        logs: &'a [i64],
        partitions: &'a [i64],
        epochs: &'a [i64],
        next: &'a [i64],
        published: &'a [i64],
        digests: &'a [Option<Id>],
        standstills: &'a [Option<&'a str>],
        breaches: &'a [bool],
    ) = "INSERT INTO log_partitions (log_number, partition, epoch, next_offset, published, last_digest,
             standstill, is_breach)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_users(
        ids: &'a [i64],
        issuers: &'a [Option<&'a str>],
        external_ids: &'a [Option<&'a str>],
        names: &'a [&'a str],
        emails: &'a [Option<&'a str>],
        verified: &'a [bool],
        disabled: &'a [bool],
        created: &'a [i64],
        name_keys: &'a [Option<&'a str>],
        time_zones: &'a [Option<&'a str>],
        languages: &'a [Option<&'a str>],
    ) = "INSERT INTO users (id, issuer, external_id, name, email, email_verified, disabled, created_at, name_key,
             time_zone, language)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_presence(users: &'a [i64], seen: &'a [Option<i64>], audiences: &'a [Option<&'a str>]) =
        "INSERT INTO presence (user_id, last_seen, audience) SELECT * FROM unnest(?, ?, ?)"
);

statement!(
    fn insert_conversations(
        keys: &'a [i64],
        ids: &'a [&'a str],
        seqs: &'a [i64],
        ats: &'a [i64],
        logs: &'a [i64],
        partitions: &'a [i64],
        offsets: &'a [i64],
        listed: &'a [i64],
    ) = "INSERT INTO conversations (conversation_key, id, last_seq, last_at, last_log, last_partition, last_offset,
             listed_at)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_listings(users: &'a [i64], listed: &'a [i64], keys: &'a [i64]) =
        "INSERT INTO listings (user_id, listed_at, conversation_key) SELECT * FROM unnest(?, ?, ?)"
);

statement!(
    fn insert_members(
        keys: &'a [i64],
        users: &'a [i64],
        delivered: &'a [i64],
        read: &'a [i64],
        notified: &'a [i64],
        gaps: &'a [i64],
    ) = "INSERT INTO members (conversation_key, user_id, delivered, read, notified, gap_to)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_events(
        keys: &'a [i64],
        seqs: &'a [i64],
        logs: &'a [i64],
        partitions: &'a [i64],
        offsets: &'a [i64],
        ids: &'a [Id],
        client_ids: &'a [&'a str],
        kinds: &'a [&'a str],
        senders: &'a [i64],
        contents: &'a [Option<&'a str>],
        data: &'a [Option<&'a str>],
        replies: &'a [Option<Id>],
        ats: &'a [i64],
        stored: &'a [i64],
        targets: &'a [Option<Id>],
        digests: &'a [Option<Id>],
        edited: &'a [Option<i64>],
        deleted: &'a [Option<i64>],
    ) = "INSERT INTO events (conversation_key, seq, log_number, partition, log_offset, message_id, client_id, kind,
             sender_id, content, data, reply_to, at, stored_at, target, digest, edited_at, deleted_at)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_rejections(
        ids: &'a [i64],
        logs: &'a [i64],
        partitions: &'a [i64],
        offsets: &'a [i64],
        conversations: &'a [&'a str],
        messages: &'a [Id],
        client_ids: &'a [&'a str],
        senders: &'a [i64],
        codes: &'a [&'a str],
        stored: &'a [i64],
        digests: &'a [Option<Id>],
    ) = "INSERT INTO rejections (id, log_number, partition, log_offset, conversation, message_id, client_id,
             sender_id, code, stored_at, digest)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn insert_dead_letters(
        logs: &'a [i64],
        partitions: &'a [i64],
        offsets: &'a [i64],
        reasons: &'a [&'a str],
        values: &'a [&'a [u8]],
        stored: &'a [i64],
    ) = "INSERT INTO dead_letters (log_number, partition, log_offset, reason, value, stored_at)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?)"
);

statement!(
    /// What is due later than a grace from now does not stand in the way of a message that is due before: see
    /// `raise`.
    fn insert_due(keys: &'a [i64], due: &'a [i64], graces: &'a [i64]) = concat!(
        "WITH due AS (SELECT * FROM unnest(?, ?, ?) AS a (conversation_key, due_at, grace_ms)),
         soon AS (INSERT INTO notify_due (conversation_key, due_at, grace_ms)
                  SELECT * FROM due WHERE due_at <= grace_ms + ", now_ms!(), ")
         INSERT INTO notify_later (conversation_key, due_at, grace_ms)
         SELECT * FROM due WHERE due_at > grace_ms + ", now_ms!()
    )
);

statement!(
    fn insert_mails(
        ids: &'a [i64],
        keys: &'a [i64],
        users: &'a [i64],
        from: &'a [i64],
        to: &'a [i64],
        messages: &'a [Id],
        states: &'a [&'a str],
        reasons: &'a [Option<&'a str>],
        attempts: &'a [i64],
        next_attempts: &'a [i64],
        leases: &'a [i64],
        created: &'a [i64],
        settled: &'a [Option<i64>],
    ) = "INSERT INTO mails (id, conversation_key, user_id, from_seq, to_seq, message_id, state, reason, attempts,
             next_attempt_at, lease_until, created_at, settled_at)
         SELECT * FROM unnest(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);
