//! The server ends a socket: first the frame `closing`, then the close code, and what the client is to do.

use std::time::{Duration, Instant};

use chatd::cli::bench::client::Incoming;
use serde_json::{Value, json};

use crate::peer::{Host, PATIENCE, Peer, person, send};
use crate::support::sign;

/// A token that ends so many seconds from now.
fn short_lived(user: i64, seconds: i64) -> String {
    sign(&json!({"userId": user, "exp": jiff::Timestamp::now().as_second() + seconds}))
}

#[tokio::test]
async fn who_is_told_to_come_back_on_sigterm_learns_when() {
    let mut host = Host::with(&[]);
    let (mut ana, mut ben) = host.pair("").await;
    host.server.signal("TERM");
    for peer in [&mut ana, &mut ben] {
        let closing = peer.closing().await;
        assert_eq!(closing["code"], 1001);
        assert!((0..=10_000).contains(&closing["reconnect_after_ms"].as_i64().unwrap()), "{closing}");
    }
    let status = host.server.wait(Duration::from_secs(10));
    assert!(status.is_some_and(|status| status.success()), "{status:?}");
}

#[tokio::test]
async fn what_was_sent_before_the_server_stops_is_accepted_and_kept() {
    let mut host = Host::with(&[]);
    let (mut ana, ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    for n in 1..=50 {
        ana.say(send(b, &n.to_string(), &format!("c{n}"))).await;
    }
    ana.get("accepted").await;
    host.server.signal("TERM");
    let (frames, code) = ana.end().await;
    assert_eq!(code, 1001);
    let accepted = 1 + frames.iter().filter(|frame| frame["type"] == "accepted").count();
    assert!(host.server.wait(Duration::from_secs(10)).is_some_and(|status| status.success()));
    let host = host.restart();
    let path = format!("/v1/conversations/{}/events?after=0&limit=100", crate::peer::dm(a, b));
    let stored = host.get(b, &path).await["events"].as_array().unwrap().len();
    assert!(stored >= accepted, "{stored} of {accepted} accepted");
}

#[tokio::test]
async fn a_client_that_stays_silent_after_closing_does_not_keep_the_server() {
    let mut host = Host::with(&[]);
    let mut ana = host.live(person(), "").await;
    ana.client.set_auto_reply(false);
    host.server.signal("TERM");
    let began = Instant::now();
    assert!(host.server.wait(Duration::from_secs(10)).is_some_and(|status| status.success()));
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(ana.closing().await["code"], 1001);
}

#[tokio::test]
async fn the_21st_frame_in_a_minute_that_is_no_json_is_the_last() {
    let host = Host::shared();
    let mut ana = host.open(person()).await;
    for _ in 0..20 {
        ana.client.send_text("{").await.unwrap();
    }
    for _ in 0..20 {
        assert_eq!(ana.get("error").await["code"], "bad_json");
    }
    ana.client.send_text("{").await.unwrap();
    assert_eq!(ana.get("error").await["code"], "bad_json");
    let closing = ana.closing().await;
    assert_eq!((&closing["code"], &closing["reconnect_after_ms"]), (&json!(4400), &Value::Null), "never");
}

#[tokio::test]
async fn a_socket_ends_with_its_token() {
    let host = Host::shared();
    let url = host.server.ws(&short_lived(person(), 2));
    let mut ana = Peer::connect(&url, &[]).await.unwrap();
    let began = Instant::now();
    assert_eq!(ana.closing().await["code"], 4401);
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_renewed_token_keeps_the_socket() {
    let host = Host::shared();
    let user = person();
    let mut ana = Peer::connect(&host.server.ws(&short_lived(user, 2)), &[]).await.unwrap();
    let mut other = Peer::connect(&host.server.ws(&short_lived(user, 2)), &[]).await.unwrap();
    let renewed = ana.ask(json!({"type": "auth", "token": short_lived(user, 600)})).await;
    assert_eq!(renewed["type"], "authenticated");
    other.ask(json!({"type": "auth", "token": "bad"})).await;
    assert_eq!(other.closing().await["code"], 4401, "a bad one does not");
    assert_eq!(ana.ask(json!({"type": "ping"})).await["type"], "pong");
}

#[tokio::test]
async fn who_answers_no_ping_within_two_heartbeats_is_gone() {
    let host = Host::with(&[("CHATD_WS__HEARTBEAT", "300ms")]);
    let (mut ana, mut ben) = (host.live(person(), "").await, host.live(person(), "").await);
    assert_eq!(ana.hello["heartbeat_ms"], 300);
    ana.client.set_auto_reply(false);
    let silent = async {
        let began = Instant::now();
        let closing = ana.closing().await;
        assert_eq!(closing["code"], 4408);
        assert!(closing["reconnect_after_ms"].is_number(), "reconnect: {closing}");
        assert!((500..5_000).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    };
    tokio::join!(silent, ben.listen(Duration::from_secs(2)));
    assert!(ben.pings >= 3, "{} heartbeats", ben.pings);
    assert_eq!(ben.ask(json!({"type": "ping"})).await["type"], "pong", "who answers stays");
}

#[tokio::test]
async fn frames_of_the_app_are_no_pongs() {
    let host = Host::with(&[("CHATD_WS__HEARTBEAT", "300ms")]);
    let mut ana = host.live(person(), "").await;
    ana.client.set_auto_reply(false);
    let mut told = None;
    while told.is_none() {
        // A socket that has ended takes no more: that is what is waited for.
        let _ = ana.client.send_json(&json!({"type": "ping"})).await;
        match ana.client.recv().await.unwrap() {
            Incoming::Close(code, _) => told = Some(code),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    assert_eq!(told, Some(4408));
}

/// Sends to Ben, who does not read, until his socket is stuck and more waits than may.
async fn fill(host: &Host, ben: &Peer) {
    let mut ana = host.live(person(), "").await;
    // The buffers of both kernels hold some of it, but never 2.4 MB while nobody reads.
    for _ in 0..150 {
        ana.send(ben.user, &"x".repeat(16_000)).await;
    }
}

fn tight() -> Host {
    Host::with(&[
        ("CHATD_WS__QUEUE_BYTES", "65536"),
        ("CHATD_WS__STALL_TIMEOUT", "500ms"),
        ("CHATD_LIMITS__ENABLED", "false"),
    ])
}

#[tokio::test]
async fn a_client_that_does_not_read_is_too_slow_and_told_so_when_it_reads_again() {
    let host = tight();
    let mut ben = host.live(person(), "").await;
    fill(&host, &ben).await;
    let closing = ben.closing().await;
    assert_eq!(closing["code"], 4430);
    assert!(closing["reconnect_after_ms"].is_number(), "reconnect and resume: {closing}");
    let resumed = host.open(ben.user).await.resume(None).await;
    assert_eq!(resumed.last().unwrap()["conversations"][0]["last_seq"], 150, "nothing is lost");
}

#[tokio::test]
async fn a_client_that_never_reads_again_is_dropped() {
    let host = tight();
    let mut ben = host.live(person(), "").await;
    fill(&host, &ben).await;
    // 500 ms without progress, then 5 s for the last frames.
    tokio::time::sleep(Duration::from_secs(7)).await;
    let end = tokio::time::timeout(PATIENCE, async {
        loop {
            match ben.client.recv().await {
                Ok(Incoming::Close(code, _)) => return code,
                Ok(_) => {}
                Err(error) => panic!("{error}"),
            }
        }
    });
    assert_eq!(end.await.unwrap(), 1006, "without a word: it would not have been read");
}
