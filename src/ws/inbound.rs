//! What a peer says: the guard in front, whole messages behind it. Pure: bytes go in, messages come out.
//!
//! actix-http's codec waits for a whole frame before it looks at its size, so every byte passes the [`Guard`]
//! first. Between messages nothing is kept.

use actix_http::ws::{Codec, Frame as Decoded, Item};
use bytes::{Bytes, BytesMut};
use bytestring::ByteString;
use tokio::time::Instant;
use tokio_util::codec::Decoder;

use super::guard::{Guard, GuardLimits, Verdict};
use super::violation::Violation;

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

/// The messages of one peer.
pub struct Inbound {
    guard: Guard,
    limits: GuardLimits,
    codec: Codec,
    buffer: BytesMut,
    fragments: BytesMut,
    /// Found behind bytes that still have to be decoded.
    violation: Option<Violation>,
    has_ended: bool,
}

impl Inbound {
    /// Nothing was said yet.
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            guard: Guard::new(limits),
            limits,
            codec: Codec::new().max_size(limits.message_bytes_max),
            buffer: BytesMut::new(),
            fragments: BytesMut::new(),
            violation: None,
            has_ended: false,
        }
    }

    /// Takes what came from the peer at `now`, as far as the guard lets it pass.
    pub fn feed(&mut self, bytes: &[u8], now: Instant) {
        let fed = self.guard.feed(bytes, now);
        self.buffer.extend_from_slice(&bytes[..fed.pass]);
        match fed.verdict {
            Verdict::Pass => {}
            Verdict::Closed => self.has_ended = true,
            Verdict::Violation(violation) => {
                if !self.has_ended {
                    self.violation = Some(violation);
                }
                self.has_ended = true;
            }
        }
    }

    /// The next whole message; a violation comes once, behind what came before it, as the last.
    pub fn next_message(&mut self) -> Option<Result<Incoming, Violation>> {
        let next = match self.decode() {
            Ok(Some(incoming)) => return Some(Ok(incoming)),
            Ok(None) => self.violation.take(),
            Err(violation) => Some(violation),
        };
        if next.is_some() {
            self.end();
        }
        next.map(Err)
    }

    /// Nothing more is taken: after a close frame, a violation, or `end`.
    pub fn has_ended(&self) -> bool {
        self.has_ended
    }

    /// Takes nothing more, and forgets what is half-read.
    pub fn end(&mut self) {
        self.has_ended = true;
        (self.buffer, self.fragments) = (BytesMut::new(), BytesMut::new());
    }

    /// Until when the message that is under way has to be whole, if one is.
    pub fn whole_until(&self) -> Option<Instant> {
        self.guard.midway_since().map(|since| since + self.limits.message_time_max)
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

#[cfg(test)]
mod tests;
