//! This node's registration: its users in Redis, its lease, and the generation that both belong to.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fred::types::Value;
use tokio::sync::{Notify, watch};
use tokio::time::MissedTickBehavior;

use super::connection::Connection;
use super::keys::{Keys, REGISTER, RENEW, UNREGISTER};
use super::roster::{Batch, Generation, Joined, Roster};
use super::{RedisError, RedisSettings, Unsettled};
use crate::domain::UserId;

/// Users of one command at most.
const BATCH_MAX: usize = 1_000;
/// A socket waits so long at most until Redis knows its user.
const KNOWN_WITHIN: Duration = Duration::from_secs(1);
/// Between two registrations on one connection, so that what always fails costs little.
const PAUSE: Duration = Duration::from_millis(50);

/// The registration. `joined` and `left` may come at any time; `keep` runs where the node hears what it is told.
pub struct Node {
    keys: Arc<Keys>,
    heartbeat: Duration,
    linger: Duration,
    unsettled: Arc<Unsettled>,
    roster: Mutex<Roster>,
    /// The generation that is sound; changed under the roster's lock.
    sound: watch::Sender<Option<Generation>>,
    /// Users are queued, or the generation ended.
    work: Notify,
    /// The generation whose set may still be in Redis.
    last: AtomicU64,
    /// Who came and went in a sound generation, as Redis has it; and the word that there are some.
    changed: Mutex<HashSet<UserId>>,
    changes: Notify,
}

impl Node {
    pub(super) fn new(keys: Arc<Keys>, settings: &RedisSettings, unsettled: Arc<Unsettled>) -> Self {
        Self {
            keys,
            heartbeat: settings.heartbeat,
            linger: settings.linger,
            unsettled,
            roster: Mutex::new(Roster::new()),
            sound: watch::Sender::default(),
            work: Notify::new(),
            last: AtomicU64::new(0),
            changed: Mutex::default(),
            changes: Notify::new(),
        }
    }

    /// A socket of this user is here. Returns once no publication that this node takes can leave the user out.
    ///
    /// # Errors
    /// Redis did not take the user in within a second. The generation has ended: until the next one the node takes
    /// no publications, and the next one begins with the user.
    pub async fn joined(&self, user: UserId) -> Result<(), RedisError> {
        let joined = self.lock().join(user);
        let Joined::Wait(generation, known) = joined else { return Ok(()) };
        self.work.notify_one();
        if tokio::time::timeout(KNOWN_WITHIN, known).await.is_err() {
            self.end(generation);
            return Err(RedisError("a user could not be registered within a second".to_owned()));
        }
        Ok(())
    }

    /// A socket of this user is gone.
    pub fn left(&self, user: UserId) {
        self.lock().leave(user);
        self.work.notify_one();
    }

    /// Waits until users have come or gone, and Redis has it; each since the last call. Those with whom a generation
    /// begins are not among them. One waiter.
    pub async fn changed(&self) -> Vec<UserId> {
        loop {
            let changed = std::mem::take(&mut *lock(&self.changed));
            if !changed.is_empty() {
                return changed.into_iter().collect();
            }
            self.changes.notified().await;
        }
    }

    /// The generation whose publications this node takes; none while it may miss some.
    pub fn sound(&self) -> watch::Receiver<Option<Generation>> {
        self.sound.subscribe()
    }

    /// Whether this generation is the sound one.
    pub fn is_sound(&self, generation: Generation) -> bool {
        *self.sound.borrow() == Some(generation)
    }

    /// The sound generation now.
    pub(super) fn sound_now(&self) -> Option<Generation> {
        *self.sound.borrow()
    }

    /// Ends this generation, if it is still the one that there is: another one begins where `keep` runs.
    pub(super) fn end(&self, generation: Generation) {
        let mut roster = self.lock();
        if roster.generation() == Some(generation) {
            roster.end();
            self.sound.send_replace(None);
            self.work.notify_one();
        }
    }

    /// Redis lost what it held of this generation, and perhaps of others.
    pub(super) fn lost(&self, generation: Generation) {
        tracing::warn!("Redis lost this node's registration: registering again");
        self.unsettled.lost();
        self.end(generation);
    }

    /// Ends whatever generation there is.
    pub fn away(&self) {
        let generation = self.lock().generation();
        if let Some(generation) = generation {
            self.end(generation);
        }
    }

