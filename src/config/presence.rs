//! `[presence]`: who is connected where, and who may see it.

use std::time::Duration;

use super::backends::PresenceBackend;
use super::reader::Reader;
use super::redis::Redis;
use super::value::Choice;

/// Who sees whether a user is online, unless the user says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VisibleTo {
    /// Every user.
    Everyone,
    /// Who shares a conversation with them.
    Shared,
    /// Nobody.
    Nobody,
}

impl Choice for VisibleTo {
    const ALL: &'static [(&'static str, Self)] =
        &[("everyone", Self::Everyone), ("shared", Self::Shared), ("nobody", Self::Nobody)];
}

/// Settings of presence.
#[derive(Debug, Clone)]
pub struct Presence {
    /// In memory, or Redis where `REDIS_URL` is set.
    pub backend: PresenceBackend,
    /// `presence.visible_to`: `everyone` in development, `shared` under production rules.
    pub visible_to: VisibleTo,
    /// `presence.offline_after`: offline shows so long after the last socket ended, so that a reload does
    /// not flicker. 30 s.
    pub offline_after: Duration,
}

impl Presence {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        let visible_to = if r.production() { VisibleTo::Shared } else { VisibleTo::Everyone };
        Self {
            backend: Redis::read(r).map_or(PresenceBackend::Memory, PresenceBackend::Redis),
            visible_to: r.get("presence.visible_to", visible_to),
            offline_after: r.within(
                "presence.offline_after",
                Duration::from_secs(30),
                Duration::ZERO..=Duration::from_secs(3600),
            ),
        }
    }
}
