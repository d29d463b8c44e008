//! Ids of which two servers show different runs, for longer than a restart explains.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::{Id, Incarnation, deadline::Deadlines};

/// Every restart shows two runs for a moment.
const LASTS: Duration = Duration::from_secs(3);
/// A server that was told asks its own run, and a dead one is gone by then: what still differs are two that live.
const AGAIN: Duration = Duration::from_secs(9);
/// So often the servers are told of one pair of runs.
const REPORTS: u8 = 2;

/// Two runs of one Id, in order.
pub(super) type Runs = (Incarnation, Incarnation);

/// What is known of each Id in doubt; at most one entry for each peer that is online.
#[derive(Clone, Debug, Default)]
pub(super) struct Twins {
    doubts: BTreeMap<Id, Doubt>,
    due: Deadlines<Id>,
}

#[derive(Clone, Copy, Debug)]
struct Doubt {
    runs: Runs,
    reports: u8,
}

impl Twins {
    /// The servers now show these two runs of `id`, or only one.
    pub(super) fn see(&mut self, now: Instant, id: Id, runs: Option<Runs>) {
        let known = self.doubts.get(&id).copied();
        match (runs, known) {
            (Some(runs), Some(known)) if known.runs == runs => {
                if known.reports < REPORTS && self.due.get(&id).is_none() {
                    self.due.set(id, Some(now + LASTS));
                }
            }
            (Some(runs), _) => {
                self.doubts.insert(id, Doubt { runs, reports: 0 });
                self.due.set(id, Some(now + LASTS));
            }
            (None, Some(known)) => {
                self.due.set(id, None);
                if known.reports < REPORTS {
                    self.doubts.remove(&id);
                }
            }
            (None, None) => {}
        }
    }

    /// No server shows `id` any more.
    pub(super) fn forget(&mut self, id: &Id) {
        if self.doubts.remove(id).is_some() {
            self.due.set(*id, None);
        }
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.due.next().map(|(at, _)| at)
    }

    /// The next Id whose servers are to be told.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Id> {
        let id = self.due.pop_due(now)?;
        if let Some(doubt) = self.doubts.get_mut(&id) {
            doubt.reports = doubt.reports.saturating_add(1);
            if doubt.reports < REPORTS {
                self.due.set(id, Some(now + AGAIN));
            }
        }
        Some(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Identity, Role, SecretKey, testing::epoch};

    fn run(counter: u64) -> Incarnation {
        Incarnation { counter, random: [0; 16] }
    }

    #[test]
    fn a_pair_of_runs_is_told_twice_and_only_if_it_lasts() {
        let id = Identity::new(Role::Peer, SecretKey::from_bytes([1; 32])).id();
        let at = |secs| epoch() + Duration::from_secs(secs);
        let pair = Some((run(1), run(2)));
        let mut twins = Twins::default();
        twins.see(at(0), id, pair);
        twins.see(at(2), id, None);
        assert_eq!(twins.deadline(), None);
        twins.see(at(4), id, pair);
        twins.see(at(5), id, pair);
        assert_eq!(twins.pop_due(at(6)), None);
        assert_eq!(twins.pop_due(at(7)), Some(id));
        assert_eq!(twins.pop_due(at(15)), None);
        assert_eq!(twins.pop_due(at(16)), Some(id));
        twins.see(at(17), id, None);
        twins.see(at(18), id, pair);
        assert_eq!(twins.deadline(), None);
        twins.see(at(19), id, Some((run(2), run(3))));
        assert_eq!(twins.pop_due(at(22)), Some(id));
        twins.forget(&id);
        assert_eq!(twins.deadline(), None);
        assert!(twins.doubts.is_empty());
    }
}
