//! When the messages of a lane expire: an index that costs the hot path next to nothing.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

/// Messages that expire within so long share an entry, and the last moment of it.
const GRAIN: Duration = Duration::from_millis(5);

/// Deadlines over ascending order numbers; an entry may name messages that are gone or expire later.
#[derive(Debug, Default)]
pub(super) struct Expiries {
    due: BTreeMap<Instant, (u64, u64)>,
}

impl Expiries {
    /// Notes when message `order` expires; `order` never descends.
    pub(super) fn insert(&mut self, expires: Instant, order: u64) {
        if let Some((due, run)) = self.due.range_mut(expires..).next()
            && due.duration_since(expires) <= GRAIN
        {
            run.1 = order;
            return;
        }
        self.due.insert(expires.checked_add(GRAIN).unwrap_or(expires), (order, order));
    }

    /// The next moment to call [`pop_due`](Self::pop_due).
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.first_key_value().map(|(due, _)| *due)
    }

    /// A run of orders (both ends included) in which some may have expired.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<(u64, u64)> {
        let entry = self.due.first_entry().filter(|entry| *entry.key() <= now)?;
        Some(entry.remove())
    }

    /// Forgets entries at the front that name only orders below `lowest`, so that nobody is woken for them.
    pub(super) fn forget_below(&mut self, lowest: u64) {
        while let Some(entry) = self.due.first_entry()
            && entry.get().1 < lowest
        {
            entry.remove();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn messages_that_expire_together_share_an_entry() {
        let start = epoch();
        let at = |us| start + Duration::from_micros(us);
        let mut expiries = Expiries::default();
        for (order, us) in [(1, 10_000), (2, 10_001), (3, 15_000), (4, 15_001), (5, 9_000)] {
            expiries.insert(at(us), order);
        }
        assert_eq!(expiries.len(), 3);
        assert_eq!(expiries.next(), Some(at(14_000)));
        assert_eq!(expiries.pop_due(at(13_999)), None);
        assert_eq!(expiries.pop_due(at(30_000)), Some((5, 5)));
        assert_eq!(expiries.pop_due(at(30_000)), Some((1, 3)));
        assert_eq!(expiries.pop_due(at(30_000)), Some((4, 4)));
        assert_eq!(expiries.pop_due(at(30_000)), None);
    }

    #[test]
    fn entries_of_messages_that_are_gone_are_forgotten() {
        let start = epoch();
        let mut expiries = Expiries::default();
        for (order, ms) in [(1, 10), (2, 20), (3, 90), (4, 30), (5, 40)] {
            expiries.insert(start + Duration::from_millis(ms), order);
        }
        expiries.forget_below(3);
        assert_eq!(expiries.next(), Some(start + Duration::from_millis(35)));
        assert_eq!(expiries.len(), 3);
    }
}
