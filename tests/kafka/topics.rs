//! The topic: made as it is promised, and refused where it is not so.

use chatd::pipeline::kafka::{KafkaSettings, TopicError, describe, ensure_topic};
use tokio::task::JoinSet;

use crate::member::{settings, tool};
use crate::stack::{Exports, stack};

const TOPICS: &str = "org.apache.kafka.tools.TopicCommand";
const CONFIGS: &str = "kafka.admin.ConfigCommand";

/// Makes the topic with one of Kafka's own tools, as an operator would.
fn make(exports: &Exports, settings: &KafkaSettings, partitions: &str, configs: &[&str]) {
    let mut arguments = vec!["--create", "--topic", &settings.topic, "--partitions", partitions];
    arguments.extend(["--replication-factor", "1"]);
    configs.iter().for_each(|config| arguments.extend(["--config", config]));
    tool(exports, TOPICS, &arguments).unwrap();
}

fn refusal(refused: Result<Vec<String>, TopicError>) -> String {
    match refused {
        Err(TopicError::Unfit(sentence)) => sentence,
        other => panic!("not refused: {other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_topic_has_the_settings_of_the_promise() {
    let settings = settings(&stack(&["kafka"]));
    assert_eq!(describe(&settings).await.unwrap().topic, None, "looking makes nothing");
    let notices = ensure_topic(&settings, false).await.unwrap();
    assert_eq!(notices.len(), 1, "{notices:?}");
    assert!(notices[0].contains("1 copy of each record on 1 broker"), "{notices:?}");

    let cluster = describe(&settings).await.unwrap();
    let topic = cluster.topic.unwrap();
    assert_eq!((cluster.brokers.len(), topic.partitions, topic.replication), (1, 6, 1));
    assert_eq!((topic.under_replicated, topic.leaderless), (vec![], vec![]));
    assert_eq!(topic.config.cleanup_policy, "delete");
    assert_eq!(topic.config.compression_type, "producer");
    assert_eq!(topic.config.timestamp_type, "LogAppendTime");
    assert_eq!(topic.config.retention_ms, 7 * 24 * 3600 * 1000);
    assert_eq!((topic.config.retention_bytes, topic.config.min_insync_replicas), (-1, 1));
    assert!(!topic.config.unclean_leader_election);
    assert_eq!(ensure_topic(&settings, true).await.unwrap(), notices, "it passes, again and again");
    assert_eq!(describe(&settings).await.unwrap().topic.unwrap().id, topic.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_processes_may_make_it_at_the_same_time() {
    let settings = settings(&stack(&["kafka"]));
    let mut making = JoinSet::new();
    for _ in 0..5 {
        let settings = settings.clone();
        making.spawn(async move { ensure_topic(&settings, false).await });
    }
    for made in making.join_all().await {
        made.unwrap();
    }
    assert_eq!(describe(&settings).await.unwrap().topic.unwrap().partitions, 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn production_rules_make_no_topic_on_too_few_brokers_and_say_how_it_is_made() {
    let exports = stack(&["kafka"]);
    let settings = settings(&exports);
    let refused = ensure_topic(&settings, true).await.unwrap_err().to_string();
    assert!(refused.contains("1 of the three brokers"), "{refused}");
    let command = refused.split_once("kafka-topics.sh --bootstrap-server ").unwrap().1;
    let arguments: Vec<_> = command.split(' ').skip(1).collect();
    tool(&exports, TOPICS, &arguments).unwrap();
    ensure_topic(&settings, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_weak_topic_is_a_notice_in_development_and_a_refusal_in_production() {
    let exports = stack(&["kafka"]);
    let settings = settings(&exports);
    make(&exports, &settings, "6", &["retention.ms=3600000", "unclean.leader.election.enable=true"]);
    let notices = ensure_topic(&settings, false).await.unwrap().join("\n");
    assert!(notices.contains("retention.ms is 3600000 (1 h)"), "{notices}");
    assert!(notices.contains("unclean.leader.election.enable is true"), "{notices}");

    let refused = refusal(ensure_topic(&settings, true).await);
    // What it says to run is all it takes.
    let command = refused.split_once("kafka-configs.sh --bootstrap-server ").unwrap().1;
    let arguments: Vec<_> = command.split(' ').skip(1).collect();
    tool(&exports, CONFIGS, &arguments).unwrap();
    ensure_topic(&settings, true).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_cannot_work_is_refused_always() {
    let exports = stack(&["kafka"]);
    for (config, sentence) in [
        ("cleanup.policy=compact", "cleanup.policy is compact and has to be delete"),
        ("compression.type=gzip", "compression.type is gzip and has to be producer"),
    ] {
        let settings = settings(&exports);
        make(&exports, &settings, "6", &[config]);
        let refused = refusal(ensure_topic(&settings, false).await);
        assert!(refused.contains(&settings.topic) && refused.contains(sentence), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_topic_keeps_its_partitions() {
    let exports = stack(&["kafka"]);
    let settings = settings(&exports);
    make(&exports, &settings, "4", &["message.timestamp.type=LogAppendTime", "retention.ms=604800000"]);
    let notices = ensure_topic(&settings, false).await.unwrap();
    let expected =
        format!("log.partitions is 6, but topic {} was made with 4 and keeps them", settings.topic);
    assert!(notices.contains(&expected), "{notices:?}");
}
