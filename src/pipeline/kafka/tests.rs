//! The log against brokers that fail as the test says.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use kafka_protocol::messages::ApiKey;
use tokio::time::{Duration, Instant, sleep, timeout};

use super::fake::{Fake, Mood};
use super::*;
use crate::domain::{ConversationId, UserId};

const NO_LIMITS: FetchLimits =
    FetchLimits { records_max: 1000, bytes_max: 1 << 20, patience: Duration::from_secs(20) };
/// What the port promises, and a little for a busy machine.
const IN_TIME: Duration = Duration::from_millis(5_500);

async fn log(fake: &Fake) -> Arc<KafkaLog> {
    KafkaLog::connect(fake.settings()).await.unwrap()
}

fn entry(partition: Partition, value: impl Into<Bytes>) -> Entry {
    let key = ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap();
    Entry { partition, key, value: value.into() }
}

async fn append(log: &KafkaLog, partition: Partition, value: &str) -> Result<Offset, LogError> {
    log.append(entry(partition, value.to_owned()), log.generation()).await
}

#[tokio::test]
async fn partitions_of_one_broker_share_a_request_and_an_idle_broker_gets_it_at_once() {
    let fake = Fake::start(2, 4).await;
    let log = log(&fake).await;
    append(&log, 0, "warm").await.unwrap();
    sleep(Duration::from_millis(20)).await;
    fake.world().produced.clear();
    let appending = (0..4).map(|partition| append(&log, partition, "x"));
    assert_eq!(join_all(appending).await, [Ok(1), Ok(0), Ok(0), Ok(0)]);
    let mut produced = fake.world().produced.clone();
    produced.iter_mut().for_each(|(_, partitions)| partitions.sort_unstable());
    produced.sort();
    assert_eq!(produced, [(0, vec![0, 2]), (1, vec![1, 3])]);
}

#[tokio::test]
async fn under_load_records_share_requests() {
    let fake = Fake::start(1, 1).await;
    let settings = KafkaSettings { linger: Duration::from_millis(250), ..fake.settings() };
    let log = KafkaLog::connect(settings).await.unwrap();
    let begun = Instant::now();
    for n in 0..40 {
        drop(log.append(entry(0, n.to_string()), log.generation()));
        sleep(Duration::from_millis(2)).await;
    }
    append(&log, 0, "last").await.unwrap();
    let requests = fake.world().produced.len() as u128;
    assert!(requests <= begun.elapsed().as_millis() / 50 + 1, "{requests}");
    assert_eq!(fake.values(0).len(), 41, "given up is not taken back");
}

#[tokio::test]
async fn a_new_leader_gets_what_the_old_one_refused_in_its_order() {
    let fake = Fake::start(2, 1).await;
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    fake.world().leaders[0] = 1;
    let appended = join_all(["b", "c", "d"].map(|value| append(&log, 0, value))).await;
    assert_eq!(appended, [Ok(1), Ok(2), Ok(3)]);
    assert_eq!(fake.values(0), ["a", "b", "c", "d"]);
    assert_eq!(fake.world().produced.last().unwrap().0, 1);
}

#[tokio::test]
async fn a_request_whose_answer_is_lost_is_sent_again_and_nothing_overtakes_it() {
    let fake = Fake::start(1, 1).await;
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    fake.mood(0, Mood::Forgetful);
    let first = log.append(entry(0, "b"), log.generation());
    sleep(Duration::from_millis(50)).await;
    let second = log.append(entry(0, "c"), log.generation());
    fake.mood(0, Mood::Well);
    let (first, second) = (first.await.unwrap(), second.await.unwrap());
    let values = fake.values(0);
    assert_eq!((values[first as usize].as_str(), values[second as usize].as_str()), ("b", "c"));
    let seen = |value: &str| values.iter().position(|stored| stored == value).unwrap();
    assert!(seen("a") < seen("b") && seen("b") < seen("c"), "{values:?}");
}

