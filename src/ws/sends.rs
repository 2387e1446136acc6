//! A socket's messages, and its changes of messages, on their way into the log, in the order sent. One is checked at a time, many are in
//! flight; when one fails for want of a dependency, those behind it fail too.
//!
//! **Fence.** Behind a failed message there are also those that its sender wrote before it read of the failure.
//! So from a failure on every message is refused, retries of durable ones among them. Once all are answered the
//! session writes a ping, the fence; what comes behind its pong was written with every error read, and is taken
//! again.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use futures_util::future::LocalBoxFuture;
use futures_util::stream::{FuturesOrdered, StreamExt};

use super::protocol::Ref;
use crate::app::App;
use crate::chat::Caller;
use crate::chat::send::{self, Accepted, Command, Prepared};
use crate::domain::{ClientId, Error, ErrorCode};
use crate::pipeline::{Generation, LogError};

/// Messages of one socket on their way at most; beyond that the socket is not read.
pub const IN_FLIGHT_MAX: usize = 256;

/// What became of a message.
pub struct Settled {
    /// The frame's mark.
    pub mark: Ref,
    /// The sender's own id, where it gave one.
    pub client_id: Option<ClientId>,
    /// Durable, or not taken.
    pub result: Result<Accepted, Error>,
}

struct Waiting {
    mark: Ref,
    client_id: Option<ClientId>,
    command: Command,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fence {
    /// Messages are taken.
    Open,
    /// One has failed; the ping is due as soon as all are answered.
    Failed,
    /// The ping is under way.
    Asked,
}

type Preparing = (Ref, Option<ClientId>, Pin<Box<dyn Future<Output = Result<Prepared, Error>>>>);

/// The messages of one socket.
pub struct Sends {
    app: Arc<App>,
    waiting: VecDeque<Waiting>,
    preparing: Option<Preparing>,
    appending: FuturesOrdered<LocalBoxFuture<'static, Settled>>,
    settled: VecDeque<Settled>,
    /// The log's generation when the first of those in flight was sent.
    generation: Generation,
    fence: Fence,
}

impl Sends {
    /// None yet.
    pub fn new(app: Arc<App>) -> Self {
        let generation = app.log.generation();
        Self {
            app,
            waiting: VecDeque::new(),
            preparing: None,
            appending: FuturesOrdered::new(),
            settled: VecDeque::new(),
            generation,
            fence: Fence::Open,
        }
    }

    /// How many are on their way.
    pub fn len(&self) -> usize {
        self.waiting.len() + usize::from(self.preparing.is_some()) + self.appending.len() + self.settled.len()
    }

    /// Whether none is on its way.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes a message, or refuses it behind one that failed.
    pub fn push(&mut self, mark: Ref, command: Command, caller: &Caller) {
        let client_id = command.client_id().cloned();
        if self.fence != Fence::Open {
            self.refuse(mark, client_id);
            return;
        }
        // Refusals that are not answered yet are in nobody's way.
        if self.waiting.is_empty() && self.preparing.is_none() && self.appending.is_empty() {
            self.generation = self.app.log.generation();
        }
        self.waiting.push_back(Waiting { mark, client_id, command });
        self.prepare(caller);
    }

    /// Whether the fence is to be written now, behind the last error; says so once for each.
    pub fn wants_fence(&mut self) -> bool {
        let wanted = self.fence == Fence::Failed && self.is_empty();
        if wanted {
            self.fence = Fence::Asked;
        }
        wanted
    }

    /// The fence was answered: messages are taken again.
    pub fn lift_fence(&mut self) {
        self.fence = Fence::Open;
    }

    /// The next answer; pends while nothing is on its way.
    pub fn poll_next(&mut self, caller: &Caller, cx: &mut Context<'_>) -> Poll<Settled> {
        loop {
            self.prepare(caller);
            if let Some(settled) = self.settled.pop_front() {
                return Poll::Ready(settled);
            }
            if let Some((.., future)) = &mut self.preparing
                && let Poll::Ready(prepared) = future.as_mut().poll(cx)
            {
                self.prepared(prepared);
                continue;
            }
            return match self.appending.poll_next_unpin(cx) {
                Poll::Ready(Some(settled)) => Poll::Ready(self.appended(settled)),
                Poll::Ready(None) | Poll::Pending => Poll::Pending,
            };
        }
    }

    /// Begins to check the first that waits, unless one is being checked.
    fn prepare(&mut self, caller: &Caller) {
        if self.preparing.is_some() {
            return;
        }
        let Some(Waiting { mark, client_id, command }) = self.waiting.pop_front() else { return };
        let (app, caller) = (Arc::clone(&self.app), caller.clone());
        let future = Box::pin(async move { send::prepare(&app, &caller, command).await });
        self.preparing = Some((mark, client_id, future));
    }

    fn prepared(&mut self, prepared: Result<Prepared, Error>) {
        let Some((mark, client_id, _)) = self.preparing.take() else { return };
        match prepared {
            Ok(_) if self.fence != Fence::Open => self.refuse(mark, client_id),
            Ok(prepared) => {
                let appending = send::append(&self.app, prepared, self.generation);
                self.appending
                    .push_back(Box::pin(async move { Settled { mark, client_id, result: appending.await } }));
            }
            Err(error) => {
                let open = leaves_fate_open(&error);
                self.settled.push_back(Settled { mark, client_id, result: Err(error) });
                if open {
                    self.fail();
                }
            }
        }
    }

    fn appended(&mut self, settled: Settled) -> Settled {
        if settled.result.as_ref().is_err_and(leaves_fate_open) {
            self.fail();
        }
        settled
    }

    /// What waits behind a message that will be sent again must not overtake it, nor what is yet to be read.
    fn fail(&mut self) {
        self.fence = Fence::Failed;
        for Waiting { mark, client_id, .. } in std::mem::take(&mut self.waiting) {
            self.refuse(mark, client_id);
        }
    }

    fn refuse(&mut self, mark: Ref, client_id: Option<ClientId>) {
        self.settled.push_back(Settled { mark, client_id, result: Err(LogError::Behind.into()) });
    }
}

/// Whether the sender will send this message again as it is.
fn leaves_fate_open(error: &Error) -> bool {
    matches!(error.code, ErrorCode::Unavailable | ErrorCode::Overloaded)
}

#[cfg(test)]
mod tests;
