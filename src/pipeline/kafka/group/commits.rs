//! What is worth committing: Kafka's tools show it as the group's lag, and nobody else reads it.

use std::collections::BTreeMap;

use crate::domain::{Offset, Partition};

/// How far partitions are, and what was committed of it.
#[derive(Debug, Default)]
pub struct Commits {
    reached: BTreeMap<Partition, Offset>,
    committed: BTreeMap<Partition, Offset>,
}

impl Commits {
    /// How far partitions are: the next offset of each.
    pub fn reached(&mut self, next: &[(Partition, Offset)]) {
        self.reached.extend(next.iter().copied());
    }

    /// Those of `owned` that are elsewhere than what was committed.
    pub fn due(&self, owned: &[Partition]) -> Vec<(Partition, Offset)> {
        let reached = owned.iter().filter_map(|partition| Some((*partition, *self.reached.get(partition)?)));
        reached.filter(|(partition, offset)| self.committed.get(partition) != Some(offset)).collect()
    }

    /// This was committed.
    pub fn committed(&mut self, offsets: &[(Partition, Offset)]) {
        self.committed.extend(offsets.iter().copied());
    }

    /// Others may have committed since.
    pub fn doubt(&mut self) {
        self.committed.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_owned_and_moved_is_committed() {
        let mut commits = Commits::default();
        assert_eq!(commits.due(&[0, 1]), []);
        commits.reached(&[(0, 5), (1, 0), (2, 9)]);
        assert_eq!(commits.due(&[0, 1]), [(0, 5), (1, 0)]);
        commits.committed(&[(0, 5), (1, 0)]);
        assert_eq!(commits.due(&[0, 1]), []);
        commits.reached(&[(0, 6), (1, 0), (2, 9)]);
        assert_eq!(commits.due(&[0, 1]), [(0, 6)]);
    }

    #[test]
    fn a_new_assignment_is_committed_once_even_at_rest() {
        let mut commits = Commits::default();
        commits.reached(&[(0, 5)]);
        commits.committed(&[(0, 5)]);
        commits.doubt();
        assert_eq!(commits.due(&[0]), [(0, 5)]);
    }
}
