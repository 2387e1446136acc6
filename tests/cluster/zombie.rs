//! A consumer that stands still for longer than its place in the group lasts, and then goes on as if nothing had
//! happened: what it had begun must not be done.

use std::time::{Duration, Instant};

use crate::scene::Scene;

/// Longer than the group waits, and than the database leaves a transaction open.
const FROZEN: Duration = Duration::from_secs(15);
/// As after a `kill -9`.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_frozen_does_nothing_that_its_successor_did() {
    let scene = Scene::begin().await;
    scene.until_it_works(0).await;
    let (zombie, began) = (&scene.cluster.consumes[0], Instant::now());
    let fault = scene.fault();
    zombie.signal("STOP");
    scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, "a consumer stands still").await;
    scene.go_on(FROZEN.saturating_sub(began.elapsed())).await;
    let back = scene.fault();
    zombie.signal("CONT");
    scene.assert_delivers(&back, TAKEN_OVER_WITHIN, "it goes on").await;
    scene.end(true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_of_a_frozen_consumer_that_comes_late_is_not_done() {
    let scene = Scene::begin().await;
    scene.until_it_works(0).await;
    let (zombie, began) = (&scene.cluster.consumes[0], Instant::now());
    // The fence has moved and the rows of its partitions are locked; only the COMMIT is still on its way.
    zombie.postgres.hold_at_commit().await;
    let fault = scene.fault();
    zombie.signal("STOP");
    scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, "a consumer stands still, its COMMIT on its way").await;
    scene.go_on(FROZEN.saturating_sub(began.elapsed())).await;
    let back = scene.fault();
    zombie.postgres.heal();
    zombie.signal("CONT");
    scene.assert_delivers(&back, TAKEN_OVER_WITHIN, "it goes on, and the COMMIT arrives").await;
    scene.end(true).await;
}
