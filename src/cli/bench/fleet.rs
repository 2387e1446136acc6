//! Many sockets on one thread: their readers feed the [`Load`], their writers never wait for the server.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_util::future::{Either, FutureExt, LocalBoxFuture, join, select};
use futures_util::stream::{self, FuturesUnordered, StreamExt, TryStreamExt};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};

use super::client::{Address, Client, ClientError};
use super::dialect::Dialect;
use super::error::BenchError;
use super::frame::{self, FrameReader};
use super::load::{Load, Partner};
use super::plan::{Pacer, Plan};
use super::protocol::{self, Outbound};
use super::sizes::Contents;
use crate::domain::{ClientId, Secret, UserId};

/// Handshakes under way at once.
const CONNECTING_MAX: usize = 64;
/// Bytes asked of a socket at once: several frames, and small enough for thousands of sockets.
const READ_BYTES: usize = 4 << 10;
/// From the first socket until all are ready.
const READY_MAX: Duration = Duration::from_secs(30);
/// The server pings at most once a second (protocol.md section 3).
const LAST_PING: Duration = Duration::from_millis(1_200);
/// How long the server has to answer the close frames.
const GOODBYE_MAX: Duration = Duration::from_secs(2);
/// What the Node reference gets to write down who is connected, once all sockets are open.
const REGISTERING: Duration = Duration::from_secs(1);
/// How often waits look whether they are over.
const LOOK: Duration = Duration::from_millis(5);

/// Whom the driver plays, and to whom.
#[derive(Debug, Clone)]
pub struct Crowd {
    /// The server.
    pub address: Address,
    /// What it speaks.
    pub dialect: Dialect,
    /// What tokens are signed with.
    pub secret: Secret<String>,
    /// An even number of users: the first writes to the second and back, and so on.
    pub users: u32,
    /// The id of the first one.
    pub first_id: i64,
}

/// The sockets of a crowd and what came through them.
pub(super) struct Fleet {
    sockets: Rc<[Socket]>,
    load: Rc<RefCell<Load>>,
    readers: FuturesUnordered<LocalBoxFuture<'static, ()>>,
}

struct Socket {
    partner: Partner,
    writer: OwnedWriteHalf,
    /// What the kernel did not take yet. It is bounded by what the plan sends in all.
    unwritten: RefCell<Vec<u8>>,
    open: Cell<bool>,
}

impl Crowd {
    fn partners(&self) -> Result<Vec<Partner>, BenchError> {
        if self.users == 0 || !self.users.is_multiple_of(2) {
            return Err(BenchError::Argument("users come in pairs: give an even number".to_owned()));
        }
        let user = |index: u32| {
            let id = self.first_id.saturating_add(index.into());
            UserId::new(id).map_err(|error| BenchError::Argument(format!("user {id}: {error}")))
        };
        (0..self.users)
            .map(|index| {
                let partner = self.dialect.partner(user(index)?, user(index ^ 1)?);
                partner.map_err(|error| BenchError::Argument(error.to_string()))
            })
            .collect()
    }

    async fn connect(&self, partner: &Partner) -> Result<Client, BenchError> {
        let token = protocol::token(partner.user, &self.secret)?;
        let (address, header) = self.dialect.greet(&self.address, &token);
        let headers: Vec<_> = header.iter().map(|(name, value)| (*name, value.as_str())).collect();
        Client::open(&address, &headers).await.map_err(|source| {
            let hint = match &source {
                ClientError::Io(error) if error.raw_os_error() == Some(24) => "; raise `ulimit -n`",
                ClientError::Refused { status: 401, .. } => "; is the secret the server's?",
                _ => "",
            };
            BenchError::Connect { user: partner.user.get(), source, hint }
        })
    }
}

impl Fleet {
    /// Opens a socket for each user and waits until all of them may send.
    pub(super) async fn connect(crowd: &Crowd, plan: Plan) -> Result<Self, BenchError> {
        let partners = crowd.partners()?;
        let load = Rc::new(RefCell::new(Load::new(crowd.dialect, plan, &partners)));
        let clients: Vec<(Partner, Client)> = stream::iter(partners)
            .map(|partner| async {
                let client = crowd.connect(&partner).await?;
                Ok::<_, BenchError>((partner, client))
            })
            .buffered(CONNECTING_MAX)
            .try_collect()
            .await?;
        let (sockets, halves): (Vec<_>, Vec<_>) = clients.into_iter().map(Socket::split).unzip();
        let sockets: Rc<[Socket]> = sockets.into();
        let readers = FuturesUnordered::new();
        for (index, (half, frames)) in halves.into_iter().enumerate() {
            readers.push(read(index, Rc::clone(&sockets), Rc::clone(&load), half, frames).boxed_local());
        }
        let mut fleet = Self { sockets, load, readers };
        match crowd.dialect {
            Dialect::Chatd => fleet.wait_until_ready().await?,
            // It says nothing when it has registered a socket.
            Dialect::Reference => fleet.while_reading(tokio::time::sleep(REGISTERING)).await,
        }
        Ok(fleet)
    }

