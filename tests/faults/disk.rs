//! Disks that take nothing more. What cannot be kept is not accepted, what was accepted stays, and with room
//! it goes on by itself.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::history;
use crate::load::{Load, PATIENCE, Pace};
use crate::process::{assert_refused, free_port, limit_file_size};
use crate::support::{self, Log, Server, Setup};

/// Larger messages, so that a small disk fills up soon.
const LARGE: Pace =
    Pace { pairs: 5, period: Duration::from_millis(50), window: 16, bytes: 2_000, ..Pace::BUSY };

/// A write beyond the limit is an error, as on a full disk, and not the end of the process.
const LIMITABLE: &[&str] = &["/bin/sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_cannot_grow_lose_nothing_and_go_on_when_they_can() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::default();
    let server = Setup::new(folder.path()).through(LIMITABLE).log_to(&log).start();
    let load = Load::start(LARGE, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    world.until("load", |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= 200)).await;

    limit_file_size(server.pid(), Some(16 << 10));
    world.until("errors", |record| record.errors.get("unavailable").is_some_and(|n| *n >= 50)).await;
    assert_told(&server, &log).await;
    limit_file_size(server.pid(), None);
    assert_recovered(&server, load, &log).await;
}

/// A disk of its own, in memory.
struct Disk(PathBuf);

impl Disk {
    /// None where mounting is not allowed, which is said.
    fn mount(folder: &Path) -> Option<Self> {
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=24m", "chatd-faults"]).arg(folder);
        let ended = mount.output().expect("mount runs");
        if !ended.status.success() {
            println!("  NOT RUN, for want of the right to mount: {}", String::from_utf8_lossy(&ended.stderr));
            return None;
        }
        Some(Self(folder.to_owned()))
    }

    /// Takes all the room that is left, as another program might.
    fn fill(&self) {
        let mut file = std::fs::File::create(self.0.join("of another program")).unwrap();
        while file.write_all(&[0; 4_096]).is_ok() {}
    }

    fn make_room(&self) {
        std::fs::remove_file(self.0.join("of another program")).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(&self.0).status();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_and_goes_on_with_room() {
    let folder = tempfile::tempdir().unwrap();
    let Some(disk) = Disk::mount(folder.path()) else { return };
    let data = folder.path().join("data");
    let (log, port) = (Log::default(), free_port().to_string());
    let setup = || Setup::new(&data).env("PORT", &port).log_to(&log);
    let server = setup().start();
    let load = Load::start(LARGE, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    world.until("load", |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= 100)).await;
    disk.fill();
    world.until("errors", |record| record.errors.get("unavailable").is_some_and(|n| *n >= 50)).await;
    assert_told(&server, &log).await;
    disk.make_room();
    assert_accepting(&load).await;

    // Once more, and this time the process ends while there is no room.
    let seen = world.record().errors["unavailable"];
    disk.fill();
    world.until("errors", |record| record.errors["unavailable"] >= seen + 50).await;
    server.kill();
    world.moved();
    tokio::task::block_in_place(|| assert_refused(&setup(), 78, &["full"]));
    disk.make_room();
    let server = tokio::task::block_in_place(|| setup().start());
    assert_recovered(&server, load, &log).await;
}

/// Whoever sends, an operator and a prober are told.
async fn assert_told(server: &Server, log: &Log) {
    let answer = history::send(&server.address, &support::token(1001), 1002, "into a full disk").await;
    assert_eq!(answer, "unavailable");
    let (status, ready) = history::get(&server.address, "/ready", 1).await;
    assert_eq!((status, &ready["status"]), (200, &json!("degraded")), "{ready}");
    let alarms = ready["alarms"].as_array().unwrap();
    let alarm = alarms.iter().find(|alarm| alarm["subject"] == "log").expect("an alarm of the log");
    println!("  alarm: {}", alarm["reason"]);
    assert!(log.lock().unwrap().contains("the message log cannot be written"));
}

async fn assert_accepting(load: &Load) {
    let (began, epoch) = (Instant::now(), load.world.epoch());
    let enough = load.world.accepted_in(epoch) + 200;
    load.world.until("room", |record| record.accepted.get(&epoch).is_some_and(|(n, _)| *n >= enough)).await;
    println!("  200 accepted within {:?} of room", began.elapsed());
}

async fn assert_recovered(server: &Server, load: Load, log: &Log) {
    assert_accepting(&load).await;
    let mut trace = load.finish().await;
    history::add_to(&mut trace, &server.address).await;
    trace.assert_whole();
    let until = Instant::now() + PATIENCE;
    while history::get(&server.address, "/ready", 1).await.1["status"] != "ok" {
        assert!(Instant::now() < until, "it stays degraded: {}", log.lock().unwrap());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
