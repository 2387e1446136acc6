//! What this device was given and has confirmed, and the pings that ask it: pure.
//!
//! One ping at a time is under way. It covers what was written before it; its pong confirms just that. The same
//! pings are the heartbeat.
//!
//! A fence (see `ws::sends`) is such a ping too, that does not wait for the one under way; no other goes out
//! before it is answered. A client may answer only the last of several pings (RFC 6455, 5.5.3), so a pong also
//! stands for the pings before its own, and the fence is lifted by its own pong alone.

use std::collections::HashMap;
use std::time::Duration;

use rand::RngExt;
use tokio::time::Instant;

use super::Action;
use crate::domain::{ConversationId, Seq};
use crate::ws::close::Close;

/// Pings for confirmation come at most so often.
const PING_EVERY: Duration = Duration::from_secs(1);
/// So long a ping for confirmation waits for something to be written with it: by itself it costs as much as a
/// message.
const PING_RIDES_WITHIN: Duration = Duration::from_millis(250);
/// Conversations whose highest seq is remembered; for others storage is asked.
const HIGHEST_MAX: usize = 64;

type Range = (Seq, Seq);

#[derive(Debug)]
struct Ping {
    payload: [u8; 8],
    sent: Instant,
    covers: HashMap<ConversationId, Range>,
}

/// The confirmation of one socket.
#[derive(Debug)]
pub struct Confirm {
    by_pong: bool,
    heartbeat: Duration,
    given: HashMap<ConversationId, Range>,
    highest: HashMap<ConversationId, Seq>,
    ping: Option<Ping>,
    /// Written later than `ping`; boxed, since it is rarely there.
    fence: Option<Box<Ping>>,
    last_ping: Instant,
}

impl Confirm {
    pub(super) fn new(by_pong: bool, heartbeat: Duration, now: Instant) -> Self {
        let (given, highest) = (HashMap::new(), HashMap::new());
        Self { by_pong, heartbeat, given, highest, ping: None, fence: None, last_ping: now }
    }

    /// Events (or a gap) `from..=to` were written.
    pub(super) fn given(&mut self, conversation: ConversationId, from: Seq, to: Seq) {
        if self.highest.len() >= HIGHEST_MAX && !self.highest.contains_key(&conversation) {
            self.highest.clear();
        }
        let highest = self.highest.entry(conversation).or_default();
        *highest = to.max(*highest);
        if !self.by_pong {
            return;
        }
        let range = self.given.entry(conversation).or_insert((from, to));
        if from <= range.1.next() && range.0 <= to.next() {
            *range = (range.0.min(from), range.1.max(to));
        } else {
            // They do not touch, as when a resume goes back: the earlier range stays unconfirmed, which costs a
            // mail, not a message.
            *range = (from, to);
        }
    }

    /// The highest seq of a conversation that this socket was given lately; 0 where none is remembered.
    pub(super) fn highest(&self, conversation: ConversationId) -> Seq {
        self.highest.get(&conversation).copied().unwrap_or_default()
    }

    /// A pong came: one that answers a ping under way confirms what was written before that, any other nothing.
    pub(super) fn ponged(&mut self, payload: &[u8], actions: &mut Vec<Action>) {
        let fence = self.fence.take_if(|fence| fence.payload == payload);
        let ping = self.ping.take_if(|ping| fence.is_some() || ping.payload == payload);
        if fence.is_some() {
            actions.push(Action::LiftFence);
        }
        let covers = ping.into_iter().chain(fence.map(|fence| *fence)).flat_map(|ping| ping.covers);
        actions.extend(covers.map(|(conversation, (from, to))| Action::Delivered(conversation, from, to)));
        if self.given.is_empty() {
            // What a burst has grown is given back.
            self.given = HashMap::new();
        }
    }

    /// When a ping is due, or overdue for its pong.
    pub(super) fn deadline(&self) -> Instant {
        match self.ping.as_ref().or(self.fence.as_deref()) {
            Some(ping) => ping.sent + 2 * self.heartbeat,
            None if self.given.is_empty() => self.last_ping + self.heartbeat,
            None => self.last_ping + (PING_EVERY + PING_RIDES_WITHIN).min(self.heartbeat),
        }
    }

    /// Whether a ping may go out with what is being written.
    fn rides(&self, now: Instant, actions: &[Action]) -> bool {
        let is_writing = matches!(actions.last(), Some(Action::Write(_) | Action::WriteAtPace(_)));
        let is_free = self.ping.is_none() && self.fence.is_none() && !self.given.is_empty();
        is_writing && is_free && now >= self.last_ping + PING_EVERY
    }

    pub(super) fn pass_time(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if now < self.deadline() && !self.rides(now, actions) {
            return;
        }
        if self.ping.is_some() || self.fence.is_some() {
            actions.push(Action::Close(Close::silent()));
            return;
        }
        self.ping = Some(self.ask(now, actions));
    }

    /// Puts up a fence; while one is up it stays the only one.
    pub(super) fn fence(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.fence.is_none() {
            self.fence = Some(Box::new(self.ask(now, actions)));
        }
    }

    fn ask(&mut self, now: Instant, actions: &mut Vec<Action>) -> Ping {
        let payload: [u8; 8] = rand::rng().random();
        self.last_ping = now;
        actions.push(Action::Ping(payload));
        Ping { payload, sent: now, covers: std::mem::take(&mut self.given) }
    }
}
