//! What the state says is to be done, and the end of a socket.

use std::future::poll_fn;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::timeout;

use super::Session;
use super::signals::{say_typing, watch};
use super::work::{go_on, judge, renew};
use crate::chat::{authorize, receipts};
use crate::ws::close::Close;
use crate::ws::frame::Frame;
use crate::ws::outbox::Full;
use crate::ws::protocol;
use crate::ws::state::Action;
use crate::ws::wire::Wire;

/// How long the last frames are tried before the connection is dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long what was sent may take to be accepted when the socket ends.
const SETTLE_WITHIN: Duration = Duration::from_secs(4);

impl Session {
    /// Does what the state says; a close ends the socket.
    pub(super) fn act(&mut self, action: Action) -> Result<(), Close> {
        match action {
            Action::Write(text) => return self.push(Frame::text_bytes(&text)),
            Action::WriteAtPace(text) => self.wire.outbox.push_at_pace(Frame::text_bytes(&text)),
            Action::Ping(payload) => return self.push(Frame::ping(&payload)),
            Action::Close(close) => return Err(close),
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
            Action::Typing(mark, target, is_active) => {
                let (place, said) = (self.attachment.place(), (target, is_active));
                self.receipts.push(say_typing(&self.app, &self.caller, place, mark, said));
            }
            Action::Watch(mark, users) => {
                self.receipts.push(watch(&self.app, &self.caller, &self.attachment, mark, users));
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
        Ok(())
    }

    pub(super) fn push(&mut self, frame: Frame) -> Result<(), Close> {
        self.wire.outbox.push(frame).map_err(|Full| Close::slow())
    }

    /// Says goodbye within bounds, and leaves the hub; gives the socket back if the peer is still there.
    pub(super) async fn end(mut self: Box<Self>, close: Close) -> Option<Wire> {
        // Who does not answer in time is not waited for.
        let _ = timeout(SETTLE_WITHIN, poll_fn(|cx| self.poll_settle(cx))).await;
        let Self { mut wire, attachment, caller, .. } = *self;
        if close.code == 4430 {
            wire.outbox.discard();
        }
        if close.announced {
            // Without room for it the close frame says the same, in brief.
            let _ = wire.outbox.push(Frame::text_bytes(&protocol::closing(&close)));
        }
        metrics::counter!("chatd_sockets_closed_total", "code" => close.code.to_string()).increment(1);
        tracing::debug!(user = %caller.id(), code = close.code, "socket closed: {}", close.reason);
        wire.outbox.finish(Frame::close(close.code, close.reason));
        attachment.leave();
        let finished = poll_fn(|cx| {
            let sent = wire.poll_send(cx);
            // What is never read would keep the peer from reading.
            let _ = wire.poll_discard(cx);
            sent
        });
        match timeout(CLOSE_WITHIN, finished).await {
            Ok(Ok(())) => return Some(wire),
            Ok(Err(_)) => {}
            Err(_) => wire.abort(),
        }
        None
    }

    /// What was said before the end goes into the log and is answered, as far as the peer still takes answers:
    /// who sends a message and leaves has sent it.
    fn poll_settle(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        while !self.sends.is_empty() {
            let Poll::Ready(settled) = self.sends.poll_next(&self.caller, cx) else {
                // The peer may be gone; that is no reason to stop.
                let _ = self.wire.poll_send(cx);
                let _ = self.wire.poll_discard(cx);
                return Poll::Pending;
            };
            // A second reason to close changes nothing.
            let _ = self.settled(settled);
        }
        Poll::Ready(())
    }
}
