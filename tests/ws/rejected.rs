//! Accepted, and then made impossible by the log's order: told to the sender, and repeated.

use serde_json::json;

use crate::peer::{Host, send, seqs};

/// Ana sent "x" as c1; the server has forgotten and remembers only what is stored. Her id and Ben's.
async fn forgotten() -> (Host, i64, i64) {
    let host = Host::with(&[]);
    let (mut ana, ben) = host.pair("").await;
    ana.ask(send(ben.user, "x", "c1")).await;
    ana.get("message").await;
    let (a, b) = (ana.user, ben.user);
    (host.restart(), a, b)
}

#[tokio::test]
async fn a_reused_client_id_that_the_server_no_longer_knows_is_accepted_and_then_rejected() {
    let (host, a, b) = forgotten().await;
    let (mut ana, mut ben) = (host.live(a, "").await, host.live(b, "").await);
    let mut tablet = host.live(a, "").await;
    let accepted = ana.ask(send(b, "y", "c1")).await;
    assert_eq!(accepted["type"], "accepted");
    let expected = json!({
        "type": "rejected", "conversation": accepted["conversation"], "id": accepted["id"],
        "client_id": "c1", "code": "client_id_reused",
    });
    assert_eq!(ana.get("rejected").await, expected);
    assert_eq!(tablet.get("rejected").await, expected, "on all devices of the sender");
    assert_eq!(ana.send(b, "next").await["seq"], 2, "it took no seq");
    assert_eq!(ben.get("message").await["content"], "next");
    assert!(!ben.has("rejected"), "the recipient hears nothing of it");
    let path = format!("/v1/conversations/{}/messages", crate::peer::dm(a, b));
    let page = host.get(a, &path).await;
    assert_eq!(page["messages"][1]["content"], "x", "the first one stands");
}

#[tokio::test]
async fn a_rejection_is_repeated_by_a_resume_from_before_it_or_without_a_cursor() {
    let (host, a, b) = forgotten().await;
    let mut ana = host.open(a).await;
    let before = ana.resume(None).await.pop().unwrap()["cursor"].as_str().unwrap().to_owned();
    ana.ask(send(b, "y", "c1")).await;
    let rejected = ana.get("rejected").await;
    // Its cursor covers the rejection once something behind it was given.
    ana.send(b, "next").await;
    let after = ana.ask(json!({"type": "ping"})).await["cursor"].as_str().unwrap().to_owned();
    let host = host.restart();
    for (cursor, repeated) in [(Some(before.as_str()), true), (None, true), (Some(after.as_str()), false)] {
        let frames = host.open(a).await.resume(cursor).await;
        assert_eq!(frames.contains(&rejected), repeated, "{cursor:?}: {frames:?}");
    }
    assert!(!host.open(b).await.resume(None).await.contains(&rejected));
}

#[tokio::test]
async fn a_retry_after_a_restart_has_the_same_id_and_stores_nothing_new() {
    let (host, a, b) = forgotten().await;
    let mut ana = host.open(a).await;
    let first = ana.resume(Some("damaged")).await;
    let retry = ana.ask(send(b, "x", "c1")).await;
    assert_eq!((&retry["type"], &retry["id"]), (&json!("accepted"), &first[0]["id"]));
    assert_eq!(ana.send(b, "next").await["seq"], 2);
    assert!(!ana.has("rejected"));
    assert_eq!(seqs(&host.open(b).await.resume(None).await).last(), Some(&2));
}

#[tokio::test]
async fn the_retry_of_a_rejected_message_ends_as_it_did() {
    let (host, a, b) = forgotten().await;
    let mut ana = host.live(a, "").await;
    for _ in 0..2 {
        let answer = ana.ask(send(b, "y", "c1")).await;
        // Known here by now, or accepted and rejected once more: protocol.md allows both.
        match answer["type"].as_str() {
            Some("accepted") => assert_eq!(ana.get("rejected").await["code"], "client_id_reused"),
            _ => assert_eq!(answer["code"], "client_id_reused"),
        }
    }
    assert_eq!(ana.send(b, "next").await["seq"], 2);
}
