//! The server's end of a socket: the real machine of `ws::state`, and around it what `ws::session` does with
//! sockets and timers.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use chatd::app::App;
use chatd::chat::resume::{From, Part, Resume};
use chatd::chat::{authorize, receipts};
use chatd::delivery::mailbox::{Contents, Item};
use chatd::delivery::{Attachment, Mailbox};
use chatd::domain::{ConversationId, Error, ErrorCode, Seq, UserId};
use chatd::ws::state::{Action, Input, Opening, State};
use tokio::time::Instant;

use crate::client::{Client, Frame, Said, scope};
use crate::mutant::Mutant;
use crate::node::MAILBOX_BYTES;
use crate::world::{Shared, pause};

/// Frames that may wait for a client before no more are written but answers.
const PACE: usize = 64;
/// Bytes taken out of the mailbox at once.
const MOVED_BYTES: usize = 512;
/// The pause before a resume is tried again.
const RESUME_RETRY: Duration = Duration::from_millis(200);

type Task<T> = Pin<Box<dyn Future<Output = T>>>;
type Resuming = Task<(Option<Resume>, Result<Vec<Part>, Error>)>;

/// The socket is to be closed.
struct Closed;

struct Session {
    world: Shared,
    app: Arc<App>,
    number: usize,
    user: UserId,
    name: Option<String>,
    attachment: Option<Attachment>,
    /// The node whose owners know that the user is there.
    node: usize,
    registered: bool,
    state: State,
    resume: Option<(From, Resuming)>,
    resume_failed: bool,
    retry_at: Instant,
    parts: std::vec::IntoIter<Part>,
    judging: Vec<Task<Result<(), Error>>>,
    /// For `Mutant::PongConfirmsAll`.
    written: BTreeMap<ConversationId, (Seq, Seq)>,
}

/// A session, until its socket is to be closed.
pub async fn session(world: Shared, app: Arc<App>, (node, number): (usize, usize), client: Client) {
    let Client { user, acks, name, .. } = client;
    let opening = Opening {
        scope: scope(user),
        pong_confirms: !acks,
        heartbeat: Duration::from_secs(25),
        expires_at: None,
        bad_json_per_minute: 20,
    };
    let now = Instant::now();
    let late = world.lock().has(Mutant::AttachLate);
    let attachment = (!late).then(|| app.hub.attach(user, name.clone()));
    let mut session = Session {
        world,
        app,
        number,
        user,
        name,
        attachment,
        node,
        registered: false,
        state: State::new(opening, now),
        resume: None,
        resume_failed: false,
        retry_at: now,
        parts: Vec::new().into_iter(),
        judging: Vec::new(),
        written: BTreeMap::new(),
    };
    pause().await;
    let late = late || session.world.lock().has(Mutant::RegistersLate);
    if !late {
        session.register();
    }
    while session.go_on().await.is_ok() {
        pause().await;
    }
}

impl Session {
    /// Something of what could happen now happens.
    async fn go_on(&mut self) -> Result<(), Closed> {
        self.burst();
        self.judge();
        if self.comes_up() {
            self.hear()?;
        }
        if self.comes_up() {
            self.catch_up()?;
        }
        if self.comes_up() {
            self.give_part()?;
        }
        if self.comes_up() {
            self.take_mail().await?;
        }
        self.step(Input::Tick)
    }

    /// Whether it is the turn of something; which of several things comes first follows from nothing.
    fn comes_up(&self) -> bool {
        let mut world = self.world.lock();
        world.healing || world.dice.chance(0.6)
    }

    fn step(&mut self, input: Input<'_>) -> Result<(), Closed> {
        let mut actions = Vec::new();
        self.state.step(input, Instant::now(), &mut actions);
        actions.into_iter().try_for_each(|action| self.perform(action))
    }

