//! Due conversations become mails, or recorded reasons why there is none.
//!
//! A conversation is looked at when its row in `notify_due` says so. Each member counts from the first message
//! of others that is neither confirmed nor told of: it is due a grace after it was stored. What a member gets
//! then is one mail for everything published by now, and `notified` moves there, so that what comes later
//! begins anew. The row moves to the next moment at which somebody is due, or goes.

use diesel::sqlite::SqliteConnection;

use super::error::Fault;
use super::rows;
use super::seek::{self, Reach};
use super::statement::statement;
use super::users;
use crate::domain::{ConversationId, Seq, Timestamp, UserId};
use crate::storage::{DuePolicy, Raised};

/// How soon to look again at what is due but not yet published to the nodes: something is wrong with them.
const UNPUBLISHED_MS: i64 = 1_000;
/// How soon to look again at what has not been published for a whole grace: a moment more will do.
const UNSETTLED_MS: i64 = 250;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// A conversation whose time has come.
struct Due {
    conversation: ConversationId,
    reach: Reach,
    grace_ms: i64,
}

/// The first message of others that a member has neither confirmed nor been told of.
struct Waiting {
    user: UserId,
    first: Seq,
    due_at: i64,
}

/// What is to be done about a member.
enum Verdict {
    Mail,
    Skip(&'static str),
    WaitUntil(i64),
}

/// Raises what is due, inside the caller's transaction.
pub(super) fn raise(
    conn: &mut SqliteConnection,
    policy: &DuePolicy,
    now: Timestamp,
) -> Result<Raised, Fault> {
    let mut raised = Raised::default();
    for (key, id, grace_ms, last, (log, partition, offset)) in
        select_due(conn, now.0, i64::from(policy.limit))?
    {
        let reach = Reach { key, last: Seq(last), last_position: rows::position(log, partition, offset)? };
        let due = Due { conversation: rows::conversation_id(&id)?, reach, grace_ms };
        match raise_conversation(conn, policy, now, &due, &mut raised)? {
            Some(next) => move_due(conn, next, key)?,
            None => delete_due(conn, key)?,
        };
    }
    raised.next_due = select_next_due(conn)?.first().and_then(|&(due_at,)| due_at).map(Timestamp);
    Ok(raised)
}

/// Returns when the conversation is to be looked at again.
fn raise_conversation(
    conn: &mut SqliteConnection,
    policy: &DuePolicy,
    now: Timestamp,
    due: &Due,
    raised: &mut Raised,
) -> Result<Option<i64>, Fault> {
    let mut next: Option<i64> = None;
    let mut look_again = |at: i64| next = Some(next.map_or(at, |earlier| earlier.min(at)));
    for (user, told) in select_behind(conn, due.reach.key, due.reach.last.0)? {
        let user = rows::user_id(user)?;
        let Some(waiting) = first_waiting(conn, due, user, told)? else {
            // All of it is the member's own: the next look begins after it, however much that is.
            set_notified(conn, due.reach.last.0, due.reach.key, user.get())?;
            continue;
        };
        if waiting.due_at > now.0 {
            look_again(waiting.due_at);
            continue;
        }
        let published = seek::covered(conn, &due.reach, Seq(told), &policy.published)?;
        if waiting.first > published {
            look_again(now.0 + UNPUBLISHED_MS);
            continue;
        }
        if waiting.first > seek::covered(conn, &due.reach, Seq(told), &policy.settled)? {
            look_again(now.0 + UNSETTLED_MS);
            continue;
        }
        let (state, reason) = match judge(conn, policy, now, due, &waiting)? {
            Verdict::WaitUntil(at) => {
                look_again(at);
                continue;
            }
            Verdict::Mail => ("waiting", None),
            Verdict::Skip(reason) => ("skipped", Some(reason)),
        };
        let settled_at = reason.map(|_| now.0);
        let message_id = uuid::Uuid::new_v4();
        let (from, to) = (waiting.first.0, published.0);
        insert_mail(
            conn,
            due.reach.key,
            user.get(),
            from,
            to,
            message_id.as_bytes(),
            state,
            reason,
            now.0,
            now.0,
            settled_at,
        )?;
        set_notified(conn, to, due.reach.key, user.get())?;
        match reason {
            Some(reason) => raised.skipped.push((due.conversation, user, reason)),
            None => raised.mails += 1,
        }
        if let Some(later) = first_waiting(conn, due, user, to)? {
            // It is not published yet, or it would be in this mail.
            look_again(later.due_at.max(now.0 + UNPUBLISHED_MS));
        }
    }
    Ok(next)
}

fn first_waiting(
    conn: &mut SqliteConnection,
    due: &Due,
    user: UserId,
    told: i64,
) -> Result<Option<Waiting>, Fault> {
    let rows = select_first_of_others(conn, due.reach.key, told, user.get())?;
    Ok(rows.first().map(|&(seq, stored_at)| Waiting {
        user,
        first: Seq(seq),
        due_at: stored_at.saturating_add(due.grace_ms),
    }))
}

fn judge(
    conn: &mut SqliteConnection,
    policy: &DuePolicy,
    now: Timestamp,
    due: &Due,
    waiting: &Waiting,
) -> Result<Verdict, Fault> {
    let user = waiting.user.get();
    match users::by_id(conn, waiting.user)? {
        Some(known) if known.disabled => return Ok(Verdict::Skip("disabled")),
        Some(known) if known.email.is_none() => return Ok(Verdict::Skip("no_address")),
        None => return Ok(Verdict::Skip("no_address")),
        Some(_) => {}
    }
    let interval = i64::try_from(policy.min_interval.as_millis()).unwrap_or(i64::MAX);
    let last_mail = select_last_mail(conn, due.reach.key, user)?.first().and_then(|&(at,)| at);
    let allowed_at = last_mail.map_or(i64::MIN, |at| at.saturating_add(interval));
    if interval > 0 && allowed_at > now.0 {
        return Ok(Verdict::WaitUntil(allowed_at));
    }
    // Waiting for the interval is not being overdue.
    let since = if interval > 0 { waiting.due_at.max(allowed_at) } else { waiting.due_at };
    let max_age = i64::try_from(policy.max_age.as_millis()).unwrap_or(i64::MAX);
    if now.0.saturating_sub(since) > max_age {
        return Ok(Verdict::Skip("too_old"));
    }
    let today = count_mails(conn, user, now.0 - DAY_MS)?.first().map_or(0, |&(count,)| count);
    if today >= i64::from(policy.per_day) {
        return Ok(Verdict::Skip("capped"));
    }
    Ok(Verdict::Mail)
}

statement!(
    fn select_due(now: i64, limit: i64) -> (i64, String, i64, i64, (i32, i64, i64)) =
        "SELECT c.conversation_key, c.id, d.grace_ms, c.last_seq, c.last_log, c.last_partition, c.last_offset
         FROM notify_due AS d JOIN conversations AS c ON c.conversation_key = d.conversation_key
         WHERE d.due_at <= ? ORDER BY d.due_at LIMIT ?"
);

statement!(
    fn select_next_due() -> (Option<i64>,) = "SELECT min(due_at) FROM notify_due"
);

statement!(
    fn move_due(due_at: i64, key: i64) = "UPDATE notify_due SET due_at = ? WHERE conversation_key = ?"
);

statement!(fn delete_due(key: i64) = "DELETE FROM notify_due WHERE conversation_key = ?");

statement!(
    fn select_behind(key: i64, last: i64) -> (i64, i64) =
        "SELECT user_id, max(delivered, read, notified) FROM members
         WHERE conversation_key = ? AND max(delivered, read, notified) < ? ORDER BY user_id"
);

statement!(
    fn select_first_of_others(key: i64, told: i64, user: i64) -> (i64, i64) =
        "SELECT seq, stored_at FROM events
         WHERE conversation_key = ? AND seq > ? AND sender_id <> ? AND kind = 'message' AND deleted_at IS NULL
         ORDER BY seq LIMIT 1"
);

statement!(
    fn select_last_mail(key: i64, user: i64) -> (Option<i64>,) =
        "SELECT max(created_at) FROM mails
         WHERE conversation_key = ? AND user_id = ? AND state IN ('waiting', 'sent')"
);

statement!(
    fn count_mails(user: i64, since: i64) -> (i64,) =
        "SELECT count(*) FROM mails WHERE user_id = ? AND created_at > ? AND state IN ('waiting', 'sent')"
);

statement!(
    fn insert_mail(
        key: i64,
        user: i64,
        from: i64,
        to: i64,
        message_id: &'a [u8],
        state: &'a str,
        reason: Option<&'a str>,
        next_attempt_at: i64,
        created_at: i64,
        settled_at: Option<i64>,
    ) = "INSERT INTO mails (conversation_key, user_id, from_seq, to_seq, message_id, state, reason,
         next_attempt_at, created_at, settled_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
);

statement!(
    fn set_notified(to: i64, key: i64, user: i64) =
        "UPDATE members SET notified = ? WHERE conversation_key = ? AND user_id = ?"
);
