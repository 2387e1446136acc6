//! What waits for one socket: filled by the hub from any thread, emptied by the socket's own task.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::Poll;

use bytes::Bytes;
use futures_util::task::AtomicWaker;

use crate::domain::{ConversationId, Position, Seq};

/// Something for a socket.
#[derive(Debug, Clone)]
pub enum Item {
    /// An event, as the frame for this user.
    Event {
        /// Where in the log it came from; the session drops what it has written already.
        position: Position,
        /// Its conversation.
        conversation: ConversationId,
        /// Its place there.
        seq: Seq,
        /// The frame.
        frame: Bytes,
    },
    /// One of the user's own records was rejected.
    Rejected {
        /// Where in the log it is.
        position: Position,
        /// The frame.
        frame: Bytes,
    },
    /// Something without a place in the order: a receipt, typing, presence.
    Signal(Bytes),
}

impl Item {
    fn is_signal(&self) -> bool {
        matches!(self, Self::Signal(_))
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Event { frame, .. } | Self::Rejected { frame, .. } | Self::Signal(frame) => frame.len(),
        }
    }
}

/// Why the hub wants a socket closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Eviction {
    /// The same device came again, or a ninth device did: close code 4409.
    Replaced,
}

/// What the session finds.
#[derive(Debug, Default)]
pub struct Contents {
    /// In the order of arrival.
    pub items: VecDeque<Item>,
    /// More came than the mailbox holds: the events that waited were dropped and must be read from storage.
    pub overflowed: bool,
    /// Signals were dropped too: what still holds of them has to be told again.
    pub lost_signals: bool,
    /// The socket has to go.
    pub evicted: Option<Eviction>,
    /// Nothing is left behind.
    pub emptied: bool,
}

#[derive(Debug, Default)]
struct Inner {
    contents: Contents,
    bytes: usize,
}

impl Inner {
    /// Drops what storage has too; and signals, which nothing has, where they alone are too much.
    fn overflow(&mut self, bytes_max: usize) {
        self.contents.overflowed = true;
        self.contents.items.retain(Item::is_signal);
        self.bytes = self.contents.items.iter().map(Item::bytes).sum();
        if self.bytes > bytes_max {
            self.contents.lost_signals = true;
            (self.contents.items, self.bytes) = (VecDeque::new(), 0);
        }
    }
}

/// A bounded queue of items for one socket.
#[derive(Debug)]
pub struct Mailbox {
    bytes_max: usize,
    inner: Mutex<Inner>,
    arrived: AtomicBool,
    session: AtomicWaker,
}

