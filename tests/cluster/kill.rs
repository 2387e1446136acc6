//! `kill -9` in the middle of work, again and again: of consumers, and of the nodes that people are connected to.

use std::time::Duration;

use crate::proxy::Then;
use crate::scene::{Scene, rounds};

/// The other consumer has taken over: the group finds out within 6 s, and everybody has what was missed.
const TAKEN_OVER_WITHIN: Duration = Duration::from_secs(10);
/// Clients come to the other node by themselves.
const MOVED_WITHIN: Duration = Duration::from_secs(5);

/// The moment at which a consumer dies.
async fn moment(scene: &Scene, consumer: usize, round: usize) -> &'static str {
    scene.until_it_works(consumer).await;
    let way = &scene.cluster.consumes[consumer].postgres;
    match round % 4 {
        0 => {
            way.hold_at_commit().await;
            "before its COMMIT arrived"
        }
        1 => {
            let before = way.lost_commits();
            way.lose_commits(1, Then::Silence);
            while way.lost_commits() == before {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            "after its COMMIT, and before anybody was told"
        }
        2 => {
            scene.more(1_500).await;
            "at any moment"
        }
        _ => "at work for the first time",
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_repeated_or_reordered_by_kill_9() {
    let mut scene = Scene::begin().await;
    for round in 0..rounds(2) {
        let consumer = round % 2;
        let when = moment(&scene, consumer, round).await;
        let fault = scene.fault();
        scene.cluster.consumes[consumer].kill();
        scene.assert_delivers(&fault, TAKEN_OVER_WITHIN, &format!("kill -9 of a consumer {when}")).await;
        scene.cluster.consumes[consumer].postgres.heal();
        let back = scene.fault();
        let took = tokio::task::block_in_place(|| scene.cluster.consumes[consumer].start());
        scene.assert_delivers(&back, TAKEN_OVER_WITHIN, &format!("it is back within {took:?}")).await;
    }
    for node in 0..2 {
        scene.more(600).await;
        let fault = scene.fault();
        scene.cluster.serves[node].kill();
        scene.assert_delivers(&fault, MOVED_WITHIN, "kill -9 of a node").await;
        let took = tokio::task::block_in_place(|| scene.cluster.serves[node].start());
        scene.world.found_at(node, scene.cluster.serves[node].address());
        println!("  it is back within {took:?}");
    }
    scene.end(true).await;
}
