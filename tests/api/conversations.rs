//! Reading history, and saying how far it was read.

use serde_json::{Value, json};

use crate::client::Api;
use crate::server::sign;

fn seqs(rows: &Value) -> Vec<i64> {
    rows.as_array().unwrap().iter().map(|row| row["seq"].as_i64().unwrap()).collect()
}

#[tokio::test]
async fn history_by_offset_is_newest_first() {
    let api = Api::start().await;
    api.sent(1, 2, 5).await;
    let answer = api.get(2, "/messages?user1=1&user2=2&limit=2&offset=1").await;
    let mut json = answer.json();
    assert_eq!(seqs(&json["messages"]), [4, 3]);
    let message = json["messages"][0].as_object_mut().unwrap();
    let names: Vec<&String> = message.keys().collect();
    assert_eq!(names, ["content", "created_at", "id", "receiver_id", "sender_id", "seq"]);
    assert_eq!((&message["sender_id"], &message["receiver_id"]), (&json!(1), &json!(2)));
    assert_eq!(message["content"], "1>2 4");
    assert_eq!((&json["limit"], &json["offset"], &json["has_more"]), (&json!(2), &json!(1), &json!(true)));

    let all = api.get(1, "/messages?user1=2&user2=1").await.json();
    assert_eq!(seqs(&all["messages"]), [5, 4, 3, 2, 1]);
    assert_eq!((&all["limit"], &all["offset"], &all["has_more"]), (&json!(20), &json!(0), &json!(false)));
    let beyond = api.get(1, "/messages?user1=2&user2=1&offset=10000").await.json();
    assert_eq!((&beyond["messages"], &beyond["has_more"]), (&json!([]), &json!(false)));
    let empty = api.get(1, "/messages?user1=1&user2=999").await.json();
    assert_eq!(empty, json!({"messages": [], "limit": 20, "offset": 0, "has_more": false}));
}

#[tokio::test]
async fn only_the_two_read_their_history() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    let foreign = api.get(3, "/messages?user1=1&user2=2").await;
    assert_eq!((foreign.status, foreign.problem().as_str()), (403, "forbidden"));
    let unknown = api.get(3, "/messages?user1=1&user2=999").await;
    assert_eq!(foreign.json()["detail"], unknown.json()["detail"]);
    for path in ["messages", "events"] {
        for conversation in ["dm-1-2", "dm-1-999", "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769"] {
            let answer = api.get(3, &format!("/v1/conversations/{conversation}/{path}")).await;
            assert_eq!((answer.status, answer.problem().as_str()), (404, "not_found"), "{conversation}");
        }
    }
    let read = api.post(3, "/v1/conversations/dm-1-2/read", r#"{"seq":1}"#).await;
    assert_eq!(read.problem(), "not_found");
}

