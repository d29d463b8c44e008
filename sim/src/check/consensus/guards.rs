//! At most one server may act as Master at any instant of a generation, and its token is above all before it.

use std::{collections::BTreeMap, time::Duration};

use p2pcore::{
    Id,
    master::{Kind, Token},
};

use super::Held;
use crate::check::{Breach, Run};

/// Who may act as Master.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    held: BTreeMap<Run, Held>,
    /// Those who became Master, in that order.
    tenures: Vec<Token>,
    excused_until: Duration,
}

impl Guards {
    /// A running server may act as Master, or may not.
    ///
    /// # Errors
    /// Another one may, a later one did, or nobody elected it.
    pub fn holds(&mut self, now: Duration, run: Run, id: Id, held: Option<Held>) -> Result<(), Breach> {
        let Some(held) = held.filter(|held| now < held.until) else {
            self.held.remove(&run);
            return Ok(());
        };
        let Held { token, .. } = held;
        self.held.retain(|_, held| now < held.until);
        self.held.insert(run, held);
        let breach = |what: String, other: Id| Err(Breach::new("one_guard", [id, other], what));
        if token.id != id {
            return breach(format!("a guard under {token:?}, the token of another server"), token.id);
        }
        if token.kind == Kind::Provisional {
            return breach(format!("a guard under the Provisional {token:?}"), id);
        }
        let of_generation = |other: &&Token| other.generation == token.generation;
        if !self.tenures.contains(&token) {
            if let Some(last) = self.tenures.iter().filter(of_generation).max().filter(|last| **last > token) {
                return breach(format!("a guard under {token:?} after one under {last:?}"), last.id);
            }
            self.tenures.push(token);
        }
        let rival = self.held.iter().find(|(other, held)| **other != run && held.token.generation == token.generation);
        match rival {
            Some((_, rival)) if self.excused_until <= now => {
                breach(format!("guards under {token:?} and {:?} at once", rival.token), rival.token.id)
            }
            _ => Ok(()),
        }
    }

    /// What a run held is void.
    pub fn void(&mut self, run: Run) {
        self.held.remove(&run);
    }

    /// Clocks did not keep their bound: until then two guards may meet.
    pub fn excuse(&mut self, until: Duration) {
        self.excused_until = self.excused_until.max(until);
    }

    /// The tokens of those who were Master, in the order in which they became it.
    pub fn tenures(&self) -> &[Token] {
        &self.tenures
    }
}

/// Whoever holds a guard votes.
///
/// # Errors
/// It does not.
pub fn votes(token: Token, is_voter: bool) -> Result<(), Breach> {
    let what = || format!("a guard under {token:?} at a server that is no voter");
    if is_voter { Ok(()) } else { Err(Breach::new("one_guard", [token.id], what())) }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{server, token},
        *,
    };

    const A: Run = Run { process: 0, run: 1 };
    const B: Run = Run { process: 1, run: 1 };

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    fn held(term: u64, n: u8, until: u64) -> Option<Held> {
        Some(Held { token: token(term, n), until: secs(until) })
    }

    #[test]
    fn one_after_the_other_is_right() {
        let mut guards = Guards::default();
        assert_eq!(guards.holds(secs(0), A, server(1), held(1, 1, 2)), Ok(()));
        assert_eq!(guards.holds(secs(1), A, server(1), held(1, 1, 3)), Ok(()));
        assert_eq!(guards.holds(secs(3), B, server(2), held(2, 2, 9)), Ok(()), "at the very instant");
        guards.void(B);
        assert_eq!(guards.holds(secs(4), A, server(1), held(3, 1, 9)), Ok(()));
        assert_eq!(guards.holds(secs(5), A, server(1), None), Ok(()));
        assert_eq!(guards.holds(secs(5), B, server(2), held(4, 2, 9)), Ok(()));
        assert_eq!(guards.tenures(), [token(1, 1), token(2, 2), token(3, 1), token(4, 2)]);
    }

    #[test]
    fn two_at_once_are_seen_unless_a_clock_jumped() {
        let mut guards = Guards::default();
        guards.holds(secs(0), A, server(1), held(1, 1, 3)).unwrap();
        let mut excused = guards.clone();
        assert_eq!(guards.holds(secs(2), B, server(2), held(2, 2, 9)).unwrap_err().checker, "one_guard");
        excused.excuse(secs(3));
        assert_eq!(excused.holds(secs(2), B, server(2), held(2, 2, 9)), Ok(()));
        assert_eq!(excused.holds(secs(3), A, server(1), held(1, 1, 9)).unwrap_err().checker, "one_guard");
    }

    #[test]
    fn a_lower_token_a_foreign_one_a_provisional_one_and_no_vote_are_seen() {
        let mut guards = Guards::default();
        guards.holds(secs(0), A, server(1), held(5, 1, 1)).unwrap();
        assert!(guards.clone().holds(secs(2), B, server(2), held(4, 2, 9)).is_err());
        assert!(guards.clone().holds(secs(2), B, server(2), held(6, 1, 9)).is_err());
        let provisional = Token { kind: Kind::Provisional, ..token(6, 2) };
        assert!(guards.holds(secs(2), B, server(2), Some(Held { token: provisional, until: secs(9) })).is_err());
        assert!(votes(token(1, 1), false).is_err() && votes(token(1, 1), true).is_ok());
    }

    #[test]
    fn generations_are_apart() {
        let mut guards = Guards::default();
        guards.holds(secs(0), A, server(1), held(5, 1, 9)).unwrap();
        let forced = Token { generation: 2, ..token(1, 2) };
        assert_eq!(guards.holds(secs(1), B, server(2), Some(Held { token: forced, until: secs(9) })), Ok(()));
    }
}
