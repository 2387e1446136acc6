//! Members while brokers go and come back.

use std::time::{Duration, Instant};

use chatd::pipeline::kafka::{describe, ensure_topic};

use crate::member::{LONG, Member, all_of, settings, with_topic};
use crate::stack::OwnStack;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_keeps_what_it_has_while_the_only_broker_is_away() {
    let kafka = OwnStack::start("kafka-restart", &["kafka"], &[]);
    let settings = with_topic(&kafka.exports).await;
    let mut member = Member::join(&settings).await;
    let before = member.has(6).await;

    kafka.signal("kafka", "KILL");
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
async fn a_group_of_three_brokers_outlives_each_of_them() {
    if std::env::var("CHATD_TEST_KAFKA").is_ok() {
        return; // the stack has one broker of that version
    }
    let kafka = OwnStack::start("kafka-three", &["kafka"], &[("KAFKA_NODES", "3")]);
    let settings = settings(&kafka.exports);
    assert_eq!(ensure_topic(&settings, true).await.unwrap(), Vec::<String>::new(), "nothing to say");
    let topic = describe(&settings).await.unwrap().topic.unwrap();
    assert_eq!((topic.brokers, topic.replication, topic.config.min_insync_replicas), (3, 3, 2));

    let mut members = [Member::join(&settings).await, Member::join(&settings).await];
    for (_, pid) in kafka.pids("kafka") {
        for member in &mut members {
            member.has(3).await;
        }
        signal(pid, "KILL");
        let began = Instant::now();
        // Whichever of them coordinated the group: a third member comes and goes.
        let mut third = Member::join(&settings).await;
        third.has(2).await;
        println!("a newcomer has its share {:?} after a broker was killed", began.elapsed());
        assert!(began.elapsed() < LONG);
        third.leave().await;
        kafka.restart("kafka");
        in_sync(&settings).await;
    }
    for member in &mut members {
        member.has(3).await;
    }
    let [first, second] = &members;
    assert_eq!(all_of(&[first, second]), [0, 1, 2, 3, 4, 5]);
}

fn signal(pid: u32, signal: &str) {
    let sent = std::process::Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}

async fn in_sync(settings: &chatd::pipeline::kafka::KafkaSettings) {
    let began = Instant::now();
    loop {
        let topic = describe(settings).await.ok().and_then(|cluster| cluster.topic);
        if topic.is_some_and(|topic| topic.brokers == 3 && topic.under_replicated.is_empty()) {
            return;
        }
        assert!(began.elapsed() < LONG, "the broker does not catch up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}
