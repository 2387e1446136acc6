//! What is judged from what was found, and an examination of an empty folder.

use std::time::Duration;

use uuid::Uuid;

use super::*;
use crate::config::{Config, Sources};
use crate::domain::{Frontier, LogNumber, Timestamp};
use crate::pipeline::Bounds;
use crate::pipeline::kafka::{TopicConfig, TopicFacts};
use crate::redis::inspect::Inspection as RedisInspection;
use crate::storage::postgres::Inspection;

fn config(pairs: &[(&str, &str)]) -> Config {
    let sources = pairs.iter().fold(Sources::new("data"), |sources, (name, value)| sources.with(name, value));
    Config::load(&sources).unwrap()
}

/// What was found that is not fine: how bad, and the words.
fn found(production: bool, look: impl FnOnce(&mut Findings)) -> Vec<(Severity, String)> {
    let mut found = Findings::new("test", production);
    look(&mut found);
    let bad = found.all.into_iter().filter(|finding| finding.severity != Severity::Ok);
    bad.map(|finding| {
        assert!(finding.remedy.is_some(), "{finding:?}");
        (finding.severity, finding.what)
    })
    .collect()
}

#[track_caller]
fn one(found: &[(Severity, String)], severity: Severity, words: &str) {
    assert!(found.len() == 1 && found[0].0 == severity && found[0].1.contains(words), "{words}: {found:?}");
}

fn database() -> Inspection {
    Inspection {
        database: "db:5432/chat".into(),
        version: "15.18".into(),
        tls: Some("TLSv1.3".into()),
        schema: Some("1".into()),
        pending: vec![],
        is_standby: false,
        connections_max: 100,
        synchronous_commit: "on".into(),
        clock: Timestamp::now(),
    }
}

#[test]
fn a_database_that_chatd_should_not_run_on_is_told() {
    let config = config(&[]);
    let judged = |production, is: Inspection| found(production, |found| storage::judge(found, &config, &is));
    assert_eq!(judged(true, database()), []);
    one(&judged(true, Inspection { tls: None, ..database() }), Severity::Problem, "not encrypted");
    one(&judged(false, Inspection { tls: None, ..database() }), Severity::Notice, "not encrypted");
    one(
        &judged(false, Inspection { pending: vec!["2".into()], ..database() }),
        Severity::Warning,
        "missing: 1",
    );
    one(
        &judged(false, Inspection { version: "12.3".into(), ..database() }),
        Severity::Problem,
        "older than 13",
    );
    one(&judged(false, Inspection { is_standby: true, ..database() }), Severity::Problem, "standby");
    let off = Inspection { synchronous_commit: "off".into(), ..database() };
    one(&judged(false, off), Severity::Problem, "synchronous_commit");
    one(
        &judged(false, Inspection { connections_max: 10, ..database() }),
        Severity::Warning,
        "allows 10 in all",
    );
    let clock = Timestamp::now().minus(Duration::from_secs(9));
    one(&judged(false, Inspection { clock, ..database() }), Severity::Warning, "s apart");
}

fn topic() -> TopicFacts {
    TopicFacts {
        name: "chat.messages".into(),
        id: Uuid::from_u128(7),
        partitions: 6,
        brokers: 3,
        replication: 3,
        under_replicated: vec![],
        leaderless: vec![],
        config: TopicConfig {
            cleanup_policy: "delete".into(),
            compression_type: "producer".into(),
            timestamp_type: "LogAppendTime".into(),
            min_insync_replicas: 2,
            unclean_leader_election: false,
            retention_ms: 7 * 24 * 3_600 * 1_000,
            retention_bytes: -1,
            max_message_bytes: 1_048_588,
        },
    }
}

#[test]
fn a_topic_that_could_lose_messages_is_told_as_badly_as_it_matters() {
    let judged = |production, facts: TopicFacts| found(production, |found| log::topic(found, &facts));
    assert_eq!(judged(true, topic()), []);
    let unclean = || {
        let mut facts = topic();
        facts.config.unclean_leader_election = true;
        facts
    };
    one(&judged(true, unclean()), Severity::Problem, "unclean.leader.election");
    one(&judged(false, unclean()), Severity::Warning, "unclean.leader.election");
    let mut compacted = topic();
    compacted.config.cleanup_policy = "compact".into();
    one(&judged(false, compacted), Severity::Problem, "cleanup.policy");
    one(&judged(false, TopicFacts { leaderless: vec![2], ..topic() }), Severity::Notice, "no leader");
}

#[test]
fn what_waits_in_the_log_is_compared_with_what_it_holds() {
    let applied = Frontier { log: LogNumber(1), offsets: vec![9, -1].into() };
    let judged = |bounds: [(i64, i64); 2]| {
        let bounds = bounds.map(|(start, end)| Bounds { start, end });
        found(false, |found| log::waiting(found, &bounds, &applied))
    };
    assert_eq!(judged([(10, 10), (0, 400)]), []);
    one(
        &judged([(11, 12), (0, 0)]),
        Severity::Problem,
        "partition 0: offset 10 is next, and the log begins at 11",
    );
    one(&judged([(0, 10), (0, 90_000)]), Severity::Warning, "90000 records wait");
}

#[test]
fn a_redis_that_forgets_or_is_slow_is_told() {
    let redis = || RedisInspection {
        version: "7.0.15".into(),
        eviction: Some("noeviction".into()),
        memory_max: Some(1 << 30),
        round_trip: Duration::from_millis(1),
        clock: Timestamp::now(),
    };
    let judged = |is: RedisInspection| found(false, |found| backends::judge_redis(found, &is));
    assert_eq!(judged(redis()), []);
    assert_eq!(judged(RedisInspection { eviction: None, memory_max: None, ..redis() }), []);
    let policy = Some("allkeys-lru".to_owned());
    one(&judged(RedisInspection { eviction: policy.clone(), ..redis() }), Severity::Warning, "allkeys-lru");
    assert_eq!(judged(RedisInspection { eviction: policy, memory_max: Some(0), ..redis() }), []);
    one(&judged(RedisInspection { version: "6.0.9".into(), ..redis() }), Severity::Problem, "older than 6.2");
    let round_trip = Duration::from_millis(80);
    one(&judged(RedisInspection { round_trip, ..redis() }), Severity::Warning, "80.0 ms");
}

#[tokio::test]
async fn an_empty_folder_is_fine_for_trying_and_not_for_production() {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::load(&Sources::new(folder.path())).unwrap();
    let bad = |findings: Vec<Finding>| {
        findings.into_iter().filter(|finding| finding.severity == Severity::Problem).collect::<Vec<_>>()
    };
    assert_eq!(bad(examine(&config, false).await), []);
    let areas: Vec<_> = bad(examine(&config, true).await).into_iter().map(|finding| finding.area).collect();
    assert!(areas.contains(&"mail") && areas.contains(&"tokens"), "{areas:?}");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "looking makes nothing");
}
