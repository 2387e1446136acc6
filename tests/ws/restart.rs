//! `kill -9` and a new start: what was accepted is there, and cursors go on.

use serde_json::json;

use crate::peer::{Host, send, seqs};

#[tokio::test]
async fn what_was_accepted_is_caught_up_with_after_kill_9() {
    let host = Host::with(&[]);
    let (mut ana, mut ben) = host.pair("&acks=app").await;
    let (a, b) = (ana.user, ben.user);
    ana.send(b, "1").await;
    ben.get("message").await;
    let cursor = ben.ask(json!({"type": "ping"})).await["cursor"].as_str().unwrap().to_owned();
    for n in 2..=40 {
        ana.say(send(b, &n.to_string(), &format!("c{n}"))).await;
    }
    for _ in 2..=40 {
        ana.get("accepted").await;
    }
    // Accepted is durable; whether it is stored already is another matter.
    let host = host.restart();
    let mut ben = host.open_with(b, "&acks=app").await;
    let mut found = seqs(&ben.resume(Some(&cursor)).await);
    while found.len() < 39 {
        found.extend(seqs(&[ben.get("message").await]));
    }
    assert_eq!(found, (2..=40).collect::<Vec<_>>());
    let mut ana = host.live(a, "&acks=app").await;
    assert_eq!(ana.send(b, "after").await["seq"], 41);
    assert_eq!(ben.get("message").await["content"], "after");
}

#[tokio::test]
async fn what_was_confirmed_stays_confirmed_after_kill_9() {
    let host = Host::with(&[]);
    let (mut ana, mut ben) = host.pair("&acks=app").await;
    let (a, b) = (ana.user, ben.user);
    for n in 1..=3 {
        ana.send(b, &n.to_string()).await;
        ben.get("message").await;
    }
    ben.say(json!({"type": "read", "conversation": crate::peer::dm(a, b), "seq": 2})).await;
    ana.get("receipt").await;
    let host = host.restart();
    let frames = host.open_with(b, "&acks=app").await.resume(None).await;
    assert_eq!(seqs(&frames), [3]);
    assert_eq!(frames.last().unwrap()["conversations"][0]["unread"], 1);
}

#[tokio::test]
async fn a_message_whose_answer_was_lost_is_sent_again_and_stored_once() {
    let host = Host::with(&[]);
    let (mut ana, ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    // Nobody waits for the answers: any of these may be stored or not.
    for n in 1..=50 {
        ana.say(send(b, &n.to_string(), &format!("c{n}"))).await;
    }
    let host = host.restart();
    let mut ana = host.live(a, "").await;
    for n in 1..=50 {
        ana.say(send(b, &n.to_string(), &format!("c{n}"))).await;
    }
    for _ in 1..=50 {
        ana.get("accepted").await;
    }
    assert_eq!(ana.send(b, "last").await["seq"], 51, "each once");
    let path = format!("/v1/conversations/{}/events?after=0&limit=100", crate::peer::dm(a, b));
    let history = host.get(b, &path).await;
    let contents: Vec<_> =
        history["events"].as_array().unwrap().iter().map(|e| e["content"].clone()).collect();
    let expected: Vec<_> = (1..=50).map(|n| json!(n.to_string())).chain([json!("last")]).collect();
    assert_eq!(contents, expected, "in the order sent");
}
