//! Files that were damaged, swapped, lost or restored one without the other. A start either understands what
//! it finds or refuses with a sentence and leaves it alone; a partition whose log does not go on where its
//! history ends stands still and says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chatd::domain::UserId;
use chatd::pipeline::EventSource;
use chatd::pipeline::embedded::{EmbeddedLog, EmbeddedLogSettings};

use crate::history;
use crate::judge::Trace;
use crate::load::{Load, PATIENCE, Pace};
use crate::process::assert_refused;
use crate::support::{self, Log, Server, Setup};

/// Three conversations, that is two or three partitions of six.
const BRIEF: Pace = Pace { pairs: 3, period: Duration::from_millis(10), ..Pace::BUSY };

/// Starts a server whose alarms are looked for in `/ready`.
pub fn start(data: &Path) -> Server {
    tokio::task::block_in_place(|| Setup::new(data).log_to(&Log::default()).start())
}

/// Lets people talk on this folder, and stops in order.
pub async fn talk(data: &Path, first: i64) -> Trace {
    let mut server = start(data);
    let load = Load::start(Pace { first, ..BRIEF }, &server.address).await;
    load.world.until("load", |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= 120)).await;
    let trace = load.finish().await;
    stop(&mut server);
    for name in ["chatd.db-wal", "log.db-wal"] {
        assert!(!data.join(name).exists(), "{name} is left behind by a stop in order");
    }
    trace
}

pub fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Puts a file of another folder in the place of this one's, as it is restored by hand.
pub fn put(from: &Path, to: &Path, name: &str) {
    for suffix in ["", "-wal", "-shm"] {
        let name = format!("{name}{suffix}");
        let _ = fs::remove_file(to.join(&name));
        if from.join(&name).exists() {
            fs::copy(from.join(&name), to.join(&name)).unwrap();
        }
    }
}

