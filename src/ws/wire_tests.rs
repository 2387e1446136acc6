//! Both sides of a socket through a real server: what a peer gets on the wire, byte by byte.

use std::time::Duration;

use actix_http::ws::HandshakeError;
use actix_web::dev::{Payload, ServerHandle};
use actix_web::{App, Error, FromRequest, HttpRequest, HttpResponse, web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::Instant;

use super::connection::{self, ConnectionLimits};
use super::frame::Frame;
use super::guard::GuardLimits;
use super::inbound::{Inbound, Incoming, open};
use super::outbox::{self, OutboxLimits, OutboxSender};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame: its first byte, and its payload, masked.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = announce(first, payload.len() as u64);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// A client's header alone, with its mask.
pub(super) fn announce(first: u8, length: u64) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => {
            bytes.push(0xfe);
            bytes.extend((length as u16).to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend(length.to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}

/// Echoes texts until the peer goes or breaks a rule, and then says which.
async fn echo(sender: OutboxSender, mut inbound: Inbound) {
    let close = loop {
        match inbound.recv().await {
            Some(Ok(Incoming::Text(text))) => sender.push(Frame::text(&text)).unwrap(),
            Some(Ok(Incoming::Ping(payload))) => sender.push(Frame::pong(&payload)).unwrap(),
            Some(Ok(Incoming::Pong(_))) => {}
            Some(Ok(Incoming::Close(code))) => break Frame::close(code.unwrap_or(1000), ""),
            Some(Err(violation)) => break Frame::close(violation.close_code(), &violation.to_string()),
            None => return,
        }
    };
    sender.finish(close);
}

struct Server {
    address: std::net::SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Runs `session` for each socket.
    fn start<S, F>(outbox_limits: OutboxLimits, session: S) -> Self
    where
        S: Fn(OutboxSender, Inbound) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let handler = move |request: HttpRequest, payload: web::Payload| {
            let session = session.clone();
            async move {
                let (sender, body) = outbox::pair(outbox_limits);
                let (response, inbound) = open(&request, payload, GuardLimits::default(), body)?;
                actix_web::rt::spawn(session(sender, inbound));
                Ok::<HttpResponse, Error>(response)
            }
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let workers = actix_server::Server::build().workers(1).disable_signals();
        let app = move || App::new().route("/ws", web::get().to(handler.clone()));
        let server = connection::listen(workers, listener, ConnectionLimits::default(), app).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, handle }
    }

    fn echoing() -> Self {
        Self::start(OutboxLimits::default(), echo)
    }

    /// A socket behind its handshake, and the head of the answer.
    async fn connect(&self, extra: &str) -> (TcpStream, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
        );
        socket.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(socket.read_u8().await.unwrap());
        }
        (socket, String::from_utf8(head).unwrap())
    }
}

async fn read_to_end(socket: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut bytes)).await.unwrap().unwrap();
    bytes
}

