//! Who is the Master, as one node sees it.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{Kind, Token};
use crate::{
    id::Id,
    raft::{NodeId, Voters, quorum::majority},
};

/// Too few of the voters are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct NoQuorum {
    /// So many voters decide.
    pub need: u32,
    /// So many are seen.
    pub have: u32,
}

impl NoQuorum {
    /// What `voters` lack if only those are there for which `is_here` holds; `None` if they can decide.
    pub(super) fn of<N: NodeId>(voters: &Voters<N>, is_here: impl Fn(&N) -> bool) -> Option<Self> {
        [&voters.incoming, &voters.outgoing].into_iter().filter(|set| !set.is_empty()).find_map(|set| {
            let (need, have) = (majority(set.len()), set.iter().filter(|node| is_here(node)).count());
            let [need_, have_] = [need, have].map(|count| u32::try_from(count).unwrap_or(u32::MAX));
            (have < need).then_some(Self { need: need_, have: have_ })
        })
    }
}

/// Who is the Master. A value to show; only the Master's own guard says whether it may act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MasterView {
    /// The token names it.
    Master(Token),
    /// There is none, or none is known; with the reason if that is certain.
    NoMaster(Option<NoQuorum>),
}

impl MasterView {
    /// The Master.
    pub fn master(&self) -> Option<Id> {
        self.token().map(|token| token.id)
    }

    /// What stands behind it.
    pub fn kind(&self) -> Option<Kind> {
        self.token().map(|token| token.kind)
    }

    /// Its token.
    pub fn token(&self) -> Option<Token> {
        match self {
            Self::Master(token) => Some(*token),
            Self::NoMaster(_) => None,
        }
    }

    /// Why there is none.
    pub fn reason(&self) -> Option<NoQuorum> {
        match self {
            Self::Master(_) => None,
            Self::NoMaster(reason) => *reason,
        }
    }
}

/// A Master says that it is there. Servers pass it on to each other, each saying once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Saying {
    /// Of the Master.
    pub token: Token,
    /// Counts what was said under this token: an old saying that is still going round proves nothing.
    pub round: u64,
}

/// What was heard of Masters, oneself apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Horizon {
    /// The newest saying of an Elected one, however long ago.
    newest: Option<Saying>,
    /// The one to be shown, and when it was last heard of.
    current: Option<(Saying, Instant)>,
}

impl Horizon {
    /// Takes a saying that was heard for the first time just now, or is the node's own. Returns whether it is news.
    ///
    /// A token below one that was seen never replaces it: a deposed Master, or the echo of one, is not shown. A
    /// Provisional one is shown only while there is no Elected one.
    pub(super) fn hear(&mut self, now: Instant, saying: Saying, lease: Duration) -> bool {
        self.forget_silent(now, lease);
        let is_old = match saying.token.kind {
            Kind::Elected => self.newest.is_some_and(|newest| saying <= newest),
            Kind::Provisional => {
                let is_past = |newest: Saying| saying.token.generation < newest.token.generation;
                self.newest.is_some_and(is_past) || self.current.is_some_and(|(current, _)| saying <= current)
            }
        };
        if is_old {
            return false;
        }
        if saying.token.kind == Kind::Elected {
            self.newest = Some(saying);
        }
        self.current = Some((saying, now));
        true
    }

    /// The Master that was heard of within a lease.
    pub(super) fn token(&self, now: Instant, lease: Duration) -> Option<Token> {
        let (saying, heard) = self.current?;
        (now.saturating_duration_since(heard) < lease).then_some(saying.token)
    }

    /// When it will be lost if nothing more is heard of it.
    pub(super) fn deadline(&self, lease: Duration) -> Option<Instant> {
        self.current.and_then(|(_, heard)| heard.checked_add(lease))
    }

    /// What was shown is void.
    pub(super) fn lose(&mut self) {
        self.current = None;
    }

    /// What [`Flaw::LastWordCounts`](super::Flaw::LastWordCounts) does.
    pub(super) fn overrule(&mut self, now: Instant, saying: Saying) {
        self.current = Some((saying, now));
    }

    pub(super) fn forget_silent(&mut self, now: Instant, lease: Duration) {
        self.current.take_if(|(_, heard)| now.saturating_duration_since(*heard) >= lease);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{master::tests::server, testing::epoch};

    const LEASE: Duration = Duration::from_secs(1);

    fn saying(generation: u64, kind: Kind, term: u64, round: u64) -> Saying {
        Saying { token: Token { generation, kind, term, id: server(1) }, round }
    }

    #[test]
    fn five_members_two_alive_need_three_have_two() {
        let five = Voters::new(1..=5);
        assert_eq!(NoQuorum::of(&five, |node| *node < 3), Some(NoQuorum { need: 3, have: 2 }));
        assert_eq!(NoQuorum::of(&five, |node| *node < 4), None);
        let joint = Voters { incoming: [1, 2].into(), outgoing: [1].into() };
        assert_eq!(NoQuorum::of(&joint, |node| *node == 1), Some(NoQuorum { need: 2, have: 1 }));
        assert_eq!(NoQuorum::of(&Voters::<u8>::default(), |_| false), None);
    }

    #[test]
    fn a_lower_token_never_replaces_a_higher_one() {
        let (start, mut horizon) = (epoch(), Horizon::default());
        assert!(horizon.hear(start, saying(1, Kind::Elected, 5, 1), LEASE));
        assert!(!horizon.hear(start, saying(1, Kind::Elected, 4, 9), LEASE));
        let late = start + LEASE * 3;
        assert!(!horizon.hear(late, saying(1, Kind::Elected, 4, 10), LEASE), "not even when the newer one is silent");
        assert_eq!(horizon.token(late, LEASE), None);
        assert!(horizon.hear(late, saying(2, Kind::Provisional, 0, 1), LEASE), "a generation is above all");
    }

    #[test]
    fn silence_for_a_lease_time_loses_the_master_and_an_echo_does_not_bring_it_back() {
        let (start, mut horizon) = (epoch(), Horizon::default());
        let first = saying(1, Kind::Elected, 5, 7);
        assert!(horizon.hear(start, first, LEASE));
        assert_eq!(horizon.token(start + LEASE / 2, LEASE), Some(first.token));
        assert_eq!(horizon.deadline(LEASE), Some(start + LEASE));
        assert_eq!(horizon.token(start + LEASE, LEASE), None);
        assert!(!horizon.hear(start + LEASE, first, LEASE));
        assert!(horizon.hear(start + LEASE, saying(1, Kind::Elected, 5, 8), LEASE));
    }

    #[test]
    fn a_provisional_master_shows_only_while_there_is_no_elected_one() {
        let (start, mut horizon) = (epoch(), Horizon::default());
        let (elected, provisional) = (saying(1, Kind::Elected, 5, 1), saying(1, Kind::Provisional, 5, 1));
        assert!(horizon.hear(start, elected, LEASE));
        assert!(!horizon.hear(start, provisional, LEASE));
        assert!(horizon.hear(start + LEASE, provisional, LEASE));
        assert!(horizon.hear(start + LEASE, saying(1, Kind::Elected, 5, 2), LEASE));
        assert_eq!(horizon.token(start + LEASE, LEASE), Some(elected.token));
    }
}
