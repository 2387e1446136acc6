//! The guard: follows the frames of one peer byte by byte (RFC 6455 section 5.2) and says stop at the first byte
//! that breaks a rule or a limit. It keeps a header of at most 14 bytes and never any payload.
//!
//! Pure: bytes and the time come in, a verdict goes out. However the bytes are cut into chunks, the verdict and
//! the whole frames that pass are the same.

use std::time::Duration;

use tokio::time::Instant;

use super::rate::{RateLimits, RateWindow};
use super::utf8::Utf8;
use super::violation::Violation;

/// What one peer may do (protocol.md section 1, "Limits").
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GuardLimits {
    /// Payload bytes of one message, all its fragments together.
    pub message_bytes_max: usize,
    /// Frames of one message.
    pub fragments_max: u32,
    /// From the first byte of a message (or of a lone control frame) to its last.
    pub message_time_max: Duration,
    /// Frames and bytes a second; none where `limits.enabled` is false.
    pub rate: Option<RateLimits>,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            message_bytes_max: 65_536,
            fragments_max: 64,
            message_time_max: Duration::from_secs(10),
            rate: Some(RateLimits::default()),
        }
    }
}

/// What became of a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fed {
    /// So many bytes from its start may be read on. After a violation nothing of the frame at fault is among them,
    /// nor anything behind it; after a close frame nothing behind that.
    pub pass: usize,
    /// What comes next.
    pub verdict: Verdict,
}

/// What comes after a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The next one.
    Pass,
    /// Nothing: the peer sent its close frame, and what follows that is to be ignored (section 5.5.1).
    Closed,
    /// Nothing: the socket is to be closed with this one's code.
    Violation(Violation),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Data { last: bool },
    Close,
    PingOrPong,
}

/// The payload that is going by.
#[derive(Debug, Clone, Copy)]
struct Payload {
    kind: Kind,
    /// Begins with the byte that applies to the next payload byte.
    mask: [u8; 4],
    left: u64,
}

/// The data message under way.
#[derive(Debug, Clone, Copy, Default)]
struct Message {
    bytes: u64,
    fragments: u32,
}

/// A fixed part, eight bytes of length and a mask.
const HEAD_MAX: usize = 14;
const CONTROL_BYTES_MAX: u8 = 125;

/// The state of one peer's stream.
#[derive(Debug, Clone)]
pub struct Guard {
    limits: GuardLimits,
    head: [u8; HEAD_MAX],
    head_len: usize,
    payload: Option<Payload>,
    message: Option<Message>,
    utf8: Utf8,
    close_code: [Option<u8>; 2],
    midway_since: Option<Instant>,
    rate: Option<RateWindow>,
    end: Option<Verdict>,
}

impl Guard {
    /// The state before the first byte.
    pub fn new(limits: GuardLimits) -> Self {
        Self {
            limits,
            head: [0; HEAD_MAX],
            head_len: 0,
            payload: None,
            message: None,
            utf8: Utf8::default(),
            close_code: [None; 2],
            midway_since: None,
            rate: limits.rate.map(RateWindow::new),
            end: None,
        }
    }

    /// Follows the next bytes, which came at `now`. After a verdict other than `Pass` it stays at that one.
    pub fn feed(&mut self, chunk: &[u8], now: Instant) -> Fed {
        if let Some(verdict) = self.end {
            return Fed { pass: 0, verdict };
        }
        let (mut at, mut whole) = (0, 0);
        while at < chunk.len() {
            let step = match self.payload {
                None => self.follow_head(chunk[at], now).map(|()| 1),
                Some(payload) => self.follow_payload(payload, &chunk[at..]),
            };
            match step {
                Ok(taken) => at += taken,
                Err(violation) => return self.stop(whole, Verdict::Violation(violation)),
            }
            if self.payload.is_some_and(|payload| payload.left > 0) || self.head_len > 0 {
                continue;
            }
            let ended = self.payload.take().map(|payload| payload.kind);
            if let Err(violation) = self.end_frame(ended) {
                return self.stop(whole, Verdict::Violation(violation));
            }
            whole = at;
            if ended == Some(Kind::Close) {
                return self.stop(whole, Verdict::Closed);
            }
        }
        Fed { pass: at, verdict: Verdict::Pass }
    }

    /// When the first byte came of a message, or of a control frame, that has not ended yet.
    pub fn midway_since(&self) -> Option<Instant> {
        self.midway_since
    }

    fn stop(&mut self, pass: usize, verdict: Verdict) -> Fed {
        self.end = Some(verdict);
        self.midway_since = None;
        Fed { pass, verdict }
    }

    fn follow_head(&mut self, byte: u8, now: Instant) -> Result<(), Violation> {
        self.midway_since.get_or_insert(now);
        self.head[self.head_len] = byte;
        self.head_len += 1;
        match self.head_len {
            1 => return self.check_opcode(byte),
            2 => self.check_mask_and_length(byte)?,
            _ => {}
        }
        let length_bytes = match self.head[1] & 0x7f {
            127 => 8,
            126 => 2,
            _ => 0,
        };
        if self.head_len == 2 + length_bytes {
            let announced = self.announced(length_bytes)?;
            self.check_announced(announced)?;
            let wire = (2 + length_bytes + 4) as u64 + announced;
            if self.rate.as_mut().is_some_and(|rate| !rate.count(1, wire, now)) {
                return Err(Violation::Flood);
            }
        }
        if self.head_len == 2 + length_bytes + 4 {
            let mut mask = [0; 4];
            mask.copy_from_slice(&self.head[self.head_len - 4..self.head_len]);
            let left = self.announced(length_bytes)?;
            self.payload = Some(Payload { kind: self.kind(), mask, left });
            self.head_len = 0;
        }
        Ok(())
    }

