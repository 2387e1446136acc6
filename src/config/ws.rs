//! `[ws]`: the life of a socket.

use std::time::Duration;

use super::reader::Reader;

/// Settings of WebSocket sessions.
#[derive(Debug, Clone)]
pub struct Ws {
    /// `ws.heartbeat`: a ping after so much silence; no pong within two of them closes 4408. 25 s, below
    /// the 30 s after which common proxies drop idle connections.
    pub heartbeat: Duration,
    /// `ws.queue_bytes`: live events waiting for a socket beyond this close it with 4430. 256 KiB.
    pub queue_bytes: usize,
    /// `ws.stall_timeout`: a write without progress for so long closes it with 4430. 5 s.
    pub stall_timeout: Duration,
    /// `ws.send_buffer_bytes`: SO_SNDBUF of each socket. 128 KiB.
    pub send_buffer_bytes: usize,
}

impl Ws {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        Self {
            // Zero would ping without end; more than an hour finds no dead connection.
            heartbeat: r.within(
                "ws.heartbeat",
                Duration::from_secs(25),
                Duration::from_millis(100)..=Duration::from_secs(3600),
            ),
            queue_bytes: r.within("ws.queue_bytes", 256 << 10, 16 << 10..=64 << 20),
            stall_timeout: r.within(
                "ws.stall_timeout",
                Duration::from_secs(5),
                Duration::from_millis(100)..=Duration::from_secs(300),
            ),
            send_buffer_bytes: r.within("ws.send_buffer_bytes", 128 << 10, 4 << 10..=16 << 20),
        }
    }
}
