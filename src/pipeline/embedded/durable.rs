//! What is durable: the bounds of each partition, and the newest records in memory, so that a reader that
//! keeps up never asks the file.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::Notify;

use super::table::Trim;
use crate::domain::{Offset, Partition};
use crate::pipeline::{Bounds, LogError, LogRecord};

/// What the newest records of all partitions may take in memory. At 400 bytes a record this is some 17,000 of
/// them: seconds of a busy server, more than a reader that is not in trouble lags behind.
const TAIL_BYTES_MAX: usize = 8 << 20;
/// What a record takes beside its value.
const RECORD_OVERHEAD: usize = 64;
/// How many records of a partition one trim drops at most.
const TRIM_RECORDS_MAX: Offset = 256;

/// Where the records of a partition from some offset on are.
#[derive(Debug)]
pub(super) enum Place {
    /// There are none yet.
    Nowhere,
    /// In memory.
    Memory(Vec<LogRecord>),
    /// In the file, up to below this offset.
    File(Offset),
}

/// How much a look may still bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) records: usize,
    pub(super) bytes: usize,
    /// Nothing was taken yet: the next record counts as fitting whatever its size.
    pub(super) untouched: bool,
}

impl Budget {
    /// Nothing more fits.
    pub(super) fn is_spent(&self) -> bool {
        self.records == 0 || (self.bytes == 0 && !self.untouched)
    }

    /// Takes a record of this size out of the budget; false where it does not fit.
    pub(super) fn take(&mut self, size: usize) -> bool {
        if self.records == 0 || (size > self.bytes && !self.untouched) {
            return false;
        }
        *self = Self { records: self.records - 1, bytes: self.bytes.saturating_sub(size), untouched: false };
        true
    }
}

#[derive(Debug)]
struct Part {
    start: Offset,
    end: Offset,
    /// The records before `end`, as many as there was room for.
    tail: VecDeque<Bytes>,
    /// The reader needs nothing below this any more, and no identity check either.
    floor: Offset,
}

impl Part {
    fn bounds(&self) -> Bounds {
        Bounds { start: self.start, end: self.end }
    }

    /// The first offset that is in memory.
    fn tail_start(&self) -> Offset {
        self.end - offset(self.tail.len())
    }
}

#[derive(Debug)]
struct State {
    parts: Vec<Part>,
    /// The partitions of the records in memory, oldest first.
    order: VecDeque<Partition>,
    bytes: usize,
    closed: bool,
}

/// The readable side of the log.
#[derive(Debug)]
pub(super) struct Durable {
    state: Mutex<State>,
    /// Notified whenever there is more to read, or nothing will come any more.
    pub(super) grew: Notify,
}

impl Durable {
    pub(super) fn new(bounds: &[Bounds]) -> Self {
        let parts = bounds
            .iter()
            .map(|&Bounds { start, end }| Part { start, end, tail: VecDeque::new(), floor: 0 })
            .collect();
        let state = State { parts, order: VecDeque::new(), bytes: 0, closed: false };
        Self { state: Mutex::new(state), grew: Notify::new() }
    }

