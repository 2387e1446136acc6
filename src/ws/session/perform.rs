//! What the state says is to be done, and the end of a socket.

use std::time::Duration;

use tokio::time::Instant;

use super::Session;
use super::work::{go_on, judge, renew};
use crate::chat::{authorize, receipts};
use crate::ws::close::Close;
use crate::ws::frame::Frame;
use crate::ws::outbox::PushError;
use crate::ws::protocol;
use crate::ws::state::Action;

/// How long the last frames are tried before the connection is dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long what was sent may take to be accepted when the socket ends.
const SETTLE_WITHIN: Duration = Duration::from_secs(4);

impl Session {
    /// Does what the state says; the first close ends it.
    pub(super) fn perform(&mut self, actions: &mut Vec<Action>) -> Option<Close> {
        actions.drain(..).find_map(|action| self.act(action))
    }

    fn act(&mut self, action: Action) -> Option<Close> {
        match action {
            Action::Write(text) => return self.push(Frame::text_bytes(&text)),
            Action::WriteAtPace(text) => self.outbox.push_at_pace(Frame::text_bytes(&text)),
            Action::Ping(payload) => return self.push(Frame::ping(&payload)),
            Action::Close(close) => return Some(close),
            Action::Send(mark, command) => self.sends.push(mark, *command, &self.caller),
            Action::LiftFence => self.sends.lift_fence(),
            Action::Received(mark, conversation, seq, known) => {
                let place = (conversation, seq, known);
                self.receipts.push(judge(&self.app, &self.caller, mark, place, false));
            }
            Action::Read(mark, conversation, seq, known) => {
                let place = (conversation, seq, known);
                self.receipts.push(judge(&self.app, &self.caller, mark, place, true));
            }
            Action::Delivered(conversation, from, to) => {
                if let Ok(member) = authorize::member(self.caller.id(), conversation) {
                    receipts::delivered(&self.app, member, from, to);
                }
            }
            Action::Resume(from) => {
                let resuming = go_on(&self.app, self.caller.id(), from.clone(), None, false);
                self.resume = Some((from, resuming));
            }
            Action::Renew(mark, token) => self.renewal = Some(renew(&self.app, mark, token)),
        }
        None
    }

    pub(super) fn push(&self, frame: Frame) -> Option<Close> {
        match self.outbox.push(frame) {
            Ok(()) => None,
            Err(PushError::Full) => Some(Close::slow()),
            Err(PushError::Closed) => Some(Close::normal()),
        }
    }

    /// Says goodbye within bounds, and leaves the hub.
    pub(super) async fn end(&mut self, close: Close) {
        self.settle_sends().await;
        if close.code == 4430 {
            self.outbox.discard();
        }
        if close.announced {
            let _ = self.outbox.push(Frame::text_bytes(&protocol::closing(&close)));
        }
        metrics::counter!("chatd_sockets_closed_total", "code" => close.code.to_string()).increment(1);
        tracing::debug!(user = %self.caller.id(), code = close.code, "socket closed: {}", close.reason);
        self.outbox.finish(Frame::close(close.code, close.reason));
        self.attachment.leave();
        if tokio::time::timeout(CLOSE_WITHIN, self.outbox.closed()).await.is_err() {
            self.outbox.abort();
        }
    }

    /// What was said before the end goes into the log and is answered, as far as the peer still takes answers:
    /// who sends a message and leaves has sent it.
    async fn settle_sends(&mut self) {
        let until = Instant::now() + SETTLE_WITHIN;
        let mut actions = Vec::new();
        while !self.sends.is_empty() {
            let Ok(settled) = tokio::time::timeout_at(until, self.sends.next(&self.caller)).await else {
                return;
            };
            self.settled(settled, &mut actions);
            self.perform(&mut actions);
        }
    }
}
