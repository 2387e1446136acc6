//! What the tests stand on: a database in a folder of its own, somebody who applies what is said, and a mail
//! server that answers as it is told.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chatd::domain::history::Rules;
use chatd::domain::{
    ClientId, Content, ConversationId, EmailAddress, Frontier, LogNumber, MessageBody, MessageId, Offset,
    Record, RecordBody, Seq, Timestamp, UserId,
};
use chatd::notify::capture::CaptureChannel;
use chatd::notify::{
    Backoff, Channel, ChannelError, Connection, ContentPolicy, Mail, NotifySettings, Worker,
};
use chatd::pipeline::LogIdentity;
use chatd::storage::sqlite::{SqliteSettings, SqliteStore};
use chatd::storage::{Batch, Ledger, Move, NewUser, PartitionBatch, Receipts, Users};
use chatd::telemetry::story::{Line, Story, Teller};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// So long devices have to confirm in these tests.
pub const GRACE: Duration = Duration::from_millis(500);
/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(10);

pub fn user(id: i64) -> UserId {
    UserId::new(id).unwrap()
}

pub fn dm(a: i64, b: i64) -> ConversationId {
    ConversationId::dm(user(a), user(b)).unwrap()
}

/// A database with one partition of a log, and whoever owns that partition.
pub struct House {
    pub folder: tempfile::TempDir,
    pub store: Arc<SqliteStore>,
    log: LogNumber,
    epoch: i64,
    next: Offset,
    /// How far the nodes have been told; the workers read it.
    published: Arc<Mutex<Frontier>>,
}

impl House {
    /// user2 and user3 have addresses, user4 has none.
    pub async fn open() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("chatd.db");
        let store = Arc::new(SqliteStore::open(SqliteSettings::new(path)).await.unwrap());
        let log = store.attach_log(LogIdentity { id: Uuid::from_u128(1), partitions: 1 }).await.unwrap();
        let claim = store.claim(log, &[0]).await.unwrap().remove(0);
        let person = |id: i64, has_address: bool| NewUser {
            id: user(id),
            name: format!("user{id}"),
            email: has_address.then(|| format!("user{id}@example.test")),
        };
        store.save(&[person(2, true), person(3, true), person(4, false)]).await.unwrap();
        let published = Arc::new(Mutex::new(Frontier::nothing(log, 1)));
        Self { folder, store, log, epoch: claim.epoch, next: claim.next_offset, published }
    }

    /// Stores a message and tells nobody.
    pub async fn store_only(&mut self, from: i64, to: i64, content: &str) -> MessageId {
        let content = Content::new(content).unwrap();
        self.store_record(from, to, RecordBody::Message(MessageBody { content, data: None, reply_to: None }))
            .await
    }

    async fn store_record(&mut self, from: i64, to: i64, body: RecordBody) -> MessageId {
        let client_id = ClientId::new(format!("c{}", self.next)).unwrap();
        let conversation = dm(from, to);
        let id = MessageId::derive(conversation, user(from), &client_id);
        let record = Record { id, client_id, conversation, from: user(from), at: Timestamp::now(), body };
        let batch = PartitionBatch {
            partition: 0,
            epoch: self.epoch,
            expected: self.next,
            next: self.next + 1,
            last_digest: Uuid::from_u128(1),
            published: -1,
            records: vec![(self.next, record)],
            dead: Vec::new(),
        };
        let batch = Batch { log: self.log, partitions: vec![batch], grace: GRACE, rules: Rules::default() };
        self.store.apply(batch).await.unwrap();
        self.next += 1;
        id
    }

    /// An author edits a message.
    pub async fn edit(&mut self, from: i64, to: i64, target: MessageId, content: &str) {
        let content = Content::new(content).unwrap();
        self.store_record(from, to, RecordBody::Edit { target, content }).await;
        self.publish();
    }

    /// An author deletes a message.
    pub async fn delete(&mut self, from: i64, to: i64, target: MessageId) {
        self.store_record(from, to, RecordBody::Delete { target }).await;
        self.publish();
    }

    /// Tells the nodes of everything stored.
    pub fn publish(&self) {
        self.published.lock().unwrap().advance(0, self.next - 1);
    }

    pub async fn say(&mut self, from: i64, to: i64, content: &str) -> MessageId {
        let id = self.store_only(from, to, content).await;
        self.publish();
        id
    }

    /// A device confirms everything up to a seq.
    pub async fn confirm(&self, who: i64, other: i64, to: i64) {
        let each = Move {
            conversation: dm(who, other),
            user: user(who),
            delivered_from: Seq(1),
            delivered_to: Seq(to),
            read: Seq(0),
        };
        self.store.advance(&[each]).await.unwrap();
    }

    pub fn mail_folder(&self) -> PathBuf {
        self.folder.path().join("mail")
    }

    /// The mails that were captured, oldest first.
    pub fn captured(&self) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.mail_folder()) else { return Vec::new() };
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|ending| ending == "eml"));
        files.sort();
        files.iter().map(|path| std::fs::read_to_string(path).unwrap()).collect()
    }

    /// A worker that captures.
    pub fn capturing(&self) -> Running {
        self.work(Arc::new(CaptureChannel::new(self.mail_folder()).unwrap()))
    }

    pub fn work(&self, channel: Arc<dyn Channel>) -> Running {
        let settings = NotifySettings {
            grace: GRACE,
            max_age: NotifySettings::GIVE_UP_AFTER,
            min_interval: Duration::ZERO,
            per_day: 0,
            content: ContentPolicy::Text,
            public_url: None,
            from: EmailAddress::new("chat@example.test").unwrap().into(),
            retry: Backoff { first: GRACE, longest: GRACE },
            give_up_after: NotifySettings::GIVE_UP_AFTER,
            reconnect: Backoff { first: GRACE, longest: GRACE },
        };
        let published = Arc::clone(&self.published);
        let published = Box::new(move || Some(published.lock().unwrap().clone()));
        let (story, teller) = Story::told();
        let worker = Worker::new(settings, self.store.clone(), channel, Arc::new(story), published);
        let stop = CancellationToken::new();
        Running { task: tokio::spawn(worker.run(stop.clone())), stop, teller }
    }
}

