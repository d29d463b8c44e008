//! What a leader knows of one other member.

use std::collections::VecDeque;

/// How a leader sends to a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ProgressState {
    /// One append at a time until it is known where the logs agree.
    Probe,
    /// Appends one after the other without waiting.
    Replicate,
    /// Nothing: a snapshot up to this index is under way.
    Snapshot(u64),
}

/// What a leader knows of one other member, in one membership of it and one term of the leader.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Progress {
    /// The greatest index up to which its log is known to agree.
    pub matched: u64,
    /// The index of the next entry to send; always greater than `matched`.
    pub next: u64,
    /// How it is sent to.
    pub state: ProgressState,
    /// When it joined; answers that name another join are of an earlier membership.
    pub join: u64,
    /// It answered since quorum was last checked.
    pub recent_active: bool,
    /// The newest round of heartbeats that it acknowledged; 0 if none.
    pub acked_round: u64,
    /// A probe is under way.
    probing: bool,
    /// The last indexes of the appends under way, in order.
    inflight: VecDeque<u64>,
}

impl Progress {
    /// A member that joined at `join` and of which nothing is known, when the log ends at `last_index`.
    pub(super) fn new(join: u64, last_index: u64) -> Self {
        Self {
            matched: 0,
            next: last_index.saturating_add(1),
            state: ProgressState::Probe,
            join,
            recent_active: false,
            acked_round: 0,
            probing: false,
            inflight: VecDeque::new(),
        }
    }

    /// Whether nothing may be sent to it before it answers.
    pub(super) fn is_paused(&self, max_inflight: usize) -> bool {
        match self.state {
            ProgressState::Probe => self.probing,
            ProgressState::Replicate => self.inflight.len() >= max_inflight.max(1),
            ProgressState::Snapshot(_) => true,
        }
    }

    /// An append was sent that ends at `last`, the last entry in it; `None` if it had no entries.
    pub(super) fn sent(&mut self, last: Option<u64>) {
        match (self.state, last) {
            (ProgressState::Probe, _) => self.probing = true,
            (ProgressState::Replicate, Some(last)) => {
                self.next = last.saturating_add(1);
                self.inflight.push_back(last);
            }
            _ => (),
        }
    }

    pub(super) fn sent_snapshot(&mut self, index: u64) {
        self.become_(ProgressState::Snapshot(index));
    }

    /// Its log agrees up to `index`. Returns whether that is news.
    pub(super) fn appended(&mut self, index: u64) -> bool {
        let is_news = index > self.matched;
        self.matched = self.matched.max(index);
        self.next = self.next.max(index.saturating_add(1));
        match self.state {
            // an old answer says nothing of the probe under way
            ProgressState::Probe if is_news || index == self.matched => self.become_(ProgressState::Replicate),
            ProgressState::Probe => (),
            ProgressState::Replicate => {
                while self.inflight.front().is_some_and(|last| *last <= index) {
                    self.inflight.pop_front();
                }
            }
            ProgressState::Snapshot(pending) if self.matched >= pending => {
                self.next = self.matched.saturating_add(1);
                self.become_(ProgressState::Replicate);
            }
            ProgressState::Snapshot(_) => (),
        }
        is_news
    }

    /// It rejected an append after `prev_index`; both logs may agree at `hint`. Returns whether to try again at once.
    pub(super) fn rejected(&mut self, prev_index: u64, hint: u64) -> bool {
        // what it once had cannot be missing: the answer is old, or it lost its disk and no answer can help
        if prev_index <= self.matched {
            return false;
        }
        match self.state {
            ProgressState::Replicate => {
                self.next = self.matched.saturating_add(1);
                self.become_(ProgressState::Probe);
                true
            }
            ProgressState::Probe if self.next.checked_sub(1) == Some(prev_index) => {
                self.next = prev_index.min(hint.saturating_add(1)).max(self.matched.saturating_add(1));
                self.probing = false;
                true
            }
            ProgressState::Probe | ProgressState::Snapshot(_) => false,
        }
    }

    /// It answered a heartbeat, so that what was lost on the way may be sent again.
    pub(super) fn answered(&mut self, max_inflight: usize) {
        match self.state {
            ProgressState::Probe => self.probing = false,
            ProgressState::Replicate if self.is_paused(max_inflight) => drop(self.inflight.pop_front()),
            ProgressState::Replicate => (),
            ProgressState::Snapshot(_) => {
                self.next = self.matched.saturating_add(1);
                self.become_(ProgressState::Probe);
            }
        }
    }

    fn become_(&mut self, state: ProgressState) {
        self.state = state;
        self.probing = false;
        self.inflight.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(state: ProgressState, matched: u64, next: u64) -> Progress {
        Progress { matched, next, state, ..Progress::new(1, 0) }
    }

    fn view(progress: &Progress) -> (ProgressState, u64, u64) {
        (progress.state, progress.matched, progress.next)
    }

    use ProgressState::{Probe, Replicate, Snapshot};

    #[test]
    fn a_probe_waits_for_its_answer_or_a_heartbeat() {
        let mut progress = at(Probe, 0, 5);
        progress.sent(Some(7));
        assert!(progress.is_paused(1));
        assert_eq!(view(&progress), (Probe, 0, 5));
        progress.answered(1);
        assert!(!progress.is_paused(1));
        assert!(progress.appended(7));
        assert_eq!(view(&progress), (Replicate, 7, 8));
    }

    #[test]
    fn appends_under_way_are_bounded() {
        let mut progress = at(Replicate, 0, 1);
        for last in 1..=2 {
            progress.sent(Some(last));
        }
        progress.sent(None);
        assert!(progress.is_paused(2) && progress.next == 3);
        assert!(progress.appended(1) && !progress.is_paused(2));
        progress.sent(Some(3));
        progress.answered(2);
        assert!(!progress.is_paused(2), "a heartbeat makes room for one");
    }

    #[test]
    fn a_rejection_steps_back_as_far_as_the_hint_and_no_further_than_what_matched() {
        let mut progress = at(Probe, 0, 10);
        assert!(!progress.rejected(7, 3), "not the probe under way");
        assert!(progress.rejected(9, 3));
        assert_eq!(view(&progress), (Probe, 0, 4));
        assert!(progress.rejected(3, u64::MAX));
        assert_eq!(view(&progress), (Probe, 0, 3));
        let mut progress = at(Replicate, 4, 10);
        assert!(!progress.rejected(4, 0) && progress.rejected(9, 2));
        assert_eq!(view(&progress), (Probe, 4, 5));
        assert!(!progress.rejected(4, 0), "nothing can help a member that lost what it had");
    }

    #[test]
    fn a_snapshot_is_over_once_it_is_acknowledged_or_may_have_been_lost() {
        let mut progress = at(Probe, 2, 3);
        progress.sent_snapshot(9);
        assert!(progress.is_paused(9));
        progress.appended(8);
        assert_eq!(view(&progress), (Snapshot(9), 8, 9));
        assert!(progress.appended(9));
        assert_eq!(view(&progress), (Replicate, 9, 10));
        progress.sent_snapshot(12);
        progress.answered(1);
        assert_eq!(view(&progress), (Probe, 9, 10));
    }
}
