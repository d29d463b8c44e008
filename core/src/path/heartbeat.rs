//! How long a path may be idle: as long as the NAT mappings on it are seen to survive.

use std::time::Duration;

/// How much longer the next silence may be after one that the path survived.
const STEP: Duration = Duration::from_secs(1);

/// The longest silence of one path. It grows from the least to the most by what the path survives, and what killed the
/// path once is not tried again.
#[derive(Clone, Debug)]
pub(super) struct Heartbeat {
    interval: Duration,
    least: Duration,
    most: Duration,
    /// A silence of the whole interval has ended with a ping that is not answered yet.
    asking: bool,
}

impl Heartbeat {
    pub(super) fn new(least: Duration, most: Duration) -> Self {
        Self { interval: least, least, most: most.max(least), asking: false }
    }

    pub(super) fn interval(&self) -> Duration {
        self.interval
    }

    /// The path was idle for the whole interval and is asked whether it lives.
    pub(super) fn ask(&mut self) {
        self.asking = true;
    }

    /// An answer came on this path.
    pub(super) fn answered(&mut self) {
        if std::mem::take(&mut self.asking) {
            self.interval = (self.interval + STEP).min(self.most);
        }
    }

    /// The path is dead.
    pub(super) fn failed(&mut self) {
        if std::mem::take(&mut self.asking) {
            self.most = self.interval.saturating_sub(STEP).max(self.least);
        }
        self.interval = self.least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn s(s: u64) -> Duration {
        Duration::from_secs(s)
    }

    #[test]
    fn it_grows_only_by_silences_that_were_survived() {
        let mut heartbeat = Heartbeat::new(s(15), s(22));
        heartbeat.answered();
        assert_eq!(heartbeat.interval(), s(15), "that was no answer after a silence");
        let mut intervals = Vec::new();
        for _ in 0..9 {
            heartbeat.ask();
            heartbeat.answered();
            intervals.push(heartbeat.interval().as_secs());
        }
        assert_eq!(intervals, [16, 17, 18, 19, 20, 21, 22, 22, 22]);
    }

    #[test]
    fn a_silence_that_killed_the_path_is_not_tried_again() {
        let mut heartbeat = Heartbeat::new(s(15), s(22));
        for _ in 0..4 {
            heartbeat.ask();
            heartbeat.answered();
        }
        heartbeat.ask();
        heartbeat.failed();
        assert_eq!(heartbeat.interval(), s(15));
        for _ in 0..9 {
            heartbeat.ask();
            heartbeat.answered();
        }
        assert_eq!(heartbeat.interval(), s(18));
        // a death in the middle of traffic says nothing about silences
        heartbeat.failed();
        assert_eq!(heartbeat.interval(), s(15));
        heartbeat.ask();
        heartbeat.answered();
        assert_eq!(heartbeat.interval(), s(16));
    }
}
