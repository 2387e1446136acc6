//! The task of a member: performs the steps of [`Membership`], one call after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::Shared;
use super::calls::{CallError, JoinAnswer, Names};
use super::membership::{Membership, Remedy, Step};
use crate::domain::Partition;
use crate::pipeline::kafka::cluster::Cluster;
use crate::pipeline::kafka::connection::Connection;
use crate::pipeline::kafka::error::KafkaError;

/// A member says so often that it lives; that is also how soon it learns that somebody left, and the owner of
/// a process that stops has to be followed by another within 2 s.
const BEAT_EVERY: Duration = Duration::from_millis(500);
/// Offsets are committed so often where they moved.
const COMMIT_EVERY: Duration = Duration::from_secs(1);
/// How long the owner may take to let go: well below the session, so that the member is not missed meanwhile,
/// and so that session and drain together stay below the 10 s within which a dead member is followed.
const DRAIN_PATIENCE: Duration = Duration::from_millis(2500);
/// How long leaving may take in all.
const LEAVE_PATIENCE: Duration = Duration::from_secs(2);
/// The pause after a second failure in a row grows from the first to the last of these.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Trouble that passes sooner is nobody's concern: a coordinator takes some seconds to move or to start.
const TROUBLE_TOLD_AFTER: Duration = Duration::from_secs(5);

/// Failures in a row.
struct Trouble {
    since: Instant,
    failures: u32,
    told: bool,
}

pub(super) struct Member {
    cluster: Arc<Cluster>,
    names: Names,
    shared: Arc<Shared>,
    membership: Membership,
    /// Not while a call is under way: one that is given up leaves its connection unusable.
    coordinator: Option<Connection>,
    next_beat: Instant,
    next_commit: Instant,
    trouble: Option<Trouble>,
}

impl Member {
    pub(super) fn new(
        cluster: Arc<Cluster>,
        names: Names,
        partitions: Partition,
        shared: Arc<Shared>,
    ) -> Self {
        let now = Instant::now();
        let membership = Membership::new(partitions);
        Self {
            cluster,
            names,
            shared,
            membership,
            coordinator: None,
            next_beat: now,
            next_commit: now,
            trouble: None,
        }
    }

