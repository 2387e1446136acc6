//! Log and history compared record by record, and the way out where they do not go together any more.

use std::path::Path;

use chatd::cli::bench::client::Client;
use chatd::domain::{ClientId, ConversationId, MessageId, UserId};
use diesel::connection::{Connection, SimpleConnection};
use diesel::sqlite::SqliteConnection;
use serde_json::{Value, json};

use crate::damage::{
    assert_history, assert_nothing_is_accepted, copy, put, start, stop, talk, wait_for_ready,
};
use crate::history;
use crate::process::{Ended, run};
use crate::support::Setup;

fn verify(data: &Path) -> Ended {
    tokio::task::block_in_place(|| run(&Setup::new(data), &["verify", "--json"]))
}

fn replay(data: &Path, arguments: &[&str]) -> Ended {
    let arguments: Vec<_> = ["log", "replay"].iter().chain(arguments).copied().collect();
    tokio::task::block_in_place(|| run(&Setup::new(data), &arguments))
}

/// What a comparison counted.
fn counted(ended: &Ended) -> Value {
    serde_json::from_str(&ended.stdout).unwrap_or_else(|_| panic!("{ended:?}"))
}

fn alter(data: &Path, sql: &str) {
    let mut connection = SqliteConnection::establish(data.join("chatd.db").to_str().unwrap()).unwrap();
    connection.batch_execute(sql).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_history_that_follows_from_its_log_is_proved_and_one_that_does_not_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good");
    let trace = talk(&good, 1).await;
    let whole = verify(&good);
    assert_eq!(whole.code, Some(0), "{whole:?}");
    let stored: usize = trace.orders().values().map(|seqs| seqs.len()).sum();
    let counts = counted(&whole);
    assert_eq!(counts["stored"], stored);
    assert_eq!(
        (&counts["differences"], &counts["waiting"], &counts["conversations"]),
        (&0.into(), &0.into(), &3.into())
    );
    for (name, sql, words) in [
        (
            "an event that is gone",
            "DELETE FROM events WHERE rowid = 60",
            &["is not in history", "head says"][..],
        ),
        ("another content", "UPDATE events SET content = 'x' WHERE rowid = 60", &["another content"]),
        (
            "another record",
            "UPDATE events SET message_id = randomblob(16) WHERE rowid = 60",
            &["another record"],
        ),
        ("a seq left out", "UPDATE events SET seq = seq + 1000 WHERE rowid = 60", &["head says"]),
        ("time that goes back", "UPDATE events SET at = 1 WHERE seq = 9", &["before their predecessor"]),
        ("a cursor beyond the end", "UPDATE members SET notified = 9999", &["point beyond seq"]),
    ] {
        let data = folder.path().join(name);
        copy(&good, &data);
        alter(&data, sql);
        let ended = verify(&data);
        assert_eq!(ended.code, Some(1), "{name}: {ended:?}");
        for word in words {
            assert!(ended.stderr.contains(word), "{name}: `{word}` is missing: {ended:?}");
        }
    }
    let erased = folder.path().join("erased");
    copy(&good, &erased);
    alter(&erased, "UPDATE events SET content = NULL WHERE seq = 9");
    let ended = verify(&erased);
    assert_eq!((ended.code, counted(&ended)["erased"].clone()), (Some(0), 3.into()), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edits_and_deletions_are_proved_too_and_what_they_changed_is_no_difference() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = start(folder.path());
    history::get(&server.address, "/v1/me", 2).await; // who is known from then on
    let mut ana = Client::connect(&server.ws(&crate::support::token(1)), &[]).await.unwrap();
    let message =
        |client_id: &str| json!({"type": "send", "to": 2, "client_id": client_id, "content": client_id});
    let id = |client_id: &str| {
        let (conversation, client_id) = ("dm-1-2".parse().unwrap(), ClientId::new(client_id).unwrap());
        MessageId::derive(conversation, UserId::new(1).unwrap(), &client_id)
    };
    let change = |kind: &str, client_id: &str, target: &str| {
        let target = id(target);
        json!({"type": kind, "conversation": "dm-1-2", "client_id": client_id, "id": target, "content": "changed"})
    };
    for frame in [
        message("a"),
        message("b"),
        change("edit", "e1", "a"),
        change("edit", "e2", "b"),
        change("delete", "d", "b"),
        change("edit", "e3", "never"),
    ] {
        ana.send_json(&frame).await.unwrap();
    }
    while ana.recv_json().await.unwrap()["type"] != "rejected" {}
    stop(&mut server);
    let ended = verify(folder.path());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let counts = counted(&ended);
    let counts = ["records", "stored", "erased", "rejected", "differences"].map(|name| counts[name].clone());
    assert_eq!(counts, [6, 5, 1, 1, 0].map(Value::from));
    // What a changed message asked for is compared all the same.
    alter(folder.path(), "UPDATE events SET digest = randomblob(16) WHERE kind = 'edit' AND seq = 4");
    let ended = verify(folder.path());
    assert_eq!((ended.code, ended.stderr.contains("another content")), (Some(1), true), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn books_are_compared_only_where_no_server_runs_on_them() {
    let folder = tempfile::tempdir().unwrap();
    let _server = start(folder.path());
    let ended = verify(folder.path());
    assert_eq!(ended.code, Some(78), "{ended:?}");
    assert!(ended.stderr.contains("another chatd uses the data folder"), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_lost_its_end_is_followed_again_when_somebody_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let (old, data) = (folder.path().join("old"), folder.path().join("data"));
    let before = talk(&data, 1).await;
    copy(&data, &old);
    let later = talk(&data, 101).await;
    put(&old, &data, "log.db");
    let mut server = start(&data);
    wait_for_ready(&server, "degraded").await;
    assert_nothing_is_accepted(&server, &later).await;
    stop(&mut server);
    // The log's end lies before what was applied: nothing is passed over, and what it holds is stored once.
    let ended = replay(&data, &["--from", "earliest"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.stdout.contains("log number 2"), "{ended:?}");
    let server = start(&data);
    wait_for_ready(&server, "ok").await;
    assert_history(&server, &before).await;
    assert_history(&server, &later).await;
    for (device, conversation) in &later.watchers {
        let user = chatd::domain::UserId::new(i64::from(device.0)).unwrap();
        let peer = ConversationId::peer_of(*conversation, user).unwrap().get();
        let answer = history::send(&server.address, &crate::support::token(user.get()), peer, "now").await;
        assert_eq!(answer, "accepted", "{conversation}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_are_passed_over_only_where_that_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let trace = talk(&data, 1).await;
    // A history that was lost: the log has all of it.
    std::fs::remove_file(data.join("chatd.db")).unwrap();
    let made = tokio::task::block_in_place(|| run(&Setup::new(&data), &["migrate"]));
    assert_eq!(made.code, Some(0), "{made:?}");
    let ended = replay(&data, &["--from", "latest"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.stderr.contains("have not become history") && ended.stderr.contains("--accept-loss"));
    assert_eq!(replay(&data, &["--from", "7"]).code, Some(2));
    assert_eq!(replay(&data, &["--from", "earliest"]).code, Some(0));
    let mut server = start(&data);
    wait_for_ready(&server, "ok").await;
    assert_history(&server, &trace).await;
    stop(&mut server);
    assert_eq!(verify(&data).code, Some(0));
}
