//! One socket's task: waits for what happens, asks the state, does what it says. Only this task writes the
//! socket.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::close::Close;
use super::frame::Frame;
use super::inbound::{Inbound, Incoming};
use super::outbox::{OutboxSender, PushError};
use super::protocol::{self, HelloLimits, Ref};
use super::sends::{IN_FLIGHT_MAX, Sends, Settled};
use super::state::{Action, Input, Opening, State};
use crate::app::App;
use crate::auth::AuthError;
use crate::chat::resume::{From, Part, Resume};
use crate::chat::{Caller, authorize, caller, receipts};
use crate::delivery::Attachment;
use crate::domain::{ConversationId, CursorScope, Error, Frontier, Secret, Seq, Timestamp};

/// Bytes moved from the mailbox to the outbox at a time; with what the mailbox holds, 256 KiB wait at most.
const MOVED_BYTES: usize = 16 * 1024;
/// How long the last frames are tried before the connection is dropped.
const CLOSE_WITHIN: Duration = Duration::from_secs(5);
/// How long what was sent may take to be accepted when the server stops.
const DRAIN_WITHIN: Duration = Duration::from_secs(4);
/// Receipts of one socket being judged at once; beyond that the socket is not read.
const RECEIPTS_MAX: usize = 64;
/// The pause before a resume is tried again.
const RESUME_RETRY: Duration = Duration::from_secs(1);

/// What a socket brings from its upgrade.
pub struct Socket {
    /// The read side.
    pub inbound: Inbound,
    /// The write side.
    pub outbox: OutboxSender,
    /// Who.
    pub caller: Caller,
    /// `acks=app`: only `received` and `read` confirm.
    pub acks_by_app: bool,
    /// The place in the hub.
    pub attachment: Attachment,
}

type Resuming = LocalBoxFuture<'static, (Option<Resume>, Result<Vec<Part>, Error>)>;
type Judged = (Ref, Result<(), Error>);

/// A session; boxed by who spawns it, since there are many.
pub struct Session {
    app: Arc<App>,
    /// Kept over all rounds of the loop, as is `timer`: to wait anew each time would cost more than the rest.
    drain: Pin<Box<WaitForCancellationFutureOwned>>,
    timer: Pin<Box<Sleep>>,
    state: State,
    inbound: Inbound,
    outbox: OutboxSender,
    caller: Caller,
    attachment: Attachment,
    sends: Sends,
    receipts: FuturesUnordered<LocalBoxFuture<'static, Judged>>,
    renewal: Option<LocalBoxFuture<'static, (Ref, Result<Caller, Error>)>>,
    resume: Option<(From, Resuming)>,
    resume_failed: bool,
    parts: std::vec::IntoIter<Part>,
    /// The mailbox was not emptied the last time.
    more_mail: bool,
}

enum Happened {
    Incoming(Option<Result<Incoming, super::violation::Violation>>),
    Mail,
    Settled(Settled),
    Receipt(Judged),
    Renewed(Ref, Result<Caller, Error>),
    Resumed(Option<Resume>, Result<Vec<Part>, Error>),
    Room,
    Time,
    Gone,
    Drain,
}

impl Session {
    /// A session that has said `hello`.
    pub fn new(app: Arc<App>, socket: Socket, drain: CancellationToken) -> Self {
        let Socket { inbound, outbox, caller, acks_by_app, attachment } = socket;
        let opening = Opening {
            scope: CursorScope { incarnation: app.incarnation, user: caller.id() },
            pong_confirms: app.settings.pong_confirms && !acks_by_app,
            heartbeat: app.settings.heartbeat,
            expires_at: caller.expires_at,
            bad_json_per_minute: app.settings.bad_json_per_minute,
        };
        let limits = HelloLimits {
            message_bytes: app.settings.message_bytes_max,
            content_bytes: app.settings.content_bytes_max,
            data_bytes: app.settings.data_bytes_max,
        };
        let heartbeat_ms = u64::try_from(app.settings.heartbeat.as_millis()).unwrap_or(u64::MAX);
        let name = uuid::Uuid::new_v4().simple().to_string();
        let hello = protocol::hello(&caller.user, &name, &app.settings.node, heartbeat_ms, &limits);
        // An empty outbox has room for it.
        let _ = outbox.push(Frame::text_bytes(&hello));
        Self {
            state: State::new(opening, Instant::now()),
            sends: Sends::new(Arc::clone(&app)),
            receipts: FuturesUnordered::new(),
            renewal: None,
            resume: None,
            resume_failed: false,
            parts: Vec::new().into_iter(),
            more_mail: false,
            app,
            drain: Box::pin(drain.cancelled_owned()),
            timer: Box::pin(sleep_until(Instant::now())),
            inbound,
            outbox,
            caller,
            attachment,
        }
    }

