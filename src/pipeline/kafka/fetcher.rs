//! Reading: one Fetch at a time to each broker, for all partitions that are read and that it leads.
//!
//! A broker that has nothing keeps the question until something comes. Whichever answers first is served at
//! once; the questions to the others stay under way and count for the next call, as does whatever was sent and
//! not taken. Under load a call waits a little after the one before, so that what comes meanwhile shares one
//! fetch and one transaction; after a pause, or behind a backlog, it does not.

use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures_util::FutureExt;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_response::PartitionData;
use kafka_protocol::messages::{BrokerId, FetchResponse};
use tokio::time::{Duration, Instant, sleep_until};

use super::ahead::Ahead;
use super::batches;
use super::cluster::Cluster;
use super::ends::Ends;
use super::error::KafkaError;
use super::lane::{Arrival, Lane, Places};
use super::lookup::Lookup;
use super::tempo::Tempo;
use crate::domain::{Offset, Partition};
use crate::pipeline::{Bounds, FetchLimits, Fetched, LogError};

/// How long an answer may be late before the call ends without it.
const GRACE: Duration = Duration::from_secs(1);
/// So many records are worth a transaction of their own: the next call does not wait for more.
const WORTH: usize = 500;
/// How often partitions without a leader are looked at.
const LEADER_PAUSE: Duration = Duration::from_millis(100);

/// The reading side.
pub(super) struct Fetcher {
    cluster: Arc<Cluster>,
    ends: Arc<Ends>,
    lookup: Arc<Lookup>,
    gather: Duration,
    /// What the last call left; a second one at the same time begins anew.
    left: Mutex<Option<Reading>>,
}

/// What one reader keeps between calls.
#[derive(Default)]
struct Reading {
    ahead: Ahead,
    lanes: BTreeMap<BrokerId, Lane>,
    /// Not worth asking before this.
    not_before: Option<Instant>,
    /// How long what is read next is waited for.
    tempo: Option<Tempo>,
}

/// A call's hold on it; goes back when the call ends, however it ends.
struct Held<'a> {
    home: &'a Mutex<Option<Reading>>,
    reading: Reading,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let reading = std::mem::take(&mut self.reading);
        self.home.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(reading);
    }
}

impl Deref for Held<'_> {
    type Target = Reading;

    fn deref(&self) -> &Reading {
        &self.reading
    }
}

impl DerefMut for Held<'_> {
    fn deref_mut(&mut self) -> &mut Reading {
        &mut self.reading
    }
}

/// What one call heard of the brokers.
#[derive(Default)]
struct Heard {
    /// Somebody may be there who was not asked yet: at first, and when a connection was made.
    opened: bool,
    /// One of them at least answered well.
    well: bool,
    failure: Option<KafkaError>,
}

impl Fetcher {
    pub(super) fn new(cluster: Arc<Cluster>, ends: Arc<Ends>, lookup: Arc<Lookup>, gather: Duration) -> Self {
        Self { cluster, ends, lookup, gather, left: Mutex::default() }
    }

