//! What is to be said to a peer: a bounded queue of frames. Pure: it says what to write next, and is told how much
//! of it the kernel took.
//!
//! A peer that does not read fills the socket's send buffer, and then this queue. The queue itself holds nothing
//! while it is empty.

use std::collections::VecDeque;
use std::io::IoSlice;
use std::time::Duration;

use bytes::{Buf, Bytes};
use tokio::time::Instant;

use super::frame::Frame;

/// Frames that go out with one write at most.
pub const SLICES_MAX: usize = 32;
/// A queue that a burst has made larger than this is given back when it is empty.
const QUEUE_KEPT: usize = 4;

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

/// More would wait than the limits allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too much is waiting for this socket")]
pub struct Full;

/// The frames that wait for one socket.
#[derive(Debug)]
pub struct Outbox {
    limits: OutboxLimits,
    queue: VecDeque<Bytes>,
    queued_bytes: usize,
    /// Of these, at most so many were queued at their sender's pace; they count against no limit.
    paced_bytes: usize,
    /// A part of the first in the queue was taken already.
    first_begun: bool,
    /// The last frame is queued.
    is_finished: bool,
    /// Since when something has waited and nothing was taken.
    stalled_since: Option<Instant>,
}

impl Outbox {
    /// Nothing waits.
    pub fn new(limits: OutboxLimits) -> Self {
        Self {
            limits,
            queue: VecDeque::new(),
            queued_bytes: 0,
            paced_bytes: 0,
            first_begun: false,
            is_finished: false,
            stalled_since: None,
        }
    }

    /// Queues a frame; behind the last one nothing is.
    ///
    /// # Errors
    /// `Full` beyond the limits (the frame is not queued).
    pub fn push(&mut self, frame: Frame) -> Result<(), Full> {
        let limits = self.limits;
        if self.queued_bytes + frame.len() > limits.queued_bytes_max + self.paced_bytes
            || self.queue.len() >= limits.queued_frames_max
        {
            return Err(Full);
        }
        self.append(frame);
        Ok(())
    }

    /// Queues a frame whatever its size: for a sender that waits for room before each, so that one at a time is
    /// beyond the limits.
    pub fn push_at_pace(&mut self, frame: Frame) {
        self.paced_bytes += frame.len();
        self.append(frame);
    }

    /// Queues a last frame (a close) beyond the limits.
    pub fn finish(&mut self, last: Frame) {
        self.append(last);
        self.is_finished = true;
    }

    /// Bytes that wait to be taken.
    pub fn queued_bytes(&self) -> usize {
        self.queued_bytes
    }

    /// Whether everything was taken.
    pub fn is_drained(&self) -> bool {
        self.queue.is_empty()
    }

    /// Since when something has waited and nothing was taken, as far as it was offered.
    pub fn stalled_since(&self) -> Option<Instant> {
        self.stalled_since
    }

    /// For how long, at `now`, something has waited while nothing was taken; zero when nothing waits.
    pub fn stalled_for(&self, now: Instant) -> Duration {
        self.stalled_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Forgets what waits, save for the rest of a frame that was taken in part: a peer that is too slow for its
    /// events should still get the frames that say so.
    pub fn discard(&mut self) {
        self.queue.truncate(usize::from(self.first_begun));
        self.queued_bytes = self.queue.iter().map(Bytes::len).sum();
        self.paced_bytes = self.paced_bytes.min(self.queued_bytes);
        self.stalled_since.take_if(|_| self.queue.is_empty());
    }

    /// Puts what is to be written next into `slices`, and says how many of them that are.
    pub fn offer<'a>(&'a self, slices: &mut [IoSlice<'a>; SLICES_MAX]) -> usize {
        let mut count = 0;
        for (slice, frame) in slices.iter_mut().zip(&self.queue) {
            *slice = IoSlice::new(frame);
            count += 1;
        }
        count
    }

    /// So many bytes of what was offered were taken.
    pub fn taken(&mut self, mut bytes: usize) {
        self.stalled_since = None;
        self.queued_bytes -= bytes;
        self.paced_bytes = self.paced_bytes.min(self.queued_bytes);
        while let Some(first) = self.queue.front_mut() {
            if first.len() > bytes {
                first.advance(bytes);
                self.first_begun |= bytes > 0;
                return;
            }
            bytes -= first.len();
            self.queue.pop_front();
            self.first_begun = false;
        }
        if self.queue.capacity() > QUEUE_KEPT {
            self.queue = VecDeque::new();
        }
    }

    /// Nothing more is taken for now.
    pub fn refused(&mut self, now: Instant) {
        self.stalled_since.get_or_insert(now);
    }

    fn append(&mut self, frame: Frame) {
        if !self.is_finished {
            self.queued_bytes += frame.len();
            self.queue.push_back(frame.into_bytes());
        }
    }
}

#[cfg(test)]
mod tests;
