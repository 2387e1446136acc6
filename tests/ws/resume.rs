//! Catching up: with a cursor, without, with a wrong one, and by itself.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::peer::{Host, Peer, dm, person, seqs};

/// Ben is away; Ana has sent `count` messages.
async fn away(host: &Host, count: i64) -> (Peer, i64) {
    let (ana, ben) = host.strangers().await;
    let mut ana = host.live(ana, "&acks=app").await;
    for n in 1..=count {
        ana.send(ben, &n.to_string()).await;
    }
    (ana, ben)
}

fn cursor(frame: &Value) -> String {
    frame["cursor"].as_str().unwrap_or_else(|| panic!("no cursor: {frame}")).to_owned()
}

fn received(a: i64, b: i64, seq: i64) -> Value {
    json!({"type": "received", "conversation": dm(a, b), "seq": seq})
}

/// Nothing was confirmed so far: the first receipt is the one of seq 1.
async fn nothing_was_confirmed(ana: &mut Peer, ben: &mut Peer) {
    let (a, b) = (ana.user, ben.user);
    ben.say(received(a, b, 1)).await;
    let told = ana.find(|frame| frame["type"] == "receipt" && frame["user"] == b).await;
    assert_eq!(told["delivered"], 1, "{told}");
}

#[tokio::test]
async fn without_a_cursor_all_that_nobody_confirmed_comes_then_receipts_then_resumed() {
    let host = Host::shared();
    let (ana, b) = away(&host, 3).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let caught_up = ben.resume(None).await;
    let kinds: Vec<_> = caught_up.iter().map(|frame| frame["type"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["message", "message", "message", "receipt", "receipt", "resumed"]);
    assert_eq!(seqs(&caught_up), [1, 2, 3]);
    let changed = json!([{"conversation": dm(ana.user, b), "last_seq": 3, "unread": 3}]);
    assert_eq!(caught_up[5]["conversations"], changed);
}

#[tokio::test]
async fn with_a_cursor_only_what_came_after_it_comes() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 2).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let before = cursor(ben.resume(None).await.last().unwrap());
    ben.leave().await;
    ana.send(b, "3").await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let caught_up = ben.resume(Some(&before)).await;
    assert_eq!(seqs(&caught_up), [3]);
    let after = cursor(caught_up.last().unwrap());
    let mut nothing = ben.resume(Some(&after)).await;
    assert_eq!(nothing.pop().unwrap()["conversations"], json!([]));
    assert!(nothing.iter().all(|frame| frame["type"] == "receipt"), "but what it confirmed: {nothing:?}");
}

#[tokio::test]
async fn a_cursor_confirms_what_it_covers() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 2).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let before = cursor(ben.resume(None).await.last().unwrap());
    ben.resume(Some(&before)).await;
    let told = ana.find(|frame| frame["type"] == "receipt" && frame["user"] == b).await;
    assert_eq!((&told["delivered"], &told["read"]), (&json!(2), &json!(0)));
}

#[tokio::test]
async fn a_client_that_says_nothing_is_resumed_a_second_after_hello() {
    let host = Host::shared();
    let (_ana, b) = away(&host, 2).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let opened = Instant::now();
    let caught_up = ben.until("resumed").await;
    assert_eq!(seqs(&caught_up), [1, 2]);
    let took = opened.elapsed();
    assert!((900..5_000).contains(&took.as_millis()), "{took:?}");
}

#[tokio::test]
async fn no_event_comes_before_the_first_resume_while_answers_and_receipts_do() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 1).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let second = ana.ask(json!({"type": "send", "to": b, "content": "2"})).await;
    ana.find(|frame| frame["id"] == second["id"]).await;
    assert_eq!(ben.ask(json!({"type": "ping"})).await["type"], "pong");
    let from_ben = ben.ask(json!({"type": "send", "to": ana.user, "content": "3"})).await;
    assert_eq!(from_ben["type"], "accepted");
    ben.say(received(ana.user, b, 1)).await;
    ben.get("receipt").await;
    assert!(!ben.has("message"));
    let caught_up = ben.resume(None).await;
    let mut found = seqs(&caught_up);
    while found.len() < 2 {
        found.extend(seqs(&[ben.get("message").await]));
    }
    assert_eq!(found, [2, 3], "each once, in order");
}

#[tokio::test]
async fn a_damaged_cursor_brings_everything_from_1_and_confirms_nothing() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 3).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let good = cursor(ben.resume(None).await.last().unwrap());
    let cut = &good[..good.len() - 1];
    let mut changed = good.clone().into_bytes();
    changed[20] = if changed[20] == b'A' { b'B' } else { b'A' };
    let changed = String::from_utf8(changed).unwrap();
    for damaged in ["", "garbage", "\u{1F600}", cut, &changed, &"A".repeat(5_000)] {
        assert_eq!(seqs(&ben.resume(Some(damaged)).await), [1, 2, 3], "{damaged}");
    }
    nothing_was_confirmed(&mut ana, &mut ben).await;
}

