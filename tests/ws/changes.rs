//! Edits, deletions and answers as devices see them.

use std::time::Duration;

use serde_json::{Value, json};

use crate::peer::{Host, Peer, delete, dm, edit, person, send};

/// The next event of each, and that they are alike.
async fn all_get(peers: &mut [&mut Peer], kind: &str) -> Value {
    let mut frames = Vec::new();
    for peer in peers {
        frames.push(peer.get(kind).await);
    }
    assert!(frames.iter().all(|frame| *frame == frames[0]), "{frames:?}");
    frames.swap_remove(0)
}

/// Asks, and gives what became of it: `accepted`, or the code of the error or of the rejection that follows.
async fn fate(peer: &mut Peer, frame: Value) -> String {
    let (kind, target) = match frame["type"].as_str() {
        Some("edit") => ("edited", frame["id"].clone()),
        Some("delete") => ("deleted", frame["id"].clone()),
        _ => ("message", Value::Null),
    };
    let answer = peer.ask(frame).await;
    if answer["type"] == "error" {
        return format!("error {}", answer["code"].as_str().unwrap());
    }
    assert_eq!(answer["type"], "accepted", "{answer}");
    let id = &answer["id"];
    let event_id = if target.is_null() { id } else { &target };
    let happened = |frame: &Value| frame["type"] == kind && frame["id"] == *event_id;
    let rejected = |frame: &Value| frame["type"] == "rejected" && frame["id"] == *id;
    match peer.find(|frame| happened(frame) || rejected(frame)).await {
        frame if rejected(&frame) => format!("rejected {}", frame["code"].as_str().unwrap()),
        frame => format!("{kind} {}", frame["seq"]),
    }
}

/// The kind, seq and content of each event among these frames.
fn events(frames: &[Value]) -> Vec<(String, i64, Value)> {
    let is_event = |frame: &&Value| frame["seq"].is_i64() && frame["type"] != "receipt";
    let told = |frame: &Value| {
        let kind = frame["type"].as_str().unwrap().to_owned();
        (kind, frame["seq"].as_i64().unwrap(), frame["content"].clone())
    };
    frames.iter().filter(is_event).map(told).collect()
}

#[tokio::test]
async fn an_edit_and_a_deletion_reach_every_device_of_both_in_order() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let (mut tablet, mut phone) = (host.live(ana.user, "").await, host.live(ben.user, "").await);
    let conversation = dm(ana.user, ben.user);
    let message = ana.send(ben.user, "Helo").await;
    let mut frame = edit(&conversation, &message["id"], "Hello");
    frame["client_id"] = json!("e1");
    let accepted = ana.ask(frame.clone()).await;
    assert_eq!((&accepted["type"], &accepted["client_id"]), (&json!("accepted"), &json!("e1")));
    assert_ne!(accepted["id"], message["id"], "the id of the edit's own record");
    let all = &mut [&mut ana, &mut tablet, &mut ben, &mut phone];
    let edited = all_get(all, "edited").await;
    let expected = json!({
        "type": "edited", "conversation": conversation, "seq": 2, "id": message["id"], "content": "Hello",
        "by": message["from"], "at": edited["at"],
    });
    assert_eq!(edited, expected);

    let again = ana.ask(frame).await;
    assert_eq!((&again["type"], &again["id"]), (&json!("accepted"), &accepted["id"]), "a retry");
    ana.say(edit(&conversation, &message["id"], "Hello!")).await;
    ana.say(delete(&conversation, &message["id"])).await;
    let all = &mut [&mut ana, &mut tablet, &mut ben, &mut phone];
    assert_eq!(all_get(all, "edited").await["content"], "Hello!");
    let deleted = all_get(all, "deleted").await;
    let expected = json!({
        "type": "deleted", "conversation": conversation, "seq": 4, "id": message["id"], "by": message["from"],
        "at": deleted["at"],
    });
    assert_eq!(deleted, expected, "the retry took no seq");
    assert_eq!(ben.send(ana.user, "next").await["seq"], 5);
}

