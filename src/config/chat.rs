//! `[chat]`: who may talk to whom.

use super::reader::Reader;
use super::value::Choice;

/// Who may begin a conversation with somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhoMayWrite {
    /// Every user, to every user.
    Everyone,
}

impl Choice for WhoMayWrite {
    const ALL: &'static [(&'static str, Self)] = &[("everyone", Self::Everyone)];
}

/// Settings of conversations.
#[derive(Debug, Clone)]
pub struct Chat {
    /// `chat.who_may_write`: `everyone`.
    pub who_may_write: WhoMayWrite,
}

impl Chat {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self { who_may_write: r.get("chat.who_may_write", WhoMayWrite::Everyone) }
    }
}
