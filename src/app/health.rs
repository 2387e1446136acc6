//! What is wrong now: alarms by name, for `/ready`, logs and metrics.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::Partition;
use crate::storage::Standstill;

/// Alarms of the owner of the partitions.
pub const CONSUMER: &str = "consumer";
/// Alarms of the way from owners to nodes.
pub const FANOUT: &str = "fan-out";
/// Alarms of this node's repair by scan.
pub const REPAIR: &str = "repair";

/// Alarms of this node's hearing: it cannot vouch for what it is told.
pub const HEARING: &str = "redis";

/// Alarms of the message log, as those who append to it find it.
pub const LOG: &str = "log";
/// Alarms of storage, as a small read a second finds it.
pub const STORAGE: &str = "storage";
/// Alarms of sightings that wait for storage.
pub const SIGHTINGS: &str = "sightings";
/// Alarms of receipts that wait for storage.
pub const RECEIPTS: &str = "receipts";

/// How ready this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readiness {
    /// Starting: no requests yet.
    Starting,
    /// All is well.
    Ok,
    /// It works, and something is wrong: see the alarms.
    Degraded,
    /// Stopping: no new sockets.
    Draining,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Starting,
    Serving,
    Draining,
}

#[derive(Debug, Default)]
struct Inner {
    phase: Phase,
    alarms: BTreeMap<String, String>,
    standstills: BTreeMap<Partition, Standstill>,
}

/// The alarms that stand, each by the name of what is concerned (`partition 3`, `storage`).
#[derive(Debug, Default)]
pub struct Health(Mutex<Inner>);

impl Health {
    /// Raises an alarm, or gives it a new reason. Logged once for each reason.
    pub fn raise(&self, subject: &str, reason: &str) {
        let mut inner = self.lock();
        if inner.alarms.get(subject).is_some_and(|known| known == reason) {
            return;
        }
        inner.alarms.insert(subject.to_owned(), reason.to_owned());
        metrics::gauge!("chatd_alarms").set(inner.alarms.len() as f64);
        tracing::error!(subject, reason, "alarm: {subject}: {reason}");
    }

    /// Ends an alarm.
    pub fn clear(&self, subject: &str) {
        let mut inner = self.lock();
        if inner.alarms.remove(subject).is_some() {
            metrics::gauge!("chatd_alarms").set(inner.alarms.len() as f64);
            tracing::info!(subject, "well again: {subject}");
        }
    }

    /// The partitions that stand still now, in the place of those before: an alarm for each.
    pub fn stand_still(&self, now: BTreeMap<Partition, Standstill>) {
        let before = {
            let mut inner = self.lock();
            if inner.standstills == now {
                return;
            }
            std::mem::replace(&mut inner.standstills, now.clone())
        };
        let subject = |partition: &Partition| format!("partition {partition}");
        before.keys().filter(|partition| !now.contains_key(partition)).for_each(|p| self.clear(&subject(p)));
        now.iter().for_each(|(partition, standstill)| self.raise(&subject(partition), &standstill.reason));
    }

    /// Whether nothing may be accepted into a partition.
    pub fn is_closed(&self, partition: Partition) -> bool {
        self.lock().standstills.get(&partition).is_some_and(|standstill| standstill.is_breach)
    }

    /// Requests may come.
    pub fn serving(&self) {
        self.lock().phase = Phase::Serving;
    }

    /// This node is stopping.
    pub fn draining(&self) {
        self.lock().phase = Phase::Draining;
    }

    /// How ready this node is.
    pub fn readiness(&self) -> Readiness {
        let inner = self.lock();
        match inner.phase {
            Phase::Starting => Readiness::Starting,
            Phase::Draining => Readiness::Draining,
            Phase::Serving if inner.alarms.is_empty() => Readiness::Ok,
            Phase::Serving => Readiness::Degraded,
        }
    }

    /// Whether what is stored reaches the sockets without delay, as far as this node knows.
    pub fn is_delivering(&self) -> bool {
        let inner = self.lock();
        ![CONSUMER, FANOUT, REPAIR].iter().any(|subject| inner.alarms.contains_key(*subject))
    }

    /// The alarms that stand: subject and reason.
    pub fn alarms(&self) -> Vec<(String, String)> {
        self.lock().alarms.iter().map(|(subject, reason)| (subject.clone(), reason.clone())).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alarms_degrade_and_their_end_restores() {
        let health = Health::default();
        assert_eq!(health.readiness(), Readiness::Starting);
        health.serving();
        health.raise("partition 3", "the log was replaced");
        assert_eq!(health.readiness(), Readiness::Degraded);
        assert_eq!(health.alarms(), [("partition 3".to_owned(), "the log was replaced".to_owned())]);
        health.clear("partition 3");
        assert_eq!(health.readiness(), Readiness::Ok);
        health.draining();
        assert_eq!(health.readiness(), Readiness::Draining);
    }

    #[test]
    fn a_partition_that_goes_on_again_ends_its_alarm() {
        let health = Health::default();
        health.serving();
        let newer = Standstill { reason: "a newer release wrote it".to_owned(), is_breach: false };
        let breach = Standstill { reason: "the log was replaced".to_owned(), is_breach: true };
        health.stand_still([(1, newer), (2, breach.clone())].into());
        assert_eq!((health.is_closed(1), health.is_closed(2), health.is_closed(3)), (false, true, false));
        assert_eq!(health.alarms().len(), 2);
        health.stand_still([(2, breach)].into());
        assert_eq!(health.alarms(), [("partition 2".to_owned(), "the log was replaced".to_owned())]);
        health.stand_still(BTreeMap::new());
        assert!(!health.is_closed(2) && health.readiness() == Readiness::Ok);
    }
}
