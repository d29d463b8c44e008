//! Faults that checks plant, to show that they find them.

use std::time::Instant;

use super::{Council, Kind, Roster, Token};
use crate::raft;

/// A fault of a [`Council`]. It can be planted in tests and with the feature `planted`, and is never there otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(not(any(test, feature = "planted")), expect(unreachable_pub, reason = "exported where it can be planted"))]
pub enum Flaw {
    /// A server without its disk goes on as if it were the same member.
    AnswerForLostDisk,
    /// The end of the lease is asked for once in a while, not each time.
    StaleLease,
    /// The last one of two does not care what peers report.
    IgnoreVeto,
    /// A Provisional Master takes itself for a real one.
    ProvisionalGuard,
    /// Ages are compared anew each time that a roster is written.
    AgeAnew,
    /// A newcomer takes part in elections before it has read of its own admission.
    ElectUnplaced,
    /// A view shows whoever spoke last.
    LastWordCounts,
    /// A fault of Raft, and of what would hide it here.
    Raft(raft::Flaw),
}

impl Council {
    /// Plants a fault, right after the start. What was planted before is gone.
    #[cfg(any(test, feature = "planted"))]
    pub fn plant(&mut self, flaw: Flaw) {
        self.planted.put(flaw);
        self.plant_in_raft();
    }

    pub(super) fn has(&self, flaw: Flaw) -> bool {
        self.planted.has(flaw)
    }

    /// Raft began anew, and its fault with it.
    pub(super) fn plant_in_raft(&mut self) {
        #[cfg(any(test, feature = "planted"))]
        if let Some(Flaw::Raft(flaw)) = self.planted.get() {
            self.raft.plant(flaw);
        }
    }

    /// What [`Flaw::StaleLease`] goes by: the last lease that it was told of.
    pub(super) fn stale_lease(&self) -> Option<(Token, Instant)> {
        self.stale_lease.get().filter(|_| self.has(Flaw::StaleLease))
    }

    pub(super) fn remember_lease(&mut self) {
        if !self.has(Flaw::StaleLease) {
            return;
        }
        let until = self.guard.until(self.raft.raft().term(), self.raft.lease_until());
        if let Some(lease) = self.own_token(Kind::Elected).zip(until) {
            self.stale_lease.put(lease);
        }
    }

    /// What [`Flaw::ProvisionalGuard`] takes for a lease.
    pub(super) fn provisional_lease(&self) -> Option<Instant> {
        let is_shown = self.has(Flaw::ProvisionalGuard) && self.heir.is_shown();
        is_shown.then(|| self.ask_at.checked_add(self.settings.timing.election_max)).flatten()
    }

    /// What [`Flaw::AgeAnew`] makes of a roster.
    pub(super) fn order_anew(&self, mut roster: Roster) -> Roster {
        if self.has(Flaw::AgeAnew) {
            roster.members.reverse();
        }
        roster
    }
}
