//! Writing and reading while brokers are killed, silent, and come back.
#![allow(clippy::print_stdout, reason = "times to recover are told")]

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chatd::domain::{ConversationId, Partition, UserId};
use chatd::pipeline::kafka::{KafkaLog, KafkaSettings, describe, ensure_topic};
use chatd::pipeline::{Entry, EventLog, EventSource, FetchLimits};
use futures_util::future::join_all;

use crate::member::{LONG, settings};
use crate::stack::OwnStack;

/// Records that one sender has in flight.
const WINDOW: usize = 20;
/// What the port promises for each append, and a little for a busy machine.
const IN_TIME: Duration = Duration::from_millis(6_000);

struct Load {
    log: Arc<KafkaLog>,
    /// Nobody sends any more from now on.
    stop: AtomicBool,
    /// `accepted` is final.
    stopped: AtomicBool,
    /// How many records of each partition were accepted.
    accepted: Vec<AtomicUsize>,
}

impl Load {
    /// Sends numbers to a partition, some at a time; after a failure from the first that failed on, as a client
    /// does. Answers how many were accepted.
    async fn send(self: Arc<Self>, partition: Partition) -> usize {
        let key = ConversationId::dm(UserId::new(1).unwrap(), UserId::new(2).unwrap()).unwrap();
        let mut next = 0;
        while !self.stop.load(Ordering::Relaxed) {
            let generation = self.log.generation();
            let begun = Instant::now();
            let appending = (next..next + WINDOW).map(|n| {
                let value = Bytes::from(n.to_string());
                self.log.append(Entry { partition, key, value }, generation)
            });
            let answers = join_all(appending).await;
            assert!(begun.elapsed() < IN_TIME, "answered after {:?}", begun.elapsed());
            let good = answers.iter().take_while(|answer| answer.is_ok()).count();
            assert!(answers[good..].iter().all(Result::is_err), "nothing overtakes what failed: {answers:?}");
            next += good;
            self.accepted[partition as usize].store(next, Ordering::Relaxed);
            if good < WINDOW {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        next
    }

    /// Reads until every partition has what was accepted; the numbers of each in the order of their first coming.
    async fn read(self: Arc<Self>) -> Vec<Vec<usize>> {
        let partitions = self.accepted.len();
        let mut seen = vec![(Vec::new(), BTreeSet::new()); partitions];
        let mut next: Vec<_> = (0..partitions as Partition).map(|partition| (partition, 0)).collect();
        let limits = FetchLimits { records_max: 2_000, bytes_max: 4 << 20, patience: Duration::from_secs(1) };
        let begun = Instant::now();
        loop {
            let all = |(at, (order, _)): (usize, &(Vec<usize>, _))| {
                order.len() >= self.accepted[at].load(Ordering::Relaxed)
            };
            if self.stopped.load(Ordering::Relaxed) && seen.iter().enumerate().all(all) {
                return seen.into_iter().map(|(order, _)| order).collect();
            }
            assert!(begun.elapsed() < 10 * LONG, "what was accepted is not read");
            // A cluster that is away is an alarm for the owner, who asks again.
            for part in self.log.fetch(&next, limits).await.unwrap_or_default() {
                let (order, known) = &mut seen[part.partition as usize];
                for record in part.records {
                    let at = &mut next[part.partition as usize].1;
                    assert_eq!(record.offset, *at, "without a gap");
                    *at += 1;
                    let n: usize = std::str::from_utf8(&record.value).unwrap().parse().unwrap();
                    if known.insert(n) {
                        order.push(n);
                    }
                }
            }
        }
    }

    /// Waits until each partition takes records again.
    async fn recovered(&self) -> Duration {
        let before: Vec<_> = self.accepted.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let begun = Instant::now();
        let moved = || {
            let now = self.accepted.iter().map(|count| count.load(Ordering::Relaxed));
            now.zip(&before).all(|(now, before)| now > before + 2 * WINDOW)
        };
        while !moved() {
            assert!(begun.elapsed() < LONG, "nothing is accepted any more");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        begun.elapsed()
    }
}

/// Sends a signal to one process.
fn signal(pid: u32, signal: &str) {
    let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
    assert!(sent.unwrap().success());
}

/// Waits until all three brokers have everything.
async fn in_sync(settings: &KafkaSettings) {
    let begun = Instant::now();
    loop {
        let topic = describe(settings).await.ok().and_then(|cluster| cluster.topic);
        if topic.is_some_and(|topic| topic.brokers == 3 && topic.under_replicated.is_empty()) {
            return;
        }
        assert!(begun.elapsed() < LONG, "the broker does not catch up");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Resident memory of this process, in MiB.
fn memory() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    (statm.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096) >> 20
}

/// Loads a cluster, does something to it, and looks at what became of everything.
async fn under_load(settings: KafkaSettings, disturb: impl AsyncFnOnce(&Load, &KafkaSettings)) {
    ensure_topic(&settings, false).await.unwrap();
    let log = KafkaLog::connect(settings.clone()).await.unwrap();
    let partitions = EventLog::identity(&*log).partitions;
    let accepted = (0..partitions).map(|_| AtomicUsize::new(0)).collect();
    let load =
        Arc::new(Load { log, stop: AtomicBool::new(false), stopped: AtomicBool::new(false), accepted });
    let senders: Vec<_> =
        (0..partitions).map(|partition| tokio::spawn(load.clone().send(partition))).collect();
    let reader = tokio::spawn(load.clone().read());
    load.recovered().await;
    let before = memory();
    disturb(&load, &settings).await;
    let after = memory();
    println!("{before} MiB before, {after} MiB after");
    assert!(after < before + 64, "memory grew from {before} to {after} MiB");
    load.stop.store(true, Ordering::Relaxed);
    let sent: Vec<usize> = join_all(senders).await.into_iter().map(Result::unwrap).collect();
    load.stopped.store(true, Ordering::Relaxed);
    let read = reader.await.unwrap();
    for (accepted, order) in sent.iter().zip(&read) {
        // What failed last may be there or not; everything before it is, in its order.
        let expected: Vec<usize> = (0..order.len()).collect();
        assert_eq!(*order, expected);
        assert!(order.len() >= *accepted);
    }
    println!("{} records accepted, all of them read in order", sent.iter().sum::<usize>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_accepted_is_lost_or_overtaken_while_each_of_three_brokers_is_killed_and_held() {
    if std::env::var("CHATD_TEST_KAFKA").is_ok() {
        return; // the stack has one broker of that version
    }
    let kafka = OwnStack::start("kafka-log-three", &["kafka"], &[("KAFKA_NODES", "3")]);
    under_load(settings(&kafka.exports), async |load, settings| {
        for (name, pid) in kafka.pids("kafka") {
            signal(pid, "KILL");
            println!("broker {name} killed: taken again after {:?}", load.recovered().await);
            kafka.restart("kafka");
            in_sync(settings).await;
        }
        for (name, pid) in kafka.pids("kafka") {
            signal(pid, "STOP");
            println!("broker {name} silent: taken again after {:?}", load.recovered().await);
            signal(pid, "CONT");
            in_sync(settings).await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_only_broker_is_killed_and_held_and_nothing_accepted_is_lost() {
    let kafka = OwnStack::start("kafka-log-one", &["kafka"], &[]);
    under_load(settings(&kafka.exports), async |load, _| {
        kafka.signal("kafka", "STOP");
        tokio::time::sleep(Duration::from_secs(12)).await;
        kafka.signal("kafka", "CONT");
        println!("silent for 12 s, then taken again after {:?}", load.recovered().await);
        kafka.kill("kafka");
        tokio::time::sleep(Duration::from_secs(2)).await;
        kafka.restart("kafka");
        println!("killed and started: taken again after {:?}", load.recovered().await);
    })
    .await;
}