    fn perform(&mut self, action: Action) -> Result<(), Closed> {
        match action {
            Action::Write(text) => self.write(&text),
            Action::WriteAtPace(text) => {
                self.world.lock().check_words(self.number, &Frame::parse(&text));
                self.write(&text);
            }
            Action::Ping(payload) => self.world.lock().write(self.number, Frame::Ping(payload)),
            Action::Delivered(conversation, from, to) => {
                let member = authorize::member(self.user, conversation).unwrap();
                receipts::delivered(&self.app, member, from, to);
            }
            Action::Received(_, conversation, seq, known) => {
                let (app, member) =
                    (Arc::clone(&self.app), authorize::member(self.user, conversation).unwrap());
                let judged = async move { receipts::received(&app, member, seq, known).await };
                self.judging.push(Box::pin(judged));
            }
            Action::Read(_, conversation, seq, known) => {
                let (app, member) =
                    (Arc::clone(&self.app), authorize::member(self.user, conversation).unwrap());
                let judged = async move { receipts::read(&app, member, seq, known).await };
                self.judging.push(Box::pin(judged));
            }
            Action::Resume(from) => {
                let mut world = self.world.lock();
                world.checker.count(match &from {
                    From::Given(_) => "resumes after an overflow",
                    From::Confirmed => "resumes without a cursor",
                    From::Again(_) => "resumes again without a cursor",
                    From::Cursor(_) => "resumes with a cursor",
                });
                world.note_tombstones(self.number);
                if !matches!(from, From::Given(_)) {
                    world.sockets.get_mut(&self.number).into_iter().for_each(|s| s.begin_anew());
                }
                drop(world);
                self.resume = Some((from.clone(), step_of(&self.app, self.user, from, None)));
            }
            Action::Close(close) => {
                let mut world = self.world.lock();
                world.checker.tell(|| format!("  socket {} is closed: {}", self.number, close.reason));
                world.checker.count("sockets closed by the server");
                return Err(Closed);
            }
            Action::Send(..) | Action::LiftFence | Action::Renew(..) => {}
            Action::Typing(..) | Action::Watch(..) => {}
        }
        Ok(())
    }

    fn write(&mut self, text: &Bytes) {
        let frame = Frame::parse(text);
        if let Some((conversation, seq, _)) = frame.place() {
            self.written.entry(conversation).or_insert((seq, seq)).1 = seq;
        }
        self.world.lock().write(self.number, frame);
    }

    /// A frame of the client.
    fn hear(&mut self) -> Result<(), Closed> {
        let said = self.world.lock().sockets.get_mut(&self.number).and_then(|s| s.said.pop_front());
        match said {
            None => Ok(()),
            Some(Said::Text(text)) => self.step(Input::Text(&text)),
            Some(Said::Pong(payload)) => {
                if self.world.lock().has(Mutant::PongConfirmsAll) {
                    for (conversation, (from, to)) in &self.written {
                        let member = authorize::member(self.user, *conversation).unwrap();
                        receipts::delivered(&self.app, member, *from, *to);
                    }
                }
                self.step(Input::Pong(&payload))
            }
        }
    }

    /// The resume goes on; what it brought before has to be written first.
    fn catch_up(&mut self) -> Result<(), Closed> {
        if self.parts.len() > 0 || Instant::now() < self.retry_at {
            return Ok(());
        }
        let Some((from, task)) = &mut self.resume else { return Ok(()) };
        let mut context = Context::from_waker(Waker::noop());
        let Poll::Ready((resume, parts)) = task.as_mut().poll(&mut context) else { return Ok(()) };
        let from = from.clone();
        self.resume = None;
        match (resume, parts) {
            (Some(resume), Ok(parts)) if parts.is_empty() => {
                self.attach();
                self.step(Input::ResumeEnded(resume.until().clone()))
            }
            (resume, Ok(parts)) => {
                self.resume_failed = false;
                self.parts = parts.into_iter();
                self.resume = Some((from.clone(), step_of(&self.app, self.user, from, resume)));
                Ok(())
            }
            (resume, Err(error)) => {
                self.retry_at = Instant::now() + RESUME_RETRY;
                self.resume = Some((from.clone(), step_of(&self.app, self.user, from, resume)));
                let first = !std::mem::replace(&mut self.resume_failed, true);
                if first { self.step(Input::ResumeFailed(error)) } else { Ok(()) }
            }
        }
    }

