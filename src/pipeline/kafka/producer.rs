//! The one who writes: a task that sends what waits, one request at a time to each broker, for all partitions
//! that the broker leads.
//!
//! An idle broker gets a record at once. Under load its requests begin a linger apart, so that what comes
//! meanwhile shares the next one. What a broker did not take, or did not answer, goes to whoever leads the
//! partition next, in its old order, until its time is up; sent twice it may be stored twice, and its id tells.
//! No request overtakes another of its partition: there is just one, and a connection that failed is not used
//! again.

use std::collections::HashMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::produce_request::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_protocol::messages::{BrokerId, ProduceResponse};
use tokio::time::{Duration, Instant, sleep_until, timeout_at};

use super::cluster::{Cluster, Topology};
use super::connection::Connection;
use super::ends::Ends;
use super::error::KafkaError;
use super::queue::{Batch, Queue};
use super::tempo::Tempo;
use super::{APPENDED_TOTAL, COMMIT_RECORDS, COMMIT_SECONDS, batches};
use crate::domain::{Offset, Partition, Timestamp};
use crate::pipeline::LogError;

/// How long a broker may take for one request: long for a broker, and short enough to try another in time.
const ATTEMPT: Duration = Duration::from_secs(3);
/// How long a broker may wait for its replicas, so that its answer comes before the attempt ends.
const REPLICAS_MS: i32 = 2_500;
/// The pause before a partition is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// From this version on a request names the topic by its id.
const BY_ID: i16 = 13;
/// Every in-sync replica has it before the answer.
const ALL_REPLICAS: i16 = -1;

/// What the task owns.
pub(super) struct Producer {
    pub(super) queue: Arc<Queue>,
    pub(super) cluster: Arc<Cluster>,
    pub(super) ends: Arc<Ends>,
    tempo: Tempo,
    /// How far apart the requests to a broker begin.
    linger: Duration,
    /// The state of the cluster that was looked at last, and the partitions of each leader in it.
    followed: Option<Arc<Topology>>,
    led: Led,
    lanes: HashMap<BrokerId, Lane>,
    flights: FuturesUnordered<BoxFuture<'static, Landing>>,
    /// The partition that the next request begins with, so that a busy one does not starve the others.
    turn: usize,
}

/// Partitions by their leaders.
type Led = Vec<(Option<BrokerId>, Vec<Partition>)>;

/// The way to one broker.
struct Lane {
    /// None before the first request, after a failure, and while a request is under way.
    connection: Option<Connection>,
    is_busy: bool,
    /// When the next request may begin.
    next_at: Instant,
}

/// The offset of a batch, or why it has none.
type Placed = Result<Offset, KafkaError>;

/// How a request ended.
struct Landing {
    broker: BrokerId,
    /// The connection, where it can be used again.
    connection: Option<Connection>,
    batches: Vec<Batch>,
    began: Instant,
    answer: Result<HashMap<Partition, Placed>, KafkaError>,
}

/// However the task ends, nobody waits for it any longer.
struct Abandon(Arc<Queue>);

impl Drop for Abandon {
    fn drop(&mut self) {
        self.0.abandon();
    }
}

impl Producer {
    pub(super) fn new(queue: Arc<Queue>, cluster: Arc<Cluster>, ends: Arc<Ends>, linger: Duration) -> Self {
        let tempo = Tempo::new(linger / 5, linger, Instant::now());
        let (lanes, flights) = (HashMap::new(), FuturesUnordered::new());
        let (linger, led) = (linger / 5, Vec::new());
        Self { queue, cluster, ends, tempo, linger, followed: None, led, lanes, flights, turn: 0 }
    }

    /// Runs until the queue is closed and everything is answered.
    pub(super) async fn run(mut self) {
        let _abandon = Abandon(self.queue.clone());
        let queue = self.queue.clone();
        let mut topology = self.cluster.watch();
        loop {
            let now = Instant::now();
            let again_at = self.send(now);
            if queue.is_done() {
                return;
            }
            tokio::select! {
                Some(landing) = self.flights.next() => self.land(landing),
                () = queue.wake.notified() => {}
                _ = topology.changed() => {}
                () = sleep_until(again_at.unwrap_or(now)), if again_at.is_some() => {}
            }
        }
    }