/// A worker that runs.
pub struct Running {
    task: JoinHandle<()>,
    stop: CancellationToken,
    teller: Teller,
}

impl Running {
    /// The next line of the story: whom it is about, and what it says.
    pub async fn told(&mut self) -> (UserId, String) {
        match timeout(PATIENCE, self.teller.next()).await.expect("nothing was told") {
            Some(Line::Mail { user, what }) => (user, what),
            other => panic!("{other:?}"),
        }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        timeout(PATIENCE, self.task).await.expect("it did not stop").unwrap();
    }

    /// The process dies.
    pub async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.unwrap_err().is_cancelled());
    }
}

/// A mail server that answers as it is told; where nothing is told, it takes the mail.
#[derive(Clone, Default)]
pub struct Server(Arc<Mutex<Desk>>);

#[derive(Default)]
struct Desk {
    is_down: bool,
    answers: VecDeque<Result<(), ChannelError>>,
    taken: Vec<Mail>,
    tried: Vec<Mail>,
    connects: usize,
    takes: Duration,
    connecting: Duration,
}

impl Server {
    pub fn answer(&self, answer: ChannelError) {
        self.0.lock().unwrap().answers.push_back(Err(answer));
    }

    pub fn is_down(&self, is_down: bool) {
        self.0.lock().unwrap().is_down = is_down;
    }

    /// How long a mail takes.
    pub fn takes(&self, time: Duration) {
        self.0.lock().unwrap().takes = time;
    }

    /// How long connecting takes.
    pub fn connecting(&self, time: Duration) {
        self.0.lock().unwrap().connecting = time;
    }

    pub fn taken(&self) -> Vec<Mail> {
        self.0.lock().unwrap().taken.clone()
    }

    /// The mails of all tries, taken or not.
    pub fn tried(&self) -> Vec<Mail> {
        self.0.lock().unwrap().tried.clone()
    }

    /// How often somebody connected.
    pub fn connects(&self) -> usize {
        self.0.lock().unwrap().connects
    }
}

#[async_trait]
impl Channel for Server {
    fn name(&self) -> &'static str {
        "server"
    }

    fn longest_send(&self) -> Duration {
        Duration::from_millis(100)
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ChannelError> {
        let connecting = {
            let mut desk = self.0.lock().unwrap();
            desk.connects += 1;
            desk.connecting
        };
        sleep(connecting).await;
        if self.0.lock().unwrap().is_down {
            return Err(ChannelError::temporary("connect: connection refused"));
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Connection for Server {
    async fn send(&mut self, mail: &Mail) -> Result<(), ChannelError> {
        let takes = self.0.lock().unwrap().takes;
        sleep(takes).await;
        let mut desk = self.0.lock().unwrap();
        desk.tried.push(mail.clone());
        let answer = desk.answers.pop_front().unwrap_or(Ok(()));
        if answer.is_ok() {
            desk.taken.push(mail.clone());
        }
        answer
    }
}
