//! What becomes of due conversations, decided from what was read of them. Pure: `raise` reads and writes.

use std::collections::HashMap;

use super::error::Fault;
use super::notifications::millis;
use super::rows;
use crate::domain::ConversationId;
use crate::storage::{DuePolicy, Raised};

/// How soon to look again at what is due but not yet published to the nodes: something is wrong with them.
const UNPUBLISHED_MS: i64 = 1_000;
/// How soon to look again at what has not been published for a whole grace: a moment more will do.
const UNSETTLED_MS: i64 = 250;

/// Key, id, grace, the last seq, and the present moment.
pub(super) type DueRow = (i64, String, i64, i64, i64);

/// Key, user, how far the conversation goes, is published and is settled, seq and time of the first message of
/// others that waits, and the time of the first one that is not published.
pub(super) type BehindRow = (i64, i64, (i64, i64, i64), (Option<i64>, Option<i64>), Option<i64>);

/// A member for whom it is time.
pub(super) struct Waiting {
    pub(super) key: i64,
    pub(super) user: i64,
    /// The first message of others that the member has neither confirmed nor been told of.
    first: i64,
    due_at: i64,
    /// What a mail tells of ends here.
    published: i64,
    /// When the first message of others behind that is due.
    later_due_at: Option<i64>,
}

/// What is known of the people for whom it is time.
#[derive(Default)]
pub(super) struct People {
    /// Whether they are disabled, and whether they have an address.
    pub(super) known: HashMap<i64, (bool, bool)>,
    /// When the last mail of a conversation to a member was raised.
    pub(super) last_mails: HashMap<(i64, i64), i64>,
    /// Mails of the last 24 hours.
    pub(super) today: HashMap<i64, i64>,
}

/// What is to be done about a member.
enum Verdict {
    Mail,
    Skip(&'static str),
    WaitUntil(i64),
}

/// A conversation in hand.
struct Due {
    conversation: ConversationId,
    grace_ms: i64,
    /// The last seq when it was taken in hand.
    head: i64,
    /// When to look at it again.
    next: Option<i64>,
}

impl Due {
    fn look_again(&mut self, at: i64) {
        self.next = Some(self.next.map_or(at, |earlier| earlier.min(at)));
    }
}

/// Rows of `mails`, column by column.
#[derive(Default)]
pub(super) struct Mails {
    pub(super) keys: Vec<i64>,
    pub(super) users: Vec<i64>,
    pub(super) from: Vec<i64>,
    pub(super) to: Vec<i64>,
    pub(super) reasons: Vec<Option<&'static str>>,
}

/// `notified` of members, column by column.
#[derive(Default)]
pub(super) struct Notified {
    pub(super) keys: Vec<i64>,
    pub(super) users: Vec<i64>,
    pub(super) to: Vec<i64>,
}

impl Notified {
    fn push(&mut self, key: i64, user: i64, to: i64) {
        self.keys.push(key);
        self.users.push(user);
        self.to.push(to);
    }
}

/// When conversations are looked at again.
#[derive(Default)]
pub(super) struct Looks {
    pub(super) later: Later,
    pub(super) soon: Soon,
}

/// Rows of `notify_later`, column by column.
#[derive(Default)]
pub(super) struct Later {
    pub(super) keys: Vec<i64>,
    pub(super) moments: Vec<i64>,
    pub(super) graces: Vec<i64>,
}

/// What becomes of rows of `notify_due`, column by column.
#[derive(Default)]
pub(super) struct Soon {
    pub(super) keys: Vec<i64>,
    /// The last seqs when they were taken in hand.
    pub(super) heads: Vec<i64>,
    /// When nobody adds to it: `None` goes.
    pub(super) moments: Vec<Option<i64>>,
    /// When what is added now may be due.
    pub(super) graces_end: Vec<i64>,
}

/// What becomes of the conversations in hand.
pub(super) struct Decided {
    pub(super) now: i64,
    due: HashMap<i64, Due>,
    pub(super) mails: Mails,
    pub(super) notified: Notified,
    pub(super) raised: Raised,
}

impl Decided {
    pub(super) fn new(taken: &[DueRow]) -> Result<Self, Fault> {
        let due = taken
            .iter()
            .map(|(key, id, grace_ms, head, _)| {
                let conversation = rows::conversation_id(id)?;
                Ok((*key, Due { conversation, grace_ms: *grace_ms, head: *head, next: None }))
            })
            .collect::<Result<_, Fault>>()?;
        Ok(Self {
            now: taken.first().map_or(0, |row| row.4),
            due,
            mails: Mails::default(),
            notified: Notified::default(),
            raised: Raised::default(),
        })
    }

