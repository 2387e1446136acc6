//! What a session decides: a pure machine. `step` takes what happened and says what to do; `session.rs` does it.
//!
//! The order of events on a socket rests on three rules. Events wait in the mailbox until the first resume has
//! ended; the resume gives everything up to the frontier that this node had heard of; and what comes from the
//! mailbox then is dropped where `seen` covers it. So each event is given once, in order, with none missing.

mod confirm;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::close::Close;
use super::protocol::{self, Ref, Said};
use crate::auth::LEEWAY;
use crate::chat::resume::{From, Part};
use crate::chat::send::{Command, Target};
use crate::chat::wire::UserRef;
use crate::delivery::frame;
use crate::delivery::mailbox::{Contents, Item};
use crate::domain::{
    ConversationId, CursorScope, Error, ErrorCode, Frontier, Secret, Seq, Timestamp, UserId,
};
use confirm::Confirm;

/// A client that sends no `resume` in this time after `hello` gets the server's own.
pub const RESUME_WITHIN: Duration = Duration::from_secs(1);
/// The time between two `cursor` frames at least.
pub const CURSOR_EVERY: Duration = Duration::from_secs(5);
/// Frames that are no JSON are counted over so long.
const BAD_JSON_WITHIN: Duration = Duration::from_secs(60);

/// What a session knows from its handshake.
#[derive(Debug, Clone)]
pub struct Opening {
    /// Whose cursors.
    pub scope: CursorScope,
    /// Whether an answered ping confirms; not for clients with `acks=app`.
    pub pong_confirms: bool,
    /// The time between two pings at most.
    pub heartbeat: Duration,
    /// When the token ends.
    pub expires_at: Option<Timestamp>,
    /// Frames that are no JSON, forgiven in a minute.
    pub bad_json_per_minute: u32,
}