#[actix_web::test]
async fn texts_and_pongs_arrive_through_a_real_server() {
    let server = Server::echoing();
    let (mut socket, head) = server.connect("").await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "the accept key of RFC 6455 section 1.3: {head}");
    assert!(!head.to_lowercase().contains("sec-websocket-protocol"), "none was offered: {head}");
    let large = "€".repeat(21_845);
    let sent = [frame(0x81, large.as_bytes()), frame(0x89, b"p"), frame(0x88, b"\x03\xe8")].concat();
    socket.write_all(&sent).await.unwrap();
    let expected = [Frame::text(&large), Frame::pong(b"p"), Frame::close(1000, "")];
    let expected: Vec<u8> = expected.into_iter().flat_map(Frame::into_bytes).collect();
    assert!(read_to_end(&mut socket).await == expected);
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn the_subprotocol_is_answered_and_no_extension_is() {
    let server = Server::echoing();
    let offer =
        "Sec-WebSocket-Protocol: chatd.v1, bearer.abc\r\nSec-WebSocket-Extensions: permessage-deflate\r\n";
    let (_socket, head) = server.connect(offer).await;
    let head = head.to_lowercase();
    assert!(head.contains("sec-websocket-protocol: chatd.v1\r\n"), "{head}");
    assert!(!head.contains("sec-websocket-extensions"), "{head}");
    let (_socket, head) = server.connect("Sec-WebSocket-Protocol: mqtt\r\n").await;
    assert!(!head.to_lowercase().contains("sec-websocket-protocol"), "{head}");
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_plain_request_is_refused() {
    let request = actix_web::test::TestRequest::default().to_http_request();
    let (_sender, body) = outbox::pair(OutboxLimits::default());
    let payload = web::Payload::from_request(&request, &mut Payload::None);
    let error = open(&request, payload.await.unwrap(), GuardLimits::default(), body).err().unwrap();
    assert_eq!(error, HandshakeError::NoWebsocketUpgrade);
    assert_eq!(Error::from(error).error_response().status(), 400);
}

#[actix_web::test]
async fn each_breach_is_told_by_its_close_code_on_the_wire() {
    let server = Server::echoing();
    let breaches = [
        (1002, vec![0x81, 0x01, b'a']),
        (1002, frame(0xc1, b"a")),
        (1002, frame(0x88, &[3])),
        (1003, frame(0x82, b"a")),
        (1007, frame(0x81, b"\xff")),
        (1009, announce(0x81, 8 << 30)),
        (1009, announce(0x81, 65_537)),
        (4429, vec![frame(0x8a, b""); 201].concat()),
    ];
    for (code, bytes) in breaches {
        let (mut socket, _) = server.connect("").await;
        socket.write_all(&frame(0x81, b"first")).await.unwrap();
        socket.write_all(&bytes).await.unwrap();
        let mut told = [0; 11];
        let reading = socket.read_exact(&mut told);
        tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap().unwrap();
        assert_eq!(told[..7], *b"\x81\x05first", "the message before it is echoed");
        assert_eq!(told[7], 0x88, "a close frame");
        assert_eq!(u16::from_be_bytes([told[9], told[10]]), code);
    }
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn who_sends_on_after_a_breach_still_gets_the_close_frame() {
    let server = Server::echoing();
    let (mut socket, _) = server.connect("").await;
    socket.write_all(&announce(0x81, 8 << 30)).await.unwrap();
    // Far more than all buffers between the two: it would stick here if nobody read on.
    socket.write_all(&vec![0; 16 << 20]).await.unwrap();
    let told = read_to_end(&mut socket).await;
    assert_eq!(told[..4], [0x88, (told.len() - 2) as u8, 0x03, 0xf1], "1009, and nothing behind it");
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_peer_that_vanishes_ends_both_sides() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let server = Server::start(OutboxLimits::default(), move |sender, mut inbound| {
        let ended = ended.clone();
        async move {
            let last = inbound.recv().await;
            sender.finish(Frame::close(1000, ""));
            sender.closed().await;
            ended.send(last).await.unwrap();
        }
    });
    let (socket, _) = server.connect("").await;
    drop(socket);
    let last = tokio::time::timeout(Duration::from_secs(10), end.recv()).await.unwrap();
    assert_eq!(last, Some(None));
    server.handle.stop(false).await;
}

/// Pushes far more than the kernel holds, reports when nothing moves any more, and gives the peer up.
async fn give_up(sender: OutboxSender, told: tokio::sync::mpsc::Sender<(usize, Duration)>) {
    let part = Frame::text(&"x".repeat(65_000));
    for _ in 0..1_000 {
        sender.push(part.clone()).unwrap();
    }
    while sender.stalled_for(Instant::now()) < Duration::from_millis(500) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    told.send((sender.queued_bytes(), sender.stalled_for(Instant::now()))).await.unwrap();
    sender.abort();
    sender.closed().await;
    told.send((sender.queued_bytes(), Duration::ZERO)).await.unwrap();
}

#[actix_web::test]
async fn a_peer_that_does_not_read_is_noticed_and_dropped() {
    let (told, mut tells) = tokio::sync::mpsc::channel(2);
    let limits = OutboxLimits { queued_bytes_max: 100 << 20, ..OutboxLimits::default() };
    let server = Server::start(limits, move |sender, inbound| {
        let told = told.clone();
        async move {
            give_up(sender, told).await;
            drop(inbound);
        }
    });
    let (mut socket, _) = server.connect("").await;
    let mut tell =
        async || tokio::time::timeout(Duration::from_secs(30), tells.recv()).await.unwrap().unwrap();
    let (waiting, stalled) = tell().await;
    assert!(waiting > 10 << 20, "{waiting} bytes wait");
    assert!(stalled >= Duration::from_millis(500));
    assert_eq!(tell().await.0, 0, "the body is gone, and what waited with it");
    let mut rest = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), socket.read_to_end(&mut rest)).await;
    assert_eq!(read.unwrap().unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    server.handle.stop(false).await;
}
