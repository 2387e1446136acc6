//! Sending a message, and who gets it.

use chatd::cli::bench::frame;
use chatd::domain::{ClientId, ConversationId, MessageId, UserId};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Host, PATIENCE, Peer, dm, person, send};
use crate::support::sign;

/// The id that protocol.md section 1 gives a message.
fn id_of(sender: i64, to: i64, client_id: &str) -> String {
    let conversation: ConversationId = dm(sender, to).parse().unwrap();
    let sender = UserId::new(sender).unwrap();
    MessageId::derive(conversation, sender, &ClientId::new(client_id).unwrap()).to_string()
}

fn without(mut frame: Value, name: &str) -> Value {
    frame.as_object_mut().unwrap().remove(name);
    frame
}

#[tokio::test]
async fn a_message_reaches_every_device_of_both() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let mut others =
        [host.live(ana.user, "").await, host.live(ben.user, "").await, host.live(ben.user, "").await];
    let data = json!({"colour": "red", "n": [1, 2.50]});
    let mut frame = send(ben.user, "Grüße 😀", "c1");
    frame["data"] = data.clone();
    let accepted = ana.ask(frame).await;
    assert_eq!(accepted["client_id"], "c1");
    assert_eq!(accepted["id"], id_of(ana.user, ben.user, "c1"));
    assert_eq!(accepted["conversation"], dm(ana.user, ben.user));
    let own = ana.get("message").await;
    let expected = json!({
        "type": "message", "conversation": dm(ana.user, ben.user), "seq": 1, "id": accepted["id"],
        "from": ana.user, "to": ben.user, "content": "Grüße 😀", "data": data, "client_id": "c1",
        "at": own["at"],
    });
    assert_eq!(own, expected);
    assert!(own["at"].as_str() >= accepted["at"].as_str(), "stored not before it was accepted");
    assert_eq!(others[0].get("message").await, own, "the sender's other device");
    let theirs = without(own, "client_id");
    assert_eq!(ben.get("message").await, theirs);
    for peer in &mut others[1..] {
        assert_eq!(peer.get("message").await, theirs);
    }
}

#[tokio::test]
async fn the_old_way_works_to_the_letter() {
    let host = Host::with(&[]);
    let old = async |id: i64, name: &str| {
        let token = sign(&json!({"userId": id, "name": name}));
        Peer::connect(&format!("ws://{}?token={token}", host.server.address), &[]).await.unwrap()
    };
    let (mut gargi, mut receiver) = (old(2, "gargi").await, old(1, "asha").await);
    assert_eq!(gargi.hello["user"], json!({"id": 2, "name": "gargi"}));
    // Neither says `resume`, as old clients do not.
    for text in ["Hello", "Again"] {
        gargi.say(json!({"type": "send", "to": 1, "content": text})).await;
        let message = receiver.get("message").await;
        assert_eq!((&message["content"], &message["from"]), (&json!(text), &json!(2)));
    }
    let history = host.get(1, "/messages?user1=1&user2=2&limit=20&offset=0").await;
    assert_eq!(
        (&history["limit"], &history["offset"], &history["has_more"]),
        (&json!(20), &json!(0), &json!(false))
    );
    let rows = history["messages"].as_array().unwrap();
    let row =
        |n: usize| [&rows[n]["seq"], &rows[n]["sender_id"], &rows[n]["receiver_id"], &rows[n]["content"]];
    assert_eq!(rows.len(), 2);
    assert_eq!(row(0), [&json!(2), &json!(2), &json!(1), &json!("Again")], "newest first");
    assert_eq!(row(1), [&json!(1), &json!(2), &json!(1), &json!("Hello")]);
    assert_eq!(host.get(1, "/health").await["status"], "ok");
}

#[tokio::test]
async fn a_conversation_and_an_id_of_the_host_application_name_the_recipient_too() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    ben.say(json!({"type": "send", "conversation": conversation, "content": "by conversation"})).await;
    assert_eq!(ana.get("message").await["to"], ana.user);
    let external = format!("cleo-{}", person());
    let open = async |sub: &str| {
        let token = sign(&json!({"sub": sub, "iss": "shop"}));
        Peer::connect(&host.server.ws(&token), &[]).await.unwrap()
    };
    let (mut cleo, mut dora) = (open(&external).await, open(&format!("{external}-2")).await);
    let frame = json!({"type": "send", "to": {"external_id": external}, "content": "by name"});
    assert_eq!(dora.ask(frame.clone()).await["conversation"], dm(cleo.user, dora.user));
    assert_eq!(cleo.get("message").await["content"], "by name");
    assert_eq!(ana.ask(frame).await["code"], "unknown_recipient", "another issuer's space");
}

#[tokio::test]
async fn the_server_makes_a_client_id_where_there_is_none() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let frame = || json!({"type": "send", "to": ben.user, "content": "same"});
    let (one, two) = (ana.ask(frame()).await, ana.ask(frame()).await);
    assert_ne!(one["client_id"], two["client_id"]);
    let client_id = one["client_id"].as_str().unwrap();
    assert_eq!(one["id"], id_of(ana.user, ben.user, client_id));
    assert_eq!(ana.get("message").await["client_id"], client_id);
}

#[tokio::test]
async fn an_answer_names_what_it_answers() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let first = ana.send(ben.user, "question").await;
    let mut frame = send(ana.user, "answer", "c1");
    frame["reply_to"] = first["id"].clone();
    ben.say(frame).await;
    assert_eq!(ana.get("message").await["reply_to"], first["id"]);
}