    /// Registers, and again whenever a generation ends, until the connection fails. The generation may still
    /// stand then, as when this is given up: whoever runs it calls `away`.
    pub async fn keep(&self, connection: &Connection) -> RedisError {
        loop {
            let generation = Generation::random();
            match self.register(connection, generation).await {
                Ok(true) => match self.renew(connection, generation).await {
                    Ok(true) => {}
                    Ok(false) => self.lost(generation),
                    Err(error) => return error,
                },
                Ok(false) => self.lost(generation),
                Err(error) => return error,
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Puts everybody who is here into a set of their own; false when Redis lost some of it meanwhile.
    async fn register(&self, connection: &Connection, generation: Generation) -> Result<bool, RedisError> {
        self.lock().begin(generation);
        if let Some(last) = Generation::new(self.last.swap(generation.get(), Ordering::AcqRel)) {
            connection.unlink(self.keys.own_users(last)).await?;
        }
        self.flush(connection).await?;
        if !self.ask(connection, generation, REGISTER).await? {
            return Ok(false);
        }
        let mut roster = self.lock();
        if roster.sound(generation) {
            self.sound.send_replace(Some(generation));
        }
        Ok(true)
    }

    /// Keeps the lease and the set as they have to be. True when the generation ended, false when Redis lost it.
    async fn renew(&self, connection: &Connection, generation: Generation) -> Result<bool, RedisError> {
        let mut beat = tokio::time::interval(self.heartbeat);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        beat.tick().await;
        while self.lock().generation() == Some(generation) {
            tokio::select! {
                _ = beat.tick() => {
                    if !self.ask(connection, generation, RENEW).await? {
                        return Ok(false);
                    }
                }
                () = self.work.notified() => self.flush(connection).await?,
            }
        }
        Ok(true)
    }

    /// Tells Redis who came and who went, until there is nobody left to tell it of.
    async fn flush(&self, connection: &Connection) -> Result<(), RedisError> {
        loop {
            let batch = self.lock().batch(BATCH_MAX);
            let Some(batch) = batch else { return Ok(()) };
            let Batch { generation, enter, leave } = &batch;
            let values = |users: &[UserId]| users.iter().map(|user| Value::from(user.get())).collect();
            let key = self.keys.own_users(*generation);
            connection.change_set(key, values(enter), values(leave), self.set_life()).await?;
            self.lock().answered(&batch);
            if self.is_sound(*generation) {
                lock(&self.changed).extend(enter.iter().chain(leave));
                self.changes.notify_one();
            }
        }
    }

    async fn ask(
        &self,
        connection: &Connection,
        generation: Generation,
        script: &'static str,
    ) -> Result<bool, RedisError> {
        let inside = i64::try_from(self.lock().inside()).unwrap_or(i64::MAX);
        let arguments = vec![
            generation.to_string().into(),
            self.keys.node().into(),
            inside.into(),
            milliseconds(self.lease_life()).into(),
            milliseconds(self.set_life()).into(),
            milliseconds(self.linger_life()).into(),
        ];
        let done: i64 = connection.eval(script, self.key_names(generation), arguments).await?;
        Ok(done == 1)
    }

    /// Gives the lease up, so that nobody tells this node any more; who was there still counts as there while the set
    /// lingers.
    ///
    /// # Errors
    /// Redis does not answer; the lease ends by itself.
    pub async fn unregister(&self, connection: &Connection) -> Result<(), RedisError> {
        self.away();
        let Some(last) = Generation::new(self.last.swap(0, Ordering::AcqRel)) else { return Ok(()) };
        let arguments =
            vec![last.to_string().into(), self.keys.node().into(), milliseconds(self.linger).into()];
        connection.eval::<i64>(UNREGISTER, self.key_names(last), arguments).await.map(drop)
    }

    fn key_names(&self, generation: Generation) -> Vec<String> {
        vec![self.keys.own_users(generation), self.keys.nodes(), self.keys.lease(), self.keys.linger()]
    }

    fn lease_life(&self) -> Duration {
        self.heartbeat * 3 + Duration::from_secs(1)
    }

    /// After the lease; zero where nothing lingers.
    fn linger_life(&self) -> Duration {
        if self.linger.is_zero() { Duration::ZERO } else { self.lease_life() + self.linger }
    }

    /// Longer than the lease and what lingers: while one stands, nothing but loss makes an end of the set.
    fn set_life(&self) -> Duration {
        self.lease_life() * 3 + self.linger
    }

    fn lock(&self) -> MutexGuard<'_, Roster> {
        lock(&self.roster)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn milliseconds(life: Duration) -> i64 {
    i64::try_from(life.as_millis()).unwrap_or(i64::MAX)
}
