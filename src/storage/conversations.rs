//! Port: a user's conversations as a list, by last activity.
//!
//! **Stable while messages arrive.** Activity only grows. So a conversation that did not change keeps its place,
//! and stands on exactly one page however the pages are asked for; one that changed has moved towards the front,
//! and stands on no page that comes after one it stood on.

use async_trait::async_trait;

use super::{PageOf, StorageError};
use crate::domain::ids::IdError;
use crate::domain::{ConversationId, ConversationKey, Event, ListPlace, Seq, Timestamp, UserId};

/// A conversation's place in its members' lists is renewed when it is so old, in milliseconds: a message then
/// costs a row a member once a minute and not each time (a group has 1,000). Whoever reads a list looks as much
/// further.
pub(in crate::storage) const LISTED_WITHIN_MS: i64 = 60_000;
/// Members named in a list.
pub const MEMBERS_MAX: i64 = 20;
/// `unread` counts no further.
pub(in crate::storage) const UNREAD_MAX: i64 = 1_000;
/// `unread` is looked for among so many of the newest events, since those who only write never read: at worst
/// 3 ms a conversation.
pub(in crate::storage) const UNREAD_AMONG: i64 = 5_000;
/// The last message is looked for among so many of the newest events.
pub(in crate::storage) const LAST_MESSAGE_AMONG: i64 = 1_000;

/// A conversation as one of its members sees it in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The conversation.
    pub conversation: ConversationId,
    /// Where in the list it stands.
    pub place: ListPlace,
    /// Its last event.
    pub last_seq: Seq,
    /// Its last message; `None` where the last 1,000 events are none.
    pub last_message: Option<Event>,
    /// Others' messages after the user's own `read` that were not deleted, at most 1,000, of the last 5,000 events.
    pub unread: u32,
    /// The user, then other members by id, at most `MEMBERS_MAX`.
    pub members: Vec<ListedMember>,
    /// How many members there are.
    pub members_count: u32,
}

/// A member as a list names one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedMember {
    /// Who.
    pub user: UserId,
    /// The name; empty where none is set.
    pub name: String,
    /// Confirmed without a hole up to here.
    pub delivered: Seq,
    /// Read up to here.
    pub read: Seq,
}

/// Lists of conversations.
#[async_trait]
pub trait Conversations: Send + Sync {
    /// The user's conversations that have events, those with the latest activity first, at most `limit` of those
    /// after a place. Two statements whatever their number, and no whole conversation is read; beside those
    /// answered, the ones are looked at that were active in the same minute as the last of them.
    async fn conversations(
        &self,
        user: UserId,
        after: Option<ListPlace>,
        limit: u32,
    ) -> Result<PageOf<Listed>, StorageError>;

    /// One of them; `None` where the user is no member, or it has no events.
    async fn conversation(
        &self,
        user: UserId,
        conversation: ConversationId,
    ) -> Result<Option<Listed>, StorageError>;
}

/// A row of a list as both adapters read it: key, id, last seq and its moment, unread, members as a JSON array of
/// [id, name, delivered, read], and their number.
pub(in crate::storage) type ListedRow = (i64, String, i64, i64, i64, String, i64);

/// What a row says, before its last message is known; else why it makes no sense.
pub(in crate::storage) fn listed(row: ListedRow) -> Result<Listed, String> {
    let (key, id, last_seq, last_at, unread, members, count) = row;
    let members: Vec<(UserId, String, Seq, Seq)> =
        serde_json::from_str(&members).map_err(|error| error.to_string())?;
    let member = |(user, name, delivered, read)| ListedMember { user, name, delivered, read };
    Ok(Listed {
        conversation: id.parse().map_err(|error: IdError| error.to_string())?,
        place: ListPlace { last_at: Timestamp(last_at), key: ConversationKey(key) },
        last_seq: Seq(last_seq),
        last_message: None,
        unread: u32::try_from(unread).unwrap_or(u32::MAX),
        members: members.into_iter().map(member).collect(),
        members_count: u32::try_from(count).unwrap_or(u32::MAX),
    })
}

/// What both adapters look for from: before every place in a list.
pub(in crate::storage) const FRONT: ListPlace =
    ListPlace { last_at: Timestamp(i64::MAX), key: ConversationKey(i64::MAX) };

/// A page of rows, of which one more was asked for than wanted.
pub(in crate::storage) fn page_of(mut rows: Vec<Listed>, limit: u32) -> PageOf<Listed> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let has_more = rows.len() > limit;
    rows.truncate(limit);
    PageOf { rows, has_more }
}
