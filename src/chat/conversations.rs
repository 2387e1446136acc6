//! A user's conversations as a list, by last activity. Looking at the list confirms nothing: what it shows of a
//! conversation is its last message, and nobody has opened it yet.

use super::Member;
use crate::app::App;
use crate::domain::{CursorScope, Error, UserId};
use crate::storage::Listed;

/// A page of the list.
#[derive(Debug)]
pub struct ListPage {
    /// The conversations, those with the latest activity first.
    pub conversations: Vec<Listed>,
    /// Where the next page begins; `None`: this was the last one.
    pub next_cursor: Option<String>,
}

/// The page of a user's list that begins at a cursor; without one, the first.
///
/// # Errors
/// `invalid`, field `cursor`: it is damaged, or of another user or deployment. Storage is away.
pub async fn page(app: &App, user: UserId, cursor: Option<&str>, limit: u32) -> Result<ListPage, Error> {
    let scope = CursorScope { incarnation: app.incarnation, user };
    let place = |text| {
        let refused = || Error::invalid("cursor", "no cursor of this list; begin without one");
        scope.decode_place(text).ok_or_else(refused)
    };
    let page = app.storage.conversations(user, cursor.map(place).transpose()?, limit).await?;
    let last = page.rows.last().filter(|_| page.has_more);
    let next_cursor = last.map(|last| scope.encode_place(last.place));
    Ok(ListPage { conversations: page.rows, next_cursor })
}

/// One conversation as the list has it; `not_found` before its first event.
pub async fn one(app: &App, member: Member) -> Result<Listed, Error> {
    let found = app.storage.conversation(member.user(), member.conversation()).await?;
    found.ok_or_else(Error::not_found)
}