    /// Lives until the process leaves the group.
    pub(super) async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        tokio::select! {
            () = shared.leaving.cancelled() => {}
            () = self.live() => {}
        }
        self.shared.assign(Vec::new());
        match timeout(LEAVE_PATIENCE, self.part()).await {
            Ok(Ok(())) => tracing::info!(group = self.names.group, "left the consumer group"),
            Ok(Err(error)) => {
                tracing::warn!(%error, group = self.names.group, "the consumer group could not be left: others \
                                take over after 6 s");
            }
            Err(_) => tracing::warn!(
                group = self.names.group,
                "the consumer group could not be left within 2 s: others take over after 6 s"
            ),
        }
    }

    async fn live(&mut self) {
        loop {
            let pause = match self.step().await {
                Ok(()) => continue,
                Err(error) => self.recover(&error),
            };
            sleep(pause).await;
        }
    }

    async fn step(&mut self) -> Result<(), CallError> {
        match self.membership.next() {
            Step::Drain => self.drain().await,
            Step::Join(candidate) => {
                let coordinator = self.connected().await?;
                let answer = self.names.join(&coordinator, &candidate).await;
                self.coordinator = Some(coordinator);
                match answer? {
                    JoinAnswer::Identified(id) => self.membership.identified(id),
                    JoinAnswer::Joined(joined) => self.membership.joined(joined),
                }
            }
            Step::Sync { id, generation, plan } => {
                let coordinator = self.connected().await?;
                let answer = self.names.sync(&coordinator, &id, generation, &plan).await;
                self.coordinator = Some(coordinator);
                self.synced(answer?);
            }
            Step::Beat { id, generation } => {
                sleep_until(self.next_beat).await;
                let coordinator = self.connected().await?;
                let answer = self.names.heartbeat(&coordinator, &id, generation).await;
                self.coordinator = Some(coordinator);
                answer?;
                self.next_beat = Instant::now() + BEAT_EVERY;
                self.recovered();
                if self.next_commit <= Instant::now() {
                    self.next_commit = Instant::now() + COMMIT_EVERY;
                    self.commit(&id, generation).await?;
                }
            }
        }
        Ok(())
    }

    fn synced(&mut self, partitions: Vec<Partition>) {
        self.membership.synced(partitions);
        self.next_beat = Instant::now() + BEAT_EVERY;
        self.shared.commits(|commits| commits.doubt());
        let partitions = self.membership.had().to_vec();
        tracing::info!(
            group = self.names.group,
            generation = self.membership.generation(),
            ?partitions,
            "the consumer group has a new arrangement"
        );
        self.shared.assign(partitions);
    }

    /// Has the owner let go of what it has, and waits for that, but not for long.
    async fn drain(&mut self) {
        if self.membership.had().is_empty() {
            self.membership.drained();
            return;
        }
        let round = self.shared.assign(Vec::new());
        let mut drained = self.shared.drained.subscribe();
        let wait = drained.wait_for(|known| *known >= round);
        if timeout(DRAIN_PATIENCE, wait).await.is_err() {
            tracing::warn!(
                group = self.names.group,
                "the owner did not let go within 2.5 s and may be fenced"
            );
        }
        if let Some(id) = self.membership.id().map(str::to_owned) {
            // For the tools that show the lag; whoever takes over commits anyway.
            if let Err(error) = self.commit(&id, self.membership.generation()).await {
                tracing::debug!(%error, "the last offsets were not committed");
            }
        }
        self.membership.drained();
    }

    /// Commits what moved. Only a failed call counts: a refusal is told by the next beat as well.
    async fn commit(&mut self, id: &str, generation: i32) -> Result<(), CallError> {
        let due = self.shared.commits(|commits| commits.due(self.membership.had()));
        if due.is_empty() {
            return Ok(());
        }
        let coordinator = self.connected().await?;
        let answer = self.names.commit(&coordinator, id, generation, &due).await;
        self.coordinator = Some(coordinator);
        match answer {
            Ok(()) => self.shared.commits(|commits| commits.committed(&due)),
            Err(error @ KafkaError::Refused { .. }) => tracing::debug!(%error, "offsets were not committed"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The connection to the coordinator, which is found anew where there is none.
    async fn connected(&mut self) -> Result<Connection, CallError> {
        if let Some(coordinator) = self.coordinator.take()
            && !coordinator.is_over()
        {
            return Ok(coordinator);
        }
        let any = self.cluster.any().await?;
        let address = self.names.find_coordinator(&any).await?;
        Ok(self.cluster.open_at(&address).await?)
    }

    /// What a failure asks for, and the pause before the next step.
    fn recover(&mut self, error: &CallError) -> Duration {
        let remedy = match error {
            CallError::Kafka(KafkaError::Refused { code, .. }) => self.membership.refused(*code),
            CallError::Wire(_) => Remedy::Retry,
            CallError::Kafka(_) => Remedy::Find,
        };
        match remedy {
            Remedy::Proceed => return Duration::ZERO,
            Remedy::Retry => {}
            Remedy::Find => self.coordinator = None,
        }
        let trouble =
            self.trouble.get_or_insert_with(|| Trouble { since: Instant::now(), failures: 0, told: false });
        trouble.failures += 1;
        if !trouble.told && trouble.since.elapsed() >= TROUBLE_TOLD_AFTER {
            trouble.told = true;
            tracing::warn!(
                %error,
                group = self.names.group,
                "the consumer group is in trouble; what this process reads stays as it is until it is over"
            );
        }
        // The first failure may be no more than a connection that ended.
        match trouble.failures {
            1 => Duration::ZERO,
            failures => (PAUSE_MIN * 2u32.pow((failures - 2).min(6))).min(PAUSE_MAX),
        }
    }

    fn recovered(&mut self) {
        if self.trouble.take().is_some_and(|trouble| trouble.told) {
            tracing::info!(group = self.names.group, "the consumer group is well again");
        }
    }

    /// Commits what moved and leaves.
    async fn part(&mut self) -> Result<(), CallError> {
        let Some(id) = self.membership.id().map(str::to_owned) else { return Ok(()) };
        if let Err(error) = self.commit(&id, self.membership.generation()).await {
            tracing::debug!(%error, "the last offsets were not committed");
        }
        let coordinator = self.connected().await?;
        Ok(self.names.leave(&coordinator, &id).await?)
    }
}
