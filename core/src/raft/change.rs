//! Configurations, and which one may follow which.
//!
//! Two configurations may be in force at different nodes at the same time, so each quorum of the one must share a node
//! with each quorum of the other. One voter more or less keeps that (thesis, section 4.1); everything else goes through a
//! joint configuration (Raft paper, section 6), the exchange of {A} for {B} too.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Limits, NodeId, quorum::Voters};

/// Who belongs to the cluster, and in which role.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "N: Serialize", deserialize = "N: Deserialize<'de> + Ord"))]
pub struct Configuration<N> {
    /// Who elects and commits.
    pub voters: Voters<N>,
    /// Who gets the log and is never counted.
    pub learners: BTreeSet<N>,
    /// Outgoing voters that become learners when the joint configuration is left.
    pub learners_next: BTreeSet<N>,
    /// For each member the index of the entry that made it one. A node that left and came back has another one, so
    /// that a late answer of its earlier membership can be told from a new one.
    pub joins: BTreeMap<N, u64>,
}

/// One thing to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Op<N> {
    /// Make it a voter, whether it was a learner or no member.
    Voter(N),
    /// Make it a learner, whether it was a voter or no member.
    Learner(N),
    /// Remove it.
    Remove(N),
}

/// Why a configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ChangeError<N: NodeId> {
    /// A joint configuration is in force; it must be left first.
    #[error("a joint configuration is in force and must be left first")]
    Joint,
    /// There is no joint configuration to leave.
    #[error("there is no joint configuration to leave")]
    NotJoint,
    /// Nobody could elect or commit.
    #[error("no voter would be left")]
    NoVoters,
    /// The set of voters would change by more than one in one step: quorums of the old and the new set could be disjoint.
    #[error("{0} voters would change in one step: use joint consensus")]
    NotByOne(usize),
    /// More voters than the limit.
    #[error("{0} voters are more than the limit")]
    TooManyVoters(usize),
    /// More learners than the limit.
    #[error("{0} learners are more than the limit")]
    TooManyLearners(usize),
    /// One change names a node twice.
    #[error("{0:?} is named twice")]
    NamedTwice(N),
    /// A node that is no member cannot be removed.
    #[error("{0:?} is no member")]
    NotAMember(N),
    /// Everything is so already.
    #[error("nothing would change")]
    Nothing,
    /// Not a configuration that any change makes: a node in two roles, or without a join.
    #[error("{0:?} has no role, or two, or no join")]
    Unsound(N),
}

impl<N> Default for Configuration<N> {
    /// What a node knows that no cluster has admitted yet: nobody. It never campaigns.
    fn default() -> Self {
        Self {
            voters: Voters::default(),
            learners: BTreeSet::new(),
            learners_next: BTreeSet::new(),
            joins: BTreeMap::new(),
        }
    }
}

impl<N: NodeId> Configuration<N> {
    /// The first configuration of a cluster; its members joined at index `join`.
    pub fn new(voters: impl IntoIterator<Item = N>, learners: impl IntoIterator<Item = N>, join: u64) -> Self {
        let voters = Voters::new(voters);
        let learners: BTreeSet<N> = learners.into_iter().filter(|node| !voters.contains(node)).collect();
        let joins = voters.iter().chain(learners.iter().copied()).map(|node| (node, join)).collect();
        Self { voters, learners, learners_next: BTreeSet::new(), joins }
    }

    /// A copy built at once, whose sets leave no gaps in their memory.
    pub(super) fn packed(&self) -> Self {
        Self {
            voters: Voters {
                incoming: self.voters.incoming.iter().copied().collect(),
                outgoing: self.voters.outgoing.iter().copied().collect(),
            },
            learners: self.learners.iter().copied().collect(),
            learners_next: self.learners_next.iter().copied().collect(),
            joins: self.joins.iter().map(|(node, join)| (*node, *join)).collect(),
        }
    }

    /// Whether `node` is a voter or a learner.
    pub fn contains(&self, node: &N) -> bool {
        self.voters.contains(node) || self.learners.contains(node)
    }

