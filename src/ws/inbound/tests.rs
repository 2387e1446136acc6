//! Whole messages out of any chunks, slow peers, and close codes on a real wire.

use std::time::Duration;

use actix_web::{App, Error, FromRequest, HttpServer, dev::ServerHandle};
use futures_util::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::ws::frame::Frame;
use crate::ws::outbox::{self, OutboxLimits};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A client's frame that announces `length` and carries `payload`.
fn announcing(first: u8, length: u64, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match length {
        0..126 => bytes.push(0x80 | length as u8),
        126..65_536 => bytes.extend([&[0xfe], &(length as u16).to_be_bytes()[..]].concat()),
        _ => bytes.extend([&[0xff], &length.to_be_bytes()[..]].concat()),
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    announcing(first, payload.len() as u64, payload)
}

/// What comes out of these chunks, after which the peer says nothing more but stays.
fn inbound(chunks: Vec<Vec<u8>>) -> Inbound {
    let chunks = stream::iter(chunks.into_iter().map(|chunk| Ok(Bytes::from(chunk))));
    let silent = futures_util::StreamExt::chain(chunks, stream::pending());
    Inbound::new(Payload::Stream { payload: Box::pin(silent) }, GuardLimits::default())
}

async fn next(inbound: &mut Inbound) -> Option<Result<Incoming, Violation>> {
    tokio::time::timeout(Duration::from_secs(60), inbound.recv()).await.expect("nothing came")
}

fn text(text: &str) -> Option<Result<Incoming, Violation>> {
    Some(Ok(Incoming::Text(text.into())))
}

#[tokio::test]
async fn messages_come_out_whole_however_they_were_cut() {
    let frames = [
        frame(0x81, b"plain"),
        frame(0x01, b"\xe2\x82"),
        frame(0x89, b"are you there"),
        frame(0x00, b"\xac"),
        frame(0x80, b"!"),
        frame(0x8a, b"yes"),
        frame(0x88, b"\x0f\xa0bye"),
        frame(0x81, b"never read"),
    ]
    .concat();
    for size in [1, 2, 3, 7, 4_096] {
        let mut inbound = inbound(frames.chunks(size).map(Vec::from).collect());
        assert_eq!(next(&mut inbound).await, text("plain"));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Ping("are you there".into()))));
        assert_eq!(next(&mut inbound).await, text("€!"));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Pong("yes".into()))));
        assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Close(Some(4000)))));
        assert_eq!(next(&mut inbound).await, None);
    }
}

#[tokio::test]
async fn a_message_of_the_full_size_passes_and_leaves_no_memory_behind() {
    let large = "x".repeat(65_536);
    let mut inbound = inbound(vec![frame(0x81, large.as_bytes()), frame(0x81, b"a")]);
    assert_eq!(next(&mut inbound).await, text(&large));
    assert_eq!(inbound.buffer.capacity(), 0);
    assert_eq!(next(&mut inbound).await, text("a"));
}

#[tokio::test]
async fn a_breach_comes_after_the_messages_before_it_and_is_the_last() {
    let mut inbound =
        inbound(vec![[frame(0x81, b"good"), frame(0x82, b"bad"), frame(0x81, b"late")].concat()]);
    assert_eq!(next(&mut inbound).await, text("good"));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Binary)));
    assert_eq!(next(&mut inbound).await, None);
    assert_eq!(next(&mut inbound).await, None);
}

/// Chunks that come one after the other, `every` so often, from a peer with so much time for a message.
fn paced(chunks: Vec<Vec<u8>>, every: Duration, message_time_max: Duration) -> Inbound {
    let chunks = stream::unfold(chunks.into_iter(), move |mut chunks| async move {
        tokio::time::sleep(every).await;
        Some((Ok(Bytes::from(chunks.next()?)), chunks))
    });
    let limits = GuardLimits { message_time_max, ..GuardLimits::default() };
    Inbound::new(Payload::Stream { payload: Box::pin(chunks) }, limits)
}

#[tokio::test]
async fn a_message_that_is_not_ended_in_time_is_refused() {
    let limits = GuardLimits { message_time_max: Duration::from_millis(50), ..GuardLimits::default() };
    let chunks =
        [frame(0x81, b"good"), frame(0x01, b"never"), frame(0x89, b"")].map(|chunk| Ok(Bytes::from(chunk)));
    let silent = futures_util::StreamExt::chain(stream::iter(chunks), stream::pending());
    let mut inbound = Inbound::new(Payload::Stream { payload: Box::pin(silent) }, limits);
    let began = Instant::now();
    assert_eq!(next(&mut inbound).await, text("good"));
    assert_eq!(next(&mut inbound).await, Some(Ok(Incoming::Ping("".into()))));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Slow)));
    assert!(began.elapsed() >= limits.message_time_max);
    assert_eq!(GuardLimits::default().message_time_max.as_secs(), 10);
}

