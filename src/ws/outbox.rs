//! The write side of a socket: a bounded queue of frames between the session's task and the HTTP response body
//! that actix-http polls.
//!
//! **Progress of the body is progress of the socket.** actix-http polls the body only while its write buffer
//! holds less than `HttpServer::h1_write_buffer_size`, and empties that buffer into the socket in between. A peer
//! that does not read fills the socket's send buffer, then that buffer, and from then on the body is not polled:
//! so "handed over" means "in the kernel, but for the last [`WRITE_BUFFER_BYTES`] plus one chunk", and an abort
//! reaches such a peer by the [`Reset`] of its connection only.
//!
//! **Memory.** actix-http's write buffer begins with 8 KiB and keeps the largest size it ever had. With
//! [`WRITE_BUFFER_BYTES`] for `h1_write_buffer_size` and chunks of [`CHUNK_BYTES_MAX`] it never outgrows them,
//! and small frames still go out many to a write. The queue itself holds nothing while it is empty.
//!
//! Both ends live on one actix worker thread, so they share an `Rc`; no borrow of it is held across an await.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use actix_web::body::{BodySize, MessageBody};
use bytes::{Bytes, BytesMut};
use tokio::time::Instant;

use super::connection::Reset;
use super::frame::Frame;

/// What `HttpServer::h1_write_buffer_size` should be: with one chunk more it fits the 8 KiB that actix-http's
/// write buffer begins with.
pub const WRITE_BUFFER_BYTES: usize = 4_096;
/// The most that is handed to actix-http at once.
pub const CHUNK_BYTES_MAX: usize = 4_096;
/// A queue that a burst has made larger than this is given back when it is empty.
const QUEUE_KEPT: usize = 8;

/// How much may wait for one socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutboxLimits {
    /// Bytes of frames; a peer that lets more wait is too slow (protocol.md section 3, 4430).
    pub queued_bytes_max: usize,
    /// Frames; it bounds what many tiny ones cost beside their bytes.
    pub queued_frames_max: usize,
}

impl Default for OutboxLimits {
    fn default() -> Self {
        Self { queued_bytes_max: 256 * 1024, queued_frames_max: 4_096 }
    }
}

/// Why a frame was not queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// More would wait than the limits allow.
    #[error("too much is waiting for this socket")]
    Full,
    /// The peer is gone, or the sender said it was finished.
    #[error("the socket is closed")]
    Closed,
}

/// The end of a body whose sender gave the peer up; it makes actix-http drop the connection at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the peer was given up")]
pub struct Aborted;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Open,
    Finishing,
    Aborted,
    /// The body was dropped: nobody will take anything any more.
    Gone,
}

#[derive(Debug)]
struct Shared {
    limits: OutboxLimits,
    phase: Phase,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Of these, at most so many were queued at their sender's pace; they count against no limit.
    paced_bytes: usize,
    /// A part of the first in the queue was handed over already.
    first_begun: bool,
    /// When the body last handed something over, or something came into the empty queue.
    progress: Instant,
    body: Option<Waker>,
    sender: Option<Waker>,
    connection: Option<Reset>,
}

/// A queue with these limits: its sender for the session's task, its body for the response.
pub fn pair(limits: OutboxLimits) -> (OutboxSender, OutboxBody) {
    let shared = Rc::new(RefCell::new(Shared {
        limits,
        phase: Phase::Open,
        queue: VecDeque::new(),
        queued_bytes: 0,
        paced_bytes: 0,
        first_begun: false,
        progress: Instant::now(),
        body: None,
        sender: None,
        connection: None,
    }));
    (OutboxSender(Rc::clone(&shared)), OutboxBody(shared))
}

/// The session's end. Dropped, it finishes: what is queued still goes out, then the connection is closed.
///
/// Its futures share one waker, so they are awaited by one task only (several in one `select!` are fine). All are
/// cancel-safe.
#[derive(Debug)]
pub struct OutboxSender(Rc<RefCell<Shared>>);

