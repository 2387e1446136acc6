//! Members of a group, as a process would be one, and what Kafka's own tools say of them.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use chatd::domain::Partition;
use chatd::pipeline::kafka::{KafkaLog, KafkaSettings, ensure_topic};
use chatd::pipeline::{Assignment, EventSource};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use crate::stack::Exports;

/// Long enough for any machine; only a failing test waits so long.
pub const LONG: Duration = Duration::from_secs(60);

/// Settings with a topic and a group that nobody else has; the topic is not made.
pub fn settings(exports: &Exports) -> KafkaSettings {
    let own = Uuid::new_v4().simple().to_string();
    KafkaSettings {
        brokers: exports.get("KAFKA_BROKERS").split(',').map(str::to_owned).collect(),
        topic: format!("{own}.chat.messages"),
        group: format!("{own}.chatd"),
        partitions: 6,
        ..KafkaSettings::default()
    }
}

/// As [`settings`], and the topic is there.
pub async fn with_topic(exports: &Exports) -> KafkaSettings {
    let settings = settings(exports);
    ensure_topic(&settings, false).await.unwrap();
    settings
}

/// A process that reads: its place in the group, and an owner that lets go as soon as it is asked.
pub struct Member {
    pub log: Arc<KafkaLog>,
    assigned: watch::Receiver<Assignment>,
    owner: JoinHandle<()>,
}

impl Member {
    /// Starts as a process does, and joins the group.
    pub async fn join(settings: &KafkaSettings) -> Self {
        ensure_topic(settings, false).await.unwrap();
        let log = KafkaLog::connect(settings.clone()).await.unwrap();
        let assigned = log.assigned();
        let (source, mut changes) = (Arc::clone(&log), assigned.clone());
        let owner = tokio::spawn(async move {
            loop {
                let round = changes.borrow_and_update().round;
                source.drained(round).await;
                if changes.changed().await.is_err() {
                    return;
                }
            }
        });
        Self { log, assigned, owner }
    }

    /// What it has now.
    pub fn assignment(&self) -> Assignment {
        self.assigned.borrow().clone()
    }

    /// What it has, as soon as it is so many partitions.
    pub async fn has(&mut self, count: usize) -> Assignment {
        let wait = self.assigned.wait_for(|assignment| assignment.partitions.len() == count);
        let assignment = timeout(LONG, wait).await.map(|got| got.unwrap().clone());
        assignment.unwrap_or_else(|_| panic!("not {count} partitions but {:?}", self.assignment()))
    }

    /// Ends as with `kill -9`: its connections are gone, and nobody is told.
    pub fn die(self) {
        self.owner.abort();
    }

    /// Stops in order; says how long that took.
    pub async fn leave(self) -> Duration {
        let began = Instant::now();
        self.log.leave().await;
        began.elapsed()
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        self.owner.abort();
    }
}

/// The partitions of several members together, in order.
pub fn all_of(members: &[&Member]) -> Vec<Partition> {
    let mut all: Vec<_> = members.iter().flat_map(|member| member.assignment().partitions).collect();
    all.sort_unstable();
    all
}

/// Runs one of Kafka's own tools to its end; what it prints, if all went well.
pub fn tool(exports: &Exports, class: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new("java")
        .args(["-Xmx256m", "-cp", &format!("{}/*", exports.get("KAFKA_LIBS")), class])
        .args(["--bootstrap-server", exports.get("KAFKA_BROKERS")])
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() { Ok(said) } else { Err(said + &String::from_utf8_lossy(&output.stderr)) }
}

/// `kafka-consumer-groups.sh --describe`.
pub fn describe_group(exports: &Exports, group: &str, what: &[&str]) -> String {
    let arguments = [&["--describe", "--group", group], what].concat();
    tool(exports, "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand", &arguments).unwrap()
}