#[tokio::test]
async fn a_message_byte_by_byte_is_too_slow_though_something_always_comes() {
    let drip = frame(0x81, &[b'x'; 100]).into_iter().map(|byte| vec![byte]).collect();
    let mut inbound = paced(drip, Duration::from_millis(20), Duration::from_millis(200));
    assert_eq!(next(&mut inbound).await, Some(Err(Violation::Slow)));
}

#[tokio::test]
async fn the_time_is_counted_for_each_message_anew() {
    let whole = frame(0x81, b"ab");
    // The end of one and the begin of the next come together, so that one is always under way.
    let overlapping = [&whole[3..], &whole[..3]].concat();
    let mut chunks = vec![overlapping; 20];
    chunks[0] = whole[..3].to_vec();
    let mut inbound = paced(chunks, Duration::from_millis(50), Duration::from_millis(500));
    for _ in 0..19 {
        assert_eq!(next(&mut inbound).await, text("ab"));
    }
}

/// Echoes texts until the peer goes or breaks a rule, and then says which.
async fn echo(request: HttpRequest, payload: web::Payload) -> Result<HttpResponse, Error> {
    let (sender, body) = outbox::pair(OutboxLimits::default());
    let (response, mut inbound) = open(&request, payload, GuardLimits::default(), body)?;
    actix_web::rt::spawn(async move {
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
    });
    Ok(response)
}

struct Server {
    address: std::net::SocketAddr,
    handle: ServerHandle,
}

impl Server {
    fn start() -> Self {
        let server = HttpServer::new(|| App::new().route("/ws", web::get().to(echo)))
            .h1_write_buffer_size(outbox::WRITE_BUFFER_BYTES)
            .workers(1)
            .disable_signals()
            .bind(("127.0.0.1", 0))
            .unwrap();
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, handle }
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
    let server = Server::start();
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
    let server = Server::start();
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
    let server = Server::start();
    let breaches = [
        (1002, vec![0x81, 0x01, b'a']),
        (1002, frame(0xc1, b"a")),
        (1002, frame(0x88, &[3])),
        (1003, frame(0x82, b"a")),
        (1007, frame(0x81, b"\xff")),
        (1009, announcing(0x81, 8 << 30, b"")),
        (1009, announcing(0x81, 65_537, b"")),
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
    let server = Server::start();
    let (mut socket, _) = server.connect("").await;
    socket.write_all(&announcing(0x81, 8 << 30, b"")).await.unwrap();
    // Far more than all buffers between the two: it would stick here if nobody read on.
    socket.write_all(&vec![0; 16 << 20]).await.unwrap();
    let told = read_to_end(&mut socket).await;
    assert_eq!(told[..4], [0x88, (told.len() - 2) as u8, 0x03, 0xf1], "1009, and nothing behind it");
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_peer_that_vanishes_ends_both_sides() {
    let (ended, end) = tokio::sync::oneshot::channel::<bool>();
    let ended = std::sync::Arc::new(std::sync::Mutex::new(Some(ended)));
    let handler = move |request: HttpRequest, payload: web::Payload| {
        let ended = ended.lock().unwrap().take();
        async move {
            let (sender, body) = outbox::pair(OutboxLimits::default());
            let (response, mut inbound) = open(&request, payload, GuardLimits::default(), body)?;
            actix_web::rt::spawn(async move {
                let last = inbound.recv().await;
                sender.push(Frame::text("nobody hears this")).unwrap();
                drop(inbound);
                sender.finish(Frame::close(1000, ""));
                sender.closed().await;
                ended.unwrap().send(last.is_none()).unwrap();
            });
            Ok::<_, Error>(response)
        }
    };
    let server = HttpServer::new(move || App::new().route("/ws", web::get().to(handler.clone())))
        .workers(1)
        .disable_signals()
        .bind(("127.0.0.1", 0))
        .unwrap();
    let address = server.addrs()[0];
    let server = server.run();
    let server = Server {
        address,
        handle: {
            let handle = server.handle();
            actix_web::rt::spawn(server);
            handle
        },
    };
    let (socket, _) = server.connect("").await;
    drop(socket);
    assert!(tokio::time::timeout(Duration::from_secs(10), end).await.unwrap().unwrap());
    server.handle.stop(false).await;
}
