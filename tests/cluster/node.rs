//! One process of the cluster, with its own way to PostgreSQL and to Redis.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use chatd::cli::bench::process;
use serde_json::Value;

use crate::proxy::Proxy;
use crate::support::{Log, Server, Setup};

/// What everybody waits for comes within this, also in a debug build on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// The promise of a stop, and a little for the system.
pub const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// A process that runs, or has run and can be started again.
pub struct Node {
    /// `serve` or `consume`.
    pub role: &'static str,
    pub postgres: Proxy,
    pub redis: Proxy,
    pub log: Log,
    data: PathBuf,
    env: Vec<(String, String)>,
    server: Option<Server>,
}

impl Node {
    /// One that does not run yet.
    pub fn new(
        role: &'static str,
        data: PathBuf,
        env: Vec<(String, String)>,
        (postgres, redis): (Proxy, Proxy),
    ) -> Self {
        Self { role, postgres, redis, log: Log::default(), data, env, server: None }
    }

    /// Its settings.
    pub fn setup(&self) -> Setup {
        let setup = Setup::new(&self.data).role(self.role).log_to(&self.log);
        self.env.iter().fold(setup, |setup, (name, value)| setup.env(name, value))
    }

    /// Starts it and waits until it answers; how long that took. Blocks.
    pub fn start(&mut self) -> Duration {
        let server = self.setup().start();
        let took = server.took;
        self.server = Some(server);
        took
    }

    fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        &self.server().address
    }

    /// A WebSocket address for this token.
    pub fn ws(&self, token: &str) -> String {
        self.server().ws(token)
    }

    /// `STOP`, `CONT` and the like.
    pub fn signal(&self, name: &str) {
        self.server().signal(name);
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.server.take().expect("it runs").kill();
    }

    /// SIGTERM, and waits for its end, which has to be a good one; how long that took. Blocks.
    pub fn stop(&mut self) -> Duration {
        self.stop_with(&[0])
    }

    /// The same in the middle of a fault, where what was begun cannot always be brought to its end (75).
    pub fn stop_in_trouble(&mut self) -> Duration {
        self.stop_with(&[0, 75])
    }

    fn stop_with(&mut self, codes: &[i32]) -> Duration {
        let mut server = self.server.take().expect("it runs");
        let began = Instant::now();
        server.signal("TERM");
        let status = server.wait(PATIENCE).unwrap_or_else(|| panic!("{} does not end", self.role));
        let took = began.elapsed();
        let said = self.said();
        let is_well = status.code().is_some_and(|code| codes.contains(&code));
        assert!(is_well && took < STOPPED_WITHIN, "{status} after {took:?}: {said}");
        took
    }

    /// Resident memory in MiB, now and the most it ever was.
    pub fn memory(&self) -> (u64, u64) {
        let sample = process::sample(self.server().pid()).unwrap();
        (sample.rss_bytes >> 20, sample.rss_bytes_max >> 20)
    }

    /// `GET /ready`: the status, and what is wrong. Nothing where it does not answer within 5 s.
    pub async fn ready(&self) -> Option<(u16, Value)> {
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(5)).build().unwrap();
        let answer = client.get(self.server().http("/ready")).send().await.ok()?;
        Some((answer.status().as_u16(), answer.json().await.ok()?))
    }

    /// The end of what it wrote to stderr.
    pub fn said(&self) -> String {
        let log = self.log.lock().unwrap();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(25)..].join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("== {}\n{}", self.role, self.said());
        }
    }
}
