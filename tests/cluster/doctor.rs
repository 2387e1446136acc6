//! `chatd doctor` on the services of a cluster at work, on such that are away, and on settings that an open server
//! must not have.

use serde_json::Value;

use crate::cluster::Cluster;
use crate::support::Setup;

/// Findings as area, severity and text; and the exit code.
fn doctor(setup: &Setup, arguments: &[&str]) -> (Vec<[String; 3]>, Option<i32>) {
    let output = setup.command().arg("doctor").args(arguments).arg("--json").output().unwrap();
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    for finding in &found {
        let has_remedy = finding["remedy"].as_str().is_some_and(|remedy| !remedy.is_empty());
        assert_eq!(has_remedy, finding["severity"] != "ok", "{finding}");
    }
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let finding = |finding: &Value| ["area", "severity", "what"].map(|field| text(finding, field));
    (found.iter().map(finding).collect(), output.status.code())
}

#[track_caller]
fn assert_found(found: &[[String; 3]], area: &str, severity: &str, words: &str) {
    let is_it = |[a, s, what]: &[String; 3]| a == area && s == severity && what.contains(words);
    assert!(found.iter().any(is_it), "no {severity} of {area} says {words:?}: {found:#?}");
}

fn problems(found: &[[String; 3]]) -> Vec<&str> {
    let areas = found.iter().filter(|[_, severity, _]| severity == "problem").map(|[area, ..]| area.as_str());
    let mut areas: Vec<&str> = areas.collect();
    areas.dedup();
    areas
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_sees_each_service_as_it_is() {
    let cluster = Cluster::start_beside_others(None).await;
    cluster.well().await;
    let setup = || cluster.node("serve", 9).setup();

    let (found, code) = doctor(&setup(), &[]);
    assert_eq!((problems(&found), code), (vec![], Some(0)), "{found:#?}");
    assert_found(&found, "storage", "ok", "this release's schema");
    assert_found(&found, "storage", "notice", "not encrypted");
    assert_found(&found, "log", "ok", "Kafka (");
    assert_found(&found, "log", "notice", "1 copy of each record");
    assert_found(&found, "redis", "ok", "a published message comes back");
    assert_found(&found, "redis", "ok", "noeviction");
    assert_found(&found, "mail", "ok", "reached");
    assert_found(&found, "tokens", "ok", "JWT_SECRET");

    // The same services, for the open internet.
    let (found, code) = doctor(&setup(), &["--production"]);
    assert_eq!((problems(&found), code), (vec!["storage", "log", "mail", "tokens"], Some(1)), "{found:#?}");
    assert_found(&found, "storage", "problem", "not encrypted");
    assert_found(&found, "tokens", "problem", "`exp`");

    // Nobody listens there.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (area, name, value) in [
        ("storage", "DATABASE_URL", format!("postgres://chatd:x@{nowhere}/chatd?sslmode=disable")),
        ("log", "KAFKA_BROKERS", nowhere.to_string()),
        ("redis", "REDIS_URL", format!("redis://{nowhere}/0")),
        ("mail", "SMTP_URL", format!("smtp://{nowhere}")),
    ] {
        let (found, code) = doctor(&setup().env(name, &value), &[]);
        assert_eq!((problems(&found), code), (vec![area], Some(1)), "{name}: {found:#?}");
    }
}
