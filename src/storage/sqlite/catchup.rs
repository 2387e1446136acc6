//! `Catchup` on SQLite.

use std::collections::HashMap;
use std::fmt::Write;

use async_trait::async_trait;
use diesel::sqlite::SqliteConnection;

use super::SqliteStore;
use super::error::Fault;
use super::receipts::receipt;
use super::rows::{self, RejectionRow, rejection_columns};
use super::seek::{self, Reach};
use super::statement::statement;
use crate::domain::{ConversationId, ConversationKey, Frontier, Rejection, Seq, UserId};
use crate::storage::{Catchup, Missed, Receipt, Since, StorageError};

/// Conversations that are looked at in one go.
const STRIDE: i64 = 500;
/// `unread` counts no further.
const UNREAD_MAX: i64 = 1_000;

#[async_trait]
impl Catchup for SqliteStore {
    async fn missed(
        &self,
        user: UserId,
        since: &Since,
        until: &Frontier,
        after: Option<ConversationKey>,
        limit: u32,
    ) -> Result<Vec<Missed>, StorageError> {
        let (since, until) = (since.clone(), until.clone());
        self.read(move |conn| missed(conn, user, &since, &until, after, limit)).await
    }

    async fn rejections(
        &self,
        user: UserId,
        since: Option<&Frontier>,
        until: &Frontier,
        limit: u32,
    ) -> Result<Vec<Rejection>, StorageError> {
        let (since, until) = (since.cloned(), until.clone());
        self.read(move |conn| rejections(conn, user, since.as_ref(), &until, limit)).await
    }
}

/// A conversation with something missed, before its receipts are known.
struct Found {
    conversation: ConversationId,
    key: i64,
    read: Seq,
    from: Seq,
    to: Seq,
}

fn missed(
    conn: &mut SqliteConnection,
    user: UserId,
    since: &Since,
    until: &Frontier,
    after: Option<ConversationKey>,
    limit: u32,
) -> Result<Vec<Missed>, Fault> {
    let limit = limit as usize;
    let mut found: Vec<Found> = Vec::new();
    let mut after = after.map_or(i64::MIN, |key| key.0);
    // What lies within `until` is only known once it is looked at.
    while found.len() < limit {
        let page = candidates(conn, user, since, after)?;
        let Some(last) = page.last() else { break };
        after = last.1;
        for row in page {
            found.extend(look(conn, since, until, row)?);
        }
    }
    found.truncate(limit);
    let mut receipts = receipts_of(conn, &found)?;
    found
        .into_iter()
        .map(|each| {
            let unread = count_unread(conn, each.key, each.read.0, each.to.0, user.get(), UNREAD_MAX)?;
            let unread = unread.first().map_or(0, |&(count,)| count);
            Ok(Missed {
                key: ConversationKey(each.key),
                conversation: each.conversation,
                from: each.from,
                to: each.to,
                unread: u32::try_from(unread).unwrap_or(u32::MAX),
                receipts: receipts.remove(&each.key).unwrap_or_default(),
            })
        })
        .collect()
}

/// id, key, last seq, delivered, read, and the position of the last event.
type CandidateRow = (String, i64, i64, i64, i64, (i32, i64, i64));

/// The next conversations after a key whose last event lies after `since`.
fn candidates(
    conn: &mut SqliteConnection,
    user: UserId,
    since: &Since,
    after: i64,
) -> Result<Vec<CandidateRow>, Fault> {
    let user = user.get();
    Ok(match since {
        Since::Frontier(frontier) => {
            let (log, offsets) = (frontier.log.0, json_offsets(frontier));
            select_beyond(conn, user, after, log, log, &offsets, STRIDE)?
        }
        Since::Confirmed => select_unconfirmed(conn, user, after, STRIDE)?,
        Since::Beginning => select_all(conn, user, after, STRIDE)?,
    })
}

fn look(
    conn: &mut SqliteConnection,
    since: &Since,
    until: &Frontier,
    (id, key, last, delivered, read, (log, partition, offset)): CandidateRow,
) -> Result<Option<Found>, Fault> {
    let reach = Reach { key, last: Seq(last), last_position: rows::position(log, partition, offset)? };
    let known = match since {
        Since::Frontier(frontier) => seek::covered(conn, &reach, Seq(0), frontier)?,
        Since::Confirmed => Seq(delivered),
        Since::Beginning => Seq(0),
    };
    let to = seek::covered(conn, &reach, known, until)?;
    if to <= known {
        return Ok(None);
    }
    let conversation = rows::conversation_id(&id)?;
    Ok(Some(Found { conversation, key, read: Seq(read), from: known.next(), to }))
}

