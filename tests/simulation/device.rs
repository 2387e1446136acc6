//! Devices: the session at the server's end of a socket, and the client at the other.
//!
//! The session here is a small model of protocol.md section 3: attach, resume, then what the mailbox brings,
//! less what was given already. It makes no frames but those that the rules need.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use chatd::app::App;
use chatd::chat::authorize;
use chatd::chat::receipts;
use chatd::chat::resume::{From, Part, Resume};
use chatd::delivery::Attachment;
use chatd::delivery::mailbox::Item;
use chatd::domain::{ConversationId, CursorScope, Event, Frontier, MessageId, Seq, UserId};
use chatd::storage::Receipt;
use serde::Deserialize;

use crate::checker::Checker;
use crate::mutant::Mutant;
use crate::node::MAILBOX_BYTES;
use crate::ranges::Ranges;
use crate::store::INCARNATION;
use crate::world::{Shared, World, at_most, pause};

/// Frames that may wait for a client before the resume stops to wait for it.
const PACE: usize = 64;

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
    /// What others had confirmed when this client began: it is owed what lies above. `None`: not known yet.
    pub floor: Option<BTreeMap<ConversationId, Seq>>,
    pub rejected: Vec<MessageId>,
    /// Gaps that it was told of and has not looked into.
    gaps: Vec<(ConversationId, Seq, Seq)>,
    pub socket: Option<usize>,
}

impl Client {
    pub fn new(user: UserId, acks: bool, name: Option<String>) -> Self {
        let (held, rejected, gaps) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { user, acks, name, cursor: None, held, floor: None, rejected, gaps, socket: None }
    }

    /// Begins anew with nothing; `owed` is whether it asks for everything from the first event on.
    pub fn reset(&mut self, owed: bool) {
        self.cursor = None;
        self.held.clear();
        self.rejected.clear();
        self.gaps.clear();
        self.floor = owed.then(BTreeMap::new);
    }
}

/// A frame on its way to a client.
#[derive(Debug, Clone)]
pub enum Frame {
    Event(ConversationId, Seq),
    Gap(ConversationId, Seq, Seq),
    Rejected(MessageId),
    Resumed(String, BTreeMap<ConversationId, Seq>),
    Cursor(String),
    Ping(u64),
}

/// What a client says.
#[derive(Debug, Clone, Copy)]
pub enum Said {
    Pong(u64),
    Received(ConversationId, Seq),
    Read(ConversationId, Seq),
}

/// A socket between the two.
#[derive(Debug)]
pub struct Socket {
    pub client: usize,
    pub node: usize,
    pub out: VecDeque<Frame>,
    pub said: VecDeque<Said>,
    pub resumed: bool,
    /// The last seq written of each conversation.
    last: BTreeMap<ConversationId, i64>,
    /// Everything up to here was given by the first resume, or before it.
    until: Option<Frontier>,
    /// Gaps that the client has read.
    gaps: Vec<(ConversationId, Seq, Seq)>,
    /// A burst of other frames fills the mailbox.
    pub burst: bool,
}

impl Socket {
    pub fn new(client: usize, node: usize) -> Self {
        Self {
            client,
            node,
            out: VecDeque::new(),
            said: VecDeque::new(),
            resumed: false,
            last: BTreeMap::new(),
            until: None,
            gaps: Vec::new(),
            burst: false,
        }
    }
}

impl World {
    /// The session writes a frame: each conversation in seq order, none missing, none twice, none that is not
    /// stored. A socket that is gone swallows it.
    fn write(&mut self, number: usize, frame: Frame) {
        let Some(socket) = self.sockets.get_mut(&number) else { return };
        if let Frame::Event(conversation, from) | Frame::Gap(conversation, from, _) = &frame {
            let to = if let Frame::Gap(_, _, to) = &frame { to } else { from };
            // Before anything was given of a conversation, the resume says where it stands.
            let begun = socket.until.as_ref().map(|until| {
                self.store.conversations.get(conversation).map_or(0, |found| found.covered(until).0)
            });
            if let Some(last) = &socket.last.get(conversation).copied().or(begun) {
                let what = || format!("socket {number} {conversation}: {from} after {last}");
                self.checker.ensure(from.0 > *last, "twice", what);
                self.checker.ensure(from.0 == last + 1, "order", what);
            }
            socket.last.insert(*conversation, to.0);
        }
        self.checker.tell(|| format!("  socket {number} < {frame:?}"));
        socket.out.push_back(frame);
    }

