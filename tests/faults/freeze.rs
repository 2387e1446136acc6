//! A process that stands still for a while, as on a machine that is out of breath or was suspended.

use std::time::Duration;

use crate::history;
use crate::load::{Load, Pace};
use crate::support::{Log, Setup};

/// So long it stands still: the time after which an append gives up, and a socket counts as stuck.
const FROZEN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_process_stands_still_under_load() {
    let folder = tempfile::tempdir().unwrap();
    let log = Log::default();
    let server = tokio::task::block_in_place(|| Setup::new(folder.path()).log_to(&log).start());
    let load = Load::start(Pace::BUSY, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    let some_more = || {
        let enough = world.accepted_in(0) + 300;
        world.until("load", move |record| record.accepted.get(&0).is_some_and(|(n, _)| *n >= enough))
    };
    some_more().await;
    server.signal("STOP");
    // This is the fault itself, not a wait for something.
    tokio::time::sleep(FROZEN).await;
    server.signal("CONT");
    some_more().await;
    let mut trace = load.finish().await;
    history::add_to(&mut trace, &server.address).await;
    trace.assert_whole();
    let record = world.record();
    let early: Vec<_> = record.farewells.iter().filter(|farewell| farewell.code != 1000).collect();
    println!("  errors {:?}, sockets that ended early {early:?}", record.errors);
}