fn receipts_of(
    conn: &mut SqliteConnection,
    conversations: &[Found],
) -> Result<HashMap<i64, Vec<Receipt>>, Fault> {
    let mut names = HashMap::with_capacity(conversations.len());
    let mut keys = String::from("[");
    for each in conversations {
        let separator = if names.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(keys, "{separator}{}", each.key);
        names.insert(each.key, each.conversation);
    }
    keys.push(']');
    let mut receipts: HashMap<i64, Vec<Receipt>> = HashMap::with_capacity(conversations.len());
    for (key, user, delivered, read) in select_receipts(conn, &keys)? {
        if let Some(&conversation) = names.get(&key) {
            receipts.entry(key).or_default().push(receipt(conversation, user, delivered, read)?);
        }
    }
    Ok(receipts)
}

fn rejections(
    conn: &mut SqliteConnection,
    user: UserId,
    since: Option<&Frontier>,
    until: &Frontier,
    limit: u32,
) -> Result<Vec<Rejection>, Fault> {
    let (until_log, until_offsets) = (until.log.0, json_offsets(until));
    // Before the first log: everything.
    let (since_log, since_offsets) = since.map_or((0, "[]".to_owned()), |f| (f.log.0, json_offsets(f)));
    let rows = select_rejections(
        conn,
        user.get(),
        since_log,
        since_log,
        &since_offsets,
        until_log,
        until_log,
        &until_offsets,
        i64::from(limit),
    )?;
    // The newest were taken; they are told oldest first.
    rows.into_iter().rev().map(rows::rejection).collect()
}

/// The offsets as a JSON array, for `offsets ->> partition`.
fn json_offsets(frontier: &Frontier) -> String {
    let mut json = String::from("[");
    for (index, offset) in frontier.offsets.iter().enumerate() {
        let separator = if index == 0 { "" } else { "," };
        let _ = write!(json, "{separator}{offset}");
    }
    json.push(']');
    json
}

macro_rules! candidates_where {
    ($condition:literal) => {
        concat!(
            "SELECT c.id, c.conversation_key, c.last_seq, m.delivered, m.read, c.last_log, c.last_partition,
                    c.last_offset
             FROM members AS m CROSS JOIN conversations AS c ON c.conversation_key = m.conversation_key
             WHERE m.user_id = ? AND m.conversation_key > ? AND ",
            $condition,
            " ORDER BY m.conversation_key LIMIT ?"
        )
    };
}

statement!(
    fn select_beyond(
        user: i64,
        after: i64,
        earlier: i32,
        log: i32,
        offsets: &'a str,
        limit: i64,
    ) -> CandidateRow = candidates_where!(
        "(c.last_log > ? OR (c.last_log = ? AND c.last_offset > coalesce(? ->> c.last_partition, -1)))"
    )
);

statement!(
    fn select_unconfirmed(user: i64, after: i64, limit: i64) -> CandidateRow =
        candidates_where!("c.last_seq > m.delivered")
);

statement!(
    fn select_all(user: i64, after: i64, limit: i64) -> CandidateRow = candidates_where!("c.last_seq > 0")
);

statement!(
    fn select_receipts(keys: &'a str) -> (i64, i64, i64, i64) =
        "SELECT m.conversation_key, m.user_id, m.delivered, m.read
         FROM json_each(?) AS asked CROSS JOIN members AS m ON m.conversation_key = asked.value
         ORDER BY m.conversation_key, m.user_id"
);

statement!(
    fn count_unread(key: i64, read: i64, to: i64, user: i64, limit: i64) -> (i64,) =
        "SELECT count(*) FROM (
             SELECT 1 FROM events
             WHERE conversation_key = ? AND seq > ? AND seq <= ? AND sender_id <> ? AND kind = 'message'
                 AND deleted_at IS NULL
             LIMIT ?)"
);

statement!(
    fn select_rejections(
        user: i64,
        since_earlier: i32,
        since_log: i32,
        since_offsets: &'a str,
        until_later: i32,
        until_log: i32,
        until_offsets: &'a str,
        limit: i64,
    ) -> RejectionRow = concat!(
        "SELECT ", rejection_columns!(), " FROM rejections
         WHERE sender_id = ?
           AND (log_number > ? OR (log_number = ? AND log_offset > coalesce(? ->> partition, -1)))
           AND (log_number < ? OR (log_number = ? AND log_offset <= coalesce(? ->> partition, -1)))
         ORDER BY id DESC LIMIT ?"
    )
);
