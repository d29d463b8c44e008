//! The last one of two members, while the other one is silent.

use std::time::{Duration, Instant};

/// How long the older member has been silent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Heir {
    silent_since: Instant,
    is_shown: bool,
}

/// What speaks for and against showing itself.
#[derive(Clone, Copy, Debug)]
pub(super) struct Case {
    /// Two members, and this server is the one without a vote.
    pub(super) is_heir: bool,
    /// It is linked to the older one, or a Master is known.
    pub(super) is_heard: bool,
    /// A linked peer still reports a link to the older one: that is alive, only cut off from here.
    pub(super) is_vetoed: bool,
}

impl Heir {
    pub(super) fn new(now: Instant) -> Self {
        Self { silent_since: now, is_shown: false }
    }

    /// Weighs the case anew. Returns whether this server shows itself as Provisional Master.
    pub(super) fn weigh(&mut self, now: Instant, case: Case, after: Option<Duration>) -> bool {
        if !case.is_heir || case.is_heard || case.is_vetoed {
            *self = Self::new(now);
        } else if after.is_some_and(|after| now.saturating_duration_since(self.silent_since) >= after) {
            self.is_shown = true;
        }
        self.is_shown
    }

    pub(super) fn is_shown(&self) -> bool {
        self.is_shown
    }

    /// When it may show itself if nothing speaks against that.
    pub(super) fn deadline(&self, after: Option<Duration>) -> Option<Instant> {
        after.filter(|_| !self.is_shown).and_then(|after| self.silent_since.checked_add(after))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::epoch;

    const AFTER: Option<Duration> = Some(Duration::from_secs(10));
    const FREE: Case = Case { is_heir: true, is_heard: false, is_vetoed: false };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn it_shows_itself_after_the_delay_and_not_before() {
        let start = epoch();
        let mut heir = Heir::new(start);
        assert!(!heir.weigh(start + secs(9), FREE, AFTER));
        assert_eq!(heir.deadline(AFTER), Some(start + secs(10)));
        assert!(heir.weigh(start + secs(10), FREE, AFTER));
        assert!(heir.is_shown() && heir.deadline(AFTER).is_none());
        assert!(!heir.weigh(start + secs(11), Case { is_heard: true, ..FREE }, AFTER));
        assert!(!heir.weigh(start + secs(20), FREE, AFTER), "the delay begins anew");
    }

    #[test]
    fn a_veto_a_setting_and_a_third_member_keep_it_hidden() {
        let start = epoch();
        for case in [Case { is_vetoed: true, ..FREE }, Case { is_heir: false, ..FREE }, Case { is_heard: true, ..FREE }]
        {
            assert!(!Heir::new(start).weigh(start + secs(99), case, AFTER), "{case:?}");
        }
        assert!(!Heir::new(start).weigh(start + secs(99), FREE, None));
        assert_eq!(Heir::new(start).deadline(None), None);
    }
}
