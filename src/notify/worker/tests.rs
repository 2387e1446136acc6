//! The worker in paused time, over a storage that plays along: days pass in a moment.

use std::collections::VecDeque;
use std::sync::Mutex;

use async_trait::async_trait;

use super::*;
use crate::domain::{ConversationId, EmailAddress, LogNumber, UserId};
use crate::notify::{Address, ChannelError, Connection, ContentPolicy, Mail};
use crate::storage::{DuePolicy, LeasedMail, Letter, Raised, Settlement};

const MINUTE: Duration = Duration::from_secs(60);

fn ana() -> UserId {
    UserId::new(1).unwrap()
}

fn conversation() -> ConversationId {
    ConversationId::dm(ana(), UserId::new(2).unwrap()).unwrap()
}

struct Waiting {
    mail: LeasedMail,
    not_before: Instant,
    leased_until: Instant,
}

/// A storage in memory, and what was asked of it.
#[derive(Default)]
struct Stage {
    waiting: Vec<Waiting>,
    settled: Vec<(i64, Settlement)>,
    /// When conversations were raised.
    raises: Vec<(Instant, DuePolicy)>,
    /// How many conversations are due.
    due: u32,
    looks: u32,
    /// So many calls of `settle_mail` fail.
    settle_faults: u32,
    is_away: bool,
}

#[derive(Default)]
struct Fake(Mutex<Stage>);

impl Fake {
    fn with(mails: i64, age: Duration) -> Arc<Self> {
        let now = Instant::now();
        let created_at = Timestamp::now().minus(age);
        let waiting = (1..=mails).map(|id| Waiting {
            mail: LeasedMail {
                id,
                conversation: conversation(),
                user: ana(),
                attempts: 0,
                created_at,
                message_id: uuid::Uuid::from_u128(id.unsigned_abs().into()),
            },
            not_before: now,
            leased_until: now,
        });
        let stage = Stage { waiting: waiting.collect(), ..Stage::default() };
        Arc::new(Self(Mutex::new(stage)))
    }

    fn act<T>(&self, act: impl FnOnce(&mut Stage) -> T) -> T {
        act(&mut self.0.lock().unwrap())
    }

    fn ask<T>(&self, act: impl FnOnce(&mut Stage) -> T) -> Result<T, StorageError> {
        self.act(
            |stage| {
                if stage.is_away { Err(StorageError::Unavailable("away".into())) } else { Ok(act(stage)) }
            },
        )
    }
}

#[async_trait]
impl Notifications for Fake {
    async fn raise_due(&self, policy: &DuePolicy) -> Result<Raised, StorageError> {
        self.ask(|stage| {
            stage.raises.push((Instant::now(), policy.clone()));
            stage.due = 0;
            Raised::default()
        })
    }

    async fn lease_mails(&self, lease: Duration, limit: u32) -> Result<Vec<LeasedMail>, StorageError> {
        self.ask(|stage| {
            let now = Instant::now();
            let free = |w: &&mut Waiting| w.not_before <= now && w.leased_until <= now;
            let free = stage.waiting.iter_mut().filter(free).take(limit as usize);
            free.map(|waiting| {
                waiting.leased_until = now + lease;
                waiting.mail.attempts += 1;
                LeasedMail { attempts: waiting.mail.attempts - 1, ..waiting.mail.clone() }
            })
            .collect()
        })
    }

    async fn letter(&self, _: i64) -> Result<Option<Letter>, StorageError> {
        let letter = Letter {
            recipient_name: "Ana".into(),
            email: "ana@example.test".into(),
            sender_name: "Ben".into(),
            count: 1,
            contents: vec!["Hello".into()],
            from: crate::domain::Seq(1),
            to: crate::domain::Seq(1),
        };
        self.ask(|_| Some(letter))
    }

    async fn settle_mail(&self, mail: i64, settlement: &Settlement) -> Result<(), StorageError> {
        self.ask(|stage| {
            if stage.settle_faults > 0 {
                stage.settle_faults -= 1;
                return Err(StorageError::Unavailable("away".into()));
            }
            stage.settled.push((mail, settlement.clone()));
            let now = Instant::now();
            let index = stage.waiting.iter().position(|w| w.mail.id == mail).unwrap();
            let waiting = &mut stage.waiting[index];
            waiting.leased_until = now;
            match settlement {
                Settlement::Retry { after, .. } => waiting.not_before = now + *after,
                Settlement::Untried { .. } => waiting.mail.attempts -= 1,
                _ => drop(stage.waiting.remove(index)),
            }
            Ok(())
        })?
    }

    async fn due_at(&self, _: ConversationId) -> Result<Option<Timestamp>, StorageError> {
        Ok(None)
    }

    async fn next_work(&self) -> Result<Option<Timestamp>, StorageError> {
        self.ask(|stage| {
            stage.looks += 1;
            let now = Instant::now();
            let ready = stage.waiting.iter().map(|w| w.not_before.max(w.leased_until)).min();
            let wait = ready.map(|at| at.saturating_duration_since(now));
            let wait = if stage.due > 0 { Some(Duration::ZERO) } else { wait };
            wait.map(|wait| if wait.is_zero() { Timestamp(0) } else { Timestamp::now().plus(wait) })
        })
    }
}