    fn kind(&self) -> Kind {
        match self.head[0] & 0x0f {
            0x8 => Kind::Close,
            0x9 | 0xa => Kind::PingOrPong,
            _ => Kind::Data { last: self.head[0] & 0x80 != 0 },
        }
    }

    fn check_opcode(&mut self, byte: u8) -> Result<(), Violation> {
        if byte & 0x70 != 0 {
            return Err(Violation::ReservedBits);
        }
        match (byte & 0x0f, &mut self.message) {
            (0x0, None) => Err(Violation::ContinuationWithoutStart),
            (0x0, Some(message)) => {
                message.fragments += 1;
                if message.fragments > self.limits.fragments_max {
                    return Err(Violation::TooManyFragments);
                }
                Ok(())
            }
            (0x1 | 0x2, Some(_)) => Err(Violation::MessageInsideMessage),
            (0x1, message) => {
                *message = Some(Message { bytes: 0, fragments: 1 });
                self.utf8 = Utf8::default();
                Ok(())
            }
            (0x2, None) => Err(Violation::Binary),
            (0x8..=0xa, _) if byte & 0x80 == 0 => Err(Violation::ControlFragmented),
            (0x8..=0xa, _) => Ok(()),
            _ => Err(Violation::ReservedOpcode),
        }
    }

    fn check_mask_and_length(&self, byte: u8) -> Result<(), Violation> {
        if byte & 0x80 == 0 {
            return Err(Violation::Unmasked);
        }
        if !matches!(self.kind(), Kind::Data { .. }) && byte & 0x7f > CONTROL_BYTES_MAX {
            return Err(Violation::ControlTooLong);
        }
        Ok(())
    }

    /// The payload length that a header announces whose length takes `length_bytes` beyond the first.
    fn announced(&self, length_bytes: usize) -> Result<u64, Violation> {
        if length_bytes == 0 {
            return Ok(u64::from(self.head[1] & 0x7f));
        }
        let length = self.head[2..2 + length_bytes].iter().fold(0, |sum, byte| sum << 8 | u64::from(*byte));
        let least = if length_bytes == 2 { 126 } else { 65_536 };
        if length < least || length > i64::MAX as u64 {
            return Err(Violation::LengthEncoding);
        }
        Ok(length)
    }

    fn check_announced(&mut self, length: u64) -> Result<(), Violation> {
        match (self.kind(), &mut self.message) {
            (Kind::Close, _) if length == 1 => Err(Violation::CloseFrame),
            (Kind::Close, _) => {
                // The message under way will never end, so its text needs no state any more.
                self.utf8 = Utf8::default();
                Ok(())
            }
            (Kind::Data { .. }, Some(message)) => {
                message.bytes = message.bytes.saturating_add(length);
                if message.bytes > self.limits.message_bytes_max as u64 {
                    return Err(Violation::MessageTooLarge);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Follows the part of `bytes` that belongs to this payload, and says how many that are.
    fn follow_payload(&mut self, mut payload: Payload, bytes: &[u8]) -> Result<usize, Violation> {
        let taken = usize::try_from(payload.left).unwrap_or(usize::MAX).min(bytes.len());
        let mut rest = &bytes[..taken];
        while payload.kind == Kind::Close && self.close_code[1].is_none() && !rest.is_empty() {
            self.follow_close_code(rest[0] ^ payload.mask[0])?;
            payload.mask.rotate_left(1);
            rest = &rest[1..];
        }
        if payload.kind != Kind::PingOrPong && !self.utf8.accept_masked(rest, payload.mask) {
            return Err(Violation::NotUtf8);
        }
        payload.mask.rotate_left(rest.len() % 4);
        payload.left -= taken as u64;
        self.payload = Some(payload);
        Ok(taken)
    }

    fn follow_close_code(&mut self, byte: u8) -> Result<(), Violation> {
        let [Some(first), _] = self.close_code else {
            self.close_code[0] = Some(byte);
            return Ok(());
        };
        self.close_code[1] = Some(byte);
        // Section 7.4: what is not registered, or is only for use inside an endpoint, is not sent.
        match u16::from_be_bytes([first, byte]) {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Ok(()),
            _ => Err(Violation::CloseFrame),
        }
    }

    fn end_frame(&mut self, kind: Option<Kind>) -> Result<(), Violation> {
        let ends_text = matches!(kind, Some(Kind::Close | Kind::Data { last: true }));
        if ends_text && !self.utf8.is_complete() {
            return Err(Violation::NotUtf8);
        }
        if kind == Some(Kind::Data { last: true }) {
            self.message = None;
        }
        if self.message.is_none() {
            self.midway_since = None;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
