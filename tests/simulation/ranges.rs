//! Sets of seqs as ranges.

use std::collections::BTreeMap;

/// Seqs, as ranges that neither touch nor overlap.
#[derive(Debug, Clone, Default)]
pub struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    /// Adds `from..=to`.
    pub fn add(&mut self, mut from: i64, mut to: i64) {
        let touching: Vec<(i64, i64)> = self
            .0
            .range(..=to + 1)
            .rev()
            .take_while(|(_, end)| **end >= from - 1)
            .map(|(start, end)| (*start, *end))
            .collect();
        for (start, end) in touching {
            (from, to) = (from.min(start), to.max(end));
            self.0.remove(&start);
        }
        self.0.insert(from, to);
    }

    /// The first seq among them.
    pub fn first(&self) -> Option<i64> {
        self.0.keys().next().copied()
    }

    /// The last seq among them.
    pub fn last(&self) -> Option<i64> {
        self.0.values().next_back().copied()
    }

    /// The first of `from..=to` that is not among them.
    pub fn first_absent(&self, from: i64, to: i64) -> Option<i64> {
        let next = match self.0.range(..=from).next_back() {
            Some((_, end)) if *end >= from => end + 1,
            _ => from,
        };
        (next <= to).then_some(next)
    }
}

#[test]
fn ranges_that_touch_become_one() {
    let mut ranges = Ranges::default();
    for (from, to) in [(5, 6), (1, 2), (9, 9), (3, 4)] {
        ranges.add(from, to);
    }
    assert_eq!(ranges.0, BTreeMap::from([(1, 6), (9, 9)]));
    assert_eq!(ranges.first_absent(1, 9), Some(7));
    assert_eq!(ranges.first_absent(2, 6), None);
    ranges.add(6, 12);
    assert_eq!(ranges.first_absent(1, 12), None);
}