impl Mailbox {
    /// A mailbox in which frames of so many bytes may wait.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            inner: Mutex::default(),
            arrived: AtomicBool::new(false),
            session: AtomicWaker::new(),
        }
    }

    /// Puts an item in. When it does not fit, the events that wait are dropped, if need be all that waits, and the
    /// session told so.
    pub fn push(&self, item: Item) {
        self.put(item);
        self.wake();
    }

    fn put(&self, item: Item) {
        let mut inner = self.lock();
        if inner.contents.overflowed && !item.is_signal() {
            return;
        }
        inner.bytes += item.bytes();
        inner.contents.items.push_back(item);
        if inner.bytes > self.bytes_max {
            inner.overflow(self.bytes_max);
        }
    }

    /// Puts an item in for the session to find when it wakes for something else, or when it is hurried.
    pub fn push_unhurried(&self, item: Item) {
        self.put(item);
        self.arrived.store(true, Ordering::Release);
    }

    /// Wakes the session where something waits that it has not looked at.
    pub fn hurry(&self) {
        if self.arrived.load(Ordering::Acquire) {
            self.session.wake();
        }
    }

    /// Asks the session to close.
    pub fn evict(&self, eviction: Eviction) {
        self.lock().contents.evicted = Some(eviction);
        self.wake();
    }

    /// Takes items out, in order, until `budget` bytes are used up. A mailbox that overflowed begins anew.
    pub fn take(&self, budget: usize) -> Contents {
        let mut inner = self.lock();
        let mut taken = Contents {
            overflowed: std::mem::take(&mut inner.contents.overflowed),
            lost_signals: std::mem::take(&mut inner.contents.lost_signals),
            evicted: inner.contents.evicted,
            ..Contents::default()
        };
        let mut left = budget;
        while left > 0
            && let Some(item) = inner.contents.items.pop_front()
        {
            left = left.saturating_sub(item.bytes());
            inner.bytes -= item.bytes();
            taken.items.push_back(item);
        }
        taken.emptied = inner.contents.items.is_empty();
        if taken.emptied {
            // What a burst has grown is given back.
            inner.contents.items = VecDeque::new();
        }
        taken
    }

    /// Takes out only what has no place in the order, and leaves the events: for a socket that catches up.
    pub fn take_signals(&self) -> Contents {
        let mut inner = self.lock();
        let mut taken = Contents {
            lost_signals: std::mem::take(&mut inner.contents.lost_signals),
            evicted: inner.contents.evicted,
            ..Contents::default()
        };
        let (signals, events) = inner.contents.items.drain(..).partition(Item::is_signal);
        (taken.items, inner.contents.items) = (signals, events);
        inner.bytes = inner.contents.items.iter().map(Item::bytes).sum();
        taken
    }

    /// Bytes that wait.
    pub fn queued_bytes(&self) -> usize {
        self.lock().bytes
    }

    /// Waits until something was put in since the last call. One waiter: the session. Cancel-safe.
    pub async fn arrived(&self) {
        poll_fn(|cx| {
            self.session.register(cx.waker());
            // Registered before it looks: what arrives after the look wakes.
            if self.arrived.swap(false, Ordering::AcqRel) { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn wake(&self) {
        self.arrived.store(true, Ordering::Release);
        self.session.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while it is held; a poisoned lock still holds a whole value.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_empties_the_mailbox_and_says_so() {
        let mailbox = Mailbox::new(1_000);
        let half = Bytes::from(vec![b'x'; 500]);
        mailbox.push(Item::Signal(half.clone()));
        mailbox.push(Item::Signal(half.clone()));
        assert_eq!(mailbox.queued_bytes(), 1_000);
        mailbox.push(Item::Signal(Bytes::from_static(b"x")));
        assert_eq!(mailbox.queued_bytes(), 0);
        let contents = mailbox.take(usize::MAX);
        assert!(contents.overflowed && contents.lost_signals && contents.items.is_empty());
        mailbox.push(Item::Signal(half));
        let contents = mailbox.take(usize::MAX);
        assert_eq!((contents.items.len(), contents.overflowed, contents.lost_signals), (1, false, false));
    }

    #[test]
    fn events_make_room_for_what_storage_does_not_have() {
        let mailbox = Mailbox::new(1_000);
        let bytes = |count| Bytes::from(vec![b'x'; count]);
        let user = |id| crate::domain::UserId::new(id).unwrap();
        let event = || Item::Event {
            position: Position { log: crate::domain::LogNumber(1), partition: 0, offset: 1 },
            conversation: ConversationId::dm(user(1), user(2)).unwrap(),
            seq: Seq(1),
            frame: bytes(600),
        };
        mailbox.push(Item::Signal(bytes(300)));
        mailbox.push(event());
        mailbox.push(event());
        mailbox.push(event());
        mailbox.push(Item::Signal(bytes(301)));
        assert_eq!(mailbox.queued_bytes(), 601);
        let contents = mailbox.take_signals();
        assert_eq!((contents.items.len(), contents.lost_signals), (2, false));
        assert!(mailbox.take(usize::MAX).overflowed, "the events are to be read");
    }

    #[test]
    fn a_budget_takes_the_first_and_leaves_the_rest() {
        let mailbox = Mailbox::new(1_000);
        for text in ["aa", "bb", "cc"] {
            mailbox.push(Item::Signal(Bytes::from_static(text.as_bytes())));
        }
        let first = mailbox.take(3);
        assert_eq!((first.items.len(), first.emptied, mailbox.queued_bytes()), (2, false, 2));
        let rest = mailbox.take(3);
        assert_eq!((rest.items.len(), rest.emptied, mailbox.queued_bytes()), (1, true, 0));
    }

    #[tokio::test]
    async fn an_arrival_before_the_wait_is_not_lost() {
        let mailbox = Mailbox::new(1_000);
        mailbox.evict(Eviction::Replaced);
        mailbox.arrived().await;
        assert_eq!(mailbox.take(usize::MAX).evicted, Some(Eviction::Replaced));
    }
}
