//! The only broker is killed, or says nothing: senders are told within five seconds, and nothing piles up.

use std::time::Duration;

use crate::proxy::Way;
use crate::scene::{Scene, outage};

/// An append gives up after 5 s; the rest is a debug build on a busy machine.
const TOLD_WITHIN: Duration = Duration::from_millis(if cfg!(debug_assertions) { 6_500 } else { 5_500 });
/// After the broker is back: the group has to be made anew, and the session of before ends first.
const BACK_WITHIN: Duration = Duration::from_secs(20);

async fn assert_told(scene: &Scene, of: Duration) {
    scene.go_on(of).await;
    let record = scene.world.record();
    let (slowest, told) = (record.slowest_answer, record.errors.get("unavailable").copied());
    println!("  without a broker the slowest answer took {slowest:?}; `unavailable` {told:?} times");
    assert!(told > Some(0) && slowest < TOLD_WITHIN, "{slowest:?}, {:?}", record.errors);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_the_broker_is_killed_and_comes_back() {
    let scene = Scene::begin().await;
    scene.fault();
    scene.cluster.fragile().kill("kafka");
    assert_told(&scene, Duration::from_secs(7)).await;
    scene.cluster.fragile().restart("kafka");
    let back = scene.fault();
    println!("  all are accepted {:?} after the broker is back", back.accepted(&scene.world).await);
    scene.assert_delivers(&back, BACK_WITHIN, "the broker was killed and is back").await;
    scene.end(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_there_twice_when_the_broker_is_silent() {
    let scene = Scene::begin().await;
    scene.fault();
    scene.cluster.fragile().silence_kafka();
    assert_told(&scene, outage(30, 9)).await;
    let back = scene.fault();
    // What was on its way comes now, long after it was given up.
    scene.cluster.fragile().kafka.heal();
    println!("  all are accepted {:?} after the broker speaks again", back.accepted(&scene.world).await);
    scene.assert_delivers(&back, BACK_WITHIN, "the broker was silent").await;

    // Everything arrives, and no answer does: who tries again sends what is in the log already.
    let before = scene.metric("chatd_duplicates_total").await;
    scene.fault();
    scene.cluster.fragile().kafka.set_ways(Way::Open, Way::Swallowed);
    assert_told(&scene, outage(30, 7)).await;
    let back = scene.fault();
    scene.cluster.fragile().kafka.heal();
    scene.assert_delivers(&back, BACK_WITHIN, "the broker was not heard").await;
    let retries = scene.metric("chatd_duplicates_total").await - before;
    println!("  {retries} records came into the log more than once");
    assert!(retries > 0, "nothing was sent twice");
    scene.end(false).await;
}
