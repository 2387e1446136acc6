//! Faults in an order that nobody thought of, one at a time or two at once, chosen by a seed that is printed.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};

use crate::cluster::GRACE;
use crate::proxy::{Proxy, Then, Way};
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

/// A fault that happens to somebody.
#[derive(Debug, Clone, Copy)]
struct Blow {
    fault: Fault,
    /// The first or the second of its role.
    place: usize,
    /// Whose connections: a node's, or a consumer's.
    is_node: bool,
}

impl Blow {
    fn any(random: &mut StdRng) -> Self {
        let fault = *Fault::ALL.choose(random).unwrap();
        Self { fault, place: random.random_range(0..2), is_node: random.random() }
    }

    /// To a process, of which only one goes at a time.
    fn is_to_a_process(self) -> bool {
        use Fault::{FreezeConsumer, FreezeNode, KillConsumer, KillNode, StopConsumer};
        matches!(self.fault, KillConsumer | KillNode | StopConsumer | FreezeConsumer | FreezeNode)
    }

    /// People on a node that for longer than the grace cannot write down who confirmed what are mailed.
    fn is_short(self) -> bool {
        let is_deaf = matches!(self.fault, Fault::CutPostgres | Fault::HoldPostgres | Fault::LoseCommits);
        matches!(self.fault, Fault::FreezeNode) || (is_deaf && self.is_node)
    }

    fn way(self, scene: &Scene) -> Proxy {
        let cluster = &scene.cluster;
        let node = if self.is_node { &cluster.serves[self.place] } else { &cluster.consumes[self.place] };
        match self.fault {
            Fault::LoseCommits | Fault::CutPostgres | Fault::HoldPostgres => node.postgres.clone(),
            Fault::SwallowRedis | Fault::CutRedis => node.redis.clone(),
            _ => cluster.fragile().kafka.clone(),
        }
    }

    fn fall(self, scene: &mut Scene) {
        let (place, way) = (self.place, self.way(scene));
        let cluster = &mut scene.cluster;
        match self.fault {
            Fault::KillConsumer => cluster.consumes[place].kill(),
            Fault::KillNode => cluster.serves[place].kill(),
            Fault::StopConsumer => {
                tokio::task::block_in_place(|| cluster.consumes[place].stop_in_trouble());
            }
            Fault::FreezeConsumer => cluster.consumes[place].signal("STOP"),
            Fault::FreezeNode => cluster.serves[place].signal("STOP"),
            Fault::LoseCommits => way.lose_commits(3, if place == 0 { Then::Cut } else { Then::Silence }),
            Fault::CutPostgres | Fault::CutRedis | Fault::CutKafka => way.refuse(),
            Fault::HoldPostgres | Fault::HoldKafka => way.set(Way::Held),
            Fault::SwallowRedis => way.set(Way::Swallowed),
            Fault::SwallowKafkasAnswers => way.set_ways(Way::Open, Way::Swallowed),
        }
    }

    fn is_over(self, scene: &mut Scene) {
        let place = self.place;
        self.way(scene).heal();
        let cluster = &mut scene.cluster;
        match self.fault {
            Fault::KillConsumer | Fault::StopConsumer => {
                tokio::task::block_in_place(|| cluster.consumes[place].start());
            }
            Fault::KillNode => {
                tokio::task::block_in_place(|| cluster.serves[place].start());
                scene.world.found_at(place, cluster.serves[place].address());
            }
            Fault::FreezeConsumer => cluster.consumes[place].signal("CONT"),
            Fault::FreezeNode => cluster.serves[place].signal("CONT"),
            _ => {}
        }
    }
}

/// One fault, or two that overlap, the one of a process last: it finds the services well when it starts again.
fn some_blows(random: &mut StdRng) -> Vec<Blow> {
    let one = Blow::any(random);
    let other = Blow::any(random);
    if random.random() || (one.is_to_a_process() && other.is_to_a_process()) {
        return vec![one];
    }
    if one.is_to_a_process() { vec![other, one] } else { vec![one, other] }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_whatever_happens_in_whatever_order() {
    let seed = std::env::var("CLUSTER_SEED").map_or_else(|_| rand::random(), |seed| seed.parse().unwrap());
    println!("  CLUSTER_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let mut scene = Scene::begin().await;
    for _ in 0..rounds(2) {
        let blows = some_blows(&mut random);
        let is_short = blows.iter().any(|blow| blow.is_short());
        let longest = if is_short { GRACE.as_millis() / 3 } else { 9_000 };
        let time = Duration::from_millis(random.random_range(50..u64::try_from(longest).unwrap()));
        for blow in &blows {
            blow.fall(&mut scene);
            scene.go_on(time / 2).await;
        }
        for blow in &blows {
            blow.is_over(&mut scene);
        }
        let back = scene.fault();
        let names: Vec<_> = blows.iter().map(|blow| (blow.fault, blow.place, blow.is_node)).collect();
        scene.assert_delivers(&back, BACK_WITHIN, &format!("{names:?} for about {time:?}")).await;
    }
    scene.end(true).await;
}
