//! Starting, and what a start refuses to do.

use std::path::Path;
use std::time::{Duration, Instant};

use chatd::cli::bench::client::Client;
use serde_json::json;

use crate::process::{assert_refused, free_port};
use crate::support::{self, Server, Setup};

/// From nothing to the first accepted message: 1 s in a release build, on a machine that does nothing else.
const ACCEPTED_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 5 } else { 1 });

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_empty_folder_accepts_a_message_within_a_second() {
    let folder = tempfile::tempdir().unwrap();
    let began = Instant::now();
    let server = tokio::task::block_in_place(|| Server::start(&folder.path().join("new")));
    let mut client = Client::connect(&server.ws(&support::token(1)), &[]).await.unwrap();
    client.send_json(&json!({"type": "send", "to": 1002, "content": "the first"})).await.unwrap();
    while client.recv_json().await.unwrap()["type"] != "accepted" {}
    let took = began.elapsed();
    println!(
        "  listens after {:?}, first accepted after {took:?}, {} KiB RSS",
        server.took,
        rss_kib(&server)
    );
    assert!(took < ACCEPTED_WITHIN, "{took:?}");
}

fn rss_kib(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_second_server_on_a_folder_is_refused_and_the_first_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(folder.path());
    let name = folder.path().display().to_string();
    assert_refused(&Setup::new(folder.path()), 78, &["another chatd", &name, "--data"]);
    assert!(is_well(&server));
    // It ends with the process, however that ends.
    server.kill();
    Server::start(folder.path());
}

#[test]
fn a_port_in_use_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let taken = Setup::new(&folder.path().join("one")).env("PORT", &port).start();
    let second = Setup::new(&folder.path().join("two")).env("PORT", &port);
    assert_refused(&second, 69, &["127.0.0.1", &port, "in use"]);
    assert!(is_well(&taken));
}

#[test]
fn a_folder_that_cannot_be_made_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "a file").unwrap();
    let below = file.join("data");
    assert_refused(&Setup::new(&below), 78, &[&below.display().to_string(), "directory"]);
    assert_eq!(std::fs::read(&file).unwrap(), b"a file");
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    // Once empty, once with everything that a server made.
    for begun in [false, true] {
        let data = folder.path().join(begun.to_string());
        std::fs::create_dir(&data).unwrap();
        if begun {
            Server::start(&data).kill();
        }
        set_mode(&data, 0o500);
        for file in std::fs::read_dir(&data).unwrap().map(|entry| entry.unwrap().path()) {
            set_mode(&file, if file.is_dir() { 0o500 } else { 0o400 });
        }
        let setup = Setup::new(&data).through(AS_OTHERS_ARE);
        assert_refused(&setup, 78, &[&data.display().to_string(), "denied"]);
        set_mode(&data, 0o700);
    }
}

/// Root may write everywhere, so it gives up that right; nobody else has it anyway.
const AS_OTHERS_ARE: &[&str] = &[
    "/bin/sh",
    "-c",
    "if [ \"$(id -u)\" = 0 ]; then \
       exec setpriv --bounding-set=-dac_override,-dac_read_search -- \"$0\" \"$@\"; \
     else exec \"$0\" \"$@\"; fi",
];

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

/// Whether it answers.
fn is_well(server: &Server) -> bool {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""status":"ok""#)
}