#[tokio::test]
async fn a_cursor_of_another_user_or_deployment_is_as_a_damaged_one() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 2).await;
    let foreign = ana.resume(None).await;
    let elsewhere = Host::with(&[]);
    let other = elsewhere.open(b).await.resume(None).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    for frames in [foreign, other] {
        let cursor = cursor(frames.last().unwrap());
        assert_eq!(seqs(&ben.resume(Some(&cursor)).await), [1, 2]);
    }
    nothing_was_confirmed(&mut ana, &mut ben).await;
}

#[tokio::test]
async fn a_cursor_from_before_is_understood_at_any_age() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 0).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let nothing = cursor(ben.resume(None).await.last().unwrap());
    for n in 1..=4 {
        ana.send(b, &n.to_string()).await;
        ben.get("message").await;
    }
    assert_eq!(seqs(&ben.resume(Some(&nothing)).await), [1, 2, 3, 4]);
}

#[tokio::test]
async fn events_go_on_live_after_any_resume() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 1).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    for n in 1..=3 {
        assert_eq!(seqs(&ben.resume(None).await), (1..=n).collect::<Vec<_>>());
        ana.send(b, "next").await;
        assert_eq!(ben.get("message").await["seq"], n + 1);
    }
}

#[tokio::test]
async fn two_resumes_at_once_are_answered_one_after_the_other() {
    let host = Host::shared();
    let (_ana, b) = away(&host, 2).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    ben.say(json!({"type": "resume", "ref": "first"})).await;
    ben.say(json!({"type": "resume", "ref": "second"})).await;
    for mark in ["first", "second"] {
        let caught_up = ben.until("resumed").await;
        assert_eq!((seqs(&caught_up), &caught_up.last().unwrap()["ref"]), (vec![1, 2], &json!(mark)));
    }
}

#[tokio::test]
async fn a_cursor_comes_by_itself_after_five_seconds_and_repeats_nothing() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 0).await;
    let mut ben = host.live(b, "&acks=app").await;
    let opened = Instant::now();
    for n in 1..=3 {
        ana.send(b, &n.to_string()).await;
    }
    let told = ben.get("cursor").await;
    assert!(opened.elapsed() > Duration::from_millis(4_500), "{:?}", opened.elapsed());
    assert_eq!(
        seqs(&ben.resume(Some(&cursor(&told))).await),
        [1, 2, 3],
        "what waited here was given before it"
    );
    let mut tablet = host.open_with(b, "&acks=app").await;
    assert_eq!(seqs(&tablet.resume(Some(&cursor(&told))).await), [0; 0]);
}

#[tokio::test]
async fn the_cursor_of_a_pong_covers_what_came_before_it() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 1).await;
    let mut ben = host.live(b, "&acks=app").await;
    ana.send(b, "2").await;
    ben.get("message").await;
    let pong = ben.ask(json!({"type": "ping"})).await;
    ana.send(b, "3").await;
    let mut tablet = host.open_with(b, "&acks=app").await;
    assert_eq!(seqs(&tablet.resume(Some(&cursor(&pong))).await), [3]);
}

#[tokio::test]
async fn unread_counts_what_others_said_after_the_own_read() {
    let host = Host::shared();
    let (mut ana, b) = away(&host, 3).await;
    let mut ben = host.live(b, "&acks=app").await;
    ben.send(ana.user, "4").await;
    ben.say(json!({"type": "read", "conversation": dm(ana.user, b), "seq": 2})).await;
    ana.get("receipt").await;
    ana.send(b, "5").await;
    let mut tablet = host.open_with(b, "&acks=app").await;
    let resumed = tablet.resume(None).await.pop().unwrap();
    let changed = json!([{"conversation": dm(ana.user, b), "last_seq": 5, "unread": 2}]);
    assert_eq!(resumed["conversations"], changed, "3 and 5");
}

#[tokio::test]
async fn every_conversation_that_changed_is_caught_up_with() {
    let host = Host::shared();
    let b = person();
    host.know(b).await;
    let mut others = Vec::new();
    for n in 0..8 {
        let mut other = host.live(person(), "&acks=app").await;
        for _ in 0..=n {
            other.send(b, "hello").await;
        }
        others.push(other.user);
    }
    let mut ben = host.open_with(b, "&acks=app").await;
    let resumed = ben.resume(None).await.pop().unwrap();
    let mut changed: Vec<_> = resumed["conversations"].as_array().unwrap().clone();
    changed.sort_by_key(|one| one["last_seq"].as_i64());
    let expected: Vec<_> = (1..)
        .zip(&others)
        .map(|(n, other)| json!({"conversation": dm(b, *other), "last_seq": n, "unread": n}))
        .collect();
    assert_eq!(changed, expected);
}
