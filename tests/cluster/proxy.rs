//! A stretch of network between chatd and a service, which can be made to fail: slow, silent in one direction
//! or both, deaf to new connections, cut; and, to PostgreSQL, without the answer to a COMMIT.
//!
//! Proxies run in threads of their own, so that they outlive the test that made them and never wait for it.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{ReadHalf, WriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Runtime;
use tokio::sync::watch;

use crate::answers::Answers;

/// What becomes of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// They arrive.
    Open,
    /// They arrive so much later, each piece for itself.
    Slow(Duration),
    /// They wait, and arrive once the way is open again: as with packets that are lost and sent again.
    Held,
    /// They are gone, and with them the connection, of which nobody is told: as behind a router that forgot it.
    Swallowed,
}

/// The two ways, and what becomes of new connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct State {
    /// From the client.
    up: Way,
    /// From the service.
    down: Way,
    /// New connections are reset.
    refuses: bool,
}

const HEALTHY: State = State { up: Way::Open, down: Way::Open, refuses: false };

/// What a lost COMMIT's connection does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// It is reset.
    Cut,
    /// It stays open, and says nothing any more.
    Silence,
}

#[derive(Debug)]
struct Shared {
    target: Mutex<String>,
    state: watch::Sender<State>,
    /// Grows with each cut.
    cuts: watch::Sender<u64>,
    /// Whether the next COMMIT closes the way up, before it is sent.
    holds_commit: AtomicBool,
    /// Answers to a COMMIT that are to be lost yet, and what follows.
    to_lose: Mutex<(usize, Then)>,
    lost: AtomicUsize,
    connections: AtomicUsize,
    up: AtomicU64,
    down: AtomicU64,
}

/// One stretch of network. Ends with the process.
#[derive(Debug, Clone)]
pub struct Proxy {
    /// Where it listens.
    pub address: SocketAddr,
    shared: Arc<Shared>,
}

fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
    })
}

