//! Catching up: what a device missed, in steps that the socket paces. Reads storage up to what was applied when
//! the resume began. The socket was attached, and its user registered, before that; so what is applied later
//! finds it, and arrives live.

use super::receipts;
use crate::app::App;
use crate::domain::{
    ConversationId, ConversationKey, CursorScope, Error, Event, Frontier, Rejection, Seq, UserId,
};
use crate::storage::{Missed, Receipt, Since};
use std::collections::VecDeque;

/// Rejections repeated at most, the newest.
const REJECTIONS_MAX: u32 = 500;
/// Conversations looked up in one statement.
const CONVERSATIONS_STEP: u32 = 500;
/// Events read in one statement: at 16 KiB each, 1 MiB at most.
const EVENTS_STEP: u32 = 64;

/// A part of a resume, to be written in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    /// A missed event.
    Event(Event),
    /// Too much to push.
    Gap {
        /// The conversation.
        conversation: ConversationId,
        /// The first seq left out.
        from: Seq,
        /// The last seq left out.
        to: Seq,
    },
    /// An own record that was rejected.
    Rejected(Rejection),
    /// A member's cursors.
    Receipt(Receipt),
    /// The end.
    Resumed {
        /// Everything that the device now has.
        frontier: Frontier,
        /// The conversations that changed.
        conversations: Vec<Changed>,
    },
}

/// A conversation that changed while the device was away.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The conversation.
    pub conversation: ConversationId,
    /// The last seq pushed or named in a gap.
    pub last_seq: Seq,
    /// Others' messages after the user's own `read`, at most 1,000.
    pub unread: u32,
}

/// From where a device wants to catch up, as it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum From {
    /// A cursor, perhaps damaged or foreign.
    Cursor(String),
    /// No cursor: what this user's devices have confirmed.
    Confirmed,
    /// No cursor, from a socket that has been given everything up to here, and is given what follows: what
    /// other devices have confirmed beyond must not be left out.
    Again(Frontier),
    /// What this very socket has been given before, after its mailbox overflowed.
    Given(Frontier),
}

/// A resume under way.
pub struct Resume {
    user: UserId,
    since: Since,
    until: Frontier,
    /// Told at the end with `resumed`; a further pass of the same socket ends silently.
    announced: bool,
    /// Where the conversations looked up so far end.
    after: Option<ConversationKey>,
    budget: i64,
    per_conversation: i64,
    exhausted: bool,
    waiting: VecDeque<Missed>,
    changed: Vec<Changed>,
    receipts: Vec<Receipt>,
    rejections_done: bool,
    finished: bool,
}

impl Resume {
    /// Begins: judges the cursor, confirms what it covers.
    pub async fn begin(app: &App, user: UserId, from: From) -> Result<Self, Error> {
        // Not what this node has heard of: a record may have been told to the nodes before the user was known
        // to be on this one, and then nobody tells this node of it again.
        let mut until = app.storage.frontier(app.log_number).await?;
        let announced = !matches!(from, From::Given(_));
        let since = match from {
            From::Confirmed => Since::Confirmed,
            From::Again(given) => {
                until = given;
                Since::Confirmed
            }
            From::Given(frontier) => Since::Frontier(frontier),
            From::Cursor(text) => judge(app, user, &text, &until).await?,
        };
        if let Since::Frontier(frontier) = &since {
            if announced {
                receipts::confirm_frontier(app, user, frontier).await?;
            }
            // Storage may have lost power; what the device has need not come again.
            until.merge(frontier);
        }
        Ok(Self {
            user,
            since,
            until,
            announced,
            after: None,
            budget: app.settings.gap_total,
            per_conversation: app.settings.gap_per_conversation,
            exhausted: false,
            waiting: VecDeque::new(),
            changed: Vec::new(),
            receipts: Vec::new(),
            rejections_done: false,
            finished: false,
        })
    }

    /// Everything up to here has been given once the resume is done.
    pub fn until(&self) -> &Frontier {
        &self.until
    }

    /// The next parts to write; empty when all is done. After an error it goes on where it was.
    pub async fn next(&mut self, app: &App) -> Result<Vec<Part>, Error> {
        loop {
            if self.finished {
                return Ok(Vec::new());
            }
            if let Some(missed) = self.waiting.front().cloned() {
                return self.conversation(app, missed).await;
            }
            if !self.exhausted {
                self.look_up(app).await?;
                continue;
            }
            if !self.rejections_done {
                let rejections = self.rejections(app).await?;
                self.rejections_done = true;
                if !rejections.is_empty() {
                    return Ok(rejections);
                }
            }
            self.finished = true;
            return Ok(self.end());
        }
    }

    async fn look_up(&mut self, app: &App) -> Result<(), Error> {
        let found =
            app.storage.missed(self.user, &self.since, &self.until, self.after, CONVERSATIONS_STEP).await?;
        // Gaps are remembered before the device is told, so that no later cursor confirms them.
        let gaps: Vec<(ConversationId, Seq)> = found
            .iter()
            .scan(self.budget, |budget, missed| {
                let split = split(missed, self.per_conversation.min(*budget));
                *budget -= split.pushed(missed);
                Some(split.gap_to(missed).map(|to| (missed.conversation, to)))
            })
            .flatten()
            .collect();
        if !gaps.is_empty() {
            app.storage.name_gaps(self.user, &gaps).await?;
        }
        self.exhausted = found.len() < CONVERSATIONS_STEP as usize;
        self.after = found.last().map_or(self.after, |last| Some(last.key));
        self.waiting = found.into();
        Ok(())
    }