    fn check_stored(&mut self, conversation: ConversationId, seq: Seq, id: MessageId, content: &str) {
        let found = self.store.conversations.get(&conversation);
        let event = found.and_then(|found| found.events.get((seq.0 - 1) as usize));
        let same = event.is_some_and(|event| event.id == id && content_of(event) == content);
        self.checker.ensure(same, "phantom", || format!("{conversation} {seq} is not what was given"));
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
        match frame {
            Frame::Event(conversation, seq) => {
                self.checker.given(client.user, conversation, seq.0, seq.0);
                client.held.entry(conversation).or_default().add(seq.0, seq.0);
                if client.acks && (self.healing || self.dice.chance(0.3)) {
                    let read = self.dice.chance(0.2);
                    client.confirm_gaps(&mut self.checker, conversation);
                    let said =
                        if read { Said::Read(conversation, seq) } else { Said::Received(conversation, seq) };
                    socket.said.push_back(said);
                }
            }
            Frame::Gap(conversation, from, to) => {
                self.checker.count("gaps");
                client.held.entry(conversation).or_default().add(from.0, to.0);
                socket.gaps.push((conversation, from, to));
                client.gaps.push((conversation, from, to));
                if client.acks && self.healing {
                    client.confirm_gaps(&mut self.checker, conversation);
                    socket.said.push_back(Said::Received(conversation, to));
                }
            }
            Frame::Rejected(id) => client.rejected.push(id),
            Frame::Resumed(cursor, floor) => {
                client.cursor = Some(cursor);
                client.floor.get_or_insert(floor);
                socket.resumed = true;
                if self.healing {
                    self.acknowledge(number);
                }
            }
            Frame::Cursor(cursor) => client.cursor = Some(cursor),
            Frame::Ping(payload) => {
                for (conversation, from, to) in &socket.gaps {
                    self.checker.given(client.user, *conversation, from.0, to.0);
                }
                socket.said.push_back(Said::Pong(payload));
            }
        }
    }
}

impl World {
    /// A client that confirms by itself confirms all that it has.
    pub fn acknowledge(&mut self, number: usize) {
        let socket = self.sockets.get_mut(&number).unwrap();
        let client = &self.clients[socket.client];
        for (conversation, held) in client.held.iter().filter(|_| client.acks) {
            client.confirm_gaps(&mut self.checker, *conversation);
            socket.said.extend(held.last().map(|last| Said::Received(*conversation, Seq(last))));
        }
    }
}

impl Client {
    /// What the client says next confirms the gaps of this conversation.
    fn confirm_gaps(&self, checker: &mut Checker, conversation: ConversationId) {
        for (_, from, to) in self.gaps.iter().filter(|gap| gap.0 == conversation) {
            checker.given(self.user, conversation, from.0, to.0);
        }
    }
}

fn content_of(event: &Event) -> &str {
    let chatd::domain::RecordBody::Message(message) = &event.body;
    message.content.as_str()
}

/// Bytes taken out of the mailbox at once.
const MOVED_BYTES: usize = 512;

type Given = BTreeMap<ConversationId, (Seq, Seq)>;

/// The server's end of a socket.
struct Session {
    world: Shared,
    app: Arc<App>,
    number: usize,
    user: UserId,
    pings: bool,
    seen: Option<Frontier>,
    /// Given since the last ping.
    given: Given,
    /// What each ping covers.
    pinged: BTreeMap<u64, Given>,
    last_ping: u64,
    moved: bool,
}

