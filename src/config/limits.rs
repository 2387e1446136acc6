//! `[limits]`: the bounds of everything that comes in. The defaults are those of protocol.md section 1.

use std::time::Duration;

use super::reader::Reader;

/// Bounds. Sizes are in bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// `limits.enabled`: false switches off the rates below (not the sizes), for benches.
    pub enabled: bool,
    /// `limits.sends_per_second`: of one user on one node; beyond it `rate_limited`. 100.
    pub sends_per_second: u32,
    /// `limits.upgrades_per_second`: new sockets of one node; beyond it 429, so that a reconnecting crowd
    /// comes in a line. 500.
    pub upgrades_per_second: u32,
    /// `limits.frames_per_second`: of one socket, control frames included; beyond it 4429. 200.
    pub frames_per_second: u32,
    /// `limits.inbound_bytes_per_second`: of one socket; beyond it 4429. 2 MiB.
    pub inbound_bytes_per_second: usize,
    /// `limits.bad_json_per_minute`: of one socket; beyond it 4400. 20.
    pub bad_json_per_minute: u32,
    /// `limits.sockets`: of one node. 25,000.
    pub sockets: usize,
    /// `limits.devices`: of one user; one more replaces the oldest (4409). 8.
    pub devices: usize,
    /// `limits.message_bytes`: a WebSocket message; beyond it 1009. 65,536.
    pub message_bytes: usize,
    /// `limits.message_fragments`: of one message; beyond it 1009. 64.
    pub message_fragments: usize,
    /// `limits.message_timeout`: from a message's first fragment to its last; beyond it 1002. 10 s.
    pub message_timeout: Duration,
    /// `limits.head_bytes`: an HTTP request's head; beyond it 431. 16 KiB.
    pub head_bytes: usize,
    /// `limits.head_timeout`: for the head to arrive. 10 s.
    pub head_timeout: Duration,
    /// `limits.body_bytes`: an HTTP body; beyond it 413. 65,536.
    pub body_bytes: usize,
    /// `limits.body_timeout`: for the body to arrive; beyond it 408. 30 s.
    pub body_timeout: Duration,
    /// `limits.json_depth`: nested arrays and objects; beyond it `bad_json`. 32.
    pub json_depth: usize,
    /// `limits.content_bytes`: a message's content in UTF-8. 16,384.
    pub content_bytes: usize,
    /// `limits.data_bytes`: a message's `data`. 4,096.
    pub data_bytes: usize,
    /// `limits.name_graphemes`: a user's name. 64.
    pub name_graphemes: usize,
    /// `limits.token_bytes`: a JWT. 8 KiB.
    pub token_bytes: usize,
}

impl Limits {
    pub(super) fn read(r: &mut Reader<'_>) -> Self {
        const RATE: std::ops::RangeInclusive<u32> = 1..=1_000_000;
        let timeout = || Duration::from_millis(100)..=Duration::from_secs(600);
        let limits = Self {
            enabled: r.get("limits.enabled", true),
            sends_per_second: r.within("limits.sends_per_second", 100, RATE),
            upgrades_per_second: r.within("limits.upgrades_per_second", 500, RATE),
            frames_per_second: r.within("limits.frames_per_second", 200, RATE),
            inbound_bytes_per_second: r.within("limits.inbound_bytes_per_second", 2 << 20, 1 << 10..=1 << 30),
            bad_json_per_minute: r.within("limits.bad_json_per_minute", 20, RATE),
            sockets: r.within("limits.sockets", 25_000, 1..=1_000_000),
            devices: r.within("limits.devices", 8, 1..=1_000),
            message_bytes: r.within("limits.message_bytes", 65_536, 1 << 10..=16 << 20),
            message_fragments: r.within("limits.message_fragments", 64, 1..=65_536),
            message_timeout: r.within("limits.message_timeout", Duration::from_secs(10), timeout()),
            // actix-http itself stops at 128 KiB.
            head_bytes: r.within("limits.head_bytes", 16 << 10, 1 << 10..=128 << 10),
            head_timeout: r.within("limits.head_timeout", Duration::from_secs(10), timeout()),
            body_bytes: r.within("limits.body_bytes", 65_536, 1 << 10..=16 << 20),
            body_timeout: r.within("limits.body_timeout", Duration::from_secs(30), timeout()),
            json_depth: r.within("limits.json_depth", 32, 4..=128),
            content_bytes: r.within("limits.content_bytes", 16_384, 1..=1 << 20),
            data_bytes: r.within("limits.data_bytes", 4_096, 2..=1 << 20),
            name_graphemes: r.within("limits.name_graphemes", 64, 1..=1_000),
            token_bytes: r.within("limits.token_bytes", 8 << 10, 256..=64 << 10),
        };
        for (key, what) in
            [("limits.message_bytes", limits.message_bytes), ("limits.body_bytes", limits.body_bytes)]
        {
            if what < limits.content_bytes {
                let sentence = format!(
                    "{key} ({what}) is below limits.content_bytes ({}), so the longest content could never \
                     be sent: raise the one or lower the other",
                    limits.content_bytes
                );
                r.problem(if r.is_set(key) { key } else { "limits.content_bytes" }, sentence);
            }
        }
        limits
    }
}
