//! What the driver knows while it runs: each frame of the server is taken in here, without I/O.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::checker::{Checker, Device};
use super::dialect::Dialect;
use super::histogram::Histogram;
use super::plan::Plan;
use super::protocol::{Inbound, Outbound};
use super::reference;
use crate::domain::{ClientId, ConversationId, MessageId, Seq, UserId};

/// A user of the driver and the one it writes to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Partner {
    pub user: UserId,
    pub to: UserId,
    /// Where the user's own messages belong.
    pub outgoing: ConversationId,
    /// Where the other one's belong; the same, unless the server orders each direction by itself.
    pub incoming: ConversationId,
    /// That as text, to compare frames with.
    pub incoming_text: String,
}

/// Latencies, counts and the checker of one run.
#[derive(Debug)]
pub(super) struct Load {
    dialect: Dialect,
    plan: Plan,
    start: Instant,
    /// How many messages each socket got, where the server does not number them.
    arrivals: Vec<i64>,
    /// When each message was due, by its place in the checker.
    due: Vec<Duration>,
    pub checker: Checker,
    pub accepted: Histogram,
    pub delivered: Histogram,
    /// How late the driver itself was.
    pub lag: Histogram,
    pub counts: Counts,
    /// When the first and the latest copy reached a recipient.
    pub delivering: Option<(Instant, Instant)>,
    /// Errors and rejections by code.
    pub errors: BTreeMap<String, u64>,
    /// Sockets that the server closed, by close code.
    pub closed: BTreeMap<u16, u64>,
    /// The first error or close in words.
    pub trouble: Option<String>,
}

/// Counts of a run, cheap to copy at both ends of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Counts {
    /// Sockets that may send.
    pub ready: usize,
    pub accepted: u64,
    /// Copies that reached the recipient.
    pub delivered: u64,
    /// Copies that reached the sender and the recipient.
    pub copies: u64,
    /// Frames that could not be read.
    pub unreadable: u64,
    /// Messages that were due on a socket that was closed.
    pub unsent: u64,
}

impl Load {
    pub(super) fn new(dialect: Dialect, plan: Plan, partners: &[Partner]) -> Self {
        let mut checker = Checker::default();
        for (device, partner) in (0..).zip(partners) {
            checker.watch(Device(device), partner.incoming);
        }
        Self {
            dialect,
            plan,
            start: Instant::now(),
            arrivals: vec![0; partners.len()],
            due: Vec::new(),
            checker,
            accepted: Histogram::default(),
            delivered: Histogram::default(),
            lag: Histogram::default(),
            counts: Counts::default(),
            delivering: None,
            errors: BTreeMap::new(),
            closed: BTreeMap::new(),
            trouble: None,
        }
    }

    /// The plan begins now, or soon.
    pub(super) fn begin(&mut self, plan: Plan, start: Instant) {
        self.plan = plan;
        self.start = start;
    }

    /// The place of the next message among those that a socket gets.
    pub(super) fn next_arrival(&mut self, socket: usize) -> i64 {
        self.arrivals[socket] += 1;
        self.arrivals[socket]
    }

    /// A message that was due at `due` is sent.
    pub(super) fn sent(&mut self, socket: usize, partner: &Partner, client_id: &ClientId, due: Duration) {
        let id = MessageId::derive(partner.outgoing, partner.user, client_id);
        let place = self.checker.sent(device(socket), partner.outgoing, id);
        if place == self.due.len() {
            self.due.push(due);
        }
        if self.plan.counts(due) {
            self.lag.record(self.start.elapsed().saturating_sub(due));
        }
    }

