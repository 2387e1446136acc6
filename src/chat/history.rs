//! Reading a conversation. Fetching confirms: what a member read here needs no mail.

use super::Member;
use super::receipts;
use crate::app::App;
use crate::domain::{Error, Event, Seq};
use crate::storage::{Page, PageOf};

/// A page of a member's conversation.
pub async fn page(app: &App, member: Member, page: Page, limit: u32) -> Result<PageOf<Event>, Error> {
    let found = app.storage.page(member.conversation(), page, limit).await?;
    let seqs = found.rows.iter().map(|event| event.seq);
    if let (Some(from), Some(to)) = (seqs.clone().min(), seqs.max()) {
        receipts::delivered(app, member, from, to);
    }
    Ok(found)
}

/// The last seq of a member's conversation; 0 without events.
pub async fn last_seq(app: &App, member: Member) -> Result<Seq, Error> {
    Ok(app.storage.last_seq(member.conversation()).await?)
}
