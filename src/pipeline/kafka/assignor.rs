//! Who of a consumer group should own which partition: balanced, and with as few changes as balance allows.
//!
//! The group's leader runs this, and any member may be the leader: a pure function of what the members say, so
//! that all would decide alike.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Partition;

/// A member of the group, as it describes itself when it joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The id that the coordinator gave it.
    pub id: String,
    /// What it was assigned last; empty for a new member.
    pub owned: Vec<Partition>,
    /// The group's generation of that assignment; -1 for a new member. Of two members that name the same
    /// partition, the one of the later generation had it last.
    pub generation: i32,
}

/// Shares `partitions` out among the members: the shares differ by one at most, nobody loses what balance does
/// not ask for, and what is free goes to those with fewest. The order of the members does not matter.
pub fn assign(members: &[Candidate], partitions: Partition) -> BTreeMap<String, Vec<Partition>> {
    let mut shares = last_owners(members, partitions);
    if shares.is_empty() {
        return BTreeMap::new();
    }
    trim(&mut shares, partitions as usize);
    let kept: BTreeSet<Partition> = shares.values().flatten().copied().collect();
    for partition in (0..partitions).filter(|partition| !kept.contains(partition)) {
        // The first of those with fewest, in the order of their ids.
        if let Some((_, share)) = shares.iter_mut().min_by_key(|(_, share)| share.len()) {
            share.insert(partition);
        }
    }
    shares.into_iter().map(|(id, share)| (id.to_owned(), share.into_iter().collect())).collect()
}

/// What each member had, every partition with one member at most.
fn last_owners(members: &[Candidate], partitions: Partition) -> BTreeMap<&str, BTreeSet<Partition>> {
    let mut claims: Vec<&Candidate> = members.iter().collect();
    claims.sort_by_key(|member| (std::cmp::Reverse(member.generation), member.id.as_str()));
    let mut shares: BTreeMap<&str, BTreeSet<Partition>> = BTreeMap::new();
    let mut taken = BTreeSet::new();
    for member in claims {
        let share = shares.entry(&member.id).or_default();
        share.extend(member.owned.iter().filter(|p| **p < partitions && taken.insert(**p)));
    }
    shares
}

