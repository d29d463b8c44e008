//! How long things take, and how many there may be.

use std::time::Duration;

use crate::raft::{Limits, Timing};

/// The settings of the servers of a cluster; the same at all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Raft's times. Default: heartbeats every 100 ms, elections after 300 to 700 ms, so that a dead Master is replaced
    /// within a second.
    pub timing: Timing,
    /// A member votes once it has been answering for so long and has the whole log. Default 1 s.
    pub stable_after: Duration,
    /// The younger of two members shows itself as Provisional Master when the older one has been silent for so long;
    /// `None` for never. Default 10 s.
    pub provisional_after: Option<Duration>,
    /// A member that has been silent for so long is removed, if three or more remain; `None` for never. Default 1 day.
    pub remove_after: Option<Duration>,
    /// Between two requests to be admitted. Default 500 ms.
    pub ask_every: Duration,
    /// At most so many members vote. Default 7.
    pub max_voters: usize,
    /// At most so many members are admitted. Default 64.
    pub max_members: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            timing: Timing {
                heartbeat: Duration::from_millis(100),
                election_min: Duration::from_millis(300),
                election_max: Duration::from_millis(700),
                ..Timing::default()
            },
            stable_after: Duration::from_secs(1),
            provisional_after: Some(Duration::from_secs(10)),
            remove_after: Some(Duration::from_secs(24 * 3_600)),
            ask_every: Duration::from_millis(500),
            max_voters: 7,
            max_members: 64,
        }
    }
}

/// Raft's log is cut beyond this length. The newest committed roster stays in it, unless leaders come and go for four times as
/// many entries and none of them gets to write it anew.
const MAX_LOG: usize = 16;

impl Settings {
    /// Between two sayings of a Master: three are heard within a lease.
    pub(super) fn say_every(&self) -> Duration {
        self.timing.lease() / 3
    }

    /// A roster so many entries back is written again.
    pub(super) fn roster_within(&self) -> u64 {
        MAX_LOG as u64 / 4
    }

    pub(crate) fn limits(&self) -> Limits {
        // an append of rosters and configurations of the largest size must fit a control message;
        // an exchange needs two voters, and the rule three
        Limits {
            max_log: MAX_LOG,
            max_append_entries: 8,
            max_append_bytes: 24 * 1024,
            max_command_bytes: 24 * 1024,
            max_voters: self.max_voters.max(3),
            max_learners: self.max_members,
            ..Limits::default()
        }
    }
}
