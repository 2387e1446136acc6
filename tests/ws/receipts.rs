//! Confirming: what counts as delivered and read, and who is told.

use std::time::Duration;

use chatd::cli::bench::client::Incoming;
use chatd::cli::bench::frame::PONG;
use serde_json::{Value, json};

use crate::peer::{Host, Peer, dm, send, seqs};

/// How long both sides listen at a time.
const STEP: Duration = Duration::from_millis(100);

fn place(kind: &str, a: i64, b: i64, seq: i64) -> Value {
    json!({"type": kind, "conversation": dm(a, b), "seq": seq})
}

fn receipt(a: i64, b: i64, user: i64, delivered: i64, read: i64) -> Value {
    json!({"type": "receipt", "conversation": dm(a, b), "user": user, "delivered": delivered, "read": read})
}

/// Both confirm by themselves, and Ana has sent `count` messages, which Ben got.
async fn with_messages(host: &Host, query: &str, count: i64) -> (Peer, Peer) {
    let (mut ana, mut ben) = host.pair(query).await;
    for n in 1..=count {
        ana.send(ben.user, &n.to_string()).await;
        ben.get("message").await;
    }
    (ana, ben)
}

#[tokio::test]
async fn received_and_read_are_told_to_both_sides_on_all_devices() {
    let host = Host::shared();
    let (mut ana, mut ben) = with_messages(&host, "&acks=app", 3).await;
    let mut tablet = host.live(ben.user, "&acks=app").await;
    let (a, b) = (ana.user, ben.user);
    for (kind, seq, delivered, read) in [("received", 2, 2, 0), ("read", 1, 2, 1), ("read", 3, 3, 3)] {
        ben.say(place(kind, a, b, seq)).await;
        for peer in [&mut ana, &mut ben, &mut tablet] {
            let told = peer.find(|f| f["type"] == "receipt" && f["delivered"] != 0).await;
            assert_eq!(told, receipt(a, b, b, delivered, read), "{kind} {seq}");
        }
    }
}

#[tokio::test]
async fn a_cursor_never_moves_back() {
    let host = Host::shared();
    let (mut ana, mut ben) = with_messages(&host, "&acks=app", 3).await;
    let (a, b) = (ana.user, ben.user);
    ben.say(place("read", a, b, 2)).await;
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 2, 2));
    ben.say(place("read", a, b, 1)).await;
    ben.say(place("received", a, b, 1)).await;
    ben.say(place("received", a, b, 3)).await;
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 3, 2), "the next that moved");
}

#[tokio::test]
async fn a_client_that_confirms_nothing_itself_confirms_by_its_pongs() {
    let host = Host::shared();
    let (mut ana, mut ben) = with_messages(&host, "", 2).await;
    let (a, b) = (ana.user, ben.user);
    ben.listen(Duration::from_millis(1_500)).await;
    assert!((1..=3).contains(&ben.pings), "{} pings: one a second", ben.pings);
    let mut delivered = 0;
    while delivered < 2 {
        let told = ana.find(|f| f["type"] == "receipt" && f["user"] == b).await;
        delivered = told["delivered"].as_i64().unwrap();
        assert_eq!(told, receipt(a, b, b, delivered, 0), "delivered, and not read");
    }
}

#[tokio::test]
async fn pongs_confirm_nothing_for_a_client_that_says_it_confirms_itself() {
    let host = Host::with(&[("CHATD_WS__HEARTBEAT", "200ms")]);
    let (mut ana, mut ben) = with_messages(&host, "&acks=app", 2).await;
    let (a, b) = (ana.user, ben.user);
    let pings = ben.pings;
    while ben.pings < pings + 4 {
        tokio::join!(ana.listen(STEP), ben.listen(STEP));
    }
    ben.say(place("received", a, b, 1)).await;
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 1, 0), "nothing was confirmed before");
}

#[tokio::test]
async fn only_the_pong_with_the_servers_payload_confirms() {
    let host = Host::with(&[("CHATD_WS__HEARTBEAT", "5s")]);
    let (mut ana, mut ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    ben.client.set_auto_reply(false);
    ana.send(b, "1").await;
    let payload = loop {
        if let Incoming::Ping(payload) = ben.client.recv().await.unwrap() {
            break payload;
        }
    };
    ana.send(b, "2").await;
    for foreign in [&b""[..], b"12345678", &[0; 8], &payload[1..]] {
        ben.client.send(PONG, foreign).await.unwrap();
    }
    // An answer tells that the pongs before it were read.
    ben.client.send_json(&place("received", a, b, 99)).await.unwrap();
    assert_eq!(ben.get("error").await["code"], "invalid");
    ben.client.send(PONG, &payload).await.unwrap();
    let told = ana.find(|f| f["type"] == "receipt" && f["user"] == b).await;
    assert_eq!(
        told,
        receipt(a, b, b, 1, 0),
        "what was written before that ping, and nothing confirmed before"
    );
}

#[tokio::test]
async fn where_a_gateway_answers_pings_pongs_can_be_switched_off() {
    let host = Host::with(&[("CHATD_DELIVERY__PONG_CONFIRMS", "false"), ("CHATD_WS__HEARTBEAT", "200ms")]);
    let (mut ana, mut ben) = with_messages(&host, "", 2).await;
    let (a, b) = (ana.user, ben.user);
    while ben.pings < 4 {
        tokio::join!(ana.listen(STEP), ben.listen(STEP));
    }
    ben.say(place("received", a, b, 1)).await;
    let told = ana.find(|f| f["type"] == "receipt" && f["user"] == b).await;
    assert_eq!(told, receipt(a, b, b, 1, 0));
}

#[tokio::test]
async fn sending_confirms_nothing() {
    let host = Host::shared();
    let (mut ana, mut ben) = with_messages(&host, "&acks=app", 2).await;
    let (a, b) = (ana.user, ben.user);
    ben.send(a, "3").await;
    ben.say(place("received", a, b, 1)).await;
    ana.get("receipt").await;
    let mut tablet = host.open_with(b, "&acks=app").await;
    let caught_up = tablet.resume(None).await;
    assert_eq!(seqs(&caught_up), [2, 3], "the own message too is still to be confirmed");
    let receipts: Vec<_> = caught_up.into_iter().filter(|frame| frame["type"] == "receipt").collect();
    assert_eq!(receipts, [receipt(a, b, a, 0, 0), receipt(a, b, b, 1, 0)]);
}

#[tokio::test]
async fn fetching_confirms() {
    let host = Host::shared();
    let (mut ana, ben) = with_messages(&host, "&acks=app", 3).await;
    let (a, b) = (ana.user, ben.user);
    let fetched = host.get(b, &format!("/v1/conversations/{}/events?after=0&limit=2", dm(a, b))).await;
    assert_eq!(fetched["events"].as_array().unwrap().len(), 2);
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 2, 0));
}