#[tokio::test]
async fn what_cannot_be_changed_is_told_with_its_code() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let mut cleo = host.live(person(), "").await;
    let conversation = dm(ana.user, ben.user);
    let message = ana.send(ben.user, "mine").await;
    ben.get("message").await;
    let id = &message["id"];
    let elsewhere = cleo.send(ana.user, "elsewhere").await;
    assert_eq!(fate(&mut ben, edit(&conversation, id, "yours")).await, "error forbidden");
    assert_eq!(fate(&mut ben, delete(&conversation, id)).await, "error forbidden");
    for frame in [edit(&conversation, id, "x"), delete(&conversation, id)] {
        assert_eq!(fate(&mut cleo, frame).await, "error not_found", "who is not of the two");
    }
    let group = "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769";
    assert_eq!(fate(&mut ana, edit(group, id, "x")).await, "error not_found");
    let never = json!("1ba04d0a-f5b1-834e-870a-1336a013b369");
    for nothing in [&never, &elsewhere["id"]] {
        assert_eq!(fate(&mut ana, edit(&conversation, nothing, "x")).await, "rejected not_found");
        assert_eq!(fate(&mut ana, delete(&conversation, nothing)).await, "rejected not_found");
        let mut answer = send(ben.user, "an answer", &format!("r-{nothing}").replace('"', ""));
        answer["reply_to"] = nothing.clone();
        assert_eq!(fate(&mut ana, answer).await, "rejected not_found");
    }
    let change = ana.ask(edit(&conversation, id, "x")).await;
    assert_eq!(ana.get("edited").await["seq"], 2, "nothing before took a seq");
    assert_eq!(fate(&mut ana, edit(&conversation, &change["id"], "y")).await, "error not_found");

    ana.say(delete(&conversation, id)).await;
    ana.get("deleted").await;
    assert_eq!(fate(&mut ana, edit(&conversation, id, "too late")).await, "error not_found");
    assert_eq!(fate(&mut ana, delete(&conversation, id)).await, "error not_found");
    assert_eq!(fate(&mut ben, delete(&conversation, id)).await, "error not_found");
    let mut answer = send(ana.user, "an answer", "late");
    answer["reply_to"] = id.clone();
    assert_eq!(fate(&mut ben, answer).await, "message 4", "to a tombstone, as it may be on its way");
    assert!(!ben.has("rejected"), "what others did wrong is theirs");
}

#[tokio::test]
async fn what_is_sent_edited_answered_and_deleted_without_waiting_happens_in_that_order() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    let id = |client_id: &str| {
        use chatd::domain::{ClientId, MessageId, UserId};
        let (sender, client_id) = (UserId::new(ana.user).unwrap(), ClientId::new(client_id).unwrap());
        json!(MessageId::derive(conversation.parse().unwrap(), sender, &client_id))
    };
    let (first, mut answer) = (id("c1"), send(ben.user, "and", "c2"));
    answer["reply_to"] = first.clone();
    for frame in [
        send(ben.user, "one", "c1"),
        edit(&conversation, &first, "two"),
        answer,
        edit(&conversation, &first, "three"),
        delete(&conversation, &first),
    ] {
        ana.say(frame).await;
    }
    let mut got = Vec::new();
    while got.len() < 5 {
        let frame = ben.next().await;
        if ["message", "edited", "deleted"].contains(&frame["type"].as_str().unwrap()) {
            got.push(frame);
        }
    }
    let told = |kind: &str, seq: i64, content: Value| (kind.to_owned(), seq, content);
    let expected = [
        told("message", 1, json!("one")),
        told("edited", 2, json!("two")),
        told("message", 3, json!("and")),
        told("edited", 4, json!("three")),
        told("deleted", 5, Value::Null),
    ];
    assert_eq!(events(&got), expected);
}

