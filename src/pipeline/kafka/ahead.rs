//! What was fetched and not handed over yet. Brokers send as much as there is; the reader takes as much as it
//! wants, and says with each call where it stands.

use std::collections::{HashMap, VecDeque};

use super::batches::Decoded;
use super::lane::Place;
use crate::domain::{Offset, Partition};
use crate::pipeline::{FetchLimits, Fetched, LogRecord};

/// No epoch.
const UNKNOWN: i32 = -1;

/// Records of one partition.
#[derive(Debug)]
struct Part {
    /// Where the reader stands.
    from: Offset,
    records: VecDeque<LogRecord>,
    /// Where the next fetch goes on.
    next: Offset,
    /// The epoch of the leader that wrote what lies before; below zero where that is not known.
    epoch: i32,
    /// The offset after the last durable one, as of the last fetch.
    end: Offset,
}

/// Records of all partitions that are read.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    parts: HashMap<Partition, Part>,
    /// The partition that is served first, so that a busy one does not starve the others.
    turn: usize,
}

impl Ahead {
    /// Takes note of where the reader stands; what does not follow from there is dropped.
    pub(super) fn align(&mut self, from: &[(Partition, Offset)]) {
        let stands: HashMap<_, _> = from.iter().copied().collect();
        self.parts.retain(|partition, part| stands.get(partition) == Some(&part.from));
        for (&partition, &from) in &stands {
            let fresh = Part { from, records: VecDeque::new(), next: from, epoch: UNKNOWN, end: 0 };
            self.parts.entry(partition).or_insert(fresh);
        }
    }

    /// Where to fetch on, for a partition of which nothing is left.
    pub(super) fn wants(&self, partition: Partition) -> Option<Place> {
        let part = self.parts.get(&partition).filter(|part| part.records.is_empty())?;
        Some(Place { partition, offset: part.next, epoch: part.epoch })
    }

    /// Nobody knows any more which leader wrote what lies before.
    pub(super) fn forget_epoch(&mut self, partition: Partition) {
        if let Some(part) = self.parts.get_mut(&partition) {
            part.epoch = UNKNOWN;
        }
    }

    /// Adds what a fetch from `asked` on got; nothing, where the reader is elsewhere by now.
    pub(super) fn add(&mut self, partition: Partition, asked: Offset, got: Decoded, end: Offset) {
        let Some(part) = self.parts.get_mut(&partition).filter(|part| part.next == asked) else { return };
        part.end = end;
        part.next = got.next.unwrap_or(part.next).max(part.next);
        part.epoch = got.epoch.unwrap_or(part.epoch);
        part.records.extend(got.records);
    }

    /// Hands over what there is, within the limits.
    pub(super) fn serve(&mut self, from: &[(Partition, Offset)], limits: FetchLimits) -> Vec<Fetched> {
        let (mut records_left, mut bytes_left) = (limits.records_max.max(1), limits.bytes_max);
        let mut served = Vec::new();
        let mut is_first = true;
        let first = self.turn % from.len().max(1);
        for (partition, _) in from.iter().cycle().skip(first).take(from.len()) {
            let Some(part) = self.parts.get_mut(partition) else { continue };
            let fits = |record: &LogRecord| {
                let size = record.value.len();
                let fits = records_left > 0 && (size <= bytes_left || is_first);
                if fits {
                    records_left -= 1;
                    bytes_left = bytes_left.saturating_sub(size);
                    is_first = false;
                }
                fits
            };
            let records = take_while(&mut part.records, fits);
            if let Some(last) = records.last() {
                part.from = last.offset + 1;
                served.push(Fetched { partition: *partition, records, end: part.end });
            }
        }
        if !served.is_empty() {
            self.turn = self.turn.wrapping_add(1);
        }
        served
    }

    /// Whether there is something to hand over.
    pub(super) fn has_records(&self) -> bool {
        self.parts.values().any(|part| !part.records.is_empty())
    }
}

