//! Questions about the log that are not asked all the time: what it holds, and single records of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::try_join_all;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::list_offsets_request::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsTopic,
};
use kafka_protocol::messages::{BrokerId, ListOffsetsResponse};
use tokio::time::{Duration, Instant, sleep, timeout_at};

use super::batches;
use super::cluster::Cluster;
use super::connection::Connection;
use super::ends::Ends;
use super::error::KafkaError;
use crate::domain::{Offset, Partition};
use crate::pipeline::{Bounds, LogRecord};

/// How long all attempts of a question may take together.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long a broker may take for one.
const ATTEMPT: Duration = Duration::from_secs(2);
/// The pause before the next attempt.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Kafka's name for the first offset.
const EARLIEST: i64 = -2;
/// Kafka's name for the offset after the last durable one.
const LATEST: i64 = -1;
/// A client, not a broker that follows.
const CLIENT: BrokerId = BrokerId(-1);

/// Asks, over connections of its own: the readers' may be waiting for records.
pub(super) struct Lookup {
    cluster: Arc<Cluster>,
    ends: Arc<Ends>,
    connections: Mutex<HashMap<BrokerId, Arc<Connection>>>,
}

impl Lookup {
    pub(super) fn new(cluster: Arc<Cluster>, ends: Arc<Ends>) -> Self {
        Self { cluster, ends, connections: Mutex::default() }
    }

    /// What each of these partitions holds, in their order.
    pub(super) async fn bounds(&self, of: &[Partition]) -> Result<Vec<Bounds>, KafkaError> {
        let found = self.with_patience(|| self.ask_bounds(of)).await?;
        for (partition, bounds) in of.iter().zip(&found) {
            self.ends.reach(*partition, bounds.end);
        }
        Ok(found)
    }

    /// One record; none where the log does not hold that offset.
    pub(super) async fn record_at(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<LogRecord>, KafkaError> {
        if offset < 0 || partition >= self.cluster.topology().partitions() {
            return Ok(None);
        }
        self.with_patience(|| self.ask_record(partition, offset)).await
    }

    /// Asks again, with what the cluster says by then, until the time is up.
    async fn with_patience<T, F>(&self, ask: impl Fn() -> F) -> Result<T, KafkaError>
    where
        F: Future<Output = Result<T, KafkaError>>,
    {
        let deadline = Instant::now() + PATIENCE;
        let mut failure = KafkaError::Timeout { address: "Kafka".into() };
        loop {
            if self.cluster.topology().is_foreign {
                return Err(KafkaError::Foreign(self.cluster.topic().0.to_string()));
            }
            match timeout_at(deadline, ask()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(KafkaError::Malformed(what))) => return Err(KafkaError::Malformed(what)),
                Ok(Err(error)) => failure = error,
                Err(_) => return Err(failure),
            }
            self.cluster.is_stale();
            if Instant::now() + RETRY_PAUSE >= deadline {
                return Err(failure);
            }
            sleep(RETRY_PAUSE).await;
        }
    }

    async fn ask_bounds(&self, of: &[Partition]) -> Result<Vec<Bounds>, KafkaError> {
        let topology = self.cluster.topology();
        let mut led: HashMap<BrokerId, Vec<Partition>> = HashMap::new();
        for &partition in of {
            let leader = topology.leader(partition).ok_or(KafkaError::NoLeader(number(partition)?))?;
            led.entry(leader).or_default().push(partition);
        }
        let asked = led.into_iter().map(|(broker, partitions)| self.ask_broker(broker, partitions));
        let found: HashMap<Partition, Bounds> = try_join_all(asked).await?.into_iter().flatten().collect();
        let missing = || KafkaError::malformed("an answer without one of its partitions");
        of.iter().map(|partition| found.get(partition).copied().ok_or_else(missing)).collect()
    }