#[tokio::test]
async fn a_resume_brings_every_seq_with_the_last_words_and_none_of_what_was_deleted() {
    let host = Host::shared();
    let (a, b) = host.strangers().await;
    let mut ana = host.live(a, "").await;
    let conversation = dm(a, b);
    let mut kept = send(b, "kept", "c1");
    kept["data"] = json!({"map": 1});
    let mut gone = send(b, "gone", "c2");
    gone["data"] = json!({"map": 2});
    let (kept, gone) = (ana.ask(kept).await["id"].clone(), ana.ask(gone).await["id"].clone());
    for frame in [
        edit(&conversation, &kept, "kept, second"),
        edit(&conversation, &gone, "gone, second"),
        edit(&conversation, &kept, "kept, third"),
        delete(&conversation, &gone),
    ] {
        assert_eq!(ana.ask(frame).await["type"], "accepted");
    }
    ana.find(|frame| frame["type"] == "deleted").await;
    let told = |kind: &str, seq: i64, content: Value| (kind.to_owned(), seq, content);
    let expected = [
        told("message", 1, json!("kept, third")),
        told("message", 2, Value::Null),
        told("edited", 3, json!("kept, third")),
        told("edited", 4, Value::Null),
        told("edited", 5, json!("kept, third")),
        told("deleted", 6, Value::Null),
    ];
    for cursor in [None, Some("damaged")] {
        let mut ben = host.open_with(b, "&acks=app").await;
        let caught_up = ben.resume(cursor).await;
        assert_eq!(events(&caught_up), expected, "{cursor:?}");
        assert_eq!((&caught_up[0]["data"], caught_up[1].get("data")), (&json!({"map": 1}), None));
        let resumed = caught_up.last().unwrap();
        let changed = json!([{"conversation": conversation, "last_seq": 6, "unread": 1}]);
        assert_eq!(resumed["conversations"], changed, "what was deleted is not unread");
    }
    let page = host.get(b, &format!("/v1/conversations/{conversation}/events")).await;
    assert_eq!(events(page["events"].as_array().unwrap()), expected);
}

#[tokio::test]
async fn a_device_that_has_the_message_gets_what_became_of_it() {
    let host = Host::shared();
    let (mut ana, mut ben) = host.pair("&acks=app").await;
    let (a, b) = (ana.user, ben.user);
    let message = ana.send(b, "Helo").await;
    ben.get("message").await;
    let cursor = ben.ask(json!({"type": "ping"})).await["cursor"].as_str().unwrap().to_owned();
    ben.leave().await;
    assert_eq!(ana.ask(edit(&dm(a, b), &message["id"], "Hello")).await["type"], "accepted");
    ana.get("edited").await;
    let caught_up = host.open_with(b, "&acks=app").await.resume(Some(&cursor)).await;
    assert_eq!(events(&caught_up), [("edited".to_owned(), 2, json!("Hello"))]);
    assert_eq!(ana.ask(delete(&dm(a, b), &message["id"])).await["type"], "accepted");
    ana.get("deleted").await;
    let caught_up = host.open_with(b, "&acks=app").await.resume(Some(&cursor)).await;
    let expected = [("edited".to_owned(), 2, Value::Null), ("deleted".to_owned(), 3, Value::Null)];
    assert_eq!(events(&caught_up), expected);
}

#[tokio::test]
async fn a_client_id_is_one_of_messages_edits_and_deletions_together() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    let message = ana.send(ben.user, "x").await;
    let id = &message["id"];
    let named = |mut frame: Value, client_id: &str| {
        frame["client_id"] = json!(client_id);
        frame
    };
    let edited = ana.ask(named(edit(&conversation, id, "y"), "e1")).await;
    assert_eq!(edited["type"], "accepted");
    for other in [
        named(edit(&conversation, id, "z"), "e1"),
        named(delete(&conversation, id), "e1"),
        send(ben.user, "y", "e1"),
    ] {
        let answer = ana.ask(other.clone()).await;
        assert_eq!(answer["code"], "client_id_reused", "{other}: {answer}");
        assert_eq!(answer["client_id"], "e1");
    }
    let original = message["client_id"].as_str().unwrap();
    let answer = ana.ask(named(edit(&conversation, id, "x"), original)).await;
    assert_eq!(answer["code"], "client_id_reused", "{answer}");
}