    /// A frame came; an answer to it is returned where it needs one.
    pub(super) fn take(
        &mut self,
        socket: usize,
        partner: &Partner,
        payload: &[u8],
        now: Instant,
    ) -> Option<Outbound<'static>> {
        if self.dialect == Dialect::Reference {
            reference::take(self, socket, partner, payload, now);
            return None;
        }
        let Some(frame) = Inbound::read(payload) else {
            self.counts.unreadable += 1;
            return None;
        };
        match frame.kind {
            "hello" => return Some(Outbound::Resume),
            "resumed" => self.counts.ready += 1,
            "accepted" => match frame.id {
                Some(id) => self.take_accepted(id, frame.seq, now),
                None => self.counts.unreadable += 1,
            },
            "message" => match conversation(&frame, partner).zip(frame.seq).zip(frame.id) {
                Some(((conversation, seq), id)) => self.take_message(socket, (conversation, seq, id), now),
                None => self.counts.unreadable += 1,
            },
            "edited" | "deleted" | "withheld" | "group" | "member" => {
                if let Some((conversation, seq)) = conversation(&frame, partner).zip(frame.seq) {
                    self.checker.event(device(socket), conversation, seq);
                }
            }
            "gap" => {
                if let Some((conversation, (from, to))) = conversation(&frame, partner).zip(frame.gap()) {
                    self.checker.gap(device(socket), conversation, from, to);
                    // Taken note of, so that the next run does not begin with it.
                    return Some(Outbound::Received { conversation, seq: to });
                }
            }
            "rejected" => {
                self.note_error(frame.code());
                frame.id.into_iter().for_each(|id| self.checker.rejected(id));
            }
            "error" => {
                self.note_error(frame.code());
                if let Some(client_id) = frame.client_id.and_then(|text| ClientId::new(text).ok()) {
                    let id = MessageId::derive(partner.outgoing, partner.user, &client_id);
                    self.checker.failed(id);
                }
            }
            // receipt, presence, typing, cursor, pong, closing (its close frame follows): nothing to judge.
            _ => {}
        }
        None
    }

    /// The server closed a socket.
    pub(super) fn closed(&mut self, code: u16, reason: &str) {
        *self.closed.entry(code).or_default() += 1;
        self.trouble.get_or_insert_with(|| format!("socket closed with {code} {reason}"));
    }

    pub(super) fn take_accepted(&mut self, id: MessageId, seq: Option<Seq>, now: Instant) {
        let Some(place) = self.checker.accepted(id, seq) else { return };
        self.counts.accepted += 1;
        if let Some(latency) = self.latency(place, now) {
            self.accepted.record(latency);
        }
    }

    pub(super) fn take_message(
        &mut self,
        socket: usize,
        (conversation, seq, id): (ConversationId, Seq, MessageId),
        now: Instant,
    ) {
        let Some(place) = self.checker.delivered(device(socket), conversation, seq, id) else { return };
        self.counts.copies += 1;
        // The sender's own copy is not what anybody waits for.
        if self.checker.sender(place) != Some(device(socket)) {
            self.counts.delivered += 1;
            self.delivering = Some((self.delivering.map_or(now, |(first, _)| first), now));
            if let Some(latency) = self.latency(place, now) {
                self.delivered.record(latency);
            }
        }
    }

    /// From the intended time of sending on, so that a server that stalls cannot hide what queued up.
    fn latency(&self, place: usize, now: Instant) -> Option<Duration> {
        let due = *self.due.get(place)?;
        self.plan.counts(due).then(|| now.saturating_duration_since(self.start).saturating_sub(due))
    }

    pub(super) fn note_error(&mut self, code: &str) {
        *self.errors.entry(code.to_owned()).or_default() += 1;
        self.trouble.get_or_insert_with(|| format!("error {code}"));
    }
}

fn device(socket: usize) -> Device {
    Device(u32::try_from(socket).unwrap_or(u32::MAX))
}

/// Nearly every frame is of the pair's own conversation, which need not be parsed again.
fn conversation(frame: &Inbound<'_>, partner: &Partner) -> Option<ConversationId> {
    let text = frame.conversation?;
    if text == partner.incoming_text { Some(partner.incoming) } else { text.parse().ok() }
}