#[tokio::test]
async fn a_silent_broker_costs_5_s_and_bounded_memory_and_is_used_again_when_it_answers() {
    let fake = Fake::start(1, 2).await;
    let settings = KafkaSettings { queue_records_max: 100, ..fake.settings() };
    let log = KafkaLog::connect(settings).await.unwrap();
    append(&log, 0, "a").await.unwrap();
    fake.mood(0, Mood::Silent);
    let begun = Instant::now();
    let generation = log.generation();
    let taken: Vec<_> = (0..100).map(|n| log.append(entry(n % 2, n.to_string()), generation)).collect();
    assert_eq!(append(&log, 0, "too much").await, Err(LogError::Overloaded));
    let answers = timeout(IN_TIME, join_all(taken)).await.expect("everything is answered within 5 s");
    assert!(begun.elapsed() > Duration::from_secs(4), "it might have been back");
    assert!(answers.iter().all(Result::is_err));
    assert!(matches!(answers[0], Err(LogError::Unavailable(_))));
    assert!(answers.iter().all(|answer| matches!(answer, Err(LogError::Unavailable(_) | LogError::Behind))));
    fake.mood(0, Mood::Well);
    assert!(timeout(IN_TIME, append(&log, 0, "b")).await.unwrap().is_ok());
    assert_eq!(fake.values(0), ["a", "b"]);
}

#[tokio::test]
async fn a_silent_broker_does_not_stop_the_others() {
    let fake = Fake::start(2, 2).await;
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    fake.mood(1, Mood::Silent);
    let stuck = log.append(entry(1, "x"), log.generation());
    let begun = Instant::now();
    for value in ["b", "c"] {
        append(&log, 0, value).await.unwrap();
    }
    let fetched = log.fetch(&[(0, 0), (1, 0)], NO_LIMITS).await.unwrap();
    assert_eq!(fetched[0].records.len(), 3);
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(matches!(stuck.await, Err(LogError::Unavailable(_))));
}

#[tokio::test]
async fn a_refusal_for_good_fails_at_once() {
    let fake = Fake::start(1, 1).await;
    let log = log(&fake).await;
    fake.mood(0, Mood::Refuses(29));
    let begun = Instant::now();
    let old = log.generation();
    assert!(matches!(append(&log, 0, "a").await, Err(LogError::Unavailable(_))));
    assert!(begun.elapsed() < Duration::from_secs(2) && log.generation() > old);
    fake.mood(0, Mood::Well);
    assert_eq!(append(&log, 0, "b").await, Ok(0));
}

/// As when somebody deletes the topic and another one of its name appears.
async fn replaced(produce_version: i16) -> (Fake, Arc<KafkaLog>) {
    let fake = Fake::start(1, 1).await;
    fake.world().versions.insert(ApiKey::Produce as i16, produce_version);
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    let mut world = fake.world();
    world.topic_id = uuid::Uuid::new_v4();
    world.logs[0].clear();
    drop(world);
    (fake, log)
}

#[tokio::test]
async fn nothing_is_written_to_a_topic_that_was_made_anew() {
    let (fake, log) = replaced(13).await;
    assert!(matches!(append(&log, 0, "b").await, Err(LogError::Corrupt(_))));
    assert!(matches!(append(&log, 0, "c").await, Err(LogError::Corrupt(_))));
    assert!(fake.values(0).is_empty());
}

#[tokio::test]
async fn nothing_counts_as_written_that_an_older_broker_put_into_a_topic_made_anew() {
    let (fake, log) = replaced(12).await;
    assert!(matches!(append(&log, 0, "b").await, Err(LogError::Corrupt(_))));
    assert!(matches!(append(&log, 0, "c").await, Err(LogError::Corrupt(_))));
    assert_eq!(fake.values(0), ["b"]);
}

#[tokio::test]
async fn nothing_is_read_from_a_topic_that_was_made_anew() {
    let (_fake, log) = replaced(13).await;
    assert!(matches!(log.fetch(&[(0, 1)], NO_LIMITS).await, Err(LogError::Corrupt(_))));
    assert!(matches!(log.bounds().await, Err(LogError::Corrupt(_))));
    assert!(matches!(log.record_at(0, 0).await, Err(LogError::Corrupt(_))));
}

