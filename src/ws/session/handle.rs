//! What happened, put before the state.

use tokio::time::Instant;

use super::work::go_on;
use super::{Happened, MOVED_BYTES, Session};
use crate::chat::Caller;
use crate::chat::resume::{Part, Resume};
use crate::domain::{Error, ErrorCode, Frontier};
use crate::ws::close::Close;
use crate::ws::frame::Frame;
use crate::ws::inbound::Incoming;
use crate::ws::protocol::{self, Ref};
use crate::ws::sends::Settled;
use crate::ws::state::{Action, Input};
use crate::ws::violation::Violation;

impl Session {
    /// Lets the state judge what happened; a close that needs no judging is returned.
    pub(super) fn handle(&mut self, happened: Happened, actions: &mut Vec<Action>) -> Option<Close> {
        let now = Instant::now();
        if self.outbox.stalled_for(now) >= self.app.settings.stall {
            return Some(Close::slow());
        }
        match happened {
            Happened::Incoming(incoming) => return self.incoming(incoming, now, actions),
            Happened::Mail => self.take_mail(now, actions),
            Happened::Settled(settled) => {
                self.settled(settled, actions);
                if self.sends.wants_fence() {
                    self.state.step(Input::Fence, now, actions);
                }
            }
            Happened::Receipt((mark, result)) => {
                if let Err(error) = result {
                    actions.push(Action::Write(protocol::error(&error, &mark, None)));
                }
            }
            Happened::Renewed(mark, renewed) => self.renewed(mark, renewed, now, actions),
            Happened::Resumed(resume, parts) => self.resumed(resume, parts, now, actions),
            Happened::Room => {
                // One part at a time: the socket sets the pace of what it is given.
                match self.parts.next() {
                    Some(part) => self.state.step(Input::Part(part), now, actions),
                    None => self.take_mail(now, actions),
                }
            }
            Happened::Time => self.state.step(Input::Tick, now, actions),
            Happened::Gone => return Some(Close::normal()),
            Happened::Drain => return Some(Close::draining()),
        }
        None
    }

    fn incoming(
        &mut self,
        incoming: Option<Result<Incoming, Violation>>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<Close> {
        match incoming {
            Some(Ok(Incoming::Text(text))) => self.state.step(Input::Text(&text), now, actions),
            Some(Ok(Incoming::Pong(payload))) => self.state.step(Input::Pong(&payload), now, actions),
            // The guard bounds how many come; an outbox without room for one is that of a slow peer.
            Some(Ok(Incoming::Ping(payload))) => return self.push(Frame::pong(&payload)),
            Some(Ok(Incoming::Close(_))) | None => return Some(Close::normal()),
            Some(Err(violation)) => return Some(violation.into()),
        }
        None
    }

    fn take_mail(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let mailbox = self.attachment.mailbox();
        // Read first: everything that it covers is in the mailbox by now, or was before.
        let heard = self.app.hub.heard();
        let live = self.state.is_live();
        let contents = if live { mailbox.take(MOVED_BYTES) } else { mailbox.take_signals() };
        self.more_mail = live && !contents.emptied;
        if contents.lost_signals {
            self.app.hub.watchers().again(self.attachment.place());
        }
        self.state.step(Input::Mail { contents, heard }, now, actions);
    }

    pub(super) fn settled(&mut self, settled: Settled, actions: &mut Vec<Action>) {
        let Settled { mark, client_id, result } = settled;
        actions.push(Action::Write(match result {
            Ok(accepted) => protocol::accepted(&accepted, &mark),
            Err(error) => protocol::error(&error, &mark, client_id.as_ref()),
        }));
    }

    fn renewed(
        &mut self,
        mark: Ref,
        renewed: Result<Caller, Error>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        self.renewal = None;
        let judged = match renewed {
            Ok(caller) if caller.id() != self.caller.id() => {
                Err(Error::new(ErrorCode::Unauthorized, "the token is another user's"))
            }
            Ok(caller) => {
                self.caller = caller;
                Ok(self.caller.expires_at)
            }
            Err(error) => Err(error),
        };
        self.state.step(Input::Renewed(mark, judged), now, actions);
    }

    fn resumed(
        &mut self,
        resume: Option<Resume>,
        parts: Result<Vec<Part>, Error>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) {
        let Some((from, _)) = self.resume.take() else { return };
        match (resume, parts) {
            (Some(resume), Ok(parts)) if parts.is_empty() => {
                let until: Frontier = resume.until().clone();
                self.state.step(Input::ResumeEnded(until), now, actions);
                // What came while it was under way waits in the mailbox.
                self.take_mail(now, actions);
            }
            (resume, Ok(parts)) => {
                self.resume_failed = false;
                self.parts = parts.into_iter();
                self.resume = Some((from.clone(), go_on(&self.app, self.caller.id(), from, resume, false)));
            }
            (resume, Err(error)) => {
                if !self.resume_failed {
                    self.state.step(Input::ResumeFailed(error), now, actions);
                }
                self.resume_failed = true;
                self.resume = Some((from.clone(), go_on(&self.app, self.caller.id(), from, resume, true)));
            }
        }
    }
}
