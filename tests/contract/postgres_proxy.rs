//! A way to PostgreSQL that tests can count on and silence. Speaks plain TCP: `sslmode=disable`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Forwards until it is told to be silent.
pub struct Proxy {
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    state: Arc<State>,
    accepting: tokio::task::JoinHandle<()>,
}

#[derive(Default)]
struct State {
    /// What the server says is kept back.
    is_silent: AtomicBool,
    /// Execute messages of the protocol: a prepared statement that runs.
    executed: AtomicU64,
    /// Query messages: a text, such as BEGIN.
    queried: AtomicU64,
    /// Connections that clients have open.
    open: AtomicU64,
}

impl Proxy {
    pub async fn start(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let of_tasks = Arc::clone(&state);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&server).await else { continue };
                tokio::spawn(forward(client, server, Arc::clone(&of_tasks)));
            }
        });
        Self { port, state, accepting }
    }

    /// From now on nobody hears the server; what is said to it goes on.
    pub fn silence(&self) {
        self.state.is_silent.store(true, Ordering::SeqCst);
    }

    pub fn speak(&self) {
        self.state.is_silent.store(false, Ordering::SeqCst);
    }

    /// Prepared statements run, and texts, since the last call.
    pub fn statements(&self) -> (u64, u64) {
        (self.state.executed.swap(0, Ordering::SeqCst), self.state.queried.swap(0, Ordering::SeqCst))
    }

    /// Waits until so many connections are open.
    pub async fn until_open(&self, connections: u64) {
        let waiting = async {
            while self.state.open.load(Ordering::SeqCst) != connections {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), waiting).await.expect("so many connections");
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn forward(client: TcpStream, server: TcpStream, state: Arc<State>) {
    state.open.fetch_add(1, Ordering::SeqCst);
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let answers = tokio::spawn({
        let state = Arc::clone(&state);
        async move {
            let mut buffer = vec![0; 65_536];
            while let Ok(read @ 1..) = from_server.read(&mut buffer).await {
                while state.is_silent.load(Ordering::SeqCst) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if to_client.write_all(&buffer[..read]).await.is_err() {
                    break;
                }
            }
        }
    });
    let mut counter = Counter::default();
    let mut buffer = vec![0; 65_536];
    while let Ok(read @ 1..) = from_client.read(&mut buffer).await {
        counter.see(&buffer[..read], &state);
        if to_server.write_all(&buffer[..read]).await.is_err() {
            break;
        }
    }
    state.open.fetch_sub(1, Ordering::SeqCst);
    answers.abort();
}

/// Finds the messages in what a client sends: a type and a length each, but for the first.
#[derive(Default)]
struct Counter {
    unread: Vec<u8>,
    is_started: bool,
}

impl Counter {
    fn see(&mut self, bytes: &[u8], state: &State) {
        self.unread.extend_from_slice(bytes);
        loop {
            let header = if self.is_started { 1 } else { 0 };
            let Some(length) = self.unread.get(header..header + 4) else { return };
            let length = header + u32::from_be_bytes(length.try_into().unwrap()) as usize;
            if self.unread.len() < length {
                return;
            }
            match self.unread[0] {
                b'E' if self.is_started => state.executed.fetch_add(1, Ordering::SeqCst),
                b'Q' if self.is_started => state.queried.fetch_add(1, Ordering::SeqCst),
                _ => 0,
            };
            self.is_started = true;
            self.unread.drain(..length);
        }
    }
}
