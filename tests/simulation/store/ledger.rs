//! The books: claims, the transaction, and the ways in which its answer gets lost.

use async_trait::async_trait;
use chatd::domain::{Frontier, LogNumber, Offset, Outcome, Partition, Timestamp};
use chatd::pipeline::LogIdentity;
use chatd::storage::{Applied, Batch, Claim, Ledger, Mark, Standstill, StorageError};
use uuid::Uuid;

use super::{InFlight, SimStore, away};
use crate::mutant::Mutant;
use crate::world::{LOG, World, pause};

/// The incarnation of every simulated history.
pub const INCARNATION: Uuid = Uuid::from_u128(0x5eed);

impl World {
    fn claims_of(&self, partitions: &[Partition]) -> Vec<Claim> {
        let mut partitions = partitions.to_vec();
        partitions.sort_unstable();
        let claim = |partition| {
            let row = &self.store.rows[partition as usize];
            Claim {
                partition,
                epoch: row.epoch,
                next_offset: row.next_offset,
                published: row.published,
                last_digest: row.last_digest,
            }
        };
        partitions.into_iter().map(claim).collect()
    }

    /// What becomes of a transaction, before anybody hears of it.
    fn transact(&mut self, batch: Batch) -> Result<Vec<Applied>, StorageError> {
        let faults = self.faults;
        if self.dice.chance(faults.store_late) {
            let commits = self.dice.chance(0.7);
            self.store.in_flight.push(InFlight { batch, commits });
            return Err(away());
        }
        if !self.dice.chance(faults.store_call) {
            return self.commit(batch);
        }
        // Rolled back.
        if self.has(Mutant::OffsetFirst) {
            for one in &batch.partitions {
                let row = &mut self.store.rows[one.partition as usize];
                if (row.epoch, row.next_offset) == (one.epoch, one.expected) {
                    (row.next_offset, row.last_digest) = (one.next, Some(one.last_digest));
                }
            }
        }
        if self.has(Mutant::ToldBeforeCommit) {
            self.tell_uncommitted(batch);
        }
        Err(away())
    }

    fn tell_uncommitted(&mut self, batch: Batch) {
        let bounds: Vec<_> =
            batch.partitions.iter().map(|one| (one.partition, one.expected - 1, one.next - 1)).collect();
        let before = self.store.clone();
        let applied = self.commit(batch).unwrap_or_default();
        self.store = before;
        for one in applied {
            let Applied::Done { partition, outcomes, .. } = one else { continue };
            let Some(&(_, prev, through)) = bounds.iter().find(|bound| bound.0 == partition) else {
                continue;
            };
            let outcomes: Vec<Outcome> = outcomes;
            let outcomes = outcomes.into();
            self.tell(chatd::delivery::Publication { log: LOG, partition, prev, through, outcomes });
        }
    }
}

#[async_trait]
impl Ledger for SimStore {
    async fn incarnation(&self) -> Result<Uuid, StorageError> {
        Ok(INCARNATION)
    }

    async fn followed(&self) -> Result<Option<(LogNumber, LogIdentity)>, StorageError> {
        Ok(None)
    }

    async fn attach_log(&self, _: LogIdentity) -> Result<LogNumber, StorageError> {
        Ok(LOG)
    }

    async fn hand_over(&self, _: LogIdentity, _: &[Offset]) -> Result<LogNumber, StorageError> {
        Err(StorageError::Refused("a simulation follows one log".into()))
    }

    async fn claim(&self, _: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        self.reach().await?;
        while self.0.lock().store.locked(partitions) {
            pause().await;
        }
        let claims = {
            let mut world = self.0.lock();
            let actor = world.actor;
            for partition in partitions {
                let row = &mut world.store.rows[*partition as usize];
                row.epoch += 1;
                row.owner = Some(actor);
            }
            world.sync();
            world.claims_of(partitions)
        };
        self.answer(claims).await
    }

    async fn claims(&self, _: LogNumber, partitions: &[Partition]) -> Result<Vec<Claim>, StorageError> {
        self.reach().await?;
        let claims = self.0.lock().claims_of(partitions);
        self.answer(claims).await
    }

    async fn apply(&self, batch: Batch) -> Result<Vec<Applied>, StorageError> {
        self.reach().await?;
        let partitions: Vec<_> = batch.partitions.iter().map(|one| one.partition).collect();
        while self.0.lock().store.locked(&partitions) {
            pause().await;
        }
        let applied = self.0.lock().transact(batch)?;
        self.answer(applied).await
    }

    async fn mark_published(
        &self,
        log: LogNumber,
        published: &[Mark<Offset>],
    ) -> Result<Frontier, StorageError> {
        self.reach().await?;
        let partitions: Vec<_> = published.iter().map(|mark| mark.partition).collect();
        while self.0.lock().store.locked(&partitions) {
            pause().await;
        }
        let published = {
            let mut world = self.0.lock();
            for mark in published {
                let row = &mut world.store.rows[mark.partition as usize];
                if row.epoch == mark.epoch {
                    row.published = row.published.max(mark.value.min(row.next_offset - 1));
                }
            }
            Frontier { log, offsets: world.store.rows.iter().map(|row| row.published).collect() }
        };
        self.answer(published).await
    }

    async fn mark_standstills(
        &self,
        _: LogNumber,
        _: &[Mark<Option<Standstill>>],
    ) -> Result<(), StorageError> {
        self.reach().await?;
        self.answer(()).await
    }

    async fn standstills(&self, _: LogNumber) -> Result<Vec<(Partition, Standstill)>, StorageError> {
        Ok(Vec::new())
    }

    async fn frontier(&self, _: LogNumber) -> Result<Frontier, StorageError> {
        self.reach().await?;
        let frontier = self.0.lock().store.frontier();
        self.answer(frontier).await
    }

    async fn make_durable(&self, log: LogNumber) -> Result<Frontier, StorageError> {
        self.0.lock().sync();
        self.frontier(log).await
    }

    async fn prune(&self, _: Timestamp) -> Result<u64, StorageError> {
        Ok(0)
    }
}