    /// All members in order, each once.
    pub fn members(&self) -> BTreeSet<N> {
        self.voters.iter().chain(self.learners.iter().copied()).collect()
    }

    /// When `node` joined, as the index of an entry.
    pub fn join_of(&self, node: &N) -> Option<u64> {
        self.joins.get(node).copied()
    }

    /// Whether `node` decides alone.
    pub fn is_sole_voter(&self, node: &N) -> bool {
        !self.voters.is_joint() && self.voters.incoming.len() == 1 && self.voters.incoming.contains(node)
    }

    /// The configuration after `ops` in one step; the set of voters changes by one at most. New members join at `join`.
    pub fn simple(&self, ops: &[Op<N>], join: u64, limits: &Limits) -> Result<Self, ChangeError<N>> {
        let next = self.changed(ops, join)?;
        let changed = self.voters.incoming.symmetric_difference(&next.voters.incoming).count();
        if changed > 1 {
            return Err(ChangeError::NotByOne(changed));
        }
        next.within(limits)
    }

    /// The joint configuration between this one and the one after `ops`. New members join at `join`.
    pub fn enter_joint(&self, ops: &[Op<N>], join: u64, limits: &Limits) -> Result<Self, ChangeError<N>> {
        let mut next = self.changed(ops, join)?;
        next.voters.outgoing = self.voters.incoming.clone();
        // an outgoing voter still votes: it becomes a learner, or no member, only when the joint configuration is left
        next.learners_next = next.learners.intersection(&next.voters.outgoing).copied().collect();
        next.learners.retain(|node| !next.voters.outgoing.contains(node));
        for voter in &next.voters.outgoing {
            if let Some(join) = self.join_of(voter) {
                next.joins.insert(*voter, join);
            }
        }
        next.within(limits)
    }

    /// The configuration after a joint one.
    pub fn leave_joint(&self) -> Result<Self, ChangeError<N>> {
        if !self.voters.is_joint() {
            return Err(ChangeError::NotJoint);
        }
        let mut next = self.clone();
        next.voters.outgoing.clear();
        next.learners.append(&mut next.learners_next);
        let members = next.members();
        next.joins.retain(|node, _| members.contains(node));
        next.validate().map(|()| next)
    }

    /// Whether `next` may follow this configuration in one step: by one voter, into a joint one, or out of it.
    pub fn is_step(&self, next: &Self) -> bool {
        match (self.voters.is_joint(), next.voters.is_joint()) {
            (false, false) => self.voters.incoming.symmetric_difference(&next.voters.incoming).count() <= 1,
            (false, true) => next.voters.outgoing == self.voters.incoming,
            (true, false) => next.voters.incoming == self.voters.incoming,
            (true, true) => self.voters == next.voters,
        }
    }

    /// Checks what holds for every configuration: there are voters, each member has one role and one join.
    pub fn validate(&self) -> Result<(), ChangeError<N>> {
        if self.voters.incoming.is_empty() {
            return Err(ChangeError::NoVoters);
        }
        let doubled = self.learners.iter().find(|node| self.voters.contains(node));
        let misplaced = self
            .learners_next
            .iter()
            .find(|node| !self.voters.outgoing.contains(node) || self.voters.incoming.contains(node));
        if let Some(node) = doubled.or(misplaced) {
            return Err(ChangeError::Unsound(*node));
        }
        let members = self.members();
        let unjoined = members.iter().find(|node| !self.joins.contains_key(node));
        let unplaced = self.joins.keys().find(|node| !members.contains(node));
        unjoined.or(unplaced).map_or(Ok(()), |node| Err(ChangeError::Unsound(*node)))
    }