#[tokio::test]
async fn what_a_restarted_server_has_forgotten_it_reads_again() {
    let host = Host::with(&[]);
    let (mut ana, ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    let conversation = dm(a, b);
    let message = ana.send(b, "x").await;
    let named = |mut frame: Value, client_id: &str| {
        frame["client_id"] = json!(client_id);
        frame
    };
    let first = named(edit(&conversation, &message["id"], "y"), "e1");
    let accepted = ana.ask(first.clone()).await;
    ana.get("edited").await;
    ana.ask(named(delete(&conversation, &message["id"]), "d1")).await;
    ana.get("deleted").await;
    let host = host.restart();
    let mut ana = host.live(a, "").await;
    let again = ana.ask(first).await;
    assert_eq!(
        (&again["type"], &again["id"]),
        (&json!("accepted"), &accepted["id"]),
        "in history, and deleted since"
    );
    let again = ana.ask(named(delete(&conversation, &message["id"]), "d1")).await;
    assert_eq!(again["type"], "accepted");
    let other = named(edit(&conversation, &message["id"], "z"), "e1");
    assert_eq!(fate(&mut ana, other).await, "error client_id_reused");
    assert_eq!(ana.send(b, "next").await["seq"], 4, "none of them took a seq");
    assert!(!ana.has("rejected"));
}

#[tokio::test]
async fn a_rejected_change_is_told_again_by_a_resume_and_ends_the_same_when_it_is_tried_again() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let (a, b) = (ana.user, ben.user);
    let conversation = dm(a, b);
    let later = {
        use chatd::domain::{ClientId, MessageId, UserId};
        let (sender, client_id) = (UserId::new(a).unwrap(), ClientId::new("later").unwrap());
        json!(MessageId::derive(conversation.parse().unwrap(), sender, &client_id))
    };
    let mut early = edit(&conversation, &later, "y");
    early["client_id"] = json!("e1");
    assert_eq!(fate(&mut ana, early.clone()).await, "rejected not_found");
    assert_eq!(ana.ask(send(b, "x", "later")).await["type"], "accepted");
    ana.get("message").await;
    assert_eq!(fate(&mut ana, early).await, "rejected not_found", "one fate, though the message has come");
    let frames = host.open(a).await.resume(None).await;
    let rejected: Vec<_> = frames.iter().filter(|frame| frame["type"] == "rejected").collect();
    assert!(rejected.iter().all(|frame| frame["client_id"] == "e1" && frame["code"] == "not_found"));
    assert!(!rejected.is_empty());
    assert!(frames.iter().all(|frame| frame["type"] != "edited"));
}

#[tokio::test]
async fn a_time_limit_is_for_edits_only() {
    let host = Host::with(&[("CHATD_CHAT__EDIT_WITHIN", "1s")]);
    let (mut ana, ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    let message = ana.send(ben.user, "Helo").await;
    let mut first = edit(&conversation, &message["id"], "Hello");
    first["client_id"] = json!("e1");
    assert_eq!(fate(&mut ana, first.clone()).await, "edited 2");
    ana.listen(Duration::from_millis(1_100)).await;
    assert_eq!(fate(&mut ana, edit(&conversation, &message["id"], "Bye")).await, "rejected forbidden");
    assert_eq!(ana.ask(first).await["type"], "accepted", "a retry of one that came in time");
    assert_eq!(fate(&mut ana, delete(&conversation, &message["id"])).await, "deleted 3");
}

#[tokio::test]
async fn an_edit_beyond_the_limits_of_a_text_is_refused() {
    let host = Host::shared();
    let (mut ana, ben) = host.pair("").await;
    let conversation = dm(ana.user, ben.user);
    let message = ana.send(ben.user, "x").await;
    for (content, code) in
        [(json!("x".repeat(16_385)), "too_large"), (json!(" "), "invalid"), (Value::Null, "invalid")]
    {
        let mut frame = edit(&conversation, &message["id"], "x");
        frame["content"] = content;
        frame["client_id"] = json!("e1");
        let error = ana.ask(frame).await;
        assert_eq!((&error["code"], &error["field"]), (&json!(code), &json!("content")), "{error}");
        assert_eq!(error["client_id"], "e1");
    }
    let frame = json!({"type": "delete", "conversation": conversation});
    assert_eq!(ana.ask(frame).await["field"], "id");
}
