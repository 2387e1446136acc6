//! A chat that outgrows its one process: its history moves to PostgreSQL and its log to Kafka, while everybody
//! tries to go on writing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chatd::cli::bench::client::Client;
use chatd::domain::ConversationId;
use serde_json::{Value, json};

use crate::absent::{self, Correspondence};
use crate::archive::{Archive, Resumed};
use crate::books::{Books, Stored};
use crate::cluster::{BUSY, Cluster, run};
use crate::database;
use crate::history::{self, Row};
use crate::load::Load;
use crate::node::{PATIENCE, STOPPED_WITHIN};
use crate::support::{self, Server, Setup};

/// Two who do nothing while the chat moves: who wrote, and who has read a part.
const QUIET: [i64; 2] = [600, 601];
/// Conversations of the archive with a reader who comes back with a cursor, and without one.
const WITH_CURSOR: std::ops::Range<i64> = 0..6;
const WITHOUT: std::ops::Range<i64> = 6..8;

/// How long the history is that moves: as long as is asked for with `MOVE_EVENTS`.
fn events() -> i64 {
    std::env::var("MOVE_EVENTS").map_or(10_000, |events| events.parse().expect("MOVE_EVENTS is a number"))
}

fn with(setup: Setup, env: Vec<(String, String)>) -> Setup {
    env.iter().fold(setup, |setup, (name, value)| setup.env(name, value))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chat_moves_out_of_one_process_and_nobody_loses_a_message() {
    let mut cluster = Cluster::prepare_beside_others().await;
    let (home, settings) = (cluster.folder("home"), cluster.settings());
    let alone = || with(Setup::new(&home), settings.clone());
    let mut archive = Archive::new();
    archive.write_until(events() * 9 / 10, &home).await;
    let mut old = tokio::task::block_in_place(|| {
        cluster.import_people(&alone());
        alone().start()
    });
    archive.until_stored(&old.address).await;
    let known = archive.length();
    let cursors = first_visits(&old.address, known).await;
    be_quiet_after_this(&old.address).await;
    let quiet = quiet_views(&old.address).await;

    let load = Load::among(BUSY, &[&old.address, &old.address]).await;
    let world = Arc::clone(&load.world);
    let letters = Correspondence::begin(&cluster, &world);
    world.until("load", |record| record.trace.seen.len() > 4_000).await;
    absent::until_first_mail(&cluster).await;
    let epoch = world.moved();
    let began = Instant::now();
    tokio::task::block_in_place(|| stop(&mut old));
    // Accepted, and the server has ended before it was history.
    archive.write_until(events(), &home).await;
    let told = tokio::task::block_in_place(|| {
        let setup = with(alone(), cluster.log_settings());
        run(&setup, &["move", "--to", &cluster.database_url, "--json"])
    });
    assert_moved(&told, &archive, known);
    tokio::task::block_in_place(|| cluster.start_processes());
    for place in 0..2 {
        world.found_at(place, cluster.serves[place].address());
    }
    let devices = u32::try_from(world.record().trace.watchers.len()).unwrap();
    world.until("everybody", move |record| record.greeted.get(&epoch).is_some_and(|n| *n >= devices)).await;
    println!("  everybody is on the new servers {:?} after the old one was told to stop", began.elapsed());
    let seen = world.record().trace.seen.len();
    world.until("new messages", move |record| record.trace.seen.len() > seen + 4_000).await;

    assert_eq!(quiet_views(cluster.serves[0].address()).await, quiet, "unread and receipts are as before");
    next_visits(&cluster, &archive, known, cursors).await;
    judge(cluster, archive, load, letters).await;
}

/// SIGTERM, and a good end.
fn stop(server: &mut Server) {
    server.signal("TERM");
    let status = server.wait(STOPPED_WITHIN).expect("it ends in time");
    assert!(status.success(), "{status}");
}

/// What `chatd move` says.
fn assert_moved(told: &str, archive: &Archive, known: i64) {
    let told: Value = serde_json::from_str(told).unwrap();
    println!("  chatd move: {told}");
    assert_eq!(told["moved"]["log"], json!({"follows": "kafka", "number": 2}));
    let late = archive.events() - known * i64::try_from(Archive::numbers().count()).unwrap();
    assert_eq!(told["moved"]["applied"], late, "what was accepted last became history");
    let tables = told["moved"]["tables"].as_array().unwrap();
    let rows =
        |name: &str| tables.iter().find(|table| table["table"] == name).unwrap()["rows"].as_i64().unwrap();
    assert!(rows("events") > archive.events() && rows("mails") > 0, "{told}");
}

/// Readers of the archive get all of it, and go with a cursor.
async fn first_visits(address: &str, known: i64) -> Vec<String> {
    let mut cursors = Vec::new();
    for number in WITH_CURSOR {
        let resumed = Resumed::at(address, Archive::people(number).1, None).await;
        assert_eq!(resumed.messages(), rows(number, 1, known));
        cursors.push(resumed.cursor);
    }
    cursors
}

/// They come back on either node, and get what they have not got, once.
async fn next_visits(cluster: &Cluster, archive: &Archive, known: i64, cursors: Vec<String>) {
    for (number, cursor) in WITH_CURSOR.zip(cursors) {
        let address = cluster.serves[usize::try_from(number).unwrap() % 2].address();
        let reader = Archive::people(number).1;
        let resumed = Resumed::at(address, reader, Some(&cursor)).await;
        assert!(resumed.messages() == rows(number, known + 1, archive.length()), "{number}");
        let again = Resumed::at(address, reader, Some(&resumed.cursor)).await;
        assert_eq!(again.messages(), [], "{number}");
    }
    for number in WITHOUT {
        let resumed = Resumed::at(cluster.serves[0].address(), Archive::people(number).1, None).await;
        assert!(resumed.messages() == rows(number, 1, archive.length()), "{number}");
    }
}

fn rows(number: i64, from: i64, to: i64) -> Vec<Row> {
    (from..=to).map(|n| Archive::row(number, n)).collect()
}

/// Writes and reads a little, so that there are receipts, and messages that are unread.
async fn be_quiet_after_this(address: &str) {
    let [writer, reader] = QUIET;
    assert_eq!(history::get(address, "/v1/me", reader).await.0, 200);
    for n in 1..=5 {
        let sent = history::send(address, &support::token(writer), reader, &format!("quiet {n}")).await;
        assert_eq!(sent, "accepted");
    }
    let mut client =
        Client::connect(&format!("ws://{address}/ws?token={}", support::token(reader)), &[]).await.unwrap();
    client.send_json(&json!({"type": "resume"})).await.unwrap();
    while client.recv_json().await.unwrap()["seq"] != 5 {}
    let read = json!({"type": "read", "conversation": format!("dm-{writer}-{reader}"), "seq": 3});
    client.send_json(&read).await.unwrap();
    let began = Instant::now();
    let is_read = |frame: &Value| frame["type"] == "receipt" && frame["read"] == 3;
    while !Resumed::at(address, writer, None).await.frames.iter().any(is_read) {
        assert!(began.elapsed() < PATIENCE, "the receipt is not stored");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// What both are told when they come back: messages, receipts, unread.
async fn quiet_views(address: &str) -> Vec<Vec<Value>> {
    let mut views = Vec::new();
    for user in QUIET {
        views.push(Resumed::at(address, user, None).await.without_cursors());
    }
    assert!(views.iter().all(|frames| frames.len() > 2), "{views:?}");
    views
}

/// Everybody goes home, and the books are right.
async fn judge(cluster: Cluster, archive: Archive, load: Load, letters: Correspondence) {
    cluster.well().await;
    let away = letters.end(&cluster, &load.world).await;
    let mut trace = load.finish().await;
    for (first, address) in [1_000_000, 2_000_000].into_iter().zip(cluster.addresses()) {
        history::add_as(&mut trace, first, address).await;
    }
    let mailed = absent::mails(&cluster, &away).await;
    let all = database::history(&cluster.database_url).await;
    let old = all.iter().filter(|row| row.log.0 == 1).count();
    println!("  {old} events of the old log, {} of the new one", all.len() - old);
    let archived: Vec<ConversationId> = Archive::numbers().map(Archive::conversation).collect();
    let is_archived = |row: &Stored| archived.contains(&row.conversation);
    let (stored, rest): (Vec<Stored>, Vec<Stored>) =
        all.into_iter().filter(|row| !row.content.starts_with("quiet ")).partition(|row| !is_archived(row));
    assert_eq!(rest.len(), usize::try_from(archive.events()).unwrap());
    for number in Archive::numbers() {
        archive.assert_told(number, cluster.addresses()[usize::try_from(number).unwrap() % 2]).await;
    }
    let verified = tokio::task::block_in_place(|| cluster.run(&["verify", "--json"]));
    let verified: Value = serde_json::from_str(&verified).unwrap();
    println!("  {verified}");
    assert_eq!((&verified["differences"], &verified["aged_out"]), (&json!(0), &json!(old)));
    Books { trace, stored, away, mailed, may_repeat_mails: false }.assert_kept();
}