    /// A panic while this is held leaves nothing half done, so poisoning is ignored.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn bounds(&self) -> Vec<Bounds> {
        self.lock().parts.iter().map(Part::bounds).collect()
    }

    /// The bounds of one partition; those of an empty one where the log has no such partition.
    pub(super) fn bounds_of(&self, partition: Partition) -> Bounds {
        let state = self.lock();
        state.parts.get(partition as usize).map_or(Bounds { start: 0, end: 0 }, Part::bounds)
    }

    /// Adds records that the file has now, each at the end of its partition.
    pub(super) fn extend(&self, records: impl Iterator<Item = (Partition, Bytes)>) {
        let mut guard = self.lock();
        let state = &mut *guard;
        for (partition, value) in records {
            let Some(part) = state.parts.get_mut(partition as usize) else { continue };
            state.bytes += value.len() + RECORD_OVERHEAD;
            part.tail.push_back(value);
            part.end += 1;
            state.order.push_back(partition);
        }
        state.evict();
        drop(guard);
        self.grew.notify_waiters();
    }

    /// Takes over what the file holds after a failure. What was durable before must be in it.
    pub(super) fn renew(&self, bounds: &[Bounds]) -> Result<(), LogError> {
        let mut state = self.lock();
        if state.parts.iter().zip(bounds).any(|(part, now)| now.end < part.end) {
            return Err(LogError::Corrupt("records that were durable are gone from its file".into()));
        }
        for (part, now) in state.parts.iter_mut().zip(bounds) {
            (part.start, part.end) = (now.start, now.end);
            part.tail.clear();
        }
        (state.bytes, state.order) = (0, VecDeque::new());
        drop(state);
        self.grew.notify_waiters();
        Ok(())
    }

    /// Where to find the records from `from` on; those in memory are taken out of the budget.
    pub(super) fn look(
        &self,
        partition: Partition,
        from: Offset,
        budget: &mut Budget,
    ) -> Result<(Place, Offset), LogError> {
        let state = self.lock();
        if state.closed {
            return Err(LogError::Unavailable("it is closed".into()));
        }
        let part = state.parts.get(partition as usize);
        let Bounds { start, end } = part.map_or(Bounds { start: 0, end: 0 }, Part::bounds);
        let Some(part) = part.filter(|_| (start..=end).contains(&from)) else {
            return Err(LogError::OutOfRange { partition, offset: from, start, end });
        };
        let place = if from == end {
            Place::Nowhere
        } else if from < part.tail_start() {
            Place::File(part.tail_start())
        } else {
            let skip = usize::try_from(from - part.tail_start()).unwrap_or(usize::MAX);
            let values = part.tail.iter().skip(skip).take_while(|value| budget.take(value.len()));
            Place::Memory(
                (from..)
                    .zip(values)
                    .map(|(offset, value)| LogRecord { offset, value: value.clone() })
                    .collect(),
            )
        };
        Ok((place, end))
    }

    /// Notes what the reader will not need again, but for the record just below each. True: some of it can go.
    pub(super) fn forget(&self, below: &[(Partition, Offset)]) -> bool {
        let mut state = self.lock();
        let mut more = false;
        for &(partition, below) in below {
            if let Some(part) = state.parts.get_mut(partition as usize) {
                part.floor = part.floor.max(below.min(part.end) - 1);
                more |= part.floor > part.start;
            }
        }
        more
    }

    /// What may be dropped from the file next, retention aside: a bounded piece of each partition.
    pub(super) fn droppable(&self) -> Vec<Trim> {
        let state = self.lock();
        (0..)
            .zip(&state.parts)
            .filter(|(_, part)| part.floor > part.start)
            .map(|(partition, part)| Trim { partition, below: part.floor.min(part.start + TRIM_RECORDS_MAX) })
            .collect()
    }

    /// The file has dropped these. True: there is another full piece to drop.
    pub(super) fn dropped(&self, trims: &[Trim]) -> bool {
        let mut state = self.lock();
        let mut more = false;
        for trim in trims {
            if let Some(part) = state.parts.get_mut(trim.partition as usize) {
                part.start = trim.below;
                more |= part.floor - part.start >= TRIM_RECORDS_MAX;
            }
        }
        more
    }

    /// Nothing more will come.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.grew.notify_waiters();
    }
}

impl State {
    /// Lets the oldest records go from memory until the rest fits.
    fn evict(&mut self) {
        while self.bytes > TAIL_BYTES_MAX {
            let Some(partition) = self.order.pop_front() else { return };
            let tail = self.parts.get_mut(partition as usize).map(|part| &mut part.tail);
            if let Some(value) = tail.and_then(VecDeque::pop_front) {
                self.bytes = self.bytes.saturating_sub(value.len() + RECORD_OVERHEAD);
            }
        }
    }
}

