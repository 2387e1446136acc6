//! Typing: who is told, when it ends, and what it costs.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{Host, Peer, dm, person};

fn typing(to: i64, active: bool) -> Value {
    json!({"type": "typing", "to": to, "active": active})
}

fn told(a: i64, b: i64, user: i64, active: bool) -> Value {
    json!({"type": "typing", "conversation": dm(a, b), "user": user, "active": active})
}

/// An answer tells that everything before it was taken.
async fn settle(peers: &mut [&mut Peer]) {
    for peer in peers {
        peer.listen(Duration::from_millis(400)).await;
        assert_eq!(peer.ask(json!({"type": "ping"})).await["type"], "pong");
    }
}

#[tokio::test]
async fn the_others_devices_are_told_and_nobody_else() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    let mut own_tablet = host.live(a, "").await;
    let mut bens_tablet = host.open(b).await;
    let mut stranger = host.live(person(), "").await;
    ana.say(typing(b, true)).await;
    assert_eq!(ben.get("typing").await, told(a, b, a, true));
    assert_eq!(bens_tablet.get("typing").await, told(a, b, a, true), "also before its first resume");
    ana.say(json!({"type": "typing", "conversation": dm(a, b), "active": false})).await;
    assert_eq!(ben.get("typing").await, told(a, b, a, false));
    settle(&mut [&mut ana, &mut own_tablet, &mut stranger]).await;
    assert!(!ana.has("typing") && !own_tablet.has("typing") && !stranger.has("typing"));
}

#[tokio::test]
async fn without_news_it_ends_after_six_seconds() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    ana.say(typing(b, true)).await;
    assert_eq!(ben.get("typing").await["active"], true);
    let began = tokio::time::Instant::now();
    assert_eq!(ben.get("typing").await, told(a, b, a, false));
    let took = began.elapsed();
    assert!(took > Duration::from_millis(5_900) && took < Duration::from_secs(9), "{took:?}");
}

#[tokio::test]
async fn it_ends_with_the_socket_it_was_said_on() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    let tablet = host.live(a, "").await;
    ana.say(typing(b, true)).await;
    assert_eq!(ben.get("typing").await["active"], true);
    tablet.leave().await;
    settle(&mut [&mut ben]).await;
    assert!(!ben.has("typing"), "another socket of the same user");
    ana.leave().await;
    let began = tokio::time::Instant::now();
    assert_eq!(ben.get("typing").await, told(a, b, a, false));
    assert!(began.elapsed() < Duration::from_secs(3), "and not by time");
}

#[tokio::test]
async fn a_message_ends_it() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    ana.say(typing(b, true)).await;
    assert_eq!(ben.get("typing").await["active"], true);
    ana.send(b, "what was typed").await;
    let began = tokio::time::Instant::now();
    assert_eq!(ben.get("typing").await, told(a, b, a, false));
    assert!(began.elapsed() < Duration::from_secs(3), "and not by time");
}

#[tokio::test]
async fn who_says_it_at_every_key_is_heard_of_once_a_second() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    for _ in 0..60 {
        ana.say(typing(ben.user, true)).await;
        ana.listen(Duration::from_millis(10)).await;
    }
    settle(&mut [&mut ana, &mut ben]).await;
    let mut heard = 0;
    while ben.has("typing") {
        ben.get("typing").await;
        heard += 1;
    }
    // In 0.6 s; a busy machine takes longer.
    assert!((1..=10).contains(&heard), "{heard} times");
}

#[tokio::test]
async fn what_cannot_be_is_told_so_and_nothing_else_is_answered() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let b = ben.user;
    let table = [
        (typing(ana.user, true), "invalid", "to"),
        (typing((1 << 53) - 1, true), "unknown_recipient", ""),
        (json!({"type": "typing", "to": {"external_id": "nobody"}, "active": true}), "unknown_recipient", ""),
        (json!({"type": "typing", "conversation": "dm-1001-1002", "active": true}), "not_found", ""),
        (
            json!({"type": "typing", "conversation": "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769", "active": true}),
            "not_found",
            "",
        ),
        (json!({"type": "typing", "conversation": "dm-2-1", "active": true}), "invalid", "conversation"),
        (json!({"type": "typing", "active": true}), "invalid", "to"),
        (json!({"type": "typing", "to": b}), "invalid", "active"),
        (json!({"type": "typing", "to": b, "active": 1}), "invalid", "active"),
    ];
    for (frame, code, field) in table {
        let error = ana.ask(frame.clone()).await;
        let found = (&error["code"], error["field"].as_str().unwrap_or_default());
        assert_eq!(found, (&json!(code), field), "{frame}: {error}");
    }
    ana.say(json!({"type": "typing", "to": b, "active": true, "ref": "t"})).await;
    settle(&mut [&mut ana]).await;
    assert!(!ana.has("error") && !ana.has("typing"));
}

#[tokio::test]
async fn it_is_kept_nowhere() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    ana.say(typing(b, true)).await;
    assert_eq!(ben.get("typing").await["active"], true);
    let events = host.get(b, &format!("/v1/conversations/{}/events?after=0", dm(a, b))).await;
    assert_eq!(events["events"], json!([]));
    let mut again = host.open(b).await;
    let caught_up = again.resume(None).await;
    assert!(caught_up.iter().all(|frame| frame["type"] != "typing"), "{caught_up:?}");
}
