//! What a viewer sees of whom they watch, and whether that is news.

use super::Found;
use crate::domain::{Relation, Seen, Status, Timestamp, UserId};

/// What a viewer was told of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Online,
    Offline,
    /// As offline, since this viewer may not see it.
    Hidden,
}

/// A user, as one viewer watches them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Watched {
    pub(super) user: UserId,
    pub(super) told: Told,
    /// Whether viewer and user share a conversation, once that was asked.
    pub(super) shares: Option<bool>,
}

impl Watched {
    /// One of whom nothing was told yet.
    pub(super) fn new(user: UserId) -> Self {
        Self { user, told: Told::Nothing, shares: None }
    }
}

/// What was found, as each viewer sees it.
pub(super) struct News<'a> {
    pub(super) found: &'a Found,
    /// For whom `sharing` holds, in order.
    pub(super) asked: &'a [(UserId, UserId)],
    pub(super) now: Timestamp,
}

impl News<'_> {
    /// What the viewer was told of a user before, and what is to be told now.
    pub(super) fn of(&self, viewer: UserId, watched: &mut Watched) -> Option<(Told, Seen)> {
        let whereabouts = self.found.whereabouts.get(&watched.user)?;
        let pair = (viewer, watched.user);
        if self.asked.binary_search(&pair).is_ok() {
            watched.shares = Some(self.found.sharing.contains(&pair));
        }
        let relation = match watched.shares {
            _ if viewer == watched.user => Relation::Oneself,
            Some(true) => Relation::Shares,
            Some(false) | None => Relation::Stranger,
        };
        let seen = whereabouts.seen_by(relation, self.now);
        let told = match seen.map(|seen| seen.status) {
            Some(Status::Online) => Told::Online,
            Some(Status::Offline) => Told::Offline,
            None => Told::Hidden,
        };
        let before = std::mem::replace(&mut watched.told, told);
        Some((before, seen.unwrap_or(Seen::nothing_of(watched.user))))
    }
}

/// Whether a viewer is told. That somebody who is away has begun to hide is not: it would betray that they did.
pub(super) fn is_news(before: Told, after: Told) -> bool {
    before != after && (before, after) != (Told::Offline, Told::Hidden)
}
