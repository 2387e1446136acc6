//! Which sockets of this node watch whom, and what each was told. Pure but for a lock: who is there is asked for
//! elsewhere (`chat::presence`), one look at a time, for all sockets together.
//!
//! A hint says only that somebody should be looked at; what is told follows from the look. So hints may repeat, come
//! late, or name people who have not changed.

mod view; // what is seen of whom, and whether that is news

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;
use tokio::time::Instant;

use self::view::{News, Watched, is_news};
use super::frame;
use super::hub::Place;
use super::mailbox::{Item, Mailbox};
use crate::domain::{Seen, Timestamp, UserId, Whereabouts};

/// Users that one socket watches, at most (protocol.md section 3).
pub const WATCHED_MAX: usize = 500;
/// What all sockets of a node watch together, at most: some 30 bytes each.
const ALL_MAX: usize = 4_000_000;
/// Users of one look; the sets of sockets are not cut, so that there may be some more.
const LOOK_MAX: usize = 1_000;
/// Changes of so long are told in one frame.
pub const COLLECT: Duration = Duration::from_millis(250);
/// After a look that failed, the next one.
const RETRY: Duration = Duration::from_secs(1);

/// That something about a user changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hint {
    /// Who.
    pub user: UserId,
    /// Also with whom they share a conversation.
    pub is_about_views: bool,
}

/// What a socket watches from now on.
pub struct Request {
    /// Which socket.
    pub place: Place,
    /// Where it is told.
    pub mailbox: Arc<Mailbox>,
    /// Whose it is.
    pub viewer: UserId,
    /// From `turn`: of two requests that are made ready at the same time the later one counts.
    pub turn: u64,
    /// Whom.
    pub users: Vec<UserId>,
    /// The client's mark, for the answer.
    pub mark: Option<Box<str>>,
    /// What is told, once, while there is no answer.
    pub unavailable: Option<Bytes>,
}

/// This node holds as many watched users as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// Whom to look at.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Look {
    /// Sockets that wait for their first answer, with the turn of what they asked.
    answers: Vec<(Place, u64)>,
    /// Of whom there were hints.
    hints: Vec<Hint>,
    /// All of them, each once, in order.
    pub users: Vec<UserId>,
}

/// What was found.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Everybody of the look.
    pub whereabouts: HashMap<UserId, Whereabouts>,
    /// Who of those that `unsure` named, viewer first, share a conversation.
    pub sharing: HashSet<(UserId, UserId)>,
}

struct Watch {
    mailbox: Arc<Mailbox>,
    viewer: UserId,
    turn: u64,
    /// By user.
    watched: Vec<Watched>,
    /// There, until the first answer is told.
    asked: Option<Asked>,
}

#[derive(Default)]
struct Asked {
    mark: Option<Box<str>>,
    unavailable: Option<Bytes>,
}

#[derive(Default)]
struct Inner {
    watches: HashMap<Place, Watch>,
    /// The newest turn of each socket.
    turns: HashMap<Place, u64>,
    /// Who watches each user, in order.
    viewers: HashMap<UserId, Vec<Place>>,
    /// How many users all sockets watch together.
    all: usize,
    unanswered: BTreeSet<Place>,
    /// Of whom nothing could be known: with the next hints.
    later: BTreeSet<Place>,
    /// Users to look at; true where it is about views.
    hinted: BTreeMap<UserId, bool>,
    /// So long hints are collected.
    hinted_until: Option<Instant>,
}

/// The sockets of this node that watch somebody.
#[derive(Default)]
pub struct Watchers {
    inner: Mutex<Inner>,
    turns: AtomicU64,
    work: Notify,
}

impl Watchers {
    /// A request of this socket begins to be made ready; it makes earlier ones void.
    pub fn turn(&self, place: Place) -> u64 {
        let turn = self.turns.fetch_add(1, Ordering::Relaxed) + 1;
        self.lock().turns.insert(place, turn);
        turn
    }

    /// Whether no later request of this socket has begun.
    pub fn is_newest(&self, place: Place, turn: u64) -> bool {
        self.lock().turns.get(&place) == Some(&turn)
    }

