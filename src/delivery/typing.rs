//! Who is typing: what a node remembers of its own typers, and when others are told of them. Pure but for a lock.
//!
//! The typer's node knows best: it tells that somebody began, goes on, and stopped. A node that was told keeps
//! that for a while of its own (`Hub::typing`), since the end may be lost on its way.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::hub::Place;
use crate::domain::{ConversationId, UserId};

/// Somebody of whom nothing is heard for so long types no more (protocol.md section 3).
pub const EXPIRES: Duration = Duration::from_secs(6);
/// That somebody types is told once in this time at most, however often it is said; that they stopped, at once.
pub const PACE: Duration = Duration::from_secs(1);
/// A node that was told ends it by itself after this: later than the typer's node, which is heard of again a pace
/// after the news at most.
pub const FORGOTTEN: Duration = Duration::from_secs(8);
/// What is due is looked for so often.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// In larger conversations nobody is told (protocol.md section 3).
pub const MEMBERS_MAX: usize = 50;
/// Typers of a node, and those it was told of, at most, about 100 bytes each; what is beyond is not told.
pub const TYPERS_MAX: usize = 100_000;

/// That somebody types, or stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Typing {
    /// Where.
    pub conversation: ConversationId,
    /// Who.
    pub user: UserId,
    /// False: no more.
    pub active: bool,
}

type Key = (UserId, ConversationId);

#[derive(Debug, Clone, Copy)]
struct Typer {
    /// Where they type; the end of this socket is the end of it.
    place: Place,
    /// When they said so last; none: they stopped.
    news: Option<Instant>,
    /// Others were told so.
    told: bool,
    /// Others are not told that they type before this.
    not_before: Instant,
}

/// The typers of this node.
#[derive(Debug, Default)]
pub struct Typers {
    inner: Mutex<Inner>,
    some: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    typers: HashMap<Key, Typer>,
    /// To be told; the newest of each.
    news: HashMap<Key, bool>,
}

impl Typers {
    /// Somebody says on a socket that they type, or no more.
    pub fn say(
        &self,
        place: Place,
        user: UserId,
        conversation: ConversationId,
        is_active: bool,
        now: Instant,
    ) {
        let mut inner = self.lock();
        if is_active {
            inner.begin((user, conversation), place, now);
        } else {
            inner.stop((user, conversation));
        }
        drop(inner);
        self.some.notify_one();
    }

    /// Somebody wrote what they typed, on whatever device.
    pub fn wrote(&self, user: UserId, conversation: ConversationId) {
        let mut inner = self.lock();
        if inner.typers.contains_key(&(user, conversation)) {
            inner.stop((user, conversation));
            drop(inner);
            self.some.notify_one();
        }
    }

    /// A socket of this user has ended.
    pub fn left(&self, place: Place, user: UserId) {
        let mut inner = self.lock();
        let stopped = |(key, typer): (&Key, &Typer)| (key.0 == user && typer.place == place).then_some(*key);
        let stopped: Vec<Key> = inner.typers.iter().filter_map(stopped).collect();
        if !stopped.is_empty() {
            stopped.into_iter().for_each(|key| inner.stop(key));
            drop(inner);
            self.some.notify_one();
        }
    }

    /// This node was told of somebody, which it has to end in time.
    pub(super) fn wake(&self) {
        self.some.notify_one();
    }

    /// Waits until there may be something to tell, or to end. One waiter.
    pub async fn some(&self) {
        self.some.notified().await;
    }

    /// Whether time alone brings something to tell.
    pub fn is_empty(&self) -> bool {
        self.lock().typers.is_empty()
    }

