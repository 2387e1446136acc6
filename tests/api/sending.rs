//! Sending by REST, the own account, tickets.

use serde_json::json;

use crate::client::{Answer, Api};
use crate::server::{now, sign, token};

#[tokio::test]
async fn a_sent_message_is_accepted_and_a_retry_is_the_same_one() {
    let api = Api::start().await;
    let body = r#"{"to":2,"content":"Hi","client_id":"c1"}"#;
    let first = api.post(1, "/v1/messages", body).await;
    assert_eq!(first.status, 202);
    let first = first.json();
    assert_eq!((&first["type"], &first["client_id"]), (&json!("accepted"), &json!("c1")));
    assert_eq!(first["conversation"], "dm-1-2");
    assert_eq!(first.get("ref"), None);
    let again = api.post(1, "/v1/messages", body).await.json();
    assert_eq!((&again["id"], &again["at"]), (&first["id"], &first["at"]));
    let by_conversation = r#"{"conversation":"dm-1-2","content":"Hi","client_id":"c1"}"#;
    assert_eq!(api.post(1, "/v1/messages", by_conversation).await.json()["id"], first["id"]);
    let other = api.post(1, "/v1/messages", r#"{"to":2,"content":"Ho","client_id":"c1"}"#).await;
    assert_eq!((other.status, other.field()), (409, ("client_id_reused".into(), "/client_id".into())));
    let made = api.post(1, "/v1/messages", r#"{"to":2,"content":"Hi"}"#).await.json();
    assert_ne!(made["id"], first["id"]);
    assert!(!made["client_id"].as_str().unwrap().is_empty());
}

#[tokio::test]
async fn an_idempotency_key_is_a_client_id() {
    let api = Api::start().await;
    let call = |body: &'static str, keys: &[&'static str]| {
        let request = api.bare("POST", "/v1/messages").bearer_auth(token(1));
        let request = request.header("content-type", "application/json").body(body);
        Answer::of(keys.iter().fold(request, |request, key| request.header("idempotency-key", *key)))
    };
    let body = r#"{"to":2,"content":"Hi"}"#;
    let named = r#"{"to":2,"content":"Hi","client_id":"k1"}"#;
    let first = call(body, &["k1"]).await;
    assert_eq!((first.status, &first.json()["client_id"]), (202, &json!("k1")));
    for (body, keys) in [(body, ["k1"]), (named, ["k1"])] {
        assert_eq!(call(body, &keys).await.json()["id"], first.json()["id"]);
    }
    assert_eq!(call(named, &["k2"]).await.field(), ("invalid".into(), "/client_id".into()));
    for bad in ["", "a b", "\"k1\"", "ä"] {
        assert_eq!(call(body, &[bad]).await.field(), ("invalid".into(), "/client_id".into()), "{bad}");
    }
    assert_eq!(call(body, &["k1", "k2"]).await.field(), ("invalid".into(), "/client_id".into()));
}

#[tokio::test]
async fn nobody_writes_to_nobody_or_into_a_foreign_conversation() {
    let api = Api::start().await;
    let unknown = api.post(1, "/v1/messages", r#"{"to":999,"content":"x"}"#).await;
    assert_eq!((unknown.status, unknown.problem().as_str()), (404, "unknown_recipient"));
    let external = api.post(1, "/v1/messages", r#"{"to":{"external_id":"no"},"content":"x"}"#).await;
    assert_eq!(external.problem(), "unknown_recipient");
    for foreign in ["dm-2-3", "grp-9c576241-b6d9-8ea7-83d0-7c71fe5af769"] {
        let body = format!(r#"{{"conversation":"{foreign}","content":"x"}}"#);
        assert_eq!(api.post(1, "/v1/messages", &body).await.problem(), "not_found", "{foreign}");
    }
}

#[tokio::test]
async fn a_caller_learns_who_they_are() {
    let api = Api::start().await;
    let me = api.get(1, "/v1/me").await.json();
    let expected = |id: i64, name: &str, email: Option<&str>| json!({"id": id, "name": name, "email": email, "time_zone": null, "language": null, "presence": "everyone"});
    assert_eq!(me, expected(1, "ana", Some("ana@example.test")));
    let new = sign(&json!({"userId": 77, "name": "gargi"}));
    let new = Answer::of(api.bare("GET", "/v1/me").bearer_auth(new)).await.json();
    assert_eq!(new, expected(77, "gargi", None));
}

#[tokio::test]
async fn a_ticket_stands_for_its_caller_once() {
    let api = Api::start().await;
    let answer = Answer::of(api.bare("POST", "/v1/auth/tickets").bearer_auth(token(1))).await;
    assert_eq!((answer.status, &answer.json()["expires_in"]), (201, &json!(30)));
    let ticket = answer.json()["ticket"].as_str().unwrap().to_owned();
    let claims = api.server.app.tickets.redeem(&ticket).await.unwrap().unwrap();
    assert_eq!(claims.subject, chatd::domain::Subject::Id(chatd::domain::UserId::new(1).unwrap()));
    assert_eq!(api.server.app.tickets.redeem(&ticket).await.unwrap(), None);
    let short = sign(&json!({"userId": 1, "exp": now() + 2}));
    let short = Answer::of(api.bare("POST", "/v1/auth/tickets").bearer_auth(short)).await.json();
    assert!(short["expires_in"].as_u64().unwrap() <= 7, "no longer than its token and 5 s of leeway");
}
