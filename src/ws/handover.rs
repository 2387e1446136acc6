//! How a connection leaves actix-http when it has become a WebSocket.
//!
//! The answer to a handshake goes out like any other, through all middleware. What happens then, in this order:
//!
//! 1. With the answer, [`Handover::answer`] stops the reading: what the peer sends from now on stays in the kernel.
//! 2. actix-http polls the answer's body, [`Answer`], when the head is among the bytes to be written. What it had
//!    read behind the request lies in its read buffer, of which it moves what there is into the request's payload
//!    before each poll of the body. So once the payload stays empty from one poll to the next, there is no more.
//! 3. The body ends. When everything is written, which a flush tells, the connection gives its stream away, with
//!    those early bytes, and looks from then on like one that the peer has ended. So actix-http drops it, and its
//!    two buffers of 8 KiB.
//!
//! If the answer is dropped before that (a middleware gave another one), the reading goes on, and who waits for the
//! stream is told that there will be none.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use actix_web::body::{BodySize, MessageBody};
use actix_web::dev::Payload;
use actix_web::rt::net::TcpStream;
use bytes::{Bytes, BytesMut};
use futures_util::Stream;
use tokio::sync::oneshot;

/// A connection that is no longer HTTP.
#[derive(Debug)]
pub struct Upgraded {
    /// The stream, behind the request and the answer.
    pub stream: TcpStream,
    /// What the peer sent behind the request before it could have read the answer: at most what actix-http reads
    /// ahead, 160 KiB.
    pub early: Bytes,
}

/// The way out of one connection, in `HttpRequest::conn_data`. Clones mean the same connection.
#[derive(Debug, Clone, Default)]
pub struct Handover(Rc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    is_stopped: Cell<bool>,
    reader: RefCell<Option<Waker>>,
    leaving: RefCell<Option<Leaving>>,
}

/// Everything but the stream, which goes as soon as the answer is written.
#[derive(Debug)]
struct Leaving {
    early: BytesMut,
    taker: oneshot::Sender<Upgraded>,
}

impl Handover {
    /// Stops the reading, and gives the body of the answer (101) and where the stream will come out: an error
    /// there where it will not, since the connection failed or was answered otherwise.
    ///
    /// `payload` is the request's, without a length: it holds what was read behind the head.
    pub fn answer(&self, payload: Payload) -> (Answer, oneshot::Receiver<Upgraded>) {
        self.0.is_stopped.set(true);
        let (taker, taken) = oneshot::channel();
        let answer = Answer { handover: self.clone(), payload, early: BytesMut::new(), taker: Some(taker) };
        (answer, taken)
    }

    /// Whether the connection may read; if not, the task is woken when it may again.
    pub(super) fn may_read(&self, cx: &Context<'_>) -> bool {
        if self.0.is_stopped.get() {
            *self.0.reader.borrow_mut() = Some(cx.waker().clone());
        }
        !self.0.is_stopped.get()
    }

    /// Everything is written: gives the stream away if it is to leave.
    pub(super) fn flushed(&self, stream: &mut Option<TcpStream>) {
        if let Some(Leaving { early, taker }) = self.0.leaving.take()
            && let Some(stream) = stream.take()
        {
            // Nobody there to take it: it is closed.
            let _ = taker.send(Upgraded { stream, early: early.freeze() });
        }
    }

    /// The connection is gone: whoever waits for its stream is told.
    pub(super) fn gone(&self) {
        self.0.leaving.take();
    }
}

/// The body of the answer to a handshake: no bytes, but an end at the right moment.
pub struct Answer {
    handover: Handover,
    payload: Payload,
    early: BytesMut,
    taker: Option<oneshot::Sender<Upgraded>>,
}

impl MessageBody for Answer {
    type Error = Infallible;

    fn size(&self) -> BodySize {
        // A body without bytes would never be polled.
        BodySize::Stream
    }

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, Infallible>>> {
        let this = &mut *self;
        let before = this.early.len();
        while let Poll::Ready(Some(Ok(bytes))) = Pin::new(&mut this.payload).poll_next(cx) {
            this.early.extend_from_slice(&bytes);
        }
        if this.early.len() > before {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(taker) = this.taker.take() {
            let early = std::mem::take(&mut this.early);
            *this.handover.0.leaving.borrow_mut() = Some(Leaving { early, taker });
        }
        Poll::Ready(None)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.taker.is_some() {
            self.handover.0.is_stopped.set(false);
            if let Some(waker) = self.handover.0.reader.take() {
                waker.wake();
            }
        }
    }
}
