//! A socket after its handshake: the stream with what comes in and what goes out. One task, the session, owns it;
//! there is nothing between the two.

use std::io::{self, IoSlice};
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep_until};

use super::guard::GuardLimits;
use super::handover::Upgraded;
use super::inbound::{Inbound, Incoming};
use super::outbox::{Outbox, OutboxLimits, SLICES_MAX};
use super::violation::Violation;

/// The most that is read at once, onto the stack: what waits for nothing keeps no buffer.
const READ_BYTES_MAX: usize = 4_096;
/// How long what the peer still sends is thrown away behind the last frame.
const LINGER: Duration = Duration::from_secs(1);

/// One socket.
pub struct Wire {
    stream: TcpStream,
    inbound: Inbound,
    /// What waits to be written by the next `poll_send`.
    pub outbox: Outbox,
    /// Runs only while a message is midway and the peer is waited for.
    whole_until: Option<Pin<Box<Sleep>>>,
    /// The peer's end, or an error, was read.
    is_read_out: bool,
}

impl Wire {
    /// A socket with these limits, to which nothing was said yet.
    pub fn new(upgraded: Upgraded, guard: GuardLimits, outbox: OutboxLimits) -> Self {
        let Upgraded { stream, early } = upgraded;
        let mut inbound = Inbound::new(guard);
        inbound.feed(&early, Instant::now());
        Self { stream, inbound, outbox: Outbox::new(outbox), whole_until: None, is_read_out: false }
    }

    /// The next whole message of what was read. A violation comes once, behind what came before it, as the last.
    pub fn next_message(&mut self) -> Option<Result<Incoming, Violation>> {
        self.inbound.next_message()
    }

    /// Reads once, for `next_message`; false when the peer is gone, or has said its last.
    ///
    /// # Errors
    /// A message has been midway for too long.
    pub fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, Violation>> {
        if self.inbound.has_ended() {
            return Poll::Ready(Ok(false));
        }
        let mut bytes = [MaybeUninit::uninit(); READ_BYTES_MAX];
        match self.poll_read(&mut ReadBuf::uninit(&mut bytes), cx) {
            Poll::Ready(Some(bytes)) => self.inbound.feed(bytes, Instant::now()),
            Poll::Ready(None) => self.inbound.end(),
            Poll::Pending => return self.poll_whole_until(cx).map(Err),
        }
        Poll::Ready(Ok(!self.is_read_out))
    }

    /// Writes what waits; ready when nothing does.
    ///
    /// # Errors
    /// The peer is gone.
    pub fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.outbox.is_drained() {
            let mut slices = [IoSlice::new(&[]); SLICES_MAX];
            let stream = Pin::new(&mut self.stream);
            let polled = match self.outbox.offer(&mut slices) {
                1 => stream.poll_write(cx, &slices[0]),
                count => stream.poll_write_vectored(cx, &slices[..count]),
            };
            match polled {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(taken)) => self.outbox.taken(taken),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending => {
                    self.outbox.refused(Instant::now());
                    return Poll::Pending;
                }
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads what the peer still sends and throws it away; ready at its end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.inbound.end();
        loop {
            let mut bytes = [MaybeUninit::uninit(); READ_BYTES_MAX];
            if ready!(self.poll_read(&mut ReadBuf::uninit(&mut bytes), cx)).is_none() {
                return Poll::Ready(());
            }
        }
    }

    /// Ends the socket behind its last frame: says so, and reads on until the peer has ended it too, for 1 s at
    /// most. A connection that is closed with something unread is reset, and the reset overtakes the last frame.
    pub async fn linger(mut self) {
        if std::future::poll_fn(|cx| Pin::new(&mut self.stream).poll_shutdown(cx)).await.is_ok() {
            let rest = std::future::poll_fn(|cx| self.poll_discard(cx));
            // Whether the peer ended it or not, it is closed now.
            let _ = tokio::time::timeout(LINGER, rest).await;
        }
    }

    /// Drops the connection with a TCP reset, whatever waits in the kernel.
    pub fn abort(self) {
        if let Err(error) = SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a socket is closed without a reset");
        }
    }

    /// What came; `None` at the end, however it was reached.
    fn poll_read<'a>(&mut self, buffer: &'a mut ReadBuf<'_>, cx: &mut Context<'_>) -> Poll<Option<&'a [u8]>> {
        if !self.is_read_out {
            // An error is a peer that left without an end, which tells no more than the end does.
            let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buffer));
            self.is_read_out = read.is_err() || buffer.filled().is_empty();
        }
        Poll::Ready((!self.is_read_out).then_some(buffer.filled()))
    }

    /// Ready when a message has been midway for too long. What had come by now was looked at before, so this is the
    /// peer's slowness and not the session's.
    fn poll_whole_until(&mut self, cx: &mut Context<'_>) -> Poll<Violation> {
        let Some(until) = self.inbound.whole_until() else {
            self.whole_until = None;
            return Poll::Pending;
        };
        let sleep = self.whole_until.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if sleep.deadline() != until {
            sleep.as_mut().reset(until);
        }
        ready!(sleep.as_mut().poll(cx));
        self.inbound.end();
        Poll::Ready(Violation::Slow)
    }
}

#[cfg(test)]
mod tests;