    /// Whether it is time for a member; else when it is.
    pub(super) fn look(&mut self, row: BehindRow) -> Option<Waiting> {
        let (key, user, (head, published, settled), first, later) = row;
        let due = self.due.get_mut(&key)?;
        let Some(first_seq) = first.0 else {
            // All of it is the member's own: the next look begins after it, however much that is.
            self.notified.push(key, user, head);
            return None;
        };
        let grace_ms = due.grace_ms;
        let due_at = |stored_at: i64| stored_at.saturating_add(grace_ms);
        let first_due_at = due_at(first.1.unwrap_or_default());
        if first_due_at > self.now {
            due.look_again(first_due_at);
        } else if first_seq > published {
            due.look_again(self.now + UNPUBLISHED_MS);
        } else if first_seq > settled {
            due.look_again(self.now + UNSETTLED_MS);
        } else {
            let later_due_at = later.map(due_at);
            return Some(Waiting {
                key,
                user,
                first: first_seq,
                due_at: first_due_at,
                published,
                later_due_at,
            });
        }
        None
    }

    /// Decides about those for whom it is time, the longest due first.
    pub(super) fn judge(
        &mut self,
        policy: &DuePolicy,
        mut waiting: Vec<Waiting>,
        mut people: People,
    ) -> Result<(), Fault> {
        waiting.sort_by_key(|each| each.due_at);
        for each in waiting {
            let reason = match verdict(policy, self.now, &each, &people) {
                Verdict::Mail => None,
                Verdict::Skip(reason) => Some(reason),
                Verdict::WaitUntil(at) => {
                    if let Some(due) = self.due.get_mut(&each.key) {
                        due.look_again(at);
                    }
                    continue;
                }
            };
            let Waiting { key, user, first, published, later_due_at, .. } = each;
            self.mails.keys.push(key);
            self.mails.users.push(user);
            self.mails.from.push(first);
            self.mails.to.push(published);
            self.mails.reasons.push(reason);
            self.notified.push(key, user, published);
            let Some(due) = self.due.get_mut(&key) else { continue };
            match reason {
                Some(reason) => {
                    self.raised.skipped.push((due.conversation, rows::user_id(user)?, reason));
                }
                None => {
                    self.raised.mails += 1;
                    *people.today.entry(user).or_default() += 1;
                }
            }
            if let Some(at) = later_due_at {
                // It is not published yet, or it would be in this mail.
                due.look_again(at.max(self.now + UNPUBLISHED_MS));
            }
        }
        Ok(())
    }