    /// Runs until the socket ends.
    pub async fn run(mut self) {
        let mut actions = Vec::new();
        let close = loop {
            let happened = self.next().await;
            let end = self.handle(happened, &mut actions);
            if let Some(close) = end.or_else(|| self.perform(&mut actions)) {
                break close;
            }
            if actions.capacity() > 16 {
                actions = Vec::new();
            }
        };
        self.end(close).await;
    }

    /// Waits for the next thing to happen.
    async fn next(&mut self) -> Happened {
        let readable = self.sends.len() < IN_FLIGHT_MAX
            && self.receipts.len() < RECEIPTS_MAX
            && self.renewal.is_none()
            && self.outbox.queued_bytes() < 4 * MOVED_BYTES;
        let writable = self.outbox.queued_bytes() <= MOVED_BYTES;
        let parting = self.parts.len() > 0;
        let deadline = self.deadline();
        // A timer that is set too early costs one round for nothing, setting it costs each round.
        if self.timer.is_elapsed() || deadline < self.timer.deadline() {
            self.timer.as_mut().reset(deadline);
        }
        let mailbox = Arc::clone(self.attachment.mailbox());
        tokio::select! {
            incoming = self.inbound.recv(), if readable => Happened::Incoming(incoming),
            () = std::future::ready(()), if writable && self.more_mail => Happened::Mail,
            () = mailbox.arrived(), if writable => Happened::Mail,
            settled = self.sends.next(&self.caller) => Happened::Settled(settled),
            Some(judged) = self.receipts.next(), if !self.receipts.is_empty() => Happened::Receipt(judged),
            (mark, renewed) = poll_optional(self.renewal.as_mut()) => Happened::Renewed(mark, renewed),
            (resume, parts) = poll_optional(self.resume.as_mut().map(|(_, f)| f)), if !parting =>
                Happened::Resumed(resume, parts),
            () = self.outbox.room(MOVED_BYTES), if !writable || parting => Happened::Room,
            () = self.outbox.closed() => Happened::Gone,
            () = self.timer.as_mut() => Happened::Time,
            () = self.drain.as_mut() => Happened::Drain,
        }
    }

    fn deadline(&self) -> Instant {
        let mut deadline = self.state.deadline();
        if !self.outbox.is_drained() {
            deadline = deadline.min(self.outbox.last_progress() + self.app.settings.stall);
        }
        if let Some(end) = self.state.expires_at() {
            deadline = deadline.min(Instant::now() + end.since(Timestamp::now()));
        }
        deadline
    }

