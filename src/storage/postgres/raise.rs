//! Due conversations become mails, or recorded reasons why there is none.
//!
//! A conversation is looked at when its row in `notify_due` says so. Each member counts from the first message
//! of others that is neither confirmed nor told of: it is due a grace after it was stored. What a member gets
//! then is one mail for everything published by now, and `notified` moves there, so that what comes later
//! begins anew. The row moves to the next moment at which somebody is due, or goes.
//!
//! **Several workers at once.** A row of `notify_due` is locked by one worker, and passed over by the others. The
//! people of a mail are locked before their mails of the day are counted.
//!
//! **Beside those who apply.** A row goes, or moves, because nobody waits, and just then a message may come for
//! which it would have been kept. So at the end the conversation is locked, for as long as that takes, if nobody
//! is adding to it and nobody has since it was looked at; else its row stays, for a grace. Whoever applies makes
//! the row after the conversation's head has moved, and so finds what was decided here. What is due later than a
//! grace from now waits in `notify_later`, and does not stand in the way of a message that is due before.
//!
//! The commit waits for no disk: a crash of the database takes back what was raised, and it is raised again. A
//! mail is not sent before that has passed, as leasing it does wait.

use diesel_async::AsyncPgConnection;

use super::connection::Loan;
use super::decide::{BehindRow, Decided, DueRow, Looks, Mails, People, Waiting};
use super::error::Fault;
use super::seek::{covers_head, seek};
use super::statement::{now_ms, statement};
use crate::domain::Timestamp;
use crate::storage::{DuePolicy, Raised};

const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Raises what is due, inside the caller's transaction.
pub(super) async fn raise(conn: &Loan, policy: &DuePolicy) -> Result<Raised, Fault> {
    let limit = i64::from(policy.limit);
    let (hurried, ripe) =
        futures_util::join!(conn.command("SET LOCAL synchronous_commit = off"), bring_back(conn, limit),);
    hurried?;
    ripe?;
    let taken = take_due(conn, limit).await?;
    let mut decided = Decided::new(&taken)?;
    if !taken.is_empty() {
        let keys: Vec<i64> = taken.iter().map(|row| row.0).collect();
        let (published, settled) = (&policy.published, &policy.settled);
        let behind =
            select_behind(conn, published.log.0, &published.offsets, settled.log.0, &settled.offsets, &keys)
                .await?;
        let waiting: Vec<Waiting> = behind.into_iter().filter_map(|row| decided.look(row)).collect();
        if !waiting.is_empty() {
            let people = meet(conn, policy, &waiting, decided.now).await?;
            decided.judge(policy, waiting, people)?;
        }
        write(conn, &decided).await?;
    }
    let next_due = select_next_due(conn).await?;
    decided.raised.next_due = next_due.first().and_then(|&(due_at,)| due_at).map(Timestamp);
    Ok(decided.raised)
}

/// Reads what is known of the people for whom it is time. Where mails of a day are counted, the people are held
/// until the transaction ends: whoever raises mails for one of them at the same time counts those of this one.
async fn meet(
    conn: &AsyncPgConnection,
    policy: &DuePolicy,
    waiting: &[Waiting],
    now: i64,
) -> Result<People, Fault> {
    let keys: Vec<i64> = waiting.iter().map(|each| each.key).collect();
    let users: Vec<i64> = waiting.iter().map(|each| each.user).collect();
    let mut distinct = users.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let mut people = People::default();
    let is_capped = policy.per_day < u32::MAX;
    let known =
        if is_capped { lock_users(conn, &distinct).await? } else { select_users(conn, &distinct).await? };
    people.known.extend(known.into_iter().map(|(id, disabled, has_address)| (id, (disabled, has_address))));
    if is_capped {
        // A statement of its own: it sees what was committed before the locks were given.
        let per_day = i64::from(policy.per_day);
        people.today.extend(count_mails(conn, now - DAY_MS, per_day, &distinct).await?);
    }
    if !policy.min_interval.is_zero() {
        let mails = select_last_mails(conn, &keys, &users).await?;
        people.last_mails.extend(mails.into_iter().map(|(key, user, at)| ((key, user), at)));
    }
    Ok(people)
}

/// Writes down what was decided.
async fn write(conn: &AsyncPgConnection, decided: &Decided) -> Result<(), Fault> {
    let Mails { keys, users, from, to, reasons } = &decided.mails;
    let told = &decided.notified;
    let (mails, notified) = futures_util::join!(
        insert_mails(conn, keys, users, from, to, reasons),
        set_notified(conn, &told.keys, &told.users, &told.to),
    );
    mails?;
    notified?;
    let Looks { later, soon } = decided.looks();
    // In this order: whoever brings one back at the same time then waits for nothing that waits for it.
    if !later.keys.is_empty() {
        put_later(conn, &later.keys, &later.moments, &later.graces).await?;
    }
    settle_due(conn, &soon.keys, &soon.heads, &soon.moments, &soon.graces_end).await?;
    Ok(())
}