fn offset(count: usize) -> Offset {
    Offset::try_from(count).unwrap_or(Offset::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Budget = Budget { records: usize::MAX, bytes: usize::MAX, untouched: true };

    fn durable(end: Offset) -> Durable {
        Durable::new(&[Bounds { start: 2, end }, Bounds { start: 0, end: 0 }])
    }

    fn offsets(durable: &Durable, from: Offset, mut budget: Budget) -> Vec<Offset> {
        match durable.look(0, from, &mut budget).unwrap().0 {
            Place::Memory(records) => records.iter().map(|record| record.offset).collect(),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn new_records_are_read_from_memory_and_old_ones_from_the_file() {
        let durable = durable(5);
        durable.extend((0..3).map(|_| (0, Bytes::from_static(b"value"))));
        assert_eq!(offsets(&durable, 6, ANY), [6, 7]);
        assert!(matches!(durable.look(0, 4, &mut ANY.clone()), Ok((Place::File(5), 8))));
        assert!(matches!(durable.look(0, 8, &mut ANY.clone()), Ok((Place::Nowhere, 8))));
        for outside in [-1, 1, 9] {
            let found = durable.look(0, outside, &mut ANY.clone());
            assert!(matches!(found, Err(LogError::OutOfRange { start: 2, end: 8, .. })), "{outside}");
        }
    }

    #[test]
    fn memory_is_bounded_and_lets_the_oldest_go() {
        let durable = durable(2);
        let value = Bytes::from(vec![0; 1 << 20]);
        durable.extend((0..20).map(|_| (0, value.clone())));
        assert!(matches!(durable.look(0, 2, &mut ANY.clone()), Ok((Place::File(15), 22))));
        assert_eq!(offsets(&durable, 15, ANY).len(), 7);
    }

    #[test]
    fn a_look_keeps_to_its_budget_but_brings_one_record_of_any_size() {
        let durable = durable(2);
        durable.extend((0..4).map(|_| (0, Bytes::from_static(b"value"))));
        assert_eq!(offsets(&durable, 2, Budget { bytes: 10, ..ANY }), [2, 3]);
        assert_eq!(offsets(&durable, 2, Budget { records: 3, ..ANY }), [2, 3, 4]);
        assert_eq!(offsets(&durable, 2, Budget { bytes: 1, ..ANY }), [2]);
        assert!(offsets(&durable, 2, Budget { bytes: 1, untouched: false, ..ANY }).is_empty());
    }

    #[test]
    fn forgetting_leaves_the_record_below_and_goes_in_pieces() {
        let durable = durable(1000);
        assert!(!durable.forget(&[(0, 0), (1, 5), (9, 9)]));
        assert!(durable.droppable().is_empty());
        assert!(durable.forget(&[(0, 5000)]), "beyond the end is the end");
        assert!(durable.forget(&[(0, 3)]), "the floor never moves back");
        let mut starts = vec![];
        loop {
            let trims = durable.droppable();
            let Some(trim) = trims.first() else { break };
            starts.push(trim.below);
            assert_eq!(durable.dropped(&trims), trim.below < 999 - TRIM_RECORDS_MAX);
        }
        assert_eq!(starts, [258, 514, 770, 999]);
        assert_eq!(durable.bounds_of(0), Bounds { start: 999, end: 1000 });
    }

    #[test]
    fn a_file_that_lost_durable_records_is_refused_and_one_that_has_more_is_taken_over() {
        let durable = durable(5);
        durable.extend([(0, Bytes::from_static(b"value"))].into_iter());
        let with = |end| [Bounds { start: 2, end }, Bounds { start: 0, end: 0 }];
        assert!(matches!(durable.renew(&with(5)), Err(LogError::Corrupt(_))));
        durable.renew(&with(7)).unwrap();
        assert!(matches!(durable.look(0, 5, &mut ANY.clone()), Ok((Place::File(7), 7))));
    }
}
