//! The order of a socket's messages, with a log and a directory that answer when the test says so.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tempfile::TempDir;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::app::build::build;
use crate::chat::directory::Directory;
use crate::chat::send::{Send, Target};
use crate::config::{Config, Sources};
use crate::domain::{Content, MessageBody, NameKey, Offset, ProfileChange, Subject, User, UserId};
use crate::pipeline::{Appending, Entry, EventLog, LogIdentity};
use crate::storage::{NewUser, Saved, StorageError, Users};
use crate::telemetry::story::Story;

const SLOW: i64 = 90;
const AWAY: i64 = 91;

/// An append that waits for its answer.
type Held = (Entry, Generation, oneshot::Sender<Result<Offset, LogError>>);

/// A log that keeps every append waiting for its answer.
struct HeldLog {
    identity: LogIdentity,
    generation: AtomicU64,
    held: Mutex<Vec<Held>>,
}

impl EventLog for HeldLog {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Relaxed))
    }

    fn append(&self, entry: Entry, generation: Generation) -> Appending {
        let (answer, answered) = oneshot::channel();
        self.held.lock().unwrap().push((entry, generation, answer));
        answered.map(|answer| answer.unwrap()).boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

impl HeldLog {
    /// What was appended, by content, and with which generation.
    fn appended(&self) -> Vec<(String, u64)> {
        let held = self.held.lock().unwrap();
        held.iter().map(|(entry, generation, _)| (content(entry), generation.0)).collect()
    }

    /// Answers the append of this content.
    fn answer(&self, wanted: &str, answer: Result<Offset, LogError>) {
        let mut held = self.held.lock().unwrap();
        let index = held.iter().position(|(entry, ..)| content(entry) == wanted).unwrap();
        held.remove(index).2.send(answer).unwrap();
    }
}

fn content(entry: &Entry) -> String {
    let record: serde_json::Value = serde_json::from_slice(&entry.value).unwrap();
    record["content"].as_str().unwrap().to_owned()
}

/// Users of any id; 90 is found when the test says so, 91 cannot be looked up.
struct Slow(Arc<Notify>);

#[async_trait]
impl Users for Slow {
    async fn user(&self, subject: &Subject) -> Result<Option<User>, StorageError> {
        let Subject::Id(id) = subject else { return Ok(None) };
        match id.get() {
            SLOW => self.0.notified().await,
            AWAY => return Err(StorageError::Unavailable("away".into())),
            _ => {}
        }
        Ok(Some(user(id.get())))
    }

    async fn provision(&self, _: &Subject, _: Option<&str>) -> Result<User, StorageError> {
        Err(StorageError::Unavailable("nobody is made here".into()))
    }

    async fn save(&self, _: &[NewUser]) -> Result<Vec<Saved>, StorageError> {
        Err(StorageError::Unavailable("nobody is made here".into()))
    }

    async fn add_missing(&self, _: &[NewUser]) -> Result<(), StorageError> {
        Err(StorageError::Unavailable("nobody is made here".into()))
    }

    async fn named(&self, _: &NameKey, _: u32) -> Result<Vec<User>, StorageError> {
        Ok(Vec::new())
    }

    async fn change(&self, _: UserId, _: &ProfileChange) -> Result<Option<User>, StorageError> {
        Err(StorageError::Unavailable("nobody changes here".into()))
    }

    async fn list(&self, _: i64, _: u32) -> Result<Vec<User>, StorageError> {
        Ok(Vec::new())
    }
}

fn user(id: i64) -> User {
    User {
        id: UserId::new(id).unwrap(),
        external_id: None,
        name: "x".into(),
        email: None,
        disabled: false,
        time_zone: None,
        language: None,
    }
}

struct Bench {
    sends: Sends,
    caller: Caller,
    log: Arc<HeldLog>,
    found: Arc<Notify>,
    _folder: TempDir,
}

impl Bench {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let config = Config::load(&Sources::new(folder.path()).with("JWT_SECRET", &"s".repeat(32))).unwrap();
        let mut app = build(&config, Story::default()).await.unwrap().app;
        let identity = app.log.identity();
        let log = Arc::new(HeldLog { identity, generation: AtomicU64::new(7), held: Mutex::default() });
        let found = Arc::new(Notify::new());
        let inside = Arc::get_mut(&mut app).unwrap();
        inside.log = log.clone();
        inside.directory = Directory::new(Arc::new(Slow(Arc::clone(&found))));
        let caller = Caller { user: Arc::new(user(1)), issuer: String::new(), expires_at: None };
        Self { sends: Sends::new(app), caller, log, found, _folder: folder }
    }

    /// Sends this text, which is its ref and client_id too.
    fn push(&mut self, text: &str, to: i64) {
        let body = MessageBody { content: Content::new(text).unwrap(), data: None, reply_to: None };
        let client_id = Some(ClientId::new(&text[..1]).unwrap());
        let send = Send { client_id, target: Target::User(UserId::new(to).unwrap()), body };
        self.sends.push(Some(text[..1].into()), Command::Send(send), &self.caller);
    }

    /// Lets everything happen that can, and gives the answers: ref, and the code of an error.
    async fn settle(&mut self) -> Vec<(String, &'static str)> {
        let mut settled = Vec::new();
        for _ in 0..100 {
            tokio::task::yield_now().await;
            let next = std::future::poll_fn(|cx| self.sends.poll_next(&self.caller, cx));
            if let Some(Settled { mark, client_id, result }) = next.now_or_never() {
                assert_eq!(mark.as_deref(), client_id.as_ref().map(ClientId::as_str));
                let code = result.map_or_else(|error| error.code.as_str(), |_| "accepted");
                settled.push((mark.unwrap().into(), code));
            }
        }
        settled
    }
}

