//! The read side of a socket: the handshake, the guard in front, whole messages behind it.
//!
//! actix-http's codec (the one inside actix-ws too) waits for a whole frame before it looks at its size, so every
//! byte passes the [`Guard`] first. At a violation the request's payload is dropped: from then on actix-http reads
//! and throws away what the peer still sends, so that nothing of it is kept, while the close frame goes out.
//!
//! In place of actix-ws's own stream, which ends as soon as its own response body is dropped and keeps the memory
//! of the last message, this one goes with any body and is empty between messages.

use std::pin::Pin;
use std::task::{Context, Poll};

use actix_http::ws::{Codec, Frame as Decoded, HandshakeError, Item};
use actix_web::body::BoxBody;
use actix_web::dev::Payload;
use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use futures_util::Stream;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::codec::Decoder;

use super::connection::Reset;
use super::guard::{Guard, GuardLimits, Verdict};
use super::outbox::OutboxBody;
use super::violation::Violation;

/// The one subprotocol that is spoken here.
pub const SUBPROTOCOL: &str = "chatd.v1";

/// Something whole that the peer said. There is no binary: the guard refuses it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Incoming {
    /// A text message, its fragments joined.
    Text(ByteString),
    /// To be answered with a pong of the same payload.
    Ping(Bytes),
    /// The answer to a ping, or unasked.
    Pong(Bytes),
    /// The peer's close frame with its code, if it gave one; nothing follows.
    Close(Option<u16>),
}

/// Answers the handshake with `body` as the write side, and gives the read side. No extension is negotiated;
/// [`SUBPROTOCOL`] is answered where it was offered.
///
/// # Errors
/// Where the request is no WebSocket handshake (RFC 6455 section 4.2.1). `?` makes it actix-web's answer (400, 405
/// or 426).
pub fn open(
    request: &HttpRequest,
    payload: web::Payload,
    limits: GuardLimits,
    body: OutboxBody,
) -> Result<(HttpResponse<BoxBody>, Inbound), HandshakeError> {
    let mut response = actix_http::ws::handshake(request.head())?;
    if offered_subprotocols(request).any(|offered| offered == SUBPROTOCOL) {
        response.insert_header((header::SEC_WEBSOCKET_PROTOCOL, SUBPROTOCOL));
    }
    let body = body.on(request.conn_data::<Reset>().cloned());
    let response = HttpResponse::from(response.finish()).set_body(body).map_into_boxed_body();
    Ok((response, Inbound::new(payload.into_inner(), limits)))
}

/// What the client offers in `Sec-WebSocket-Protocol`, in its order.
pub fn offered_subprotocols(request: &HttpRequest) -> impl Iterator<Item = &str> {
    let lines = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL);
    lines.filter_map(|line| line.to_str().ok()).flat_map(|line| line.split(',')).map(str::trim)
}

/// The messages of one peer.
///
/// Ends (`None`) when the peer is gone or after its close frame; a violation comes once, as the last item.
pub struct Inbound {
    bytes: GuardedBytes,
    codec: Codec,
    buffer: BytesMut,
    fragments: BytesMut,
}

impl Inbound {
    /// Messages from `payload`.
    pub fn new(payload: Payload, limits: GuardLimits) -> Self {
        Self {
            bytes: GuardedBytes::new(payload, limits),
            codec: Codec::new().max_size(limits.message_bytes_max),
            buffer: BytesMut::new(),
            fragments: BytesMut::new(),
        }
    }

    /// The next message. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Result<Incoming, Violation>> {
        std::future::poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// The next whole message in the buffer.
    fn decode(&mut self) -> Result<Option<Incoming>, Violation> {
        while !self.buffer.is_empty() {
            let decoded = self.codec.decode(&mut self.buffer).map_err(|_| Violation::Undecodable)?;
            let Some(decoded) = decoded else { break };
            if self.buffer.is_empty() {
                // An empty handle would keep the whole allocation of the largest message so far.
                self.buffer = BytesMut::new();
            }
            if let Some(incoming) = self.join(decoded)? {
                return Ok(Some(incoming));
            }
        }
        Ok(None)
    }

