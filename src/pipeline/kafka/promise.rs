//! The settings that chatd's topic has to have, and what a topic that lacks them is told.
//!
//! `accepted` promises that a message survives whatever happens to one machine and waits in the log until it is
//! applied. A topic keeps that promise only with the settings of docs/operations.md; chatd makes its own so, and
//! looks at one that exists already.

use std::fmt::Write as _;

use uuid::Uuid;

use crate::domain::Partition;

/// Copies of each record, where there are so many brokers.
pub const REPLICATION: i16 = 3;
/// Copies that have to be written before a record is accepted.
const MIN_INSYNC: i64 = 2;
/// How long records have to stay at least: 7 days, in ms. It has to be longer than any outage of the consumers.
const RETENTION_MS: i64 = 7 * 24 * 3600 * 1000;
/// More partitions make cursors and frontiers too long.
const PARTITIONS_MAX: Partition = 1024;
/// What `max.message.bytes` has to allow: twice what a batch of chatd holds.
const BATCH_BYTES_MAX: i64 = 1024 * 1024;

/// What a topic's settings are now, defaults of the brokers included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicConfig {
    /// `cleanup.policy`.
    pub cleanup_policy: String,
    /// `compression.type`.
    pub compression_type: String,
    /// `message.timestamp.type`.
    pub timestamp_type: String,
    /// `min.insync.replicas`.
    pub min_insync_replicas: i64,
    /// `unclean.leader.election.enable`.
    pub unclean_leader_election: bool,
    /// `retention.ms`; -1 is without end.
    pub retention_ms: i64,
    /// `retention.bytes` of a partition; -1 is without limit.
    pub retention_bytes: i64,
    /// `max.message.bytes`, of a batch.
    pub max_message_bytes: i64,
}

/// What can be known of a topic and of the cluster that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicFacts {
    /// Its name, prefix included.
    pub name: String,
    /// Kafka's own id of it: another topic of the same name has another one.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: Partition,
    /// Brokers that are up.
    pub brokers: usize,
    /// Copies of the partition that has fewest.
    pub replication: i16,
    /// Partitions with fewer copies in sync than they have copies.
    pub under_replicated: Vec<Partition>,
    /// Partitions that nothing can be written to or read from now.
    pub leaderless: Vec<Partition>,
    /// Its settings.
    pub config: TopicConfig,
}

/// How bad it is that a setting is not what it has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gravity {
    /// chatd cannot work so.
    Broken,
    /// It works, and accepted messages can be lost.
    Weak,
    /// Worth knowing.
    Notice,
}

/// One thing about a topic that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub gravity: Gravity,
    /// What is so, and what follows from it; without the topic's name.
    pub sentence: String,
    /// What to set with `kafka-configs`, as `name=value`, where that is the remedy.
    pub set: Option<String>,
}

/// The settings with which a topic is made.
pub fn wanted(replication: i16) -> Vec<(&'static str, String)> {
    let min_insync = if replication >= REPLICATION { MIN_INSYNC } else { 1 };
    vec![
        ("cleanup.policy", "delete".to_owned()),
        ("compression.type", "producer".to_owned()),
        ("message.timestamp.type", "LogAppendTime".to_owned()),
        ("min.insync.replicas", min_insync.to_string()),
        ("retention.bytes", "-1".to_owned()),
        ("retention.ms", RETENTION_MS.to_string()),
        ("unclean.leader.election.enable", "false".to_owned()),
    ]
}

/// Everything that is not as it should be.
pub fn findings(facts: &TopicFacts) -> Vec<Finding> {
    let mut found = of_config(&facts.config);
    found.extend(of_copies(facts));
    if facts.partitions > PARTITIONS_MAX {
        let sentence = format!(
            "it has {} partitions, and chatd follows {PARTITIONS_MAX} at most: name another topic with \
             kafka.topic_prefix",
            facts.partitions
        );
        found.push(Finding { gravity: Gravity::Broken, sentence, set: None });
    }
    found
}