    fn changed(&self, ops: &[Op<N>], join: u64) -> Result<Self, ChangeError<N>> {
        if self.voters.is_joint() {
            return Err(ChangeError::Joint);
        }
        let mut next = self.clone();
        let mut named = BTreeSet::new();
        for op in ops {
            let (Op::Voter(node) | Op::Learner(node) | Op::Remove(node)) = *op;
            if !named.insert(node) {
                return Err(ChangeError::NamedTwice(node));
            }
            if matches!(op, Op::Remove(_)) && !self.contains(&node) {
                return Err(ChangeError::NotAMember(node));
            }
            next.voters.incoming.remove(&node);
            next.learners.remove(&node);
            match op {
                Op::Voter(_) => next.voters.incoming.insert(node),
                Op::Learner(_) => next.learners.insert(node),
                Op::Remove(_) => next.joins.remove(&node).is_some(),
            };
            if !matches!(op, Op::Remove(_)) {
                next.joins.entry(node).or_insert(join);
            }
        }
        if next == *self {
            return Err(ChangeError::Nothing);
        }
        Ok(next)
    }

    fn within(self, limits: &Limits) -> Result<Self, ChangeError<N>> {
        self.validate()?;
        if self.voters.incoming.len() > limits.max_voters {
            return Err(ChangeError::TooManyVoters(self.voters.incoming.len()));
        }
        let learners = self.learners.len() + self.learners_next.len();
        if learners > limits.max_learners {
            return Err(ChangeError::TooManyLearners(learners));
        }
        Ok(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection, prelude::*};

    use super::*;
    use Op::{Learner, Remove, Voter};

    fn config(voters: &[u8]) -> Configuration<u8> {
        Configuration::new(voters.iter().copied(), [], 1)
    }

    fn simple(from: &Configuration<u8>, ops: &[Op<u8>]) -> Result<Configuration<u8>, ChangeError<u8>> {
        from.simple(ops, 9, &Limits::default())
    }

    fn joint(from: &Configuration<u8>, ops: &[Op<u8>]) -> Result<Configuration<u8>, ChangeError<u8>> {
        from.enter_joint(ops, 9, &Limits::default())
    }

    #[test]
    fn one_voter_more_or_less_is_one_step() {
        let two = simple(&config(&[1]), &[Voter(2)]).unwrap();
        assert_eq!((two.voters.clone(), two.join_of(&1), two.join_of(&2)), (Voters::new([1, 2]), Some(1), Some(9)));
        assert_eq!(simple(&two, &[Remove(1)]).unwrap().voters, Voters::new([2]));
        assert_eq!(simple(&two, &[Learner(1)]).unwrap().learners, [1].into());
    }

    #[test]
    fn one_to_three_and_an_exchange_at_two_members_need_joint_consensus() {
        let one = simple(&config(&[1]), &[Learner(2)]).unwrap();
        for ops in [&[Voter(2), Voter(3)][..], &[Voter(2), Remove(1)], &[Voter(2), Learner(1)], &[Remove(1), Voter(3)]]
        {
            assert_eq!(simple(&one, ops), Err(ChangeError::NotByOne(2)), "{ops:?}");
            let joint = joint(&one, ops).unwrap();
            assert!(one.is_step(&joint) && joint.is_step(&joint.leave_joint().unwrap()));
            assert!(!one.is_step(&joint.leave_joint().unwrap()));
        }
        assert_eq!(simple(&config(&[1, 2, 3]), &[Learner(2), Learner(3)]), Err(ChangeError::NotByOne(2)));
    }

    #[test]
    fn a_demoted_voter_votes_until_the_joint_configuration_is_left() {
        let joint = joint(&config(&[1, 2, 3]), &[Learner(1), Remove(2), Voter(4)]).unwrap();
        assert_eq!((&joint.voters.incoming, &joint.voters.outgoing), (&[3, 4].into(), &[1, 2, 3].into()));
        assert_eq!((&joint.learners, &joint.learners_next), (&[].into(), &[1].into()));
        assert_eq!(joint.joins, [(1, 1), (2, 1), (3, 1), (4, 9)].into());
        let left = joint.leave_joint().unwrap();
        assert_eq!((left.voters, left.learners), (Voters::new([3, 4]), [1].into()));
        assert_eq!(left.joins, [(1, 1), (3, 1), (4, 9)].into());
    }

    #[test]
    fn who_left_and_comes_back_has_joined_anew() {
        let two = simple(&config(&[1]), &[Learner(2)]).unwrap();
        let one = simple(&two, &[Remove(2)]).unwrap();
        assert_eq!(one.simple(&[Learner(2)], 11, &Limits::default()).unwrap().join_of(&2), Some(11));
        assert_eq!(simple(&two, &[Voter(2)]).unwrap().join_of(&2), Some(9), "promotion is no new join");
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        let three = config(&[1, 2, 3]);
        assert_eq!(simple(&config(&[1]), &[Remove(1)]), Err(ChangeError::NoVoters));
        assert_eq!(simple(&three, &[Remove(4)]), Err(ChangeError::NotAMember(4)));
        assert_eq!(simple(&three, &[Voter(4), Remove(4)]), Err(ChangeError::NamedTwice(4)));
        assert_eq!(simple(&three, &[Voter(1)]), Err(ChangeError::Nothing));
        assert_eq!(simple(&three, &[]), Err(ChangeError::Nothing));
        assert_eq!(three.leave_joint(), Err(ChangeError::NotJoint));
        let joint = joint(&three, &[Voter(4), Voter(5)]).unwrap();
        assert_eq!(simple(&joint, &[Remove(1)]), Err(ChangeError::Joint));
        let limits = Limits { max_voters: 3, max_learners: 0, ..Limits::default() };
        assert_eq!(three.simple(&[Voter(4)], 9, &limits), Err(ChangeError::TooManyVoters(4)));
        assert_eq!(three.simple(&[Learner(4)], 9, &limits), Err(ChangeError::TooManyLearners(1)));
    }

    #[test]
    fn an_unsound_configuration_is_found_out() {
        assert_eq!(Configuration::<u8>::default().validate(), Err(ChangeError::NoVoters));
        let spoil = |spoil: fn(&mut Configuration<u8>)| {
            let mut config = config(&[1, 2]);
            spoil(&mut config);
            config.validate()
        };
        assert_eq!(spoil(|_| ()), Ok(()));
        assert_eq!(spoil(|config| _ = config.learners.insert(1)), Err(ChangeError::Unsound(1)));
        assert_eq!(spoil(|config| _ = config.learners_next.insert(2)), Err(ChangeError::Unsound(2)));
        assert_eq!(spoil(|config| _ = config.joins.remove(&2)), Err(ChangeError::Unsound(2)));
        assert_eq!(spoil(|config| _ = config.joins.insert(3, 3)), Err(ChangeError::Unsound(3)));
    }

    fn ops() -> impl Strategy<Value = Vec<Op<u8>>> {
        let op = (0u8..6, 0..3).prop_map(|(node, kind)| match kind {
            0 => Voter(node),
            1 => Learner(node),
            _ => Remove(node),
        });
        collection::vec(op, 1..5)
    }

    proptest! {
        /// Whatever is accepted is sound, and each quorum of it shares a node with each quorum of its predecessor.
        #[test]
        fn quorums_of_neighbours_intersect(changes in collection::vec((any::<bool>(), ops()), 1..12)) {
            let mut config = config(&[0]);
            for (index, (is_joint, ops)) in changes.into_iter().enumerate() {
                let join = index as u64 + 2;
                let next = match (config.voters.is_joint(), is_joint) {
                    (true, _) => config.leave_joint(),
                    (false, true) => config.enter_joint(&ops, join, &Limits::default()),
                    (false, false) => config.simple(&ops, join, &Limits::default()),
                };
                let Ok(next) = next else { continue };
                prop_assert_eq!(next.validate(), Ok(()));
                prop_assert!(config.is_step(&next));
                for set in 0u8..64 {
                    let quorum = config.voters.has_quorum(|node| set >> node & 1 == 1);
                    let disjoint = next.voters.has_quorum(|node| set >> node & 1 == 0);
                    prop_assert!(!quorum || !disjoint, "{:?} and {:?}", config, next);
                }
                config = next;
            }
        }
    }
}
