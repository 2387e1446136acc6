//! Wrong frames: each is answered with its code, names what is at fault, and leaves the socket as it was.

use serde_json::{Value, json};

use crate::peer::{Host, Peer, dm, person, send};
use crate::support::{sign, token};

/// What an error says: code and field.
fn told(error: &Value) -> (&str, &str) {
    assert_eq!(error["type"], "error", "{error}");
    (error["code"].as_str().unwrap(), error["field"].as_str().unwrap_or_default())
}

/// The socket still works, and nothing was stored.
async fn still_works(peer: &mut Peer, to: i64, seq: i64) {
    assert_eq!(peer.send(to, "still here").await["seq"], seq);
}

#[tokio::test]
async fn a_message_that_cannot_be_is_refused_with_the_field_at_fault() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let with = |name: &str, value: Value| {
        let mut frame = send(ben.user, "x", "c1");
        frame[name] = value;
        frame
    };
    let without_to = |name: &str, value: Value| {
        let mut frame = with(name, value);
        frame.as_object_mut().unwrap().remove("to");
        frame
    };
    let long = |length: usize| json!("x".repeat(length));
    let table = [
        (with("to", json!(ben.user.to_string())), "invalid", "to"),
        (with("to", json!(ana.user)), "invalid", "to"),
        (with("to", json!(-1)), "invalid", "to"),
        (with("to", json!({"external_id": ""})), "invalid", "to"),
        (with("to", Value::Null), "invalid", "to"),
        (with("conversation", json!(dm(ana.user, ben.user))), "invalid", "to"),
        (
            without_to("conversation", json!(format!("dm-{}-{}", ben.user, ana.user))),
            "invalid",
            "conversation",
        ),
        (without_to("conversation", json!("garbage")), "invalid", "conversation"),
        (without_to("conversation", json!(dm(ana.user, ana.user))), "invalid", "conversation"),
        (with("content", json!("")), "invalid", "content"),
        (with("content", json!(" \n\u{200b}\u{feff}")), "invalid", "content"),
        (with("content", json!("a\0b")), "invalid", "content"),
        (with("content", json!(7)), "invalid", "content"),
        (with("content", Value::Null), "invalid", "content"),
        (with("content", long(16_385)), "too_large", "content"),
        (with("data", json!({"x": "y".repeat(4_096)})), "too_large", "data"),
        (with("data", json!("text")), "invalid", "data"),
        (with("reply_to", json!("c0")), "invalid", "reply_to"),
        (with("client_id", json!("not one")), "invalid", "client_id"),
        (with("client_id", long(65)), "invalid", "client_id"),
        (with("to", json!((1_i64 << 53) - 1)), "unknown_recipient", ""),
        (with("to", json!({"external_id": "nobody"})), "unknown_recipient", ""),
        (without_to("conversation", json!("dm-1001-1002")), "not_found", ""),
        (without_to("conversation", json!("grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769")), "not_found", ""),
    ];
    for (frame, code, field) in table {
        let error = ana.ask(frame.clone()).await;
        assert_eq!(told(&error), (code, field), "{frame}: {error}");
        // The sender learns which message it was, where the client_id itself is not at fault.
        let client_id = (field != "client_id").then_some("c1");
        assert_eq!(error["client_id"].as_str(), client_id, "{error}");
    }
    still_works(&mut ana, ben.user, 1).await;
}

#[tokio::test]
async fn a_reused_client_id_is_refused_whatever_differs() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let first = ana.ask(send(ben.user, "x", "c1")).await;
    let with = |name: &str, value: Value| {
        let mut frame = send(ben.user, "x", "c1");
        frame[name] = value;
        frame
    };
    for other in [send(ben.user, "y", "c1"), with("data", json!({})), with("reply_to", first["id"].clone())] {
        let error = ana.ask(other).await;
        assert_eq!((told(&error), &error["client_id"]), (("client_id_reused", "client_id"), &json!("c1")));
    }
    assert_eq!(ana.ask(send(ben.user, "x", "c1")).await["id"], first["id"], "the first one stands");
    still_works(&mut ana, ben.user, 2).await;
}

#[tokio::test]
async fn what_is_no_json_is_told_so_and_the_socket_stays() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let deep = format!(r#"{{"type":"ping","x":{}{}}}"#, "[".repeat(40), "]".repeat(40));
    for text in ["", "{", "hello", r#"{"type":"ping",}"#, &deep] {
        ana.client.send_text(text).await.unwrap();
        let error = ana.get("error").await;
        assert_eq!((told(&error), &error["ref"]), (("bad_json", ""), &Value::Null), "{text}");
    }
    for text in ["[]", "7", r#"{"type":"ping","type":"ping"}"#, r#"{"ref":"r"}"#] {
        ana.client.send_text(text).await.unwrap();
        assert_eq!(told(&ana.get("error").await).0, "invalid", "{text}");
    }
    still_works(&mut ana, ben.user, 1).await;
}

#[tokio::test]
async fn an_unknown_type_is_told_so_and_the_socket_stays() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    for kind in ["dance", "", "SEND", "accepted"] {
        let error = ana.ask(json!({"type": kind})).await;
        assert_eq!(told(&error), ("unknown_type", ""), "{kind}");
    }
    still_works(&mut ana, ben.user, 1).await;
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let mut frame = send(ben.user, "x", "c1");
    frame["urgent"] = json!({"very": [true]});
    assert_eq!(ana.ask(frame).await["type"], "accepted");
    assert_eq!(ana.ask(json!({"type": "ping", "to": "whom"})).await["type"], "pong");
}

