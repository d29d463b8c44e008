//! The monotonic clock of one host: it runs a little wrong, may jump forward, and stands still while the machine sleeps.

use std::time::Duration;

const MILLION: u128 = 1_000_000;

/// What a host's clock shows, as a function of the world's time that never falls.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// At this time of the world…
    world: Duration,
    /// … it showed this.
    shown: Duration,
    /// Parts per million of its own rate.
    rate: u128,
    stands: bool,
}

impl Clock {
    /// A clock that runs fast by `ppm`, or slow if that is negative.
    pub(super) fn new(ppm: i32) -> Self {
        let rate = u128::try_from(1_000_000 + i64::from(ppm)).unwrap_or(1).max(1);
        Self { world: Duration::ZERO, shown: Duration::ZERO, rate, stands: false }
    }

    /// What it shows at time `world`.
    pub(super) fn shows(&self, world: Duration) -> Duration {
        if self.stands {
            return self.shown;
        }
        let passed = world.saturating_sub(self.world).as_nanos() * self.rate / MILLION;
        self.shown + nanos(passed)
    }

    /// The first time of the world at which it shows `shown`, unless it stands still or jumps before.
    pub(super) fn world(&self, shown: Duration) -> Duration {
        let left = shown.saturating_sub(self.shown).as_nanos() * MILLION;
        self.world + nanos(left.div_ceil(self.rate))
    }

    /// It jumps forward.
    pub(super) fn jump(&mut self, now: Duration, by: Duration) {
        self.set(now);
        self.shown += by;
    }

    /// It stands still until it [runs](Self::run) again.
    pub(super) fn stand(&mut self, now: Duration) {
        if !self.stands {
            self.set(now);
            self.stands = true;
        }
    }

    /// It goes on from where it stood. Returns for how long it did.
    pub(super) fn run(&mut self, now: Duration) -> Duration {
        let stood = if self.stands { now.saturating_sub(self.world) } else { Duration::ZERO };
        self.set(now);
        self.stands = false;
        stood
    }

    /// Whether it stands still.
    pub(super) fn stands(&self) -> bool {
        self.stands
    }

    fn set(&mut self, now: Duration) {
        (self.shown, self.world) = (self.shows(now), now);
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn a_right_clock_shows_the_time_of_the_world() {
        let clock = Clock::new(0);
        for time in [Duration::ZERO, Duration::from_nanos(1), secs(1_000_000)] {
            assert_eq!((clock.shows(time), clock.world(time)), (time, time));
        }
    }

    #[test]
    fn a_fast_clock_is_there_sooner_and_never_before_it_shows_the_time() {
        for ppm in [5_000, -5_000, 1, -1, 500_000, -500_000] {
            let clock = Clock::new(ppm);
            assert_eq!(clock.shows(secs(2)).as_micros() as i64, 2_000_000 + 2 * i64::from(ppm));
            for wanted in (0..1_000).map(|n| Duration::from_nanos(n * 7_919)) {
                let world = clock.world(wanted);
                assert!(clock.shows(world) >= wanted, "{ppm} {wanted:?}");
                let before = world.checked_sub(Duration::from_nanos(1));
                assert!(before.is_none_or(|before| clock.shows(before) < wanted), "{ppm} {wanted:?}");
            }
        }
    }

    #[test]
    fn it_jumps_forward_and_stands_still_and_never_goes_back() {
        let mut clock = Clock::new(0);
        clock.jump(secs(10), secs(5));
        assert_eq!(
            (clock.shows(secs(10)), clock.shows(secs(11)), clock.world(secs(20))),
            (secs(15), secs(16), secs(15))
        );
        clock.stand(secs(11));
        assert_eq!((clock.shows(secs(11)), clock.shows(secs(99))), (secs(16), secs(16)));
        assert_eq!(clock.run(secs(100)), secs(89));
        assert_eq!((clock.shows(secs(100)), clock.shows(secs(101))), (secs(16), secs(17)));
    }
}