fn take_while(records: &mut VecDeque<LogRecord>, fits: impl FnMut(&LogRecord) -> bool) -> Vec<LogRecord> {
    let count = records.iter().map(fits).take_while(|fits| *fits).count();
    records.drain(..count).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(offsets: &[Offset], next: Offset) -> Decoded {
        let record = |offset: &Offset| LogRecord { offset: *offset, value: vec![0; 10].into() };
        Decoded { records: offsets.iter().map(record).collect(), next: Some(next), epoch: Some(4) }
    }

    fn wanted(ahead: &Ahead, partition: Partition) -> Option<Offset> {
        ahead.wants(partition).map(|place| place.offset)
    }

    fn limits(records_max: usize, bytes_max: usize) -> FetchLimits {
        FetchLimits { records_max, bytes_max, patience: std::time::Duration::ZERO }
    }

    fn offsets(served: &[Fetched]) -> Vec<(Partition, Vec<Offset>)> {
        let of = |fetched: &Fetched| fetched.records.iter().map(|record| record.offset).collect();
        served.iter().map(|fetched| (fetched.partition, of(fetched))).collect()
    }

    #[test]
    fn what_is_left_over_comes_next_without_another_fetch() {
        let mut ahead = Ahead::default();
        ahead.align(&[(0, 5)]);
        assert_eq!(wanted(&ahead, 0), Some(5));
        ahead.add(0, 5, decoded(&[5, 6, 7], 8), 9);
        assert_eq!(wanted(&ahead, 0), None);
        assert_eq!(offsets(&ahead.serve(&[(0, 5)], limits(2, 1000))), [(0, vec![5, 6])]);
        ahead.align(&[(0, 7)]);
        let served = ahead.serve(&[(0, 7)], limits(2, 1000));
        assert_eq!((offsets(&served), served[0].end), (vec![(0, vec![7])], 9));
        assert_eq!(ahead.wants(0), Some(Place { partition: 0, offset: 8, epoch: 4 }));
        ahead.forget_epoch(0);
        assert_eq!(ahead.wants(0), Some(Place { partition: 0, offset: 8, epoch: UNKNOWN }));
    }

    #[test]
    fn a_reader_that_goes_elsewhere_gets_nothing_of_before() {
        let mut ahead = Ahead::default();
        ahead.align(&[(0, 5), (1, 0)]);
        ahead.add(0, 5, decoded(&[5, 6], 7), 7);
        ahead.align(&[(0, 6)]);
        assert!(!ahead.has_records());
        assert_eq!((wanted(&ahead, 0), wanted(&ahead, 1)), (Some(6), None));
        ahead.add(0, 5, decoded(&[5, 6], 7), 7);
        assert!(!ahead.has_records(), "an answer that came late");
    }

    #[test]
    fn marks_of_transactions_are_passed_over() {
        let mut ahead = Ahead::default();
        ahead.align(&[(0, 5)]);
        ahead.add(0, 5, decoded(&[], 6), 8);
        assert!(!ahead.has_records());
        ahead.align(&[(0, 5)]);
        assert_eq!(wanted(&ahead, 0), Some(6), "the reader still stands before them");
        ahead.add(0, 6, decoded(&[7], 8), 8);
        assert_eq!(offsets(&ahead.serve(&[(0, 5)], limits(9, 99))), [(0, vec![7])]);
    }

    #[test]
    fn limits_hold_but_one_record_always_comes_and_every_partition_has_its_turn() {
        let mut ahead = Ahead::default();
        let from = [(0, 0), (1, 0)];
        let fill = |ahead: &mut Ahead| {
            ahead.align(&from);
            for partition in [0, 1] {
                ahead.add(partition, 0, decoded(&[0, 1, 2], 3), 3);
            }
        };
        fill(&mut ahead);
        assert_eq!(offsets(&ahead.serve(&from, limits(9, 45))), [(0, vec![0, 1, 2]), (1, vec![0])]);
        fill(&mut ahead);
        assert_eq!(offsets(&ahead.serve(&from, limits(9, 1))), [(1, vec![0])]);
        fill(&mut ahead);
        assert_eq!(offsets(&ahead.serve(&from, limits(0, 99))), [(0, vec![0])]);
    }
}
