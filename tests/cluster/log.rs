//! The log is not what it was: a record of a newer release, a topic that was deleted and made anew. The partition
//! stops with an alarm, nothing is skipped, and somebody has to say how to go on.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use chatd::domain::{ConversationId, Partition, UserId};
use chatd::pipeline::kafka::{KafkaLog, KafkaSettings};
use chatd::pipeline::partitioner::partition_of;
use chatd::pipeline::{Entry, EventLog};
use serde_json::Value;

use crate::cluster::Cluster;
use crate::history;
use crate::node::PATIENCE;
use crate::support;

const PARTITIONS: Partition = 6;

fn dm(low: i64, high: i64) -> ConversationId {
    ConversationId::dm(UserId::new(low).unwrap(), UserId::new(high).unwrap()).unwrap()
}

/// Sends through one node; `accepted`, or the code of the error.
async fn send(cluster: &Cluster, from: i64, to: i64, content: &str) -> String {
    history::send(cluster.serves[0].address(), &support::token(from), to, content).await
}

/// The contents of a conversation, as the other node tells them.
async fn contents(cluster: &Cluster, low: i64, high: i64) -> Vec<String> {
    let rows = history::read(cluster.serves[1].address(), dm(low, high), &support::token(low)).await;
    rows.into_iter().map(|row| row.content).collect()
}

async fn until_contents(cluster: &Cluster, low: i64, high: i64, expected: &[&str]) {
    let began = Instant::now();
    loop {
        let now = contents(cluster, low, high).await;
        if now == expected {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{now:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until every process tells of an alarm with these words.
async fn until_all_alarmed(cluster: &Cluster, words: &str) {
    let began = Instant::now();
    for node in cluster.nodes() {
        loop {
            let told = node.ready().await.map(|(_, body)| body);
            if told.as_ref().is_some_and(|body| {
                body["status"] == "degraded" && body["alarms"].to_string().contains(words)
            }) {
                break;
            }
            assert!(began.elapsed() < PATIENCE, "{}: {told:?}", node.role);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

fn verified(cluster: &Cluster) -> Value {
    let told = tokio::task::block_in_place(|| cluster.run(&["verify", "--json"]));
    serde_json::from_str(&told).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_of_a_newer_release_stops_its_partition_and_nothing_of_it_is_skipped() {
    let cluster = Cluster::start_beside_others(None).await;
    cluster.well().await;
    assert_eq!(send(&cluster, 1, 2, "before").await, "accepted");
    until_contents(&cluster, 1, 2, &["before"]).await;

    let log = KafkaLog::connect(KafkaSettings {
        brokers: cluster.services.brokers.split(',').map(str::to_owned).collect(),
        topic: cluster.topic(),
        ..KafkaSettings::default()
    });
    let log = log.await.unwrap();
    let (key, partition) = (dm(1, 2), partition_of(dm(1, 2), PARTITIONS));
    let value = (&br#"{"v":2,"kind":"poll","question":"?"}"#[..]).into();
    log.append(Entry { partition, key, value }, log.generation()).await.unwrap();

    until_all_alarmed(&cluster, "newer than this release").await;
    assert_eq!(send(&cluster, 1, 2, "behind").await, "accepted", "a newer release will store it");
    // A conversation of another partition goes on meanwhile.
    let other = (3..40).find(|user| partition_of(dm(1, *user), PARTITIONS) != partition).unwrap();
    assert_eq!(send(&cluster, 1, other, "elsewhere").await, "accepted");
    until_contents(&cluster, 1, other, &["elsewhere"]).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(contents(&cluster, 1, 2).await, ["before"], "nothing overtakes what is not understood");
    let books = verified(&cluster);
    assert_eq!((&books["waiting"], &books["differences"]), (&2.into(), &0.into()), "{books}");
}

/// Kafka's own tool for topics, on the stack's brokers.
fn topics(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/stack");
    let mut command = Command::new(script);
    command.args(["kafka-tool", "topics"]).args(arguments);
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_made_anew_takes_nothing_in_until_somebody_says_so() {
    let mut cluster = Cluster::start_beside_others(None).await;
    cluster.well().await;
    for text in ["one", "two"] {
        assert_eq!(send(&cluster, 1, 2, text).await, "accepted");
    }
    until_contents(&cluster, 1, 2, &["one", "two"]).await;

    let topic = cluster.topic();
    topics(&["--delete", "--topic", &topic]);
    let began = Instant::now();
    loop {
        // It takes a moment until the name is free again.
        let answer = send(&cluster, 1, 2, "into nowhere").await;
        assert_eq!(answer, "unavailable");
        if began.elapsed() > Duration::from_secs(2) {
            break;
        }
    }
    topics(&["--create", "--topic", &topic, "--partitions", "6", "--replication-factor", "1"]);
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(5) {
        assert_eq!(send(&cluster, 1, 2, "into another log").await, "unavailable");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(contents(&cluster, 1, 2).await, ["one", "two"], "what is stored is read as ever");

    tokio::task::block_in_place(|| {
        for node in cluster.serves.iter_mut().chain(&mut cluster.consumes) {
            node.stop();
        }
        let said = cluster.run(&["log", "replay", "--from", "earliest"]);
        assert!(said.contains("log number 2"), "{said}");
        for node in cluster.serves.iter_mut().chain(&mut cluster.consumes) {
            node.start();
        }
    });
    cluster.well().await;
    assert_eq!(send(&cluster, 1, 2, "three").await, "accepted");
    until_contents(&cluster, 1, 2, &["one", "two", "three"]).await;
    let books = verified(&cluster);
    assert_eq!(
        (&books["aged_out"], &books["stored"], &books["differences"]),
        (&2.into(), &1.into(), &0.into())
    );
}
