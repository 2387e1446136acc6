//! `chatd bench` against a stand-in server over real sockets: a good one is found good, and each way to break
//! the promise is found.
#![allow(clippy::unwrap_used)] // a panic is how a test fails, in what tests share too

use std::time::Duration;

use chatd::cli::bench::BenchError;
use chatd::cli::bench::backlog::{self, Backlog};
use chatd::cli::bench::client::{Client, ClientError, Incoming};
use chatd::cli::bench::dialect::Dialect;
use chatd::cli::bench::fleet::Crowd;
use chatd::cli::bench::history::{self, History};
use chatd::cli::bench::meter::Meter;
use chatd::cli::bench::pairs::{self, Pairs};
use chatd::cli::bench::plan::Plan;
use chatd::cli::bench::report::Report;
use chatd::cli::bench::sizes::Sizes;
use chatd::cli::bench::{frame, idle, maximum};
use chatd::domain::Secret;
use serde_json::json;

#[path = "bench/stand_in.rs"]
mod stand_in;
use stand_in::{Fault, SECRET};

fn crowd(url: &str) -> Crowd {
    Crowd {
        address: url.parse().unwrap(),
        dialect: Dialect::Chatd,
        secret: Secret::new(SECRET.to_owned()),
        users: 2,
        first_id: 11,
    }
}

fn pairs(url: &str, plan: Plan) -> Pairs {
    Pairs {
        crowd: crowd(url),
        plan,
        content: Sizes::exactly(120),
        pid: None,
        metrics: vec![],
        meter: Meter::default(),
    }
}

fn plan(rate: f64, window_ms: u64) -> Plan {
    Plan {
        rate,
        warm_up: Duration::ZERO,
        window: Duration::from_millis(window_ms),
        stragglers_max: Duration::from_secs(1),
    }
}

/// 500 messages of two users within a second.
async fn bench(fault: Fault) -> Report {
    bench_as(fault, Dialect::Chatd).await
}

async fn bench_as(fault: Fault, dialect: Dialect) -> Report {
    let url = stand_in::start_as(fault, dialect).await;
    let plan = Plan { warm_up: Duration::from_millis(200), ..plan(500.0, 800) };
    let crowd = Crowd { dialect, ..crowd(&url) };
    let pairs = Pairs { crowd, pid: Some(std::process::id()), ..pairs(&url, plan) };
    pairs::measure(&pairs).await.unwrap()
}

