//! What REST shows of messages that were edited and deleted.

use std::sync::Arc;

use chatd::chat::Caller;
use chatd::chat::change::Change;
use chatd::chat::send::{self, Command};
use chatd::domain::{ClientId, Content, MessageId, UserId};
use serde_json::{Value, json};

use crate::client::Api;

const ROWS: &str = "/v1/conversations/dm-1-2/messages";
const EVENTS: &str = "/v1/conversations/dm-1-2/events";

/// The id of the message that `Api::sent` sends as number so-and-so.
fn id(number: usize) -> MessageId {
    let client_id = ClientId::new(format!("c{number}")).unwrap();
    MessageId::derive("dm-1-2".parse().unwrap(), UserId::new(1).unwrap(), &client_id)
}

/// User 1 gives a message in dm-1-2 another text, or deletes it; waits until that is history.
async fn change(api: &Api, target: MessageId, content: Option<&str>) {
    let app = &api.server.app;
    let before = last_seq(api).await;
    let user = app.directory.recipient(UserId::new(1).unwrap()).await.unwrap().unwrap();
    let caller = Caller { user: Arc::clone(&user), issuer: String::new(), expires_at: None };
    let content = content.map(|text| Content::new(text).unwrap());
    let conversation = "dm-1-2".parse().unwrap();
    let command = Command::Change(Change { client_id: None, conversation, target, content });
    let generation = app.log.generation();
    let prepared = send::prepare(app, &caller, command).await.unwrap();
    send::append(app, prepared, generation).await.unwrap();
    while last_seq(api).await == before {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

async fn last_seq(api: &Api) -> i64 {
    api.server.app.storage.last_seq("dm-1-2".parse().unwrap()).await.unwrap().0
}

/// Seq, content, and whether it was edited and deleted, of each row.
fn told(rows: &Value) -> Vec<(i64, Value, bool, bool)> {
    let row = |row: &Value| {
        let (seq, content) = (row["seq"].as_i64().unwrap(), row["content"].clone());
        (seq, content, row["edited_at"].is_string(), row["deleted_at"].is_string())
    };
    rows.as_array().unwrap().iter().map(row).collect()
}

#[tokio::test]
async fn history_has_the_last_words_and_tombstones_and_events_have_every_seq() {
    let api = Api::start().await;
    let body = r#"{"to":2,"content":"first","client_id":"c0","data":{"map":1}}"#;
    assert_eq!(api.post(1, "/v1/messages", body).await.status, 202);
    api.sent(1, 2, 2).await;
    while last_seq(&api).await < 3 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    change(&api, id(0), Some("second")).await;
    change(&api, id(1), Some("edited, then gone")).await;
    change(&api, id(1), None).await;
    change(&api, id(0), Some("third")).await;
    for user in [1, 2] {
        let page = api.get(user, &format!("{ROWS}?after=0")).await;
        let expected = [
            (1, json!("third"), true, false),
            (2, Value::Null, true, true),
            (3, json!("1>2 2"), false, false),
        ];
        let rows = &page.json()["messages"];
        assert_eq!(told(rows), expected);
        assert_eq!(rows[0]["data"], json!({"map": 1}), "an edit changes the text only");
        assert!(!page.text.contains("second") && !page.text.contains("gone"), "{page:?}");
    }
    let page = api.get(2, EVENTS).await;
    let events = page.json()["events"].clone();
    let kinds: Vec<_> = events
        .as_array()
        .unwrap()
        .iter()
        .map(|event| (event["type"].as_str(), event["seq"].as_i64()))
        .collect();
    let kind = |kind: &'static str, seq: i64| (Some(kind), Some(seq));
    let expected = [
        kind("message", 1),
        kind("message", 2),
        kind("message", 3),
        kind("edited", 4),
        kind("edited", 5),
        kind("deleted", 6),
        kind("edited", 7),
    ];
    assert_eq!(kinds, expected);
    let edited = json!({
        "type": "edited", "conversation": "dm-1-2", "seq": 4, "id": id(0), "content": "third", "by": 1,
        "at": events[3]["at"],
    });
    assert_eq!(events[3], edited, "every edit with the last words");
    assert_eq!((&events[1]["content"], &events[4]["content"]), (&Value::Null, &Value::Null));
    let deleted = json!({
        "type": "deleted", "conversation": "dm-1-2", "seq": 6, "id": id(1), "by": 1, "at": events[5]["at"],
    });
    assert_eq!(events[5], deleted);
    assert!(!page.text.contains("second") && !page.text.contains("gone"), "{page:?}");
}

#[tokio::test]
async fn pages_by_number_count_messages_and_have_the_fields_that_they_had() {
    let api = Api::start().await;
    api.sent(1, 2, 4).await;
    change(&api, id(4), Some("edited")).await;
    change(&api, id(2), None).await;
    let page = api.get(2, "/messages?user1=1&user2=2&limit=2&offset=1").await.json();
    let seqs: Vec<_> = page["messages"].as_array().unwrap().iter().map(|row| row["seq"].as_i64()).collect();
    assert_eq!((seqs, &page["has_more"]), (vec![Some(3), Some(2)], &json!(true)));
    assert_eq!(page["messages"][1]["content"], Value::Null);
    let names: Vec<&String> = page["messages"][1].as_object().unwrap().keys().collect();
    assert_eq!(names, ["content", "created_at", "id", "receiver_id", "sender_id", "seq"]);
    let newest = api.get(2, "/messages?user1=1&user2=2&limit=1").await.json();
    assert_eq!(
        (&newest["messages"][0]["seq"], &newest["messages"][0]["content"]),
        (&json!(4), &json!("edited"))
    );
}

#[tokio::test]
async fn a_page_confirms_the_changes_that_it_shows_and_no_others() {
    let api = Api::start().await;
    let delivered = async |expected: i64| {
        let mut last = 0;
        for _ in 0..500 {
            let all = api.server.app.storage.receipts("dm-1-2".parse().unwrap()).await.unwrap();
            last =
                all.iter().find(|receipt| receipt.user.get() == 2).map_or(0, |receipt| receipt.delivered.0);
            if last >= expected {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        assert_eq!(last, expected);
    };
    api.sent(1, 2, 2).await;
    change(&api, id(2), Some("edited")).await;
    change(&api, id(1), Some("edited")).await;
    let body = r#"{"to":2,"content":"last","client_id":"c5"}"#;
    assert_eq!(api.post(1, "/v1/messages", body).await.status, 202);
    while last_seq(&api).await < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    // Messages 1, 2 and 5; 3 is an edit of 2, and 4 one of 1.
    api.get(2, &format!("{ROWS}?before=2")).await;
    delivered(1).await;
    api.get(2, &format!("{ROWS}?after=1")).await;
    delivered(3).await;
    // Does not move further: what the edit 4 made of message 1 was not on that page.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    delivered(3).await;
    api.get(2, ROWS).await;
    delivered(5).await;
}