/// What may have become of a file.
fn damages(good: &[u8], other: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let garbage = (0..20_000u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let mut middle = good.to_vec();
    let half = middle.len() / 2;
    middle[half / 2..half].fill(0xa5);
    vec![
        ("garbage", garbage),
        ("half of it", good[..half].to_vec()),
        ("a header only", good[..100].to_vec()),
        ("a broken middle", middle),
        ("another SQLite database", other.to_vec()),
        ("a text", b"hello\n".to_vec()),
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_files_are_refused_with_a_sentence_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    let trace = talk(&good, 1).await;
    let files = ["log.db", "chatd.db"].map(|name| (name, fs::read(good.join(name)).unwrap()));
    for (place, (name, content)) in files.iter().enumerate() {
        let (_, other) = &files[1 - place];
        let mut damages = damages(content, other);
        if *name == "log.db" {
            damages.push(("nothing", Vec::new()));
        }
        for (damage, bytes) in damages {
            let data = folder.path().join(format!("{name} is {damage}"));
            copy(&good, &data);
            let file = data.join(name);
            fs::write(&file, &bytes).unwrap();
            tokio::task::block_in_place(|| {
                assert_refused(&Setup::new(&data), 78, &[&file.display().to_string()]);
            });
            assert!(fs::read(&file).unwrap() == bytes, "{name} that is {damage} was changed");
            // Nothing else was harmed either.
            put(&good, &data, name);
            let server = start(&data);
            assert_history(&server, &trace).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_log_is_not_begun_anew_beside_its_history() {
    let folder = tempfile::tempdir().unwrap();
    let (good, data) = (folder.path().join("good"), folder.path().join("data"));
    let trace = talk(&good, 1).await;
    copy(&good, &data);
    fs::remove_file(data.join("log.db")).unwrap();
    tokio::task::block_in_place(|| assert_refused(&Setup::new(&data), 78, &["log.db", "missing", "backup"]));
    assert!(!data.join("log.db").exists(), "nothing was made in its place");
    put(&good, &data, "log.db");
    let server = start(&data);
    assert_history(&server, &trace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_of_another_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (one, other) = (folder.path().join("one"), folder.path().join("other"));
    let trace = talk(&one, 1).await;
    talk(&other, 1).await;
    fs::copy(one.join("log.db"), folder.path().join("log.db")).unwrap();
    put(&other, &one, "log.db");
    tokio::task::block_in_place(|| assert_refused(&Setup::new(&one), 78, &["belongs to", "log", "backup"]));
    put(folder.path(), &one, "log.db");
    let server = start(&one);
    assert_history(&server, &trace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_history_comes_back_from_a_whole_log() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let trace = talk(&data, 1).await;
    for emptied in [false, true] {
        if emptied {
            // What a crash leaves of a file that was being made.
            fs::write(data.join("chatd.db"), "").unwrap();
        } else {
            fs::remove_file(data.join("chatd.db")).unwrap();
        }
        let mut server = start(&data);
        wait_for_ready(&server, "ok").await;
        assert_history(&server, &trace).await;
        stop(&mut server);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_history_whose_log_was_trimmed_stands_still_until_it_is_restored() {
    let folder = tempfile::tempdir().unwrap();
    let (good, data) = (folder.path().join("good"), folder.path().join("data"));
    let trace = talk(&good, 1).await;
    forget_what_is_stored(&good.join("log.db")).await;
    copy(&good, &data);
    fs::remove_file(data.join("chatd.db")).unwrap();
    let mut server = start(&data);
    let alarms = wait_for_ready(&server, "degraded").await;
    assert!(alarms.contains("records are missing"), "{alarms}");
    for rows in history::of_all(&trace, &server.address).await.values() {
        assert!(rows.is_empty(), "a part of a history is told as if it were all");
    }
    assert_nothing_is_accepted(&server, &trace).await;
    stop(&mut server);
    put(&good, &data, "chatd.db");
    let server = start(&data);
    wait_for_ready(&server, "ok").await;
    assert_history(&server, &trace).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_older_than_its_history_stands_still_and_nothing_is_skipped() {
    let folder = tempfile::tempdir().unwrap();
    let (old, data, good) =
        (folder.path().join("old"), folder.path().join("data"), folder.path().join("good"));
    let before = talk(&data, 1).await;
    copy(&data, &old);
    let later = talk(&data, 101).await;
    copy(&data, &good);
    put(&old, &data, "log.db");
    let mut server = start(&data);
    let alarms = wait_for_ready(&server, "degraded").await;
    assert!(alarms.contains("records are missing") && alarms.contains("restore"), "{alarms}");
    // What was stored is read as ever.
    assert_history(&server, &before).await;
    assert_history(&server, &later).await;
    assert_nothing_is_accepted(&server, &later).await;
    stop(&mut server);
    put(&good, &data, "log.db");
    let server = start(&data);
    wait_for_ready(&server, "ok").await;
    assert_history(&server, &before).await;
    assert_history(&server, &later).await;
}

/// Stops a server in order.
#[track_caller]
pub fn stop(server: &mut Server) {
    server.signal("TERM");
    let status = tokio::task::block_in_place(|| server.wait(PATIENCE)).expect("it ends");
    assert_eq!(status.code(), Some(0));
}

/// What came now would lie in the log where something else has to be, and might never become history.
pub async fn assert_nothing_is_accepted(server: &Server, trace: &Trace) {
    for (device, conversation) in &trace.watchers {
        let user = UserId::new(i64::from(device.0)).unwrap();
        let peer = conversation.peer_of(user).unwrap().get();
        // Users were in the database too.
        assert_eq!(history::get(&server.address, "/v1/me", peer).await.0, 200);
        let answer = history::send(&server.address, &support::token(user.get()), peer, "now?").await;
        assert_eq!(answer, "unavailable", "{conversation}");
    }
}

/// Drops from the log what the storage has applied, but for the last record, as the server does after an hour.
async fn forget_what_is_stored(path: &Path) {
    let path = PathBuf::from(path);
    let settings = EmbeddedLogSettings { path, retention: Duration::ZERO, ..EmbeddedLogSettings::default() };
    let log = tokio::task::spawn_blocking(move || EmbeddedLog::open(&settings).unwrap()).await.unwrap();
    let bounds = log.bounds().await.unwrap();
    let below: Vec<_> = (0..).zip(bounds.iter().map(|bounds| bounds.end)).collect();
    log.forget(&below).await.unwrap();
    let until = Instant::now() + PATIENCE;
    while log.bounds().await.unwrap().iter().any(|now| now.end - now.start > 1) {
        assert!(Instant::now() < until, "it forgets nothing");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::task::spawn_blocking(move || log.close()).await.unwrap();
}

/// Waits for this readiness; the alarms as a text.
pub async fn wait_for_ready(server: &Server, status: &str) -> String {
    let until = Instant::now() + PATIENCE;
    loop {
        let (_, ready) = history::get(&server.address, "/ready", 1).await;
        if ready["status"] == status {
            return ready["alarms"].to_string();
        }
        assert!(Instant::now() < until, "{ready}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Everything is there as it was seen, and it goes on.
pub async fn assert_history(server: &Server, trace: &Trace) {
    let expected = trace.orders();
    let until = Instant::now() + PATIENCE;
    while history::of_all(trace, &server.address).await != expected {
        let now = history::of_all(trace, &server.address).await;
        let lengths = expected.iter().map(|(of, all)| (of.to_string(), all.len(), now[of].len()));
        assert!(
            Instant::now() < until,
            "the history is not what was seen: {:?}",
            lengths.collect::<Vec<_>>()
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