#[track_caller]
fn assert_counts(report: &Report, expected: &[(&str, u64)]) {
    for (name, count) in expected {
        assert_eq!(report.counts[name], *count, "{name}\n{report}");
    }
    assert!(!report.clean, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_server_is_found_good() {
    let report = bench(Fault::None).await;
    assert!(report.clean, "{report}");
    assert_eq!(
        (report.counts["sent"], report.counts["accepted"], report.counts["copies"]),
        (500, 500, 1_000)
    );
    assert_eq!((report.accepted.count, report.delivered.count), (400, 400));
    assert!(report.delivered.p50_ms > 0.0 && report.delivered.max_ms < 800.0, "{report}");
    assert!(report.accepted_rate > 250.0 && report.accepted_rate < 750.0, "{report}");
    assert!(report.server.is_some_and(|server| server.rss_bytes > 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reference_is_judged_as_well() {
    let good = bench_as(Fault::None, Dialect::Reference).await;
    assert!(good.clean, "{good}");
    assert_eq!((good.counts["sent"], good.counts["accepted"], good.counts["copies"]), (500, 500, 500));
    let found = async |fault| bench_as(fault, Dialect::Reference).await;
    assert_counts(&found(Fault::Lose(100)).await, &[("lost", 5), ("two_seqs", 0)]);
    assert_counts(&found(Fault::Duplicate(100)).await, &[("two_seqs", 5), ("lost", 0)]);
    assert_counts(&found(Fault::Swap(101)).await, &[("sends_reordered", 4), ("lost", 0)]);
    assert_counts(&found(Fault::Ignore(250)).await, &[("unanswered", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_messages_are_found() {
    assert_counts(&bench(Fault::Lose(100)).await, &[("lost", 5), ("duplicated", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_accepted_and_never_stored_are_found() {
    assert_counts(&bench(Fault::LoseEverywhere(250)).await, &[("lost", 2), ("holes", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn duplicates_are_found() {
    assert_counts(&bench(Fault::Duplicate(100)).await, &[("duplicated", 5), ("lost", 0)]);
    let stored = bench(Fault::StoreTwice(100)).await;
    assert_counts(&stored, &[("two_seqs", 10), ("lost", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn disorder_is_found() {
    let report = bench(Fault::Swap(101)).await;
    assert_counts(&report, &[("out_of_order", 4), ("lost", 0), ("holes", 0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_silence_are_found() {
    let report = bench(Fault::Refuse(100)).await;
    assert_counts(&report, &[("lost", 0), ("accepted", 495), ("errors", 5)]);
    assert_eq!(report.errors["overloaded"], 5);
    assert_counts(&bench(Fault::Ignore(250)).await, &[("unanswered", 2)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_socket_is_found() {
    let report = bench(Fault::Close(400)).await;
    assert_eq!(report.closed[&4430], 1, "{report}");
    assert!(report.counts["unsent"] > 20 && !report.clean, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stall_counts_for_every_message_that_was_due_in_it() {
    let report = bench(Fault::Stall(120, Duration::from_millis(600))).await;
    // A loop that waits for answers would have seen two slow messages, and a median of nothing.
    assert!(report.delivered.p50_ms > 50.0 && report.delivered.max_ms > 500.0, "{report}");
    assert!(report.clean, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_secret_and_an_absent_server_are_named() {
    let url = stand_in::start(Fault::None).await;
    let plan = plan(10.0, 1_000);
    let mut pairs = pairs(&url, plan);
    pairs.crowd.secret = Secret::new("another".to_owned());
    let error = pairs::measure(&pairs).await.unwrap_err().to_string();
    assert!(error.contains("401") && error.contains("secret"), "{error}");
    pairs.crowd.address = "ws://127.0.0.1:1".parse().unwrap();
    assert!(matches!(pairs::measure(&pairs).await, Err(BenchError::Connect { .. })));
    pairs.crowd.users = 3;
    assert!(matches!(pairs::measure(&pairs).await, Err(BenchError::Argument(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_are_weighed_at_each_stage() {
    let url = stand_in::start(Fault::None).await;
    let idle = idle::Idle {
        crowd: Crowd { users: 40, ..crowd(&url) },
        pid: std::process::id(),
        payload: Some(Sizes::exactly(16_384)),
        settle: Duration::from_millis(20),
        hold: Duration::from_millis(20),
        meter: Meter::default(),
    };
    let report = idle::measure(&idle).await.unwrap();
    assert!(report.clean && report.connections == 40, "{report}");
    assert!(report.rss_bytes_open > report.rss_bytes_before, "{report}");
    assert!(report.rss_bytes_worked > Some(report.rss_bytes_open), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_is_counted_until_the_last_message() {
    let url = stand_in::start(Fault::None).await;
    let backlog =
        |url: &str| Backlog { crowd: crowd(url), records: 300, rate: 1_000.0, content: Sizes::exactly(120) };
    let mut has_piled_up = false;
    let report = backlog::measure(&backlog(&url), || has_piled_up = true).await.unwrap();
    assert!(report.clean && has_piled_up && report.records == 300, "{report}");
    assert!(report.rate > 300.0 && report.counts["copies"] == 600, "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_asked_for_and_their_rows_counted() {
    let history = |address: &str, limit| History {
        crowd: crowd(address),
        connections: 2,
        limit,
        warm_up: Duration::ZERO,
        window: Duration::from_millis(300),
        meter: Meter::default(),
    };
    let url = stand_in::pages(3).await;
    let report = history::measure(&history(&url, 3)).await.unwrap();
    assert!(report.rate > 10.0 && report.latency.count > 3, "{report}");
    let error = history::measure(&history(&url, 4)).await.unwrap_err().to_string();
    assert!(error.contains("3 messages, not 4"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_search_stops_where_the_server_does() {
    // 400 messages of the first step are well, among the 440 of the second is the 840th in all.
    let url = stand_in::start(Fault::LoseEverywhere(840)).await;
    let plan = plan(400.0, 1_000);
    let step = pairs(&url, plan);
    let search = maximum::Search { step, p99_ms_max: 900.0, rate_max: 440.0, tries: 1 };
    let mut steps = Vec::new();
    let best = maximum::search(&search, |step| steps.push((step.report.rate, step.good))).await.unwrap();
    assert_eq!(steps, [(400.0, true), (440.0, false), (420.0, true)]);
    assert_eq!(best, Some(420.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_sees_pings_close_codes_and_refusals() {
    let url = stand_in::start(Fault::None).await;
    let refused = Client::connect(&url, &[]).await.unwrap_err();
    assert!(matches!(&refused, ClientError::Refused { status: 401, body, .. } if body.contains("who is")));

    let claims = json!({"userId": 7, "name": "user7", "exp": 4_000_000_000u64});
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let bearer = format!("Bearer {token}");
    let headers = [("Authorization", bearer.as_str())];
    let mut client = Client::connect(&url, &headers).await.unwrap();
    assert_eq!(client.recv_json().await.unwrap()["type"], "hello");
    client.set_auto_reply(false);
    client.send_json(&json!({"type": "resume"})).await.unwrap();
    assert_eq!(client.recv().await.unwrap(), Incoming::Ping(b"are you there".to_vec()));
    client.send(frame::PONG, b"are you there").await.unwrap();
    assert_eq!(client.recv_json().await.unwrap()["type"], "resumed");
    client.send_text(r#"{"type":"close me"}"#).await.unwrap();
    assert_eq!(client.recv().await.unwrap(), Incoming::Close(4401, "as you wish".to_owned()));

    let mut rude = Client::connect(&url, &headers).await.unwrap();
    assert_eq!(rude.recv_json().await.unwrap()["type"], "hello");
    // An unmasked frame, as no client may send.
    rude.send_raw(&[0x81, 2, b'{', b'}']).await.unwrap();
    assert!(matches!(rude.recv().await.unwrap(), Incoming::Close(..)));
}
