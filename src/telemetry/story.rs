//! A line for each message in the terminal of a developer: accepted, delivered, or due to be mailed. Names
//! and numbers only, never a text. Costs one bounded queue; what does not fit is counted, not told.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use crate::domain::{ConversationId, Event, MessageId, Seq, UserId};

/// Moments that may wait to be told.
const QUEUE: usize = 1_024;
/// Lines a second at most; a busy server is no story.
const LINES_PER_SECOND: u32 = 20;
/// Messages of which one half has not been heard of yet.
const PENDING_MAX: usize = 1_024;
/// A stored message that was accepted here has been heard of as accepted within this time.
const ACCEPTED_WITHIN: Duration = Duration::from_millis(100);

/// Something that happened to a message.
#[derive(Debug)]
enum Moment {
    Accepted(Accepted),
    Stored(Stored),
    Mail { user: UserId, what: String },
}

#[derive(Debug)]
struct Accepted {
    id: MessageId,
    took: Duration,
    since: Instant,
}

#[derive(Debug)]
struct Stored {
    id: MessageId,
    conversation: ConversationId,
    from: UserId,
    seq: Seq,
    reached: usize,
    at: Instant,
}

impl Stored {
    fn line(self, accepted: Option<Accepted>) -> Line {
        let delivered = accepted.as_ref().map_or(Duration::ZERO, |known| self.at.duration_since(known.since));
        Line::Message {
            from: self.from,
            to: self.conversation.peer_of(self.from),
            seq: self.seq,
            accepted: accepted.map(|known| known.took),
            delivered: (self.reached > 0).then_some(delivered),
        }
    }
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
        (Self { sender: Some(sender), untold: AtomicU64::new(0) }, Teller::new(receiver))
    }

    /// A message became durable; `since` is when it came.
    pub fn accepted(&self, id: MessageId, since: Instant) {
        self.send(|| Moment::Accepted(Accepted { id, took: since.elapsed(), since }));
    }

    /// A message was stored and put into the mailboxes of `reached` sockets of others.
    pub fn stored(&self, event: &Event, reached: usize) {
        self.send(|| {
            Moment::Stored(Stored {
                id: event.id,
                conversation: event.conversation,
                from: event.from,
                seq: event.seq,
                reached,
                at: Instant::now(),
            })
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
    /// Accepted, and not heard of since.
    accepted: HashMap<MessageId, Accepted>,
    /// Stored, before being accepted was heard of; oldest first.
    stored: VecDeque<Stored>,
    window: Instant,
    lines: u32,
    skipped: u64,
}

impl Teller {
    fn new(receiver: mpsc::Receiver<Moment>) -> Self {
        let (accepted, stored) = (HashMap::new(), VecDeque::new());
        Self { receiver, accepted, stored, window: Instant::now(), lines: 0, skipped: 0 }
    }

    /// The next line; `None` when the story has ended.
    pub async fn next(&mut self) -> Option<Line> {
        loop {
            let line = match self.stored.front() {
                None => {
                    let moment = self.receiver.recv().await?;
                    self.hear(moment)
                }
                Some(first) => match timeout_at(first.at + ACCEPTED_WITHIN, self.receiver.recv()).await {
                    Ok(moment) => self.hear(moment?),
                    Err(_) => self.stored.pop_front().map(|stored| stored.line(None)),
                },
            };
            if let Some(line) = line.and_then(|line| self.ration(line)) {
                return Some(line);
            }
        }
    }

    /// Lets so many lines a second pass, and tells how many did not.
    fn ration(&mut self, line: Line) -> Option<Line> {
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
        None
    }

    /// Being accepted and being stored are heard of in either order; both make the line.
    fn hear(&mut self, moment: Moment) -> Option<Line> {
        match moment {
            Moment::Accepted(accepted) => {
                let waits = self.stored.iter().position(|stored| stored.id == accepted.id);
                if let Some(stored) = waits.and_then(|at| self.stored.remove(at)) {
                    return Some(stored.line(Some(accepted)));
                }
                if self.accepted.len() >= PENDING_MAX {
                    self.accepted.clear();
                }
                self.accepted.insert(accepted.id, accepted);
                None
            }
            Moment::Stored(stored) => match self.accepted.remove(&stored.id) {
                Some(accepted) => Some(stored.line(Some(accepted))),
                None if self.stored.len() >= PENDING_MAX => Some(stored.line(None)),
                None => {
                    self.stored.push_back(stored);
                    None
                }
            },
            Moment::Mail { user, what } => Some(Line::Mail { user, what }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{ClientId, Content, LogNumber, MessageBody, Position, RecordBody, Timestamp};

    fn event() -> Event {
        let user = |id| UserId::new(id).unwrap();
        let conversation = ConversationId::dm(user(1), user(2)).unwrap();
        let client_id = ClientId::new("c").unwrap();
        let content = Content::new("a secret").unwrap();
        Event {
            conversation,
            seq: Seq(1),
            position: Position { log: LogNumber(1), partition: 0, offset: 0 },
            id: MessageId::derive(conversation, user(1), &client_id),
            client_id,
            from: user(1),
            at: Timestamp(0),
            body: RecordBody::Message(MessageBody { content, data: None, reply_to: None }).into(),
        }
    }

    fn told(line: &Option<Line>) -> (bool, bool) {
        let Some(Line::Message { accepted, delivered, .. }) = line else { panic!("{line:?}") };
        (accepted.is_some(), delivered.is_some())
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_is_told_once_with_both_times_in_whatever_order_they_are_heard() {
        let (story, mut teller) = Story::told();
        story.accepted(event().id, Instant::now());
        story.stored(&event(), 1);
        assert_eq!(told(&teller.next().await), (true, true));
        story.stored(&event(), 0);
        story.accepted(event().id, Instant::now());
        assert_eq!(told(&teller.next().await), (true, false));
        drop(story);
        assert_eq!(teller.next().await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_another_node_accepted_is_told_after_a_while() {
        let (story, mut teller) = Story::told();
        story.stored(&event(), 1);
        assert_eq!(told(&teller.next().await), (false, true));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_server_is_told_in_numbers() {
        let (story, mut teller) = Story::told();
        for _ in 0..100 {
            story.accepted(event().id, Instant::now());
            story.stored(&event(), 1);
        }
        for _ in 0..LINES_PER_SECOND {
            assert_eq!(told(&teller.next().await), (true, true));
        }
        let quiet = tokio::time::timeout(Duration::from_secs(1), teller.next()).await;
        assert!(quiet.is_err(), "the others are counted, not told");
        story.mail(UserId::new(2).unwrap(), String::new);
        assert_eq!(teller.next().await, Some(Line::More(81)));
    }
}
