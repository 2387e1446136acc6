//! A set of seqs as disjoint ranges: a socket that misses nothing is one range, however long it lives.

use std::collections::BTreeMap;

/// Disjoint ranges, none touching another: first → last.
#[derive(Debug, Clone, Default)]
pub(super) struct Ranges(BTreeMap<i64, i64>);

impl Ranges {
    pub(super) fn contains(&self, seq: i64) -> bool {
        self.0.range(..=seq).next_back().is_some_and(|(_, last)| seq <= *last)
    }

    /// Adds `from..=to`; nothing when `to` lies before `from`.
    pub(super) fn insert(&mut self, from: i64, to: i64) {
        if to < from {
            return;
        }
        let (mut from, mut to) = (from, to);
        // Every range that touches or overlaps the new one becomes part of it.
        while let Some((first, last)) = self.0.range(..=to.saturating_add(1)).next_back() {
            let (first, last) = (*first, *last);
            if last < from.saturating_sub(1) {
                break;
            }
            self.0.remove(&first);
            from = from.min(first);
            to = to.max(last);
        }
        self.0.insert(from, to);
    }

    pub(super) fn remove(&mut self, seq: i64) {
        let Some((first, last)) = self.0.range(..=seq).next_back() else { return };
        let (first, last) = (*first, *last);
        if seq <= last {
            self.0.remove(&first);
            self.insert(first, seq - 1);
            self.insert(seq + 1, last);
        }
    }

    /// How many seqs lie between the first and the last and belong to no range.
    pub(super) fn holes(&self) -> u64 {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        pairs.map(|((_, last), (first, _))| first.abs_diff(*last) - 1).sum()
    }

    /// The ranges in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.0.iter().map(|(first, last)| (*first, *last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn behaves_as_a_set_of_numbers() {
        let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
        let mut state = 7u64;
        for _ in 0..3_000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let (from, len) = ((state >> 33) as i64 % 100, (state >> 50) as i64 % 6);
            if state >> 63 == 0 {
                ranges.insert(from, from + len);
                set.extend(from..=from + len);
            } else {
                (from..=from + len).for_each(|seq| ranges.remove(seq));
                (from..=from + len).for_each(|seq| {
                    set.remove(&seq);
                });
            }
            assert!((0..110).all(|seq| ranges.contains(seq) == set.contains(&seq)));
            let between = set.first().zip(set.last()).map_or(0, |(a, b)| (b - a + 1) as u64);
            assert_eq!(ranges.holes(), between - set.len() as u64);
        }
    }

    #[test]
    fn a_seq_far_away_costs_nothing() {
        let mut ranges = Ranges::default();
        ranges.insert(1, 1);
        ranges.insert(i64::MAX, i64::MAX);
        ranges.insert(5, 4);
        assert_eq!(ranges.holes(), i64::MAX as u64 - 2);
    }
}