impl Proxy {
    /// To a service at `host:port`.
    pub fn to(target: &str) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(target.to_owned()),
            state: watch::Sender::new(HEALTHY),
            cuts: watch::Sender::new(0),
            holds_commit: AtomicBool::new(false),
            to_lose: Mutex::new((0, Then::Cut)),
            lost: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            up: AtomicU64::new(0),
            down: AtomicU64::new(0),
        });
        let serving = Arc::clone(&shared);
        runtime().spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((client, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                tokio::spawn(async move { connect(client, &shared).await });
            }
        });
        Self { address, shared }
    }

    /// To another service from the next connection on.
    pub fn aim(&self, target: &str) {
        target.clone_into(&mut self.shared.target.lock().unwrap());
    }

    /// Both ways, from now on, for open connections too.
    pub fn set(&self, way: Way) {
        self.set_ways(way, way);
    }

    /// The way from the client, and the way from the service.
    pub fn set_ways(&self, up: Way, down: Way) {
        self.shared.state.send_modify(|state| (state.up, state.down) = (up, down));
    }

    /// Resets new connections, and those that are open now.
    pub fn refuse(&self) {
        self.shared.state.send_modify(|state| state.refuses = true);
        self.cut();
    }

    /// All is well again; connections that were swallowed stay silent until they are cut.
    pub fn heal(&self) {
        self.shared.holds_commit.store(false, Ordering::SeqCst);
        self.shared.state.send_replace(HEALTHY);
        self.shared.to_lose.lock().unwrap().0 = 0;
    }

    /// Resets the connections that are open now.
    pub fn cut(&self) {
        self.shared.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Lets everything through until somebody says COMMIT: that, and whatever is said later, is held. Waits until it
    /// has come to that.
    pub async fn hold_at_commit(&self) {
        self.shared.holds_commit.store(true, Ordering::SeqCst);
        let mut state = self.shared.state.subscribe();
        let held =
            tokio::time::timeout(Duration::from_secs(20), state.wait_for(|state| state.up == Way::Held));
        held.await.expect("nobody commits").unwrap();
    }

    /// Whether [`Proxy::hold_at_commit`] waits for one.
    pub fn is_waiting_for_a_commit(&self) -> bool {
        self.shared.holds_commit.load(Ordering::SeqCst)
    }

    /// Loses the answers to the next COMMITs of a PostgreSQL.
    pub fn lose_commits(&self, count: usize, then: Then) {
        *self.shared.to_lose.lock().unwrap() = (count, then);
    }

    /// Answers to a COMMIT that were lost so far.
    pub fn lost_commits(&self) -> usize {
        self.shared.lost.load(Ordering::SeqCst)
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// Bytes from clients and from the service so far.
    pub fn bytes(&self) -> (u64, u64) {
        (self.shared.up.load(Ordering::Relaxed), self.shared.down.load(Ordering::Relaxed))
    }
}

/// One connection from its begin to its end.
async fn connect(mut client: TcpStream, shared: &Shared) {
    let mut cuts = shared.cuts.subscribe();
    let target = shared.target.lock().unwrap().clone();
    let refuses = shared.state.borrow().refuses;
    let service = if refuses { None } else { TcpStream::connect(target).await.ok() };
    let Some(mut service) = service else { return reset(&client) };
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    shared.connections.fetch_add(1, Ordering::SeqCst);
    let is_cut = {
        let (client_read, client_write) = client.split();
        let (service_read, service_write) = service.split();
        let up = pump(shared, false, client_read, service_write);
        let down = pump(shared, true, service_read, client_write);
        tokio::select! {
            ended = async { tokio::try_join!(up, down) } => ended.is_err(),
            _ = cuts.changed() => true,
        }
    };
    shared.connections.fetch_sub(1, Ordering::SeqCst);
    if is_cut {
        reset(&client);
        reset(&service);
    }
}

/// What is dropped next goes with RST in place of FIN.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// The connection is to be reset.
struct Reset;

impl From<std::io::Error> for Reset {
    fn from(_: std::io::Error) -> Self {
        Self
    }
}

/// One way of one connection, until its end.
async fn pump(
    shared: &Shared,
    is_down: bool,
    mut from: ReadHalf<'_>,
    mut to: WriteHalf<'_>,
) -> Result<(), Reset> {
    let mut state = shared.state.subscribe();
    let mut answers = Answers::default();
    let mut is_gone = false;
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = from.read(&mut buffer).await?;
        let counter = if is_down { &shared.down } else { &shared.up };
        counter.fetch_add(count as u64, Ordering::Relaxed);
        if !is_down && says_commit(&buffer[..count]) && shared.holds_commit.swap(false, Ordering::SeqCst) {
            shared.state.send_modify(|state| state.up = Way::Held);
        }
        let settled = state.wait_for(|state| way(state, is_down) != Way::Held).await;
        match settled.map_or(Way::Open, |state| way(&state, is_down)) {
            Way::Swallowed => is_gone = true,
            Way::Slow(by) => tokio::time::sleep(by).await,
            Way::Open | Way::Held => {}
        }
        if is_gone && count == 0 {
            // Nobody is told of the end either.
            std::future::pending::<()>().await;
        }
        if is_gone {
            continue;
        }
        if count == 0 {
            to.shutdown().await?;
            return Ok(());
        }
        let mut whole = &buffer[..count];
        if is_down
            && let Some(place) = answers.find_commit(whole)
            && let Some(then) = lose(shared)
        {
            whole = &whole[..place];
            is_gone = true;
            if then == Then::Cut {
                return Err(Reset);
            }
        }
        to.write_all(whole).await?;
    }
}

fn way(state: &State, is_down: bool) -> Way {
    if is_down { state.down } else { state.up }
}

/// A `Query` with this word alone, wherever in the bytes.
fn says_commit(bytes: &[u8]) -> bool {
    const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";
    bytes.windows(COMMIT.len()).any(|window| window == COMMIT)
}

/// Whether the answer to a COMMIT is to be lost, and what then.
fn lose(shared: &Shared) -> Option<Then> {
    let mut to_lose = shared.to_lose.lock().unwrap();
    let (count, then) = *to_lose;
    to_lose.0 = count.checked_sub(1)?;
    shared.lost.fetch_add(1, Ordering::SeqCst);
    Some(then)
}
