//! Opening a socket: paths, origins, parameters, and the first frame.

use chatd::cli::bench::client::{Client, ClientError};
use chatd::cli::bench::frame::{self, FrameReader};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::peer::{Host, PATIENCE, Peer, person, send};
use crate::support::{sign, token};

/// A refused handshake: status, head in lower case, body.
pub async fn refused(url: &str, headers: &[(&str, &str)]) -> (u16, String, Value) {
    match Client::connect(url, headers).await {
        Err(ClientError::Refused { status, head, body }) => {
            let body = serde_json::from_str(&body).unwrap_or_else(|_| panic!("no JSON: {body}"));
            (status, head.to_lowercase(), body)
        }
        other => panic!("not refused: {other:?}"),
    }
}

/// The head of the answer to a handshake with these header lines, in lower case.
pub async fn head(address: &str, path: &str, lines: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n{lines}\r\n");
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    while !bytes.ends_with(b"\r\n\r\n") {
        bytes.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(bytes).unwrap().to_lowercase()
}

const UPGRADE: &str = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

#[tokio::test]
async fn hello_says_who_one_is_and_what_holds_here() {
    let host = Host::shared();
    let user = person();
    let (one, two) = (host.open(user).await, host.open(user).await);
    let hello = &one.hello;
    assert_eq!(hello["user"], json!({"id": user, "name": format!("user{user}")}));
    assert_eq!(hello["heartbeat_ms"], 25_000);
    let limits = json!({"message_bytes": 65_536, "content_bytes": 16_384, "data_bytes": 4_096});
    assert_eq!(hello["limits"], limits);
    assert_eq!(hello["node"], two.hello["node"]);
    assert_ne!(hello["session"], two.hello["session"]);
}

#[tokio::test]
async fn hello_has_the_id_that_the_host_application_knows() {
    let host = Host::shared();
    let name = format!("ana-{}", person());
    let open = async || {
        let token = sign(&json!({"sub": name, "name": "Ana"}));
        Peer::connect(&host.server.ws(&token), &[]).await.unwrap().hello["user"].take()
    };
    let user = open().await;
    assert_eq!((&user["external_id"], &user["name"]), (&json!(name), &json!("Ana")));
    assert!(user["id"].as_i64().unwrap() >= 1 << 40, "made by chatd itself");
    assert_eq!(open().await["id"], user["id"], "the same the next time");
}

#[tokio::test]
async fn a_later_token_fills_an_empty_name_and_replaces_none() {
    let host = Host::shared();
    let user = person();
    let name = async |claims: Value| {
        let peer = Peer::connect(&host.server.ws(&sign(&claims)), &[]).await.unwrap();
        peer.hello["user"]["name"].as_str().unwrap().to_owned()
    };
    assert_eq!(name(json!({"userId": user})).await, "");
    assert_eq!(name(json!({"userId": user, "name": "first"})).await, "first");
    assert_eq!(name(json!({"userId": user, "name": "second"})).await, "first");
}

#[tokio::test]
async fn both_paths_open_a_socket_as_the_old_url_does() {
    let host = Host::shared();
    let address = &host.server.address;
    for path in ["", "/", "/ws"] {
        let user = person();
        let peer = Peer::connect(&format!("ws://{address}{path}?token={}", token(user)), &[]).await.unwrap();
        assert_eq!(peer.user, user, "{path}");
    }
    let (status, ..) = refused(&format!("ws://{address}/elsewhere?token={}", token(person())), &[]).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn what_is_sent_with_the_handshake_is_answered_like_anything_else() {
    let host = Host::shared();
    let (user, other) = host.strangers().await;
    let mut sent = format!("GET /ws?token={} HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n", token(user)).into_bytes();
    let numbers = 0..100;
    for number in numbers.clone() {
        let send = send(other, &"early ".repeat(100), &format!("early-{number}")).to_string();
        frame::encode(&mut sent, frame::TEXT, send.as_bytes(), [1, 2, 3, 4]);
    }
    let mut stream = tokio::net::TcpStream::connect(&host.server.address).await.unwrap();
    let writing = stream.write_all(&sent);
    tokio::time::timeout(PATIENCE, writing).await.unwrap().unwrap();
    let mut frames = FrameReader::default();
    while !frames.buffer().ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap();
        frames.buffer().push(byte);
    }
    assert!(frames.buffer().starts_with(b"HTTP/1.1 101 "));
    frames.buffer().clear();
    let mut told = Vec::new();
    let reading = async {
        loop {
            while let Some(frame) = frames.next_frame().unwrap() {
                if frame.opcode == frame::TEXT {
                    told.push(serde_json::from_slice::<Value>(frame.payload).unwrap());
                }
            }
            if told.iter().filter(|told| told["type"] == "accepted").count() >= numbers.len() {
                break;
            }
            assert!(stream.read_buf(frames.buffer()).await.unwrap() > 0, "{told:?}");
        }
    };
    tokio::time::timeout(PATIENCE, reading).await.expect("not all were answered");
    assert_eq!(told[0]["type"], "hello");
    let accepted =
        told.iter().filter(|told| told["type"] == "accepted").map(|told| told["client_id"].clone());
    let expected = numbers.map(|number| json!(format!("early-{number}")));
    assert!(accepted.eq(expected), "each once, in order");
}

#[tokio::test]
async fn a_refused_handshake_is_an_answer_of_http_whatever_was_sent_behind_it() {
    let host = Host::shared();
    let request = format!("GET /ws?token=bad HTTP/1.1\r\nHost: x\r\n{UPGRADE}\r\n");
    let mut stream = tokio::net::TcpStream::connect(&host.server.address).await.unwrap();
    stream.write_all(&[request.as_bytes(), &[0; 100_000]].concat()).await.unwrap();
    let mut answer = Vec::new();
    tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    assert!(answer.contains("application/problem+json") && answer.contains("x-request-id"), "{answer}");
}

#[tokio::test]
async fn a_browser_may_come_from_the_servers_own_address_and_from_allowed_origins_only() {
    let host = Host::with(&[("CHATD_HTTP__ALLOWED_ORIGINS", "https://app.example.test")]);
    let url = host.server.ws(&token(person()));
    let port = host.server.address.rsplit(':').next().unwrap();
    let own = [format!("http://localhost:{port}"), format!("http://127.0.0.1:{port}")];
    for origin in own.iter().map(String::as_str).chain(["https://app.example.test"]) {
        Peer::connect(&url, &[("Origin", origin)]).await.unwrap();
    }
    for origin in ["null", "http://localhost", "https://evil.test", "https://app.example.test.evil.test", "*"]
    {
        let (status, _, problem) = refused(&url, &[("Origin", origin)]).await;
        assert_eq!((status, &problem["code"]), (403, &json!("forbidden")), "{origin}");
    }
}

#[tokio::test]
async fn a_foreign_page_learns_nothing_about_its_token() {
    let host = Host::shared();
    let (status, ..) = refused(&host.server.ws("bad"), &[("Origin", "https://evil.test")]).await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn parameters_keep_to_their_form() {
    let host = Host::shared();
    let user = person();
    for (query, field) in [("&device=", "/device"), ("&acks=pong", "/acks"), ("&acks=", "/acks")] {
        let (status, _, problem) = refused(&format!("{}{query}", host.server.ws(&token(user))), &[]).await;
        assert_eq!((status, &problem["code"]), (422, &json!("invalid")), "{query}");
        assert_eq!(problem["errors"][0]["pointer"], field, "{query}");
    }
    let device = |length: usize| format!("&device={}", "%C3%A4".repeat(length));
    host.open_with(user, &device(64)).await;
    let (status, ..) = refused(&format!("{}{}", host.server.ws(&token(user)), device(65)), &[]).await;
    assert_eq!(status, 422);
    host.open_with(user, "&acks=app&unknown=ignored").await;
}

#[tokio::test]
async fn the_subprotocol_is_answered_and_no_extension_is() {
    let host = Host::shared();
    let token = token(person());
    let offers = format!(
        "{UPGRADE}Sec-WebSocket-Protocol: chatd.v1, bearer.{token}\r\n\
         Sec-WebSocket-Extensions: permessage-deflate\r\n"
    );
    let answer = head(&host.server.address, "/ws", &offers).await;
    assert!(answer.starts_with("http/1.1 101 "), "{answer}");
    assert!(answer.contains("sec-websocket-protocol: chatd.v1\r\n"), "and never the token: {answer}");
    assert!(!answer.contains("sec-websocket-extensions"), "{answer}");
    let plain = head(&host.server.address, &format!("/ws?token={token}"), UPGRADE).await;
    assert!(plain.starts_with("http/1.1 101 ") && !plain.contains("sec-websocket-protocol"), "{plain}");
}

#[tokio::test]
async fn what_is_no_handshake_gets_an_http_answer() {
    let host = Host::shared();
    let path = format!("/ws?token={}", token(person()));
    let without = |line: &str| UPGRADE.replace(line, "");
    for lines in [
        without("Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"),
        without("Sec-WebSocket-Version: 13\r\n"),
        UPGRADE.replace("Version: 13", "Version: 8"),
        without("Connection: Upgrade\r\n"),
        UPGRADE.replace("Upgrade: websocket", "Upgrade: h2c"),
    ] {
        let answer = head(&host.server.address, &path, &lines).await;
        assert!(answer.starts_with("http/1.1 4"), "{lines}: {answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
    let answer = head(&host.server.address, "/ws", "").await;
    assert!(answer.starts_with("http/1.1 4"), "without Upgrade: {answer}");
}
