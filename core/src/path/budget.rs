//! How much work a remote may cause in a second.

use std::time::{Duration, Instant};

/// A rate with a burst (the generic cell rate algorithm: one instant is all its state).
#[derive(Clone, Debug)]
pub(super) struct Budget {
    interval: Duration,
    burst: Duration,
    paid_until: Instant,
}

impl Budget {
    /// `per_second` (at least 1) lasting, `burst` at once.
    pub(super) fn new(now: Instant, per_second: u32, burst: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, burst: interval * burst, paid_until: now }
    }

    /// Takes one from the budget; `false` if it is used up.
    pub(super) fn take(&mut self, now: Instant) -> bool {
        let paid_until = self.paid_until.max(now) + self.interval;
        let within = paid_until <= now + self.burst;
        if within {
            self.paid_until = paid_until;
        }
        within
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn a_burst_passes_and_then_the_rate() {
        let start = epoch();
        let mut budget = Budget::new(start, 100, 10);
        assert_eq!((0..1_000).filter(|_| budget.take(start)).count(), 10);
        let second = (1..=1_000).filter(|&ms| budget.take(start + Duration::from_millis(ms))).count();
        assert_eq!(second, 100);
    }
}