    /// Watches these in place of whom the socket watched before.
    ///
    /// # Errors
    /// There is no room. The socket goes on watching whom it watched.
    pub fn watch(&self, request: Request) -> Result<(), Full> {
        let Request { place, mailbox, viewer, turn, mut users, mark, unavailable } = request;
        users.sort_unstable();
        users.dedup();
        let mut inner = self.lock();
        if inner.turns.get(&place) != Some(&turn) {
            return Ok(());
        }
        let before = inner.watches.get(&place).map_or(0, |watch| watch.watched.len());
        if inner.all - before + users.len() > ALL_MAX {
            return Err(Full);
        }
        inner.unwatch(place);
        inner.all += users.len();
        for user in &users {
            let viewers = inner.viewers.entry(*user).or_default();
            let at = viewers.partition_point(|viewer| *viewer < place);
            viewers.insert(at, place);
        }
        let watched = users.into_iter().map(Watched::new).collect();
        let asked = Some(Asked { mark, unavailable });
        inner.watches.insert(place, Watch { mailbox, viewer, turn, watched, asked });
        inner.unanswered.insert(place);
        metrics::gauge!("chatd_watched").set(inner.all as f64);
        drop(inner);
        self.work.notify_one();
        Ok(())
    }

    /// Not all that a socket was told has arrived: it is told anew how those are whom it watches.
    pub fn again(&self, place: Place) {
        let mut inner = self.lock();
        let Some(watch) = inner.watches.get_mut(&place) else { return };
        watch.asked.get_or_insert_default();
        inner.unanswered.insert(place);
        drop(inner);
        self.work.notify_one();
    }

    /// A socket has ended.
    pub(super) fn forget(&self, place: Place) {
        let mut inner = self.lock();
        if inner.turns.remove(&place).is_some() {
            inner.unwatch(place);
            metrics::gauge!("chatd_watched").set(inner.all as f64);
        }
    }

    /// Something about these users changed.
    pub fn hint(&self, hints: impl IntoIterator<Item = Hint>) {
        let mut inner = self.lock();
        for hint in hints {
            if inner.viewers.contains_key(&hint.user) {
                *inner.hinted.entry(hint.user).or_default() |= hint.is_about_views;
            }
        }
        let is_first = inner.hinted_until.is_none() && !inner.hinted.is_empty();
        if is_first {
            inner.hinted_until = Some(Instant::now() + COLLECT);
        }
        drop(inner);
        if is_first {
            self.work.notify_one();
        }
    }

    /// Anybody may have come or gone, or have said who may see it: that is asked with each look.
    pub fn hint_all(&self) {
        let users: Vec<UserId> = self.lock().viewers.keys().copied().collect();
        self.hint(users.into_iter().map(|user| Hint { user, is_about_views: false }));
    }

    /// Whether nobody is watched.
    pub fn is_empty(&self) -> bool {
        self.lock().watches.is_empty()
    }

    /// Waits until somebody is to be looked at. One waiter.
    pub async fn due(&self) {
        loop {
            let until = {
                let inner = self.lock();
                if inner.unanswered.is_empty() { inner.hinted_until } else { Some(Instant::now()) }
            };
            match until {
                Some(until) if until <= Instant::now() => return,
                Some(until) => tokio::select! {
                    () = tokio::time::sleep_until(until) => {}
                    () = self.work.notified() => {}
                },
                None => self.work.notified().await,
            }
        }
    }

    /// Whom to look at now. The look is given back to `learned` or `failed`.
    pub fn next(&self) -> Option<Look> {
        let mut inner = self.lock();
        let is_due = inner.hinted_until.is_some_and(|until| until <= Instant::now());
        if is_due {
            let mut later = std::mem::take(&mut inner.later);
            inner.unanswered.append(&mut later);
        }
        let mut look = Look::default();
        while look.users.len() < LOOK_MAX
            && let Some(place) = inner.unanswered.pop_first()
        {
            if let Some(watch) = inner.watches.get(&place) {
                look.answers.push((place, watch.turn));
                look.users.extend(watch.watched.iter().map(|watched| watched.user));
            }
        }
        if is_due {
            while look.users.len() < LOOK_MAX
                && let Some((user, is_about_views)) = inner.hinted.pop_first()
            {
                look.hints.push(Hint { user, is_about_views });
                look.users.push(user);
            }
            if inner.hinted.is_empty() {
                inner.hinted_until = None;
            }
        }
        look.users.sort_unstable();
        look.users.dedup();
        (!look.answers.is_empty() || !look.hints.is_empty()).then_some(look)
    }

