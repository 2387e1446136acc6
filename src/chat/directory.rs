//! Users as this node has read them lately, and the last good answer when storage is away. Whoever comes is read
//! again after 5 s, whoever is written to after 30 s.

use std::sync::Arc;
use std::time::Duration;

use moka::sync::Cache;
use tokio::time::Instant;

use crate::domain::{NameKey, ProfileChange, Subject, User, UserId};
use crate::storage::{StorageError, Users};

/// How long an answer is fresh about who comes: an operator's change is seen after this.
const FRESH: Duration = Duration::from_secs(5);
/// How long about who is written to. At 5 s a third of all statements were such reads (1,000 people, 2,000 messages a
/// second).
const FRESH_TO_OTHERS: Duration = Duration::from_secs(30);
/// How long an answer serves while storage is away.
const STALE: Duration = Duration::from_secs(600);
/// Users kept at most; about 200 bytes each.
const USERS_MAX: u64 = 100_000;

#[derive(Clone)]
struct Known {
    user: Arc<User>,
    read_at: Instant,
}

/// The cache.
pub struct Directory {
    users: Arc<dyn Users>,
    known: Cache<Subject, Known>,
}

impl Directory {
    /// A cache in front of storage.
    pub fn new(users: Arc<dyn Users>) -> Self {
        let known = Cache::builder().max_capacity(USERS_MAX).time_to_live(STALE).build();
        Self { users, known }
    }

    /// Somebody who is written to, by id. Nobody is remembered as absent.
    pub async fn recipient(&self, id: UserId) -> Result<Option<Arc<User>>, StorageError> {
        self.read_within(FRESH_TO_OTHERS, &Subject::Id(id)).await
    }

    /// The user of a subject, such as a token's.
    pub async fn by_subject(&self, subject: &Subject) -> Result<Option<Arc<User>>, StorageError> {
        self.read_within(FRESH, subject).await
    }

    async fn read_within(
        &self,
        fresh: Duration,
        subject: &Subject,
    ) -> Result<Option<Arc<User>>, StorageError> {
        let known = self.known.get(subject);
        if let Some(known) = &known
            && known.read_at.elapsed() < fresh
        {
            return Ok(Some(Arc::clone(&known.user)));
        }
        let began = Instant::now();
        match (self.users.user(subject).await, known) {
            (Ok(Some(user)), _) => Ok(Some(self.remember(subject, user, began))),
            (Ok(None), _) => {
                self.known.invalidate(subject);
                Ok(None)
            }
            (Err(_), Some(known)) => Ok(Some(known.user)),
            (Err(error), None) => Err(error),
        }
    }

    /// Makes the user of a subject where absent, and fills an empty name.
    pub async fn provision(&self, subject: &Subject, name: Option<&str>) -> Result<Arc<User>, StorageError> {
        let began = Instant::now();
        let user = self.users.provision(subject, name).await?;
        Ok(self.remember(subject, user, began))
    }

    /// Changes what a user says of themselves; `None` where there is no such user. Whoever asks this node for
    /// them then, by number or by `subject`, sees it.
    pub async fn change(
        &self,
        subject: &Subject,
        id: UserId,
        change: &ProfileChange,
    ) -> Result<Option<Arc<User>>, StorageError> {
        let Some(user) = self.users.change(id, change).await? else { return Ok(None) };
        let changed = Instant::now();
        self.remember(&Subject::Id(id), user.clone(), changed);
        Ok(Some(self.remember(subject, user, changed)))
    }

    /// The users whose names begin so, by name, at most `limit`; never from the cache.
    pub async fn named(&self, beginning: &NameKey, limit: u32) -> Result<Vec<User>, StorageError> {
        self.users.named(beginning, limit).await
    }

    /// Keeps an answer to what was asked at a moment, unless a later one is known: a read that was under way
    /// while somebody changed their name must not bring the old one back.
    fn remember(&self, subject: &Subject, user: User, asked_at: Instant) -> Arc<User> {
        let new = Known { user: Arc::new(user), read_at: asked_at };
        let kept = self.known.entry_by_ref(subject).and_upsert_with(|known| match known {
            Some(known) if known.value().read_at > asked_at => known.into_value(),
            Some(_) | None => new,
        });
        kept.into_value().user
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use tokio::sync::{Mutex, Notify};

    use super::*;
    use crate::storage::{NewUser, Saved};

    /// One user, whose name is read at once and told when the test says so.
    #[derive(Default)]
    struct Slow {
        name: Mutex<String>,
        was_read: Notify,
        may_answer: Notify,
    }

    fn somebody(name: String) -> User {
        let id = UserId::new(1).unwrap();
        User { id, external_id: None, name, email: None, disabled: false, time_zone: None, language: None }
    }

    fn refused<T>() -> Result<T, StorageError> {
        Err(StorageError::Unavailable("not here".into()))
    }

    #[async_trait]
    impl Users for Slow {
        async fn user(&self, _: &Subject) -> Result<Option<User>, StorageError> {
            let name = self.name.lock().await.clone();
            self.was_read.notify_one();
            self.may_answer.notified().await;
            Ok(Some(somebody(name)))
        }

        async fn change(&self, _: UserId, change: &ProfileChange) -> Result<Option<User>, StorageError> {
            let mut name = self.name.lock().await;
            name.clone_from(change.name.as_ref().unwrap());
            Ok(Some(somebody(name.clone())))
        }

        async fn provision(&self, _: &Subject, _: Option<&str>) -> Result<User, StorageError> {
            refused()
        }

        async fn save(&self, _: &[NewUser]) -> Result<Vec<Saved>, StorageError> {
            refused()
        }

        async fn add_missing(&self, _: &[NewUser]) -> Result<(), StorageError> {
            refused()
        }

        async fn named(&self, _: &NameKey, _: u32) -> Result<Vec<User>, StorageError> {
            refused()
        }

        async fn list(&self, _: i64, _: u32) -> Result<Vec<User>, StorageError> {
            refused()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_read_that_was_under_way_brings_no_old_name_back() {
        let users = Arc::new(Slow::default());
        let directory = Arc::new(Directory::new(Arc::clone(&users) as Arc<dyn Users>));
        let (reader, id) = (Arc::clone(&directory), UserId::new(1).unwrap());
        let reading = tokio::spawn(async move { reader.recipient(id).await.unwrap().unwrap() });
        users.was_read.notified().await;
        tokio::time::advance(Duration::from_millis(1)).await;
        let external = Subject::External { issuer: String::new(), id: "ana".into() };
        let change = ProfileChange { name: Some("Anna".into()), ..ProfileChange::default() };
        directory.change(&external, id, &change).await.unwrap();
        users.may_answer.notify_one();
        assert_eq!(reading.await.unwrap().name, "Anna", "even for who had asked before");
        for subject in [Subject::Id(id), external] {
            assert_eq!(directory.by_subject(&subject).await.unwrap().unwrap().name, "Anna");
        }
    }
}
