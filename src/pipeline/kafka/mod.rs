//! The message log in Kafka, over one small client of its own: a connection a broker for writing, one for
//! reading, one for questions.
//!
//! **Writing.** Records wait in a bounded queue; one request at a time goes to each broker, with everything that
//! waits for the partitions it leads, and is answered once all in-sync replicas have it. A record is answered
//! within 5 s, whatever the brokers do. What a broker did not answer is sent again, perhaps to the partition's
//! next leader, in its old order; it may then be stored twice, which its id tells.
//!
//! **Reading.** One fetch at a time from each broker, of what all in-sync replicas have.
//!
//! **Which log it is** the topic's id says. A topic that was deleted and made anew is not written to and not
//! read from: brokers since Kafka 4.0 refuse that themselves, as requests carry the id; before the answer of an
//! older one counts, the id is compared again where offsets do not go on as they should.
//!
//! Metrics: histogram `chatd_log_commit_records` (records a request), histogram `chatd_log_commit_seconds` (the
//! time from its start to its answer), counter `chatd_log_appended_total` (records made durable).

mod ahead;
mod assignor;
mod batches;
mod cluster;
mod connection;
mod ends;
mod error;
#[cfg(test)]
mod fake;
mod fetcher;
mod group;
mod lane;
mod lookup;
mod producer;
mod promise;
mod queue;
mod security;
mod settings;
mod tempo;
mod topic;

use std::sync::Arc;

use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, ready};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};

pub use error::KafkaError;
pub use promise::{Finding, Gravity, TopicConfig, TopicFacts, findings};
pub use settings::{KafkaSettings, SaslMechanism, SaslSettings};
pub use topic::{BrokerFacts, ClusterFacts, TopicError, describe, ensure_topic};

use super::{
    Appending, Assignment, Bounds, Entry, EventLog, EventSource, FetchLimits, Fetched, Generation, LogError,
    LogIdentity, LogRecord,
};
use crate::domain::{Offset, Partition};
use cluster::Cluster;
use ends::Ends;
use fetcher::Fetcher;
use group::{Group, Names};
use lookup::Lookup;
use producer::Producer;
use queue::{Capacity, Queue};
use security::Security;

const COMMIT_RECORDS: &str = "chatd_log_commit_records";
const COMMIT_SECONDS: &str = "chatd_log_commit_seconds";
const APPENDED_TOTAL: &str = "chatd_log_appended_total";

/// The log of many processes. Its tasks end when it is dropped.
pub struct KafkaLog {
    identity: LogIdentity,
    queue: Arc<Queue>,
    fetcher: Fetcher,
    lookup: Arc<Lookup>,
    group: Group,
    _ends: DropGuard,
}

impl KafkaLog {
    /// Learns the topic from the cluster. Takes some seconds at most for each broker that does not answer.
    pub async fn connect(settings: KafkaSettings) -> Result<Arc<Self>, KafkaError> {
        let security = Security::new(&settings)?;
        let connection = cluster::reach(&settings, &security).await?;
        let cluster = Cluster::connect(&settings, security, connection).await?;
        let topology = cluster.topology();
        let identity = LogIdentity { id: topology.topic_id, partitions: topology.partitions() };
        let ends = Arc::new(Ends::new(identity.partitions));
        let capacity = Capacity { records: settings.queue_records_max, bytes: settings.queue_bytes_max };
        let queue = Arc::new(Queue::new(identity.partitions, capacity));
        let producer = Producer::new(queue.clone(), cluster.clone(), ends.clone(), settings.linger);
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = stopped.cancelled() => {}
                () = producer.run() => {}
            }
        });
        let lookup = Arc::new(Lookup::new(cluster.clone(), ends.clone()));
        let names = Names { group: settings.group, topic: settings.topic };
        Ok(Arc::new(Self {
            identity,
            queue,
            group: Group::new(cluster.clone(), names, identity.partitions),
            fetcher: Fetcher::new(cluster, ends, lookup.clone(), settings.gather),
            lookup,
            _ends: stop.drop_guard(),
        }))
    }
}

impl EventLog for KafkaLog {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn generation(&self) -> Generation {
        self.queue.generation()
    }

    fn append(&self, entry: Entry, generation: Generation) -> Appending {
        match self.queue.push(entry, generation, Instant::now()) {
            Err(error) => ready(Err(error)).boxed(),
            Ok(answered) => async move {
                let ended = || Err(LogError::Unavailable("its producer has ended".into()));
                answered.await.unwrap_or_else(|_| ended())
            }
            .boxed(),
        }
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        self.queue.close().boxed()
    }
}

#[async_trait]
impl EventSource for KafkaLog {
    fn identity(&self) -> LogIdentity {
        self.identity
    }

    fn assigned(&self) -> watch::Receiver<Assignment> {
        self.group.assigned()
    }

    async fn drained(&self, round: u64) {
        self.group.drained(round);
    }

    async fn leave(&self) {
        self.group.leave().await;
    }

    async fn fetch(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError> {
        self.fetcher.fetch(from, limits).await
    }

    async fn bounds(&self) -> Result<Vec<Bounds>, LogError> {
        let all: Vec<Partition> = (0..self.identity.partitions).collect();
        Ok(self.lookup.bounds(&all).await?)
    }

    async fn record_at(&self, partition: Partition, offset: Offset) -> Result<Option<LogRecord>, LogError> {
        Ok(self.lookup.record_at(partition, offset).await?)
    }

    /// Kafka drops what its own retention allows; its tools learn how far the readers are.
    async fn forget(&self, below: &[(Partition, Offset)]) -> Result<(), LogError> {
        self.group.reached(below);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
