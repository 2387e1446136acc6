//! One socket's task: waits for what happens, asks the state, does what it says. Only this task writes the
//! socket.

mod handle; // what happened, put before the state
mod perform; // what the state says, done; the end
mod signals; // frames that the log knows nothing of
mod work; // what is waited for besides the socket

use std::pin::Pin;
use std::sync::Arc;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::frame::Frame;
use super::inbound::{Inbound, Incoming};
use super::outbox::OutboxSender;
use super::protocol::{self, HelloLimits, Ref};
use super::sends::{IN_FLIGHT_MAX, Sends, Settled};
use super::state::{Opening, State};
use super::violation::Violation;
use crate::app::App;
use crate::chat::Caller;
use crate::chat::resume::{From, Part, Resume};
use crate::delivery::Attachment;
use crate::domain::{CursorScope, Error, Timestamp};
use work::{Judged, Renewing, Resuming};

/// Bytes moved from the mailbox to the outbox at a time; with what the mailbox holds, 256 KiB wait at most.
const MOVED_BYTES: usize = 16 * 1024;
/// Receipts of one socket being judged at once; beyond that the socket is not read.
const RECEIPTS_MAX: usize = 64;

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
    renewal: Option<Renewing>,
    resume: Option<(From, Resuming)>,
    resume_failed: bool,
    parts: std::vec::IntoIter<Part>,
    /// The mailbox was not emptied the last time.
    more_mail: bool,
}

enum Happened {
    Incoming(Option<Result<Incoming, Violation>>),
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
    pub fn new(app: Arc<App>, socket: Socket, drain: CancellationToken) -> Box<Self> {
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
        Box::new(Self {
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
        })
    }

    /// Runs until the socket ends.
    pub async fn run(mut self: Box<Self>) {
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
        // Apart, since most of a session's life has no use for its room.
        Box::pin(self.end(close)).await;
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
        if let Some(end) = self.state.ends_at() {
            deadline = deadline.min(Instant::now() + end.since(Timestamp::now()));
        }
        deadline
    }
}

/// Waits for a future where there is one, for ever where there is none.
async fn poll_optional<F: Future + Unpin>(future: Option<&mut F>) -> F::Output {
    match future {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}