    /// One step of the conversation at the front of the queue. An error leaves everything as it was.
    async fn conversation(&mut self, app: &App, missed: Missed) -> Result<Vec<Part>, Error> {
        let split = split(&missed, self.per_conversation.min(self.budget));
        let Missed { key, conversation, from, to, unread, receipts } = missed;
        let mut parts = Vec::new();
        let first = match split {
            Split::All => from,
            Split::GapThenPush(first) => {
                parts.push(Part::Gap { conversation, from, to: Seq(first.0 - 1) });
                first
            }
            Split::GapOnly => {
                parts.push(Part::Gap { conversation, from, to });
                to.next()
            }
        };
        let mut next = first;
        if first <= to {
            let limit = u32::try_from(to.0 - first.0 + 1).unwrap_or(EVENTS_STEP).min(EVENTS_STEP);
            let page = app.storage.events(conversation, Seq(first.0 - 1), limit).await?;
            let events: Vec<Event> = page.rows.into_iter().filter(|event| event.seq <= to).collect();
            next = events.last().map_or(to.next(), |event| event.seq.next());
            self.budget -= i64::try_from(events.len()).unwrap_or(0);
            parts.extend(events.into_iter().map(Part::Event));
        }
        self.waiting.pop_front();
        if next <= to {
            self.waiting.push_front(Missed { key, conversation, from: next, to, unread, receipts });
        } else {
            self.changed.push(Changed { conversation, last_seq: to, unread });
            self.receipts.extend(receipts);
        }
        Ok(parts)
    }

    async fn rejections(&self, app: &App) -> Result<Vec<Part>, Error> {
        let since = match &self.since {
            Since::Frontier(frontier) => Some(frontier),
            Since::Confirmed | Since::Beginning => None,
        };
        let found = app.storage.rejections(self.user, since, &self.until, REJECTIONS_MAX).await?;
        Ok(found.into_iter().map(Part::Rejected).collect())
    }

    fn end(&mut self) -> Vec<Part> {
        if !self.announced {
            return Vec::new();
        }
        let mut parts: Vec<Part> = self.receipts.drain(..).map(Part::Receipt).collect();
        let conversations = std::mem::take(&mut self.changed);
        parts.push(Part::Resumed { frontier: self.until.clone(), conversations });
        parts
    }
}

/// What a cursor stands for. One that is damaged, foreign, or ahead of the log itself (its history was lost with
/// a restored backup) stands for nothing: all comes again, as events or gaps. One that is ahead of storage alone
/// is good: storage lost power, and is about to apply again what the device has.
async fn judge(app: &App, user: UserId, text: &str, until: &Frontier) -> Result<Since, Error> {
    let scope = CursorScope { incarnation: app.incarnation, user };
    let Some(frontier) = scope.decode(text) else { return Ok(Since::Beginning) };
    if frontier.log > until.log
        || (frontier.log == until.log && frontier.offsets.len() != until.offsets.len())
    {
        return Ok(Since::Beginning);
    }
    let ahead = |of: &Frontier| {
        frontier.log == of.log && frontier.offsets.iter().zip(&of.offsets).any(|(mine, its)| mine > its)
    };
    if ahead(until) && ahead(&end_of_log(app).await?) {
        return Ok(Since::Beginning);
    }
    Ok(Since::Frontier(frontier))
}

/// How far the log goes.
async fn end_of_log(app: &App) -> Result<Frontier, Error> {
    let bounds = app.source.bounds().await?;
    Ok(Frontier { log: app.log_number, offsets: bounds.iter().map(|bound| bound.end - 1).collect() })
}

/// How a conversation's missed events are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Split {
    /// All pushed.
    All,
    /// A gap, then everything from this seq on pushed.
    GapThenPush(Seq),
    /// The budget is used up: one gap.
    GapOnly,
}

impl Split {
    fn pushed(self, missed: &Missed) -> i64 {
        match self {
            Self::All => missed.to.0 - missed.from.0 + 1,
            Self::GapThenPush(first) => missed.to.0 - first.0 + 1,
            Self::GapOnly => 0,
        }
    }

    fn gap_to(self, missed: &Missed) -> Option<Seq> {
        match self {
            Self::All => None,
            Self::GapThenPush(first) => Some(Seq(first.0 - 1)),
            Self::GapOnly => Some(missed.to),
        }
    }
}

/// The newest events are pushed, what lies before them becomes the gap.
fn split(missed: &Missed, pushed_max: i64) -> Split {
    let count = missed.to.0 - missed.from.0 + 1;
    let pushed = count.min(pushed_max);
    if pushed == count {
        Split::All
    } else if pushed <= 0 {
        Split::GapOnly
    } else {
        Split::GapThenPush(Seq(missed.to.0 - pushed + 1))
    }
}
