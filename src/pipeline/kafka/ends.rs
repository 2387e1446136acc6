//! How far each partition was seen to reach: what is appended later lies behind that, unless the log was cut
//! off or replaced.

use std::sync::atomic::{AtomicI64, Ordering};

use crate::domain::{Offset, Partition};

/// The largest end seen of each partition.
#[derive(Debug)]
pub(super) struct Ends(Vec<AtomicI64>);

impl Ends {
    pub(super) fn new(partitions: Partition) -> Self {
        Self((0..partitions).map(|_| AtomicI64::new(0)).collect())
    }

    /// Records up to before this offset are durable.
    pub(super) fn reach(&self, partition: Partition, end: Offset) {
        if let Some(known) = self.0.get(partition as usize) {
            known.fetch_max(end, Ordering::Relaxed);
        }
    }

    /// How far a partition is known to reach: what is asked for after this call gets no offset below.
    pub(super) fn known(&self, partition: Partition) -> Offset {
        self.0.get(partition as usize).map_or(0, |known| known.load(Ordering::Relaxed))
    }

    /// The partition was found cut off; it grows from here on.
    pub(super) fn cut(&self, partition: Partition, end: Offset) {
        if let Some(known) = self.0.get(partition as usize) {
            known.store(end, Ordering::Relaxed);
        }
    }
}