#[tokio::test]
async fn a_hole_is_never_confirmed_over() {
    let host = Host::shared();
    let (mut ana, ben) = with_messages(&host, "&acks=app", 3).await;
    let (a, b) = (ana.user, ben.user);
    // The last one is fetched: 1 and 2 stay open.
    host.get(b, &format!("/v1/conversations/{}/events?after=2", dm(a, b))).await;
    host.get(b, &format!("/v1/conversations/{}/events?after=0&limit=1", dm(a, b))).await;
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 1, 0));
}

#[tokio::test]
async fn what_a_phone_confirms_a_tablet_need_not_get_again() {
    let host = Host::shared();
    let (mut ana, mut phone) = with_messages(&host, "&acks=app", 3).await;
    let (a, b) = (ana.user, phone.user);
    phone.say(place("received", a, b, 2)).await;
    ana.get("receipt").await;
    let mut tablet = host.open_with(b, "&acks=app").await;
    assert_eq!(seqs(&tablet.resume(None).await), [3]);
}

#[tokio::test]
async fn rest_and_sockets_share_what_was_read() {
    let host = Host::shared();
    let (mut ana, ben) = with_messages(&host, "&acks=app", 2).await;
    let (a, b) = (ana.user, ben.user);
    let path = format!("/v1/conversations/{}/read", dm(a, b));
    let request = reqwest::Client::new().post(host.server.http(&path)).bearer_auth(crate::support::token(b));
    let answer = request.json(&json!({"seq": 2})).send().await.unwrap();
    assert_eq!(answer.status(), 204);
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 2, 2));
}

#[tokio::test]
async fn reading_on_one_device_clears_the_others_at_once() {
    let host = Host::shared();
    let (mut ana, mut phone) = with_messages(&host, "&acks=app", 3).await;
    let (a, b) = (ana.user, phone.user);
    let mut laptop = host.live(b, "&acks=app").await;
    let row = async || host.get(b, "/v1/conversations").await["conversations"][0].clone();
    assert_eq!(row().await["unread"], 3);
    phone.say(place("read", a, b, 2)).await;
    for peer in [&mut phone, &mut laptop, &mut ana] {
        let told = peer.find(|f| f["type"] == "receipt" && f["user"] == b && f["read"] != 0).await;
        assert_eq!(told, receipt(a, b, b, 2, 2));
    }
    assert_eq!(row().await["unread"], 1, "what was told is stored");
    let path = format!("/v1/conversations/{}/read", dm(a, b));
    let request = reqwest::Client::new().post(host.server.http(&path)).bearer_auth(crate::support::token(b));
    assert_eq!(request.json(&json!({"seq": 3})).send().await.unwrap().status(), 204);
    let told = row().await;
    assert_eq!((&told["unread"], &told["members"][0]["read"]), (&json!(0), &json!(3)));
    for peer in [&mut phone, &mut laptop, &mut ana] {
        assert_eq!(peer.get("receipt").await, receipt(a, b, b, 3, 3));
    }
}

#[tokio::test]
async fn a_receipt_of_a_message_sent_over_rest_comes_to_the_socket() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("&acks=app").await;
    let (a, b) = (ana.user, ben.user);
    let request = reqwest::Client::new().post(host.server.http("/v1/messages"));
    let mut body = send(b, "over REST", "c1");
    body.as_object_mut().unwrap().remove("type");
    let answer = request.bearer_auth(crate::support::token(a)).json(&body).send().await.unwrap();
    assert_eq!(answer.status(), 202);
    let accepted: Value = answer.json().await.unwrap();
    assert_eq!(crate::frames::fault(&accepted), None);
    let own = ana.get("message").await;
    assert_eq!((&own["id"], &own["client_id"]), (&accepted["id"], &json!("c1")));
    assert_eq!(ben.get("message").await["content"], "over REST");
    ben.say(place("read", a, b, 1)).await;
    assert_eq!(ana.get("receipt").await, receipt(a, b, b, 1, 1));
}
