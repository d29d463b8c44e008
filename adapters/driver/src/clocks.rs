//! The two clocks of the system: the monotonic one may stand still while the machine sleeps, the wall clock does not.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

/// How far the wall clock may run ahead of the monotonic one while nobody sleeps, as when it is set by a little.
const TOLERANCE: Duration = Duration::from_millis(100);

/// Reads both.
pub(crate) type ReadClocks = Arc<dyn Fn() -> Clocks + Send + Sync>;

/// What both showed at one moment.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clocks {
    pub(crate) monotonic: Instant,
    pub(crate) wall: SystemTime,
}

impl Clocks {
    pub(crate) fn now() -> Self {
        Self { monotonic: Instant::now(), wall: SystemTime::now() }
    }

    /// Whether the machine slept between this moment and a later one, or may have: a wall clock that was set ahead looks
    /// the same. One that was set back meanwhile tells nothing.
    pub(crate) fn slept_until(&self, later: &Self) -> bool {
        let wall = later.wall.duration_since(self.wall).unwrap_or_default();
        let monotonic = later.monotonic.saturating_duration_since(self.monotonic);
        wall.saturating_sub(monotonic) > TOLERANCE
    }
}

/// Notices that the machine slept, each time once.
#[derive(Debug)]
pub(crate) struct SleepWatch(Clocks);

impl SleepWatch {
    pub(crate) const fn new(now: Clocks) -> Self {
        Self(now)
    }

    /// Whether the machine slept since the last look, or since the beginning.
    pub(crate) fn look(&mut self, now: Clocks) -> bool {
        let before = std::mem::replace(&mut self.0, now);
        before.slept_until(&now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// So long after `start` by each clock.
    fn after(start: Clocks, monotonic: u64, wall: u64) -> Clocks {
        Clocks { monotonic: start.monotonic + ms(monotonic), wall: start.wall + ms(wall) }
    }

    #[test]
    fn a_wall_clock_that_ran_ahead_means_sleep_and_one_that_did_not_means_nothing() {
        let start = Clocks::now();
        for (monotonic, wall, slept) in [
            (0, 0, false),
            (60_000, 60_000, false),
            (5, 105, false),
            (5, 106, true),
            (0, 3_600_000, true),
            (60_000, 0, false),
        ] {
            assert_eq!(start.slept_until(&after(start, monotonic, wall)), slept, "{monotonic} {wall}");
        }
        assert!(!after(start, 0, 9_000).slept_until(&after(start, 1_000, 0)), "the wall clock was set back");
    }

    #[test]
    fn each_sleep_is_noticed_once() {
        let start = Clocks::now();
        let mut watch = SleepWatch::new(start);
        assert!(!watch.look(after(start, 50, 50)));
        assert!(watch.look(after(start, 60, 9_060)));
        assert!(!watch.look(after(start, 90, 9_090)));
        // set little by little, as time servers do
        assert!((1..20).all(|step| !watch.look(after(start, 90 + step * 1_000, 9_090 + step * 1_050))));
        assert!(watch.look(after(start, 20_000, 99_000)));
    }
}