    /// Of whom it has to be known whether they share a conversation, viewer first: each once.
    pub fn unsure(&self, look: &Look, depends: impl Fn(UserId) -> bool) -> Vec<(UserId, UserId)> {
        let inner = self.lock();
        let mut pairs = BTreeSet::new();
        for (place, _) in &look.answers {
            let Some(watch) = inner.watches.get(place) else { continue };
            pairs.extend(watch.watched.iter().map(|watched| (watch.viewer, watched.user)));
        }
        for hint in &look.hints {
            for place in inner.viewers.get(&hint.user).into_iter().flatten() {
                let Some(watch) = inner.watches.get(place) else { continue };
                if hint.is_about_views || watch.find(hint.user).is_some_and(|one| one.shares.is_none()) {
                    pairs.insert((watch.viewer, hint.user));
                }
            }
        }
        pairs.into_iter().filter(|(viewer, user)| viewer != user && depends(*user)).collect()
    }

    /// Tells what was found: all of it to who asked, to others what has changed. `asked` is what `unsure` gave.
    pub fn learned(&self, look: &Look, found: &Found, asked: &[(UserId, UserId)], now: Timestamp) {
        let mut inner = self.lock();
        let news = News { found, asked, now };
        for (place, turn) in &look.answers {
            let Some(watch) = inner.watches.get_mut(place).filter(|watch| watch.turn == *turn) else {
                continue;
            };
            let viewer = watch.viewer;
            let seen = watch.watched.iter_mut().filter_map(|watched| news.of(viewer, watched));
            let seen: Vec<Seen> = seen.map(|(_, seen)| seen).collect();
            let mark = watch.asked.take().and_then(|asked| asked.mark);
            watch.mailbox.push(Item::Signal(frame::presence(&seen, mark.as_deref())));
        }
        let mut changed: BTreeMap<Place, Vec<Seen>> = BTreeMap::new();
        for hint in &look.hints {
            for place in inner.viewers.get(&hint.user).cloned().unwrap_or_default() {
                let watch = inner.watches.get_mut(&place).filter(|watch| watch.asked.is_none());
                let Some(watch) = watch else { continue };
                let viewer = watch.viewer;
                let Some(watched) = watch.find_mut(hint.user) else { continue };
                if let Some((before, seen)) = news.of(viewer, watched)
                    && is_news(before, watched.told)
                {
                    changed.entry(place).or_default().push(seen);
                }
            }
        }
        for (place, seen) in changed {
            if let Some(watch) = inner.watches.get(&place) {
                watch.mailbox.push(Item::Signal(frame::presence(&seen, None)));
            }
        }
    }

    /// It cannot be known now: who asked is told so, once, and all of it is looked at again in a second.
    pub fn failed(&self, look: Look) {
        let mut inner = self.lock();
        for (place, turn) in look.answers {
            let Some(watch) = inner.watches.get_mut(&place).filter(|watch| watch.turn == turn) else {
                continue;
            };
            if let Some(asked) = &mut watch.asked
                && let Some(unavailable) = asked.unavailable.take()
            {
                // The error has answered; what comes later comes by itself.
                asked.mark = None;
                watch.mailbox.push(Item::Signal(unavailable));
            }
            inner.later.insert(place);
        }
        for hint in look.hints {
            if inner.viewers.contains_key(&hint.user) {
                *inner.hinted.entry(hint.user).or_default() |= hint.is_about_views;
            }
        }
        inner.hinted_until = Some(Instant::now() + RETRY);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn unwatch(&mut self, place: Place) {
        let Some(watch) = self.watches.remove(&place) else { return };
        self.all -= watch.watched.len();
        for watched in watch.watched {
            let Some(viewers) = self.viewers.get_mut(&watched.user) else { continue };
            if let Ok(at) = viewers.binary_search(&place) {
                viewers.remove(at);
            }
            if viewers.is_empty() {
                self.viewers.remove(&watched.user);
                self.hinted.remove(&watched.user);
            }
        }
        self.unanswered.remove(&place);
        self.later.remove(&place);
    }
}

impl Watch {
    fn place_of(&self, user: UserId) -> Option<usize> {
        self.watched.binary_search_by_key(&user, |watched| watched.user).ok()
    }

    fn find(&self, user: UserId) -> Option<&Watched> {
        self.place_of(user).and_then(|place| self.watched.get(place))
    }

    fn find_mut(&mut self, user: UserId) -> Option<&mut Watched> {
        self.place_of(user).and_then(|place| self.watched.get_mut(place))
    }
}

#[cfg(test)]
mod tests;
