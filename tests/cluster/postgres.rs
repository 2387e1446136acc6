//! PostgreSQL is killed, is away, or loses the answer to a COMMIT.

use std::time::Duration;

use crate::cluster::GRACE;
use crate::proxy::{Then, Way};
use crate::scene::{Scene, outage};

/// After PostgreSQL is back.
const BACK_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_postgresql_is_killed_and_comes_back() {
    let scene = Scene::begin().await;
    scene.cluster.fragile().kill("postgres");
    scene.go_on(Duration::from_secs(3)).await;
    scene.cluster.fragile().restart("postgres");
    let back = scene.fault();
    scene.assert_delivers(&back, BACK_WITHIN, "PostgreSQL was killed and is back").await;
    assert_done_once(&scene).await;
    scene.end(true).await;
}

/// COMMITs are done, and whoever said so never hears of it.
async fn assert_done_once(scene: &Scene) {
    let lost = || scene.cluster.consumes.iter().map(|node| node.postgres.lost_commits()).sum::<usize>();
    for (then, within) in [(Then::Cut, BACK_WITHIN), (Then::Silence, BACK_WITHIN * 2)] {
        let before = lost();
        let fault = scene.fault();
        scene.cluster.consumes.iter().for_each(|node| node.postgres.lose_commits(2, then));
        scene.assert_delivers(&fault, within, &format!("answers to COMMITs are lost, then {then:?}")).await;
        assert!(lost() > before, "no answer was lost");
        scene.more(500).await;
    }
    println!("  {} answers were lost", lost());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_while_postgresql_is_away() {
    let scene = Scene::begin().await;
    let ways: Vec<_> = scene.cluster.nodes().map(|node| node.postgres.clone()).collect();
    ways.iter().for_each(|way| way.refuse());
    scene.go_on(outage(60, 10)).await;
    let back = scene.fault();
    ways.iter().for_each(|way| way.heal());
    scene.assert_delivers(&back, BACK_WITHIN, "PostgreSQL was away").await;
    // And where nobody is told that it is away.
    ways.iter().for_each(|way| way.set(Way::Swallowed));
    scene.go_on(outage(30, 8)).await;
    let back = scene.fault();
    ways.iter().for_each(|way| way.heal());
    scene.assert_delivers(&back, BACK_WITHIN * 2, "PostgreSQL was silent").await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_without_postgresql_holds_nothing_up_for_good() {
    let scene = Scene::begin().await;
    scene.until_it_works(0).await;
    // The group is told that all is well, so that nobody takes over: it has to find its own way back.
    let way = &scene.cluster.consumes[0].postgres;
    way.hold_at_commit().await;
    scene.go_on(Duration::from_secs(12)).await;
    let back = scene.fault();
    way.heal();
    scene.assert_delivers(&back, BACK_WITHIN, "a COMMIT of a consumer was on its way for 12 s").await;
    // A node that cannot write down for longer than the grace who confirmed what has its people mailed.
    let way = &scene.cluster.serves[0].postgres;
    way.refuse();
    scene.go_on(GRACE / 3).await;
    let back = scene.fault();
    way.heal();
    scene.assert_delivers(&back, BACK_WITHIN, "a node was without PostgreSQL").await;
    scene.end(false).await;
}
