//! Both sides of a socket through a real server: what a peer gets on the wire, byte by byte.

use std::future::poll_fn;
use std::time::Duration;

use actix_http::ws::HandshakeError;
use actix_web::dev::{Payload, ServerHandle};
use actix_web::{App, Error, HttpRequest, HttpResponse, web};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::connection::{self, ConnectionLimits};
use super::frame::Frame;
use super::guard::GuardLimits;
use super::handshake::open;
use super::inbound::Incoming;
use super::outbox::OutboxLimits;
use super::violation::Violation;
use super::wire::Wire;

/// How long a slow answer takes.
const WHILE: Duration = Duration::from_millis(50);
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

/// The next message, or the end.
pub(super) async fn recv(wire: &mut Wire) -> Option<Result<Incoming, Violation>> {
    loop {
        if let Some(next) = wire.next_message() {
            return Some(next);
        }
        match poll_fn(|cx| wire.poll_fill(cx)).await {
            Ok(true) => {}
            Ok(false) => return None,
            Err(violation) => return Some(Err(violation)),
        }
    }
}

/// Echoes texts until the peer goes or breaks a rule, and then says which.
async fn echo(mut wire: Wire) {
    let close = loop {
        match recv(&mut wire).await {
            Some(Ok(Incoming::Text(text))) => wire.outbox.push(Frame::text(&text)).unwrap(),
            Some(Ok(Incoming::Ping(payload))) => wire.outbox.push(Frame::pong(&payload)).unwrap(),
            Some(Ok(Incoming::Pong(_))) => {}
            Some(Ok(Incoming::Close(code))) => break Frame::close(code.unwrap_or(1000), ""),
            Some(Err(violation)) => break Frame::close(violation.close_code(), &violation.to_string()),
            None => return,
        }
        poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
    };
    wire.outbox.finish(close);
    poll_fn(|cx| wire.poll_send(cx)).await.unwrap();
    wire.linger().await;
}

struct Server {
    address: std::net::SocketAddr,
    handle: ServerHandle,
}

impl Server {
    /// Runs `session` for each socket at `/ws`, which is answered after a while at `/slow`, and told at `/lost`
    /// that it comes to nothing. `/` says hello after a while.
    fn start<S, F>(session: S) -> Self
    where
        S: Fn(Wire) -> F + Clone + Send + 'static,
        F: Future<Output = ()> + 'static,
    {
        let handler = move |request: HttpRequest, payload: web::Payload| {
            let session = session.clone();
            async move {
                if request.path() != "/ws" {
                    tokio::time::sleep(WHILE).await;
                }
                let (response, taken) = open(&request, payload.into_inner())?;
                if request.path() == "/lost" {
                    drop(response);
                    assert!(taken.await.is_err(), "who waits for the stream is told");
                    return Ok(HttpResponse::ImATeapot().body("tea"));
                }
                actix_web::rt::spawn(async move {
                    let limits = (GuardLimits::default(), OutboxLimits::default());
                    session(Wire::new(taken.await.unwrap(), limits.0, limits.1)).await;
                });
                Ok::<HttpResponse, Error>(response)
            }
        };
        let hello = async || {
            tokio::time::sleep(WHILE).await;
            "hello"
        };
        let app = move || {
            let sockets = ["/ws", "/slow", "/lost"];
            let app = App::new().route("/", web::get().to(hello));
            sockets.into_iter().fold(app, |app, path| app.route(path, web::get().to(handler.clone())))
        };
        let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let workers = actix_server::Server::build().workers(1).disable_signals();
        let server = connection::listen(workers, listener, ConnectionLimits::default(), app).unwrap().run();
        let handle = server.handle();
        actix_web::rt::spawn(server);
        Self { address, handle }
    }

    fn echoing() -> Self {
        Self::start(echo)
    }

    /// A socket behind its handshake, and the head of the answer.
    async fn connect(&self, extra: &str) -> (TcpStream, String) {
        let mut socket = TcpStream::connect(self.address).await.unwrap();
        socket.write_all(&request("/ws", extra)).await.unwrap();
        let head = read_head(&mut socket).await;
        (socket, head)
    }
}

fn request(path: &str, extra: &str) -> Vec<u8> {
    format!(
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{extra}\r\n"
    )
    .into_bytes()
}

