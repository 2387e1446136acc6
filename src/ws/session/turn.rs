//! A turn of a session: everything that is ready is taken, in an order in which nothing that one step begins was
//! looked at before it; then all that is to be said is written at once.

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::stream::StreamExt;
use tokio::time::Instant;

use super::Session;
use crate::domain::Timestamp;
use crate::ws::close::Close;
use crate::ws::protocol;
use crate::ws::sends::IN_FLIGHT_MAX;
use crate::ws::state::{Action, Input};

/// Bytes moved from the mailbox, or a resume, to the outbox at a time; with what the mailbox holds, 256 KiB wait
/// at most.
pub(super) const MOVED_BYTES: usize = 16 * 1024;
/// Receipts of one socket being judged at once; beyond that the socket is not read.
const RECEIPTS_MAX: usize = 64;
/// Reads of a pass, of 4 KiB each.
const READS_MAX: usize = 8;
/// Passes of a turn: a peer that always says something, or takes everything, leaves time to others. All the reads
/// of a turn are fewer than what tokio lets a task do at once (128), so that they leave some to its writes.
const PASSES_MAX: usize = 4;

impl Session {
    /// Takes what is ready until nothing is; ready when the socket is to be closed.
    pub(super) fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<Close> {
        for _ in 0..PASSES_MAX {
            if let Err(close) = self.pass(Instant::now(), cx) {
                return Poll::Ready(close);
            }
            if !self.goes_on() {
                ready!(self.poll_timer(cx));
                break;
            }
        }
        // There is more, or the time has come.
        cx.waker().wake_by_ref();
        Poll::Pending
    }

    fn pass(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        if let Poll::Ready(Some(())) = self.drain.poll_next_unpin(cx) {
            return Err(Close::draining());
        }
        if self.timer.is_elapsed() {
            self.step(Input::Tick, now)?;
        }
        if self.events_first && self.is_writable() {
            self.events_first = false;
            self.take_events(now, cx)?;
        }
        self.take_input(now, cx)?;
        self.take_settled(now, cx)?;
        self.take_judged(now, cx)?;
        self.take_events(now, cx)?;
        self.events_first = self.is_held_back();
        if let Poll::Ready(Err(_)) = self.wire.poll_send(cx) {
            return Err(Close::normal());
        }
        if self.wire.outbox.stalled_for(now) >= self.app.settings.stall {
            return Err(Close::slow());
        }
        Ok(())
    }

    /// Whether the writing has made room for what had to wait, or something was left for the next pass.
    fn goes_on(&self) -> bool {
        (self.more_input && self.is_readable()) || (self.is_held_back() && self.is_writable())
    }

    /// Whether events wait for room.
    fn is_held_back(&self) -> bool {
        self.more_mail || self.parts.len() > 0
    }

    /// Whether more of the peer can be taken. Answers to a peer that never stops talking would leave no room for
    /// events; so once these are held back, it is their turn.
    fn is_readable(&self) -> bool {
        !self.events_first
            && self.sends.len() < IN_FLIGHT_MAX
            && self.receipts.len() < RECEIPTS_MAX
            && self.renewal.is_none()
            && self.wire.outbox.queued_bytes() < 4 * MOVED_BYTES
    }

    /// Whether there is room for more events.
    fn is_writable(&self) -> bool {
        self.wire.outbox.queued_bytes() <= MOVED_BYTES
    }

    fn take_input(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        self.more_input = true;
        for _ in 0..READS_MAX {
            while self.is_readable() {
                let Some(incoming) = self.wire.next_message() else { break };
                self.incoming(incoming?, now)?;
            }
            if !self.is_readable() {
                break;
            }
            match self.wire.poll_fill(cx)? {
                Poll::Ready(true) => {}
                Poll::Ready(false) => return Err(Close::normal()),
                Poll::Pending => {
                    self.more_input = false;
                    break;
                }
            }
        }
        Ok(())
    }

    fn take_settled(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        while let Poll::Ready(settled) = self.sends.poll_next(&self.caller, cx) {
            self.settled(settled)?;
            if self.sends.wants_fence() {
                self.step(Input::Fence, now)?;
            }
        }
        Ok(())
    }

    fn take_judged(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        while let Poll::Ready(Some((mark, result))) = self.receipts.poll_next_unpin(cx) {
            if let Err(error) = result {
                self.act(Action::Write(protocol::error(&error, &mark, None)))?;
            }
        }
        if let Some(renewal) = &mut self.renewal
            && let Poll::Ready((mark, renewed)) = renewal.poll_unpin(cx)
        {
            self.renewed(mark, renewed, now)?;
        }
        Ok(())
    }

    fn take_events(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        self.take_mail(now, cx)?;
        self.take_resumed(now, cx)
    }

    fn take_mail(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        let mailbox = Arc::clone(self.attachment.mailbox());
        while self.is_writable() {
            let arrived = pin!(mailbox.arrived()).poll(cx).is_ready();
            if !arrived && !self.more_mail {
                return Ok(());
            }
            self.empty_mailbox(now)?;
        }
        self.more_mail = true;
        Ok(())
    }

    /// One part at a time: the socket sets the pace of what it is given.
    fn take_resumed(&mut self, now: Instant, cx: &mut Context<'_>) -> Result<(), Close> {
        loop {
            while self.is_writable()
                && let Some(part) = self.parts.next()
            {
                self.step(Input::Part(part), now)?;
            }
            if self.parts.len() > 0 {
                return Ok(());
            }
            let Some((_, resuming)) = &mut self.resume else { return Ok(()) };
            let Poll::Ready((resume, parts)) = resuming.poll_unpin(cx) else { return Ok(()) };
            self.resumed(resume, parts, now)?;
        }
    }

    /// Ready when something is due.
    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = self.deadline();
        // A timer that is set too early costs one turn for nothing, setting it costs each turn.
        if self.timer.is_elapsed() || deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        self.timer.as_mut().poll(cx)
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.state.deadline();
        if let Some(since) = self.wire.outbox.stalled_since() {
            deadline = deadline.min(since + self.app.settings.stall);
        }
        if let Some(end) = self.state.ends_at() {
            deadline = deadline.min(Instant::now() + end.since(Timestamp::now()));
        }
        deadline
    }
}
