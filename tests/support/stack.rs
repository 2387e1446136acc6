//! The real services of `scripts/stack`: PostgreSQL, Redis, Kafka and mail servers.

#![allow(dead_code, reason = "each test crate uses a part of this")]
#![allow(clippy::expect_used, clippy::panic, reason = "a panic is how a test fails")]

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Starts what of these does not run yet and answers what it exports. The services are left running for the
/// next test and the next run: use names of your own in them (a database, a topic, a key prefix). Never
/// those of the environment: `DATABASE_URL` there may be somebody's real database.
///
/// With `CHATD_TEST_KAFKA=39` in the environment, `kafka` is Kafka 3.9 with ZooKeeper.
pub fn stack(services: &[&str]) -> Exports {
    up(&shared_folder(), services, &[])
}

/// What services export, by name, such as `DATABASE_URL`; the head of scripts/stack.d/<service>.sh lists them.
#[derive(Debug)]
pub struct Exports(HashMap<String, String>);

impl Exports {
    /// The value of one of them.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).unwrap_or_else(|| panic!("scripts/stack exports no {name}"))
    }
}

/// Services of one's own, for a test that kills or holds them; ended when dropped.
pub struct OwnStack {
    folder: PathBuf,
    services: Vec<String>,
    env: Vec<(String, String)>,
    /// What they export.
    pub exports: Exports,
}

impl OwnStack {
    /// Starts these services anew, without data, in a folder of this name; `env` goes to scripts/stack, such
    /// as `("KAFKA_NODES", "3")`. Two tests that run at the same time need two names.
    pub fn start(name: &str, services: &[&str], env: &[(&str, &str)]) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("stack").join(name);
        // What a run left that was killed itself.
        run(&folder, "remove", services, env);
        let exports = up(&folder, services, env);
        let services = actual(services).into_iter().map(str::to_owned).collect();
        let env = env.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
        Self { folder, services, env, exports }
    }

    /// The processes of a service by name, such as `("postgres", 4711)`, or `("1", 4711)` for Kafka's first node.
    pub fn pids(&self, service: &str) -> Vec<(String, u32)> {
        let lines = run(&self.folder, "pids", &[service], &self.env());
        let pair = |line: &str| {
            let (name, pid) = line.split_once(' ')?;
            Some((name.to_owned(), pid.parse().ok()?))
        };
        lines.lines().filter_map(pair).collect()
    }

    /// Sends a signal by name, such as `STOP`, to all processes of a service.
    pub fn signal(&self, service: &str, signal: &str) {
        for (name, pid) in self.pids(service) {
            let sent = Command::new("kill").arg(format!("-{signal}")).arg(pid.to_string()).status();
            assert!(sent.expect("kill runs").success(), "{signal} to {service} {name}");
        }
    }

    /// `kill -9` of all processes of a service, and waits for their end.
    pub fn kill(&self, service: &str) {
        self.signal(service, "KILL");
        let until = Instant::now() + Duration::from_secs(10);
        while !self.pids(service).is_empty() {
            assert!(Instant::now() < until, "{service} does not end");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Starts what was killed or stopped again: on the same ports, with the data that it had.
    pub fn restart(&self, service: &str) {
        run(&self.folder, "up", &[service], &self.env());
    }

    /// Starts all that does not run, and tells what they export now.
    pub fn up(&self) -> Exports {
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        up(&self.folder, &services, &self.env())
    }

    /// Stops a service in order.
    pub fn down(&self, service: &str) {
        run(&self.folder, "down", &[service], &self.env());
    }

    /// For all tests of this program: ended when it ends, however it does. A shell waits for that, at the end of
    /// a pipe that the system closes.
    pub fn keep(self) -> &'static Self {
        let mut keeper = Command::new("setsid");
        keeper.args(["sh", "-c", r#"cat > /dev/null; exec "$@""#, "sh"]);
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let remove = command(&self.folder, "remove", &services, &self.env());
        keeper.arg(remove.get_program()).args(remove.get_args());
        keeper.envs(remove.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let child = keeper.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Box::leak(Box::new(child.expect("setsid runs")));
        Box::leak(Box::new(self))
    }

    fn env(&self) -> Vec<(&str, &str)> {
        self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }
}

impl Drop for OwnStack {
    fn drop(&mut self) {
        let services: Vec<&str> = self.services.iter().map(String::as_str).collect();
        let _ = command(&self.folder, "remove", &services, &self.env()).output();
    }
}

/// `kafka` is the one that the environment asks for.
fn actual<'a>(services: &[&'a str]) -> Vec<&'a str> {
    let old = std::env::var("CHATD_TEST_KAFKA").is_ok_and(|version| version == "39");
    services.iter().map(|&service| if old && service == "kafka" { "kafka39" } else { service }).collect()
}

fn shared_folder() -> PathBuf {
    std::env::var_os("STACK_DIR").map_or_else(|| root().join(".stack"), PathBuf::from)
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn up(folder: &Path, services: &[&str], env: &[(&str, &str)]) -> Exports {
    let pair = |line: &str| {
        let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
        // Tests know one name for both versions.
        let name =
            name.strip_prefix("KAFKA39_").map_or_else(|| name.to_owned(), |rest| format!("KAFKA_{rest}"));
        Some((name, value.to_owned()))
    };
    Exports(run(folder, "up", services, env).lines().filter_map(pair).collect())
}

fn command(folder: &Path, verb: &str, services: &[&str], env: &[(&str, &str)]) -> Command {
    let mut command = Command::new(root().join("scripts/stack"));
    command.arg(verb).args(actual(services)).env("STACK_DIR", folder);
    // Each program is built or downloaded once, whoever runs it.
    if std::env::var_os("STACK_PROGRAMS").is_none() {
        command.env("STACK_PROGRAMS", shared_folder().join("programs"));
    }
    command.envs(env.iter().copied());
    command
}

fn run(folder: &Path, verb: &str, services: &[&str], env: &[(&str, &str)]) -> String {
    let output = command(folder, verb, services, env).output().expect("scripts/stack runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "scripts/stack {verb} {}: {said}", services.join(" "));
    String::from_utf8(output.stdout).expect("text")
}
