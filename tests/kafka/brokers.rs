//! Members while brokers go and come back.

use std::time::{Duration, Instant};

use chatd::pipeline::kafka::{describe, ensure_topic};

use crate::member::{Member, all_of, describe_group, settings, with_topic};
use crate::stack::OwnStack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_keeps_what_it_has_while_the_only_broker_is_away() {
    let kafka = OwnStack::start("kafka-restart", &["kafka"], &[]);
    let settings = with_topic(&kafka.exports).await;
    let mut member = Member::join(&settings).await;
    let before = member.has(6).await;

    if is_old() {
        // ZooKeeper would not let a killed broker come back before its session is over.
        kafka.down("kafka");
    } else {
        kafka.signal("kafka", "KILL");
    }
    // Longer than a session: it may well be taken for dead, and still goes on.
    tokio::time::sleep(Duration::from_secs(8)).await;
    assert_eq!(member.assignment(), before, "the fence in storage protects, so nothing is given up");
    kafka.restart("kafka");

    // The group works again: a newcomer gets its share.
    let began = Instant::now();
    let mut newcomer = Member::join(&settings).await;
    newcomer.has(3).await;
    member.has(3).await;
    println!("shared again {:?} after the restart", began.elapsed());
    assert_eq!(all_of(&[&member, &newcomer]), [0, 1, 2, 3, 4, 5]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_of_three_brokers_outlives_its_coordinator() {
    if is_old() {
        return; // the stack has one broker of that version
    }
    let kafka = OwnStack::start("kafka-three", &["kafka"], &[("KAFKA_NODES", "3")]);
    let settings = settings(&kafka.exports);
    assert_eq!(ensure_topic(&settings, true).await.unwrap(), Vec::<String>::new(), "nothing to say");
    let topic = describe(&settings).await.unwrap().topic.unwrap();
    assert_eq!((topic.brokers, topic.replication, topic.config.min_insync_replicas), (3, 3, 2));

    let (mut first, mut second) = (Member::join(&settings).await, Member::join(&settings).await);
    let before = (first.has(3).await, second.has(3).await);
    kill(&kafka, coordinator(&kafka, &settings.group));
    let began = Instant::now();
    let mut third = Member::join(&settings).await;
    assert_eq!((first.assignment(), second.assignment()), before, "nobody gives anything up for this");
    third.has(2).await;
    first.has(2).await;
    second.has(2).await;
    println!("a newcomer has its share {:?} after the coordinator was killed", began.elapsed());
    assert_eq!(all_of(&[&first, &second, &third]), [0, 1, 2, 3, 4, 5]);

    let topic = describe(&settings).await.unwrap().topic.unwrap();
    assert_eq!((topic.brokers, topic.leaderless.len(), topic.under_replicated.len()), (2, 0, 6));
    let notices = ensure_topic(&settings, false).await.unwrap().join("\n");
    assert!(notices.contains("partitions [0, 1, 2, 3, 4, 5] lack copies"), "{notices}");
}

/// Whether this is Kafka 3.9 with ZooKeeper.
fn is_old() -> bool {
    std::env::var("CHATD_TEST_KAFKA").is_ok_and(|version| version == "39")
}

/// The number of the broker that coordinates a group, as Kafka's own tool tells it: `127.0.0.1:24288 (1)`.
fn coordinator(kafka: &OwnStack, group: &str) -> String {
    let state = describe_group(&kafka.exports, group, &["--state"]);
    let (_, rest) = state.split_once('(').filter(|_| state.contains("Stable")).expect(&state);
    // The heading has brackets too: COORDINATOR (ID).
    let number = rest.split('(').find_map(|rest| rest.split(')').next()?.parse::<u32>().ok());
    number.expect(&state).to_string()
}

fn kill(kafka: &OwnStack, node: String) {
    let pids = kafka.pids("kafka");
    let (_, pid) = pids.iter().find(|(name, _)| *name == node).expect("the broker runs");
    let sent = std::process::Command::new("kill").arg("-KILL").arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}
