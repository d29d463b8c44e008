//! Faults that checks plant, to show that they find them.

use super::{Command, Configuration, NodeId, Op, Raft, Voters, change::ChangeError, quorum::majority};

/// A fault of a [`Raft`]. It can be planted in tests and with the feature `planted`, and is never there otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(any(test, feature = "planted")), expect(unreachable_pub, reason = "exported where it can be planted"))]
pub enum Flaw {
    /// A vote is not written to disk.
    VoteNotPersisted,
    /// Votes are given right after a start.
    #[cfg(any(test, feature = "planted"))]
    VoteAfterStart,
    /// Votes are given although a leader was heard just before.
    VoteDespiteLeader,
    /// Answers leave before the disk has what they say.
    SendBeforePersist,
    /// Configurations change by any number of voters in one step, where a joint one should come between too.
    DirectStep,
    /// Configurations change before the term's first entry is committed.
    ChangeBeforeNoop,
    /// Entries of earlier terms are committed by counting.
    CountOldTerms,
    /// A learner that has an entry, or answers a heartbeat, counts like a voter.
    LearnersCount,
    /// Answers of an earlier membership count.
    StaleJoin,
    /// The lease goes on after another node was told to campaign.
    LeaseInTransfer,
    /// The lease does not end earlier by what clocks may drift apart.
    LeaseWithoutDrift,
    /// The lease counts from the answer to a round of heartbeats, not from its sending.
    LeaseFromAnswer,
    /// A transfer that failed is forgotten, although the message may still arrive.
    AbortInTerm,
}

impl<N: NodeId, D: Command> Raft<N, D> {
    /// Plants a fault, right after the start. What was planted before is gone.
    #[cfg(any(test, feature = "planted"))]
    pub fn plant(&mut self, flaw: Flaw) {
        self.planted.put(flaw);
        self.deaf &= flaw != Flaw::VoteAfterStart;
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.planted.has(flaw)
    }

    /// What [`Flaw::DirectStep`] does: the end of a joint change without the joint configuration.
    pub(super) fn in_one_step(&self, ops: &[Op<N>], join: u64) -> Result<Configuration<N>, ChangeError<N>> {
        let mut config = self.config.enter_joint(ops, join, &self.limits)?;
        config.learners.append(&mut config.learners_next);
        config.voters = Voters::new(config.voters.incoming);
        let members = config.members();
        config.joins.retain(|node, _| members.contains(node));
        Ok(config)
    }

    /// What [`Flaw::LearnersCount`] does: as many members as are a quorum of the voters, whoever they are.
    pub(super) fn agreed_by_members(&self, value: impl Fn(&N) -> u64) -> Option<u64> {
        let mut values: Vec<u64> = self.config.members().iter().map(value).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values.get(majority(self.config.voters.incoming.len()) - 1).copied()
    }
}
