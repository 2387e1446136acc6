//! Credentials: four ways to present one, their order, and what a bad one is told.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chatd::cli::bench::client::ClientError;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::opening::refused;
use crate::peer::{Host, Peer, person};
use crate::support::{SECRET, sign, token};

fn plain(host: &Host, query: &str) -> String {
    format!("ws://{}/ws{query}", host.server.address)
}

async fn ticket(host: &Host, user: i64) -> String {
    let request = reqwest::Client::new().post(host.server.http("/v1/auth/tickets"));
    let answer = request.bearer_auth(token(user)).send().await.unwrap();
    assert_eq!(answer.status(), 201);
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["expires_in"], 30);
    body["ticket"].as_str().unwrap().to_owned()
}

async fn who(url: &str, headers: &[(&str, &str)]) -> i64 {
    Peer::connect(url, headers).await.unwrap_or_else(|error| panic!("{error}")).user
}

fn seconds(from_now: i64) -> i64 {
    jiff::Timestamp::now().as_second() + from_now
}

#[tokio::test]
async fn each_of_the_four_ways_opens_a_socket() {
    let host = Host::shared();
    let user = person();
    let token = token(user);
    assert_eq!(who(&plain(&host, ""), &[("Authorization", &format!("Bearer {token}"))]).await, user);
    let protocols = format!("chatd.v1, bearer.{token}");
    assert_eq!(who(&plain(&host, ""), &[("Sec-WebSocket-Protocol", &protocols)]).await, user);
    assert_eq!(who(&plain(&host, &format!("?ticket={}", ticket(&host, user).await)), &[]).await, user);
    assert_eq!(who(&plain(&host, &format!("?token={token}")), &[]).await, user);
}

#[tokio::test]
async fn the_first_credential_present_decides() {
    let host = Host::shared();
    let users = [person(), person(), person(), person()];
    let header = format!("Bearer {}", token(users[0]));
    let protocols = format!("chatd.v1, bearer.{}", token(users[1]));
    let headers = [("Authorization", header.as_str()), ("Sec-WebSocket-Protocol", protocols.as_str())];
    let query = async || format!("?token={}&ticket={}", token(users[3]), ticket(&host, users[2]).await);
    assert_eq!(who(&plain(&host, &query().await), &headers).await, users[0]);
    assert_eq!(who(&plain(&host, &query().await), &headers[1..]).await, users[1]);
    assert_eq!(who(&plain(&host, &query().await), &[]).await, users[2]);
    assert_eq!(who(&plain(&host, &format!("?token={}", token(users[3]))), &[]).await, users[3]);
}

#[tokio::test]
async fn a_bad_credential_is_not_passed_over_for_a_good_one_behind_it() {
    let host = Host::shared();
    let good = plain(&host, &format!("?token={}", token(person())));
    for header in [("Authorization", "Bearer bad"), ("Sec-WebSocket-Protocol", "chatd.v1, bearer.bad")] {
        assert_eq!(refused(&good, &[header]).await.0, 401, "{header:?}");
    }
    let used = format!("{good}&ticket=never-made");
    assert_eq!(refused(&used, &[]).await.0, 401);
}

#[tokio::test]
async fn a_ticket_opens_one_socket() {
    let host = Host::shared();
    let user = person();
    let url = plain(&host, &format!("?ticket={}", ticket(&host, user).await));
    assert_eq!(who(&url, &[]).await, user);
    let (status, _, problem) = refused(&url, &[]).await;
    assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")));
}

