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

use std::collections::HashMap;

use diesel_async::AsyncPgConnection;

use super::error::Fault;
use super::notifications::millis;
use super::rows;
use super::seek::{covers_head, seek};
use super::statement::{now_ms, statement};
use crate::domain::{ConversationId, Timestamp};
use crate::storage::{DuePolicy, Raised};

/// How soon to look again at what is due but not yet published to the nodes: something is wrong with them.
const UNPUBLISHED_MS: i64 = 1_000;
/// How soon to look again at what has not been published for a whole grace: a moment more will do.
const UNSETTLED_MS: i64 = 250;
const DAY_MS: i64 = 24 * 60 * 60 * 1_000;

/// Raises what is due, inside the caller's transaction.
pub(super) async fn raise(conn: &AsyncPgConnection, policy: &DuePolicy) -> Result<Raised, Fault> {
    let taken = take_due(conn, i64::from(policy.limit)).await?;
    let mut decided = Decided::new(&taken)?;
    if !taken.is_empty() {
        let keys: Vec<i64> = taken.iter().map(|row| row.0).collect();
        let (published, settled) = (&policy.published, &policy.settled);
        let behind = select_behind(
            conn,
            published.log.0,
            &published.offsets,
            settled.log.0,
            &settled.offsets,
            &keys,
        )
        .await?;
        let waiting: Vec<Waiting> = behind.into_iter().filter_map(|row| decided.look(row)).collect();
        if !waiting.is_empty() {
            let people = People::lock(conn, &waiting, decided.now).await?;
            decided.judge(policy, waiting, people)?;
        }
        decided.write(conn).await?;
    }
    let next_due = select_next_due(conn).await?;
    decided.raised.next_due = next_due.first().and_then(|&(due_at,)| due_at).map(Timestamp);
    Ok(decided.raised)
}

/// A member for whom it is time.
struct Waiting {
    key: i64,
    user: i64,
    /// The first message of others that the member has neither confirmed nor been told of.
    first: i64,
    due_at: i64,
    /// What a mail tells of ends here.
    published: i64,
    /// When the first message of others behind that is due.
    later_due_at: Option<i64>,
}

/// What is known of the people for whom it is time.
#[derive(Default)]
struct People {
    /// Whether they are disabled, and whether they have an address.
    known: HashMap<i64, (bool, bool)>,
    /// When the last mail of a conversation to a member was raised.
    last_mails: HashMap<(i64, i64), i64>,
    /// Mails of the last 24 hours.
    today: HashMap<i64, i64>,
}

