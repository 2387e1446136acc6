//! What every answer has, and who gets which error.

use chatd::http::{HttpSettings, Surface, endpoints};
use serde_json::json;

use crate::client::{Answer, Api};
use crate::server::{now, sign, token};

/// Method, path and body of every request that needs a token.
const PROTECTED: [(&str, &str, &str); 16] = [
    ("GET", "/messages?user1=1&user2=2", ""),
    ("GET", "/v1/me", ""),
    ("PATCH", "/v1/me", r#"{"name":"Ana"}"#),
    ("GET", "/v1/users?query=ana", ""),
    ("GET", "/v1/users/2", ""),
    ("GET", "/v1/users/2/presence", ""),
    ("GET", "/v1/conversations", ""),
    ("GET", "/v1/conversations/dm-1-2", ""),
    ("GET", "/v1/conversations/dm-1-2/messages", ""),
    ("GET", "/v1/conversations/dm-1-2/events", ""),
    ("POST", "/v1/conversations/dm-1-2/read", r#"{"seq":1}"#),
    ("POST", "/v1/messages", r#"{"to":2,"content":"Hi"}"#),
    ("POST", "/v1/auth/tickets", ""),
    ("HEAD", "/v1/me", ""),
    ("HEAD", "/v1/conversations", ""),
    ("HEAD", "/v1/users/2", ""),
];

const OPEN: [&str; 8] =
    ["/", "/health", "/livez", "/healthz", "/ready", "/readyz", "/openapi.json", "/metrics"];

/// A path that such an endpoint has.
fn sample(path: &str) -> String {
    path.replace("{id}", "dm-1-2").replace("{user}", "2")
}

#[test]
fn every_request_that_there_is_is_asked_for_here() {
    for endpoint in endpoints(Surface::Public) {
        let path = sample(endpoint.path());
        // Without Upgrade it is an error for everybody; sockets have tests of their own.
        if OPEN.contains(&path.as_str()) || path == "/ws" {
            continue;
        }
        for method in endpoint.methods().iter().filter(|method| **method != "HEAD") {
            let is_asked = |(asked, at, _): &(&str, &str, &str)| {
                asked == method && at.split('?').next() == Some(path.as_str())
            };
            assert!(PROTECTED.iter().any(is_asked), "{method} {path}");
        }
    }
}

fn open_everything() -> HttpSettings {
    let metrics: chatd::http::Metrics = std::sync::Arc::new(|| "chatd_up 1\n".to_owned());
    HttpSettings { metrics: Some(metrics), details: true, ..HttpSettings::closed() }
}

#[tokio::test]
async fn every_protected_path_asks_for_a_token() {
    let api = Api::start().await;
    api.sent(1, 2, 1).await;
    let expired = sign(&json!({"userId": 1, "exp": now() - 60}));
    for (method, path, body) in PROTECTED {
        let call = |authorization: Option<String>| {
            let mut request = api.bare(method, path);
            if !body.is_empty() {
                request = request.header("content-type", "application/json").body(body);
            }
            if let Some(value) = authorization {
                request = request.header("authorization", value);
            }
            Answer::of(request)
        };
        let none = call(None).await;
        assert_eq!((none.status, none.header("www-authenticate")), (401, Some("Bearer")), "{path}");
        for bad in ["Bearer x", "Basic dTpw", "Bearer", &format!("Bearer {expired}")] {
            let answer = call(Some(bad.to_owned())).await;
            let challenge = answer.header("www-authenticate");
            assert_eq!((answer.status, challenge), (401, Some(r#"Bearer error="invalid_token""#)), "{bad}");
            if method != "HEAD" {
                assert_eq!(answer.problem(), "unauthorized");
            }
        }
        let good = call(Some(format!("Bearer {}", token(1)))).await;
        assert!((200..300).contains(&good.status), "{path} {good:?}");
    }
    let twice = api.bare("GET", "/v1/me").header("authorization", format!("Bearer {}", token(1)));
    let twice = Answer::of(twice.header("authorization", format!("Bearer {}", token(2)))).await;
    assert_eq!(twice.problem(), "unauthorized");
    let query = Answer::of(api.bare("GET", &format!("/v1/me?token={}", token(1)))).await;
    assert_eq!(query.problem(), "unauthorized", "REST takes a token in the header only");
}

#[tokio::test]
async fn a_bad_token_is_told_before_anything_else_is_wrong() {
    let api = Api::start().await;
    let query = Answer::of(api.bare("GET", "/messages?limit=x")).await;
    assert_eq!(query.problem(), "unauthorized");
    for path in ["/v1/conversations/x/messages", "/v1/conversations?limit=x", "/v1/users", "/v1/users/x"] {
        assert_eq!(Answer::of(api.bare("GET", path)).await.problem(), "unauthorized", "{path}");
    }
    let body = Answer::of(api.bare("POST", "/v1/messages").body("x")).await;
    assert_eq!(body.problem(), "unauthorized");
}

#[tokio::test]
async fn every_answer_has_an_id_and_is_kept_by_nobody() {
    let api = Api::with(open_everything()).await;
    for path in OPEN {
        let answer = Answer::of(api.bare("GET", path).header("x-request-id", "mine-1.a_B")).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (200, Some("mine-1.a_B")), "{path}");
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"), "{path}");
        assert_eq!(answer.header("cache-control"), Some("no-store"), "{path}");
    }
    let insane = Answer::of(api.bare("GET", "/nowhere").header("x-request-id", "a b\"")).await;
    assert_eq!(insane.problem(), "not_found");
    assert_eq!(insane.header("x-request-id").unwrap().len(), 32);
    assert_eq!(insane.header("cache-control"), Some("no-store"));
}

#[tokio::test]
async fn a_path_or_method_that_is_not_there_says_so() {
    let api = Api::start().await;
    for path in [
        "/dev",
        "/messages/",
        "/v1",
        "/v1/nothing",
        "/v1/conversations/",
        "/v1/users/1/x",
        "//",
        "/%ff",
        "/metrics",
    ] {
        assert_eq!(Answer::of(api.bare("GET", path)).await.problem(), "not_found", "{path}");
    }
    for endpoint in endpoints(Surface::Public) {
        let path = sample(endpoint.path());
        for method in ["PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "GET", "POST"] {
            if endpoint.methods().contains(&method) {
                continue;
            }
            let answer = Answer::of(api.bare(method, &path)).await;
            assert_eq!(answer.problem(), "method_not_allowed", "{method} {path}");
            assert_eq!(answer.header("allow"), Some(endpoint.methods().join(", ").as_str()));
        }
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let api = Api::start().await;
    let (get, head) = (api.bare("GET", "/health"), api.bare("HEAD", "/health"));
    let (get, head) = (Answer::of(get).await, Answer::of(head).await);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    assert_eq!(get.header("content-type"), head.header("content-type"));
}

#[tokio::test]
async fn only_listed_origins_may_call_and_never_with_credentials() {
    let origin = "https://chat.example.test";
    let api =
        Api::with(HttpSettings { allowed_origins: vec![origin.into()], ..HttpSettings::closed() }).await;
    let preflight = |from: &str| {
        let request = api.bare("OPTIONS", "/v1/messages").header("origin", from);
        let request = request.header("access-control-request-method", "POST");
        Answer::of(
            request.header("access-control-request-headers", "authorization,content-type,idempotency-key"),
        )
    };
    let listed = preflight(origin).await;
    assert_eq!((listed.status, listed.header("access-control-allow-origin")), (200, Some(origin)));
    assert_eq!(listed.header("access-control-allow-credentials"), None);
    assert!(listed.header("x-request-id").is_some());
    assert_eq!(preflight("https://evil.test").await.problem(), "forbidden");
    assert_eq!(preflight("null").await.problem(), "forbidden");

    let call = |from: &str| Answer::of(api.bare("GET", "/v1/me").header("origin", from));
    let listed = call(origin).await;
    assert_eq!(listed.problem(), "unauthorized");
    assert_eq!(listed.header("access-control-allow-origin"), Some(origin), "pages may read errors too");
    assert!(listed.header("access-control-expose-headers").unwrap().contains("x-request-id"));
    assert_eq!(call("https://evil.test").await.header("access-control-allow-origin"), None);
}