/// A mail server that answers as it is told to; `Ok` when nothing is told.
#[derive(Default, Clone)]
struct Server {
    answers: Arc<Mutex<VecDeque<Result<(), ChannelError>>>>,
    takes: Duration,
    is_down: Arc<Mutex<bool>>,
    connects: Arc<Mutex<Vec<Instant>>>,
    sent: Arc<Mutex<Vec<Mail>>>,
}

impl Server {
    fn sent(&self) -> usize {
        self.sent.lock().unwrap().len()
    }
}

#[async_trait]
impl Channel for Server {
    fn name(&self) -> &'static str {
        "fake"
    }

    async fn connect(&self) -> Result<Box<dyn Connection>, ChannelError> {
        self.connects.lock().unwrap().push(Instant::now());
        if *self.is_down.lock().unwrap() {
            return Err(ChannelError::temporary("connect: refused"));
        }
        Ok(Box::new(self.clone()))
    }
}

#[async_trait]
impl Connection for Server {
    async fn send(&mut self, mail: &Mail) -> Result<(), ChannelError> {
        sleep(self.takes).await;
        let answer = self.answers.lock().unwrap().pop_front().unwrap_or(Ok(()));
        if answer.is_ok() {
            self.sent.lock().unwrap().push(mail.clone());
        }
        answer
    }
}

fn settings() -> NotifySettings {
    NotifySettings {
        grace: Duration::from_secs(10),
        max_age: NotifySettings::GIVE_UP_AFTER,
        min_interval: Duration::ZERO,
        per_day: 0,
        content: ContentPolicy::Text,
        public_url: None,
        from: Address::from(EmailAddress::new("chat@example.test").unwrap()),
        retry: NotifySettings::RETRY,
        give_up_after: NotifySettings::GIVE_UP_AFTER,
        reconnect: NotifySettings::RECONNECT,
    }
}

fn upto(offset: i64) -> Frontier {
    Frontier { log: LogNumber(1), offsets: vec![offset].into() }
}

/// Runs a worker for so long, then stops it.
async fn run(storage: &Arc<Fake>, server: &Server, time: Duration) {
    let stop = CancellationToken::new();
    let published = Box::new(|| Some(upto(7)));
    let (storage, channel) = (Arc::clone(storage), Arc::new(server.clone()));
    let worker = Worker::new(settings(), storage, channel, Arc::default(), published);
    let after = async {
        sleep(time).await;
        stop.cancel();
    };
    tokio::join!(worker.run(stop.clone()), after);
}

