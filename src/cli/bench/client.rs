//! A small WebSocket client: what the driver and the tests need, with nothing hidden. Pings, close codes and
//! refusals are visible, and any bytes can be sent, also wrong ones.

use std::io;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::timeout;

use super::frame::{self, Frame, FrameError, FrameReader};

/// Connecting and the handshake take at most this long.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The head and body of an answer to the handshake.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes that are asked of the socket at once.
const READ_BYTES: usize = 8 << 10;

/// Why there is no connection, or no longer one.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Not an address of the form `ws://host:port/path`.
    #[error("{0} is not of the form ws://host:port/path")]
    Address(String),
    /// Nothing came in time.
    #[error("no answer to the WebSocket handshake within 10 s")]
    Timeout,
    /// The socket failed.
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
    /// The server answered the handshake with another status than 101.
    #[error("the server refused the WebSocket with HTTP {status}: {body}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Status line and headers as sent.
        head: String,
        /// The body, a problem in JSON.
        body: String,
    },
    /// The server answered the handshake with something that is none.
    #[error("the answer to the WebSocket handshake is wrong: {0}")]
    Handshake(&'static str),
    /// Wrong frames.
    #[error(transparent)]
    Frame(#[from] FrameError),
    /// A message that is not JSON.
    #[error("the server sent a message that is not JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// The server closed the socket; 1006 where it did so without a close frame.
    #[error("the server closed the socket with {code} {reason}")]
    Closed {
        /// The close code.
        code: u16,
        /// The reason in the close frame.
        reason: String,
    },
}

/// Where a server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address {
    /// `host:port`, as in the header `Host`.
    pub authority: String,
    /// Path and query.
    pub path: String,
}

impl FromStr for Address {
    type Err = ClientError;

    fn from_str(url: &str) -> Result<Self, ClientError> {
        let error = || ClientError::Address(url.to_owned());
        let rest = url.strip_prefix("ws://").ok_or_else(error)?;
        let cut = rest.find(['/', '?']).unwrap_or(rest.len());
        let (host, path) = rest.split_at(cut);
        if host.is_empty() || url.bytes().any(|b| b.is_ascii_whitespace() || b.is_ascii_control()) {
            return Err(error());
        }
        let has_port = host.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        let authority = if has_port { host.to_owned() } else { format!("{host}:80") };
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { authority, path: format!("{slash}{path}") })
    }
}

/// What the server sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message.
    Text(String),
    /// A binary message.
    Binary(Vec<u8>),
    /// A ping; it has been answered, unless [`Client::set_auto_reply`] says no.
    Ping(Vec<u8>),
    /// A pong.
    Pong(Vec<u8>),
    /// The end, with its code (1005: none in the frame; 1006: no frame) and reason.
    Close(u16, String),
}

/// One connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    frames: FrameReader,
    auto_reply: bool,
    has_closed: bool,
}

impl Client {
    /// Connects to `ws://host:port/path` with extra request headers, such as `Authorization`.
    pub async fn connect(url: &str, headers: &[(&str, &str)]) -> Result<Self, ClientError> {
        Self::open(&url.parse()?, headers).await
    }

    /// The same, with an address that has been read already.
    pub async fn open(address: &Address, headers: &[(&str, &str)]) -> Result<Self, ClientError> {
        timeout(CONNECT_MAX, Self::handshake(address, headers)).await.map_err(|_| ClientError::Timeout)?
    }

    async fn handshake(address: &Address, headers: &[(&str, &str)]) -> Result<Self, ClientError> {
        let mut stream = TcpStream::connect(&address.authority).await?;
        stream.set_nodelay(true)?;
        let key = STANDARD.encode(rand::random::<[u8; 16]>());
        let Address { authority, path } = address;
        let mut request = format!(
            "GET {path} HTTP/1.1\r\nHost: {authority}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n"
        );
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        let (head, rest) = read_head(&mut stream).await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        match status {
            Some(101) => {}
            Some(status) => {
                let body = read_body(&mut stream, &head, rest).await?;
                return Err(ClientError::Refused { status, head, body });
            }
            None => return Err(ClientError::Handshake("no HTTP status")),
        }
        let accept = actix_http::ws::hash_key(key.as_bytes());
        if header(&head, "sec-websocket-accept").map(str::as_bytes) != Some(&accept[..]) {
            return Err(ClientError::Handshake("Sec-WebSocket-Accept does not match"));
        }
        let mut frames = FrameReader::default();
        frames.buffer().extend_from_slice(&rest);
        Ok(Self { stream, frames, auto_reply: true, has_closed: false })
    }

    /// Whether [`Client::recv`] answers pings and the server's close; it does at first.
    pub fn set_auto_reply(&mut self, on: bool) {
        self.auto_reply = on;
    }

    /// Sends one frame, masked.
    pub async fn send(&mut self, opcode: u8, payload: &[u8]) -> Result<(), ClientError> {
        let mut bytes = Vec::with_capacity(payload.len() + 14);
        frame::encode(&mut bytes, opcode, payload, rand::random());
        self.send_raw(&bytes).await
    }

    /// Sends a text message.
    pub async fn send_text(&mut self, text: &str) -> Result<(), ClientError> {
        self.send(frame::TEXT, text.as_bytes()).await
    }

    /// Sends JSON as a text message.
    pub async fn send_json(&mut self, value: &Value) -> Result<(), ClientError> {
        self.send_text(&value.to_string()).await
    }

