//! `kill -9` under load, again and again: the promise of the whole project.

use std::time::{Duration, Instant};

use crate::history;
use crate::judge::Seeded;
use crate::load::{Load, Pace};
use crate::process::free_port;
use crate::support::{Server, Setup};

/// How often the server is killed; `KILLS=20` is the full count.
fn kills() -> usize {
    std::env::var("KILLS").ok().map_or(3, |kills| kills.parse().expect("KILLS is a number"))
}

/// From the restart to the first accepted message: 2 s in a release build, on a machine that does nothing else.
const SERVING_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 10 } else { 2 });

fn start(data: &std::path::Path, port: u16) -> Server {
    Setup::new(data).env("PORT", &port.to_string()).start()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_reordered_by_kill_9() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let mut server = start(folder.path(), port);
    let load = Load::start(Pace::BUSY, &server.address).await;
    let world = std::sync::Arc::clone(&load.world);
    let people = 2 * Pace::BUSY.pairs;
    let mut slowest = Duration::ZERO;
    for kill in 1..=kills() {
        let epoch = world.epoch();
        // In the middle of things, just after the start, and after a longer while.
        let enough = [300, 1, 600, 40][kill % 4];
        world.until("load", |record| record.accepted.get(&epoch).is_some_and(|(n, _)| *n >= enough)).await;
        server.kill();
        let (killed, epoch) = (Instant::now(), world.moved());
        server = tokio::task::block_in_place(|| start(folder.path(), port));
        world.until("the first answer", |record| record.accepted.contains_key(&epoch)).await;
        let first = world.record().accepted[&epoch].1.duration_since(killed);
        world.until("everybody", |record| record.greeted.get(&epoch) >= Some(&people)).await;
        let everybody = killed.elapsed();
        println!(
            "  kill {kill}: listens after {:?}, first accepted {first:?}, all back {everybody:?}",
            server.took
        );
        slowest = slowest.max(first);
    }
    let address = server.address.clone();
    let mut trace = load.finish().await;
    history::add_to(&mut trace, &address).await;
    let verdict = trace.assert_whole();
    assert!(verdict.sent > 200 && verdict.repeated > 0, "{verdict}");
    println!("  slowest return after a kill: {slowest:?}");
    assert!(slowest < SERVING_WITHIN, "{slowest:?}");
    for (seeded, name) in Seeded::ALL {
        let found = seeded.put_into(&trace).verdict();
        assert!(found.count(name) > 0 && !found.is_clean(), "{seeded:?} was not found: {found}");
    }
}
