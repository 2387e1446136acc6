//! Due conversations become mails, or recorded reasons why there is none.
//!
//! A conversation is looked at when its row in `notify_due` says so. Each member counts from the first message
//! of others that is neither confirmed nor told of: it is due a grace after it was stored. What a member gets
//! then is one mail for everything published by now, and `notified` moves there, so that what comes later
//! begins anew. The row moves to the next moment at which somebody is due, or goes.
//!
//! Several workers at once: the row in `notify_due` is locked, and one that another worker has in hand is passed
//! over. So is a conversation with an `apply` under way, and while one is in hand here no `apply` adds to it:
//! else the row could go because nobody waits, just as a message comes for which it would have been kept. An
//! `apply` makes the row after it has moved the conversation's head, and so finds what was decided here. Members
//! are counted as one: the people of a mail are locked before their mails of the day are counted.

use diesel_async::AsyncPgConnection;

use super::decide::{BehindRow, Decided, DueRow, Mails, People, Waiting};
use super::error::Fault;
use super::seek::{covers_head, seek};
use super::statement::{now_ms, statement};
use crate::domain::Timestamp;
use crate::storage::{DuePolicy, Raised};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Raises what is due, inside the caller's transaction.
pub(super) async fn raise(conn: &AsyncPgConnection, policy: &DuePolicy) -> Result<Raised, Fault> {
    let taken = take_due(conn, i64::from(policy.limit)).await?;
    let mut decided = Decided::new(&taken)?;
    if !taken.is_empty() {
        let keys: Vec<i64> = taken.iter().map(|row| row.0).collect();
        let (published, settled) = (&policy.published, &policy.settled);
        let behind =
            select_behind(conn, published.log.0, &published.offsets, settled.log.0, &settled.offsets, &keys)
                .await?;
        let waiting: Vec<Waiting> = behind.into_iter().filter_map(|row| decided.look(row)).collect();
        if !waiting.is_empty() {
            let people = lock_people(conn, &waiting, decided.now).await?;
            decided.judge(policy, waiting, people)?;
        }
        write(conn, &decided).await?;
    }
    let next_due = select_next_due(conn).await?;
    decided.raised.next_due = next_due.first().and_then(|&(due_at,)| due_at).map(Timestamp);
    Ok(decided.raised)
}

/// Reads what is known of the people for whom it is time, and holds them until the transaction ends: whoever raises mails for one of them at the
/// same time counts those of this transaction.
async fn lock_people(conn: &AsyncPgConnection, waiting: &[Waiting], now: i64) -> Result<People, Fault> {
    let keys: Vec<i64> = waiting.iter().map(|each| each.key).collect();
    let users: Vec<i64> = waiting.iter().map(|each| each.user).collect();
    let mut people = People::default();
    for (id, disabled, has_address) in lock_users(conn, &users).await? {
        people.known.insert(id, (disabled, has_address));
    }
    // A statement of its own: it sees what was committed before the locks were given.
    for (key, user, last_mail, today) in count_mails(conn, now - DAY_MS, &keys, &users).await? {
        people.last_mails.extend(last_mail.map(|at| ((key, user), at)));
        people.today.insert(user, today);
    }
    Ok(people)
}

/// Writes down what was decided; the statements travel together.
async fn write(conn: &AsyncPgConnection, decided: &Decided) -> Result<(), Fault> {
    let Mails { keys, users, from, to, reasons } = &decided.mails;
    let told = &decided.notified;
    let (moved, moments, done) = decided.next_looks();
    let (mails, notified, moved, done) = futures_util::join!(
        insert_mails(conn, keys, users, from, to, reasons),
        set_notified(conn, &told.keys, &told.users, &told.to),
        move_due(conn, &moved, &moments),
        delete_due(conn, &done),
    );
    mails?;
    notified?;
    moved?;
    done?;
    Ok(())
}

// Plan: `notify_due_by_time` from its beginning, conversations by key, until there are enough.
statement!(
    fn take_due(limit: i64) -> DueRow = concat!(
        "SELECT c.conversation_key, c.id, d.grace_ms, ", now_ms!(), "
         FROM notify_due AS d JOIN conversations AS c ON c.conversation_key = d.conversation_key
         WHERE d.due_at <= ", now_ms!(), "
         ORDER BY d.due_at LIMIT ?
         FOR UPDATE OF d SKIP LOCKED FOR SHARE OF c SKIP LOCKED"
    )
);

