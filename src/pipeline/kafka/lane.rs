//! The way to one broker for one reader: a connection with at most one Fetch under way, which may outlive the
//! call that began it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchRequest, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchResponse};
use tokio::time::{Duration, Instant};

use super::cluster::Cluster;
use super::connection::{Answer, Connection};
use super::error::KafkaError;
use super::lookup::number;
use crate::domain::{Offset, Partition};

/// The most bytes of an answer, and of one partition in it, but for a batch that is larger.
const FETCH_BYTES_MAX: i32 = 4 << 20;
const PARTITION_BYTES_MAX: i32 = 1 << 20;
/// The longest that a broker is asked to wait for a record.
const WAIT_MAX: Duration = Duration::from_secs(5);
/// How much longer than asked a broker may take before its connection is given up.
const ANSWER_PATIENCE: Duration = Duration::from_secs(3);
/// The pause after a failure.
const RETRY_PAUSE: Duration = Duration::from_millis(100);

/// Where a partition is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) partition: Partition,
    pub(super) offset: Offset,
    /// The epoch of the leader that wrote the record before, as the reader knows it; below zero: unknown. The
    /// broker compares it with its own log and so notices when what was read is gone from there.
    pub(super) epoch: i32,
}

/// Where partitions are read from.
pub(super) type Places = Vec<Place>;

/// What came of a lane.
pub(super) enum Arrival {
    /// Its connection is made.
    Open,
    /// The answer to a fetch from these places.
    Answer(Places, FetchResponse),
}

enum UnderWay {
    Opening(BoxFuture<'static, Result<Connection, KafkaError>>),
    Fetching {
        from: Places,
        /// When the broker answers at the latest, if it is well.
        answers_by: Instant,
        answer: Answer<FetchRequest>,
    },
}

/// The way to one broker.
#[derive(Default)]
pub(super) struct Lane {
    connection: Option<Connection>,
    under_way: Option<UnderWay>,
    /// After this failure: not before this.
    put_off: Option<(Instant, KafkaError)>,
}

impl Lane {
    /// Something is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// When it may be used again, and after which failure.
    pub(super) fn put_off(&self, now: Instant) -> Option<&(Instant, KafkaError)> {
        self.put_off.as_ref().filter(|(at, _)| *at > now)
    }

    /// Something went wrong: not again before a while.
    pub(super) fn put_off_for(&mut self, error: KafkaError) {
        self.put_off = Some((Instant::now() + RETRY_PAUSE, error));
    }

    /// Gives up a fetch from elsewhere, or one that answers too late. The connection goes with it, since it
    /// carries the answer.
    pub(super) fn keep_only(&mut self, wanted: &Places, by: Instant) {
        let UnderWay::Fetching { from, answers_by, .. } = (match &self.under_way {
            Some(under_way) => under_way,
            None => return,
        }) else {
            return;
        };
        if from != wanted || *answers_by > by {
            (self.connection, self.under_way) = (None, None);
        }
    }

    /// Asks for what comes next, or for a connection first.
    pub(super) fn ask(
        &mut self,
        cluster: &Arc<Cluster>,
        broker: BrokerId,
        from: Places,
        patience: Duration,
    ) -> Result<(), KafkaError> {
        let Some(connection) = self.connection.as_ref().filter(|connection| !connection.is_over()) else {
            let cluster = Arc::clone(cluster);
            self.under_way = Some(UnderWay::Opening(async move { cluster.open(broker).await }.boxed()));
            return Ok(());
        };
        let wait = patience.min(WAIT_MAX);
        let request = request(cluster, &from, wait)?;
        let answers_by = Instant::now() + wait;
        let answer = connection.start(&request, answers_by + ANSWER_PATIENCE)?;
        self.under_way = Some(UnderWay::Fetching { from, answers_by, answer });
        Ok(())
    }

    /// What was under way has arrived. A failure puts the lane off.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<Arrival, KafkaError>> {
        let arrived = match &mut self.under_way {
            None => return Poll::Pending,
            Some(UnderWay::Opening(opening)) => ready!(opening.as_mut().poll(context)).map(|connection| {
                self.connection = Some(connection);
                Arrival::Open
            }),
            Some(UnderWay::Fetching { from, answer, .. }) => ready!(Pin::new(answer).poll(context))
                .map(|answer| Arrival::Answer(std::mem::take(from), answer)),
        };
        self.under_way = None;
        if let Err(error) = &arrived {
            self.connection = None;
            self.put_off_for(error.clone());
        }
        Poll::Ready(arrived)
    }
}

fn request(cluster: &Cluster, from: &Places, wait: Duration) -> Result<FetchRequest, KafkaError> {
    let partitions: Result<Vec<_>, KafkaError> = from
        .iter()
        .map(|place| {
            Ok(FetchPartition::default()
                .with_partition(number(place.partition)?)
                .with_fetch_offset(place.offset)
                .with_last_fetched_epoch(place.epoch)
                .with_partition_max_bytes(PARTITION_BYTES_MAX))
        })
        .collect();
    // The name or the id goes out, whichever the version has.
    let topic = FetchTopic::default()
        .with_topic(cluster.topic().clone())
        .with_topic_id(cluster.topology().topic_id)
        .with_partitions(partitions?);
    Ok(FetchRequest::default()
        .with_max_wait_ms(i32::try_from(wait.as_millis()).unwrap_or(i32::MAX))
        .with_min_bytes(1)
        .with_max_bytes(FETCH_BYTES_MAX)
        .with_topics(vec![topic]))
}
