//! Requests that no decent client makes, byte by byte.

use std::time::Duration;

use chatd::http::HttpSettings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::client::Api;
use crate::server::token;

async fn connect(api: &Api) -> TcpStream {
    TcpStream::connect(api.server.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// What the server says until it closes, within 5 s.
async fn until_closed(mut stream: TcpStream) -> String {
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "still open after {:?}", String::from_utf8_lossy(&answer));
    String::from_utf8(answer).unwrap()
}

fn post(headers: &str) -> String {
    let token = token(1);
    format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\n{headers}\r\n"
    )
}

#[tokio::test]
async fn a_body_that_does_not_come_is_not_waited_for() {
    let settings = HttpSettings { body_timeout: Duration::from_millis(100), ..HttpSettings::closed() };
    let api = Api::with(settings).await;
    let mut stream = connect(&api).await;
    stream.write_all(post("content-length: 20\r\n").as_bytes()).await.unwrap();
    stream.write_all(b"{\"to\":").await.unwrap();
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    assert!(answer.contains(r#""code":"timeout""#), "{answer}");
}

#[tokio::test]
async fn a_body_that_announces_too_much_is_refused_unread() {
    let api = Api::start().await;
    let mut stream = connect(&api).await;
    stream.write_all(post("content-length: 99999999999\r\n").as_bytes()).await.unwrap();
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains(r#""code":"too_large""#), "{answer}");
}

#[tokio::test]
async fn a_body_in_chunks_is_bounded_too() {
    let api = Api::start().await;
    let mut stream = connect(&api).await;
    stream.write_all(post("transfer-encoding: chunked\r\n").as_bytes()).await.unwrap();
    for _ in 0..65 {
        // The server may have closed already.
        let _ = stream.write_all(format!("400\r\n{}\r\n", " ".repeat(1024)).as_bytes()).await;
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"HTTP/1.1 413");
}

#[tokio::test]
async fn a_head_has_at_most_16_kib() {
    let api = Api::start().await;
    for (filler, status) in [(15_000, "200"), (17_000, "431")] {
        let mut stream = connect(&api).await;
        let filler = "x".repeat(filler);
        let head =
            format!("GET /health HTTP/1.1\r\nhost: x\r\nx-filler: {filler}\r\nconnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = until_closed(stream).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert_eq!(answer.contains(r#""code":"head_too_large""#), status == "431", "{answer}");
        assert!(answer.contains("x-request-id: "), "{answer}");
    }
    let mut stream = connect(&api).await;
    let long = format!("GET /{} HTTP/1.1\r\nhost: x\r\n\r\n", "x".repeat(17_000));
    stream.write_all(long.as_bytes()).await.unwrap();
    assert!(until_closed(stream).await.contains(r#""code":"head_too_large""#));
}

#[tokio::test]
async fn what_never_reaches_us_is_still_closed_with_a_status() {
    let api = Api::start().await;
    let mut stream = connect(&api).await;
    stream.write_all(b"NOT HTTP AT ALL\r\n\r\n").await.unwrap();
    assert!(until_closed(stream).await.starts_with("HTTP/1.1 400 "));
    let mut stream = connect(&api).await;
    let many: String = (0..100).map(|number| format!("x-{number}: 1\r\n")).collect();
    stream.write_all(format!("GET / HTTP/1.1\r\nhost: x\r\n{many}\r\n").as_bytes()).await.unwrap();
    assert!(until_closed(stream).await.starts_with("HTTP/1.1 431 "));
}

#[tokio::test]
async fn a_body_that_is_not_utf8_is_no_json() {
    let api = Api::start().await;
    let mut stream = connect(&api).await;
    let body = b"{\"to\":2,\"content\":\"\xff\"}";
    let head = post(&format!("content-length: {}\r\nconnection: close\r\n", body.len()));
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let answer = until_closed(stream).await;
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.contains(r#""code":"bad_json""#), "{answer}");
}
