//! `Notifications` on PostgreSQL. Workers of many processes share these tables: rows are taken with
//! `SKIP LOCKED`, so that nobody waits for work that another has in hand, and all times are the database's.

use std::time::Duration;

use async_trait::async_trait;

use super::PostgresStore;
use super::error::Fault;
use super::raise;
use super::rows;
use super::statement::{Id, now_ms, statement};
use crate::domain::{ConversationId, Seq, Timestamp, User};
use crate::storage::{DuePolicy, LeasedMail, Letter, Notifications, Raised, Settlement, StorageError};

/// Contents that one letter quotes.
const CONTENTS_MAX: i64 = 20;

#[async_trait]
impl Notifications for PostgresStore {
    async fn raise_due(&self, policy: &DuePolicy) -> Result<Raised, StorageError> {
        let conn = self.take().await?;
        conn.transaction(raise::raise(&conn, policy)).await
    }

    async fn lease_mails(&self, lease: Duration, limit: u32) -> Result<Vec<LeasedMail>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            take_mails(&conn, millis(lease), i64::from(limit))
                .await?
                .into_iter()
                .map(leased)
                .collect::<Result<Vec<_>, Fault>>()
        })
        .await
        .map(|mut mails| {
            // RETURNING promises no order.
            mails.sort_unstable_by_key(|mail| mail.id);
            mails
        })
    }

    async fn letter(&self, mail: i64) -> Result<Option<Letter>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            select_letter(&conn, CONTENTS_MAX, mail).await?.into_iter().next().map(letter).transpose()
        })
        .await
    }

    async fn settle_mail(&self, mail: i64, settlement: &Settlement) -> Result<(), StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            match settlement {
                Settlement::Sent => end(&conn, "sent", None, mail).await?,
                Settlement::Failed { reason } => end(&conn, "failed", Some(reason), mail).await?,
                Settlement::Withdrawn => end(&conn, "withdrawn", None, mail).await?,
                Settlement::Retry { after, reason } => postpone(&conn, millis(*after), reason, mail).await?,
                Settlement::Untried { reason } => give_back(&conn, reason, mail).await?,
            };
            Ok(())
        })
        .await
    }

    async fn due_at(&self, conversation: ConversationId) -> Result<Option<Timestamp>, StorageError> {
        let conn = self.take().await?;
        conn.run(async {
            let rows = select_due_at(&conn, &conversation.to_string()).await?;
            Ok(rows.first().and_then(|&(due_at,)| due_at).map(Timestamp))
        })
        .await
    }

    async fn next_work(&self) -> Result<Option<Timestamp>, StorageError> {
        let conn = self.take().await?;
        conn.run(async { Ok(select_next_work(&conn).await?.first().and_then(|&(at,)| at).map(Timestamp)) })
            .await
    }
}

/// Whole milliseconds; what would not fit a column is as good as for ever.
pub(super) fn millis(duration: Duration) -> i64 {
    const FOR_EVER: i64 = i64::MAX / 4;
    i64::try_from(duration.as_millis()).unwrap_or(FOR_EVER).min(FOR_EVER)
}

/// Number, conversation, user, tries before, when it was raised, and what becomes its Message-ID.
type LeasedRow = (i64, String, i64, i32, i64, Id);

fn leased(
    (id, conversation, user, attempts, created_at, message_id): LeasedRow,
) -> Result<LeasedMail, Fault> {
    Ok(LeasedMail {
        id,
        conversation: rows::conversation_id(&conversation)?,
        user: rows::user_id(user)?,
        attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
        created_at: Timestamp(created_at),
        message_id: message_id.0,
    })
}

/// The recipient and their address, the sender, how many from where to where, and the contents.
type LetterRow = ((i64, String, String), (i64, Option<String>), (i64, i64, i64), Vec<String>);

fn letter((recipient, sender, extent, contents): LetterRow) -> Result<Letter, Fault> {
    let ((recipient, name, email), (sender, sender_name), (count, from, to)) = (recipient, sender, extent);
    // Also somebody without a row has a name.
    Ok(Letter {
        recipient_name: display_name(recipient, name)?,
        email,
        sender_name: display_name(sender, sender_name.unwrap_or_default())?,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        contents,
        from: Seq(from),
        to: Seq(to),
    })
}

/// What others see.
fn display_name(id: i64, name: String) -> Result<String, Fault> {
    let id = rows::user_id(id)?;
    Ok(User { id, external_id: None, name, email: None, disabled: false, time_zone: None, language: None }
        .display_name())
}