impl OutboxSender {
    /// Queues a frame.
    ///
    /// # Errors
    /// `Full` beyond the limits (the frame is not queued), `Closed` after `finish`, `abort` or the peer's end.
    pub fn push(&self, frame: Frame) -> Result<(), PushError> {
        let mut shared = self.0.borrow_mut();
        if shared.phase != Phase::Open {
            return Err(PushError::Closed);
        }
        let limits = shared.limits;
        if shared.queued_bytes + frame.len() > limits.queued_bytes_max + shared.paced_bytes
            || shared.queue.len() >= limits.queued_frames_max
        {
            return Err(PushError::Full);
        }
        shared.append(frame);
        Ok(())
    }

    /// Queues a frame whatever its size: for a sender that waits for `room` before each, so that one at a time
    /// is beyond the limits. Nothing where the socket is closed, which `closed` tells.
    pub fn push_at_pace(&self, frame: Frame) {
        let mut shared = self.0.borrow_mut();
        if shared.phase == Phase::Open {
            shared.paced_bytes += frame.len();
            shared.append(frame);
        }
    }

    /// Bytes that wait to be handed over.
    pub fn queued_bytes(&self) -> usize {
        self.0.borrow().queued_bytes
    }

    /// Whether everything was handed over.
    pub fn is_drained(&self) -> bool {
        self.0.borrow().queue.is_empty()
    }

    /// When the body last handed something over, or, if that is later, when something came into the empty queue.
    pub fn last_progress(&self) -> Instant {
        self.0.borrow().progress
    }

    /// For how long, at `now`, something has waited while nothing was handed over; zero when nothing waits.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        let shared = self.0.borrow();
        if shared.queue.is_empty() { Duration::ZERO } else { now.saturating_duration_since(shared.progress) }
    }

    /// Whether the peer's end is gone.
    pub fn is_closed(&self) -> bool {
        self.0.borrow().phase == Phase::Gone
    }

    /// Waits until at most `bytes` wait, or the peer is gone: the pace for whoever has much to send.
    pub async fn room(&self, bytes: usize) {
        self.until(|shared| shared.queued_bytes <= bytes).await;
    }

    /// Waits until the body is gone: the peer left, or what was to be sent before the end is handed over.
    pub async fn closed(&self) {
        self.until(|_| false).await;
    }

    /// Forgets what waits, save for the rest of a frame that was handed over in part: a peer that is too slow for
    /// its events should still get the frames that say so.
    pub fn discard(&self) {
        let mut shared = self.0.borrow_mut();
        let kept = usize::from(shared.first_begun);
        shared.queue.truncate(kept);
        shared.queued_bytes = shared.queue.iter().map(Bytes::len).sum();
        shared.wake_sender();
    }

    /// Queues a last frame (a close) beyond the limits; after everything queued the body ends. actix-http then
    /// reads and throws away what the peer still sends, for `HttpServer::client_disconnect_timeout` (1 s) at
    /// most, before it closes the connection, so that no reset overtakes the close frame.
    pub fn finish(&self, last: Frame) {
        let mut shared = self.0.borrow_mut();
        if shared.phase == Phase::Open {
            shared.append(last);
            shared.phase = Phase::Finishing;
        }
    }

    /// Gives the peer up: its connection is reset, whatever is queued or on its way. On a server without
    /// [`Connection`](super::connection::Connection)s the body ends with an error, which is noticed only while
    /// the peer reads.
    pub fn abort(&self) {
        let mut shared = self.0.borrow_mut();
        if shared.phase != Phase::Gone {
            shared.phase = Phase::Aborted;
            shared.clear();
            shared.wake_body();
        }
        let connection = shared.connection.take();
        drop(shared);
        if let Some(connection) = connection {
            connection.reset();
        }
    }

    async fn until(&self, reached: impl Fn(&Shared) -> bool) {
        poll_fn(|cx| {
            let mut shared = self.0.borrow_mut();
            if shared.phase == Phase::Gone || reached(&shared) {
                return Poll::Ready(());
            }
            keep(&mut shared.sender, cx);
            Poll::Pending
        })
        .await;
    }
}

