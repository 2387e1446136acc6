//! A consumer that stands still for longer than its place in the group lasts, and then goes on as if nothing had
//! happened: what it had begun must not be done.

use std::time::Duration;

use crate::proxy::Way;
use crate::scene::Scene;

/// Longer than the group waits, and than the database leaves a transaction open.
const FROZEN: Duration = Duration::from_secs(15);
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_was_frozen_does_nothing_that_its_successor_did() {
    let scene = Scene::begin().await;
    let zombie = &scene.cluster.consumes[0];
    let fault = scene.fault();
    zombie.signal("STOP");
    scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, "a consumer stands still").await;
    scene.go_on(FROZEN - TAKEN_OVER_WITHIN.min(FROZEN)).await;
    let back = scene.fault();
    zombie.signal("CONT");
    scene.assert_delivers(&back, TAKEN_OVER_WITHIN, "it goes on").await;

    // Again, with what it had said to the database on its way all the time: a COMMIT that comes late.
    zombie.postgres.set_ways(Way::Held, Way::Held);
    scene.more(100).await;
    let fault = scene.fault();
    zombie.signal("STOP");
    scene
        .assert_delivers(&fault, TAKEN_OVER_WITHIN, "a consumer stands still, with a COMMIT on its way")
        .await;
    let back = scene.fault();
    zombie.postgres.heal();
    zombie.signal("CONT");
    scene.assert_delivers(&back, TAKEN_OVER_WITHIN, "it goes on, and the COMMIT arrives").await;
    scene.end(true).await;
}