    async fn wait_until_ready(&mut self) -> Result<(), BenchError> {
        let (load, all) = (Rc::clone(&self.load), self.sockets.len());
        let done = move || load.borrow().counts.ready >= all || !load.borrow().closed.is_empty();
        self.while_reading(wait_for(done, READY_MAX)).await;
        let load = self.load.borrow();
        if load.counts.ready >= all {
            return Ok(());
        }
        let trouble = load.trouble.clone().unwrap_or_else(|| "no `resumed` came".to_owned());
        Err(BenchError::NotReady { ready: load.counts.ready, all, seconds: READY_MAX.as_secs(), trouble })
    }

    /// What came so far.
    pub(super) fn load(&self) -> &RefCell<Load> {
        &self.load
    }

    /// Runs `script` while frames are read and pings answered.
    pub(super) async fn while_reading<T>(&mut self, script: impl Future<Output = T>) -> T {
        let script = std::pin::pin!(script);
        let readers = &mut self.readers;
        let reading = std::pin::pin!(async {
            while readers.next().await.is_some() {}
            // All sockets are closed; the script notices by itself.
            std::future::pending::<Infallible>().await
        });
        match select(script, reading).await {
            Either::Left((result, _)) => result,
            Either::Right((never, _)) => match never {},
        }
    }

    /// Sends what the plan has, each message when it is due, then waits for stragglers. `beside` runs at the
    /// same time, told when the plan began.
    pub(super) async fn drive<T, F>(
        &mut self,
        plan: Plan,
        contents: &Contents,
        beside: impl FnOnce(Instant, Rc<RefCell<Load>>) -> F,
    ) -> Result<T, BenchError>
    where
        F: Future<Output = Result<T, BenchError>>,
    {
        let start = Instant::now() + LOOK;
        self.load.borrow_mut().begin(plan, start);
        let beside = beside(start, Rc::clone(&self.load));
        let (sockets, load) = (Rc::clone(&self.sockets), Rc::clone(&self.load));
        let (sent, result) = self
            .while_reading(async { join(send_all(plan, contents, start, &sockets, &load), beside).await })
            .await;
        sent?;
        self.wait_for(|load| load.checker.is_settled(), plan.stragglers_max).await;
        result
    }

    /// Waits until what came so far is enough, or `longest` has passed; tells whether it is.
    pub(super) async fn wait_for(&mut self, enough: impl Fn(&Load) -> bool, longest: Duration) -> bool {
        let load = Rc::clone(&self.load);
        let done = || enough(&load.borrow());
        self.while_reading(wait_for(done, longest)).await;
        enough(&load.borrow())
    }

    /// Waits for the server's last pings, whose pongs confirm what was delivered, so that the next run does
    /// not begin with this one's messages; then says goodbye on every socket.
    pub(super) async fn close(mut self) {
        self.while_reading(tokio::time::sleep(LAST_PING)).await;
        let sockets = Rc::clone(&self.sockets);
        for socket in sockets.iter() {
            socket.push(frame::CLOSE, &1000u16.to_be_bytes());
            socket.flush();
        }
        let all_closed = move || sockets.iter().all(|socket| !socket.open.get());
        self.while_reading(wait_for(all_closed, GOODBYE_MAX)).await;
    }
}

impl Socket {
    fn split((partner, client): (Partner, Client)) -> (Self, (OwnedReadHalf, FrameReader)) {
        let (reader, writer, frames) = client.into_parts();
        let socket = Self { partner, writer, unwritten: RefCell::default(), open: Cell::new(true) };
        (socket, (reader, frames))
    }

    fn push(&self, opcode: u8, payload: &[u8]) {
        frame::encode(&mut self.unwritten.borrow_mut(), opcode, payload, rand::random());
    }

