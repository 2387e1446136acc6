//! Connections to brokers that answer late, wrongly or not at all.

use kafka_protocol::messages::{MetadataRequest, ProduceRequest};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::super::fake::{Fake, Mood};
use super::super::settings::KafkaSettings;
use super::*;

const LONG: Duration = Duration::from_secs(20);

async fn open(fake: &Fake) -> Connection {
    let settings = fake.settings();
    Connection::open(&settings.brokers[0], &Security::new(&settings).unwrap()).await.unwrap()
}

#[tokio::test]
async fn versions_are_those_that_both_sides_speak() {
    let fake = Fake::start(1, 1).await;
    fake.world().versions.insert(ApiKey::Produce as i16, 9);
    let connection = open(&fake).await;
    assert_eq!(connection.version_of::<ProduceRequest>(), Ok(9));
    assert_eq!(connection.version_of::<MetadataRequest>(), Ok(13));
    let unknown = connection.version_of::<kafka_protocol::messages::HeartbeatRequest>();
    assert!(matches!(unknown, Err(KafkaError::Unsupported { api: 12, .. })));
}

#[tokio::test]
async fn whoever_stops_waiting_disturbs_nobody() {
    let fake = Fake::start(1, 1).await;
    let connection = open(&fake).await;
    let deadline = Instant::now() + LONG;
    for _ in 0..3 {
        drop(connection.start(&MetadataRequest::default(), deadline).unwrap());
        let request = MetadataRequest::default();
        let mut call = Box::pin(connection.call(&request, LONG));
        assert!(futures_util::poll!(&mut call).is_pending());
    }
    let answer = connection.call(&MetadataRequest::default(), LONG).await.unwrap();
    assert_eq!(answer.topics.len(), 1);
    assert!(!connection.is_over());
}

#[tokio::test]
async fn a_call_without_an_answer_ends_the_connection_and_all_that_wait() {
    let fake = Fake::start(1, 1).await;
    let connection = open(&fake).await;
    fake.mood(0, Mood::Silent);
    let waits = connection.start(&MetadataRequest::default(), Instant::now() + LONG).unwrap();
    let call = connection.call(&MetadataRequest::default(), Duration::from_millis(50)).await;
    assert!(matches!(call, Err(KafkaError::Timeout { .. })));
    assert!(matches!(waits.await, Err(KafkaError::Closed { .. })));
    assert!(connection.is_over());
    let late = connection.call(&MetadataRequest::default(), LONG).await;
    assert!(matches!(late, Err(KafkaError::Closed { .. })));
}

#[tokio::test]
async fn a_request_that_nobody_waits_for_ends_a_silent_connection_too() {
    let fake = Fake::start(1, 1).await;
    let connection = open(&fake).await;
    fake.mood(0, Mood::Silent);
    drop(connection.start(&MetadataRequest::default(), Instant::now() + Duration::from_millis(50)).unwrap());
    let waits = connection.start(&MetadataRequest::default(), Instant::now() + LONG).unwrap();
    assert!(matches!(waits.await, Err(KafkaError::Timeout { .. })));
}

#[tokio::test]
async fn requests_of_one_connection_are_bounded() {
    let fake = Fake::start(1, 1).await;
    let connection = open(&fake).await;
    let deadline = Instant::now() + LONG;
    // The task does not run meanwhile.
    let refused =
        (0..=REQUESTS_MAX).find_map(|_| connection.start(&MetadataRequest::default(), deadline).err());
    assert!(matches!(refused, Some(KafkaError::Busy { .. })));
}

/// A connection whose broker answers the first request with these bytes, and keeps the connection.
async fn answered_with(bytes: Vec<u8>) -> Result<Connection, KafkaError> {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let length = stream.read_u32().await.unwrap();
        stream.read_exact(&mut vec![0; length as usize]).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        std::future::pending::<()>().await;
    });
    Connection::open(&address, &Security::new(&KafkaSettings::default()).unwrap()).await
}

#[tokio::test]
async fn what_is_no_answer_ends_the_connection() {
    for (bytes, what) in [
        (vec![0x7f, 0xff, 0xff, 0xff, 0, 0], "2147483647 bytes"),
        (vec![0, 0, 0, 1, 0], "1 bytes"),
        (vec![0, 0, 0, 4, 0, 0, 0, 77], "another request"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), "bytes"),
    ] {
        let error = answered_with(bytes).await.err().unwrap();
        assert!(matches!(&error, KafkaError::Closed { .. }), "{error}");
        assert!(error.to_string().contains(what), "{error}");
    }
    let garbled = answered_with(vec![0, 0, 0, 6, 0, 0, 0, 0, 0, 0]).await.err();
    assert!(matches!(garbled, Some(KafkaError::Malformed(_))));
}

#[tokio::test]
async fn a_silent_listener_is_given_up_after_two_seconds() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let begun = Instant::now();
    let opened = Connection::open(&address, &Security::new(&KafkaSettings::default()).unwrap()).await;
    assert!(matches!(opened.err(), Some(KafkaError::Timeout { .. })));
    assert!(begun.elapsed() < LONG / 4);
}
