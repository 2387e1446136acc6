//! The list of one's conversations.

use serde_json::{Value, json};

use crate::client::Api;

fn names(page: &Value) -> Vec<&str> {
    let rows = page["conversations"].as_array().unwrap();
    rows.iter().map(|row| row["conversation"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn who_has_talked_to_nobody_has_an_empty_list() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    assert_eq!(
        api.get(3, "/v1/conversations").await.json(),
        json!({"conversations": [], "next_cursor": null})
    );
}

#[tokio::test]
async fn a_row_has_what_a_client_shows() {
    let api = Api::start().await;
    api.sent(1, 2, 3).await;
    let read = api.post(2, "/v1/conversations/dm-1-2/read", r#"{"seq":2}"#).await;
    assert_eq!(read.status, 204);
    let last = api.get(2, "/v1/conversations/dm-1-2/messages?limit=1").await.json()["messages"][0].clone();
    let page = api.get(2, "/v1/conversations").await;
    let expected = json!({
        "conversation": "dm-1-2", "last_seq": 3, "last_at": last["at"], "last_message": last, "unread": 1,
        "members": [{"user": 2, "name": "ben", "delivered": 2, "read": 2},
            {"user": 1, "name": "ana", "delivered": 0, "read": 0}],
        "member_count": 2,
    });
    let mut row = page.json()["conversations"][0].clone();
    // Fetching the last message, above, confirms it some time.
    row["members"][0]["delivered"] = json!(2);
    assert_eq!(row, expected);
    let mut one = api.get(2, "/v1/conversations/dm-1-2").await.json();
    one["members"][0]["delivered"] = json!(2);
    assert_eq!(one, expected);
    let own = api.get(1, "/v1/conversations/dm-1-2").await.json();
    assert_eq!((&own["unread"], &own["last_message"]["client_id"]), (&json!(0), &json!("c3")));
    assert_eq!(own["members"][0]["user"], 1, "the caller first");
}

#[tokio::test]
async fn the_list_confirms_nothing_and_is_right_as_soon_as_reading_is_answered() {
    let api = Api::start().await;
    api.sent(1, 2, 2).await;
    for unread in [2, 1, 0] {
        let row = api.get(2, "/v1/conversations").await.json()["conversations"][0].clone();
        assert_eq!(row["unread"], unread);
        let seq = 2 - unread;
        assert_eq!(row["members"][0], json!({"user": 2, "name": "ben", "delivered": seq, "read": seq}));
        let next = format!(r#"{{"seq":{}}}"#, (seq + 1).min(2));
        assert_eq!(api.post(2, "/v1/conversations/dm-1-2/read", &next).await.status, 204);
    }
}

#[tokio::test]
async fn pages_go_from_the_latest_activity_to_the_earliest() {
    let api = Api::start().await;
    for other in [2, 3] {
        api.sent(1, other, 1).await;
    }
    assert_eq!(names(&api.get(1, "/v1/conversations").await.json()), ["dm-1-3", "dm-1-2"]);
    api.sent(2, 1, 1).await;
    let first = api.get(1, "/v1/conversations?limit=1").await.json();
    assert_eq!(names(&first), ["dm-1-2"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let second = api.get(1, &format!("/v1/conversations?limit=1&cursor={cursor}")).await.json();
    assert_eq!((names(&second), &second["next_cursor"]), (vec!["dm-1-3"], &Value::Null));
    let again = api.get(1, &format!("/v1/conversations?cursor={cursor}&unknown=1")).await.json();
    assert_eq!(names(&again), ["dm-1-3"], "a cursor may be used again, and another limit with it");
}

#[tokio::test]
async fn a_damaged_or_foreign_cursor_is_pointed_to() {
    let api = Api::start().await;
    for (from, to) in [(1, 2), (1, 3), (2, 3)] {
        api.sent(from, to, 1).await;
    }
    let page = api.get(1, "/v1/conversations?limit=1").await.json();
    let cursor = page["next_cursor"].as_str().unwrap();
    let with = async |user: i64, cursor: &str| {
        api.get(user, &format!("/v1/conversations?limit=1&cursor={cursor}")).await
    };
    assert_eq!(with(1, cursor).await.status, 200);
    let account = {
        let scope = chatd::domain::CursorScope {
            incarnation: api.server.app.incarnation,
            user: chatd::domain::UserId::new(1).unwrap(),
        };
        scope.encode(&api.server.app.storage.frontier(api.server.app.log_number).await.unwrap())
    };
    let (cut, changed) = (&cursor[..cursor.len() - 2], cursor.replacen(char::is_alphanumeric, "_", 1));
    for (user, bad) in [(2, cursor), (1, cut), (1, changed.as_str()), (1, account.as_str())] {
        let answer = with(user, bad).await;
        assert_eq!((answer.status, answer.field()), (422, ("invalid".into(), "/cursor".into())), "{bad}");
    }
}

#[tokio::test]
async fn a_conversation_of_others_and_one_that_is_not_there_answer_alike() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    let mut answers = Vec::new();
    for conversation in ["dm-1-2", "dm-1-999", "dm-2-3", "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769"] {
        let answer = api.get(3, &format!("/v1/conversations/{conversation}")).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not_found"), "{conversation}");
        answers.push(answer.json()["detail"].clone());
    }
    answers.dedup();
    assert_eq!(answers.len(), 1);
    let unread = api.post(3, "/v1/conversations/dm-1-2/read", r#"{"seq":1}"#).await;
    assert_eq!(unread.problem(), "not_found");
}