    /// When each conversation in hand is looked at again.
    pub(super) fn looks(&self) -> Looks {
        let mut looks = Looks::default();
        for (&key, due) in &self.due {
            let grace_end = self.now.saturating_add(due.grace_ms);
            // What is not due before a message that comes now waits elsewhere.
            let soon = due.next.filter(|at| *at <= grace_end);
            if let (Some(at), None) = (due.next, soon) {
                looks.later.keys.push(key);
                looks.later.moments.push(at);
                looks.later.graces.push(due.grace_ms);
            }
            looks.soon.keys.push(key);
            looks.soon.heads.push(due.head);
            looks.soon.moments.push(soon);
            looks.soon.graces_end.push(grace_end);
        }
        looks
    }
}

fn verdict(policy: &DuePolicy, now: i64, waiting: &Waiting, people: &People) -> Verdict {
    match people.known.get(&waiting.user) {
        Some((true, _)) => return Verdict::Skip("disabled"),
        Some((_, false)) | None => return Verdict::Skip("no_address"),
        Some(_) => {}
    }
    let interval = millis(policy.min_interval);
    let last_mail = people.last_mails.get(&(waiting.key, waiting.user));
    let allowed_at = last_mail.map_or(i64::MIN, |at| at.saturating_add(interval));
    if interval > 0 && allowed_at > now {
        return Verdict::WaitUntil(allowed_at);
    }
    // Waiting for the interval is not being overdue.
    let since = if interval > 0 { waiting.due_at.max(allowed_at) } else { waiting.due_at };
    if now.saturating_sub(since) > millis(policy.max_age) {
        return Verdict::Skip("too_old");
    }
    if people.today.get(&waiting.user).is_some_and(|&today| today >= i64::from(policy.per_day)) {
        return Verdict::Skip("capped");
    }
    Verdict::Mail
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{Frontier, LogNumber};
    use std::time::Duration;

    const NOW: i64 = 1_000_000;
    const GRACE: i64 = 10_000;

    fn policy() -> DuePolicy {
        let nothing = Frontier::nothing(LogNumber(1), 1);
        DuePolicy {
            settled: nothing.clone(),
            published: nothing,
            min_interval: Duration::from_secs(3_600),
            per_day: 2,
            max_age: Duration::from_secs(60),
            limit: 100,
        }
    }

    fn in_hand(conversations: i64) -> Decided {
        let row = |key: i64| (key, format!("dm-1-{}", key + 1), GRACE, 9, NOW);
        Decided::new(&(1..=conversations).map(row).collect::<Vec<_>>()).unwrap()
    }

    /// A member whose first waiting message is seq 5; everything is published and settled up to 7.
    fn behind(key: i64, stored_at: i64) -> BehindRow {
        (key, 1, (9, 7, 7), (Some(5), Some(stored_at)), None)
    }

    fn reachable() -> People {
        People { known: [(1, (false, true))].into(), ..People::default() }
    }

    #[test]
    fn what_is_not_due_is_looked_at_when_it_is() {
        let mut decided = in_hand(1);
        assert!(decided.look(behind(1, NOW - 4_000)).is_none());
        assert_eq!(decided.looks().soon.moments, [Some(NOW + 6_000)]);
    }

    #[test]
    fn what_nobody_waits_for_goes() {
        let looks = in_hand(1).looks();
        assert_eq!((looks.soon.moments, looks.soon.graces_end), (vec![None], vec![NOW + GRACE]));
        assert!(looks.later.keys.is_empty());
    }

    #[test]
    fn who_had_a_mail_lately_waits_elsewhere() {
        let mut decided = in_hand(1);
        let waiting = decided.look(behind(1, NOW - GRACE)).unwrap();
        let people = People { last_mails: [((1, 1), NOW - 60_000)].into(), ..reachable() };
        decided.judge(&policy(), vec![waiting], people).unwrap();
        let looks = decided.looks();
        assert_eq!((looks.soon.moments, looks.later.moments), (vec![None], vec![NOW - 60_000 + 3_600_000]));
        assert!(decided.mails.keys.is_empty() && decided.notified.keys.is_empty());
    }

    #[test]
    fn mails_of_one_turn_count_for_the_day_the_longest_due_first() {
        let mut decided = in_hand(3);
        let rows = [behind(1, NOW - 12_000), behind(2, NOW - 14_000), behind(3, NOW - 13_000)];
        let waiting = rows.into_iter().filter_map(|row| decided.look(row)).collect();
        decided.judge(&policy(), waiting, reachable()).unwrap();
        assert_eq!(decided.mails.keys, [2, 3, 1]);
        assert_eq!(decided.mails.reasons, [None, None, Some("capped")]);
        assert_eq!(
            (decided.mails.from.as_slice(), decided.mails.to.as_slice()),
            (&[5, 5, 5][..], &[7, 7, 7][..])
        );
        assert_eq!(decided.raised.mails, 2);
    }

    #[test]
    fn what_is_behind_the_mail_is_looked_at_again() {
        let mut decided = in_hand(1);
        let (key, user, reach, first, _) = behind(1, NOW - 2 * GRACE);
        let later: i64 = NOW - GRACE - 1;
        let waiting = decided.look((key, user, reach, first, Some(later))).unwrap();
        decided.judge(&policy(), vec![waiting], reachable()).unwrap();
        assert_eq!(decided.looks().soon.moments, [Some(NOW + UNPUBLISHED_MS)]);
    }
}