    /// Sends bytes as they are: broken frames, half ones, whatever a test needs.
    pub async fn send_raw(&mut self, bytes: &[u8]) -> Result<(), ClientError> {
        Ok(self.stream.write_all(bytes).await?)
    }

    /// Sends a close frame; [`Client::recv`] then gives what still comes, and the server's close.
    pub async fn close(&mut self, code: u16, reason: &str) -> Result<(), ClientError> {
        let mut payload = code.to_be_bytes().to_vec();
        payload.extend_from_slice(reason.as_bytes());
        self.has_closed = true;
        self.send(frame::CLOSE, &payload).await
    }

    /// The next frame. May be cancelled: nothing is lost.
    pub async fn recv(&mut self) -> Result<Incoming, ClientError> {
        loop {
            if let Some(frame) = self.frames.next_frame()? {
                let incoming = Incoming::from(&frame);
                self.reply(&incoming).await;
                return Ok(incoming);
            }
            let buffer = self.frames.buffer();
            buffer.reserve(READ_BYTES);
            match self.stream.read_buf(buffer).await {
                Ok(0) => return Ok(Incoming::Close(1006, String::new())),
                Ok(_) => {}
                // A reset is how a server drops a socket that does not read (close code 4430).
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {
                    return Ok(Incoming::Close(1006, "connection reset".to_owned()));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    async fn reply(&mut self, incoming: &Incoming) {
        let sent = match incoming {
            Incoming::Ping(payload) if self.auto_reply => self.send(frame::PONG, payload).await,
            Incoming::Close(code, _) if self.auto_reply && !self.has_closed => {
                // 1005 stands for no code and is never sent (RFC 6455 section 7.4.1).
                let payload = code.to_be_bytes();
                let payload = if *code == 1005 { &[][..] } else { &payload[..] };
                self.send(frame::CLOSE, payload).await
            }
            _ => Ok(()),
        };
        // A socket that takes no answer has ended: what it still holds is read, then the end is told.
        drop(sent);
    }

    /// The next text message, as JSON; pings and pongs before it are passed over.
    pub async fn recv_json(&mut self) -> Result<Value, ClientError> {
        loop {
            match self.recv().await? {
                Incoming::Text(text) => return Ok(serde_json::from_str(&text)?),
                Incoming::Binary(_) => return Err(ClientError::Handshake("a binary message")),
                Incoming::Ping(_) | Incoming::Pong(_) => {}
                Incoming::Close(code, reason) => return Err(ClientError::Closed { code, reason }),
            }
        }
    }

    /// The parts, for a driver of many sockets.
    pub fn into_parts(self) -> (OwnedReadHalf, OwnedWriteHalf, FrameReader) {
        let (read, write) = self.stream.into_split();
        (read, write, self.frames)
    }
}

impl From<&Frame<'_>> for Incoming {
    fn from(frame: &Frame<'_>) -> Self {
        match frame.opcode {
            frame::TEXT => Self::Text(String::from_utf8_lossy(frame.payload).into_owned()),
            frame::PING => Self::Ping(frame.payload.to_vec()),
            frame::PONG => Self::Pong(frame.payload.to_vec()),
            frame::CLOSE => {
                let (code, reason) = frame.close_reason();
                Self::Close(code, reason)
            }
            _ => Self::Binary(frame.payload.to_vec()),
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Result<(String, Vec<u8>), ClientError> {
    let mut bytes = Vec::with_capacity(1 << 10);
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let rest = bytes.split_off(end + 4);
            return Ok((String::from_utf8_lossy(&bytes).into_owned(), rest));
        }
        if bytes.len() > ANSWER_BYTES_MAX {
            return Err(ClientError::Handshake("a head above 64 KiB"));
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(ClientError::Handshake("closed before the answer"));
        }
    }
}

async fn read_body(stream: &mut TcpStream, head: &str, mut body: Vec<u8>) -> Result<String, ClientError> {
    let announced = header(head, "content-length").and_then(|value| value.parse().ok());
    let len: usize = announced.unwrap_or(ANSWER_BYTES_MAX).min(ANSWER_BYTES_MAX);
    while body.len() < len && stream.read_buf(&mut body).await? > 0 {}
    body.truncate(len);
    Ok(String::from_utf8_lossy(&body).into_owned())
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_port_and_path() {
        for (url, authority, path) in [
            ("ws://127.0.0.1:3000", "127.0.0.1:3000", "/"),
            ("ws://localhost:3000?token=x", "localhost:3000", "/?token=x"),
            ("ws://[::1]:3000/ws", "[::1]:3000", "/ws"),
            ("ws://chat.example/ws?device=a", "chat.example:80", "/ws?device=a"),
        ] {
            let address: Address = url.parse().unwrap();
            assert_eq!((address.authority.as_str(), address.path.as_str()), (authority, path), "{url}");
        }
        for bad in ["", "ws://", "wss://host:3000", "http://host", "ws://host/a b", "ws://h/\r\nX: y"] {
            assert!(bad.parse::<Address>().is_err(), "{bad}");
        }
    }

    #[test]
    fn headers_are_found_whatever_their_case() {
        let head = "HTTP/1.1 101 Switching Protocols\r\nUPGRADE: websocket\r\nx-a:b\r\n\r\n";
        assert_eq!(header(head, "upgrade"), Some("websocket"));
        assert_eq!(header(head, "X-A"), Some("b"));
        assert_eq!(header(head, "x-b"), None);
    }
}