    /// Sends what can be sent. Answers when there may be something to do without another event.
    fn send(&mut self, now: Instant) -> Option<Instant> {
        let topology = self.cluster.topology();
        if topology.is_foreign {
            self.queue.fail_all(&KafkaError::Foreign(self.cluster.topic().0.to_string()).into());
        }
        let mut again_at = self.queue.expire(now);
        let mut wait_for = |at: Instant| again_at = Some(again_at.map_or(at, |known| known.min(at)));
        self.follow(&topology);
        let mut launching = Vec::new();
        for (leader, partitions) in &self.led {
            let free = Lane { connection: None, is_busy: false, next_at: now };
            let lane = leader.map(|broker| self.lanes.entry(broker).or_insert(free));
            if lane.as_ref().is_some_and(|lane| lane.is_busy) {
                continue;
            }
            let ready = self.queue.ready(partitions.iter().copied(), now);
            ready.retry_at.into_iter().for_each(&mut wait_for);
            if ready.partitions.is_empty() {
                continue;
            }
            match (leader, lane) {
                (Some(broker), Some(lane)) if lane.next_at <= now => {
                    lane.next_at = now + self.linger;
                    lane.is_busy = true;
                    launching.push((*broker, lane.connection.take(), ready.partitions));
                }
                (_, Some(lane)) => wait_for(lane.next_at),
                (_, None) => {
                    self.cluster.is_stale();
                    wait_for(now + RETRY_PAUSE);
                }
            }
        }
        for (broker, connection, partitions) in launching {
            self.launch(broker, connection, partitions, now);
        }
        again_at
    }

    /// Sorts the partitions by their leaders, and lets go of brokers that lead none.
    fn follow(&mut self, topology: &Arc<Topology>) {
        if self.followed.as_ref().is_some_and(|known| Arc::ptr_eq(known, topology)) {
            return;
        }
        let mut led: HashMap<Option<BrokerId>, Vec<Partition>> = HashMap::new();
        for partition in 0..topology.partitions() {
            led.entry(topology.leader(partition)).or_default().push(partition);
        }
        self.lanes.retain(|broker, lane| lane.is_busy || led.contains_key(&Some(*broker)));
        (self.followed, self.led) = (Some(Arc::clone(topology)), led.into_iter().collect());
    }

    fn launch(
        &mut self,
        broker: BrokerId,
        connection: Option<Connection>,
        mut partitions: Vec<Partition>,
        now: Instant,
    ) {
        let first = self.turn % partitions.len().max(1);
        partitions.rotate_left(first);
        self.turn = self.turn.wrapping_add(1);
        let batches = self.queue.take(&partitions);
        let oldest = batches.iter().filter_map(|batch| batch.records.first()).map(|record| record.deadline);
        let deadline = oldest.min().map_or(now + ATTEMPT, |oldest| oldest.min(now + ATTEMPT));
        let (cluster, ends) = (self.cluster.clone(), self.ends.clone());
        self.flights.push(Box::pin(async move {
            let flight = Flight { cluster: &cluster, ends: &ends, broker, deadline };
            let (connection, answer) = match flight.connect(connection).await {
                Ok(connection) => {
                    let answer = flight.ask(&connection, &batches).await;
                    (Some(connection).filter(|_| answer.is_ok()), answer)
                }
                Err(error) => (None, Err(error)),
            };
            Landing { broker, connection, batches, began: now, answer }
        }));
    }

    fn land(&mut self, landing: Landing) {
        let Landing { broker, connection, batches, began, answer } = landing;
        if let Some(lane) = self.lanes.get_mut(&broker) {
            (lane.connection, lane.is_busy) = (connection, false);
        }
        let retry_at = Instant::now() + RETRY_PAUSE;
        let mut placed = match answer {
            Ok(placed) => placed,
            Err(error) => {
                tracing::debug!(broker = broker.0, %error, "a Produce request failed");
                batches.iter().map(|batch| (batch.partition, Err(error.clone()))).collect()
            }
        };
        let mut appended = 0;
        for batch in batches {
            let missing = || Err(KafkaError::malformed("an answer without one of its partitions"));
            match placed.remove(&batch.partition).unwrap_or_else(missing) {
                Ok(base) => {
                    appended += batch.records.len();
                    self.queue.succeed(batch, base);
                }
                Err(error) if may_be_retried(&error) => {
                    self.cluster.is_stale();
                    self.queue.put_back(batch, retry_at, error);
                }
                Err(error) => {
                    tracing::warn!(partition = batch.partition, %error, "records were not taken");
                    self.queue.fail(batch, &LogError::from(error));
                }
            }
        }
        self.linger = self.tempo.count(appended, Instant::now());
        if appended > 0 {
            metrics::histogram!(COMMIT_SECONDS).record(began.elapsed());
            metrics::histogram!(COMMIT_RECORDS).record(appended as f64);
            metrics::counter!(APPENDED_TOTAL).increment(appended as u64);
        }
    }
}