fn of_config(config: &TopicConfig) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut unless = |fine: bool, gravity: Gravity, name: &str, is: &str, needs: &str, why: &str| {
        if !fine {
            let sentence = format!("{name} is {is} and has to be {needs}: {why}");
            found.push(Finding { gravity, sentence, set: Some(format!("{name}={needs}")) });
        }
    };
    unless(
        config.cleanup_policy == "delete",
        Gravity::Broken,
        "cleanup.policy",
        &config.cleanup_policy,
        "delete",
        "compaction keeps only the last message of each conversation",
    );
    unless(
        matches!(config.compression_type.as_str(), "producer" | "uncompressed"),
        Gravity::Broken,
        "compression.type",
        &config.compression_type,
        "producer",
        "brokers would compress what chatd reads uncompressed",
    );
    unless(
        config.max_message_bytes >= BATCH_BYTES_MAX,
        Gravity::Broken,
        "max.message.bytes",
        &config.max_message_bytes.to_string(),
        &(BATCH_BYTES_MAX + 12).to_string(),
        "brokers would refuse the batches that chatd writes under load",
    );
    unless(
        !config.unclean_leader_election,
        Gravity::Weak,
        "unclean.leader.election.enable",
        "true",
        "false",
        "a broker without the last messages could take a partition over",
    );
    unless(
        config.timestamp_type == "LogAppendTime",
        Gravity::Weak,
        "message.timestamp.type",
        &config.timestamp_type,
        "LogAppendTime",
        "retention would go by the clocks of those who write",
    );
    unless(
        config.retention_ms == -1 || config.retention_ms >= RETENTION_MS,
        Gravity::Weak,
        "retention.ms",
        &duration(config.retention_ms),
        &RETENTION_MS.to_string(),
        "messages have to outlast any outage of the consumers, so 7 days are the least",
    );
    unless(
        config.retention_bytes == -1,
        Gravity::Weak,
        "retention.bytes",
        &config.retention_bytes.to_string(),
        "-1",
        "a full partition would drop messages that were not read yet",
    );
    found
}

fn of_copies(facts: &TopicFacts) -> Vec<Finding> {
    let mut found = Vec::new();
    let mut add = |gravity, sentence, set| found.push(Finding { gravity, sentence, set });
    let can = facts.brokers >= REPLICATION as usize;
    if facts.replication < REPLICATION {
        let (copies, brokers) = (facts.replication, facts.brokers);
        let (gravity, remedy) = if can {
            (Gravity::Weak, "add copies with kafka-reassign-partitions.sh")
        } else {
            (Gravity::Notice, "three brokers and three copies are what the promise is made for")
        };
        let sentence = format!(
            "it has {copies} {} of each record on {brokers} {}, so that accepted messages can be lost with one \
             machine: {remedy}",
            if copies == 1 { "copy" } else { "copies" },
            if brokers == 1 { "broker" } else { "brokers" },
        );
        add(gravity, sentence, None);
    } else if facts.config.min_insync_replicas < MIN_INSYNC {
        let sentence = format!(
            "min.insync.replicas is {} and has to be {MIN_INSYNC}: a message would be accepted that one broker \
             alone has",
            facts.config.min_insync_replicas
        );
        add(Gravity::Weak, sentence, Some(format!("min.insync.replicas={MIN_INSYNC}")));
    }
    if facts.config.min_insync_replicas > i64::from(facts.replication) {
        let sentence = format!(
            "min.insync.replicas is {} with {} copies, so that nothing can be written",
            facts.config.min_insync_replicas, facts.replication
        );
        let allowed = if facts.replication >= REPLICATION { MIN_INSYNC } else { 1 };
        add(Gravity::Broken, sentence, Some(format!("min.insync.replicas={allowed}")));
    }
    if !facts.under_replicated.is_empty() {
        let sentence = format!("partitions {:?} lack copies that are in sync now", facts.under_replicated);
        add(Gravity::Notice, sentence, None);
    }
    if !facts.leaderless.is_empty() {
        let sentence = format!("partitions {:?} have no leader now: a broker is down", facts.leaderless);
        add(Gravity::Notice, sentence, None);
    }
    found
}

/// Splits findings into what an operator should know and the reason why the topic is refused, if it is: under
/// production rules (`strict`) what is weak is refused as well.
pub fn judge(topic: &str, brokers: &str, found: &[Finding], strict: bool) -> (Vec<String>, Option<String>) {
    let refuses = |finding: &&Finding| match finding.gravity {
        Gravity::Broken => true,
        Gravity::Weak => strict,
        Gravity::Notice => false,
    };
    let refused: Vec<&Finding> = found.iter().filter(refuses).collect();
    let tell = |found: &[&Finding]| {
        let mut text = format!("topic {topic}: ");
        let sentences: Vec<&str> = found.iter().map(|finding| finding.sentence.as_str()).collect();
        text.push_str(&sentences.join("; "));
        let settings: Vec<&str> = found.iter().filter_map(|finding| finding.set.as_deref()).collect();
        if !settings.is_empty() {
            // Writing into a string cannot fail.
            let _ = write!(
                text,
                ". To set it: kafka-configs.sh --bootstrap-server {brokers} --alter --entity-type topics \
                 --entity-name {topic} --add-config {}",
                settings.join(",")
            );
        }
        text
    };
    let notices = found.iter().filter(|finding| !refuses(finding)).map(|finding| tell(&[finding])).collect();
    (notices, (!refused.is_empty()).then(|| tell(&refused)))
}