    /// Lets the state judge what happened; a close that needs no judging is returned.
    fn handle(&mut self, happened: Happened, actions: &mut Vec<Action>) -> Option<Close> {
        let now = Instant::now();
        if self.outbox.stalled_for(now) >= self.app.settings.stall {
            return Some(Close::slow());
        }
        match happened {
            Happened::Incoming(incoming) => return self.incoming(incoming, now, actions),
            Happened::Mail => self.take_mail(now, actions),
            Happened::Settled(settled) => self.settled(settled, actions),
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
        incoming: Option<Result<Incoming, super::violation::Violation>>,
        now: Instant,
        actions: &mut Vec<Action>,
    ) -> Option<Close> {
        match incoming {
            Some(Ok(Incoming::Text(text))) => self.state.step(Input::Text(&text), now, actions),
            Some(Ok(Incoming::Pong(payload))) => self.state.step(Input::Pong(&payload), now, actions),
            // The guard bounds how many come; an outbox without room for one is that of a slow peer.
            Some(Ok(Incoming::Ping(payload))) => {
                if self.outbox.push(Frame::pong(&payload)) == Err(PushError::Full) {
                    return Some(Close::slow());
                }
            }
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
        self.state.step(Input::Mail { contents, heard }, now, actions);
    }

    fn settled(&mut self, settled: Settled, actions: &mut Vec<Action>) {
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
                Err(Error::new(crate::domain::ErrorCode::Unauthorized, "the token is another user's"))
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

    /// Does what the state says; the first close ends it.
    fn perform(&mut self, actions: &mut Vec<Action>) -> Option<Close> {
        for action in actions.drain(..) {
            let frame = match action {
                Action::Write(text) => Frame::text_bytes(&text),
                Action::Ping(payload) => Frame::ping(&payload),
                Action::Close(close) => return Some(close),
                Action::Send(mark, body) => {
                    self.sends.push(mark, *body, &self.caller);
                    continue;
                }
                Action::Received(mark, conversation, seq, known) => {
                    self.receipts.push(judge(
                        &self.app,
                        &self.caller,
                        mark,
                        (conversation, seq, known),
                        false,
                    ));
                    continue;
                }
                Action::Read(mark, conversation, seq, known) => {
                    self.receipts.push(judge(
                        &self.app,
                        &self.caller,
                        mark,
                        (conversation, seq, known),
                        true,
                    ));
                    continue;
                }
                Action::Delivered(conversation, from, to) => {
                    if let Ok(member) = authorize::member(self.caller.id(), conversation) {
                        receipts::delivered(&self.app, member, from, to);
                    }
                    continue;
                }
                Action::Resume(from) => {
                    let resuming = go_on(&self.app, self.caller.id(), from.clone(), None, false);
                    self.resume = Some((from, resuming));
                    continue;
                }
                Action::Renew(mark, token) => {
                    self.renewal = Some(renew(&self.app, mark, token));
                    continue;
                }
            };
            match self.outbox.push(frame) {
                Ok(()) => {}
                Err(PushError::Full) => return Some(Close::slow()),
                Err(PushError::Closed) => return Some(Close::normal()),
            }
        }
        None
    }

    /// Says goodbye within bounds, and leaves the hub.
    async fn end(mut self, close: Close) {
        if close.code == 1001 {
            self.settle_sends().await;
        }
        if close.code == 4430 {
            self.outbox.discard();
        }
        if close.announced {
            let _ = self.outbox.push(Frame::text_bytes(&protocol::closing(&close)));
        }
        metrics::counter!("chatd_sockets_closed_total", "code" => close.code.to_string()).increment(1);
        tracing::debug!(user = %self.caller.id(), code = close.code, "socket closed: {}", close.reason);
        self.outbox.finish(Frame::close(close.code, close.reason));
        drop(self.attachment);
        if tokio::time::timeout(CLOSE_WITHIN, self.outbox.closed()).await.is_err() {
            self.outbox.abort();
        }
    }

    /// What was sent before the server stopped is answered.
    async fn settle_sends(&mut self) {
        let until = Instant::now() + DRAIN_WITHIN;
        let mut actions = Vec::new();
        while !self.sends.is_empty() {
            let Ok(settled) = tokio::time::timeout_at(until, self.sends.next(&self.caller)).await else {
                return;
            };
            self.settled(settled, &mut actions);
            if self.perform(&mut actions).is_some() {
                return;
            }
        }
    }
}

/// Waits for a future where there is one, for ever where there is none.
async fn poll_optional<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

/// The next step of a resume, or its beginning; after a failure a while later.
fn go_on(
    app: &Arc<App>,
    user: crate::domain::UserId,
    from: From,
    resume: Option<Resume>,
    failed: bool,
) -> Resuming {
    let app = Arc::clone(app);
    Box::pin(async move {
        if failed {
            tokio::time::sleep(RESUME_RETRY).await;
        }
        let mut resume = match resume {
            Some(resume) => resume,
            None => match Resume::begin(&app, user, from).await {
                Ok(resume) => resume,
                Err(error) => return (None, Err(error)),
            },
        };
        let parts = resume.next(&app).await;
        (Some(resume), parts)
    })
}

fn judge(
    app: &Arc<App>,
    caller: &Caller,
    mark: Ref,
    (conversation, seq, known): (ConversationId, Seq, Seq),
    read: bool,
) -> LocalBoxFuture<'static, Judged> {
    let (app, user) = (Arc::clone(app), caller.id());
    Box::pin(async move {
        let result = match authorize::member(user, conversation) {
            Ok(member) if read => receipts::read(&app, member, seq, known).await,
            Ok(member) => receipts::received(&app, member, seq, known).await,
            Err(error) => Err(error),
        };
        (mark, result)
    })
}

fn renew(
    app: &Arc<App>,
    mark: Ref,
    token: Secret<String>,
) -> LocalBoxFuture<'static, (Ref, Result<Caller, Error>)> {
    let app = Arc::clone(app);
    Box::pin(async move {
        let renewed = match app.tokens.verify(token.expose()) {
            Ok(claims) => caller::identify(&app, &claims).await,
            Err(error) => Err(AuthError::into(error)),
        };
        (mark, renewed)
    })
}