/// As after a leader was elected that lacks what the former one had.
#[tokio::test]
async fn a_reader_notices_that_what_it_read_is_gone_though_new_records_took_its_place() {
    let fake = Fake::start(1, 1).await;
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    assert_eq!(log.fetch(&[(0, 0)], NO_LIMITS).await.unwrap()[0].records.len(), 1);
    fake.world().epoch = 2;
    fake.world().logs[0] = vec![Bytes::from_static(b"x"), Bytes::from_static(b"y")];
    assert!(matches!(log.fetch(&[(0, 1)], NO_LIMITS).await, Err(LogError::Corrupt(_))));
}

#[tokio::test]
async fn a_reader_follows_a_new_leader() {
    let fake = Fake::start(2, 2).await;
    let log = log(&fake).await;
    append(&log, 0, "a").await.unwrap();
    assert_eq!(log.fetch(&[(0, 0), (1, 0)], NO_LIMITS).await.unwrap().len(), 1);
    let fetching = tokio::spawn({
        let log = log.clone();
        async move { log.fetch(&[(0, 1), (1, 0)], NO_LIMITS).await }
    });
    sleep(Duration::from_millis(50)).await;
    fake.world().leaders[0] = 1;
    assert_eq!(append(&log, 0, "b").await, Ok(1));
    let fetched = timeout(Duration::from_secs(10), fetching).await.unwrap().unwrap().unwrap();
    assert_eq!(fetched[0].records, [LogRecord { offset: 1, value: "b".into() }]);
}

#[tokio::test]
async fn a_reader_whose_brokers_are_all_silent_hears_of_it() {
    let fake = Fake::start(1, 1).await;
    let log = log(&fake).await;
    fake.mood(0, Mood::Silent);
    let short = FetchLimits { patience: Duration::from_millis(100), ..NO_LIMITS };
    let begun = Instant::now();
    while log.fetch(&[(0, 0)], short).await.is_ok() {
        assert!(begun.elapsed() < Duration::from_secs(10));
    }
    fake.mood(0, Mood::Well);
    while log.fetch(&[(0, 0)], short).await.is_err() {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

#[tokio::test]
async fn a_reader_that_turns_elsewhere_does_not_wait_for_what_it_asked_before() {
    let fake = Fake::start(1, 2).await;
    let log = log(&fake).await;
    append(&log, 1, "a").await.unwrap();
    let given_up = log.fetch(&[(0, 0)], NO_LIMITS);
    assert!(timeout(Duration::from_millis(100), given_up).await.is_err());
    let begun = Instant::now();
    let fetched = log.fetch(&[(1, 0)], NO_LIMITS).await.unwrap();
    assert_eq!(fetched[0].records[0].value, "a");
    assert!(begun.elapsed() < Duration::from_secs(2));
}

#[tokio::test]
async fn under_load_a_reader_gathers_and_after_a_pause_it_does_not() {
    let fake = Fake::start(1, 1).await;
    let settings = KafkaSettings { gather: Duration::from_millis(500), ..fake.settings() };
    let log = KafkaLog::connect(settings).await.unwrap();
    append(&log, 0, "a").await.unwrap();
    assert_eq!(log.fetch(&[(0, 0)], NO_LIMITS).await.unwrap()[0].records.len(), 1);
    let begun = Instant::now();
    for value in ["b", "c"] {
        append(&log, 0, value).await.unwrap();
    }
    assert_eq!(log.fetch(&[(0, 1)], NO_LIMITS).await.unwrap()[0].records.len(), 2);
    assert!(begun.elapsed() >= Duration::from_millis(150));
    sleep(Duration::from_millis(250)).await;
    append(&log, 0, "d").await.unwrap();
    let begun = Instant::now();
    assert_eq!(log.fetch(&[(0, 3)], NO_LIMITS).await.unwrap()[0].records.len(), 1);
    assert!(begun.elapsed() < Duration::from_millis(150));
}
