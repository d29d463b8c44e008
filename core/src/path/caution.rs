//! How slow to believe in a death: paths that were given up and answered after all had only been held up in a queue.

use std::time::{Duration, Instant};

/// Each mistake doubles the patience, so many times at most.
const MAX_DOUBLINGS: u32 = 3;
/// Without a further mistake for so long, all is forgotten.
const FORGIVEN_AFTER: Duration = Duration::from_secs(60);

/// The mistakes of one link. A queue of a second in front of a thin uplink looks like death to who waits a third of one;
/// leaving for another path through the same queue, with copies of everything, would only make it longer.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Caution {
    mistakes: u32,
    last: Option<Instant>,
}

impl Caution {
    /// A path answered late that had been left as dead.
    pub(super) fn mistaken(&mut self, now: Instant) {
        self.mistakes = (self.current(now) + 1).min(MAX_DOUBLINGS);
        self.last = Some(now);
    }

    /// The patience that takes the place of `patience`.
    pub(super) fn stretch(&self, now: Instant, patience: Duration) -> Duration {
        patience * (1 << self.current(now))
    }

    fn current(&self, now: Instant) -> u32 {
        let recent = self.last.is_some_and(|last| now.saturating_duration_since(last) < FORGIVEN_AFTER);
        if recent { self.mistakes } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    #[test]
    fn each_mistake_doubles_the_patience_until_a_minute_without_one() {
        let (now, patience) = (epoch(), Duration::from_millis(100));
        let mut caution = Caution::default();
        let mut stretched = Vec::new();
        for _ in 0..5 {
            stretched.push(caution.stretch(now, patience).as_millis());
            caution.mistaken(now);
        }
        assert_eq!(stretched, [100, 200, 400, 800, 800]);
        assert_eq!(caution.stretch(now + FORGIVEN_AFTER, patience), patience);
        caution.mistaken(now + FORGIVEN_AFTER);
        assert_eq!(caution.stretch(now + FORGIVEN_AFTER, patience), patience * 2);
    }
}
