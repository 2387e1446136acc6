//! Places in the message log: partitions, offsets, and how far something is known.

use serde::{Deserialize, Serialize};

/// A partition of the log; all records of a conversation are in one.
pub type Partition = u32;

/// A record's place in its partition: 0, 1, 2 …
pub type Offset = i64;

/// Numbers the logs that a database has followed, from 1; a later log has a greater number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LogNumber(pub i32);

/// Where a stored event came from. Ordered by log, then by offset: within a conversation (one partition a
/// log) this is the order of its seqs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The log.
    pub log: LogNumber,
    /// The place in the partition.
    pub offset: Offset,
    /// The partition.
    pub partition: Partition,
}

/// How far each partition of one log is known: everything up to and including `offsets[partition]`, and all
/// of the logs before. -1 is "nothing of this partition yet".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frontier {
    /// The log that the offsets belong to.
    pub log: LogNumber,
    /// The last known offset of each partition.
    pub offsets: Box<[Offset]>,
}

impl Frontier {
    /// A frontier that knows nothing of a log with so many partitions.
    pub fn nothing(log: LogNumber, partitions: usize) -> Self {
        Self { log, offsets: vec![-1; partitions].into() }
    }

    /// Whether the record at `position` is known.
    pub fn covers(&self, position: Position) -> bool {
        position.log < self.log
            || (position.log == self.log && position.offset <= self.offset(position.partition))
    }

    /// The last known offset of a partition; -1 where the partition is not among them.
    pub fn offset(&self, partition: Partition) -> Offset {
        self.offsets.get(partition as usize).copied().unwrap_or(-1)
    }

    /// Moves a partition forward, never back.
    pub fn advance(&mut self, partition: Partition, offset: Offset) {
        if let Some(known) = self.offsets.get_mut(partition as usize) {
            *known = offset.max(*known);
        }
    }

    /// Takes over whatever `other` knows beyond this; a later log replaces an earlier one whole.
    pub fn merge(&mut self, other: &Self) {
        if other.log > self.log {
            self.clone_from(other);
        } else if other.log == self.log {
            for (partition, offset) in (0..).zip(&other.offsets) {
                self.advance(partition, *offset);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(log: i32, partition: Partition, offset: Offset) -> Position {
        Position { log: LogNumber(log), partition, offset }
    }

    #[test]
    fn a_frontier_covers_earlier_logs_whole_and_its_own_up_to_the_offset() {
        let frontier = Frontier { log: LogNumber(2), offsets: vec![5, -1].into() };
        assert!(frontier.covers(at(1, 1, 999)));
        assert!(frontier.covers(at(2, 0, 5)));
        assert!(!frontier.covers(at(2, 0, 6)));
        assert!(!frontier.covers(at(2, 1, 0)));
        assert!(!frontier.covers(at(2, 7, 0)));
        assert!(!frontier.covers(at(3, 0, 0)));
    }

    #[test]
    fn a_frontier_never_moves_back() {
        let mut frontier = Frontier { log: LogNumber(2), offsets: vec![5, 3].into() };
        frontier.advance(0, 2);
        frontier.merge(&Frontier { log: LogNumber(1), offsets: vec![9, 9].into() });
        frontier.merge(&Frontier { log: LogNumber(2), offsets: vec![1, 4].into() });
        assert_eq!(frontier.offsets.as_ref(), [5, 4]);
        frontier.merge(&Frontier { log: LogNumber(3), offsets: vec![0, 0].into() });
        assert_eq!(frontier, Frontier { log: LogNumber(3), offsets: vec![0, 0].into() });
    }
}
