//! Majorities, one or two at once: what a set of voters agrees on, and whether a vote is won.

use std::{collections::BTreeSet, hash::Hash};

use serde::{Deserialize, Serialize};

use super::NodeId;

/// The result of a vote so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum VoteResult {
    /// Neither side has a majority yet.
    Pending,
    /// So many refused that no majority can grant any more.
    Lost,
    /// A majority granted.
    Won,
}

/// The voters: one set, or during joint consensus two, each of which must agree by a majority of its own
/// (Raft paper, section 6).
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "N: Serialize", deserialize = "N: Deserialize<'de> + Ord"))]
pub struct Voters<N> {
    /// The voters, or those that come in while the configuration is joint.
    pub incoming: BTreeSet<N>,
    /// The voters that go out; empty unless the configuration is joint.
    pub outgoing: BTreeSet<N>,
}

impl<N> Default for Voters<N> {
    fn default() -> Self {
        Self { incoming: BTreeSet::new(), outgoing: BTreeSet::new() }
    }
}

impl<N: NodeId> Voters<N> {
    /// One set of voters.
    pub fn new(voters: impl IntoIterator<Item = N>) -> Self {
        Self { incoming: voters.into_iter().collect(), outgoing: BTreeSet::new() }
    }

    /// Whether two majorities are needed.
    pub fn is_joint(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Whether `node` votes in either set.
    pub fn contains(&self, node: &N) -> bool {
        self.incoming.contains(node) || self.outgoing.contains(node)
    }

    /// Both sets in order, each node once.
    pub fn iter(&self) -> impl Iterator<Item = N> {
        self.incoming.union(&self.outgoing).copied()
    }

    /// The greatest value that a quorum has reached: the smaller one of both sets' if joint. `None` without voters.
    pub fn agreed<T: Ord + Copy>(&self, value: impl Fn(&N) -> T) -> Option<T> {
        match (majority_value(&self.incoming, &value), majority_value(&self.outgoing, &value)) {
            (Some(incoming), Some(outgoing)) => Some(incoming.min(outgoing)),
            (incoming, outgoing) => incoming.or(outgoing),
        }
    }

    /// The result of a vote in which each node granted, refused, or has not answered. Lost without voters.
    pub fn vote(&self, vote: impl Fn(&N) -> Option<bool>) -> VoteResult {
        match (majority_vote(&self.incoming, &vote), majority_vote(&self.outgoing, &vote)) {
            (None, None) => VoteResult::Lost,
            (Some(result), None) | (None, Some(result)) => result,
            (Some(incoming), Some(outgoing)) if incoming == outgoing => incoming,
            (Some(VoteResult::Lost), _) | (_, Some(VoteResult::Lost)) => VoteResult::Lost,
            _ => VoteResult::Pending,
        }
    }

    /// Whether those for which `is_active` holds are a quorum.
    pub fn has_quorum(&self, is_active: impl Fn(&N) -> bool) -> bool {
        self.vote(|node| Some(is_active(node))) == VoteResult::Won
    }
}

/// How many of `len` voters are a majority.
pub fn majority(len: usize) -> usize {
    len / 2 + 1
}

// by plain sorting: a vector kept in order by other means once lost its order elsewhere, and entries were committed
// without a quorum
fn majority_value<N: NodeId, T: Ord + Copy>(voters: &BTreeSet<N>, value: impl Fn(&N) -> T) -> Option<T> {
    let mut values: Vec<T> = voters.iter().map(value).collect();
    values.sort_unstable_by(|a, b| b.cmp(a));
    values.get(majority(values.len()) - 1).copied()
}

fn majority_vote<N: NodeId>(voters: &BTreeSet<N>, vote: impl Fn(&N) -> Option<bool>) -> Option<VoteResult> {
    if voters.is_empty() {
        return None;
    }
    let count = |answer| voters.iter().filter(|voter| vote(voter) == answer).count();
    let (granted, refused) = (count(Some(true)), count(Some(false)));
    let needed = majority(voters.len());
    Some(if granted >= needed {
        VoteResult::Won
    } else if voters.len() - refused < needed {
        VoteResult::Lost
    } else {
        VoteResult::Pending
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::{collection, prelude::*};

    use super::*;

    fn joint<const I: usize, const O: usize>(incoming: [u8; I], outgoing: [u8; O]) -> Voters<u8> {
        Voters { incoming: incoming.into(), outgoing: outgoing.into() }
    }

    fn reached(voters: &Voters<u8>, values: &[u64]) -> Option<u64> {
        voters.agreed(|&node| values.get(usize::from(node)).copied().unwrap_or(0))
    }

    #[test]
    fn a_majority_reached_what_half_of_the_others_have() {
        assert_eq!(reached(&joint([], []), &[]), None);
        assert_eq!(reached(&joint([0], []), &[7]), Some(7));
        assert_eq!(reached(&joint([0, 1], []), &[7, 3]), Some(3));
        assert_eq!(reached(&joint([0, 1, 2], []), &[7, 3, 5]), Some(5));
        assert_eq!(reached(&joint([0, 1, 2, 3], []), &[7, 3, 5, 6]), Some(5));
        assert_eq!(reached(&joint([0, 1, 2, 3, 4], []), &[0, 0, 9, 8, 7]), Some(7));
    }

    #[test]
    fn a_joint_quorum_is_a_majority_of_each_set() {
        let voters = joint([0, 1, 2], [2, 3, 4]);
        assert_eq!(reached(&voters, &[9, 9, 9, 1, 2]), Some(2));
        assert_eq!(reached(&voters, &[9, 9, 1, 4, 5]), Some(4));
        assert!(!voters.has_quorum(|node| *node < 2));
        assert!(voters.has_quorum(|node| [0, 2, 3].contains(node)));
    }

    #[test]
    fn a_joint_vote_is_lost_with_either_set() {
        let voters = joint([0, 1, 2], [3, 4, 5]);
        let result = |votes: &[(u8, bool)]| {
            let votes: BTreeMap<u8, bool> = votes.iter().copied().collect();
            voters.vote(|node| votes.get(node).copied())
        };
        assert_eq!(result(&[(0, true), (1, true)]), VoteResult::Pending);
        assert_eq!(result(&[(0, true), (1, true), (3, true), (5, true)]), VoteResult::Won);
        assert_eq!(result(&[(0, true), (1, true), (3, false), (5, false)]), VoteResult::Lost);
        assert_eq!(result(&[(0, true), (1, false), (3, true), (5, true)]), VoteResult::Pending);
        assert_eq!(joint([], []).vote(|_| Some(true)), VoteResult::Lost);
    }

    proptest! {
        /// The plain sort against counting.
        #[test]
        fn what_is_agreed_on_is_the_greatest_value_with_a_quorum(
            incoming in collection::btree_set(0u8..8, 0..8),
            outgoing in collection::btree_set(0u8..8, 0..8),
            values in collection::vec(0u64..6, 8),
        ) {
            let voters = Voters { incoming, outgoing };
            let has = |least: u64| voters.has_quorum(|&node| values[usize::from(node)] >= least);
            let expected = (0..6).rev().find(|&least| has(least));
            prop_assert_eq!(reached(&voters, &values), expected);
        }

        /// Two quorums of the same voters always share a node.
        #[test]
        fn two_quorums_intersect(
            incoming in collection::btree_set(0u8..8, 1..8),
            outgoing in collection::btree_set(0u8..8, 0..8),
            a in any::<u8>(),
            b in any::<u8>(),
        ) {
            let voters = Voters { incoming, outgoing };
            let quorum = |set: u8| voters.has_quorum(|&node| set >> node & 1 == 1);
            prop_assert!(!quorum(a) || !quorum(b) || a & b != 0);
        }
    }
}
