//! Processes that come and go in order: an upgrade of all of them, one after the other, and a consumer more.

use std::time::Duration;

use crate::scene::{Scene, rounds};

/// Who stops says so, so that nobody has to find out: 2 s, and more for a debug build on a busy machine.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(if cfg!(debug_assertions) { 4 } else { 2 });
/// The group arranges itself anew.
const ARRANGED_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_every_process_is_restarted_in_turn() {
    let mut scene = Scene::begin().await;
    for _ in 0..rounds(1) {
        for place in 0..2 {
            let fault = scene.fault();
            let took = tokio::task::block_in_place(|| scene.cluster.consumes[place].stop());
            let what = format!("a consumer stopped within {took:?}");
            scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, &what).await;
            let back = scene.fault();
            let took = tokio::task::block_in_place(|| scene.cluster.consumes[place].start());
            scene
                .assert_delivers(&back, ARRANGED_WITHIN + took, &format!("it is back within {took:?}"))
                .await;
        }
        for place in 0..2 {
            let fault = scene.fault();
            let took = tokio::task::block_in_place(|| scene.cluster.serves[place].stop());
            let what = format!("a node stopped within {took:?}");
            scene.assert_delivers(&fault, TAKEN_OVER_WITHIN + took, &what).await;
            let took = tokio::task::block_in_place(|| scene.cluster.serves[place].start());
            scene.world.found_at(place, scene.cluster.serves[place].address());
            println!("  it is back within {took:?}");
        }
    }
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_a_third_consumer_comes_and_goes() {
    let scene = Scene::begin().await;
    let mut third = scene.cluster.node("consume", 2);
    for is_killed in [false, true] {
        let fault = scene.fault();
        let took = tokio::task::block_in_place(|| third.start());
        scene.assert_delivers(&fault, ARRANGED_WITHIN + took, &format!("a third came within {took:?}")).await;
        scene.more(500).await;
        let fault = scene.fault();
        if is_killed {
            third.kill();
            scene.assert_delivers(&fault, Duration::from_secs(10), "it was killed").await;
        } else {
            let took = tokio::task::block_in_place(|| third.stop());
            scene
                .assert_delivers(&fault, TAKEN_OVER_WITHIN + took, &format!("it left within {took:?}"))
                .await;
        }
        scene.more(500).await;
    }
    scene.end(true).await;
}