// Plan: `notify_later_by_time` from its beginning.
statement!(
    fn bring_back(limit: i64) = concat!(
        "WITH ripe AS (
             DELETE FROM notify_later
             WHERE conversation_key = ANY (ARRAY(
                 SELECT conversation_key FROM notify_later WHERE due_at <= ", now_ms!(), "
                 ORDER BY due_at LIMIT ? FOR UPDATE SKIP LOCKED))
             RETURNING conversation_key, due_at, grace_ms
         )
         INSERT INTO notify_due (conversation_key, due_at, grace_ms)
         SELECT conversation_key, due_at, grace_ms FROM ripe ON CONFLICT (conversation_key) DO NOTHING"
    )
);

// Plan: `notify_due_by_time` from its beginning, conversations by key, until there are enough.
statement!(
    fn take_due(limit: i64) -> DueRow = concat!(
        "SELECT c.conversation_key, c.id, d.grace_ms, c.last_seq, ", now_ms!(), "
         FROM notify_due AS d JOIN conversations AS c ON c.conversation_key = d.conversation_key
         WHERE d.due_at <= ", now_ms!(), "
         ORDER BY d.due_at LIMIT ? FOR UPDATE OF d SKIP LOCKED"
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
             WHERE e.conversation_key = m.conversation_key AND e.kind = 'message' AND e.deleted_at IS NULL
                 AND e.sender_id <> m.user_id AND e.seq > greatest(m.delivered, m.read, m.notified)
             ORDER BY e.seq LIMIT 1) AS f ON true
         LEFT JOIN LATERAL (
             SELECT e.stored_at FROM events AS e
             WHERE e.conversation_key = m.conversation_key AND e.kind = 'message' AND e.deleted_at IS NULL
                 AND e.sender_id <> m.user_id AND e.seq > r.published
             ORDER BY e.seq LIMIT 1) AS l ON true
         ORDER BY m.conversation_key, m.user_id"
    )
);

statement!(
    fn lock_users(ids: &'a [i64]) -> (i64, bool, bool) =
        "SELECT id, disabled, email_verified AND email IS NOT NULL FROM users
         WHERE id = ANY (?) ORDER BY id FOR NO KEY UPDATE"
);

statement!(
    fn select_users(ids: &'a [i64]) -> (i64, bool, bool) =
        "SELECT id, disabled, email_verified AND email IS NOT NULL FROM users WHERE id = ANY (?)"
);

// Plan: `mails_by_user` over a day, and no further than matters.
statement!(
    fn count_mails(since: i64, per_day: i64, users: &'a [i64]) -> (i64, i64) =
        "SELECT a.user_id, (SELECT count(*) FROM (
             SELECT FROM mails AS p
             WHERE p.user_id = a.user_id AND p.created_at > ? AND p.state IN ('waiting', 'sent') LIMIT ?) AS day)
         FROM unnest(?) AS a (user_id)"
);

// Plan: `mails_by_member`, backwards.
statement!(
    fn select_last_mails(keys: &'a [i64], users: &'a [i64]) -> (i64, i64, i64) =
        "SELECT a.key, a.user_id, p.created_at
         FROM unnest(?, ?) AS a (key, user_id)
         CROSS JOIN LATERAL (
             SELECT created_at FROM mails
             WHERE conversation_key = a.key AND user_id = a.user_id AND state IN ('waiting', 'sent')
             ORDER BY created_at DESC LIMIT 1) AS p"
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
    fn put_later(keys: &'a [i64], moments: &'a [i64], graces: &'a [i64]) =
        "INSERT INTO notify_later (conversation_key, due_at, grace_ms)
         SELECT a.key, a.due_at, a.grace_ms FROM unnest(?, ?, ?) AS a (key, due_at, grace_ms)
         ON CONFLICT (conversation_key) DO UPDATE SET due_at = excluded.due_at, grace_ms = excluded.grace_ms"
);

statement!(
    /// Moves or deletes rows of `notify_due`; those of conversations that somebody adds to, or has added to since
    /// their head was seen, stay until the end of a grace at most.
    fn settle_due(
        keys: &'a [i64],
        heads: &'a [i64],
        moments: &'a [Option<i64>],
        graces_end: &'a [i64],
    ) = "WITH asked AS MATERIALIZED (
             SELECT a.key, a.head, a.next_at, a.grace_end
             FROM unnest(?, ?, ?, ?) AS a (key, head, next_at, grace_end)
         ), quiet AS MATERIALIZED (
             SELECT c.conversation_key FROM asked AS a JOIN conversations AS c ON c.conversation_key = a.key
             WHERE c.last_seq = a.head
             FOR SHARE OF c SKIP LOCKED
         ), looks AS MATERIALIZED (
             SELECT a.key, CASE WHEN q.conversation_key IS NOT NULL THEN a.next_at
                 ELSE least(a.next_at, a.grace_end) END AS next_at
             FROM asked AS a LEFT JOIN quiet AS q ON q.conversation_key = a.key
         ), gone AS (
             DELETE FROM notify_due AS d USING looks AS l WHERE d.conversation_key = l.key AND l.next_at IS NULL
         )
         UPDATE notify_due AS d SET due_at = l.next_at
         FROM looks AS l WHERE d.conversation_key = l.key AND l.next_at IS NOT NULL"
);

statement!(
    fn select_next_due() -> (Option<i64>,) = "SELECT least(
         (SELECT min(due_at) FROM notify_due), (SELECT min(due_at) FROM notify_later))"
);