fn told(answers: &[(&str, &'static str)]) -> Vec<(String, &'static str)> {
    answers.iter().map(|&(mark, code)| (mark.to_owned(), code)).collect()
}

fn appended(entries: &[(&str, u64)]) -> Vec<(String, u64)> {
    entries.iter().map(|&(text, generation)| (text.to_owned(), generation)).collect()
}

#[tokio::test]
async fn many_are_in_flight_and_answered_in_the_order_sent() {
    let mut bench = Bench::new().await;
    for text in ["a", "b", "c"] {
        bench.push(text, 2);
    }
    assert_eq!(bench.settle().await, []);
    assert_eq!(bench.log.appended(), appended(&[("a", 7), ("b", 7), ("c", 7)]));
    bench.log.answer("c", Ok(2));
    bench.log.answer("b", Ok(1));
    assert_eq!(bench.settle().await, [], "the first is not durable yet");
    bench.log.answer("a", Ok(0));
    assert_eq!(bench.settle().await, told(&[("a", "accepted"), ("b", "accepted"), ("c", "accepted")]));
    assert!(bench.sends.is_empty());
}

#[tokio::test]
async fn a_message_whose_recipient_is_looked_up_slowly_is_not_overtaken() {
    let mut bench = Bench::new().await;
    bench.push("a", SLOW);
    bench.push("b", 2);
    assert_eq!(bench.settle().await, []);
    assert_eq!((bench.log.appended(), bench.sends.len()), (vec![], 2));
    bench.found.notify_one();
    bench.settle().await;
    assert_eq!(bench.log.appended(), appended(&[("a", 7), ("b", 7)]));
}

#[tokio::test]
async fn behind_a_message_whose_fate_is_open_those_that_wait_fail_too() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.push("b", AWAY);
    bench.push("c", 2);
    bench.push("d", 2);
    assert_eq!(
        bench.settle().await,
        told(&[("b", "unavailable"), ("c", "unavailable"), ("d", "unavailable")])
    );
    assert_eq!(bench.log.appended(), appended(&[("a", 7)]), "what went before goes on");
    bench.log.answer("a", Ok(0));
    assert!(!bench.sends.wants_fence(), "the client would not have every answer in front of it");
    assert_eq!(bench.settle().await, told(&[("a", "accepted")]));
    assert!(bench.sends.wants_fence());
    bench.sends.lift_fence();
    bench.push("c", 2);
    bench.settle().await;
    assert_eq!(bench.log.appended(), appended(&[("c", 7)]), "later ones are taken again");
}

#[tokio::test]
async fn what_is_read_after_a_failure_is_refused_until_the_fence_is_answered() {
    for (error, code) in [
        (LogError::Unavailable("away".into()), "unavailable"),
        (LogError::Overloaded, "overloaded"),
        (LogError::Behind, "unavailable"),
    ] {
        let mut bench = Bench::new().await;
        bench.push("a", 2);
        bench.settle().await;
        assert!(!bench.sends.wants_fence());
        bench.log.generation.store(8, Ordering::Relaxed);
        bench.log.answer("a", Err(error));
        assert_eq!(bench.settle().await, told(&[("a", code)]));
        assert!(bench.sends.wants_fence());
        for text in ["b", "c"] {
            bench.push(text, 2);
            assert_eq!(bench.settle().await, told(&[(text, "unavailable")]));
            assert!(!bench.sends.wants_fence(), "one fence for them all");
        }
        assert_eq!(bench.log.appended(), []);
        bench.push("d", 2);
        bench.sends.lift_fence();
        bench.push("a", 2);
        assert_eq!(bench.settle().await, told(&[("d", "unavailable")]));
        assert_eq!(bench.log.appended(), appended(&[("a", 8)]), "with the new generation");
    }
}

#[tokio::test]
async fn a_message_that_is_being_checked_when_one_before_it_fails_is_not_appended() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.settle().await;
    bench.push("b", SLOW);
    bench.push("c", 2);
    bench.settle().await;
    bench.log.answer("a", Err(LogError::Overloaded));
    assert_eq!(bench.settle().await, told(&[("a", "overloaded"), ("c", "unavailable")]));
    assert!(!bench.sends.wants_fence());
    bench.found.notify_one();
    assert_eq!(bench.settle().await, told(&[("b", "unavailable")]));
    assert_eq!(bench.log.appended(), []);
    assert!(bench.sends.wants_fence());
}