/// Something that happened.
#[derive(Debug)]
pub enum Input<'a> {
    /// A text message came.
    Text(&'a str),
    /// A pong came.
    Pong(&'a [u8]),
    /// The mailbox was emptied as far as there was room; `heard` is what this node had heard of before.
    Mail {
        /// What was in it.
        contents: Contents,
        /// The hub's frontier, read before the mailbox was emptied.
        heard: Frontier,
    },
    /// A part of the resume.
    Part(Part),
    /// The resume under way has ended, and has given everything up to here.
    ResumeEnded(Frontier),
    /// The resume under way failed for the first time; it is tried again until it succeeds.
    ResumeFailed(Error),
    /// The token of `auth` was judged: when it ends, if ever.
    Renewed(Ref, Result<Option<Timestamp>, Error>),
    /// Messages of this socket failed, and the errors are written: a fence goes behind them.
    Fence,
    /// Time has passed.
    Tick,
}

/// Something to do, in this order.
#[derive(Debug)]
pub enum Action {
    /// Write a text message; a socket with no room for it is too slow.
    Write(Bytes),
    /// Write a part of a resume, for which the socket was asked whether it has room.
    WriteAtPace(Bytes),
    /// Write a ping with this payload.
    Ping([u8; 8]),
    /// Check and append what becomes a record.
    Send(Ref, Box<Command>),
    /// Take messages again that come from now on.
    LiftFence,
    /// `received`, with the highest seq that is known here to exist.
    Received(Ref, ConversationId, Seq, Seq),
    /// `read`, likewise.
    Read(Ref, ConversationId, Seq, Seq),
    /// Tell the other members that this user types there, or no more.
    Typing(Ref, Target, bool),
    /// Tell who of these is there, now and when it changes, in place of whom was told of before.
    Watch(Ref, Vec<UserRef>),
    /// This device has these events.
    Delivered(ConversationId, Seq, Seq),
    /// Begin a resume.
    Resume(From),
    /// Judge a token.
    Renew(Ref, Secret<String>),
    /// End the socket.
    Close(Close),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// No resume yet; the server makes its own at this moment.
    Fresh(Instant),
    /// A resume is under way.
    Resuming,
    /// Events come from the mailbox.
    Live,
}

/// A session.
#[derive(Debug)]
pub struct State {
    opening: Opening,
    phase: Phase,
    /// Everything that this covers has been given; `None` before the first resume has ended.
    seen: Option<Frontier>,
    /// The mark of the client's `resume`, for `resumed`.
    resume_mark: Ref,
    /// A resume asked for while one was under way.
    wished: Option<(Ref, From)>,
    confirm: Confirm,
    /// The mailbox was found empty, and whole, since the last resume: this socket keeps up.
    settled: bool,
    /// Events were given since the last cursor.
    moved: bool,
    last_cursor: Instant,
    /// When frames that are no JSON came within the last minute.
    bad_json: VecDeque<Instant>,
}

impl State {
    /// A session whose `hello` is written.
    pub fn new(opening: Opening, now: Instant) -> Self {
        Self {
            confirm: Confirm::new(opening.pong_confirms, opening.heartbeat, now),
            opening,
            phase: Phase::Fresh(now + RESUME_WITHIN),
            seen: None,
            resume_mark: None,
            wished: None,
            settled: false,
            moved: false,
            last_cursor: now,
            bad_json: VecDeque::new(),
        }
    }

    /// Whether events may be taken out of the mailbox.
    pub fn is_live(&self) -> bool {
        self.phase == Phase::Live
    }

    /// Something happened: what is to be done.
    pub fn step(&mut self, input: Input<'_>, now: Instant, actions: &mut Vec<Action>) {
        match input {
            Input::Text(text) => self.text(text, now, actions),
            Input::Pong(payload) => self.confirm.ponged(payload, actions),
            Input::Mail { contents, heard } => self.mail(contents, &heard, actions),
            Input::Part(part) => self.part(part, now, actions),
            Input::ResumeEnded(frontier) => self.resume_ended(&frontier, actions),
            Input::ResumeFailed(error) => {
                actions.push(Action::Write(protocol::error(&error, &self.resume_mark, None)));
            }
            Input::Renewed(mark, judged) => self.renewed(&mark, judged, actions),
            Input::Fence => self.confirm.fence(now, actions),
            Input::Tick => {}
        }
        self.pass_time(now, actions);
    }

    /// When something is due next without anything happening.
    pub fn deadline(&self) -> Instant {
        let mut deadline = self.confirm.deadline();
        if let Phase::Fresh(until) = self.phase {
            deadline = deadline.min(until);
        }
        if self.moved && self.phase == Phase::Live {
            deadline = deadline.min(self.last_cursor + CURSOR_EVERY);
        }
        deadline
    }

    fn pass_time(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Phase::Fresh(until) = self.phase
            && now >= until
        {
            self.resume(None, From::Confirmed, actions);
        }
        if self.moved && self.phase == Phase::Live && now >= self.last_cursor + CURSOR_EVERY {
            (self.moved, self.last_cursor) = (false, now);
            actions.extend(self.cursor().map(|cursor| Action::Write(protocol::cursor_frame(&cursor))));
        }
        self.confirm.pass_time(now, actions);
        // The token's end is a time of day; the heartbeat brings us here often enough only below 10 s, so
        // `session` also ticks when it is reached.
        if self.ends_at().is_some_and(|end| Timestamp::now() >= end) {
            actions.push(Action::Close(Close::token()));
        }
    }

    /// When the token ends.
    pub fn ends_at(&self) -> Option<Timestamp> {
        self.opening.expires_at.map(|end| end.plus(LEEWAY))
    }

    fn text(&mut self, text: &str, now: Instant, actions: &mut Vec<Action>) {
        match protocol::parse(text) {
            Ok((mark, said)) => self.said(mark, said, actions),
            Err(refusal) => {
                let frame = protocol::error(&refusal.error, &refusal.mark, refusal.client_id.as_ref());
                actions.push(Action::Write(frame));
                if refusal.error.code == ErrorCode::BadJson {
                    self.count_bad_json(now, actions);
                }
            }
        }
    }

    fn count_bad_json(&mut self, now: Instant, actions: &mut Vec<Action>) {
        while self.bad_json.front().is_some_and(|&at| now.duration_since(at) >= BAD_JSON_WITHIN) {
            self.bad_json.pop_front();
        }
        self.bad_json.push_back(now);
        if self.bad_json.len() > self.opening.bad_json_per_minute as usize {
            actions.push(Action::Close(Close::bad_json()));
        }
    }

    fn said(&mut self, mark: Ref, said: Said, actions: &mut Vec<Action>) {
        match said {
            Said::Command(command) => actions.push(Action::Send(mark, command)),
            Said::Received(conversation, seq) => {
                actions.push(Action::Received(mark, conversation, seq, self.confirm.highest(conversation)));
            }
            Said::Read(conversation, seq) => {
                actions.push(Action::Read(mark, conversation, seq, self.confirm.highest(conversation)));
            }
            Said::Typing(target, is_active) => actions.push(Action::Typing(mark, target, is_active)),
            Said::Watch(users) => actions.push(Action::Watch(mark, users)),
            Said::Resume(cursor) => self.resume(mark, cursor.map_or(From::Confirmed, From::Cursor), actions),
            Said::Auth(token) => actions.push(Action::Renew(mark, token)),
            Said::Ping => {
                let frame = protocol::pong(self.cursor().as_deref(), &mark);
                actions.push(Action::Write(frame));
            }
        }
    }

    fn resume(&mut self, mark: Ref, from: From, actions: &mut Vec<Action>) {
        if self.phase == Phase::Resuming {
            if let Some((before, _)) = self.wished.replace((mark, from)) {
                let error = Error::new(ErrorCode::Conflict, "another resume came before this one began");
                actions.push(Action::Write(protocol::error(&error, &before, None)));
            }
            return;
        }
        self.phase = Phase::Resuming;
        self.settled = false;
        self.resume_mark = mark;
        let from = match (from, &self.seen) {
            (From::Confirmed, Some(seen)) => From::Again(seen.clone()),
            (from, _) => from,
        };
        actions.push(Action::Resume(from));
    }

    fn part(&mut self, part: Part, now: Instant, actions: &mut Vec<Action>) {
        let user = self.opening.scope.user;
        let text = match part {
            Part::Event(event) => {
                self.given(event.conversation, event.seq, event.seq);
                frame::event(&event, user)
            }
            Part::Gap { conversation, from, to } => {
                self.given(conversation, from, to);
                protocol::gap(conversation, from, to)
            }
            Part::Rejected(rejection) => frame::rejected(&rejection),
            Part::Receipt(receipt) => frame::receipt(&receipt),
            Part::Resumed { frontier, conversations } => {
                // `resumed` carries the cursor; the next one is due when something came after it.
                (self.moved, self.last_cursor) = (false, now);
                let cursor = self.opening.scope.encode(&frontier);
                protocol::resumed(&cursor, &conversations, &self.resume_mark.take())
            }
        };
        actions.push(Action::WriteAtPace(text));
    }

    fn resume_ended(&mut self, until: &Frontier, actions: &mut Vec<Action>) {
        match &mut self.seen {
            Some(seen) => seen.merge(until),
            None => self.seen = Some(until.clone()),
        }
        self.phase = Phase::Live;
        if let Some((mark, from)) = self.wished.take() {
            self.resume(mark, from, actions);
        }
    }

    fn mail(&mut self, contents: Contents, heard: &Frontier, actions: &mut Vec<Action>) {
        if contents.evicted.is_some() {
            actions.push(Action::Close(Close::replaced()));
            return;
        }
        for item in contents.items {
            match item {
                Item::Event { position, conversation, seq, frame } => {
                    if self.is_new(position) {
                        self.given(conversation, seq, seq);
                        actions.push(Action::Write(frame));
                    }
                }
                Item::Rejected { position, frame } => {
                    if self.is_new(position) {
                        actions.push(Action::Write(frame));
                    }
                }
                Item::Signal(frame) => actions.push(Action::Write(frame)),
            }
        }
        let (Phase::Live, Some(seen)) = (self.phase, &mut self.seen) else { return };
        if contents.overflowed && self.settled {
            actions.push(Action::Close(Close::slow()));
        } else if contents.overflowed {
            // What was dropped while this socket caught up is read from storage instead.
            let seen = seen.clone();
            self.resume(None, From::Given(seen), actions);
        } else if contents.emptied {
            seen.merge(heard);
            self.settled = true;
        }
    }

    /// Whether an item of the mailbox was not given before; from now on it is.
    fn is_new(&mut self, position: crate::domain::Position) -> bool {
        let Some(seen) = &mut self.seen else { return false };
        let new = !seen.covers(position);
        if new && position.log == seen.log {
            seen.advance(position.partition, position.offset);
        }
        new
    }

    fn given(&mut self, conversation: ConversationId, from: Seq, to: Seq) {
        self.confirm.given(conversation, from, to);
        self.moved = true;
    }

    fn renewed(&mut self, mark: &Ref, judged: Result<Option<Timestamp>, Error>, actions: &mut Vec<Action>) {
        match judged {
            Ok(expires_at) => {
                self.opening.expires_at = expires_at;
                actions.push(Action::Write(protocol::authenticated(expires_at, mark)));
            }
            Err(error) => actions.push(Action::Write(protocol::error(&error, mark, None))),
        }
    }

    fn cursor(&self) -> Option<String> {
        self.seen.as_ref().map(|seen| self.opening.scope.encode(seen))
    }

    /// Whose session this is.
    pub fn user(&self) -> UserId {
        self.opening.scope.user
    }
}

#[cfg(test)]
mod tests;
