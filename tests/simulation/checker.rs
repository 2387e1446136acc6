//! The rules that are checked while a schedule runs. The first broken one ends it.

use std::collections::BTreeMap;

use chatd::domain::{ConversationId, MessageId, Seq, UserId};

use crate::ranges::Ranges;

/// A broken rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub detail: String,
}

/// What has happened, as far as later rules need it.
#[derive(Debug, Default)]
pub struct Checker {
    pub violation: Option<Violation>,
    /// Events that a device of a user has got, and gaps that one has confirmed.
    given: BTreeMap<(UserId, ConversationId), Ranges>,
    /// What was ever given at a place: it never becomes something else.
    ids: BTreeMap<(ConversationId, Seq), MessageId>,
    /// What happened, for whoever looks into a failed schedule.
    pub story: Option<Vec<String>>,
    /// How often a thing happened, to see what schedules reach.
    pub counts: BTreeMap<&'static str, u64>,
}

impl Checker {
    /// Notes a broken rule.
    pub fn fail(&mut self, rule: &'static str, detail: impl FnOnce() -> String) {
        if self.violation.is_none() {
            self.violation = Some(Violation { rule, detail: detail() });
        }
    }

    /// Notes that a rule does not hold, unless it does.
    pub fn ensure(&mut self, holds: bool, rule: &'static str, detail: impl FnOnce() -> String) {
        if !holds {
            self.fail(rule, detail);
        }
    }

    /// Tells what happens.
    pub fn tell(&mut self, line: impl FnOnce() -> String) {
        if let Some(story) = &mut self.story {
            story.push(line());
        }
    }

    /// Counts something.
    pub fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A device is given this.
    pub fn shown(&mut self, conversation: ConversationId, seq: Seq, id: MessageId) {
        let first = *self.ids.entry((conversation, seq)).or_insert(id);
        self.ensure(first == id, "changed", || format!("{conversation} {seq} was {first}, is {id}"));
    }

    /// A device of this user has these events, or has confirmed the gap that names them.
    pub fn given(&mut self, user: UserId, conversation: ConversationId, from: i64, to: i64) {
        self.given.entry((user, conversation)).or_default().add(from, to);
    }

    /// `delivered` never goes back, and covers only what a device was given or confirmed as a gap.
    pub fn delivered(&mut self, conversation: ConversationId, user: UserId, from: Seq, to: Seq) {
        self.ensure(from <= to, "delivered back", || format!("{conversation} {user}: {from} to {to}"));
        let given = self.given.entry((user, conversation)).or_default();
        if let Some(absent) = given.first_absent(1, to.0) {
            self.fail("delivered", || {
                format!("{conversation} {user}: up to {to}, but {absent} was not given")
            });
        }
    }
}
