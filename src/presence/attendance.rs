//! The users of this node: whose place is kept for a while after their last socket, and when each was seen. Pure but
//! for a lock.
//!
//! The port counts sockets. That of a user's last one is taken off when `presence.offline_after` has passed, so that
//! a reload, or a move to another node, shows nothing anywhere. Who was seen is written down when the minute has
//! changed, so once a minute for each user at most.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::domain::{Timestamp, UserId};

/// Users who left and are not written down yet, at most: those beyond are forgotten, and were seen earlier then.
const UNWRITTEN_MAX: usize = 100_000;

#[derive(Debug, Clone, Copy)]
struct Entry {
    sockets: usize,
    /// The place of the last socket is kept until then.
    until: Option<Instant>,
    /// When the last socket ended, to the minute; of no account while there is one.
    seen: Timestamp,
    /// The minute that is written down.
    written: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Inner {
    users: HashMap<UserId, Entry>,
    /// Whose place is kept, by how long.
    kept: BTreeSet<(Instant, UserId)>,
}

/// The users of this node.
#[derive(Debug)]
pub struct Attendance {
    inner: Mutex<Inner>,
    offline_after: Duration,
}

impl Attendance {
    /// Nobody yet; places are kept for so long.
    pub fn new(offline_after: Duration) -> Self {
        Self { inner: Mutex::default(), offline_after }
    }

    /// A socket came. True: the place that was kept is not needed any more, and to be given up.
    pub fn came(&self, user: UserId) -> bool {
        let mut inner = self.lock();
        let new = Entry { sockets: 0, until: None, seen: Timestamp::default(), written: None };
        let entry = inner.users.entry(user).or_insert(new);
        entry.sockets += 1;
        let kept = entry.until.take();
        kept.is_some_and(|until| inner.kept.remove(&(until, user)))
    }

    /// A socket went. True: its place is to be given up now, as others remain.
    pub fn went(&self, user: UserId, now: Instant, at: Timestamp) -> bool {
        let mut inner = self.lock();
        let Some(entry) = inner.users.get_mut(&user) else { return true };
        entry.sockets = entry.sockets.saturating_sub(1);
        if entry.sockets > 0 {
            return true;
        }
        let until = now + self.offline_after;
        (entry.until, entry.seen) = (Some(until), at.to_the_minute());
        inner.kept.insert((until, user));
        false
    }

    /// Whose places are to be given up now.
    pub fn expired(&self, now: Instant) -> Vec<UserId> {
        let mut inner = self.lock();
        let mut expired = Vec::new();
        while let Some(&(until, user)) = inner.kept.first()
            && until <= now
        {
            inner.kept.pop_first();
            expired.push(user);
            let is_full = inner.users.len() > UNWRITTEN_MAX;
            if let Some(entry) = inner.users.get_mut(&user) {
                entry.until = None;
                if is_full || entry.is_written() {
                    inner.users.remove(&user);
                }
            }
        }
        expired
    }

    /// Who was seen since it was written down, so many at most, and when.
    pub fn unwritten(&self, now: Timestamp, max: usize) -> Vec<(UserId, Timestamp)> {
        let now = now.to_the_minute();
        let inner = self.lock();
        let seen = inner.users.iter().map(|(user, entry)| (*user, entry.seen(now), entry.written));
        let unwritten = seen.filter(|(_, seen, written)| written.is_none_or(|written| written < *seen));
        unwritten.map(|(user, seen, _)| (user, seen)).take(max).collect()
    }

    /// These are written down.
    pub fn written(&self, seen: &[(UserId, Timestamp)]) {
        let mut inner = self.lock();
        for (user, at) in seen {
            let Some(entry) = inner.users.get_mut(user) else { continue };
            entry.written = entry.written.max(Some(*at));
            if entry.sockets == 0 && entry.until.is_none() && entry.is_written() {
                inner.users.remove(user);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Entry {
    fn seen(&self, now: Timestamp) -> Timestamp {
        if self.sockets > 0 { now } else { self.seen }
    }

    fn is_written(&self) -> bool {
        self.written.is_some_and(|written| written >= self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AFTER: Duration = Duration::from_secs(30);

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn minute(minute: i64, second: i64) -> Timestamp {
        Timestamp((minute * 60 + second) * 1_000)
    }

    #[test]
    fn the_place_of_the_last_socket_is_kept_and_those_of_others_are_not() {
        let (attendance, start) = (Attendance::new(AFTER), Instant::now());
        assert!(!attendance.came(user(1)) && !attendance.came(user(1)));
        assert!(attendance.went(user(1), start, minute(0, 0)), "another remains");
        assert!(!attendance.went(user(1), start, minute(0, 0)));
        assert_eq!(attendance.expired(start + AFTER - Duration::from_millis(1)), []);
        assert_eq!(attendance.expired(start + AFTER), [user(1)]);
        assert_eq!(attendance.expired(start + AFTER), [], "once");
    }

    #[test]
    fn who_comes_back_in_time_was_never_away() {
        let (attendance, start) = (Attendance::new(AFTER), Instant::now());
        attendance.came(user(1));
        attendance.went(user(1), start, minute(0, 0));
        assert!(attendance.came(user(1)), "the new socket has a place of its own");
        assert_eq!(attendance.expired(start + 2 * AFTER), []);
        attendance.went(user(1), start + 2 * AFTER, minute(1, 0));
        assert_eq!(attendance.expired(start + 2 * AFTER), []);
        assert_eq!(attendance.expired(start + 3 * AFTER), [user(1)]);
    }

    #[test]
    fn who_is_there_is_written_down_once_a_minute_and_who_leaves_with_the_minute_they_left() {
        let (attendance, start) = (Attendance::new(AFTER), Instant::now());
        attendance.came(user(1));
        let first = attendance.unwritten(minute(5, 10), 9);
        assert_eq!(first, [(user(1), minute(5, 0))]);
        assert_eq!(attendance.unwritten(minute(5, 11), 9), first, "until it is written");
        attendance.written(&first);
        assert_eq!(attendance.unwritten(minute(5, 59), 9), []);
        assert_eq!(attendance.unwritten(minute(6, 0), 9), [(user(1), minute(6, 0))]);
        attendance.written(&[(user(1), minute(6, 0))]);
        attendance.went(user(1), start, minute(7, 59));
        assert_eq!(attendance.expired(start + AFTER), [user(1)]);
        assert_eq!(attendance.unwritten(minute(9, 0), 9), [(user(1), minute(7, 0))]);
        attendance.written(&[(user(1), minute(7, 0))]);
        assert_eq!(attendance.unwritten(minute(9, 0), 9), []);
        assert!(attendance.lock().users.is_empty(), "nothing is kept");
    }

    #[test]
    fn many_are_written_down_in_parts() {
        let attendance = Attendance::new(AFTER);
        (1..=10).for_each(|id| _ = attendance.came(user(id)));
        let mut all = BTreeSet::new();
        for _ in 0..4 {
            let part = attendance.unwritten(minute(1, 1), 3);
            attendance.written(&part);
            all.extend(part.into_iter().map(|(user, _)| user));
        }
        assert_eq!(all.len(), 10);
    }
}