#[tokio::test]
async fn a_user_may_be_named_by_external_id() {
    let api = Api::start().await;
    let token = sign(&json!({"sub": "eva"}));
    let me = api.bare("GET", "/v1/me").bearer_auth(&token).send().await.unwrap();
    let me: Value = me.json().await.unwrap();
    assert_eq!(me["external_id"], "eva");
    let id = me["id"].as_i64().unwrap();
    api.sent(1, id, 1).await;
    let history = |one: &str, other: &str| {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        let request = api.bare("GET", &format!("/messages?user1={}&user2={}", encoded(one), encoded(other)));
        crate::client::Answer::of(request.bearer_auth(&token))
    };
    let found = history(r#"{"external_id":"eva"}"#, "1").await.json();
    assert_eq!(found["messages"][0]["receiver_id"], id);
    assert_eq!(
        history(r#"{"external_id":"eva"}"#, r#"{"external_id":"no"}"#).await.problem(),
        "unknown_recipient"
    );
    assert_eq!(history("1", r#"{"external_id":"no"}"#).await.problem(), "forbidden");
    assert_eq!(history(r#"{"external_id":"eva"}"#, &id.to_string()).await.field().1, "/user2");
}

#[tokio::test]
async fn messages_come_before_after_or_newest() {
    let api = Api::start().await;
    api.sent(1, 2, 5).await;
    let page = async |query: &str| {
        let json = api.get(1, &format!("/v1/conversations/dm-1-2/messages{query}")).await.json();
        (seqs(&json["messages"]), json["has_more"].as_bool().unwrap())
    };
    assert_eq!(page("").await, (vec![5, 4, 3, 2, 1], false));
    assert_eq!(page("?limit=2").await, (vec![5, 4], true));
    assert_eq!(page("?before=4&limit=2").await, (vec![3, 2], true));
    assert_eq!(page("?before=2&limit=2").await, (vec![1], false));
    assert_eq!(page("?before=1").await, (vec![], false));
    assert_eq!(page("?after=0&limit=2").await, (vec![1, 2], true));
    assert_eq!(page("?after=3").await, (vec![4, 5], false));
    assert_eq!(page("?after=9223372036854775807").await, (vec![], false));
    assert_eq!(page("?before=9223372036854775807&limit=1").await, (vec![5], true));
}

#[tokio::test]
async fn a_row_is_the_frame_and_what_became_of_it() {
    let api = Api::start().await;
    let body = r#"{"to":2,"content":"Hi","client_id":"c1","data":{"n":1.50}}"#;
    assert_eq!(api.post(1, "/v1/messages", body).await.status, 202);
    api.sent(1, 3, 1).await;
    let path = "/v1/conversations/dm-1-2/messages";
    while seqs(&api.get(1, path).await.json()["messages"]).is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let own = api.get(1, path).await;
    assert!(own.text.contains(r#""data":{"n":1.50}"#), "data is kept as sent: {own:?}");
    let own = own.json();
    let row = own["messages"][0].as_object().unwrap();
    assert_eq!((&row["type"], &row["from"], &row["to"]), (&json!("message"), &json!(1), &json!(2)));
    assert_eq!((&row["client_id"], &row["content"]), (&json!("c1"), &json!("Hi")));
    assert_eq!((row.get("edited_at"), row.get("deleted_at")), (Some(&Value::Null), Some(&Value::Null)));
    let other = api.get(2, path).await.json();
    assert_eq!(other["messages"][0].get("client_id"), None, "the sender's own id is the sender's");

    let events = api.get(1, "/v1/conversations/dm-1-2/events").await.json();
    let mut frame = row.clone();
    frame.retain(|name, _| !name.ends_with("ed_at"));
    assert_eq!(events, json!({"events": [frame], "has_more": false}));
}

#[tokio::test]
async fn events_come_oldest_first_and_fetching_confirms() {
    let api = Api::start().await;
    api.sent(1, 2, 5).await;
    let first = api.get(2, "/v1/conversations/dm-1-2/events?limit=3").await.json();
    assert_eq!((seqs(&first["events"]), &first["has_more"]), (vec![1, 2, 3], &json!(true)));
    receipt(&api, 2, 3, 0).await;
    let rest = api.get(2, "/v1/conversations/dm-1-2/events?after=3").await.json();
    assert_eq!((seqs(&rest["events"]), &rest["has_more"]), (vec![4, 5], &json!(false)));
    receipt(&api, 2, 5, 0).await;
}

#[tokio::test]
async fn read_moves_forward_only() {
    let api = Api::start().await;
    api.sent(1, 2, 3).await;
    let path = "/v1/conversations/dm-1-2/read";
    let read = async |seq: i64| api.post(2, path, &format!(r#"{{"seq":{seq}}}"#)).await;
    let answer = read(2).await;
    assert_eq!((answer.status, answer.text.as_str()), (204, ""));
    receipt(&api, 2, 2, 2).await;
    assert_eq!(read(4).await.field(), ("invalid".into(), "/seq".into()), "beyond the last one");
    assert_eq!(read(1).await.status, 204);
    assert_eq!(read(3).await.status, 204);
    receipt(&api, 2, 3, 3).await;
}

/// Waits until a member of dm-1-2 has got so far.
async fn receipt(api: &Api, user: i64, delivered: i64, read: i64) {
    let conversation = "dm-1-2".parse().unwrap();
    let mut last = None;
    for _ in 0..500 {
        let all = api.server.app.storage.receipts(conversation).await.unwrap();
        let of_user = all.into_iter().find(|receipt| receipt.user.get() == user);
        last = of_user.map(|receipt| (receipt.delivered.0, receipt.read.0));
        if last == Some((delivered, read)) {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("{last:?} in place of {:?}", (delivered, read));
}