    fn attach(&mut self) {
        if self.attachment.is_none() {
            self.attachment = Some(self.app.hub.attach(self.user, self.name.clone()));
            self.register();
        }
    }

    fn register(&mut self) {
        if !self.registered {
            self.registered = true;
            self.world.lock().register(self.node, self.user);
        }
    }

    fn has_room(&self) -> bool {
        self.world.lock().sockets.get(&self.number).is_none_or(|socket| socket.out.len() < PACE)
    }

    fn give_part(&mut self) -> Result<(), Closed> {
        if self.state.is_live() {
            self.register();
        }
        while self.has_room() {
            let Some(part) = self.parts.next() else { break };
            self.step(Input::Part(part))?;
            if self.world.lock().dice.chance(0.2) {
                break;
            }
        }
        Ok(())
    }

    fn mailbox(&self) -> Option<Arc<Mailbox>> {
        self.attachment.as_ref().map(|attachment| Arc::clone(attachment.mailbox()))
    }

    async fn take_mail(&mut self) -> Result<(), Closed> {
        let Some(mailbox) = self.mailbox() else { return Ok(()) };
        if !self.has_room() {
            return Ok(());
        }
        let mutant = self.world.lock().mutant;
        let mut heard = self.app.hub.heard();
        let mut contents =
            if self.state.is_live() { mailbox.take(MOVED_BYTES) } else { mailbox.take_signals() };
        match mutant {
            Some(Mutant::CursorAhead) => {
                pause().await;
                heard = self.app.hub.heard();
            }
            Some(Mutant::OverflowIgnored) => contents.overflowed = false,
            Some(Mutant::TakenForEmpty) => contents.emptied = true,
            Some(Mutant::GivesTwice) => give_all(&mut contents),
            _ => {}
        }
        if contents.overflowed {
            self.world.lock().checker.count("overflows");
        }
        self.step(Input::Mail { contents, heard })
    }

    /// `received` and `read` on their way.
    fn judge(&mut self) {
        let mut context = Context::from_waker(Waker::noop());
        let mut refused = None;
        self.judging.retain_mut(|task| match task.as_mut().poll(&mut context) {
            Poll::Pending => true,
            Poll::Ready(judged) => {
                refused = judged.err().or(refused.take());
                false
            }
        });
        // A client confirms only what it was given: that storage is away is an excuse, and that it lost what
        // the log has yet to bring again.
        let Some(error) = refused.filter(|error| error.code != ErrorCode::Unavailable) else { return };
        let mut world = self.world.lock();
        let lost = world.checker.counts.contains_key("losses of power");
        world.checker.ensure(lost, "refused", || error.to_string());
        if world.healing && world.sockets.contains_key(&self.number) {
            world.acknowledge(self.number);
        }
    }

    /// A burst of signals that no mailbox holds.
    fn burst(&self) {
        let burst =
            self.world.lock().sockets.get_mut(&self.number).is_some_and(|s| std::mem::take(&mut s.burst));
        if burst && let Some(mailbox) = self.mailbox() {
            mailbox.push(Item::Signal(Bytes::from_static(&[b'x'; MAILBOX_BYTES + 1])));
        }
    }
}

/// The next step of a resume, or its beginning.
fn step_of(app: &Arc<App>, user: UserId, from: From, resume: Option<Resume>) -> Resuming {
    let app = Arc::clone(app);
    Box::pin(async move {
        let mut resume = match resume {
            Some(resume) => resume,
            None => match Resume::begin(&app, user, from).await {
                Ok(resume) => resume,
                Err(error) => return (None, Err(error)),
            },
        };
        let parts = resume.next(&app).await;
        (Some(resume), parts)
    })
}

impl Drop for Session {
    fn drop(&mut self) {
        if self.registered {
            self.world.lock().unregister(self.node, self.user);
        }
    }
}

/// `Mutant::GivesTwice`: events as if they had no place in the order.
fn give_all(contents: &mut Contents) {
    for item in &mut contents.items {
        if let Item::Event { frame, .. } = item {
            *item = Item::Signal(frame.clone());
        }
    }
}