/// A session, until its socket is to be closed.
pub async fn session(world: Shared, app: Arc<App>, number: usize, client: Client, from: From) {
    let Client { user, acks, name, .. } = client;
    let mut session = Session {
        world: world.clone(),
        app: Arc::clone(&app),
        number,
        user,
        pings: !acks,
        seen: None,
        given: Given::new(),
        pinged: BTreeMap::new(),
        last_ping: 0,
        moved: false,
    };
    if world.lock().has(Mutant::AttachLate) {
        session.resume(None, from).await;
        let attachment = app.hub.attach(user, name);
        session.live(&attachment).await;
        return;
    }
    let attachment = app.hub.attach(user, name);
    pause().await;
    session.resume(Some(&attachment), from).await;
    session.live(&attachment).await;
}

impl Session {
    async fn live(&mut self, attachment: &Attachment) {
        let mailbox = attachment.mailbox();
        loop {
            pause().await;
            self.burst(attachment);
            self.hear().await;
            let mut heard = self.app.hub.frontier();
            let contents = mailbox.take(MOVED_BYTES);
            if self.world.lock().has(Mutant::CursorAhead) {
                pause().await;
                heard = self.app.hub.frontier();
            }
            if contents.evicted.is_some() {
                return;
            }
            for item in contents.items {
                self.item(item);
            }
            if contents.overflowed && !self.world.lock().has(Mutant::OverflowIgnored) {
                self.world.lock().checker.count("overflows");
                let seen = self.seen.clone().unwrap();
                self.resume(Some(attachment), From::Given(seen)).await;
                continue;
            }
            if let Some(seen) = &mut self.seen
                && contents.emptied
            {
                self.moved |= *seen != heard;
                seen.merge(&heard);
            }
            self.speak();
        }
    }

    fn item(&mut self, item: Item) {
        let mut world = self.world.lock();
        let (position, frame) = match item {
            Item::Event { position, conversation, seq, frame } => {
                let seen: Seen = serde_json::from_slice(&frame).unwrap();
                world.check_stored(conversation, seq, seen.id, seen.content);
                (position, Frame::Event(conversation, seq))
            }
            Item::Rejected { position, frame } => {
                let seen: SeenId = serde_json::from_slice(&frame).unwrap();
                (position, Frame::Rejected(seen.id))
            }
            Item::Signal(_) => return,
        };
        let Some(seen) = &mut self.seen else { return };
        if seen.covers(position) && !world.has(Mutant::GivesTwice) {
            return;
        }
        seen.advance(position.partition, position.offset);
        if let Frame::Event(conversation, seq) = frame {
            self.given.entry(conversation).or_insert((seq, seq)).1 = seq;
        }
        self.moved = true;
        world.write(self.number, frame);
    }

    /// Gives what was missed, and waits for the client where it is slow. Failures are tried again.
    async fn resume(&mut self, attachment: Option<&Attachment>, from: From) {
        let mut resume = loop {
            match Resume::begin(&self.app, self.user, from.clone()).await {
                Ok(resume) => break resume,
                Err(_) => pause().await,
            }
        };
        loop {
            if let Some(attachment) = attachment {
                self.burst(attachment);
            }
            self.hear().await;
            while self.is_slow() {
                pause().await;
            }
            let pauses = self.patience();
            let Some(next) = at_most(pauses, resume.next(&self.app)).await else {
                self.world.lock().checker.count("resume steps given up");
                continue;
            };
            match next {
                Ok(parts) if parts.is_empty() => break,
                Ok(parts) => parts.into_iter().for_each(|part| self.part(part)),
                Err(_) => pause().await,
            }
            self.speak();
        }
        let until = resume.until().clone();
        match &mut self.seen {
            Some(seen) => seen.merge(&until),
            None => self.seen = Some(until),
        }
    }

    /// How many pauses the next step is waited for.
    fn patience(&self) -> usize {
        let mut world = self.world.lock();
        let probability = world.faults.cancelled;
        if world.dice.chance(probability) { world.dice.below(4) } else { usize::MAX }
    }

    fn is_slow(&self) -> bool {
        self.world.lock().sockets.get(&self.number).is_some_and(|socket| socket.out.len() > PACE)
    }

