//! Bodies and queries that cannot be taken.

use crate::client::{Answer, Api};
use crate::server::token;

/// What takes a body, and one that it takes.
const BODIES: [(&str, &str, &str); 3] = [
    ("POST", "/v1/messages", r#"{"to":2,"content":"Hi","client_id":"good"}"#),
    ("POST", "/v1/conversations/dm-1-2/read", r#"{"seq":1}"#),
    ("PATCH", "/v1/me", r#"{"name":"Ana"}"#),
];

#[tokio::test]
async fn a_body_is_json_of_bounded_size_and_depth() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    for (method, path, good) in BODIES {
        assert!(api.say(1, method, path, good).await.status < 300);
        for bad in ["", "{", "hello", "{\"a\":1,}", "\u{feff}{}"] {
            let answer = api.say(1, method, path, bad).await;
            assert_eq!((answer.status, answer.problem().as_str()), (400, "bad_json"), "{path} {bad:?}");
        }
        for bad in ["3", "[]", "null", "\"x\""] {
            assert_eq!(api.say(1, method, path, bad).await.problem(), "invalid", "{path} {bad}");
        }
        let with = |more: String| format!("{}{more}}}", good.strip_suffix('}').unwrap());
        let nested = |depth: usize| with(format!(r#","x":{}{}"#, "[".repeat(depth), "]".repeat(depth)));
        assert!(api.say(1, method, path, &nested(31)).await.status < 300, "32 deep, in an unknown field");
        assert_eq!(api.say(1, method, path, &nested(32)).await.problem(), "bad_json", "33 deep");
        assert_eq!(api.say(1, method, path, &nested(30_000)).await.problem(), "bad_json");

        let padded = |bytes: usize| with(" ".repeat(bytes - good.len()));
        assert!(api.say(1, method, path, &padded(65_536)).await.status < 300);
        let large = api.say(1, method, path, &padded(65_537)).await;
        assert_eq!((large.status, large.problem().as_str()), (413, "too_large"));
    }
    for _ in 0..5 {
        let huge = api.post(1, "/v1/messages", &" ".repeat(5_000_000)).await;
        assert_eq!(huge.problem(), "too_large", "told, though the client is still sending");
    }
}

#[tokio::test]
async fn only_plain_json_is_taken() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    for (method, path, good) in BODIES {
        let call = |headers: &[(&'static str, &'static str)]| {
            let request = api.bare(method, path).bearer_auth(token(1)).body(good);
            Answer::of(headers.iter().fold(request, |request, (name, value)| request.header(*name, *value)))
        };
        for good in ["application/json", "application/json; charset=utf-8", "Application/JSON"] {
            assert!(call(&[("content-type", good)]).await.status < 300, "{good}");
        }
        for bad in ["text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""] {
            let answer = call(&[("content-type", bad)]).await;
            assert_eq!((answer.status, answer.problem().as_str()), (415, "unsupported_media_type"), "{bad}");
        }
        assert_eq!(call(&[]).await.problem(), "unsupported_media_type");
        let packed = call(&[("content-type", "application/json"), ("content-encoding", "gzip")]).await;
        assert_eq!(packed.problem(), "unsupported_media_type");
    }
}

#[tokio::test]
async fn a_field_at_fault_is_pointed_to() {
    let api = Api::start().await;
    let cases = [
        (r#"{"content":"x"}"#, "/to"),
        (r#"{"to":"2","content":"x"}"#, "/to"),
        (r#"{"to":1,"content":"x"}"#, "/to"),
        (r#"{"to":2,"conversation":"dm-1-2","content":"x"}"#, "/to"),
        (r#"{"conversation":"dm-2-1","content":"x"}"#, "/conversation"),
        (r#"{"to":2}"#, "/content"),
        (r#"{"to":2,"content":" \u200b"}"#, "/content"),
        (r#"{"to":2,"content":"a\u0000"}"#, "/content"),
        (r#"{"to":2,"content":"x","client_id":"a b"}"#, "/client_id"),
        (r#"{"to":2,"content":"x","data":[]}"#, "/data"),
        (r#"{"to":2,"content":"x","reply_to":"x"}"#, "/reply_to"),
    ];
    for (body, pointer) in cases {
        let answer = api.post(1, "/v1/messages", body).await;
        assert_eq!((answer.status, answer.field()), (422, ("invalid".into(), pointer.into())), "{body}");
    }
    let long = format!(r#"{{"to":2,"content":"{}"}}"#, "x".repeat(16_385));
    let long = api.post(1, "/v1/messages", &long).await;
    assert_eq!((long.status, long.field()), (413, ("too_large".into(), "/content".into())));
    for seq in ["0", "-1", "1.5", "\"1\"", "null", "99"] {
        let answer = api.post(1, "/v1/conversations/dm-1-2/read", &format!(r#"{{"seq":{seq}}}"#)).await;
        assert_eq!(answer.field(), ("invalid".into(), "/seq".into()), "{seq}");
    }
}

#[tokio::test]
async fn a_parameter_at_fault_is_pointed_to() {
    let api = Api::start().await;
    let messages = "/messages?user1=1&user2=2";
    let conversation = "/v1/conversations/dm-1-2";
    let cases = [
        ("/messages".to_owned(), "/user1"),
        ("/messages?user1=1".to_owned(), "/user2"),
        ("/messages?user1=x&user2=2".to_owned(), "/user1"),
        ("/messages?user1=1&user2=1".to_owned(), "/user2"),
        (format!("{messages}&limit=0"), "/limit"),
        (format!("{messages}&limit=101"), "/limit"),
        (format!("{messages}&limit=5&limit=5"), "/limit"),
        (format!("{messages}&offset=10001"), "/offset"),
        (format!("{messages}&offset=-1"), "/offset"),
        (format!("{conversation}/messages?before=0"), "/before"),
        (format!("{conversation}/messages?before=5&after=1"), "/after"),
        (format!("{conversation}/messages?limit=101"), "/limit"),
        (format!("{conversation}/events?after=x"), "/after"),
        (format!("{conversation}/events?after=-1"), "/after"),
        (format!("{conversation}/events?limit="), "/limit"),
        ("/v1/conversations?limit=0".to_owned(), "/limit"),
        ("/v1/conversations?limit=101".to_owned(), "/limit"),
        ("/v1/conversations?limit=2&limit=2".to_owned(), "/limit"),
        ("/v1/conversations?cursor=".to_owned(), "/cursor"),
        ("/v1/conversations?cursor=nonsense".to_owned(), "/cursor"),
        ("/v1/conversations?cursor=a&cursor=a".to_owned(), "/cursor"),
        ("/v1/conversations/dm-2-1".to_owned(), "/conversation"),
        ("/v1/users".to_owned(), "/query"),
        ("/v1/users?query=".to_owned(), "/query"),
        ("/v1/users?query=an".to_owned(), "/query"),
        ("/v1/users?query=ana&query=ana".to_owned(), "/query"),
        (format!("/v1/users?query={}", "a".repeat(1_025)), "/query"),
        ("/v1/users/ana".to_owned(), "/user"),
        ("/v1/users/0".to_owned(), "/user"),
        ("/v1/users/%22x%22".to_owned(), "/user"),
        ("/v1/conversations/dm-2-1/messages".to_owned(), "/conversation"),
        ("/v1/conversations/dm-01-2/events".to_owned(), "/conversation"),
        ("/v1/conversations/nonsense/messages".to_owned(), "/conversation"),
    ];
    for (path, pointer) in cases {
        let answer = api.get(1, &path).await;
        assert_eq!((answer.status, answer.field()), (422, ("invalid".into(), pointer.into())), "{path}");
    }
    assert_eq!(api.get(1, &format!("{messages}&unknown=1&unknown=2")).await.status, 200);
}