    /// What is to be told now.
    pub fn take(&self, now: Instant) -> Vec<Typing> {
        let mut inner = self.lock();
        inner.pass_time(now);
        let news = std::mem::take(&mut inner.news);
        news.into_iter().map(|((user, conversation), active)| Typing { conversation, user, active }).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn begin(&mut self, key: Key, place: Place, now: Instant) {
        if self.typers.len() >= TYPERS_MAX && !self.typers.contains_key(&key) {
            return;
        }
        let new = Typer { place, news: None, told: false, not_before: now };
        let typer = self.typers.entry(key).or_insert(new);
        (typer.place, typer.news) = (place, Some(now));
        if now >= typer.not_before {
            (typer.told, typer.not_before) = (true, now + PACE);
            self.news.insert(key, true);
        }
    }

    fn stop(&mut self, key: Key) {
        let Some(typer) = self.typers.get_mut(&key) else { return };
        typer.news = None;
        if std::mem::take(&mut typer.told) {
            self.news.insert(key, false);
        }
    }

    /// Ends what has expired, tells what had to wait, and forgets those who stopped once their pace is over.
    fn pass_time(&mut self, now: Instant) {
        let Self { typers, news } = self;
        typers.retain(|key, typer| {
            if typer.news.is_some_and(|at| now >= at + EXPIRES) {
                typer.news = None;
            }
            match typer.news {
                Some(_) if !typer.told && now >= typer.not_before => {
                    (typer.told, typer.not_before) = (true, now + PACE);
                    news.insert(*key, true);
                }
                None if std::mem::take(&mut typer.told) => _ = news.insert(*key, false),
                Some(_) | None => {}
            }
            typer.news.is_some() || now < typer.not_before
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(id: i64) -> UserId {
        UserId::new(id).unwrap()
    }

    fn dm(a: i64, b: i64) -> ConversationId {
        ConversationId::dm(user(a), user(b)).unwrap()
    }

    struct Scene {
        typers: Typers,
        start: Instant,
    }

    impl Scene {
        fn new() -> Self {
            Self { typers: Typers::default(), start: Instant::now() }
        }

        fn at(&self, ms: u64) -> Instant {
            self.start + Duration::from_millis(ms)
        }

        fn say(&self, ms: u64, is_active: bool) {
            self.typers.say(Place::new(1), user(1), dm(1, 2), is_active, self.at(ms));
        }

        fn told(&self, ms: u64) -> Vec<bool> {
            self.typers.take(self.at(ms)).into_iter().map(|typing| typing.active).collect()
        }
    }

    #[test]
    fn others_are_told_at_once_and_of_the_end_after_six_seconds_without_news() {
        let scene = Scene::new();
        scene.say(0, true);
        assert_eq!(scene.told(0), [true]);
        scene.say(900, true);
        assert_eq!(scene.told(6_899), [] as [bool; 0], "six seconds after the last news, told or not");
        assert_eq!(scene.told(6_900), [false]);
        assert!(scene.typers.is_empty(), "nothing is kept");
    }

    #[test]
    fn who_says_it_at_every_key_is_told_of_once_a_second() {
        let scene = Scene::new();
        let mut told = 0;
        for ms in (0..10_000).step_by(50) {
            scene.say(ms, true);
            told += scene.told(ms).len();
        }
        assert_eq!(told, 10);
    }

    #[test]
    fn who_stops_is_told_of_at_once_and_who_begins_again_a_pace_after_the_last_time() {
        let scene = Scene::new();
        scene.say(0, true);
        assert_eq!(scene.told(0), [true]);
        scene.say(100, false);
        assert_eq!(scene.told(100), [false]);
        scene.say(200, true);
        assert_eq!(scene.told(999), [] as [bool; 0]);
        assert_eq!(scene.told(1_000), [true]);
        for ms in (1_001..1_999).step_by(2) {
            scene.say(ms, false);
            scene.say(ms + 1, true);
        }
        assert_eq!(scene.told(1_999), [false], "of both only the stop, until the pace is over");
        assert_eq!(scene.told(2_000), [true]);
    }

    #[test]
    fn a_message_and_the_end_of_the_socket_stop_it() {
        let scene = Scene::new();
        let typers = &scene.typers;
        scene.say(0, true);
        assert_eq!(scene.told(0), [true]);
        typers.wrote(user(2), dm(1, 2));
        typers.wrote(user(1), dm(1, 3));
        assert_eq!(scene.told(10), [] as [bool; 0], "another's, and elsewhere");
        typers.wrote(user(1), dm(1, 2));
        assert_eq!(scene.told(20), [false]);
        scene.say(2_000, true);
        typers.say(Place::new(2), user(1), dm(1, 3), true, scene.at(2_000));
        assert_eq!(scene.told(2_000), [true, true]);
        typers.left(Place::new(2), user(1));
        let told = typers.take(scene.at(2_100));
        assert_eq!(told, [Typing { conversation: dm(1, 3), user: user(1), active: false }]);
        typers.left(Place::new(1), user(1));
        assert_eq!(scene.told(2_200), [false]);
    }

    #[test]
    fn who_never_began_cannot_stop() {
        let scene = Scene::new();
        scene.say(0, false);
        assert_eq!(scene.told(0), [] as [bool; 0]);
        assert!(scene.typers.is_empty());
    }
}