#[tokio::test]
async fn every_answer_repeats_a_ref_of_up_to_64_characters() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let mark = "ä".repeat(64);
    let frames = [
        (json!({"type": "ping"}), "pong"),
        (send(ben.user, "x", "c1"), "accepted"),
        (send(0, "x", "c1"), "error"),
        (json!({"type": "resume"}), "resumed"),
        (json!({"type": "auth", "token": token(ana.user)}), "authenticated"),
        (json!({"type": "auth", "token": "bad"}), "error"),
        (json!({"type": "received", "conversation": dm(ana.user, ben.user), "seq": 999}), "error"),
        (json!({"type": "dance"}), "error"),
    ];
    for (mut frame, kind) in frames {
        frame["ref"] = json!(mark);
        ana.say(frame.clone()).await;
        let answer = ana.find(|answer| answer["ref"].is_string()).await;
        assert_eq!((&answer["type"], &answer["ref"]), (&json!(kind), &json!(mark)), "{frame}");
    }
    ana.say(json!({"type": "ping", "ref": "a".repeat(65)})).await;
    assert_eq!(told(&ana.get("error").await), ("invalid", "ref"));
    ana.say(json!({"type": "ping", "ref": 7})).await;
    assert_eq!(told(&ana.get("error").await), ("invalid", "ref"));
}

#[tokio::test]
async fn what_cannot_be_confirmed_is_told_so() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    ana.send(ben.user, "one").await;
    ben.get("message").await;
    let cleo = person();
    host.know(cleo).await;
    for kind in ["received", "read"] {
        let place =
            |conversation: &str, seq: Value| json!({"type": kind, "conversation": conversation, "seq": seq});
        let table = [
            (place(&conversation, json!(2)), ("invalid", "seq")),
            (place(&conversation, json!(0)), ("invalid", "seq")),
            (place(&conversation, json!(-1)), ("invalid", "seq")),
            (place(&conversation, json!("1")), ("invalid", "seq")),
            (place(&conversation, Value::Null), ("invalid", "seq")),
            (place(&dm(ben.user, cleo), json!(1)), ("invalid", "seq")),
            (place("dm-1001-1002", json!(1)), ("not_found", "")),
            (place("grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769", json!(1)), ("not_found", "")),
            (place("dm-2-1", json!(1)), ("invalid", "conversation")),
        ];
        for (frame, expected) in table {
            let error = ben.ask(frame.clone()).await;
            assert_eq!(told(&error), expected, "{frame}");
        }
    }
    still_works(&mut ana, ben.user, 2).await;
}

#[tokio::test]
async fn a_member_and_a_stranger_are_told_the_same_of_a_conversation_that_is_not_theirs() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    ana.send(ben.user, "one").await;
    let mut cleo = host.live(person(), "").await;
    let mut asked = Vec::new();
    for conversation in [dm(ana.user, ben.user), dm(ben.user, person())] {
        let mut error = cleo.ask(json!({"type": "read", "conversation": conversation, "seq": 1})).await;
        error["ref"].take();
        asked.push(error);
    }
    assert_eq!(asked[0], asked[1]);
}

#[tokio::test]
async fn a_bad_token_renews_nothing_and_the_socket_stays() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    for token in ["bad".to_owned(), token(ben.user), sign(&json!({"userId": ana.user, "exp": 1}))] {
        let error = ana.ask(json!({"type": "auth", "token": token})).await;
        assert_eq!(told(&error), ("unauthorized", ""));
    }
    assert_eq!(told(&ana.ask(json!({"type": "auth"})).await), ("invalid", "token"));
    still_works(&mut ana, ben.user, 1).await;
}

#[tokio::test]
async fn a_good_token_is_answered_with_its_end_where_it_has_one() {
    let host = Host::shared();
    let mut ana = host.open(person()).await;
    let end = jiff::Timestamp::now().as_second() + 600;
    let renewed = sign(&json!({"userId": ana.user, "exp": end}));
    let answer = ana.ask(json!({"type": "auth", "token": renewed})).await;
    let told: jiff::Timestamp = answer["expires_at"].as_str().unwrap().parse().unwrap();
    assert_eq!((&answer["type"], told.as_second()), (&json!("authenticated"), end));
    let eternal = ana.ask(json!({"type": "auth", "token": token(ana.user)})).await;
    assert_eq!((&eternal["type"], &eternal["expires_at"]), (&json!("authenticated"), &Value::Null));
}

#[tokio::test]
async fn a_ping_tells_the_servers_time() {
    let host = Host::shared();
    let mut ana = host.open(person()).await;
    let pong = ana.ask(json!({"type": "ping"})).await;
    assert_eq!((&pong["type"], &pong["cursor"]), (&json!("pong"), &Value::Null), "no cursor before a resume");
    let time: jiff::Timestamp = pong["server_time"].as_str().unwrap().parse().unwrap();
    assert!((jiff::Timestamp::now().as_second() - time.as_second()).abs() <= 5);
    ana.resume(None).await;
    assert!(ana.ask(json!({"type": "ping"})).await["cursor"].is_string());
}
