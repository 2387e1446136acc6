//! Faults in an order that nobody thought of: one after the other, chosen by a seed that is printed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::GRACE;
use crate::proxy::{Then, Way};
use crate::scene::{Scene, rounds};

/// After each fault, whatever it was: a session of the group, the time-outs of the database, and a repair.
const BACK_WITHIN: Duration = Duration::from_secs(25);

/// What may happen.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillConsumer,
    KillNode,
    StopConsumer,
    FreezeConsumer,
    FreezeNode,
    LoseCommits,
    CutPostgres,
    HoldPostgres,
    SwallowRedis,
    CutRedis,
    HoldKafka,
    SwallowKafkasAnswers,
    CutKafka,
}

impl Fault {
    const ALL: [Self; 13] = [
        Self::KillConsumer,
        Self::KillNode,
        Self::StopConsumer,
        Self::FreezeConsumer,
        Self::FreezeNode,
        Self::LoseCommits,
        Self::CutPostgres,
        Self::HoldPostgres,
        Self::SwallowRedis,
        Self::CutRedis,
        Self::HoldKafka,
        Self::SwallowKafkasAnswers,
        Self::CutKafka,
    ];
}

/// Seconds that a fault lasts.
fn some_time(random: &mut StdRng) -> Duration {
    Duration::from_millis(random.random_range(50..9_000))
}

/// Does it, and undoes it after a while.
async fn befall(scene: &mut Scene, fault: Fault, place: usize, time: Duration) {
    let is_node = time.subsec_millis().is_multiple_of(2);
    // People on a node that cannot write down for longer than the grace who confirmed what are mailed.
    let is_deaf = matches!(fault, Fault::CutPostgres | Fault::HoldPostgres | Fault::LoseCommits);
    let time = match fault {
        Fault::FreezeNode => time.min(GRACE / 3),
        _ if is_deaf && is_node => time.min(GRACE / 3),
        _ => time,
    };
    let way = {
        let cluster = &scene.cluster;
        let node = if is_node { &cluster.serves[place] } else { &cluster.consumes[place] };
        let kafka = || cluster.fragile().kafka.clone();
        match fault {
            Fault::LoseCommits | Fault::CutPostgres | Fault::HoldPostgres => node.postgres.clone(),
            Fault::SwallowRedis | Fault::CutRedis => node.redis.clone(),
            _ => kafka(),
        }
    };
    match fault {
        Fault::KillConsumer => scene.cluster.consumes[place].kill(),
        Fault::KillNode => scene.cluster.serves[place].kill(),
        Fault::StopConsumer => {
            tokio::task::block_in_place(|| scene.cluster.consumes[place].stop());
        }
        Fault::FreezeConsumer => scene.cluster.consumes[place].signal("STOP"),
        Fault::FreezeNode => scene.cluster.serves[place].signal("STOP"),
        Fault::LoseCommits => way.lose_commits(3, if place == 0 { Then::Cut } else { Then::Silence }),
        Fault::CutPostgres | Fault::CutRedis | Fault::CutKafka => way.refuse(),
        Fault::HoldPostgres | Fault::HoldKafka => way.set(Way::Held),
        Fault::SwallowRedis => way.set(Way::Swallowed),
        Fault::SwallowKafkasAnswers => way.set_ways(Way::Open, Way::Swallowed),
    }
    scene.go_on(time).await;
    way.heal();
    match fault {
        Fault::KillConsumer | Fault::StopConsumer => {
            tokio::task::block_in_place(|| scene.cluster.consumes[place].start());
        }
        Fault::KillNode => {
            tokio::task::block_in_place(|| scene.cluster.serves[place].start());
            scene.world.found_at(place, scene.cluster.serves[place].address());
        }
        Fault::FreezeConsumer => scene.cluster.consumes[place].signal("CONT"),
        Fault::FreezeNode => scene.cluster.serves[place].signal("CONT"),
        _ => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_happens_in_whatever_order() {
    let seed = std::env::var("CLUSTER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("  CLUSTER_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::begin().await;
    for _ in 0..rounds(2) {
        let fault = *Fault::ALL.choose(&mut random).unwrap();
        let (place, time) = (random.random_range(0..2), some_time(&mut random));
        befall(&mut scene, fault, place, time).await;
        let back = scene.fault();
        scene.assert_delivers(&back, BACK_WITHIN, &format!("{fault:?} of {place} for {time:?}")).await;
    }
    scene.end(true).await;
}
