//! Redis behind Sentinels: the primary is asked for, and the next one found when it fails.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use chatd::redis::RedisSettings;

use crate::nodes_support::{Node, Raw, eventually, frames, message, prefix, publication, settings, user};

/// A server that ends with the test.
struct Server(Child);

impl Server {
    fn start(folder: &Path, name: &str, lines: &[String], arguments: &[&str]) -> Self {
        let file = folder.join(name);
        let folder = format!("dir {}", folder.display());
        std::fs::write(&file, [&["bind 127.0.0.1".to_owned(), folder], lines].concat().join("\n")).unwrap();
        let mut command = Command::new("redis-server");
        command.arg(&file).args(arguments).stdout(Stdio::null());
        Self(command.spawn().expect("Debian's package redis-server"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

async fn answers(port: u16) {
    eventually("a server answers", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
}

fn url(port: u16) -> String {
    format!("redis://127.0.0.1:{port}/0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_primary_fails_the_next_one_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let (first, second, sentinel) = (free_port(), free_port(), free_port());
    let server =
        |port: u16| [format!("port {port}"), "save \"\"".into(), "repl-diskless-sync-delay 0".into()];
    let replica = [server(second).to_vec(), vec![format!("replicaof 127.0.0.1 {first}")]].concat();
    let primary = Server::start(folder.path(), "first.conf", &server(first), &[]);
    answers(first).await;
    let _replica = Server::start(folder.path(), "second.conf", &replica, &[]);
    answers(second).await;
    let mut raw = Raw::connect(&url(second));
    let until = Instant::now() + Duration::from_secs(30);
    while !raw.ask(&["INFO", "replication"]).concat().contains("master_link_status:up") {
        assert!(Instant::now() < until, "the replica does not follow");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let watching = [
        format!("port {sentinel}"),
        format!("sentinel monitor main 127.0.0.1 {first} 1"),
        "sentinel down-after-milliseconds main 500".into(),
        "sentinel failover-timeout main 5000".into(),
    ];
    let _sentinel = Server::start(folder.path(), "sentinel.conf", &watching, &["--sentinel"]);
    answers(sentinel).await;
    let mut asked = Raw::connect(&url(sentinel));
    while !asked.ask(&["INFO", "sentinel"]).concat().contains("slaves=1") {
        assert!(Instant::now() < until + Duration::from_secs(30), "the sentinel sees no replica");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let through = format!("redis-sentinel://127.0.0.1:{sentinel}/0?sentinelServiceName=main");
    let settings = settings(&through, &prefix(), "n-a");
    let a = Node::redis(settings.clone()).await;
    let b = Node::redis(RedisSettings { node: "n-b".into(), ..settings }).await;
    let socket = b.socket(2).await;
    drop(primary);
    eventually("it is in doubt", || a.hub.is_doubtful() && b.hub.is_doubtful()).await;
    eventually("it is registered again", || !a.hub.is_doubtful() && !b.hub.is_doubtful()).await;
    while !a.presence.online(&[user(2)]).await.is_ok_and(|online| online == [true]) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    a.fanout.publish(vec![publication(-1, 0, vec![message(0, 1, 2)])]).await.unwrap();
    b.hears(0).await;
    assert_eq!(frames(&socket), 1);
}