    fn part(&mut self, part: Part) {
        let mut world = self.world.lock();
        let frame = match part {
            Part::Event(event) => {
                world.check_stored(event.conversation, event.seq, event.id, content_of(&event));
                self.given.entry(event.conversation).or_insert((event.seq, event.seq)).1 = event.seq;
                Frame::Event(event.conversation, event.seq)
            }
            Part::Gap { conversation, from, to } => {
                self.given.entry(conversation).or_insert((from, to)).1 = to;
                Frame::Gap(conversation, from, to)
            }
            Part::Rejected(rejection) => Frame::Rejected(rejection.id),
            Part::Receipt(receipt) => {
                world.check_receipt(&receipt);
                return;
            }
            Part::Resumed { frontier, .. } => {
                let own = world.store.of_user.get(&self.user).cloned().unwrap_or_default();
                let floor = own.into_iter().map(|id| (id, world.store.cursors(id, self.user).delivered));
                let floor = floor.collect();
                world.sockets.get_mut(&self.number).into_iter().for_each(|socket| {
                    socket.until = Some(frontier.clone());
                });
                Frame::Resumed(scope(self.user).encode(&frontier), floor)
            }
        };
        world.write(self.number, frame);
    }

    /// What the client said.
    async fn hear(&mut self) {
        loop {
            let said = self.world.lock().sockets.get_mut(&self.number).and_then(|s| s.said.pop_front());
            let member = |conversation| authorize::member(self.user, conversation).unwrap();
            match said {
                None => return,
                Some(Said::Pong(payload)) => {
                    let mut covered = self.pinged.remove(&payload).unwrap_or_default();
                    if self.world.lock().has(Mutant::PongConfirmsAll) {
                        covered.append(&mut self.given);
                    }
                    for (conversation, (from, to)) in covered {
                        receipts::delivered(&self.app, member(conversation), from, to);
                    }
                }
                Some(Said::Received(conversation, seq)) => {
                    let _ = receipts::received(&self.app, member(conversation), seq, Seq(0)).await;
                }
                Some(Said::Read(conversation, seq)) => {
                    let _ = receipts::read(&self.app, member(conversation), seq, Seq(0)).await;
                }
            }
        }
    }

    /// Now and then a ping, and a cursor when it moved.
    fn speak(&mut self) {
        let mut world = self.world.lock();
        let healing = world.healing;
        if self.pings && !self.given.is_empty() && (healing || world.dice.chance(0.2)) {
            self.last_ping += 1;
            self.pinged.insert(self.last_ping, std::mem::take(&mut self.given));
            world.write(self.number, Frame::Ping(self.last_ping));
        }
        if let Some(seen) = &self.seen
            && self.moved
            && (healing || world.dice.chance(0.2))
        {
            self.moved = false;
            let cursor = scope(self.user).encode(seen);
            world.write(self.number, Frame::Cursor(cursor));
        }
    }

    /// A burst of signals that no socket could take.
    fn burst(&self, attachment: &Attachment) {
        let burst =
            self.world.lock().sockets.get_mut(&self.number).is_some_and(|s| std::mem::take(&mut s.burst));
        if burst {
            let huge = bytes::Bytes::from_static(&[b'x'; MAILBOX_BYTES + 1]);
            attachment.mailbox().push(Item::Signal(huge));
        }
    }
}

impl World {
    fn check_receipt(&mut self, receipt: &Receipt) {
        let now = self.store.cursors(receipt.conversation, receipt.user);
        let holds = receipt.delivered <= now.delivered && receipt.read <= now.read;
        self.checker.ensure(holds, "receipt", || format!("{receipt:?} is ahead of {now:?}"));
    }
}

/// Whose cursors.
pub fn scope(user: UserId) -> CursorScope {
    CursorScope { incarnation: INCARNATION, user }
}

#[derive(Deserialize)]
struct Seen<'a> {
    id: MessageId,
    content: &'a str,
}

#[derive(Deserialize)]
struct SeenId {
    id: MessageId,
}
