//! Processes that tests start: a port that stays, a start that is refused, limits of a running one.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use crate::support::Setup;

/// A start that is to be refused takes less than this, also in a debug build on a busy machine.
const REFUSED_WITHIN: Duration = Duration::from_secs(20);

/// A port that a server gets again after a restart. Below those that the system gives to clients, so that no
/// client takes it while the server is down.
pub fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let base = 20_000 + u16::try_from(std::process::id() % 10_000).unwrap();
    loop {
        let port = base + NEXT.fetch_add(1, Ordering::Relaxed);
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// What a command left behind.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs a command of chatd to its end, which has to come.
#[track_caller]
pub fn run(setup: &Setup, arguments: &[&str]) -> Ended {
    let mut command = setup.command();
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let read = |mut pipe: Box<dyn Read + Send>| {
        std::thread::spawn(move || {
            let mut text = String::new();
            pipe.read_to_string(&mut text).map(|_| text)
        })
    };
    let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
    let until = Instant::now() + REFUSED_WITHIN;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > until {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("chatd {arguments:?} did not end: {:?}", stderr.join().unwrap());
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    let (stdout, stderr) = (stdout.join().unwrap().unwrap(), stderr.join().unwrap().unwrap());
    Ended { code: status.code(), stdout, stderr }
}

/// `chatd all` has to refuse to start: with this exit code, and a sentence that has all these words.
#[track_caller]
pub fn assert_refused(setup: &Setup, code: i32, words: &[&str]) {
    let ended = run(setup, &["all"]);
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let sentence = ended.stderr.lines().find_map(|line| line.strip_prefix("chatd: ")).unwrap_or_default();
    for word in words {
        assert!(sentence.contains(word), "`{word}` is missing: {ended:?}");
    }
}

/// Sets how large a file this process may write, at most; `None`: as large as it likes.
pub fn limit_file_size(pid: u32, bytes: Option<u64>) {
    let soft = bytes.map_or_else(|| "unlimited".to_owned(), |bytes| bytes.to_string());
    let set = Command::new("prlimit").args(["--pid", &pid.to_string(), &format!("--fsize={soft}:")]).status();
    assert!(set.expect("prlimit runs").success());
}
