//! The directory, and what one says of oneself.

use serde_json::{Value, json};

use crate::client::{Answer, Api};
use crate::server::{sign, token};

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[tokio::test]
async fn somebody_is_a_number_a_name_and_perhaps_an_external_id() {
    let api = Api::start().await;
    assert_eq!(api.get(1, "/v1/users/2").await.json(), json!({"id": 2, "name": "ben"}));
    assert_eq!(api.get(1, "/v1/users/1").await.json(), json!({"id": 1, "name": "ana"}));
    let eva = sign(&json!({"sub": "eva/1 50%2F", "name": "Éva"}));
    let me = Answer::of(api.bare("GET", "/v1/me").bearer_auth(&eva)).await.json();
    let expected = json!({"id": me["id"], "external_id": "eva/1 50%2F", "name": "Éva"});
    let by = async |path: String| api.get(1, &path).await;
    assert_eq!(by(format!("/v1/users/{}", me["id"])).await.json(), expected);
    let named = |id: &str| format!("/v1/users/{}", encoded(&json!({"external_id": id}).to_string()));
    assert_eq!(by(named("eva/1 50%2F")).await.json(), expected, "of the caller's issuer, which is none");
    let foreign = sign(&json!({"sub": "x", "iss": "https://other.example.test"}));
    let elsewhere = Answer::of(api.bare("GET", &named("eva/1 50%2F")).bearer_auth(&foreign)).await;
    assert_eq!(elsewhere.problem(), "not_found", "another issuer's the same id is somebody else");
    for nobody in ["/v1/users/999".to_owned(), named("nobody")] {
        let answer = by(nobody).await;
        assert_eq!((answer.status, answer.problem().as_str()), (404, "not_found"));
        assert_eq!(answer.json()["detail"], "no such user");
    }
}

#[tokio::test]
async fn people_are_found_by_name_and_never_by_address() {
    let api = Api::start().await;
    let found = async |query: &str| {
        let json = api.get(1, &format!("/v1/users?query={}", encoded(query))).await.json();
        let users = json["users"].as_array().unwrap().clone();
        users.iter().map(|user| user["id"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    for query in ["ana", "ANA", "ａｎａ", " ana"] {
        assert_eq!(found(query).await, [1], "{query}");
    }
    for query in ["ana@example.test", "bana", "@example", "example.test", "%%%"] {
        assert_eq!(found(query).await, [0; 0], "{query}");
    }
    let json = api.get(1, "/v1/users?query=ben&unknown=1").await.json();
    assert_eq!(json, json!({"users": [{"id": 2, "name": "ben"}]}));
    for id in 100..125 {
        let many = sign(&json!({"userId": id, "name": format!("Many {id}")}));
        assert_eq!(Answer::of(api.bare("GET", "/v1/me").bearer_auth(many)).await.status, 200);
    }
    assert_eq!(found("many").await, (100..120).collect::<Vec<_>>(), "20 at most");
}

#[tokio::test]
async fn a_changed_profile_is_seen_at_once() {
    let api = Api::start().await;
    let me = api.get(1, "/v1/me").await.json();
    let mut expected = json!({"id": 1, "name": "ana", "email": "ana@example.test", "time_zone": null, "language": null, "presence": "everyone"});
    assert_eq!(me, expected);
    api.get(2, "/v1/users/1").await;
    let changed = api
        .say(
            1,
            "PATCH",
            "/v1/me",
            r#"{"name":" Anna-Ｌ ","time_zone":"Europe/Berlin","language":"de","presence":"shared"}"#,
        )
        .await;
    expected["name"] = json!("Anna-Ｌ");
    expected["time_zone"] = json!("Europe/Berlin");
    expected["language"] = json!("de");
    expected["presence"] = json!("shared");
    assert_eq!((changed.status, changed.json()), (200, expected.clone()));
    assert_eq!(api.get(1, "/v1/me").await.json(), expected);
    assert_eq!(api.get(2, "/v1/users/1").await.json()["name"], "Anna-Ｌ");
    assert_eq!(api.get(2, "/v1/users?query=anna-l").await.json()["users"][0]["id"], 1);
    assert_eq!(api.get(2, "/v1/users?query=ana").await.json(), json!({"users": []}));
    for same in
        ["{}", r#"{"name":null,"time_zone":null,"language":null,"presence":null,"email":null,"unknown":[1]}"#]
    {
        assert_eq!(api.say(1, "PATCH", "/v1/me", same).await.json(), expected, "{same}");
    }
    api.sent(1, 2, 1).await;
    let list = api.get(2, "/v1/conversations").await.json();
    assert_eq!(list["conversations"][0]["members"][1]["name"], "Anna-Ｌ");
}

#[tokio::test]
async fn who_came_with_an_external_id_changes_too() {
    let api = Api::start().await;
    let eva = sign(&json!({"sub": "eva", "name": "Eva"}));
    let me = async || -> Value { Answer::of(api.bare("GET", "/v1/me").bearer_auth(&eva)).await.json() };
    assert_eq!(me().await["name"], "Eva");
    let change = api.bare("PATCH", "/v1/me").bearer_auth(&eva).header("content-type", "application/json");
    assert_eq!(Answer::of(change.body(r#"{"name":"Evi"}"#)).await.status, 200);
    let now = me().await;
    assert_eq!((&now["name"], &now["external_id"]), (&json!("Evi"), &json!("eva")));
    assert_eq!(api.get(1, &format!("/v1/users/{}", now["id"])).await.json()["name"], "Evi");
}

#[tokio::test]
async fn a_profile_field_at_fault_is_pointed_to_and_nothing_changes() {
    let api = Api::start().await;
    let cases = [
        (r#"{"name":""}"#, "/name"),
        (r#"{"name":"  "}"#, "/name"),
        (r#"{"name":5}"#, "/name"),
        (r#"{"name":"a\nb"}"#, "/name"),
        (r#"{"name":"a\u202eb"}"#, "/name"),
        (r#"{"name":"X","time_zone":"nonsense"}"#, "/time_zone"),
        (r#"{"name":"X","time_zone":""}"#, "/time_zone"),
        (r#"{"name":"X","language":"german!"}"#, "/language"),
        (r#"{"name":"X","language":["de"]}"#, "/language"),
        (r#"{"name":"X","email":"x@example.test"}"#, "/email"),
        (r#"{"name":"X","presence":"friends"}"#, "/presence"),
        (r#"{"name":"X","notify":{"email":"off"}}"#, "/notify"),
    ];
    for (body, pointer) in cases {
        let answer = api.say(1, "PATCH", "/v1/me", body).await;
        assert_eq!((answer.status, answer.field()), (422, ("invalid".into(), pointer.into())), "{body}");
    }
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(65));
    assert_eq!(api.say(1, "PATCH", "/v1/me", &long).await.field().1, "/name");
    assert_eq!(api.get(1, "/v1/me").await.json()["name"], "ana");
    let query = Answer::of(api.bare("PATCH", "/v1/me").bearer_auth(token(1)).body("{}")).await;
    assert_eq!(query.problem(), "unsupported_media_type");
}
