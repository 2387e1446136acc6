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
    scene.end(false).await;
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
    scene.assert_delivers(&back, BACK_WITHIN + Duration::from_secs(5), "PostgreSQL was silent").await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_done_once() {
    let scene = Scene::begin().await;
    let lost = || scene.cluster.consumes.iter().map(|node| node.postgres.lost_commits()).sum::<usize>();
    for then in [Then::Cut, Then::Silence, Then::Cut] {
        let before = lost();
        let fault = scene.fault();
        scene.cluster.consumes.iter().for_each(|node| node.postgres.lose_commits(3, then));
        scene
            .assert_delivers(&fault, Duration::from_secs(20), &format!("answers to COMMITs lost, {then:?}"))
            .await;
        assert!(lost() > before, "no answer was lost");
        scene.more(500).await;
    }
    println!("  {} answers were lost", lost());
    scene.end(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_without_postgresql_holds_nothing_up_for_good() {
    let scene = Scene::begin().await;
    // A node that cannot write down who confirmed what for longer than the grace has its people mailed.
    let short = GRACE / 2;
    for (what, way, time) in [
        ("a consumer", scene.cluster.consumes[0].postgres.clone(), Duration::from_secs(6)),
        ("a node", scene.cluster.serves[0].postgres.clone(), short),
    ] {
        way.refuse();
        scene.go_on(time).await;
        let back = scene.fault();
        way.heal();
        scene.assert_delivers(&back, BACK_WITHIN, &format!("{what} was without PostgreSQL")).await;
    }
    scene.end(false).await;
}
