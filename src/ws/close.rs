//! Why the server ends a socket: the close codes of protocol.md section 3, and what the client is to do.

use rand::RngExt;

use super::violation::Violation;

/// An end of a socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Close {
    /// RFC 6455 section 7.4, and 44xx of our own.
    pub code: u16,
    /// A sentence for the developer of a client.
    pub reason: &'static str,
    /// When the client may come back by itself; `None`: not at all.
    pub reconnect_after_ms: Option<u64>,
    /// Whether `closing` comes before the close frame.
    pub announced: bool,
}

impl Close {
    const fn new(code: u16, reason: &'static str, reconnect_after_ms: Option<u64>) -> Self {
        Self { code, reason, reconnect_after_ms, announced: true }
    }

    /// The client said goodbye.
    pub const fn normal() -> Self {
        Self { code: 1000, reason: "goodbye", reconnect_after_ms: None, announced: false }
    }

    /// The server stops. Clients come back spread over five seconds, so that they do not come all at once.
    pub fn draining() -> Self {
        Self::new(1001, "the server is stopping", Some(rand::rng().random_range(100..5_000)))
    }

    /// Too many frames that are no JSON.
    pub const fn bad_json() -> Self {
        Self::new(4400, "more than 20 frames in a minute were not JSON", None)
    }

    /// The token ended.
    pub const fn token() -> Self {
        Self::new(4401, "the token has expired", Some(0))
    }

    /// No pong within two heartbeats.
    pub const fn silent() -> Self {
        Self::new(4408, "no pong within two heartbeats", Some(0))
    }

    /// Another socket took this one's place.
    pub const fn replaced() -> Self {
        Self::new(4409, "replaced by another socket of this user", None)
    }

    /// Too many frames or bytes.
    pub const fn flood() -> Self {
        Self::new(4429, "more than 200 frames or 2 MiB in a second", Some(1_000))
    }

    /// The peer reads too slowly.
    pub const fn slow() -> Self {
        Self::new(4430, "too slow: too much was waiting, or nothing was read for 5 s", Some(0))
    }
}

impl From<Violation> for Close {
    fn from(violation: Violation) -> Self {
        let reason = match violation.close_code() {
            1003 => "binary messages are not supported",
            1007 => "text is not UTF-8",
            1009 => "message is too large",
            4429 => return Self::flood(),
            _ => "protocol error",
        };
        Self { code: violation.close_code(), reason, reconnect_after_ms: None, announced: false }
    }
}