async fn read_head(socket: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
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
    let error = open(&request, Payload::None).err().unwrap();
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
async fn a_peer_that_vanishes_ends_the_session() {
    let (ended, mut end) = tokio::sync::mpsc::channel(1);
    let server = Server::start(move |mut wire| {
        let ended = ended.clone();
        async move { ended.send(recv(&mut wire).await).await.unwrap() }
    });
    let (socket, _) = server.connect("").await;
    drop(socket);
    let last = tokio::time::timeout(Duration::from_secs(10), end.recv()).await.unwrap();
    assert_eq!(last, Some(None));
    server.handle.stop(false).await;
}

/// Frames of so many bytes in all, each another, and their echo.
fn many_frames(bytes: usize) -> (Vec<u8>, Vec<u8>) {
    // Fewer than 200, which would be a flood.
    let texts = (0..bytes / 1_500).map(|number| format!("{number:01500}"));
    let (said, heard) =
        texts.map(|text| (frame(0x81, text.as_bytes()), Frame::text(&text).into_bytes())).unzip();
    let (said, heard): (Vec<Vec<u8>>, Vec<bytes::Bytes>) = (said, heard);
    (said.concat(), heard.concat())
}

/// Sends all at once, the rest after the answer, and checks that everything is echoed.
async fn assert_all_echoed(server: &Server, before: &[u8], (early, late): (&[u8], &[u8]), heard: &[u8]) {
    let socket = TcpStream::connect(server.address).await.unwrap();
    let (mut reader, mut writer) = socket.into_split();
    let all = [before, early].concat();
    let (late, heard) = (late.to_vec(), heard.to_vec());
    let (answered, answer) = tokio::sync::oneshot::channel();
    let writing = actix_web::rt::spawn(async move {
        writer.write_all(&all).await.unwrap();
        answer.await.unwrap();
        writer.write_all(&late).await.unwrap();
        writer
    });
    let mut answered = Some(answered);
    let mut echoed = Vec::new();
    let switched = b"101 Switching Protocols";
    let reading = async {
        loop {
            assert!(reader.read_buf(&mut echoed).await.unwrap() > 0, "the server ended it");
            if echoed.windows(switched.len()).any(|window| window == switched) {
                answered.take().map(|answered| answered.send(()));
            }
            if answered.is_none() && echoed.ends_with(&heard) {
                break;
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(20), reading).await.expect("something was lost");
    let head = echoed.len() - heard.len();
    assert!(echoed[..head].ends_with(b"\r\n\r\n"), "nothing but the answer comes before the echo");
    drop(writing.await.unwrap());
}

#[actix_web::test]
async fn what_comes_with_the_handshake_is_the_first_that_is_heard() {
    let server = Server::echoing();
    let (first, late) = (frame(0x81, b"at once"), frame(0x81, b"later"));
    let heard = [Frame::text("at once"), Frame::text("later")].map(Frame::into_bytes).concat();
    for cut in [0, 3, first.len()] {
        let (early, rest) = first.split_at(cut);
        let late = [rest, &late].concat();
        for path in ["/ws", "/slow"] {
            assert_all_echoed(&server, &request(path, ""), (early, &late), &heard).await;
        }
    }
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn nothing_is_lost_of_more_than_all_buffers_hold_before_the_answer() {
    let server = Server::echoing();
    let (said, heard) = many_frames(280_000);
    // The second goes to a server that reads ahead while it is busy with the request before it.
    let behind = [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", &request("/slow", "")[..]].concat();
    for before in [request("/ws", ""), request("/slow", ""), behind] {
        for cut in [said.len(), 100_000, 33_000] {
            assert_all_echoed(&server, &before, said.split_at(cut), &heard).await;
        }
    }
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn a_handshake_that_is_answered_otherwise_stays_http() {
    let server = Server::echoing();
    let with_body = request("/ws", "Content-Length: 3\r\n");
    for (request, status) in [(request("/lost", ""), "418"), (with_body, "400")] {
        let mut socket = TcpStream::connect(server.address).await.unwrap();
        socket.write_all(&request).await.unwrap();
        socket.write_all(&frame(0x81, b"early")).await.unwrap();
        let answer = String::from_utf8(read_to_end(&mut socket).await).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
    server.handle.stop(false).await;
}

#[actix_web::test]
async fn requests_share_a_connection_as_before() {
    let server = Server::echoing();
    let mut socket = TcpStream::connect(server.address).await.unwrap();
    for _ in 0..3 {
        socket.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        assert!(read_head(&mut socket).await.starts_with("HTTP/1.1 200 OK"));
        let mut body = [0; 5];
        socket.read_exact(&mut body).await.unwrap();
        assert_eq!(&body, b"hello");
    }
    server.handle.stop(false).await;
}
