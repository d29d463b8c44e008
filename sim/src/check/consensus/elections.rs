//! One leader, and so one Elected Master, in each term; one vote of each server in it.

use std::collections::BTreeMap;

use p2pcore::{
    Id, Incarnation,
    master::{Membership, Token},
};

use super::Line;
use crate::check::Breach;

/// Who led, and who voted for whom.
#[derive(Clone, Debug, Default)]
pub struct Elections {
    leaders: BTreeMap<(Line, u64), Id>,
    elected: BTreeMap<(u64, u64), Id>,
    votes: BTreeMap<(Line, Membership, u64), Id>,
    grants: BTreeMap<(Line, Id, u64), (Incarnation, Id)>,
}

impl Elections {
    /// A server leads a term.
    ///
    /// # Errors
    /// Another one does too.
    pub fn leads(&mut self, line: Line, term: u64, id: Id) -> Result<(), Breach> {
        let first = *self.leaders.entry((line, term)).or_insert(id);
        let what = || format!("two leaders in term {term} of generation {}", line.generation);
        if first == id { Ok(()) } else { Err(Breach::new("one_leader", [first, id], what())) }
    }

    /// A token of an Elected Master was seen somewhere.
    ///
    /// # Errors
    /// There was another one in that term.
    pub fn elected(&mut self, token: Token) -> Result<(), Breach> {
        let first = *self.elected.entry((token.generation, token.term)).or_insert(token.id);
        let what = || format!("two Elected in term {} of generation {}", token.term, token.generation);
        if first == token.id { Ok(()) } else { Err(Breach::new("one_elected", [first, token.id], what())) }
    }

    /// The disk of `voter` says whom it voted for in `term`, or whom it followed. `is_grant` says that it was asked for.
    ///
    /// # Errors
    /// It voted for another one before, under this membership or as it was before it lost its disk.
    pub fn votes(
        &mut self,
        line: Line,
        voter: Membership,
        term: u64,
        candidate: Id,
        is_grant: bool,
    ) -> Result<(), Breach> {
        let breach = |first: Id, what: &str| {
            let what = format!("votes for two in term {term} of generation {}{what}", line.generation);
            Err(Breach::new("one_vote", [voter.id, first, candidate], what))
        };
        let first = *self.votes.entry((line, voter, term)).or_insert(candidate);
        if first != candidate {
            return breach(first, "");
        }
        if is_grant {
            let granted = *self.grants.entry((line, voter.id, term)).or_insert((voter.join, candidate));
            if granted.1 != candidate {
                return breach(granted.1, ", once with the disk that it lost");
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::testing::{line, membership, server, token},
        *,
    };

    #[test]
    fn two_leaders_in_one_term_are_seen() {
        let mut elections = Elections::default();
        assert_eq!(elections.leads(line(), 1, server(1)), Ok(()));
        assert_eq!(elections.leads(line(), 1, server(1)), Ok(()));
        assert_eq!(elections.leads(line(), 2, server(2)), Ok(()));
        assert_eq!(elections.leads(Line { generation: 2, ..line() }, 1, server(2)), Ok(()));
        assert_eq!(elections.leads(line(), 1, server(2)).unwrap_err().checker, "one_leader");
    }

    #[test]
    fn two_elected_in_one_term_are_seen() {
        let mut elections = Elections::default();
        assert_eq!(elections.elected(token(1, 1)), Ok(()));
        assert_eq!(elections.elected(token(2, 2)), Ok(()));
        assert_eq!(elections.elected(token(1, 2)).unwrap_err().checker, "one_elected");
    }

    #[test]
    fn a_second_vote_is_seen_whatever_became_of_the_disk() {
        let mut elections = Elections::default();
        let voter = membership(1, 1);
        assert_eq!(elections.votes(line(), voter, 1, server(2), true), Ok(()));
        assert_eq!(elections.votes(line(), voter, 1, server(2), false), Ok(()));
        assert_eq!(elections.votes(line(), voter, 2, server(3), true), Ok(()));
        assert_eq!(elections.votes(line(), voter, 1, server(3), false).unwrap_err().checker, "one_vote");
        // without its disk it follows whoever leads the term, but grants nothing
        let again = membership(1, 2);
        assert_eq!(elections.votes(line(), again, 1, server(3), false), Ok(()));
        assert_eq!(elections.votes(line(), membership(1, 3), 1, server(3), true).unwrap_err().checker, "one_vote");
    }
}