#[tokio::test(start_paused = true)]
async fn at_rest_it_looks_once_a_second_and_does_nothing() {
    let storage = Fake::with(0, Duration::ZERO);
    run(&storage, &Server::default(), MINUTE).await;
    let (looks, raises) = storage.act(|stage| (stage.looks, stage.raises.len()));
    assert!((59..=61).contains(&looks), "{looks}");
    assert_eq!(raises, 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_back_after_a_restart_has_a_grace_to_confirm() {
    let storage = Fake::with(0, Duration::ZERO);
    storage.act(|stage| stage.due = 1);
    let start = Instant::now();
    run(&storage, &Server::default(), MINUTE).await;
    let raises = storage.act(|stage| std::mem::take(&mut stage.raises));
    assert_eq!(raises.len(), 1);
    let waited = raises[0].0 - start;
    assert!((Duration::from_secs(10)..Duration::from_secs(12)).contains(&waited), "{waited:?}");
    assert_eq!((&raises[0].1.settled, &raises[0].1.published), (&upto(7), &upto(7)));
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_over_one_connection() {
    let storage = Fake::with(30, Duration::ZERO);
    let server = Server::default();
    run(&storage, &server, MINUTE).await;
    assert_eq!((server.sent(), server.connects.lock().unwrap().len()), (30, 1));
    let first = server.sent.lock().unwrap()[0].message_id.clone();
    assert_eq!(first, "00000000-0000-0000-0000-000000000001@example.test");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_is_away_is_asked_seldom_and_mails_keep_their_place() {
    let storage = Fake::with(100, Duration::ZERO);
    let server = Server::default();
    *server.is_down.lock().unwrap() = true;
    run(&storage, &server, MINUTE * 10).await;
    let connects = server.connects.lock().unwrap().len();
    assert!((5..=10).contains(&connects), "{connects} attempts to connect in 10 minutes");
    assert!(storage.act(|stage| stage.waiting.iter().all(|w| w.mail.attempts == 0)));

    *server.is_down.lock().unwrap() = false;
    run(&storage, &server, MINUTE).await;
    let sent: Vec<i64> = storage.act(|stage| {
        let sent = stage.settled.iter().filter(|(_, settlement)| *settlement == Settlement::Sent);
        sent.map(|(id, _)| *id).collect()
    });
    assert_eq!(sent, (1..=100).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn a_mail_that_is_put_off_comes_again_and_the_others_do_not_wait() {
    let storage = Fake::with(3, Duration::ZERO);
    let server = Server::default();
    server.answers.lock().unwrap().push_back(Err(ChannelError::temporary("450 4.2.0")));
    run(&storage, &server, MINUTE).await;
    let settled = storage.act(|stage| std::mem::take(&mut stage.settled));
    let Settlement::Retry { after, reason } = &settled[0].1 else { panic!("{settled:?}") };
    assert!((24..=36).contains(&after.as_secs()), "{after:?}");
    assert_eq!(reason, "450 4.2.0");
    let order: Vec<i64> = settled.iter().map(|(id, _)| *id).collect();
    assert_eq!(order, [1, 2, 3, 1]);
    assert_eq!(server.sent(), 3);
    assert_eq!(server.connects.lock().unwrap().len(), 3, "after a fault the connection is made anew");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_puts_everything_off_is_not_asked_for_each_mail() {
    let storage = Fake::with(1_000, Duration::ZERO);
    let server = Server::default();
    let busy = || Err(ChannelError::temporary("421 4.3.2"));
    *server.answers.lock().unwrap() = std::iter::repeat_with(busy).take(10_000).collect();
    run(&storage, &server, MINUTE * 10).await;
    let tries = server.connects.lock().unwrap().len();
    assert!(tries < 15, "{tries} tries in 10 minutes");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_a_day_of_failures_end_as_dead_letters() {
    let nearly_a_day = Duration::from_secs(24 * 3_600 - 10);
    let (refused, late) = (Fake::with(1, Duration::ZERO), Fake::with(1, nearly_a_day));
    for (storage, answer, reason) in [
        (refused, ChannelError::permanent("550 5.1.1"), "550 5.1.1"),
        (late, ChannelError::temporary("421 4.3.2"), "421 4.3.2"),
    ] {
        let server = Server::default();
        server.answers.lock().unwrap().push_back(Err(answer));
        run(&storage, &server, MINUTE).await;
        let settled = storage.act(|stage| std::mem::take(&mut stage.settled));
        assert_eq!(settled, [(1, Settlement::Failed { reason: reason.into() })]);
    }
    let (storage, server) = (Fake::with(1, MINUTE * 60 * 25), Server::default());
    run(&storage, &server, MINUTE).await;
    let settled = storage.act(|stage| std::mem::take(&mut stage.settled));
    assert!(matches!(&settled[..], [(1, Settlement::Failed { .. })]), "{settled:?}");
    assert_eq!(server.connects.lock().unwrap().len(), 0, "what is no news any more is not sent");
}

#[tokio::test(start_paused = true)]
async fn a_mail_is_sent_once_though_storage_was_away_when_it_was_to_be_recorded() {
    let storage = Fake::with(1, Duration::ZERO);
    storage.act(|stage| stage.settle_faults = 20);
    let server = Server::default();
    run(&storage, &server, MINUTE * 10).await;
    assert_eq!(server.sent(), 1);
    assert_eq!(storage.act(|stage| std::mem::take(&mut stage.settled)), [(1, Settlement::Sent)]);
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_storage_loses_nothing() {
    let storage = Fake::with(2, Duration::ZERO);
    storage.act(|stage| stage.is_away = true);
    let server = Server::default();
    let comes_back = async {
        sleep(MINUTE).await;
        storage.act(|stage| stage.is_away = false);
    };
    tokio::join!(run(&storage, &server, MINUTE * 2), comes_back);
    assert_eq!(server.sent(), 2);
}

#[tokio::test(start_paused = true)]
async fn stopping_finishes_the_mail_in_hand_and_takes_no_other() {
    let storage = Fake::with(2, Duration::ZERO);
    let server = Server { takes: Duration::from_secs(2), ..Server::default() };
    let began = Instant::now();
    run(&storage, &server, Duration::from_secs(1)).await;
    assert_eq!(began.elapsed(), Duration::from_secs(2));
    assert_eq!(storage.act(|stage| std::mem::take(&mut stage.settled)), [(1, Settlement::Sent)]);
}

#[tokio::test(start_paused = true)]
async fn stopping_puts_off_a_mail_that_takes_too_long() {
    let storage = Fake::with(1, Duration::ZERO);
    let server = Server { takes: MINUTE, ..Server::default() };
    let began = Instant::now();
    run(&storage, &server, Duration::from_secs(1)).await;
    assert!(began.elapsed() <= Duration::from_secs(4), "{:?}", began.elapsed());
    let settled = storage.act(|stage| std::mem::take(&mut stage.settled));
    assert!(matches!(&settled[..], [(1, Settlement::Retry { .. })]), "{settled:?}");
}

#[tokio::test(start_paused = true)]
async fn a_server_that_never_answers_is_left_before_the_lease_ends() {
    let storage = Fake::with(1, Duration::ZERO);
    let server = Server { takes: MINUTE * 60, ..Server::default() };
    run(&storage, &server, Duration::from_secs(89)).await;
    // A lease is 60 s for the channel and 30 s of margin.
    let settled = storage.act(|stage| std::mem::take(&mut stage.settled));
    assert!(matches!(&settled[..], [(1, Settlement::Retry { .. })]), "{settled:?}");
}
