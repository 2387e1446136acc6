//! A message log in memory: what is appended is durable at once; fetches bring random parts of what is there.

use async_trait::async_trait;
use bytes::Bytes;
use chatd::domain::{Offset, Partition};
use chatd::pipeline::{
    Appending, Assignment, Bounds, Entry, EventLog, EventSource, FetchLimits, Fetched, Generation, LogError,
    LogIdentity, LogRecord,
};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use uuid::Uuid;

use crate::world::{PARTITIONS, Shared, World, pause};

/// One partition.
#[derive(Debug, Clone, Default)]
pub struct Lane {
    /// The first offset that is still held.
    pub start: Offset,
    /// Every value ever appended: the checker remembers what the log forgets.
    pub values: Vec<Bytes>,
}

impl Lane {
    pub fn end(&self) -> Offset {
        self.values.len() as Offset
    }

    fn get(&self, offset: Offset) -> Option<LogRecord> {
        let held = offset >= self.start && offset < self.end();
        held.then(|| LogRecord { offset, value: self.values[offset as usize].clone() })
    }
}

/// The log.
#[derive(Debug, Clone)]
pub struct Log {
    pub lanes: Vec<Lane>,
}

impl Log {
    pub fn new() -> Self {
        Self { lanes: vec![Lane::default(); PARTITIONS as usize] }
    }

    pub fn append(&mut self, partition: Partition, value: Bytes) -> Offset {
        let lane = &mut self.lanes[partition as usize];
        lane.values.push(value);
        lane.end() - 1
    }
}

/// The ports over it.
pub struct SimLog(pub Shared);

pub fn identity() -> LogIdentity {
    LogIdentity { id: Uuid::from_u128(7), partitions: PARTITIONS }
}

impl EventLog for SimLog {
    fn identity(&self) -> LogIdentity {
        identity()
    }

    fn generation(&self) -> Generation {
        Generation(0)
    }

    fn append(&self, entry: Entry, _: Generation) -> Appending {
        let offset = self.0.lock().log.append(entry.partition, entry.value);
        Box::pin(std::future::ready(Ok(offset)))
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

impl SimLog {
    async fn reach(&self) -> Result<(), LogError> {
        pause().await;
        let mut world = self.0.lock();
        let probability = world.faults.log;
        if world.dice.chance(probability) {
            return Err(LogError::Unavailable("simulated".into()));
        }
        Ok(())
    }
}

#[async_trait]
impl EventSource for SimLog {
    fn identity(&self) -> LogIdentity {
        identity()
    }

    fn assigned(&self) -> watch::Receiver<Assignment> {
        watch::channel(Assignment { round: 1, partitions: (0..PARTITIONS).collect() }).1
    }

    async fn drained(&self, _: u64) {}

    async fn leave(&self) {}

    async fn fetch(
        &self,
        from: &[(Partition, Offset)],
        limits: FetchLimits,
    ) -> Result<Vec<Fetched>, LogError> {
        self.reach().await?;
        let fetched = {
            let mut world = self.0.lock();
            let World { log, dice, .. } = &mut *world;
            let mut fetched = Vec::new();
            for (partition, offset) in from {
                let lane = &log.lanes[*partition as usize];
                let (start, end) = (lane.start, lane.end());
                if *offset < start || *offset > end {
                    return Err(LogError::OutOfRange { partition: *partition, offset: *offset, start, end });
                }
                // All that is there, or a part of it: what one fetch brings follows from nothing.
                let mut count = (end - offset) as usize;
                if count > 1 && dice.chance(0.3) {
                    count = 1 + dice.below(count);
                }
                let count = count.min(limits.records_max);
                let records: Vec<_> = (*offset..).take(count).filter_map(|at| lane.get(at)).collect();
                if !records.is_empty() {
                    fetched.push(Fetched { partition: *partition, records, end });
                }
            }
            fetched
        };
        pause().await;
        Ok(fetched)
    }

    async fn bounds(&self) -> Result<Vec<Bounds>, LogError> {
        self.reach().await?;
        let world = self.0.lock();
        Ok(world.log.lanes.iter().map(|lane| Bounds { start: lane.start, end: lane.end() }).collect())
    }

    async fn record_at(&self, partition: Partition, offset: Offset) -> Result<Option<LogRecord>, LogError> {
        self.reach().await?;
        Ok(self.0.lock().log.lanes[partition as usize].get(offset))
    }

    async fn forget(&self, below: &[(Partition, Offset)]) -> Result<(), LogError> {
        let mut world = self.0.lock();
        for (partition, offset) in below {
            let lane = &mut world.log.lanes[*partition as usize];
            // The record just below stays, for the check of identity.
            lane.start = lane.start.max(offset - 1);
        }
        Ok(())
    }
}