#[tokio::test]
async fn a_retry_of_what_is_durable_is_refused_behind_a_failure_too() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.settle().await;
    bench.log.answer("a", Ok(0));
    bench.settle().await;
    bench.push("b", AWAY);
    bench.push("a", 2);
    assert_eq!(bench.settle().await, told(&[("b", "unavailable"), ("a", "unavailable")]));
    assert!(bench.sends.wants_fence());
    bench.push("a", 2);
    assert_eq!(bench.settle().await, told(&[("a", "unavailable")]));
    bench.sends.lift_fence();
    bench.push("a", 2);
    assert_eq!(bench.settle().await, told(&[("a", "accepted")]));
}

#[tokio::test]
async fn a_message_that_is_wrong_by_itself_fails_alone() {
    let mut bench = Bench::new().await;
    bench.push(&"a".repeat(16_385), 2);
    bench.push("b", 1);
    bench.push("c", 2);
    assert_eq!(bench.settle().await, told(&[("a", "too_large"), ("b", "invalid")]));
    assert_eq!(bench.log.appended(), appended(&[("c", 7)]));
    bench.log.answer("c", Ok(0));
    bench.settle().await;
    assert!(!bench.sends.wants_fence());
}

#[tokio::test]
async fn a_failed_append_fails_alone_here_since_the_log_refuses_those_of_its_generation() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.push("b", 2);
    bench.settle().await;
    bench.log.generation.store(8, Ordering::Relaxed);
    bench.log.answer("a", Err(LogError::Overloaded));
    assert_eq!(bench.settle().await, told(&[("a", "overloaded")]));
    assert!(!bench.sends.wants_fence(), "another error is to come");
    assert_eq!(bench.log.appended(), appended(&[("b", 7)]));
    bench.log.answer("b", Err(LogError::Behind));
    assert_eq!(bench.settle().await, told(&[("b", "unavailable")]));
    assert!(bench.sends.wants_fence());
}

#[tokio::test]
async fn those_sent_while_one_is_in_flight_share_its_generation() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.settle().await;
    bench.log.generation.store(8, Ordering::Relaxed);
    bench.push("b", 2);
    bench.settle().await;
    assert_eq!(bench.log.appended(), appended(&[("a", 7), ("b", 7)]));
    bench.log.answer("a", Ok(0));
    bench.log.answer("b", Ok(1));
    bench.settle().await;
    bench.push("c", 2);
    bench.settle().await;
    assert_eq!(bench.log.appended(), appended(&[("c", 8)]), "with nothing in flight: the new one");
}

#[tokio::test]
async fn a_retry_of_what_is_durable_is_answered_at_once_and_another_content_is_refused() {
    let mut bench = Bench::new().await;
    bench.push("a", 2);
    bench.settle().await;
    bench.log.answer("a", Ok(0));
    bench.settle().await;
    bench.push("a", 2);
    bench.push("ab", 2);
    let mut answers = bench.settle().await;
    answers.sort();
    let expected = told(&[("a", "accepted"), ("a", "client_id_reused")]);
    assert_eq!(answers, expected, "a refusal waits for nothing before it");
    assert_eq!(bench.log.appended(), []);
}

#[tokio::test]
async fn everything_on_its_way_counts_so_that_the_socket_is_read_no_further() {
    let mut bench = Bench::new().await;
    for _ in 0..IN_FLIGHT_MAX {
        bench.push("a", SLOW);
    }
    assert_eq!(bench.sends.len(), IN_FLIGHT_MAX, "none is lost from the count while it waits");
    bench.found.notify_one();
    bench.settle().await;
    assert_eq!(bench.sends.len(), IN_FLIGHT_MAX, "nor while it is appended");
}