/// What another leader, or another connection, or time may cure.
fn may_be_retried(error: &KafkaError) -> bool {
    match error {
        KafkaError::Refused { code, .. } => code.is_retriable(),
        KafkaError::Connect { .. }
        | KafkaError::Timeout { .. }
        | KafkaError::Closed { .. }
        | KafkaError::Busy { .. }
        | KafkaError::Login { .. }
        | KafkaError::Tls(_) => true,
        _ => false,
    }
}

/// One request under way.
struct Flight<'a> {
    cluster: &'a Cluster,
    ends: &'a Ends,
    broker: BrokerId,
    deadline: Instant,
}

impl Flight<'_> {
    async fn connect(&self, connection: Option<Connection>) -> Result<Connection, KafkaError> {
        match connection.filter(|connection| !connection.is_over()) {
            Some(connection) => Ok(connection),
            None => match timeout_at(self.deadline, self.cluster.open(self.broker)).await {
                Ok(opened) => opened,
                Err(_) => Err(KafkaError::Timeout { address: format!("broker {}", self.broker.0) }),
            },
        }
    }

    async fn ask(
        &self,
        connection: &Connection,
        batches: &[Batch],
    ) -> Result<HashMap<Partition, Placed>, KafkaError> {
        let version = connection.version_of::<ProduceRequest>()?;
        let topology = self.cluster.topology();
        let request = request(self.cluster, &topology, batches)?;
        let patience = self.deadline.saturating_duration_since(Instant::now());
        // Before it goes out: a reader may hear of these records before their answer is here.
        let reached: HashMap<Partition, Offset> =
            batches.iter().map(|batch| (batch.partition, self.ends.known(batch.partition))).collect();
        let response = connection.call(&request, patience).await?;
        let placed = placed(&response);
        for (partition, base) in &placed {
            let Ok(base) = *base else { continue };
            if reached.get(partition).is_some_and(|reached| base < *reached) {
                if version < BY_ID {
                    self.cluster.verify(connection).await?;
                }
                tracing::error!(partition, offset = base, "the log was cut off: an offset was given twice");
                self.ends.cut(*partition, base);
            }
        }
        for batch in batches {
            if let Some(Ok(base)) = placed.get(&batch.partition) {
                self.ends.reach(batch.partition, base + batch.records.len() as Offset);
            }
        }
        Ok(placed)
    }
}

fn request(cluster: &Cluster, topology: &Topology, batches: &[Batch]) -> Result<ProduceRequest, KafkaError> {
    let now = Timestamp::now();
    let partitions: Result<Vec<_>, KafkaError> = batches
        .iter()
        .map(|batch| {
            let records = batches::encode(&batch.records, now)?;
            let index = i32::try_from(batch.partition).map_err(KafkaError::malformed)?;
            Ok(PartitionProduceData::default().with_index(index).with_records(Some(records)))
        })
        .collect();
    // The name or the id goes out, whichever the version has.
    let topic = TopicProduceData::default()
        .with_name(cluster.topic().clone())
        .with_topic_id(topology.topic_id)
        .with_partition_data(partitions?);
    Ok(ProduceRequest::default()
        .with_acks(ALL_REPLICAS)
        .with_timeout_ms(REPLICAS_MS)
        .with_topic_data(vec![topic]))
}

fn placed(response: &ProduceResponse) -> HashMap<Partition, Placed> {
    let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
    partitions
        .filter_map(|partition| {
            let placed = match ResponseError::try_from_code(partition.error_code) {
                None => Ok(partition.base_offset),
                Some(code) => Err(KafkaError::Refused { what: "an append", code }),
            };
            Some((Partition::try_from(partition.index).ok()?, placed))
        })
        .collect()
}