/// Cuts every share down to what balance allows: as many members as there are partitions left over keep one
/// more than the others, and they are those who have it.
fn trim(shares: &mut BTreeMap<&str, BTreeSet<Partition>>, partitions: usize) {
    let least = partitions / shares.len();
    let mut left_over = partitions % shares.len();
    for share in shares.values_mut() {
        let keep = if share.len() > least && left_over > 0 {
            left_over -= 1;
            least + 1
        } else {
            least
        };
        while share.len() > keep {
            share.pop_last();
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn member(id: &str, generation: i32, owned: &[Partition]) -> Candidate {
        Candidate { id: id.to_owned(), owned: owned.to_vec(), generation }
    }

    fn shares(members: &[Candidate], partitions: Partition) -> Vec<(String, Vec<Partition>)> {
        assign(members, partitions).into_iter().collect()
    }

    fn expected(shares: &[(&str, &[Partition])]) -> Vec<(String, Vec<Partition>)> {
        shares.iter().map(|(id, share)| ((*id).to_owned(), share.to_vec())).collect()
    }

    #[test]
    fn a_first_member_gets_everything_and_a_second_one_half_of_it() {
        assert_eq!(shares(&[member("a", -1, &[])], 3), expected(&[("a", &[0, 1, 2])]));
        let two = [member("a", 1, &[0, 1, 2, 3, 4, 5]), member("b", -1, &[])];
        assert_eq!(shares(&two, 6), expected(&[("a", &[0, 1, 2]), ("b", &[3, 4, 5])]));
    }

    #[test]
    fn a_third_member_takes_one_from_each() {
        let three = [member("c", -1, &[]), member("b", 2, &[3, 4, 5]), member("a", 2, &[0, 1, 2])];
        assert_eq!(shares(&three, 6), expected(&[("a", &[0, 1]), ("b", &[3, 4]), ("c", &[2, 5])]));
    }

    #[test]
    fn what_a_dead_member_had_goes_to_those_with_fewest() {
        let left = [member("a", 3, &[0, 1, 2]), member("b", 3, &[3, 4])];
        assert_eq!(shares(&left, 7), expected(&[("a", &[0, 1, 2, 6]), ("b", &[3, 4, 5])]));
    }

    #[test]
    fn a_member_that_slept_through_a_generation_does_not_get_its_partitions_back() {
        let two = [member("asleep", 4, &[0, 1]), member("taker", 5, &[0, 1])];
        assert_eq!(shares(&two, 2), expected(&[("asleep", &[1]), ("taker", &[0])]));
    }

    #[test]
    fn more_members_than_partitions_leave_some_with_nothing() {
        let three = [member("a", 1, &[0]), member("b", 1, &[1]), member("c", -1, &[])];
        assert_eq!(shares(&three, 2), expected(&[("a", &[0]), ("b", &[1]), ("c", &[])]));
        assert_eq!(shares(&[], 2), expected(&[]));
    }

    /// Members with what they had; some name the same partitions, or ones that do not exist.
    fn groups() -> impl Strategy<Value = (Vec<Candidate>, Partition)> {
        (1u32..40).prop_flat_map(|partitions| {
            let owned = prop::collection::btree_set(0..partitions + 3, 0..12);
            let member = (owned, -1i32..4);
            let members = prop::collection::vec(member, 1..9).prop_map(|members| {
                let candidate = |(n, (owned, generation)): (usize, (BTreeSet<Partition>, i32))| Candidate {
                    id: format!("member-{n}"),
                    owned: owned.into_iter().collect(),
                    generation,
                };
                members.into_iter().enumerate().map(candidate).collect::<Vec<_>>()
            });
            (members, Just(partitions))
        })
    }

    proptest! {
        #[test]
        fn every_partition_has_one_owner_and_shares_differ_by_one_at_most((members, partitions) in groups()) {
            let shares = assign(&members, partitions);
            prop_assert_eq!(shares.len(), members.len());
            let mut all: Vec<_> = shares.values().flatten().copied().collect();
            all.sort_unstable();
            prop_assert_eq!(all, (0..partitions).collect::<Vec<_>>());
            let sizes = || shares.values().map(Vec::len);
            prop_assert!(sizes().max().unwrap() - sizes().min().unwrap() <= 1);
        }

        #[test]
        fn nobody_loses_more_than_balance_asks_for((members, partitions) in groups()) {
            let before = last_owners(&members, partitions);
            let shares = assign(&members, partitions);
            let kept: usize = before
                .iter()
                .map(|(id, had)| shares[*id].iter().filter(|partition| had.contains(partition)).count())
                .sum();
            // No balanced assignment keeps more: each member may keep the least share, and some one more.
            let (least, left_over) = (partitions as usize / members.len(), partitions as usize % members.len());
            let larger = before.values().filter(|had| had.len() > least).count();
            let most = before.values().map(|had| had.len().min(least)).sum::<usize>() + larger.min(left_over);
            prop_assert_eq!(kept, most);
        }

        #[test]
        fn all_members_would_decide_alike((members, partitions) in groups(), seed in any::<u64>()) {
            let mut shuffled = members.clone();
            let by = (seed % members.len() as u64) as usize;
            shuffled.rotate_left(by);
            shuffled.reverse();
            prop_assert_eq!(assign(&shuffled, partitions), assign(&members, partitions));
        }

        #[test]
        fn an_assignment_is_its_own_next_one((members, partitions) in groups()) {
            let first = assign(&members, partitions);
            let again: Vec<_> = first
                .iter()
                .map(|(id, owned)| Candidate { id: id.clone(), owned: owned.clone(), generation: 9 })
                .collect();
            prop_assert_eq!(assign(&again, partitions), first);
        }
    }
}
