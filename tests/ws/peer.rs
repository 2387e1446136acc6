//! A client of one socket that checks whatever it is told, and the server that tests share.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::{Duration, Instant};

use chatd::cli::bench::client::{Client, ClientError, Incoming};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::frames;
use crate::support::{Server, Setup, token};

/// Everything that is waited for comes within this, also in a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// A server and its folder.
pub struct Host {
    pub server: Server,
    _folder: TempDir,
}

impl Host {
    /// A server of one's own.
    pub fn with(settings: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let setup = settings.iter().fold(Setup::new(folder.path()), |setup, (k, v)| setup.env(k, v));
        Self { server: setup.start(), _folder: folder }
    }

    /// The server of all tests that run now and ask for no settings; it ends with the last of them.
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Host>> = Mutex::new(Weak::new());
        let mut shared = SHARED.lock().unwrap();
        shared.upgrade().unwrap_or_else(|| {
            let host = Arc::new(Self::with(&[]));
            *shared = Arc::downgrade(&host);
            host
        })
    }

    /// The same folder with a new server; the one before is killed.
    pub fn restart(self) -> Self {
        let data = self.server.data.clone();
        self.server.kill();
        Self { server: Setup::new(&data).start(), _folder: self._folder }
    }

    /// A socket of this user, its `hello` read.
    pub async fn open(&self, user: i64) -> Peer {
        self.open_with(user, "").await
    }

    /// The same with more query parameters, such as `&acks=app`.
    pub async fn open_with(&self, user: i64, query: &str) -> Peer {
        let url = format!("{}{query}", self.server.ws(&token(user)));
        Peer::connect(&url, &[]).await.unwrap_or_else(|error| panic!("user {user}: {error}"))
    }

    /// A socket whose first resume is over.
    pub async fn live(&self, user: i64, query: &str) -> Peer {
        let mut peer = self.open_with(user, query).await;
        peer.resume(None).await;
        peer
    }

    /// Makes a user known, who is away then.
    pub async fn know(&self, user: i64) {
        self.open(user).await.leave().await;
    }

    /// Two users who are known and away.
    pub async fn strangers(&self) -> (i64, i64) {
        let (low, high) = (person(), person());
        self.know(low).await;
        self.know(high).await;
        (low.min(high), low.max(high))
    }

    /// Two new users who are live: their ids, lower first, with a socket each.
    pub async fn pair(&self, query: &str) -> (Peer, Peer) {
        let (low, high) = self.strangers().await;
        (self.live(low, query).await, self.live(high, query).await)
    }

    /// A body of REST, asked for as this user.
    pub async fn get(&self, user: i64, path: &str) -> Value {
        let request = reqwest::Client::new().get(self.server.http(path)).bearer_auth(token(user));
        let answer = request.send().await.unwrap();
        assert_eq!(answer.status(), 200, "{path}");
        answer.json().await.unwrap()
    }
}