impl People {
    /// Reads it, and holds the people until the transaction ends: whoever raises mails for one of them at the
    /// same time counts those of this transaction.
    async fn lock(conn: &AsyncPgConnection, waiting: &[Waiting], now: i64) -> Result<Self, Fault> {
        let keys: Vec<i64> = waiting.iter().map(|each| each.key).collect();
        let users: Vec<i64> = waiting.iter().map(|each| each.user).collect();
        let mut people = Self::default();
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
}

/// What is to be done about a member.
enum Verdict {
    Mail,
    Skip(&'static str),
    WaitUntil(i64),
}

/// A conversation in hand.
struct Due {
    conversation: ConversationId,
    grace_ms: i64,
    /// When to look at it again.
    next: Option<i64>,
}

impl Due {
    fn look_again(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Rows of `mails`, column by column.
#[derive(Default)]
struct Mails {
    keys: Vec<i64>,
    users: Vec<i64>,
    from: Vec<i64>,
    to: Vec<i64>,
    reasons: Vec<Option<&'static str>>,
}

/// `notified` of members, column by column.
#[derive(Default)]
struct Notified {
    keys: Vec<i64>,
    users: Vec<i64>,
    to: Vec<i64>,
}

impl Notified {
    fn push(&mut self, key: i64, user: i64, to: i64) {
        self.keys.push(key);
        self.users.push(user);
        self.to.push(to);
    }
}

/// What becomes of the conversations in hand.
struct Decided {
    now: i64,
    due: HashMap<i64, Due>,
    mails: Mails,
    notified: Notified,
    raised: Raised,
}

impl Decided {
    fn new(taken: &[DueRow]) -> Result<Self, Fault> {
        let due = taken
            .iter()
            .map(|(key, id, grace_ms, _)| {
                let conversation = rows::conversation_id(id)?;
                Ok((*key, Due { conversation, grace_ms: *grace_ms, next: None }))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            now: taken.first().map_or(0, |row| row.3),
            due,
            mails: Mails::default(),
            notified: Notified::default(),
            raised: Raised::default(),
        })
    }

    /// Whether it is time for a member; else when it is.
    fn look(&mut self, row: BehindRow) -> Option<Waiting> {
        let (key, user, (head, published, settled), first, later) = row;
        let due = self.due.get_mut(&key)?;
        let Some(first_seq) = first.0 else {
            // All of it is the member's own: the next look begins after it, however much that is.
            self.notified.push(key, user, head);
            return None;
        };
        let grace_ms = due.grace_ms;
        let due_at = |stored_at: i64| stored_at.saturating_add(grace_ms);
        let first_due_at = due_at(first.1.unwrap_or_default());
        if first_due_at > self.now {
            due.look_again(first_due_at);
        } else if first_seq > published {
            due.look_again(self.now + UNPUBLISHED_MS);
        } else if first_seq > settled {
            due.look_again(self.now + UNSETTLED_MS);
        } else {
            let later_due_at = later.map(due_at);
            return Some(Waiting {
                key,
                user,
                first: first_seq,
                due_at: first_due_at,
                published,
                later_due_at,
            });
        }
        None
    }

    /// Decides about those for whom it is time, the longest due first.
    fn judge(
        &mut self,
        policy: &DuePolicy,
        mut waiting: Vec<Waiting>,
        mut people: People,
    ) -> Result<(), Fault> {
        waiting.sort_by_key(|each| each.due_at);
        for each in waiting {
            let reason = match verdict(policy, self.now, &each, &people) {
                Verdict::Mail => None,
                Verdict::Skip(reason) => Some(reason),
                Verdict::WaitUntil(at) => {
                    if let Some(due) = self.due.get_mut(&each.key) {
                        due.look_again(at);
                    }
                    continue;
                }
            };
            let Waiting { key, user, first, published, later_due_at, .. } = each;
            self.mails.keys.push(key);
            self.mails.users.push(user);
            self.mails.from.push(first);
            self.mails.to.push(published);
            self.mails.reasons.push(reason);
            self.notified.push(key, user, published);
            let Some(due) = self.due.get_mut(&key) else { continue };
            match reason {
                Some(reason) => {
                    self.raised.skipped.push((due.conversation, rows::user_id(user)?, reason));
                }
                None => {
                    self.raised.mails += 1;
                    *people.today.entry(user).or_default() += 1;
                }
            }
            if let Some(at) = later_due_at {
                // It is not published yet, or it would be in this mail.
                due.look_again(at.max(self.now + UNPUBLISHED_MS));
            }
        }
        Ok(())
    }

    /// Writes it down; the statements travel together.
    async fn write(&self, conn: &AsyncPgConnection) -> Result<(), Fault> {
        let Mails { keys, users, from, to, reasons } = &self.mails;
        let (mut moved, mut moments, mut done) = (Vec::new(), Vec::new(), Vec::new());
        for (key, due) in &self.due {
            match due.next {
                Some(at) => {
                    moved.push(*key);
                    moments.push(at);
                }
                None => done.push(*key),
            }
        }
        let (mails, notified, moved, done) = futures_util::join!(
            insert_mails(conn, keys, users, from, to, reasons),
            set_notified(conn, &self.notified.keys, &self.notified.users, &self.notified.to),
            move_due(conn, &moved, &moments),
            delete_due(conn, &done),
        );
        (mails?, notified?, moved?, done?);
        Ok(())
    }
}

fn verdict(policy: &DuePolicy, now: i64, waiting: &Waiting, people: &People) -> Verdict {
    match people.known.get(&waiting.user) {
        Some((true, _)) => return Verdict::Skip("disabled"),
        Some((_, false)) | None => return Verdict::Skip("no_address"),
        Some(_) => {}
    }
    let interval = millis(policy.min_interval);
    let last_mail = people.last_mails.get(&(waiting.key, waiting.user));
    let allowed_at = last_mail.map_or(i64::MIN, |at| at.saturating_add(interval));
    if interval > 0 && allowed_at > now {
        return Verdict::WaitUntil(allowed_at);
    }
    // Waiting for the interval is not being overdue.
    let since = if interval > 0 { waiting.due_at.max(allowed_at) } else { waiting.due_at };
    if now.saturating_sub(since) > millis(policy.max_age) {
        return Verdict::Skip("too_old");
    }
    if people.today.get(&waiting.user).is_some_and(|&today| today >= i64::from(policy.per_day)) {
        return Verdict::Skip("capped");
    }
    Verdict::Mail
}

/// Key, id, grace, and the present moment.
type DueRow = (i64, String, i64, i64);

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

/// Key, user, how far the conversation goes, is published and is settled, seq and time of the first message of
/// others that waits, and the time of the first one that is not published.
type BehindRow = (i64, i64, (i64, i64, i64), (Option<i64>, Option<i64>), Option<i64>);

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