    async fn ask_broker(
        &self,
        broker: BrokerId,
        partitions: Vec<Partition>,
    ) -> Result<HashMap<Partition, Bounds>, KafkaError> {
        let connection = self.connection(broker).await?;
        let (earliest, latest) = (self.offsets(&partitions, EARLIEST)?, self.offsets(&partitions, LATEST)?);
        // The start is asked for first: it never goes back, and so lies below the end.
        let (earliest, latest) =
            futures_util::try_join!(connection.call(&earliest, ATTEMPT), connection.call(&latest, ATTEMPT))?;
        let (starts, ends) = (offsets_of(&earliest)?, offsets_of(&latest)?);
        Ok(starts
            .into_iter()
            .filter_map(|(partition, start)| Some((partition, Bounds { start, end: *ends.get(&partition)? })))
            .collect())
    }

    fn offsets(&self, partitions: &[Partition], timestamp: i64) -> Result<ListOffsetsRequest, KafkaError> {
        let partition = |partition: &Partition| {
            let index = number(*partition)?;
            Ok(ListOffsetsPartition::default().with_partition_index(index).with_timestamp(timestamp))
        };
        let partitions: Result<Vec<_>, KafkaError> = partitions.iter().map(partition).collect();
        let topic =
            ListOffsetsTopic::default().with_name(self.cluster.topic().clone()).with_partitions(partitions?);
        Ok(ListOffsetsRequest::default().with_replica_id(CLIENT).with_topics(vec![topic]))
    }

    async fn ask_record(
        &self,
        partition: Partition,
        offset: Offset,
    ) -> Result<Option<LogRecord>, KafkaError> {
        let topology = self.cluster.topology();
        let leader = topology.leader(partition).ok_or(KafkaError::NoLeader(number(partition)?))?;
        let connection = self.connection(leader).await?;
        // A broker sends a whole batch, however little is asked for.
        let wanted = FetchPartition::default()
            .with_partition(number(partition)?)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1);
        let topic = FetchTopic::default()
            .with_topic(self.cluster.topic().clone())
            .with_topic_id(topology.topic_id)
            .with_partitions(vec![wanted]);
        let request = FetchRequest::default().with_max_bytes(1).with_topics(vec![topic]);
        let answer = connection.call(&request, ATTEMPT).await?;
        KafkaError::check("a record", answer.error_code)?;
        let found = answer.responses.into_iter().flat_map(|topic| topic.partitions).next();
        let found = found.ok_or_else(|| KafkaError::malformed("an answer without its partition"))?;
        if ResponseError::try_from_code(found.error_code) == Some(ResponseError::OffsetOutOfRange) {
            return Ok(None);
        }
        KafkaError::check("a record", found.error_code)?;
        let records = batches::decode(found.records.unwrap_or_default(), offset)?.records;
        Ok(records.into_iter().find(|record| record.offset == offset))
    }

    async fn connection(&self, broker: BrokerId) -> Result<Arc<Connection>, KafkaError> {
        let known = self.lock().get(&broker).filter(|connection| !connection.is_over()).cloned();
        if let Some(known) = known {
            return Ok(known);
        }
        let opened = Arc::new(self.cluster.open(broker).await?);
        self.lock().insert(broker, Arc::clone(&opened));
        Ok(opened)
    }

    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, HashMap<BrokerId, Arc<Connection>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A partition as Kafka numbers it.
pub(super) fn number(partition: Partition) -> Result<i32, KafkaError> {
    i32::try_from(partition).map_err(KafkaError::malformed)
}

fn offsets_of(answer: &ListOffsetsResponse) -> Result<HashMap<Partition, Offset>, KafkaError> {
    let partitions = answer.topics.iter().flat_map(|topic| &topic.partitions);
    partitions
        .map(|partition| {
            KafkaError::check("the offsets of a partition", partition.error_code)?;
            let index = Partition::try_from(partition.partition_index).map_err(KafkaError::malformed)?;
            Ok((index, partition.offset))
        })
        .collect()
}
