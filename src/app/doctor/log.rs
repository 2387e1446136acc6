//! The message log: reached, its topic's settings, copies, and whether what waits in it is safe.

use super::{Findings, Severity};
use crate::app::backends::{self, Logged, Stored, kafka_settings};
use crate::config::{Config, LogBackend};
use crate::domain::Frontier;
use crate::pipeline::Bounds;
use crate::pipeline::kafka::{self, ClusterFacts, Gravity, TopicFacts};

/// Records that wait are few where consumers keep up; this many are some seconds of a busy deployment.
const BACKLOG_MANY: i64 = 50_000;
/// Brokers that a deployment needs to survive the loss of one.
const BROKERS_MIN: usize = 3;

pub(super) async fn examine(config: &Config, mut found: Findings) -> Findings {
    match &config.log.backend {
        LogBackend::Embedded { path } => {
            let name = path.display();
            if path.exists() {
                found.fine(format!("embedded, {name}"));
            } else {
                found.fine(format!("embedded, {name}: it is made by the first start"));
            }
        }
        LogBackend::Kafka(backend) => match kafka::describe(&kafka_settings(config, backend)).await {
            Ok(facts) => {
                cluster(&mut found, &facts);
                if let Some(topic) = &facts.topic {
                    self::topic(&mut found, topic);
                    backlog(config, &mut found, topic).await;
                }
            }
            Err(error) => found.problem(
                error.to_string(),
                "check KAFKA_BROKERS and the KAFKA_… credentials, and that this machine reaches the addresses \
                 that the brokers advertise",
            ),
        },
    }
    found
}

fn cluster(found: &mut Findings, facts: &ClusterFacts) {
    let addresses: Vec<_> = facts.brokers.iter().map(|broker| broker.address.as_str()).collect();
    let kind = match facts.metadata_version {
        Some(level) => format!("KRaft, metadata.version {level}"),
        None => "ZooKeeper".to_owned(),
    };
    found.fine(format!("Kafka ({kind}), brokers that are up: {}", addresses.join(", ")));
    if facts.brokers.len() < BROKERS_MIN {
        found.in_production(
            format!(
                "what is accepted lies on too few machines: brokers that are up: {}",
                facts.brokers.len()
            ),
            "run three brokers at least, with replication 3 and min.insync.replicas 2",
        );
    }
    if facts.topic.is_none() {
        found.fine("the topic does not exist yet: the first start makes it");
    }
}

/// What follows from a topic's facts. Pure.
pub(super) fn topic(found: &mut Findings, facts: &TopicFacts) {
    let TopicFacts { name, partitions, replication, .. } = facts;
    found.fine(format!("topic {name}: {partitions} partitions, copies of each record: {replication}"));
    for finding in kafka::findings(facts) {
        let severity = match (finding.gravity, found.production) {
            (Gravity::Broken, _) | (Gravity::Weak, true) => Severity::Problem,
            (Gravity::Weak, false) => Severity::Warning,
            (Gravity::Notice, _) => Severity::Notice,
        };
        let remedy = finding.set.map_or_else(
            || "see docs/operations.md, the topic".to_owned(),
            |set| {
                format!(
                    "kafka-configs.sh --bootstrap-server … --alter --entity-type topics --entity-name {name} \
                     --add-config {set}"
                )
            },
        );
        found.say(severity, format!("topic {name}: {}", finding.sentence), remedy);
    }
}

/// What waits in the log, and whether it is still there when its turn comes.
async fn backlog(config: &Config, found: &mut Findings, topic: &TopicFacts) {
    // What cannot be reached is told by its own area.
    let Ok(Stored { storage, .. }) = backends::storage(config, 1, false).await else { return };
    let Ok(Some((number, followed))) = storage.followed().await else { return };
    if followed.id != topic.id {
        found.problem(
            format!("the database follows the log {}, and topic {} is {}", followed.id, topic.name, topic.id),
            "the topic was made anew, or the database is another deployment's; `chatd log replay --from` is the \
             way out (docs/operations.md)",
        );
        return;
    }
    let Ok(Logged { source, .. }) = backends::log(config, true).await else { return };
    if let (Ok(bounds), Ok(applied)) = (source.bounds().await, storage.frontier(number).await) {
        waiting(found, &bounds, &applied);
    }
    if let Ok(standstills) = storage.standstills(number).await {
        for (partition, standstill) in standstills {
            found.problem(
                format!("partition {partition} stands still: {}", standstill.reason),
                "see docs/operations.md, alarms",
            );
        }
    }
}

/// What follows from how far log and history are. Pure.
pub(super) fn waiting(found: &mut Findings, bounds: &[Bounds], applied: &Frontier) {
    let mut backlog = 0;
    for (partition, bound) in (0..).zip(bounds) {
        let next = applied.offset(partition) + 1;
        backlog += (bound.end - next).max(0);
        if bound.start > next {
            found.problem(
                format!(
                    "partition {partition}: offset {next} is next, and the log begins at {}: its retention has \
                     passed what was not applied",
                    bound.start
                ),
                "make retention longer than any outage, then `chatd log replay --from earliest --accept-loss`",
            );
        }
    }
    if backlog > BACKLOG_MANY {
        found.warn(
            format!("{backlog} records wait to be applied"),
            "run more `chatd consume` (up to one a partition), or look at what slows the database down",
        );
    } else {
        found.fine(format!("{backlog} records wait to be applied"));
    }
}