/// A user id that no other test has.
pub fn person() -> i64 {
    static NEXT: AtomicI64 = AtomicI64::new(10_001);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

pub fn dm(a: i64, b: i64) -> String {
    format!("dm-{}-{}", a.min(b), a.max(b))
}

/// A `send`.
pub fn send(to: i64, content: &str, client_id: &str) -> Value {
    json!({"type": "send", "to": to, "content": content, "client_id": client_id})
}

/// One socket.
pub struct Peer {
    pub client: Client,
    pub hello: Value,
    pub user: i64,
    opened: Instant,
    /// This side has asked for a resume.
    resumes: bool,
    /// Where each conversation is on this socket.
    seqs: HashMap<String, i64>,
    /// Read, and not asked for yet.
    waiting: VecDeque<Value>,
    pub pings: usize,
}

impl Peer {
    /// Opens a socket and reads its first frame, which is `hello`.
    pub async fn connect(url: &str, headers: &[(&str, &str)]) -> Result<Self, ClientError> {
        let client = Client::connect(url, headers).await?;
        let mut peer = Self {
            client,
            hello: Value::Null,
            user: 0,
            opened: Instant::now(),
            resumes: false,
            seqs: HashMap::new(),
            waiting: VecDeque::new(),
            pings: 0,
        };
        peer.hello = peer.read().await;
        assert_eq!(peer.hello["type"], "hello", "the first frame");
        peer.user = peer.hello["user"]["id"].as_i64().unwrap();
        Ok(peer)
    }

    pub async fn say(&mut self, frame: Value) {
        self.resumes |= frame["type"] == "resume";
        self.client.send_json(&frame).await.unwrap();
    }

    /// Says it, and gives the answer with its `ref`.
    pub async fn ask(&mut self, mut frame: Value) -> Value {
        static NEXT: AtomicI64 = AtomicI64::new(1);
        let mark = format!("ask {}", NEXT.fetch_add(1, Ordering::Relaxed));
        frame["ref"] = json!(mark);
        self.say(frame).await;
        self.find(|answer| answer["ref"] == mark.as_str()).await
    }

    /// Sends a text and waits for its event.
    pub async fn send(&mut self, to: i64, content: &str) -> Value {
        let accepted = self.ask(json!({"type": "send", "to": to, "content": content})).await;
        assert_eq!(accepted["type"], "accepted", "{accepted}");
        self.find(|frame| frame["type"] == "message" && frame["id"] == accepted["id"]).await
    }

    /// Catches up, and gives everything that came until `resumed`, which is the last.
    pub async fn resume(&mut self, cursor: Option<&str>) -> Vec<Value> {
        let mut frame = json!({"type": "resume"});
        if let Some(cursor) = cursor {
            frame["cursor"] = cursor.into();
        }
        self.say(frame).await;
        self.until("resumed").await
    }

    /// Everything up to and with the next frame of this type.
    pub async fn until(&mut self, kind: &str) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            frames.push(self.next().await);
            if frames.last().is_some_and(|frame| frame["type"] == kind) {
                return frames;
            }
        }
    }

    /// The next frame, in the order of arrival.
    pub async fn next(&mut self) -> Value {
        match self.waiting.pop_front() {
            Some(frame) => frame,
            None => self.read().await,
        }
    }

    /// The next frame of this type; others wait for who asks for them.
    pub async fn get(&mut self, kind: &str) -> Value {
        self.find(|frame| frame["type"] == kind).await
    }

    /// The next frame like that; others wait for who asks for them.
    pub async fn find(&mut self, is_it: impl Fn(&Value) -> bool) -> Value {
        if let Some(at) = self.waiting.iter().position(&is_it) {
            return self.waiting.remove(at).unwrap();
        }
        loop {
            let frame = self.read().await;
            if is_it(&frame) {
                return frame;
            }
            self.waiting.push_back(frame);
        }
    }

    /// Whether a frame of this type has come that nobody asked for.
    pub fn has(&self, kind: &str) -> bool {
        self.waiting.iter().any(|frame| frame["type"] == kind)
    }

    /// Reads on for so long, answering pings; what comes waits.
    pub async fn listen(&mut self, time: Duration) {
        let until = tokio::time::Instant::now() + time;
        while let Ok(incoming) = tokio::time::timeout_at(until, self.client.recv()).await {
            let frame = self.take(incoming.unwrap());
            self.waiting.extend(frame);
        }
    }

    async fn read(&mut self) -> Value {
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let incoming = tokio::time::timeout_at(until, self.client.recv()).await;
            let incoming = incoming.unwrap_or_else(|_| panic!("nothing came; waiting: {}", self.kinds()));
            if let Some(frame) = self.take(incoming.unwrap()) {
                return frame;
            }
        }
    }

    fn take(&mut self, incoming: Incoming) -> Option<Value> {
        match incoming {
            Incoming::Text(text) => {
                let frame = serde_json::from_str(&text).unwrap_or_else(|_| panic!("no JSON: {text}"));
                self.check(&frame);
                Some(frame)
            }
            Incoming::Ping(_) => {
                self.pings += 1;
                None
            }
            Incoming::Pong(_) => None,
            Incoming::Binary(_) => panic!("a binary message"),
            Incoming::Close(code, reason) => {
                panic!("closed with {code} {reason}; waiting: {}", self.kinds())
            }
        }
    }

    /// What waits, in short.
    fn kinds(&self) -> String {
        self.waiting
            .iter()
            .map(|frame| frame.to_string().chars().take(100).collect::<String>() + "\n")
            .collect()
    }

    /// Checks a frame against protocol.md, and an event against what this socket was told before.
    fn check(&mut self, frame: &Value) {
        if let Some(fault) = frames::fault(frame) {
            panic!("{fault}: {frame}");
        }
        let (first, last) = match frame["type"].as_str() {
            Some("message" | "edited" | "deleted") => (&frame["seq"], &frame["seq"]),
            Some("gap") => (&frame["from"], &frame["to"]),
            _ => return,
        };
        if frame["type"] == "message" {
            let own = frame["from"].as_i64() == Some(self.user);
            assert_eq!(frame["client_id"].is_string(), own, "client_id is for the sender's devices: {frame}");
        }
        // The server's own resume comes a second after `hello`; the clocks of two processes are given a tenth.
        let may_have_events = self.resumes || self.opened.elapsed() > Duration::from_millis(900);
        assert!(may_have_events, "an event before the first resume: {frame}");
        let (first, last) = (first.as_i64().unwrap(), last.as_i64().unwrap());
        assert!(first <= last, "{frame}");
        let seq = self.seqs.entry(frame["conversation"].as_str().unwrap().to_owned()).or_insert(first - 1);
        assert!(first <= *seq + 1, "{} is missing before {frame}", *seq + 1);
        *seq = last;
    }

    /// Reads to the end: what came before it, and the close code.
    pub async fn end(&mut self) -> (Vec<Value>, u16) {
        let mut frames: Vec<Value> = self.waiting.drain(..).collect();
        let until = tokio::time::Instant::now() + PATIENCE;
        loop {
            let incoming = tokio::time::timeout_at(until, self.client.recv()).await;
            match incoming.unwrap_or_else(|_| panic!("not closed; {frames:?}")).unwrap() {
                Incoming::Close(code, _) => return (frames, code),
                other => frames.extend(self.take(other)),
            }
        }
    }

    /// The end with `closing`: that frame, whose code is the close code.
    pub async fn closing(&mut self) -> Value {
        let (mut frames, code) = self.end().await;
        let closing = frames.pop().unwrap_or_else(|| panic!("closed with {code} and no word"));
        assert_eq!(closing["type"], "closing", "the last frame before {code}");
        assert_eq!(closing["code"], code);
        closing
    }

    /// Says goodbye, and waits until the server has too.
    pub async fn leave(mut self) {
        self.client.close(1000, "").await.unwrap();
        assert_eq!(self.end().await.1, 1000);
    }
}

/// An `edit`.
pub fn edit(conversation: &str, id: &Value, content: &str) -> Value {
    json!({"type": "edit", "conversation": conversation, "id": id, "content": content})
}

/// A `delete`.
pub fn delete(conversation: &str, id: &Value) -> Value {
    json!({"type": "delete", "conversation": conversation, "id": id})
}

/// The seqs of these messages.
pub fn seqs(frames: &[Value]) -> Vec<i64> {
    let messages = frames.iter().filter(|frame| frame["type"] == "message");
    messages.map(|frame| frame["seq"].as_i64().unwrap()).collect()
}