// Plan: `mails_waiting` from its beginning, past those that others have in hand (one a worker). The array is made
// once and before anything is updated; a subquery in its place could be run again for each row.
statement!(
    fn take_mails(lease_ms: i64, limit: i64) -> LeasedRow = concat!(
        "UPDATE mails AS p SET attempts = p.attempts + 1, lease_until = ", now_ms!(), " + ?
         WHERE p.id = ANY (ARRAY(
             SELECT id FROM mails
             WHERE state = 'waiting' AND next_attempt_at <= ", now_ms!(), " AND lease_until <= ", now_ms!(), "
             ORDER BY next_attempt_at, id LIMIT ? FOR UPDATE SKIP LOCKED))
         RETURNING p.id,
             (SELECT c.id FROM conversations AS c WHERE c.conversation_key = p.conversation_key),
             p.user_id, p.attempts - 1, p.created_at, p.message_id"
    )
);

// One snapshot: what is unconfirmed at this moment.
statement!(
    fn select_letter(contents_max: i64, mail: i64) -> LetterRow =
        "SELECT r.id, r.name, r.email, q.senders[1], s.name, x.count, x.from_seq, x.to_seq, q.contents
         FROM mails AS p
         JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = p.user_id
         JOIN users AS r ON r.id = p.user_id AND NOT r.disabled AND r.email_verified AND r.email IS NOT NULL
         CROSS JOIN LATERAL (
             SELECT greatest(p.from_seq, m.delivered + 1, m.read + 1) AS from_seq) AS b
         CROSS JOIN LATERAL (
             SELECT count(*) AS count, min(e.seq) AS from_seq, max(e.seq) AS to_seq FROM events AS e
             WHERE e.conversation_key = p.conversation_key AND e.seq BETWEEN b.from_seq AND p.to_seq
                 AND e.sender_id <> p.user_id AND e.kind = 'message' AND e.deleted_at IS NULL) AS x
         CROSS JOIN LATERAL (
             SELECT array_agg(f.sender_id ORDER BY f.seq) AS senders, array_agg(f.content ORDER BY f.seq) AS contents
             FROM (SELECT e.seq, e.sender_id, e.content FROM events AS e
                   WHERE e.conversation_key = p.conversation_key AND e.seq BETWEEN b.from_seq AND p.to_seq
                       AND e.sender_id <> p.user_id AND e.kind = 'message' AND e.deleted_at IS NULL
                   ORDER BY e.seq LIMIT ?) AS f) AS q
         LEFT JOIN users AS s ON s.id = q.senders[1]
         WHERE p.id = ? AND p.state = 'waiting' AND x.count > 0"
);

statement!(
    fn end(state: &'a str, reason: Option<&'a str>, mail: i64) = concat!(
        "UPDATE mails SET state = ?, reason = ?, settled_at = ", now_ms!(), ", lease_until = 0
         WHERE id = ? AND state = 'waiting'"
    )
);

statement!(
    fn postpone(after_ms: i64, reason: &'a str, mail: i64) = concat!(
        "UPDATE mails SET next_attempt_at = ", now_ms!(), " + ?, reason = ?, lease_until = 0
         WHERE id = ? AND state = 'waiting'"
    )
);

statement!(
    fn give_back(reason: &'a str, mail: i64) =
        "UPDATE mails SET attempts = greatest(attempts - 1, 0), reason = ?, lease_until = 0
         WHERE id = ? AND state = 'waiting'"
);

statement!(
    fn select_due_at(conversation: &'a str) -> (Option<i64>,) =
        "SELECT least(
             (SELECT d.due_at FROM notify_due AS d WHERE d.conversation_key = c.conversation_key),
             (SELECT l.due_at FROM notify_later AS l WHERE l.conversation_key = c.conversation_key))
         FROM conversations AS c WHERE c.id = ?"
);

// Plan: the first entries of `notify_due_by_time`, `notify_later_by_time` and `mails_next`; 0.05 ms whatever waits.
statement!(
    fn select_next_work() -> (Option<i64>,) =
        "SELECT least(
             (SELECT min(due_at) FROM notify_due), (SELECT min(due_at) FROM notify_later),
             (SELECT min(greatest(next_attempt_at, lease_until)) FROM mails WHERE state = 'waiting'))"
);
