//! What is too long to push: named by `gap`, read over REST.

use serde_json::{Value, json};

use crate::peer::{Host, Peer, dm, person, seqs};

const SMALL: [(&str, &str); 2] =
    [("CHATD_DELIVERY__GAP_PER_CONVERSATION", "5"), ("CHATD_DELIVERY__GAP_TOTAL", "8")];

/// Ben is away; Ana has sent twelve messages. Her socket and his id.
async fn twelve(host: &Host) -> (Peer, i64) {
    let (a, b) = host.strangers().await;
    let mut ana = host.live(a, "&acks=app").await;
    for n in 1..=12 {
        ana.send(b, &n.to_string()).await;
    }
    (ana, b)
}

fn gap(a: i64, b: i64, from: i64, to: i64) -> Value {
    json!({"type": "gap", "conversation": dm(a, b), "from": from, "to": to})
}

async fn confirmed(ana: &mut Peer, b: i64) -> i64 {
    let told = ana.find(|frame| frame["type"] == "receipt" && frame["user"] == b).await;
    told["delivered"].as_i64().unwrap()
}

#[tokio::test]
async fn the_newest_are_pushed_and_what_lies_before_them_is_named() {
    let host = Host::with(&SMALL);
    let (ana, b) = twelve(&host).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let caught_up = ben.resume(None).await;
    assert_eq!(caught_up[0], gap(ana.user, b, 1, 7));
    assert_eq!(seqs(&caught_up), [8, 9, 10, 11, 12]);
    let changed = json!([{"conversation": dm(ana.user, b), "last_seq": 12, "unread": 12}]);
    assert_eq!(caught_up.last().unwrap()["conversations"], changed);
    // What the gap names is there, and fetching it confirms it.
    let path = format!("/v1/conversations/{}/events?after=0&limit=7", dm(ana.user, b));
    let events = host.get(b, &path).await;
    assert_eq!(seqs(events["events"].as_array().unwrap()), [1, 2, 3, 4, 5, 6, 7]);
    let mut ana = ana;
    assert_eq!(confirmed(&mut ana, b).await, 7);
}

#[tokio::test]
async fn a_gap_is_confirmed_by_received_and_never_by_a_cursor() {
    let host = Host::with(&SMALL);
    let (mut ana, b) = twelve(&host).await;
    let mut ben = host.open_with(b, "&acks=app").await;
    let cursor = ben.resume(None).await.pop().unwrap()["cursor"].take();
    assert_eq!(ben.resume(cursor.as_str()).await.len(), 1, "nothing new");
    let received = |seq| json!({"type": "received", "conversation": dm(ana.user, b), "seq": seq});
    let (first, last) = (received(3), received(12));
    ben.say(first).await;
    assert_eq!(confirmed(&mut ana, b).await, 3, "the cursor confirmed nothing");
    ben.say(last).await;
    assert_eq!(confirmed(&mut ana, b).await, 12, "who confirms beyond the gap has taken note of it");
    let resumed = host.open_with(b, "&acks=app").await.resume(None).await;
    assert_eq!(resumed.len(), 1, "nothing is named again");
}

#[tokio::test]
async fn a_gap_is_confirmed_by_the_pong_behind_it() {
    let host = Host::with(&SMALL);
    let (mut ana, b) = twelve(&host).await;
    let mut ben = host.open(b).await;
    let caught_up = ben.resume(None).await;
    assert_eq!(caught_up[0], gap(ana.user, b, 1, 7));
    ben.listen(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(confirmed(&mut ana, b).await, 12);
}

#[tokio::test]
async fn an_unconfirmed_gap_is_named_again_to_the_next_device() {
    let host = Host::with(&SMALL);
    let (ana, b) = twelve(&host).await;
    for _ in 0..2 {
        let caught_up = host.open_with(b, "&acks=app").await.resume(None).await;
        assert_eq!(caught_up[0], gap(ana.user, b, 1, 7));
        assert_eq!(seqs(&caught_up), [8, 9, 10, 11, 12]);
    }
}

#[tokio::test]
async fn over_all_conversations_only_so_much_is_pushed() {
    let host = Host::with(&SMALL);
    let b = person();
    host.know(b).await;
    for _ in 0..3 {
        let mut other = host.live(person(), "&acks=app").await;
        for n in 1..=4 {
            other.send(b, &n.to_string()).await;
        }
    }
    let caught_up = host.open_with(b, "&acks=app").await.resume(None).await;
    assert_eq!(seqs(&caught_up).len(), 8);
    let gaps: Vec<_> = caught_up.iter().filter(|frame| frame["type"] == "gap").collect();
    assert_eq!(gaps.len(), 1);
    assert_eq!((&gaps[0]["from"], &gaps[0]["to"]), (&json!(1), &json!(4)));
    assert_eq!(caught_up.last().unwrap()["conversations"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn a_damaged_cursor_gives_a_gap_from_1_as_well() {
    let host = Host::with(&SMALL);
    let (ana, b) = twelve(&host).await;
    let caught_up = host.open_with(b, "&acks=app").await.resume(Some("damaged")).await;
    assert_eq!(caught_up[0], gap(ana.user, b, 1, 7));
    assert_eq!(seqs(&caught_up), [8, 9, 10, 11, 12]);
}

#[tokio::test]
async fn what_is_live_is_pushed_however_much_it_is() {
    let host = Host::with(&SMALL);
    let (mut ana, mut ben) = host.pair("&acks=app").await;
    for n in 1..=12 {
        ana.send(ben.user, &n.to_string()).await;
    }
    for n in 1..=12 {
        assert_eq!(ben.get("message").await["seq"], n);
    }
}
