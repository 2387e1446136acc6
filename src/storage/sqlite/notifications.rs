//! `Notifications` on SQLite.

use std::time::Duration;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::connection::{durably, immediately};
use super::error::Fault;
use super::raise;
use super::rows;
use super::statement::statement;
use super::users;
use crate::domain::{ConversationId, Seq, Timestamp, User, UserId};
use crate::storage::{DuePolicy, LeasedMail, Letter, Notifications, Raised, Settlement, StorageError};

/// Contents that one letter quotes.
const CONTENTS_MAX: i64 = 20;

impl SqliteStore {
    /// Ends every lease of a mail, so that what a killed process had in hand is sent at once and not when its
    /// lease ends. For a server that has just begun on a folder that is its alone.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn end_leases(&self) -> Result<(), StorageError> {
        self.write(|conn| {
            durably(conn, |conn| {
                end_leases(conn)?;
                Ok(())
            })
        })
        .await
    }
}

#[async_trait]
impl Notifications for SqliteStore {
    async fn raise_due(&self, policy: &DuePolicy) -> Result<Raised, StorageError> {
        let policy = policy.clone();
        self.write(move |conn| durably(conn, |conn| raise::raise(conn, &policy, Timestamp::now()))).await
    }

    async fn lease_mails(&self, lease: Duration, limit: u32) -> Result<Vec<LeasedMail>, StorageError> {
        // A lease that power loss takes back has ended with the worker that held it.
        self.write(move |conn| immediately(conn, |conn| lease_now(conn, lease, limit))).await
    }

    async fn letter(&self, mail: i64) -> Result<Option<Letter>, StorageError> {
        self.read(move |conn| letter(conn, mail)).await
    }

    async fn settle_mail(&self, mail: i64, settlement: &Settlement) -> Result<(), StorageError> {
        let settlement = settlement.clone();
        self.write(move |conn| {
            durably(conn, |conn| {
                let now = Timestamp::now();
                match &settlement {
                    Settlement::Sent => end(conn, "sent", None, now.0, mail)?,
                    Settlement::Failed { reason } => end(conn, "failed", Some(reason), now.0, mail)?,
                    Settlement::Withdrawn => end(conn, "withdrawn", None, now.0, mail)?,
                    Settlement::Retry { after, reason } => postpone(conn, now.plus(*after).0, reason, mail)?,
                    Settlement::Untried { reason } => give_back(conn, reason, mail)?,
                };
                Ok(())
            })
        })
        .await
    }

    async fn due_at(&self, conversation: ConversationId) -> Result<Option<Timestamp>, StorageError> {
        self.read(move |conn| {
            let rows = select_due_at(conn, &conversation.to_string())?;
            Ok(rows.first().map(|&(due_at,)| Timestamp(due_at)))
        })
        .await
    }

    async fn next_work(&self) -> Result<Option<Timestamp>, StorageError> {
        self.read(|conn| Ok(select_next_work(conn)?.first().and_then(|&(at,)| at).map(Timestamp))).await
    }
}

fn lease_now(conn: &mut SqliteConnection, lease: Duration, limit: u32) -> Result<Vec<LeasedMail>, Fault> {
    let now = Timestamp::now();
    let mut mails = take_mails(conn, now.plus(lease).0, now.0, now.0, i64::from(limit))?
        .into_iter()
        .map(|(id, conversation, user, attempts, created_at, message_id)| {
            Ok(LeasedMail {
                id,
                conversation: rows::conversation_id(&conversation)?,
                user: rows::user_id(user)?,
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                created_at: Timestamp(created_at),
                message_id: rows::uuid(&message_id)?,
            })
        })
        .collect::<Result<Vec<_>, Fault>>()?;
    // RETURNING promises no order.
    mails.sort_unstable_by_key(|mail| mail.id);
    Ok(mails)
}