impl Drop for OutboxSender {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        if shared.phase == Phase::Open {
            shared.phase = Phase::Finishing;
        }
        shared.sender = None;
        shared.wake_body();
    }
}

/// The response's end: a body without a length that actix-http polls.
#[derive(Debug)]
pub struct OutboxBody(Rc<RefCell<Shared>>);

impl OutboxBody {
    /// Names the connection that the body goes out on, for `abort`.
    pub fn on(self, connection: Option<Reset>) -> Self {
        self.0.borrow_mut().connection = connection;
        self
    }
}

impl MessageBody for OutboxBody {
    type Error = Aborted;

    fn size(&self) -> BodySize {
        BodySize::Stream
    }

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Aborted>>> {
        let mut shared = self.0.borrow_mut();
        if shared.phase == Phase::Aborted {
            return Poll::Ready(Some(Err(Aborted)));
        }
        if let Some(chunk) = shared.next_chunk() {
            shared.progress = Instant::now();
            shared.wake_sender();
            return Poll::Ready(Some(Ok(chunk)));
        }
        if shared.phase == Phase::Finishing {
            return Poll::Ready(None);
        }
        keep(&mut shared.body, cx);
        Poll::Pending
    }
}

impl Drop for OutboxBody {
    fn drop(&mut self) {
        let mut shared = self.0.borrow_mut();
        shared.phase = Phase::Gone;
        shared.body = None;
        shared.clear();
        shared.wake_sender();
    }
}

impl Shared {
    fn append(&mut self, frame: Frame) {
        if self.queue.is_empty() {
            self.progress = Instant::now();
        }
        self.queued_bytes += frame.len();
        self.queue.push_back(frame.into_bytes());
        self.wake_body();
    }

    /// The next bytes for the socket: as many whole frames as fit one chunk, or a part of a large one.
    fn next_chunk(&mut self) -> Option<Bytes> {
        let first = self.queue.front_mut()?;
        let chunk = if first.len() > CHUNK_BYTES_MAX {
            self.first_begun = true;
            first.split_to(CHUNK_BYTES_MAX)
        } else {
            self.first_begun = false;
            self.join()?
        };
        self.queued_bytes -= chunk.len();
        self.paced_bytes = self.paced_bytes.min(self.queued_bytes);
        if self.queue.is_empty() && self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
        Some(chunk)
    }

    /// Takes the first, and joins it with those behind it that fit the chunk whole.
    fn join(&mut self) -> Option<Bytes> {
        let mut length = 0;
        let fits = |frame: &&Bytes| {
            length += frame.len();
            length <= CHUNK_BYTES_MAX
        };
        let count = self.queue.iter().take_while(fits).count();
        if count == 1 {
            return self.queue.pop_front();
        }
        let mut chunk = BytesMut::with_capacity(CHUNK_BYTES_MAX.min(self.queued_bytes));
        for frame in self.queue.drain(..count) {
            chunk.extend_from_slice(&frame);
        }
        Some(chunk.freeze())
    }

    fn clear(&mut self) {
        self.queue = VecDeque::new();
        self.queued_bytes = 0;
        self.paced_bytes = 0;
        self.first_begun = false;
    }

    fn wake_body(&mut self) {
        if let Some(waker) = self.body.take() {
            waker.wake();
        }
    }

    fn wake_sender(&mut self) {
        if let Some(waker) = self.sender.take() {
            waker.wake();
        }
    }
}

fn keep(slot: &mut Option<Waker>, cx: &Context<'_>) {
    match slot {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *slot = Some(cx.waker().clone()),
    }
}

#[cfg(test)]
mod tests;
