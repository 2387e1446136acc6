//! One socket's task: takes what is ready, asks the state, does what it says. The socket is this task's alone.

mod handle; // what happened, put before the state
mod perform; // what the state says, done; the end
mod signals; // frames that the log knows nothing of
mod turn; // what is looked at, in which order, and what is waited for
mod work; // what is waited for besides the socket

use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;

use futures_util::future::LocalBoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, Sleep, sleep_until};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::frame::Frame;
use super::guard::GuardLimits;
use super::handover::Upgraded;
use super::outbox::OutboxLimits;
use super::protocol::{self, HelloLimits};
use super::sends::Sends;
use super::state::{Opening, State};
use super::wire::Wire;
use crate::app::App;
use crate::chat::Caller;
use crate::chat::resume::{From, Part};
use crate::delivery::Attachment;
use crate::domain::CursorScope;
use work::{Judged, Renewing, Resuming};

/// Who opens a socket.
pub struct Visitor {
    /// The user.
    pub caller: Caller,
    /// `acks=app`: only `received` and `read` confirm.
    pub acks_by_app: bool,
    /// The place in the hub.
    pub attachment: Attachment,
}

/// A session; boxed by who spawns it, since there are many.
pub struct Session {
    app: Arc<App>,
    /// A set of one, since a set polls only what was woken: the token has a lock that all sockets share.
    drain: FuturesUnordered<WaitForCancellationFutureOwned>,
    /// Kept over all turns: to wait anew each time would cost more than the rest.
    timer: Pin<Box<Sleep>>,
    state: State,
    wire: Wire,
    caller: Caller,
    attachment: Attachment,
    sends: Sends,
    receipts: FuturesUnordered<LocalBoxFuture<'static, Judged>>,
    renewal: Option<Renewing>,
    resume: Option<(From, Resuming)>,
    resume_failed: bool,
    parts: std::vec::IntoIter<Part>,
    /// The peer may have said more than was looked at.
    more_input: bool,
    /// The mailbox may hold more than was looked at.
    more_mail: bool,
    /// Events had to wait for room: the peer is not taken from before them.
    events_first: bool,
}

impl Session {
    /// A session that has said `hello`.
    pub async fn open(
        app: Arc<App>,
        visitor: Visitor,
        upgraded: Upgraded,
        guard: GuardLimits,
        drain: CancellationToken,
    ) -> Box<Self> {
        let Visitor { caller, acks_by_app, attachment } = visitor;
        let mut wire = Wire::new(upgraded, guard, OutboxLimits::default());
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
        // An empty outbox has room for it, and a failed socket is noticed by the first turn.
        let _ = wire.outbox.push(Frame::text_bytes(&hello));
        poll_fn(|cx| Poll::Ready(wire.poll_send(cx).is_ready())).await;
        Box::new(Self {
            state: State::new(opening, Instant::now()),
            sends: Sends::new(Arc::clone(&app)),
            receipts: FuturesUnordered::new(),
            renewal: None,
            resume: None,
            resume_failed: false,
            parts: Vec::new().into_iter(),
            more_input: false,
            more_mail: false,
            events_first: false,
            app,
            drain: FuturesUnordered::from_iter([drain.cancelled_owned()]),
            timer: Box::pin(sleep_until(Instant::now())),
            wire,
            caller,
            attachment,
        })
    }

    /// Runs until the socket has ended; what is left lingers, unless the peer is gone.
    pub async fn run(mut self: Box<Self>) -> Option<Wire> {
        let close = poll_fn(|cx| self.poll_turn(cx)).await;
        // Apart, since most of a session's life has no use for its room.
        Box::pin(self.end(close)).await
    }
}
