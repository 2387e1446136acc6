//! What happened, put before the state.

use tokio::time::Instant;

use super::Session;
use super::turn::MOVED_BYTES;
use super::work::go_on;
use crate::chat::Caller;
use crate::chat::resume::{Part, Resume};
use crate::domain::{Error, ErrorCode, Frontier};
use crate::ws::close::Close;
use crate::ws::frame::Frame;
use crate::ws::inbound::Incoming;
use crate::ws::protocol::{self, Ref};
use crate::ws::sends::Settled;
use crate::ws::state::{Action, Input};

impl Session {
    /// Lets the state judge what happened, and does what it says; the first close ends it.
    pub(super) fn step(&mut self, input: Input<'_>, now: Instant) -> Result<(), Close> {
        let mut actions = Vec::new();
        self.state.step(input, now, &mut actions);
        actions.into_iter().try_for_each(|action| self.act(action))
    }

    pub(super) fn incoming(&mut self, incoming: Incoming, now: Instant) -> Result<(), Close> {
        match incoming {
            Incoming::Text(text) => self.step(Input::Text(&text), now),
            Incoming::Pong(payload) => self.step(Input::Pong(&payload), now),
            // The guard bounds how many come; an outbox without room for one is that of a slow peer.
            Incoming::Ping(payload) => self.push(Frame::pong(&payload)),
            Incoming::Close(_) => Err(Close::normal()),
        }
    }

    pub(super) fn empty_mailbox(&mut self, now: Instant) -> Result<(), Close> {
        let mailbox = self.attachment.mailbox();
        // Read first: everything that it covers is in the mailbox by now, or was before.
        let heard = self.app.hub.heard();
        let live = self.state.is_live();
        let contents = if live { mailbox.take(MOVED_BYTES) } else { mailbox.take_signals() };
        self.more_mail = live && !contents.emptied;
        if contents.lost_signals {
            self.app.hub.watchers().again(self.attachment.place());
        }
        self.step(Input::Mail { contents, heard }, now)
    }

    pub(super) fn settled(&mut self, settled: Settled) -> Result<(), Close> {
        let Settled { mark, client_id, result } = settled;
        self.act(Action::Write(match result {
            Ok(accepted) => protocol::accepted(&accepted, &mark),
            Err(error) => protocol::error(&error, &mark, client_id.as_ref()),
        }))
    }

    pub(super) fn renewed(
        &mut self,
        mark: Ref,
        renewed: Result<Caller, Error>,
        now: Instant,
    ) -> Result<(), Close> {
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
        self.step(Input::Renewed(mark, judged), now)
    }

    pub(super) fn resumed(
        &mut self,
        resume: Option<Resume>,
        parts: Result<Vec<Part>, Error>,
        now: Instant,
    ) -> Result<(), Close> {
        let Some((from, _)) = self.resume.take() else { return Ok(()) };
        match (resume, parts) {
            (Some(resume), Ok(parts)) if parts.is_empty() => {
                let until: Frontier = resume.until().clone();
                self.step(Input::ResumeEnded(until), now)?;
                // What came while it was under way waits in the mailbox.
                self.empty_mailbox(now)?;
            }
            (resume, Ok(parts)) => {
                self.resume_failed = false;
                self.parts = parts.into_iter();
                self.resume = Some((from.clone(), go_on(&self.app, self.caller.id(), from, resume, false)));
            }
            (resume, Err(error)) => {
                let again = go_on(&self.app, self.caller.id(), from.clone(), resume, true);
                self.resume = Some((from, again));
                if !std::mem::replace(&mut self.resume_failed, true) {
                    self.step(Input::ResumeFailed(error), now)?;
                }
            }
        }
        Ok(())
    }
}
