//! A line for each message in the terminal of a developer: accepted, delivered, or due to be mailed. Names
//! and numbers only, never a text. Costs one bounded queue; what does not fit is counted, not told.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::domain::{ConversationId, Event, MessageId, Seq, UserId};

/// Moments that may wait to be told.
const QUEUE: usize = 1_024;
/// Lines a second at most; a busy server is no story.
const LINES_PER_SECOND: u32 = 20;
/// Accepted messages whose storing has not been heard of yet.
const PENDING_MAX: usize = 1_024;

/// Something that happened to a message.
#[derive(Debug)]
enum Moment {
    Accepted {
        id: MessageId,
        took: Duration,
        since: Instant,
    },
    Stored {
        id: MessageId,
        conversation: ConversationId,
        from: UserId,
        seq: Seq,
        reached: usize,
        at: Instant,
    },
    Mail {
        user: UserId,
        what: String,
    },
}

/// Where moments are told. Without a listener it costs nothing.
#[derive(Debug, Default)]
pub struct Story {
    sender: Option<mpsc::Sender<Moment>>,
    untold: AtomicU64,
}

impl Story {
    /// A story and who tells it.
    pub fn told() -> (Self, Teller) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let story = Self { sender: Some(sender), untold: AtomicU64::new(0) };
        (story, Teller { receiver, accepted: HashMap::new(), window: Instant::now(), lines: 0, skipped: 0 })
    }

    /// A message became durable; `since` is when it came.
    pub fn accepted(&self, id: MessageId, since: Instant) {
        self.send(|| Moment::Accepted { id, took: since.elapsed(), since });
    }

    /// A message was stored and put into the mailboxes of `reached` sockets of others.
    pub fn stored(&self, event: &Event, reached: usize) {
        self.send(|| Moment::Stored {
            id: event.id,
            conversation: event.conversation,
            from: event.from,
            seq: event.seq,
            reached,
            at: Instant::now(),
        });
    }

    /// A mail was sent, put off, or not sent.
    pub fn mail(&self, user: UserId, what: impl FnOnce() -> String) {
        self.send(|| Moment::Mail { user, what: what() });
    }

    fn send(&self, moment: impl FnOnce() -> Moment) {
        if let Some(sender) = &self.sender {
            match sender.try_reserve() {
                Ok(permit) => permit.send(moment()),
                Err(_) => {
                    self.untold.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// What the terminal shows, with ids in place of names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A message and how far it got.
    Message {
        /// Who sent it.
        from: UserId,
        /// For whom, in a two-person conversation.
        to: Option<UserId>,
        /// Its place.
        seq: Seq,
        /// How long accepting took, where this node accepted it.
        accepted: Option<Duration>,
        /// How long until it was handed to the recipient's sockets; `None`: there were none.
        delivered: Option<Duration>,
    },
    /// Something about a mail.
    Mail {
        /// For whom.
        user: UserId,
        /// What happened.
        what: String,
    },
    /// Too much happened to tell.
    More(u64),
}

/// Puts moments together to lines.
#[derive(Debug)]
pub struct Teller {
    receiver: mpsc::Receiver<Moment>,
    accepted: HashMap<MessageId, (Duration, Instant)>,
    window: Instant,
    lines: u32,
    skipped: u64,
}

impl Teller {
    /// The next line; `None` when the story has ended.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            let moment = self.receiver.recv().await?;
            let Some(line) = self.line(moment) else { continue };
            if self.window.elapsed() >= Duration::from_secs(1) {
                (self.window, self.lines) = (Instant::now(), 0);
                if self.skipped > 0 {
                    return Some(Line::More(std::mem::take(&mut self.skipped) + 1));
                }
            }
            self.lines += 1;
            if self.lines <= LINES_PER_SECOND {
                return Some(line);
            }
            self.skipped += 1;
        }
    }

    fn line(&mut self, moment: Moment) -> Option<Line> {
        match moment {
            Moment::Accepted { id, took, since } => {
                if self.accepted.len() >= PENDING_MAX {
                    self.accepted.clear();
                }
                self.accepted.insert(id, (took, since));
                None
            }
            Moment::Stored { id, conversation, from, seq, reached, at } => {
                let accepted = self.accepted.remove(&id);
                let delivered = accepted.map_or(Duration::ZERO, |(_, since)| at.duration_since(since));
                Some(Line::Message {
                    from,
                    to: conversation.peer_of(from),
                    seq,
                    accepted: accepted.map(|(took, _)| took),
                    delivered: (reached > 0).then_some(delivered),
                })
            }
            Moment::Mail { user, what } => Some(Line::Mail { user, what }),
        }
    }
}