    /// As `EventSource::fetch`. May be given up at any time.
    pub(super) async fn fetch(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError> {
        let left = self.left.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut held = Held { home: &self.left, reading: left.unwrap_or_default() };
        let deadline = Instant::now() + limits.patience;
        held.ahead.align(from);
        if let Some(not_before) = held.not_before.filter(|_| !held.ahead.has_records()) {
            sleep_until(not_before.min(deadline)).await;
        }
        let mut heard = Heard { opened: true, ..Heard::default() };
        let mut topology = self.cluster.watch();
        loop {
            while let Some((broker, arrived)) = poll_fn(|context| held.poll(context)).now_or_never() {
                self.take(&mut held, broker, arrived, &mut heard).await?;
            }
            if topology.borrow_and_update().is_foreign {
                return Err(KafkaError::Foreign(self.cluster.topic().0.to_string()).into());
            }
            if held.ahead.has_records() {
                return Ok(self.serve(&mut held, from, limits));
            }
            let now = Instant::now();
            // Whom nobody could ask, or who is just taking over, is asked some more.
            let (overdue, is_asking) =
                (deadline + GRACE, now < deadline || std::mem::take(&mut heard.opened));
            let mut again_at = if now < deadline { deadline } else { overdue };
            if is_asking || (now < overdue && heard.is_bad()) {
                again_at = again_at.min(self.ask(&mut held, from, deadline, &mut heard));
            }
            let is_waiting = heard.is_bad() || held.lanes.values().any(Lane::is_busy);
            if now >= overdue || (now >= deadline && !is_waiting) {
                return heard.end();
            }
            tokio::select! {
                (broker, arrived) = poll_fn(|context| held.poll(context)) => {
                    self.take(&mut held, broker, arrived, &mut heard).await?;
                }
                _ = topology.changed() => {}
                () = sleep_until(again_at) => {}
            }
        }
    }

    fn serve(&self, held: &mut Reading, from: &[(Partition, Offset)], limits: FetchLimits) -> Vec<Fetched> {
        let served = held.ahead.serve(from, limits);
        let records: usize = served.iter().map(|fetched| fetched.records.len()).sum();
        let is_much = held.ahead.has_records() || records >= WORTH.min(limits.records_max);
        let (now, gather) = (Instant::now(), self.gather);
        let tempo = held.tempo.get_or_insert_with(|| Tempo::new(gather * 2 / 5, gather, now));
        let wait = tempo.count(records, now);
        held.not_before = (!is_much).then(|| now + wait);
        served
    }

    /// Asks every broker that is not being asked already. Answers when to look again at the latest.
    fn ask(
        &self,
        held: &mut Reading,
        from: &[(Partition, Offset)],
        deadline: Instant,
        heard: &mut Heard,
    ) -> Instant {
        let now = Instant::now();
        let topology = self.cluster.topology();
        let mut again_at = now + GRACE;
        let mut led: HashMap<BrokerId, Places> = HashMap::new();
        for &(partition, _) in from {
            let Some(place) = held.ahead.wants(partition) else { continue };
            match topology.leader(partition) {
                Some(leader) => led.entry(leader).or_default().push(place),
                None => {
                    heard.failure = Some(KafkaError::NoLeader(partition.cast_signed()));
                    self.cluster.is_stale();
                    again_at = again_at.min(now + LEADER_PAUSE);
                }
            }
        }
        held.lanes.retain(|broker, _| led.contains_key(broker));
        for (broker, places) in led {
            let lane = held.lanes.entry(broker).or_default();
            lane.keep_only(&places, deadline + GRACE / 2);
            if lane.is_busy() {
                continue;
            }
            if let Some((at, error)) = lane.put_off(now) {
                again_at = again_at.min(*at);
                heard.failure = Some(error.clone());
                continue;
            }
            let patience = deadline.saturating_duration_since(now);
            if let Err(error) = lane.ask(&self.cluster, broker, places, patience) {
                lane.put_off_for(error.clone());
                heard.failure = Some(error);
                again_at = again_at.min(now + LEADER_PAUSE);
            }
        }
        again_at
    }

    async fn take(
        &self,
        held: &mut Reading,
        broker: BrokerId,
        arrived: Result<Arrival, KafkaError>,
        heard: &mut Heard,
    ) -> Result<(), LogError> {
        let (from, answer) = match arrived {
            Ok(Arrival::Open) => {
                heard.opened = true;
                return Ok(());
            }
            Ok(Arrival::Answer(from, answer)) => (from, answer),
            Err(error) => {
                tracing::debug!(broker = broker.0, %error, "a Fetch request failed");
                self.cluster.is_stale();
                heard.failure = Some(error);
                return Ok(());
            }
        };
        let mut failure = KafkaError::check("a fetch", answer.error_code).err();
        let mut outside = None;
        for data in partitions(answer) {
            let Ok(partition) = Partition::try_from(data.partition_index) else { continue };
            let Some(asked) = from.iter().find(|place| place.partition == partition) else { continue };
            let asked = asked.offset;
            if data.error_code == 0 && data.diverging_epoch.epoch >= 0 {
                let what = format!("records of partition {partition} before offset {asked} are gone from it");
                return Err(LogError::Corrupt(what));
            }
            match ResponseError::try_from_code(data.error_code) {
                None => {
                    heard.well = true;
                    self.ends.reach(partition, data.high_watermark);
                    let got = batches::decode(data.records.unwrap_or_default(), asked);
                    let got =
                        got.map_err(|error| LogError::Corrupt(format!("partition {partition}: {error}")))?;
                    held.ahead.add(partition, asked, got, data.high_watermark);
                }
                Some(ResponseError::OffsetOutOfRange) => outside = Some((partition, asked)),
                Some(code) => failure = Some(KafkaError::Refused { what: "a fetch", code }),
            }
        }
        if let Some((partition, offset)) = outside {
            self.is_within(partition, offset).await?;
            // A new leader may not know yet how far the partition reaches; and of a log that aged out whole the
            // epochs are gone too.
            held.ahead.forget_epoch(partition);
            failure = failure
                .or(Some(KafkaError::Refused { what: "a fetch", code: ResponseError::OffsetOutOfRange }));
        }
        if let Some(failure) = failure {
            // What the others sent is served; this broker is left alone for a moment.
            if let Some(lane) = held.lanes.get_mut(&broker) {
                lane.put_off_for(failure.clone());
            }
            self.cluster.is_stale();
            heard.failure = Some(failure);
        }
        Ok(())
    }

    /// A broker said that this offset is outside. Asked for the bounds, it must say so too.
    async fn is_within(&self, partition: Partition, offset: Offset) -> Result<(), LogError> {
        let bounds = self.lookup.bounds(&[partition]).await?;
        match bounds.first() {
            Some(&Bounds { start, end }) if !(start..=end).contains(&offset) => {
                Err(LogError::OutOfRange { partition, offset, start, end })
            }
            _ => Ok(()),
        }
    }
}

impl Reading {
    /// The next broker of which something arrived.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<(BrokerId, Result<Arrival, KafkaError>)> {
        for (broker, lane) in &mut self.lanes {
            if let Poll::Ready(arrived) = lane.poll(context) {
                return Poll::Ready((*broker, arrived));
            }
        }
        Poll::Pending
    }
}

impl Heard {
    /// Nobody answered well, and something went wrong.
    fn is_bad(&self) -> bool {
        self.failure.is_some() && !self.well
    }

    /// Nothing came. A failure counts where no broker answered well: one that is away does not hold up what
    /// the others lead.
    fn end(self) -> Result<Vec<Fetched>, LogError> {
        match self.failure {
            Some(error) if !self.well => Err(error.into()),
            _ => Ok(Vec::new()),
        }
    }
}

fn partitions(answer: FetchResponse) -> impl Iterator<Item = PartitionData> {
    answer.responses.into_iter().flat_map(|topic| topic.partitions)
}
