//! Stopping in order: who is connected is told so, what was accepted is kept, and nobody new comes in.

use std::time::{Duration, Instant};

use chatd::cli::bench::client::{Client, Incoming};
use serde_json::Value;

use crate::history;
use crate::load::{Load, PATIENCE, Pace};
use crate::process::free_port;
use crate::support::{self, Server, Setup};

/// The promise of a stop.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_under_load_tells_everybody_and_keeps_what_was_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port().to_string();
    let mut server = Setup::new(folder.path()).env("PORT", &port).start();
    let load = Load::start(Pace::BUSY, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    world.until("load", |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= 300)).await;

    let began = Instant::now();
    server.signal("TERM");
    let status = tokio::task::block_in_place(|| server.wait(PATIENCE)).expect("it ends");
    let took = began.elapsed();
    println!("  stopped under load within {took:?}");
    assert!(status.code() == Some(0) && took < STOPPED_WITHIN, "{status} after {took:?}");

    let people = 2 * Pace::BUSY.pairs as usize;
    world.until("everybody's farewell", |record| record.farewells.len() >= people).await;
    for farewell in &world.record().farewells {
        let closing = farewell.closing.as_ref().expect("`closing` before the close");
        assert_eq!((&closing["code"], farewell.code), (&Value::from(1001), 1001), "{farewell:?}");
        assert!(closing["reconnect_after_ms"].is_u64() && closing["reason"].is_string(), "{closing}");
    }
    // What was accepted is there before anybody sends anything again.
    let accepted = world.record().trace.clone();
    world.moved();
    server = tokio::task::block_in_place(|| Setup::new(folder.path()).env("PORT", &port).start());
    assert!(accepted.accepted_are_in(&history::of_all(&accepted, &server.address).await));
    let mut trace = load.finish().await;
    history::add_to(&mut trace, &server.address).await;
    trace.assert_whole();
}

/// A client that keeps its socket open whatever it is told.
async fn stubborn(server: &Server) -> Client {
    let mut client = Client::connect(&server.ws(&support::token(1)), &[]).await.unwrap();
    client.set_auto_reply(false);
    assert_eq!(client.recv_json().await.unwrap()["type"], "hello");
    client
}

async fn until_closing(client: &mut Client) {
    while client.recv_json().await.unwrap()["type"] != "closing" {}
    assert!(matches!(client.recv().await.unwrap(), Incoming::Close(1001, _)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_new_comes_in_while_it_stops() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let mut client = stubborn(&server).await;
    let http = reqwest::Client::builder().no_proxy().build().unwrap();
    let ready = || async { http.get(server.http("/ready")).send().await };
    assert_eq!(ready().await.unwrap().status(), 200);

    let began = Instant::now();
    server.signal("TERM");
    until_closing(&mut client).await;
    // On the connection that is open already.
    if let Ok(answer) = ready().await {
        assert_eq!(answer.status(), 503);
        assert_eq!(answer.json::<Value>().await.unwrap()["status"], "draining");
    }
    let mut tries = 0;
    let status = loop {
        if let Some(status) = server.wait(Duration::from_millis(1)) {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        let url = server.ws(&support::token(2));
        let come = tokio::time::timeout(Duration::from_millis(300), Client::connect(&url, &[])).await;
        assert!(!matches!(come, Ok(Ok(_))), "a socket was opened while it stopped");
        tries += 1;
    };
    let took = began.elapsed();
    println!("  stopped beside a client that stays within {took:?}; {tries} came in vain");
    assert!(status.code() == Some(0) && took < STOPPED_WITHIN && tries > 0, "{status} after {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_ctrl_c_ends_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = Server::start(folder.path());
    let mut client = stubborn(&server).await;
    server.signal("INT");
    until_closing(&mut client).await;
    assert!(server.wait(Duration::from_millis(50)).is_none(), "it waits for the client that stays");
    let began = Instant::now();
    server.signal("INT");
    let status = tokio::task::block_in_place(|| server.wait(PATIENCE)).expect("it ends");
    let took = began.elapsed();
    println!("  ended within {took:?} of the second Ctrl-C: {status}");
    assert!(status.code().is_some() && took < Duration::from_secs(2), "{status} after {took:?}");
}
