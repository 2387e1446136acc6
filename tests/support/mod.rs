//! A chatd of one's own for a test: the real executable on a free port and a folder of its own.

#![allow(dead_code, reason = "each test crate uses a part of this")]

pub mod stack;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jsonwebtoken::{Algorithm, EncodingKey, Header};

/// What the tests' tokens are signed with.
pub const SECRET: &str = "a secret of the tests, longer than 32 bytes";

/// How a server is started.
pub struct Setup {
    data: PathBuf,
    role: &'static str,
    env: Vec<(String, String)>,
    wrapper: Vec<String>,
    log: Option<Log>,
}

/// What a server writes to stderr.
pub type Log = Arc<Mutex<String>>;

impl Setup {
    /// A server on this folder.
    pub fn new(data: &Path) -> Self {
        let defaults = [("PORT", "0"), ("HOST", "127.0.0.1"), ("JWT_SECRET", SECRET), ("RUST_LOG", "warn")];
        let env = defaults.map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        Self { data: data.to_owned(), role: "all", env, wrapper: Vec::new(), log: None }
    }

    /// With an environment variable, such as `CHATD_WS__HEARTBEAT`.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.env.push((name.to_owned(), value.to_owned()));
        self
    }

    /// As `serve` or `consume`, in place of `all`.
    pub fn role(mut self, role: &'static str) -> Self {
        self.role = role;
        self
    }

    /// Run by a program that ends in its place (`exec`), such as `setpriv` or a shell.
    pub fn through(mut self, wrapper: &[&str]) -> Self {
        self.wrapper = wrapper.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// With what it writes to stderr kept here, and not shown.
    pub fn log_to(mut self, log: &Log) -> Self {
        self.log = Some(Arc::clone(log));
        self
    }

    /// The command, with an environment of its own: nothing of the caller's settings gets in.
    pub fn command(&self) -> Command {
        let chatd = env!("CARGO_BIN_EXE_chatd");
        let mut command = match self.wrapper.split_first() {
            Some((program, arguments)) => {
                let mut command = Command::new(program);
                command.args(arguments).arg(chatd);
                command
            }
            None => Command::new(chatd),
        };
        command.arg("--data").arg(&self.data).env_clear().current_dir(std::env::temp_dir());
        command.envs(self.env.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        command
    }

    /// Starts it and waits until it answers.
    pub fn start(self) -> Server {
        self.try_start().unwrap_or_else(|status| panic!("chatd did not start: {status}"))
    }

    /// Starts it; the exit status where it ends before it answers.
    pub fn try_start(self) -> Result<Server, ExitStatus> {
        let began = Instant::now();
        let mut command = self.command();
        command.arg(self.role).stdin(Stdio::null()).stdout(Stdio::piped());
        if self.log.is_some() {
            command.stderr(Stdio::piped());
        }
        let mut child = command.spawn().expect("chatd runs");
        if let (Some(log), Some(stderr)) = (self.log, child.stderr.take()) {
            std::thread::spawn(move || {
                for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                    let mut log = log.lock().expect("nobody panics while writing it");
                    log.push_str(&line);
                    log.push('\n');
                }
            });
        }
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let address = loop {
            let Some(Ok(line)) = lines.next() else { return Err(child.wait().expect("it ended")) };
            if let Some(rest) = line.trim().strip_prefix("listens") {
                break rest.split(',').next().expect("an address").trim().to_owned();
            }
        };
        // The rest of the banner is read away, so that the server never waits for us.
        std::thread::spawn(move || lines.for_each(drop));
        Ok(Server { child, address, data: self.data, took: began.elapsed() })
    }
}

/// A running server; killed when it is dropped.
pub struct Server {
    child: Child,
    /// `127.0.0.1:port`.
    pub address: String,
    /// Its folder.
    pub data: PathBuf,
    /// From spawn until it answered.
    pub took: Duration,
}

impl Server {
    /// A server on this folder with the tests' defaults.
    pub fn start(data: &Path) -> Self {
        Setup::new(data).start()
    }

    /// A REST address.
    pub fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// A WebSocket address with this token.
    pub fn ws(&self, token: &str) -> String {
        format!("ws://{}/ws?token={token}", self.address)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`, and waits for the end.
    pub fn kill(mut self) {
        self.child.kill().expect("it is ours");
        self.child.wait().expect("it ended");
    }

    /// Sends a signal by name, such as `TERM`.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill").arg(format!("-{name}")).arg(self.pid().to_string()).status();
        assert!(sent.expect("kill runs").success());
    }

    /// Waits for its end, at most so long.
    pub fn wait(&mut self, within: Duration) -> Option<ExitStatus> {
        let until = Instant::now() + within;
        while Instant::now() < until {
            if let Some(status) = self.child.try_wait().expect("it is ours") {
                return Some(status);
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        None
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A token with these claims.
pub fn sign(claims: &serde_json::Value) -> String {
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), claims, &key).expect("a token")
}

/// A token for `{"userId":…,"name":"user…"}`.
pub fn token(user: i64) -> String {
    sign(&serde_json::json!({"userId": user, "name": format!("user{user}")}))
}
