//! Faults that tests plant, to show that their checks find them. None is ever present outside of tests.

use super::Raft;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Flaw {
    /// A vote is not written to disk.
    VoteNotPersisted,
    /// Votes are given right after a start.
    VoteAfterStart,
    /// Answers leave before the disk has what they say.
    SendBeforePersist,
    /// Configurations change by any number of voters in one step.
    #[cfg(test)]
    DirectStep,
    /// Configurations change before the term's first entry is committed.
    ChangeBeforeNoop,
    /// Entries of earlier terms are committed by counting.
    CountOldTerms,
    /// Answers of an earlier membership count.
    StaleJoin,
    /// The lease goes on after another node was told to campaign.
    LeaseInTransfer,
    /// A transfer that failed is forgotten, although the message may still arrive.
    AbortInTerm,
}

impl<N, D> Raft<N, D> {
    #[cfg(test)]
    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.flaw == Some(flaw)
    }

    #[cfg(not(test))]
    pub(super) fn has(&self, _: Flaw) -> bool {
        false
    }
}
