//! What all tests of faults share: a cluster at work, and the books at the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::absent::{self, Correspondence};
use crate::books::Books;
use crate::cluster::{BUSY, Cluster};
use crate::database;
use crate::history;
use crate::load::{Load, World};
use crate::node::PATIENCE;
use crate::recovery::Recovery;

/// A process does not grow by more than this in an outage, in MiB: queues are bounded.
pub const GROWTH_MAX: u64 = 48;

/// How often something is repeated, where it is not by `CLUSTER_ROUNDS`.
pub fn rounds(short: usize) -> usize {
    let rounds = std::env::var("CLUSTER_ROUNDS").ok();
    rounds.map_or(short, |rounds| rounds.parse().expect("CLUSTER_ROUNDS is a number"))
}

/// How long an outage lasts: as long as is asked for with `CLUSTER_LONG`, else shortly.
pub fn outage(long: u64, short: u64) -> Duration {
    let is_long = std::env::var("CLUSTER_LONG").is_ok_and(|long| long == "1");
    Duration::from_secs(if is_long { long } else { short })
}

/// Everybody at work.
pub struct Scene {
    pub cluster: Cluster,
    pub world: Arc<World>,
    load: Load,
    letters: Correspondence,
}

impl Scene {
    /// A cluster under load, for long enough that every conversation is under way.
    pub async fn begin() -> Self {
        Self::of(Cluster::start().await).await
    }

    /// The same of a cluster that runs already.
    pub async fn of(mut cluster: Cluster) -> Self {
        let load = cluster.load(BUSY).await;
        let world = Arc::clone(&load.world);
        let letters = Correspondence::begin(&cluster, &world);
        let scene_is_set = world.until("load", |record| record.trace.seen.len() > 4_000);
        scene_is_set.await;
        cluster.remember_memory();
        Self { cluster, world, load, letters }
    }

    /// Forgets the slowest answer so far, and begins to count a recovery.
    pub fn fault(&self) -> Recovery {
        self.world.record().slowest_answer = Duration::ZERO;
        Recovery::begin(&self.world)
    }

    /// Waits until so much more was seen.
    pub async fn more(&self, seen: usize) {
        let enough = self.world.record().trace.seen.len() + seen;
        self.world.until("load", move |record| record.trace.seen.len() > enough).await;
    }

    /// Everybody hears from everybody again, within this since the fault.
    #[track_caller]
    pub fn assert_delivers(
        &self,
        fault: &Recovery,
        within: Duration,
        what: &str,
    ) -> impl Future<Output = ()> {
        let delivered = fault.delivered(&self.world);
        async move {
            let took = delivered.await;
            println!("  {what}: everybody hears from everybody after {took:?}");
            assert!(took < within, "{what}: {took:?}, {within:?} at most");
        }
    }

    /// Waits until a consumer has partitions of its own, and something to write about them.
    pub async fn until_it_works(&self, consumer: usize) {
        let way = &self.cluster.consumes[consumer].postgres;
        let (began, before) = (Instant::now(), way.bytes().0);
        while way.bytes().0 < before + 20_000 {
            assert!(began.elapsed() < PATIENCE, "a consumer gets no work");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A counter over both consumers, by its name.
    pub async fn metric(&self, name: &str) -> u64 {
        let mut sum = 0;
        for node in &self.cluster.consumes {
            let text = history::text(node.address(), "/metrics").await;
            let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
            sum += lines.sum::<u64>();
        }
        sum
    }

    /// Lets things go on for a while: this is no wait for something.
    pub async fn go_on(&self, time: Duration) {
        tokio::time::sleep(time).await;
    }

    /// Everybody goes home; all is well on all processes, and the books are right. `may_repeat_mails`: see there.
    pub async fn end(self, may_repeat_mails: bool) {
        let well = self.cluster.well().await;
        println!("  all processes say that all is well {well:?} after the last fault was over");
        let away = self.letters.end(&self.cluster, &self.world).await;
        let mut trace = self.load.finish().await;
        for (first, address) in [1_000_000, 2_000_000].into_iter().zip(self.cluster.addresses()) {
            history::add_as(&mut trace, first, address).await;
        }
        let mailed = absent::mails(&self.cluster, &away).await;
        let stored = database::history(&self.cluster.database_url).await;
        assert_eq!(database::view(&self.cluster.database_url).await.len(), stored.len());
        println!("  errors told to senders: {:?}", self.world.record().errors);
        println!("  owners: {}", database::ownership(&self.cluster.database_url).await);
        let verified = tokio::task::block_in_place(|| self.cluster.run(&["verify"]));
        println!("  {}", verified.trim().replace('\n', "\n  "));
        self.cluster.assert_memory_within(GROWTH_MAX);
        Books { trace, stored, away, mailed, may_repeat_mails }.assert_kept();
    }
}
