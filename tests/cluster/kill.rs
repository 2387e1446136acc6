//! `kill -9` of consumers in the middle of their work, again and again.

use std::time::Duration;

use crate::scene::{Scene, rounds};

/// The other consumer has taken over: the group finds out within 6 s, and everybody has what was missed.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_reordered_by_kill_9_of_consumers() {
    let mut scene = Scene::begin().await;
    for round in 0..rounds(2) {
        // In the middle of things, just after the last round, and after a longer while.
        scene.more([600, 50, 1_500, 200][round % 4]).await;
        let fault = scene.fault();
        scene.cluster.consumes[round % 2].kill();
        scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, "kill -9 of a consumer").await;
        let back = scene.fault();
        let took = tokio::task::block_in_place(|| scene.cluster.consumes[round % 2].start());
        scene.assert_delivers(&back, TAKEN_OVER_WITHIN, &format!("it is back within {took:?}")).await;
    }
    scene.end(true).await;
}