#[tokio::test]
async fn the_body_of_a_refusal_says_what_is_wrong_with_the_token() {
    let host = Host::shared();
    let claims = json!({"userId": person()});
    let signed = |algorithm, key: &[u8]| {
        jsonwebtoken::encode(&Header::new(algorithm), &claims, &EncodingKey::from_secret(key)).unwrap()
    };
    let encoded = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let good = token(person());
    let unsigned = |algorithm: &str| {
        let header = encoded(json!({"alg": algorithm, "typ": "JWT"}));
        let (_, signature) = good.rsplit_once('.').unwrap();
        (
            format!("{header}.{}.", encoded(claims.clone())),
            format!("{header}.{}.{signature}", encoded(claims.clone())),
        )
    };
    let table = [
        (sign(&json!({"userId": 7, "exp": seconds(-60)})), "expired"),
        (sign(&json!({"userId": 7, "nbf": seconds(60)})), "not valid yet"),
        (sign(&json!({"userId": 1_i64 << 40})), "userId"),
        (sign(&json!({"userId": -1})), "userId"),
        (sign(&json!({"userId": 1.5})), "userId"),
        (sign(&json!({"name": "nobody"})), "names nobody"),
        (signed(Algorithm::HS256, b"another key"), "signature"),
        (unsigned("none").0, "algorithm"),
        (unsigned("none").1, "algorithm"),
        (unsigned("RS256").1, "algorithm"),
        (unsigned("HS999").1, "algorithm"),
        (format!("{good}x"), ""),
        ("a.b.c".into(), ""),
        ("bad".into(), ""),
    ];
    for (token, word) in table {
        let (status, head, problem) = refused(&host.server.ws(&token), &[]).await;
        assert_eq!(
            (status, &problem["status"], &problem["code"]),
            (401, &json!(401), &json!("unauthorized"))
        );
        assert!(problem["detail"].as_str().unwrap().contains(word), "{word}: {problem}");
        assert!(problem["type"].is_string() && problem["title"].is_string(), "{problem}");
        assert!(head.contains("content-type: application/problem+json\r\n"), "{head}");
        assert!(head.contains("\r\nwww-authenticate: bearer"), "{head}");
        let id = problem["request_id"].as_str().unwrap();
        assert!(head.contains(&format!("x-request-id: {id}\r\n")), "{head}");
    }
}

#[tokio::test]
async fn without_a_token_no_socket_opens() {
    let host = Host::shared();
    for (query, headers) in [
        ("", &[][..]),
        ("?token=", &[]),
        ("?ticket=", &[]),
        ("", &[("Sec-WebSocket-Protocol", "chatd.v1")]),
        ("", &[("Authorization", "Basic dTpw")]),
    ] {
        let (status, head, problem) = refused(&plain(&host, query), headers).await;
        assert_eq!((status, &problem["code"]), (401, &json!("unauthorized")), "{query} {headers:?}");
        assert!(head.contains("www-authenticate: bearer"), "{head}");
    }
}

#[tokio::test]
async fn every_hmac_family_of_the_secret_is_taken() {
    let host = Host::shared();
    for algorithm in [Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] {
        let user = person();
        let claims = json!({"userId": user.to_string(), "exp": seconds(60)});
        let key = EncodingKey::from_secret(SECRET.as_bytes());
        let token = jsonwebtoken::encode(&Header::new(algorithm), &claims, &key).unwrap();
        assert_eq!(who(&host.server.ws(&token), &[]).await, user, "{algorithm:?}");
    }
}

#[tokio::test]
async fn where_expiry_and_known_users_are_asked_for_other_tokens_are_refused() {
    let host = Host::with(&[("CHATD_AUTH__REQUIRE_EXPIRY", "true"), ("CHATD_AUTH__PROVISION", "reject")]);
    let eternal = sign(&json!({"userId": 1001}));
    assert_eq!(refused(&host.server.ws(&eternal), &[]).await.0, 401);
    let unknown = sign(&json!({"userId": 77, "exp": seconds(60)}));
    assert_eq!(refused(&host.server.ws(&unknown), &[]).await.0, 401);
    let known = sign(&json!({"userId": 1001, "exp": seconds(60)}));
    assert_eq!(who(&host.server.ws(&known), &[]).await, 1001);
}

#[tokio::test]
async fn no_token_and_no_content_reaches_the_log() {
    let folder = tempfile::tempdir().unwrap();
    let log = crate::support::Log::default();
    let setup = crate::support::Setup::new(folder.path()).env("RUST_LOG", "trace").log_to(&log);
    let server = setup.start();
    let mut peer = Peer::connect(&server.ws(&token(7)), &[]).await.unwrap();
    peer.ask(json!({"type": "auth", "token": token(7)})).await;
    peer.ask(json!({"type": "send", "to": 1001, "content": "a very private text"})).await;
    let refusal = Peer::connect(&server.ws("bad-token-text"), &[]).await.err().unwrap();
    assert!(matches!(refusal, ClientError::Refused { status: 401, .. }));
    let mut server = server;
    server.signal("TERM");
    assert!(server.wait(crate::peer::PATIENCE).is_some_and(|status| status.success()));
    let log = log.lock().unwrap();
    assert!(!log.is_empty());
    let (_, signature) = token(7).rsplit_once('.').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap();
    for secret in [signature.as_str(), "a very private text", "bad-token-text", SECRET] {
        let at = log.find(secret);
        assert!(at.is_none(), "{}", &log[at.unwrap_or(0).saturating_sub(300)..][..600.min(log.len())]);
    }
}
