//! Devices as their users hold them, the sockets between them and the server, and what must hold of every
//! frame on a socket.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use chatd::domain::{
    Content, ConversationId, CursorScope, Event, EventBody, Frontier, MessageId, Seq, UserId,
};
use serde::Deserialize;

use crate::checker::Checker;
use crate::ranges::Ranges;
use crate::store::INCARNATION;
use crate::world::World;

/// What a client has, over all its sockets.
#[derive(Debug, Clone)]
pub struct Client {
    pub user: UserId,
    /// Confirms with `received`; others by answering pings.
    pub acks: bool,
    /// The same name again replaces the socket before.
    pub name: Option<String>,
    pub cursor: Option<String>,
    pub held: BTreeMap<ConversationId, Ranges>,
    /// The frame of each event that it has, as it came last.
    pub frames: BTreeMap<(ConversationId, Seq), Frame>,
    /// What others had confirmed when this client began: it is owed what lies above. `None`: not known yet.
    pub floor: Option<BTreeMap<ConversationId, Seq>>,
    pub rejected: Vec<MessageId>,
    /// Gaps that it was told of and has not looked into.
    gaps: Vec<(ConversationId, Seq, Seq)>,
    pub socket: Option<usize>,
}

impl Client {
    pub fn new(user: UserId, acks: bool, name: Option<String>) -> Self {
        let (held, frames) = (BTreeMap::new(), BTreeMap::new());
        let (rejected, gaps) = (Vec::new(), Vec::new());
        Self { user, acks, name, cursor: None, held, frames, floor: None, rejected, gaps, socket: None }
    }

    /// Begins anew with nothing; `owed` is whether it asks for everything from the first event on.
    pub fn reset(&mut self, owed: bool) {
        self.cursor = None;
        self.held.clear();
        self.frames.clear();
        self.rejected.clear();
        self.gaps.clear();
        self.floor = owed.then(BTreeMap::new);
    }

    /// What the client says next confirms the gaps of this conversation.
    fn confirm_gaps(&self, checker: &mut Checker, conversation: ConversationId) {
        for (_, from, to) in self.gaps.iter().filter(|gap| gap.0 == conversation) {
            checker.given(self.user, conversation, from.0, to.0);
        }
    }
}

/// Whose cursors.
pub fn scope(user: UserId) -> CursorScope {
    CursorScope { incarnation: INCARNATION, user }
}

/// A frame as a client reads it.
#[derive(Debug, Clone, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Frame {
    Message {
        conversation: ConversationId,
        seq: Seq,
        id: MessageId,
        content: Option<String>,
    },
    Edited {
        conversation: ConversationId,
        seq: Seq,
        id: MessageId,
        content: Option<String>,
    },
    Deleted {
        conversation: ConversationId,
        seq: Seq,
        id: MessageId,
    },
    Gap {
        conversation: ConversationId,
        from: Seq,
        to: Seq,
    },
    Rejected {
        id: MessageId,
    },
    Receipt {
        conversation: ConversationId,
        user: UserId,
        delivered: Seq,
        read: Seq,
    },
    Resumed {
        cursor: String,
        #[serde(rename = "ref")]
        mark: Option<String>,
    },
    Cursor {
        cursor: String,
    },
    Pong {
        cursor: Option<String>,
    },
    /// A WebSocket ping.
    #[serde(skip)]
    Ping([u8; 8]),
    #[serde(other)]
    Other,
}

impl Frame {
    pub fn parse(text: &Bytes) -> Self {
        serde_json::from_slice(text).unwrap()
    }

    /// Conversation, seq and message of an event.
    pub fn place(&self) -> Option<(ConversationId, Seq, MessageId)> {
        match self {
            Self::Message { conversation, seq, id, .. }
            | Self::Edited { conversation, seq, id, .. }
            | Self::Deleted { conversation, seq, id } => Some((*conversation, *seq, *id)),
            _ => None,
        }
    }

    /// The words that it brings.
    pub fn words(&self) -> Option<&str> {
        match self {
            Self::Message { content, .. } | Self::Edited { content, .. } => content.as_deref(),
            _ => None,
        }
    }
}

/// What a client says.
#[derive(Debug, Clone)]
pub enum Said {
    Text(String),
    Pong([u8; 8]),
}

