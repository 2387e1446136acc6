//! `[chat]`: who may talk to whom, and for how long what was said can be changed.

use std::time::Duration;

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
    /// `chat.edit_within`: so long after it was stored a message can be edited; zero is for ever, and the default.
    pub edit_within: Duration,
}

impl Chat {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        const YEAR: Duration = Duration::from_secs(365 * 86_400);
        Self {
            who_may_write: r.get("chat.who_may_write", WhoMayWrite::Everyone),
            edit_within: r.within("chat.edit_within", Duration::ZERO, Duration::ZERO..=YEAR * 10),
        }
    }
}