#[tokio::test]
async fn the_longest_content_and_data_go_through() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let content = "😀".repeat(4_096);
    let data = json!({"x": "y".repeat(4_096 - 8)});
    assert_eq!((content.len(), data.to_string().len()), (16_384, 4_096));
    let mut frame = send(ben.user, &content, "c1");
    frame["data"] = data.clone();
    ana.say(frame).await;
    let message = ben.get("message").await;
    assert_eq!((&message["content"], &message["data"]), (&json!(content), &data));
}

#[tokio::test]
async fn a_retry_is_answered_with_the_same_id_and_stores_nothing_new() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let first = ana.ask(send(ben.user, "once", "c1")).await;
    ana.get("message").await;
    let retry = ana.ask(send(ben.user, "once", "c1")).await;
    assert_eq!((&retry["id"], &retry["at"], &retry["seq"]), (&first["id"], &first["at"], &json!(1)));
    let mut tablet = host.live(ana.user, "").await;
    assert_eq!(tablet.ask(send(ben.user, "once", "c1")).await["id"], first["id"], "from any device");
    assert_eq!(ana.send(ben.user, "next").await["seq"], 2);
    assert_eq!(
        (ben.get("message").await["seq"].take(), ben.get("message").await["content"].take()),
        (json!(1), json!("next"))
    );
}

#[tokio::test]
async fn one_message_sent_by_many_devices_at_once_is_stored_once() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let mut devices = Vec::new();
    for _ in 0..5 {
        devices.push(host.open(ana.user).await);
    }
    for device in &mut devices {
        device.say(send(ben.user, "once", "c1")).await;
    }
    for device in &mut devices {
        assert_eq!(device.get("accepted").await["id"], id_of(ana.user, ben.user, "c1"));
    }
    assert_eq!(ana.send(ben.user, "next").await["seq"], 2);
    assert_eq!(
        (ben.get("message").await["content"].take(), ben.get("message").await["seq"].take()),
        (json!("once"), json!(2))
    );
}

#[tokio::test]
async fn the_same_client_id_to_another_person_is_another_message() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let cleo = person();
    host.know(cleo).await;
    let one = ana.ask(send(ben.user, "x", "c1")).await;
    let two = ana.ask(send(cleo, "y", "c1")).await;
    assert_eq!((&one["type"], &two["type"]), (&json!("accepted"), &json!("accepted")));
    assert_ne!(one["id"], two["id"]);
}

#[tokio::test]
async fn who_sends_a_message_and_leaves_at_once_has_sent_it() {
    let host = Host::shared();
    let (ana, mut ben) = host.pair("").await;
    let mut brief = host.open(ana.user).await;
    brief.say(send(ben.user, "one", "c1")).await;
    brief.say(send(ben.user, "two", "c2")).await;
    brief.client.close(1000, "").await.unwrap();
    let (frames, code) = brief.end().await;
    let answered: Vec<_> =
        frames.iter().filter(|f| f["type"] == "accepted").map(|f| &f["client_id"]).collect();
    assert_eq!((answered, code), (vec![&json!("c1"), &json!("c2")], 1000));
    assert_eq!(ben.get("message").await["content"], "one");
    assert_eq!(ben.get("message").await["content"], "two");
}

#[tokio::test]
async fn who_sends_a_message_and_loses_the_connection_has_sent_it() {
    let host = Host::shared();
    let (ana, mut ben) = host.pair("").await;
    for n in 1..=10 {
        let mut brief = host.open(ana.user).await;
        brief.say(send(ben.user, &n.to_string(), &format!("c{n}"))).await;
        drop(brief);
        assert_eq!(ben.get("message").await["content"], n.to_string());
    }
}

#[tokio::test]
async fn a_message_sent_before_any_resume_is_accepted_at_once() {
    let host = Host::shared();
    let user = person();
    host.know(user).await;
    let mut ana = host.open(person()).await;
    let accepted = ana.ask(send(user, "early", "c1")).await;
    assert_eq!(accepted["type"], "accepted");
    assert!(!ana.has("message"), "its event waits for the resume");
    let caught_up = ana.resume(None).await;
    assert!(
        caught_up.iter().any(|frame| frame["id"] == accepted["id"])
            || ana.get("message").await["id"] == accepted["id"]
    );
}

#[tokio::test]
async fn who_never_stops_talking_still_hears_what_others_say() {
    let host = Host::with(&[("CHATD_LIMITS__ENABLED", "false")]);
    let mut ana = host.live(person(), "").await;
    let ben = host.live(person(), "").await;
    let to = ben.user;
    let (mut reader, mut writer, mut frames) = ben.client.into_parts();
    let mut pings = Vec::new();
    for _ in 0..100 {
        frame::encode(&mut pings, frame::PING, &[b'x'; 125], [1, 2, 3, 4]);
    }
    let talking = async {
        loop {
            writer.write_all(&pings).await.unwrap();
        }
    };
    let hearing = async {
        let (mut messages, mut pongs) = (0, 0);
        while messages < 20 {
            while let Some(frame) = frames.next_frame().unwrap() {
                let is_message = frame.payload.starts_with(br#"{"type":"message""#);
                messages += usize::from(is_message);
                pongs += usize::from(frame.opcode == frame::PONG);
            }
            assert!(reader.read_buf(frames.buffer()).await.unwrap() > 0, "the server ended it");
        }
        pongs
    };
    let saying = async {
        for number in 0..20 {
            ana.send(to, &format!("message {number}")).await;
        }
    };
    let all = async {
        tokio::select! {
            () = talking => unreachable!("it never stops"),
            (pongs, ()) = async { tokio::join!(hearing, saying) } => pongs,
        }
    };
    let pongs = tokio::time::timeout(PATIENCE, all).await.expect("nothing was heard");
    assert!(pongs > 1_000, "{pongs} of its pings were answered meanwhile");
}