fn letter(conn: &mut SqliteConnection, mail: i64) -> Result<Option<Letter>, Fault> {
    let Some((key, user, from, to)) = select_mail(conn, mail)?.into_iter().next() else { return Ok(None) };
    let Some(recipient) = users::by_id(conn, rows::user_id(user)?)?.filter(|user| !user.disabled) else {
        return Ok(None);
    };
    let (recipient_name, Some(email)) = (recipient.display_name(), recipient.email) else { return Ok(None) };
    let Some((count, Some(from), Some(to))) = select_extent(conn, key, from, to, user)?.into_iter().next()
    else {
        return Ok(None);
    };
    let messages = select_contents(conn, key, from, to, user, CONTENTS_MAX)?;
    let Some(&(sender, _)) = messages.first() else { return Ok(None) };
    Ok(Some(Letter {
        recipient_name,
        email,
        sender_name: name_of(conn, rows::user_id(sender)?)?,
        count: u32::try_from(count).unwrap_or(u32::MAX),
        contents: messages.into_iter().map(|(_, content)| content).collect(),
        from: Seq(from),
        to: Seq(to),
    }))
}

/// What others see, also of somebody without a row.
fn name_of(conn: &mut SqliteConnection, id: UserId) -> Result<String, Fault> {
    let nobody = User {
        id,
        external_id: None,
        name: String::new(),
        email: None,
        disabled: false,
        time_zone: None,
        language: None,
    };
    Ok(users::by_id(conn, id)?.unwrap_or(nobody).display_name())
}

statement!(
    fn take_mails(until: i64, now: i64, free: i64, limit: i64) -> (i64, String, i64, i64, i64, Vec<u8>) =
        "UPDATE mails SET attempts = attempts + 1, lease_until = ?
         WHERE id IN (SELECT id FROM mails
                      WHERE state = 'waiting' AND next_attempt_at <= ? AND lease_until <= ?
                      ORDER BY next_attempt_at, id LIMIT ?)
         RETURNING id,
             (SELECT c.id FROM conversations AS c WHERE c.conversation_key = mails.conversation_key),
             user_id, attempts - 1, created_at, message_id"
);

statement!(
    fn end_leases() = "UPDATE mails SET lease_until = 0 WHERE state = 'waiting' AND lease_until > 0"
);

statement!(
    fn select_mail(mail: i64) -> (i64, i64, i64, i64) =
        "SELECT p.conversation_key, p.user_id, max(p.from_seq, m.delivered + 1, m.read + 1), p.to_seq
         FROM mails AS p
         JOIN members AS m ON m.conversation_key = p.conversation_key AND m.user_id = p.user_id
         WHERE p.id = ? AND p.state = 'waiting'"
);

statement!(
    fn select_extent(key: i64, from: i64, to: i64, user: i64) -> (i64, Option<i64>, Option<i64>) =
        "SELECT count(*), min(seq), max(seq) FROM events
         WHERE conversation_key = ? AND seq BETWEEN ? AND ? AND sender_id <> ? AND kind = 'message'
             AND deleted_at IS NULL"
);

statement!(
    fn select_contents(key: i64, from: i64, to: i64, user: i64, limit: i64) -> (i64, String) =
        "SELECT sender_id, content FROM events
         WHERE conversation_key = ? AND seq BETWEEN ? AND ? AND sender_id <> ? AND kind = 'message'
             AND deleted_at IS NULL
         ORDER BY seq LIMIT ?"
);

statement!(
    fn end(state: &'a str, reason: Option<&'a str>, now: i64, mail: i64) =
        "UPDATE mails SET state = ?, reason = ?, settled_at = ?, lease_until = 0
         WHERE id = ? AND state = 'waiting'"
);

statement!(
    fn postpone(next_attempt_at: i64, reason: &'a str, mail: i64) =
        "UPDATE mails SET next_attempt_at = ?, reason = ?, lease_until = 0 WHERE id = ? AND state = 'waiting'"
);

statement!(
    fn give_back(reason: &'a str, mail: i64) =
        "UPDATE mails SET attempts = max(attempts - 1, 0), reason = ?, lease_until = 0
         WHERE id = ? AND state = 'waiting'"
);

statement!(
    fn select_due_at(conversation: &'a str) -> (i64,) =
        "SELECT d.due_at FROM conversations AS c
         JOIN notify_due AS d ON d.conversation_key = c.conversation_key WHERE c.id = ?"
);

statement!(
    fn select_next_work() -> (Option<i64>,) =
        "SELECT min(at) FROM (
             SELECT min(due_at) AS at FROM notify_due
             UNION ALL
             SELECT min(max(next_attempt_at, lease_until)) FROM mails WHERE state = 'waiting')"
);