    fn join(&mut self, decoded: Decoded) -> Result<Option<Incoming>, Violation> {
        let text =
            |bytes: Bytes| ByteString::try_from(bytes).map(Incoming::Text).map_err(|_| Violation::NotUtf8);
        match decoded {
            Decoded::Text(bytes) => text(bytes).map(Some),
            Decoded::Continuation(Item::FirstText(bytes) | Item::Continue(bytes)) => {
                self.fragments.extend_from_slice(&bytes);
                Ok(None)
            }
            Decoded::Continuation(Item::Last(bytes)) => {
                let mut whole = std::mem::take(&mut self.fragments);
                whole.extend_from_slice(&bytes);
                text(whole.freeze()).map(Some)
            }
            Decoded::Ping(bytes) => Ok(Some(Incoming::Ping(bytes))),
            Decoded::Pong(bytes) => Ok(Some(Incoming::Pong(bytes))),
            Decoded::Close(reason) => Ok(Some(Incoming::Close(reason.map(|reason| reason.code.into())))),
            Decoded::Binary(_) | Decoded::Continuation(Item::FirstBinary(_)) => Err(Violation::Binary),
        }
    }
}

impl Stream for Inbound {
    type Item = Result<Incoming, Violation>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        let item = loop {
            match this.decode() {
                Ok(Some(incoming)) => return Poll::Ready(Some(Ok(incoming))),
                Ok(None) => {}
                Err(violation) => break Some(Err(violation)),
            }
            match std::task::ready!(this.bytes.poll_next(cx)) {
                Some(Ok(bytes)) if this.buffer.is_empty() => this.buffer = BytesMut::from(bytes),
                Some(Ok(bytes)) => this.buffer.extend_from_slice(&bytes),
                Some(Err(violation)) => break Some(Err(violation)),
                None => break None,
            }
        };
        // The end, and nothing half-read is kept for it.
        this.bytes.stop();
        (this.buffer, this.fragments) = (BytesMut::new(), BytesMut::new());
        Poll::Ready(item)
    }
}

/// The payload of the request, as far as the guard lets it pass.
struct GuardedBytes {
    payload: Payload,
    guard: Guard,
    limits: GuardLimits,
    /// Runs only while a message is midway and the peer is waited for.
    deadline: Option<Pin<Box<Sleep>>>,
    /// Found behind bytes that still had to pass.
    violation: Option<Violation>,
}

impl GuardedBytes {
    fn new(payload: Payload, limits: GuardLimits) -> Self {
        Self { payload, guard: Guard::new(limits), limits, deadline: None, violation: None }
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Violation>>> {
        if let Some(violation) = self.violation.take() {
            return Poll::Ready(Some(Err(violation)));
        }
        match Pin::new(&mut self.payload).poll_next(cx) {
            Poll::Ready(Some(Ok(bytes))) => self.follow(bytes),
            // An error is a peer that left without an end, which tells no more than the end does.
            Poll::Ready(Some(Err(_)) | None) => Poll::Ready(None),
            Poll::Pending => self.poll_deadline(cx).map(|violation| Some(Err(violation))),
        }
    }

    fn follow(&mut self, mut bytes: Bytes) -> Poll<Option<Result<Bytes, Violation>>> {
        let fed = self.guard.feed(&bytes, Instant::now());
        bytes.truncate(fed.pass);
        match fed.verdict {
            Verdict::Pass => {}
            Verdict::Closed => self.stop(),
            Verdict::Violation(violation) => {
                self.stop();
                if bytes.is_empty() {
                    return Poll::Ready(Some(Err(violation)));
                }
                self.violation = Some(violation);
            }
        }
        Poll::Ready(Some(Ok(bytes)))
    }

    /// Ready when a message has been midway for too long. What had come by now was looked at before, so this is the
    /// peer's slowness and not the session's.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Violation> {
        let Some(since) = self.guard.midway_since() else {
            self.deadline = None;
            return Poll::Pending;
        };
        let until = since + self.limits.message_time_max;
        let sleep = self.deadline.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        sleep.as_mut().poll(cx).map(|()| Violation::Slow)
    }

    /// Reads no more, and leaves it to actix-http to throw the rest away.
    fn stop(&mut self) {
        self.payload = Payload::None;
        self.deadline = None;
    }
}

#[cfg(test)]
mod tests;