    fn push_json(&self, frame: &Outbound<'_>, scratch: &mut Vec<u8>) {
        scratch.clear();
        // A struct of strings and numbers into memory cannot fail; if it did, nothing would be sent.
        if serde_json::to_writer(&mut *scratch, frame).is_ok() {
            self.push(frame::TEXT, scratch);
        }
    }

    /// Gives the kernel what it takes; true when nothing is left.
    fn flush(&self) -> bool {
        let mut unwritten = self.unwritten.borrow_mut();
        while !unwritten.is_empty() {
            match self.writer.try_write(&unwritten) {
                Ok(written) => drop(unwritten.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                // The reader sees the end of the socket and tells it.
                Err(_) => unwritten.clear(),
            }
        }
        true
    }
}

/// Reads a socket until it ends.
async fn read(
    index: usize,
    sockets: Rc<[Socket]>,
    load: Rc<RefCell<Load>>,
    mut half: OwnedReadHalf,
    mut frames: FrameReader,
) {
    let socket = &sockets[index];
    let mut scratch = Vec::new();
    let (code, reason) = loop {
        // First what came along with the answer to the handshake.
        match take_all(index, socket, &load, &mut frames, &mut scratch) {
            Ok(None) => {}
            Ok(Some(close)) => break close,
            Err(error) => break (1002, error.to_string()),
        }
        socket.flush();
        let buffer = frames.buffer();
        buffer.reserve(READ_BYTES);
        match half.read_buf(buffer).await {
            Ok(0) => break (1006, "without a close frame".to_owned()),
            Ok(_) => {}
            Err(error) => break (1006, error.to_string()),
        }
    };
    socket.flush();
    socket.open.set(false);
    load.borrow_mut().closed(code, &reason);
}

/// Takes in the frames that are whole; the close code and reason when one of them is a close.
fn take_all(
    index: usize,
    socket: &Socket,
    load: &RefCell<Load>,
    frames: &mut FrameReader,
    scratch: &mut Vec<u8>,
) -> Result<Option<(u16, String)>, frame::FrameError> {
    let (now, mut load) = (Instant::now(), load.borrow_mut());
    while let Some(frame) = frames.next_frame()? {
        match frame.opcode {
            frame::TEXT => {
                if let Some(answer) = load.take(index, &socket.partner, frame.payload, now) {
                    socket.push_json(&answer, scratch);
                }
            }
            // The pong confirms what was delivered before the ping.
            frame::PING => socket.push(frame::PONG, frame.payload),
            frame::CLOSE => {
                socket.push(frame::CLOSE, frame.payload.get(..2).unwrap_or_default());
                return Ok(Some(frame.close_reason()));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The open loop. Users take turns, so that each conversation has messages in both directions.
async fn send_all(
    plan: Plan,
    contents: &Contents,
    start: Instant,
    sockets: &[Socket],
    load: &RefCell<Load>,
) -> Result<(), BenchError> {
    let run = format!("{:08x}", rand::random::<u32>());
    let pacer = Pacer::start(start)?;
    let (total, mut next, mut scratch) = (plan.total(), 0, Vec::new());
    // Sockets that have something to write, or the kernel's buffer was full the last time.
    let mut waiting: Vec<usize> = Vec::new();
    while next < total || !waiting.is_empty() {
        pacer.tick().await;
        while next < total && start + plan.due(next) <= Instant::now() {
            let index = next % sockets.len();
            let socket = &sockets[index];
            let client_id = ClientId::new(format!("{run}-{next}"));
            match client_id {
                Ok(client_id) if socket.open.get() => {
                    let to = socket.partner.to;
                    load.borrow_mut().sent(index, &socket.partner, &client_id, plan.due(next));
                    let content = contents.of(next);
                    let frame = Outbound::Send { client_id: client_id.as_str(), to, content };
                    socket.push_json(&frame, &mut scratch);
                    waiting.push(index);
                }
                _ => load.borrow_mut().counts.unsent += 1,
            }
            next += 1;
        }
        waiting.sort_unstable();
        waiting.dedup();
        waiting.retain(|index| !sockets[*index].flush());
        if start.elapsed() > plan.warm_up + plan.window + plan.stragglers_max {
            break;
        }
    }
    Ok(())
}

/// Waits until `done` or `longest` has passed.
async fn wait_for(done: impl Fn() -> bool, longest: Duration) {
    let deadline = Instant::now() + longest;
    while !done() && Instant::now() < deadline {
        tokio::time::sleep(LOOK).await;
    }
}
