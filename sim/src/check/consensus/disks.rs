//! What a server said is on its disk: whoever leads was given votes that are written down, what a leader counts as
//! replicated is, and what it commits a quorum of the voters has. Learners count for nothing.

use std::collections::{BTreeMap, BTreeSet};

use p2pcore::{
    Id, Incarnation,
    master::{Membership, Roster},
    raft::{Configuration, Raft, Stored},
};

use super::Line;
use crate::check::Breach;

/// All that was ever on the disks.
#[derive(Clone, Debug, Default)]
pub struct Disks {
    /// Of each server under each of its memberships: a lost disk has been there too.
    ever: BTreeMap<(Line, Id), BTreeMap<Incarnation, Ever>>,
    /// The leaders judged, and how far.
    led: BTreeMap<(Line, u64), u64>,
}

#[derive(Clone, Debug, Default)]
struct Ever {
    votes: BTreeMap<u64, BTreeSet<Id>>,
    term: u64,
    entries: BTreeSet<(u64, u64)>,
    snapshot: u64,
}

impl Ever {
    /// It voted for `candidate` in `term`, or for nobody in it any more.
    fn has_vote(&self, term: u64, candidate: &Id) -> bool {
        self.term > term || self.votes.get(&term).is_some_and(|votes| votes.contains(candidate))
    }

    fn has_entry(&self, index: u64, term: u64) -> bool {
        self.snapshot >= index || self.entries.contains(&(index, term))
    }
}

impl Disks {
    /// A disk was written.
    pub fn written(&mut self, line: Line, membership: Membership, stored: &Stored<Id, Roster>) {
        let ever = self.ever.entry((line, membership.id)).or_default().entry(membership.join).or_default();
        let state = stored.hard_state;
        ever.term = ever.term.max(state.term);
        ever.votes.entry(state.term).or_default().extend(state.vote);
        ever.entries.extend(stored.entries.iter().map(|entry| (entry.index, entry.term)));
        ever.snapshot = ever.snapshot.max(stored.snapshot.index);
    }

    /// A server leads; `placed` says which membership of a server it counts.
    ///
    /// # Errors
    /// Not by votes, or not of entries, that are on the disks.
    pub fn leads(
        &mut self,
        line: Line,
        id: Id,
        raft: &Raft<Id, Roster>,
        placed: impl Fn(&Id) -> Option<Incarnation>,
    ) -> Result<(), Breach> {
        let term = raft.term();
        let breach = |what: String| Err(Breach::new("persist_before_send", [id], what));
        let judged = self.led.get(&(line, term)).copied();
        let of = |node: &Id| self.ever.get(&(line, *node)).into_iter().flatten();
        let has_vote = |voter: &Id| of(voter).any(|(_, ever)| ever.has_vote(term, &id));
        if judged.is_none() && !raft.config().voters.has_quorum(has_vote) {
            let voters: Vec<Id> = raft.config().voters.iter().filter(has_vote).collect();
            return breach(format!("leads term {term} with votes on the disks of {voters:?} only"));
        }
        let term_of = |index: u64| {
            let entry = raft.entries().find(|entry| entry.index == index).map(|entry| entry.term);
            entry.unwrap_or(raft.snapshot().term)
        };
        let has_entry = |node: &Id, index: u64| {
            let join = placed(node);
            let mut counted = of(node).filter(|(of, _)| join.is_none_or(|join| join == **of));
            counted.any(|(_, ever)| ever.has_entry(index, term_of(index)))
        };
        for (node, progress) in raft.progress() {
            if progress.matched > raft.snapshot().index && !has_entry(&node, progress.matched) {
                return breach(format!("counts entry {} of {node}, whose disk never had it", progress.matched));
            }
        }
        let commit = raft.commit();
        if judged.is_some_and(|judged| judged < commit) && term_of(commit) == term {
            let decides = |config: &Configuration<Id>| config.voters.has_quorum(|voter| has_entry(voter, commit));
            if !configs(raft, commit).iter().any(|config| decides(config)) {
                return breach(format!("commits entry {commit}, which no quorum of the voters has on its disks"));
            }
        }
        self.led.insert((line, term), commit);
        Ok(())
    }
}

/// The configurations that may have been in force when the entry at `commit` was committed.
fn configs(raft: &Raft<Id, Roster>, commit: u64) -> Vec<&Configuration<Id>> {
    let all = || raft.entries().filter_map(|entry| Some((entry.index, entry.config()?)));
    let before =
        all().filter(|(index, _)| *index <= commit).last().map_or(&raft.snapshot().config, |(_, config)| config);
    all().filter(|(index, _)| *index > commit).map(|(_, config)| config).chain([before]).collect()
}

#[cfg(test)]
mod tests {
    use p2pcore::raft::{Entry, HardState, Limits, Payload, Snapshot};

    use super::{
        super::testing::{line, membership, server},
        *,
    };

    fn stored(term: u64, vote: Option<u8>, entries: u64, commit: u64) -> Stored<Id, Roster> {
        let voters = [1, 2, 3].map(server);
        let snapshot = Snapshot { index: 1, term: 0, config: Configuration::new(voters, [server(4)], 1) };
        let entries = (2..2 + entries).map(|index| Entry { term, index, payload: Payload::Noop }).collect();
        Stored { hard_state: HardState { term, vote: vote.map(server), commit }, snapshot, entries }
    }

    fn raft(term: u64, entries: u64, commit: u64) -> Raft<Id, Roster> {
        Raft::new(server(1), stored(term, Some(1), entries, commit), Limits::default()).unwrap()
    }

    fn disks(with_votes: &[(u8, Option<u8>)]) -> Disks {
        let mut disks = Disks::default();
        for (n, vote) in with_votes {
            disks.written(line(), membership(*n, 1), &stored(5, *vote, 0, 1));
        }
        disks
    }

    fn leads(disks: &mut Disks, entries: u64, commit: u64) -> bool {
        let placed = |id: &Id| (1..=4).map(|n| membership(n, 1)).find(|own| own.id == *id).map(|own| own.join);
        disks.leads(line(), server(1), &raft(5, entries, commit), placed).is_ok()
    }

    #[test]
    fn an_election_needs_votes_on_the_disks_of_a_quorum() {
        assert!(leads(&mut disks(&[(1, Some(1)), (2, Some(1))]), 0, 1));
        assert!(!leads(&mut disks(&[(1, Some(1)), (2, None)]), 0, 1));
        assert!(!leads(&mut disks(&[(1, Some(1)), (2, Some(3))]), 0, 1));
        assert!(!leads(&mut disks(&[(1, Some(1)), (4, Some(1))]), 0, 1), "a learner is no voter");
        let mut later = disks(&[(1, Some(1))]);
        later.written(line(), membership(2, 1), &stored(6, Some(3), 0, 1));
        assert!(leads(&mut later, 0, 1), "it may have voted before, and cannot any more");
    }

    #[test]
    fn a_commit_needs_the_entry_on_the_disks_of_a_quorum() {
        // a learner counts for nothing, nor does what a server had before it lost its disk
        for (node, join, is_right) in [(2, 1, true), (4, 1, false), (2, 9, false)] {
            let mut disks = disks(&[(1, Some(1)), (2, Some(1))]);
            assert!(leads(&mut disks, 0, 1));
            disks.written(line(), membership(1, 1), &stored(5, Some(1), 1, 1));
            disks.written(line(), membership(node, join), &stored(5, Some(1), 1, 1));
            assert_eq!(leads(&mut disks, 1, 2), is_right);
        }
    }
}
