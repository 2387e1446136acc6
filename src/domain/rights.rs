//! Who may change a message. Pure, and the same for whoever asks early and for who decides by the log's order.

/// A change of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Another text.
    Edit,
    /// Its end.
    Delete,
}

/// What somebody is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// One of those who write there; in a conversation of two, each is.
    Member,
}

/// Whether somebody may make this change to a message, of which they are the author or not.
pub fn may_change(change: Change, role: Role, is_author: bool) -> bool {
    match (change, role) {
        (Change::Edit, Role::Member) | (Change::Delete, Role::Member) => is_author,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_change_their_own_messages_only() {
        for change in [Change::Edit, Change::Delete] {
            assert!(may_change(change, Role::Member, true), "{change:?}");
            assert!(!may_change(change, Role::Member, false), "{change:?}");
        }
    }
}
