//! Whether somebody is there, and who may see it.

use serde::{Deserialize, Serialize};

use super::{Timestamp, UserId};

/// Who may see whether somebody is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Audience {
    /// Every user.
    Everyone,
    /// Who shares a conversation with them.
    Shared,
    /// Nobody but themselves.
    Nobody,
}

/// What somebody who asks is to whom they ask about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Relation {
    /// The same user.
    Oneself,
    /// Both are in some conversation.
    Shares,
    /// Neither.
    Stranger,
}

impl Audience {
    /// As it is stored and said.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Everyone => "everyone",
            Self::Shared => "shared",
            Self::Nobody => "nobody",
        }
    }

    /// From what `as_str` gave.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Everyone, Self::Shared, Self::Nobody].into_iter().find(|one| one.as_str() == text)
    }

    /// Whether somebody of this relation may see it: the one place that decides. A relation that sees nothing
    /// whatever the audience, such as that of somebody who is blocked, belongs into this table.
    pub fn includes(self, relation: Relation) -> bool {
        match (relation, self) {
            (Relation::Oneself, _) | (Relation::Shares | Relation::Stranger, Self::Everyone) => true,
            (Relation::Shares, Self::Shared) => true,
            (Relation::Stranger, Self::Shared) => false,
            (Relation::Shares | Relation::Stranger, Self::Nobody) => false,
        }
    }
}

/// What is told of somebody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// A socket is open, or was a moment ago (`presence.offline_after`).
    Online,
    /// None is; or who asks may not know.
    Offline,
}

/// How somebody is seen by one who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Seen {
    /// Who.
    pub user: UserId,
    /// Whether they are there.
    pub status: Status,
    /// To the minute; null: never, or who asks may not know.
    pub last_seen: Option<Timestamp>,
}

/// How somebody is, whoever asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Whereabouts {
    /// Who.
    pub user: UserId,
    /// Whether they are there.
    pub is_online: bool,
    /// When they were there last, to the minute, as far as it is kept.
    pub last_seen: Option<Timestamp>,
    /// Who may see this.
    pub audience: Audience,
}

impl Whereabouts {
    /// How it is seen; nothing where it may not be seen. Who is there is seen at this moment.
    pub fn seen_by(&self, relation: Relation, now: Timestamp) -> Option<Seen> {
        if !self.audience.includes(relation) {
            return None;
        }
        let (status, last_seen) = match self.is_online {
            true => (Status::Online, Some(now.to_the_minute())),
            false => (Status::Offline, self.last_seen),
        };
        Some(Seen { user: self.user, status, last_seen })
    }
}

impl Seen {
    /// How everybody is seen who may not be seen, and who was never there.
    pub fn nothing_of(user: UserId) -> Self {
        Self { user, status: Status::Offline, last_seen: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_see_whom() {
        let relations = [Relation::Oneself, Relation::Shares, Relation::Stranger];
        for (audience, sees) in [
            (Audience::Everyone, [true, true, true]),
            (Audience::Shared, [true, true, false]),
            (Audience::Nobody, [true, false, false]),
        ] {
            assert_eq!(relations.map(|relation| audience.includes(relation)), sees, "{audience:?}");
            assert_eq!(Audience::parse(audience.as_str()), Some(audience));
        }
        assert_eq!(Audience::parse("friends"), None);
    }

    #[test]
    fn who_is_hidden_looks_like_who_was_never_there() {
        let user = UserId::new(1).unwrap();
        let now = Timestamp(1_700_000_065_123);
        let there = Whereabouts { user, is_online: true, last_seen: None, audience: Audience::Shared };
        let online = Seen { user, status: Status::Online, last_seen: Some(Timestamp(1_700_000_040_000)) };
        assert_eq!(there.seen_by(Relation::Shares, now), Some(online));
        assert_eq!(there.seen_by(Relation::Stranger, now), None);
        let away = Whereabouts { is_online: false, last_seen: Some(Timestamp(60_000)), ..there };
        let offline = Seen { user, status: Status::Offline, last_seen: Some(Timestamp(60_000)) };
        assert_eq!(away.seen_by(Relation::Shares, now), Some(offline));
        let json = serde_json::to_string(&Seen::nothing_of(user)).unwrap();
        assert_eq!(json, r#"{"user":1,"status":"offline","last_seen":null}"#);
    }
}
