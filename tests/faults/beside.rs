//! Commands beside a running server, and what a backup of one is good for.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use chatd::cli::bench::client::Client;
use chatd::domain::{ConversationId, UserId};
use serde_json::json;

use crate::history;
use crate::judge::{Orders, Trace};
use crate::load::{Load, PATIENCE, Pace};
use crate::process::{Ended, run};
use crate::support::{self, Server, Setup};

/// A change that a command makes is seen within this.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

/// Runs a command on this folder, which has to go well.
#[track_caller]
fn command(setup: &Setup, arguments: &[&str]) -> Ended {
    let ended = tokio::task::block_in_place(|| run(setup, arguments));
    assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
    ended
}

async fn send(server: &Server, token: &str, to: i64) -> String {
    history::send(&server.address, token, to, "hello").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_who_is_added_beside_a_running_server_is_known_within_5_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let setup = || Setup::new(folder.path()).env("CHATD_AUTH__PROVISION", "reject");
    let server = tokio::task::block_in_place(|| setup().start());
    let ana = support::token(1001);
    assert_eq!(send(&server, &ana, 101).await, "unknown_recipient");
    assert_eq!(history::get(&server.address, "/v1/me", 101).await.0, 401);

    let add = |name| ["user", "add", "--id", "101", "--name", name, "--email", "mia@example.test"];
    command(&setup(), &add("Mia"));
    let added = Instant::now();
    while send(&server, &ana, 101).await != "accepted" {
        assert!(added.elapsed() < SEEN_WITHIN, "the new user is not known");
    }
    println!("  a new user is known {:?} after `user add`", added.elapsed());
    assert_eq!(history::get(&server.address, "/v1/me", 101).await.1["name"], "Mia");

    command(&setup(), &add("Mia Wallace"));
    let changed = Instant::now();
    while history::get(&server.address, "/v1/me", 101).await.1["name"] != "Mia Wallace" {
        assert!(changed.elapsed() < SEEN_WITHIN + Duration::from_secs(1), "the new name is not known");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    println!("  a new name is known {:?} after `user add`", changed.elapsed());

    let file = folder.path().join("users.jsonl");
    std::fs::write(&file, "{\"id\":102,\"name\":\"Vincent\",\"email\":\"v@example.test\"}\n").unwrap();
    command(&setup(), &["user", "import", file.to_str().unwrap()]);
    assert_eq!(send(&server, &ana, 102).await, "accepted");
    let list = command(&setup(), &["user", "list"]).stdout;
    assert!(list.contains("Mia Wallace") && list.contains("Vincent"), "{list}");
    let token = command(&setup(), &["token", "--user", "102", "--name", "Vincent"]).stdout;
    assert_eq!(send(&server, token.trim(), 101).await, "accepted");
}

/// A server that made its own secret.
fn with_own_secret(data: &Path) -> Setup {
    Setup::new(data).env("JWT_SECRET", "")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_under_load_is_a_whole_history_that_goes_on_elsewhere() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let server = tokio::task::block_in_place(|| Server::start(&data));
    let load = Load::start(Pace::BUSY, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    let some_more = |count| {
        let enough = world.accepted_in(0) + count;
        world.until("load", move |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= enough))
    };
    let mut copies = Vec::new();
    for number in 1..=3 {
        some_more(150).await;
        let before = world.record().trace.clone();
        let (began, copy) = (Instant::now(), folder.path().join(format!("copy {number}")));
        command(&Setup::new(&data), &["backup", copy.to_str().unwrap()]);
        println!("  a backup under load took {:?}", began.elapsed());
        copies.push((before, copy));
    }
    some_more(100).await;
    let mut trace = load.finish().await;
    let cursors = world.record().cursors.clone();
    history::add_to(&mut trace, &server.address).await;
    trace.assert_whole();
    // The copy is a folder like any other.
    for (before, copy) in copies {
        let other = tokio::task::block_in_place(|| Server::start(&copy));
        let restored = assert_beginning(&before, &trace, &other).await;
        let (device, cursor) = cursors.iter().next().unwrap();
        assert_all_comes_again(&other, i64::from(device.0), cursor, &restored).await;
    }
}

/// What was accepted before is in the history of another server, which is the beginning of what was seen.
async fn assert_beginning(before: &Trace, trace: &Trace, other: &Server) -> Orders {
    let whole = trace.orders();
    let until = Instant::now() + PATIENCE;
    loop {
        let restored = history::of_all(trace, &other.address).await;
        for (conversation, order) in &restored {
            let same = order.iter().eq(whole[conversation].iter().take(order.len()));
            assert!(same, "{conversation} is not the beginning of what was seen");
        }
        if before.accepted_are_in(&restored) {
            return restored;
        }
        assert!(Instant::now() < until, "something that was accepted before the backup is not in it");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A cursor of the server that was copied means nothing here: everything comes again. And it goes on.
async fn assert_all_comes_again(other: &Server, user: i64, cursor: &str, restored: &Orders) {
    let peer = user + if user % 2 == 1 { 1 } else { -1 };
    let ids = [user, peer].map(|id| UserId::new(id).unwrap());
    let restored = &restored[&ConversationId::dm(ids[0], ids[1]).unwrap()];
    let mut client = Client::connect(&other.ws(&support::token(user)), &[]).await.unwrap();
    client.send_json(&json!({"type": "resume", "cursor": cursor})).await.unwrap();
    let mut again = BTreeMap::new();
    loop {
        let frame = client.recv_json().await.unwrap();
        match frame["type"].as_str().unwrap() {
            "message" => drop(again.insert(history::row(&frame).seq, history::row(&frame).id)),
            "resumed" => break,
            _ => {}
        }
    }
    assert!(restored.iter().eq(again.iter().take(restored.len())), "{} came again", again.len());
    assert_eq!(send(other, &support::token(user), peer).await, "accepted");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_keeps_the_secret_and_never_overwrites() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let server = tokio::task::block_in_place(|| with_own_secret(&data).start());
    let token = command(&with_own_secret(&data), &["token", "--user", "1001", "--name", "Ana"]).stdout;
    assert_eq!(send(&server, token.trim(), 1002).await, "accepted");
    command(&with_own_secret(&data), &["backup", copy.to_str().unwrap()]);
    let again =
        tokio::task::block_in_place(|| run(&with_own_secret(&data), &["backup", copy.to_str().unwrap()]));
    assert_eq!(again.code, Some(2), "{again:?}");

    let other = tokio::task::block_in_place(|| with_own_secret(&copy).start());
    let path = "/messages?user1=1001&user2=1002";
    let (status, messages) = history::get_with(&other.address, path, token.trim()).await;
    assert_eq!((status, messages["messages"].as_array().map(Vec::len)), (200, Some(1)), "{messages}");
    for name in ["chatd.db", "log.db", "secrets/jwt"] {
        use std::os::unix::fs::PermissionsExt;
        let mode = std::fs::metadata(copy.join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
}