impl Said {
    pub fn resume(cursor: Option<&str>) -> Self {
        let cursor = cursor.map_or(String::new(), |cursor| format!(r#","cursor":"{cursor}""#));
        Self::Text(format!(r#"{{"type":"resume","ref":"r"{cursor}}}"#))
    }

    pub fn confirm(kind: &str, conversation: ConversationId, seq: i64) -> Self {
        Self::Text(format!(r#"{{"type":"{kind}","conversation":"{conversation}","seq":{seq}}}"#))
    }
}

/// A socket between the two.
#[derive(Debug)]
pub struct Socket {
    pub client: usize,
    pub node: usize,
    pub out: VecDeque<Frame>,
    pub said: VecDeque<Said>,
    /// Said, but slow to arrive.
    pub late: Option<Said>,
    /// The client has asked for a resume, and was not answered yet: no cursor before counts.
    pub asked: bool,
    pub resumed: bool,
    /// The last seq written of each conversation since the resume began.
    last: BTreeMap<ConversationId, i64>,
    /// Everything up to here was given by the resume, or before it.
    until: Option<Frontier>,
    /// What others have confirmed of this user's conversations when each resume ended.
    floors: VecDeque<BTreeMap<ConversationId, Seq>>,
    /// Gaps that the client has read.
    gaps: Vec<(ConversationId, Seq, Seq)>,
    /// A burst of other frames fills the mailbox.
    pub burst: bool,
    /// What was deleted when the resume began: it brings no words of that.
    tombstones: HashSet<MessageId>,
}

impl Socket {
    pub fn new(client: usize, node: usize) -> Self {
        Self {
            client,
            node,
            out: VecDeque::new(),
            said: VecDeque::new(),
            late: None,
            asked: false,
            resumed: false,
            last: BTreeMap::new(),
            until: None,
            floors: VecDeque::new(),
            gaps: Vec::new(),
            burst: false,
            tombstones: HashSet::new(),
        }
    }

    /// The client asked to catch up: what comes now may repeat.
    pub fn begin_anew(&mut self) {
        self.last.clear();
        self.until = None;
    }
}

impl World {
    /// The session writes a frame: each conversation in seq order, none missing, none twice, none that is not
    /// stored. A socket that is gone swallows it.
    pub fn write(&mut self, number: usize, frame: Frame) {
        let Some(client) = self.sockets.get(&number).map(|socket| socket.client) else { return };
        let user = self.clients[client].user;
        self.checker.tell(|| format!("  socket {number} < {frame:?}"));
        match &frame {
            Frame::Message { conversation, seq, .. }
            | Frame::Edited { conversation, seq, .. }
            | Frame::Deleted { conversation, seq, .. } => {
                self.check_stored(&frame);
                self.check_order(number, *conversation, *seq, *seq);
            }
            Frame::Gap { conversation, from, to } => self.check_order(number, *conversation, *from, *to),
            Frame::Receipt { conversation, user, delivered, read } => {
                let now = self.store.cursors(*conversation, *user);
                let holds = *delivered <= now.delivered && *read <= now.read;
                self.checker.ensure(holds, "receipt", || format!("{frame:?} is ahead of {now:?}"));
                return;
            }
            Frame::Resumed { cursor, .. } => {
                let own = self.store.of_user.get(&user).into_iter().flatten();
                let floor = own.map(|id| (*id, self.store.cursors(*id, user).delivered)).collect();
                let socket = self.sockets.get_mut(&number).unwrap();
                socket.floors.push_back(floor);
                socket.until = scope(user).decode(cursor);
            }
            Frame::Rejected { .. }
            | Frame::Cursor { .. }
            | Frame::Pong { .. }
            | Frame::Other
            | Frame::Ping(_) => {}
        }
        self.sockets.get_mut(&number).unwrap().out.push_back(frame);
    }

    fn check_order(&mut self, number: usize, conversation: ConversationId, from: Seq, to: Seq) {
        let socket = self.sockets.get_mut(&number).unwrap();
        // Before anything was given of a conversation, the resume says where it stands.
        let begun = || {
            let until = socket.until.as_ref()?;
            Some(self.store.conversations.get(&conversation)?.covered(until).0)
        };
        if let Some(last) = socket.last.get(&conversation).copied().or_else(begun) {
            let what = || format!("socket {number} {conversation}: {from} after {last}");
            self.checker.ensure(from.0 > last, "twice", what);
            self.checker.ensure(from.0 == last + 1, "order", what);
        }
        socket.last.insert(conversation, to.0);
    }

    /// What is given is what is stored there, with words that it has now or had before.
    fn check_stored(&mut self, frame: &Frame) {
        let Some((conversation, seq, id)) = frame.place() else { return };
        let found = self.store.conversations.get(&conversation);
        let event = found.and_then(|found| found.events.get((seq.0 - 1) as usize));
        let same = event.is_some_and(|event| match (&event.body, frame) {
            (EventBody::Message(_), Frame::Message { .. }) => event.id == id,
            (EventBody::Edited { target, .. }, Frame::Edited { .. })
            | (EventBody::Deleted { target }, Frame::Deleted { .. }) => *target == id,
            _ => false,
        });
        let gone = self.store.changed.get(&id).is_some_and(|message| message.content.is_none());
        let is_of_it = |event: &&Arc<Event>| match &event.body {
            EventBody::Message(message) if event.id == id => {
                message.content.as_ref().map(Content::as_str) == frame.words()
            }
            EventBody::Edited { target, content } if *target == id => {
                content.as_ref().map(Content::as_str) == frame.words()
            }
            _ => false,
        };
        let is_wordless = matches!(frame, Frame::Deleted { .. }) || (gone && frame.words().is_none());
        let words =
            is_wordless || found.is_some_and(|found| found.events.iter().any(|event| is_of_it(&event)));
        self.checker.shown(conversation, seq, id);
        self.checker.ensure(same && words, "phantom", || format!("{frame:?} is not what was given"));
    }

    /// A resume begins: what is gone by now stays gone.
    pub fn note_tombstones(&mut self, number: usize) {
        let tombstones = self.store.tombstones();
        self.sockets.get_mut(&number).into_iter().for_each(|socket| socket.tombstones = tombstones.clone());
    }

    /// A resume brings a frame.
    pub fn check_words(&mut self, number: usize, frame: &Frame) {
        let (Some((.., id)), Some(socket)) = (frame.place(), self.sockets.get(&number)) else { return };
        let erased = frame.words().is_none() || !socket.tombstones.contains(&id);
        self.checker.ensure(erased, "erased", || format!("socket {number}: {frame:?} was deleted before"));
    }

    /// A socket ends: what is still on its way is lost.
    pub fn close(&mut self, number: usize) {
        if let Some(socket) = self.sockets.remove(&number) {
            self.clients[socket.client].socket = None;
            self.checker.tell(|| format!("socket {number} closed"));
        }
    }

    /// The client reads the next frame, and may answer.
    pub fn consume(&mut self, number: usize) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        let Some(frame) = socket.out.pop_front() else { return };
        let client = &mut self.clients[socket.client];
        if let Some((conversation, seq, _)) = frame.place() {
            client.frames.insert((conversation, seq), frame.clone());
        }
        match frame {
            Frame::Message { conversation, seq, .. }
            | Frame::Edited { conversation, seq, .. }
            | Frame::Deleted { conversation, seq, .. } => {
                self.checker.given(client.user, conversation, seq.0, seq.0);
                client.held.entry(conversation).or_default().add(seq.0, seq.0);
                if client.acks && (self.healing || self.dice.chance(0.15)) {
                    let kind = if self.dice.chance(0.2) { "read" } else { "received" };
                    client.confirm_gaps(&mut self.checker, conversation);
                    socket.said.push_back(Said::confirm(kind, conversation, seq.0));
                }
            }
            Frame::Gap { conversation, from, to } => {
                self.checker.count("gaps");
                client.held.entry(conversation).or_default().add(from.0, to.0);
                socket.gaps.push((conversation, from, to));
                client.gaps.push((conversation, from, to));
            }
            Frame::Rejected { id } => client.rejected.push(id),
            Frame::Resumed { cursor, mark } => {
                let floor = socket.floors.pop_front().unwrap();
                if mark.is_none() && socket.asked {
                    // The server's own, begun before it had heard the client: no answer to what it asked.
                    self.checker.count("resumes that crossed");
                    return;
                }
                (socket.asked, socket.resumed) = (false, true);
                client.cursor = Some(cursor);
                client.floor.get_or_insert(floor);
                if self.healing {
                    self.acknowledge(number);
                }
            }
            Frame::Cursor { cursor } | Frame::Pong { cursor: Some(cursor) } => {
                if !socket.asked {
                    client.cursor = Some(cursor);
                }
            }
            Frame::Ping(payload) => {
                for (conversation, from, to) in &socket.gaps {
                    self.checker.given(client.user, *conversation, from.0, to.0);
                }
                socket.said.push_back(Said::Pong(payload));
            }
            Frame::Receipt { .. } | Frame::Pong { cursor: None } | Frame::Other => {}
        }
    }

    /// A client that confirms by itself, and is not just asking for more, confirms all that it has.
    pub fn acknowledge(&mut self, number: usize) {
        let socket = self.sockets.get_mut(&number).unwrap();
        if socket.asked {
            return;
        }
        let client = &self.clients[socket.client];
        for (conversation, held) in client.held.iter().filter(|_| client.acks) {
            client.confirm_gaps(&mut self.checker, *conversation);
            socket.said.extend(held.last().map(|last| Said::confirm("received", *conversation, last)));
        }
    }
}
