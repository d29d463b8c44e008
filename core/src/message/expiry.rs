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

    /// Forgets all entries that name only orders below `lowest`: keeps the index in proportion to the live messages.
    pub(super) fn sweep(&mut self, lowest: u64) {
        self.due.retain(|_, (_, last)| *last >= lowest);
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}