/// Milliseconds as an operator reads them.
fn duration(ms: i64) -> String {
    let minutes = ms / 60_000;
    if minutes < 60 {
        format!("{ms} ({minutes} min)")
    } else if minutes < 48 * 60 {
        format!("{ms} ({} h)", minutes / 60)
    } else {
        format!("{ms} ({} days)", minutes / (24 * 60))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> TopicFacts {
        TopicFacts {
            name: "chat.messages".to_owned(),
            id: Uuid::nil(),
            partitions: 6,
            brokers: 3,
            replication: 3,
            under_replicated: vec![],
            leaderless: vec![],
            config: TopicConfig {
                cleanup_policy: "delete".to_owned(),
                compression_type: "producer".to_owned(),
                timestamp_type: "LogAppendTime".to_owned(),
                min_insync_replicas: 2,
                unclean_leader_election: false,
                retention_ms: RETENTION_MS,
                retention_bytes: -1,
                max_message_bytes: 1_048_588,
            },
        }
    }

    /// What is done to a topic that is as it should be.
    type Change = fn(&mut TopicFacts);

    fn judged(facts: &TopicFacts, strict: bool) -> (Vec<String>, Option<String>) {
        judge(&facts.name, "kafka:9092", &findings(facts), strict)
    }

    #[test]
    fn a_topic_of_the_promise_passes_without_a_word() {
        assert_eq!(judged(&facts(), true), (vec![], None));
        let mut forever = facts();
        forever.config.retention_ms = -1;
        assert_eq!(judged(&forever, true), (vec![], None));
    }

    #[test]
    fn a_weak_topic_is_refused_under_production_rules_and_warned_of_otherwise() {
        let weaken: [(Change, &str); 6] = [
            (|facts| facts.config.retention_ms = 3_600_000, "retention.ms is 3600000 (1 h)"),
            (|facts| facts.config.retention_bytes = 5, "retention.bytes is 5"),
            (|facts| facts.config.unclean_leader_election = true, "unclean.leader.election.enable is true"),
            (
                |facts| facts.config.timestamp_type = "CreateTime".into(),
                "message.timestamp.type is CreateTime",
            ),
            (|facts| facts.config.min_insync_replicas = 1, "min.insync.replicas is 1"),
            (|facts| facts.replication = 2, "it has 2 copies of each record on 3 brokers"),
        ];
        for (change, sentence) in weaken {
            let mut weak = facts();
            change(&mut weak);
            let (notices, refusal) = judged(&weak, true);
            assert!(notices.is_empty(), "{notices:?}");
            assert!(refusal.unwrap().contains(sentence), "{sentence}");
            let (notices, refusal) = judged(&weak, false);
            assert_eq!(refusal, None);
            assert!(notices.len() == 1 && notices[0].contains(sentence), "{notices:?}");
        }
    }

    #[test]
    fn what_chatd_cannot_work_with_is_always_refused() {
        let damage: [(Change, &str); 6] = [
            (|facts| facts.config.cleanup_policy = "compact".into(), "cleanup.policy is compact"),
            (|facts| facts.config.cleanup_policy = "compact,delete".into(), "compact,delete"),
            (|facts| facts.config.compression_type = "zstd".into(), "compression.type is zstd"),
            (|facts| facts.config.max_message_bytes = 100_000, "max.message.bytes is 100000"),
            (|facts| facts.config.min_insync_replicas = 4, "nothing can be written"),
            (|facts| facts.partitions = 2000, "it has 2000 partitions"),
        ];
        for (change, sentence) in damage {
            let mut broken = facts();
            change(&mut broken);
            for strict in [true, false] {
                assert!(judged(&broken, strict).1.unwrap().contains(sentence), "{sentence}");
            }
        }
    }

    #[test]
    fn a_refusal_says_what_to_do_about_all_of_it() {
        let mut wrong = facts();
        wrong.config.cleanup_policy = "compact".to_owned();
        wrong.config.retention_ms = 60_000;
        let refusal = judged(&wrong, true).1.unwrap();
        assert!(
            refusal.ends_with(
                "To set it: kafka-configs.sh --bootstrap-server kafka:9092 --alter --entity-type topics \
                 --entity-name chat.messages --add-config cleanup.policy=delete,retention.ms=604800000"
            ),
            "{refusal}"
        );
    }

    #[test]
    fn a_small_cluster_gets_a_notice_and_what_is_down_as_well() {
        let mut small = facts();
        (small.brokers, small.replication, small.config.min_insync_replicas) = (1, 1, 1);
        let (notices, refusal) = judged(&small, true);
        assert_eq!(refusal, None);
        assert!(notices[0].contains("1 copy of each record on 1 broker"), "{notices:?}");
        let mut down = facts();
        (down.under_replicated, down.leaderless) = (vec![1, 2], vec![2]);
        assert_eq!(judged(&down, true).0.len(), 2);
    }

    #[test]
    fn a_topic_is_made_as_it_is_checked() {
        for (replication, min_insync) in [(3, "2"), (1, "1")] {
            let wanted = wanted(replication);
            assert!(wanted.contains(&("min.insync.replicas", min_insync.to_owned())));
            assert!(wanted.contains(&("retention.ms", "604800000".to_owned())));
        }
    }
}
