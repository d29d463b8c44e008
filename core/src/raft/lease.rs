//! How long a leader can be sure that nobody else leads.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// When the rounds of heartbeats of this term were sent.
///
/// Who answers a round gives no vote for an election timeout from then on, and each election needs one of those who
/// answered. So nobody else can be elected within an election timeout of the *sending* of a round that a quorum
/// acknowledged, less what the clocks may drift apart meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Lease {
    rounds: VecDeque<(u64, Instant)>,
}

impl Lease {
    /// A round is about to be sent; rounds that are too old to hold a lease of `length` are forgotten.
    pub(super) fn sent(&mut self, round: u64, now: Instant, length: Duration) {
        while self.rounds.front().is_some_and(|(_, sent)| now.saturating_duration_since(*sent) >= length) {
            self.rounds.pop_front();
        }
        self.rounds.push_back((round, now));
    }

    /// No round sent so far counts any more.
    pub(super) fn drop_all(&mut self) {
        self.rounds.clear();
    }

    /// When a lease of `length` ends, if a quorum acknowledged the rounds up to `acked`.
    pub(super) fn until(&self, acked: u64, length: Duration) -> Option<Instant> {
        let newest = self.rounds.iter().rev().find(|(round, _)| *round <= acked);
        newest.and_then(|(_, sent)| sent.checked_add(length))
    }
}