// Plan: everything by key, a few probes a conversation; 3 ms for 100 conversations.
statement!(
    fn select_behind(
        published_log: i32,
        published: &'a [i64],
        settled_log: i32,
        settled: &'a [i64],
        keys: &'a [i64],
    ) -> BehindRow = concat!(
        "WITH RECURSIVE frontier (aim, log, offsets) AS (
             VALUES (0, ?::integer, ?::bigint[]), (1, ?::integer, ?::bigint[])
         ), start (key, aim, low, high) AS (
             SELECT c.conversation_key, f.aim,
                 CASE WHEN ", covers_head!("f.log", "f.offsets"), " THEN c.last_seq ELSE 0 END, c.last_seq
             FROM conversations AS c CROSS JOIN frontier AS f WHERE c.conversation_key = ANY (?)
         ), ", seek!(), ", reach AS MATERIALIZED (
             SELECT key, max(high) AS head, max(low) FILTER (WHERE aim = 0) AS published,
                 max(low) FILTER (WHERE aim = 1) AS settled
             FROM seek GROUP BY key
         )
         SELECT m.conversation_key, m.user_id, r.head, r.published, r.settled, f.seq, f.stored_at, l.stored_at
         FROM reach AS r
         JOIN members AS m
             ON m.conversation_key = r.key AND greatest(m.delivered, m.read, m.notified) < r.head
         LEFT JOIN LATERAL (
             SELECT e.seq, e.stored_at FROM events AS e
             WHERE e.conversation_key = m.conversation_key AND e.kind = 'message' AND e.sender_id <> m.user_id
                 AND e.seq > greatest(m.delivered, m.read, m.notified)
             ORDER BY e.seq LIMIT 1) AS f ON true
         LEFT JOIN LATERAL (
             SELECT e.stored_at FROM events AS e
             WHERE e.conversation_key = m.conversation_key AND e.kind = 'message' AND e.sender_id <> m.user_id
                 AND e.seq > r.published
             ORDER BY e.seq LIMIT 1) AS l ON true
         ORDER BY m.conversation_key, m.user_id"
    )
);

statement!(
    fn lock_users(ids: &'a [i64]) -> (i64, bool, bool) =
        "SELECT id, disabled, email_verified AND email IS NOT NULL FROM users
         WHERE id = ANY (?) ORDER BY id FOR NO KEY UPDATE"
);

// Plan: `mails_by_member` backwards, `mails_by_user` over a day.
statement!(
    fn count_mails(since: i64, keys: &'a [i64], users: &'a [i64]) -> (i64, i64, Option<i64>, i64) =
        "SELECT a.key, a.user_id,
             (SELECT max(p.created_at) FROM mails AS p
              WHERE p.conversation_key = a.key AND p.user_id = a.user_id AND p.state IN ('waiting', 'sent')),
             (SELECT count(*) FROM mails AS p
              WHERE p.user_id = a.user_id AND p.created_at > ? AND p.state IN ('waiting', 'sent'))
         FROM unnest(?, ?) AS a (key, user_id)"
);

statement!(
    fn insert_mails(
        keys: &'a [i64],
        users: &'a [i64],
        from: &'a [i64],
        to: &'a [i64],
        reasons: &'a [Option<&'a str>],
    ) = concat!(
        "INSERT INTO mails (conversation_key, user_id, from_seq, to_seq, message_id, state, reason,
             next_attempt_at, created_at, settled_at)
         SELECT a.key, a.user_id, a.from_seq, a.to_seq, gen_random_uuid(),
             CASE WHEN a.reason IS NULL THEN 'waiting' ELSE 'skipped' END, a.reason, n.now, n.now,
             CASE WHEN a.reason IS NOT NULL THEN n.now END
         FROM unnest(?, ?, ?, ?, ?) AS a (key, user_id, from_seq, to_seq, reason)
         CROSS JOIN (SELECT ", now_ms!(), " AS now) AS n"
    )
);

// Members are locked in the order of their key, as in `receipts`.
statement!(
    fn set_notified(keys: &'a [i64], users: &'a [i64], to: &'a [i64]) =
        "WITH held AS MATERIALIZED (
             SELECT m.conversation_key, m.user_id, a.to_seq
             FROM unnest(?, ?, ?) AS a (key, user_id, to_seq)
             JOIN members AS m ON m.conversation_key = a.key AND m.user_id = a.user_id
             ORDER BY m.conversation_key, m.user_id
             FOR NO KEY UPDATE OF m
         )
         UPDATE members AS m SET notified = held.to_seq
         FROM held WHERE m.conversation_key = held.conversation_key AND m.user_id = held.user_id"
);

statement!(
    fn move_due(keys: &'a [i64], moments: &'a [i64]) =
        "UPDATE notify_due AS d SET due_at = a.due_at
         FROM unnest(?, ?) AS a (key, due_at) WHERE d.conversation_key = a.key"
);

statement!(
    fn delete_due(keys: &'a [i64]) = "DELETE FROM notify_due WHERE conversation_key = ANY (?)"
);

statement!(
    fn select_next_due() -> (Option<i64>,) = "SELECT min(due_at) FROM notify_due"
);
