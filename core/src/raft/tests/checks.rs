//! What must hold, whatever happens.

use std::collections::BTreeMap;

use super::*;

type Stored = crate::raft::Stored<u8, u64>;

/// What was seen so far, at all nodes and over all restarts.
#[derive(Clone, Default, Hash)]
pub(super) struct Checks {
    /// Each term's leader.
    leaders: BTreeMap<u64, u8>,
    /// Who got the vote of (term, voter).
    votes: BTreeMap<(u64, u8), u8>,
    /// Each entry ever seen by (index, term), with the term of the entry before it.
    entries: BTreeMap<(u64, u64), (u64, Entry<u8, u64>)>,
    /// Each committed entry, and the term in which it was committed first.
    committed: BTreeMap<u64, (u64, Entry<u8, u64>)>,
    /// Committed configurations by index.
    configs: BTreeMap<u64, Configuration<u8>>,
    /// The commit index of each node's present life.
    commits: BTreeMap<u8, u64>,
    /// The term and vote that each node was last seen with.
    terms: BTreeMap<u8, (u64, Option<u8>)>,
}

type Check = Result<(), String>;

fn ensure(holds: bool, broken: impl FnOnce() -> String) -> Check {
    if holds { Ok(()) } else { Err(broken()) }
}

impl Checks {
    pub(super) fn founded(&mut self, config: Configuration<u8>) {
        self.configs.insert(1, config);
    }

    pub(super) fn configs(&self) -> impl Iterator<Item = &Configuration<u8>> {
        self.configs.values()
    }

    pub(super) fn committed(&self) -> u64 {
        self.committed.keys().next_back().copied().unwrap_or(1)
    }

    pub(super) fn leaders(&self) -> usize {
        self.leaders.len()
    }

    /// What was not on its disk is forgotten.
    pub(super) fn restarted(&mut self, node: u8, disk: &Stored) {
        self.commits.insert(node, disk.hard_state.commit);
        self.terms.insert(node, (disk.hard_state.term, disk.hard_state.vote));
    }

    /// Another member under the same name has not voted yet.
    pub(super) fn reborn(&mut self, node: u8) {
        self.votes.retain(|(_, voter), _| *voter != node);
    }

    /// Looks at a node after any step of it.
    pub(super) fn state(&mut self, node: &Node) -> Check {
        let seen = (node.term(), node.vote());
        let before = self.terms.insert(node.id(), seen).unwrap_or_default();
        ensure(before.0 <= seen.0, || format!("the term of {} fell from {before:?} to {seen:?}", node.id()))?;
        let vote_moved = before.0 == seen.0 && before.1.is_some() && before.1 != seen.1;
        ensure(!vote_moved, || format!("the vote of {} moved from {before:?} to {seen:?}", node.id()))?;
        let commit = self.commits.insert(node.id(), node.commit()).unwrap_or(0);
        ensure(commit <= node.commit(), || format!("the commit index of {} fell", node.id()))?;
        if node.is_leader() {
            self.leader(node)?;
        }
        self.log(node)
    }

    /// Election safety, and leader completeness.
    fn leader(&mut self, node: &Node) -> Check {
        let first = *self.leaders.entry(node.term()).or_insert(node.id());
        ensure(first == node.id(), || format!("term {} has leaders {first} and {}", node.term(), node.id()))?;
        for (index, (term, entry)) in &self.committed {
            let own = node.log.term(*index);
            let is_there = own == Some(entry.term) || *index < node.snapshot().index;
            ensure(is_there || *term >= node.term(), || format!("leader {} lacks committed {entry:?}", node.id()))?;
        }
        Ok(())
    }

    /// Log matching.
    fn log(&mut self, node: &Node) -> Check {
        let mut before = node.snapshot().term;
        for entry in node.entries() {
            let key = (entry.index, entry.term);
            match self.entries.get(&key) {
                Some((term, same)) => ensure(*term == before && same == entry, || {
                    format!("two logs differ at or before {key:?}: {same:?} and {entry:?}")
                })?,
                None => drop(self.entries.insert(key, (before, entry.clone()))),
            }
            before = entry.term;
        }
        Ok(())
    }

    /// State-machine safety; a new entry is on the disks of a quorum; configurations follow each other legally.
    pub(super) fn commit(&mut self, node: &Node, entries: &[Entry<u8, u64>], disks: &BTreeMap<u8, Stored>) -> Check {
        for entry in entries {
            if let Some((_, same)) = self.committed.get(&entry.index) {
                ensure(same == entry, || format!("{same:?} and {entry:?} are both committed"))?;
                continue;
            }
            // the configuration in force when it was counted: that of its place, or a newer one that is not committed yet
            let has_entry = |node: &u8| disks.get(node).is_some_and(|disk| has(disk, entry));
            let configs = [node.log.config_at(entry.index), node.config()];
            let is_safe = configs.iter().any(|config| config.voters.has_quorum(has_entry));
            ensure(is_safe, || format!("{entry:?} is committed and not on the disks of a quorum of {configs:?}"))?;
            self.committed.insert(entry.index, (node.term(), entry.clone()));
            if let Some(config) = entry.config() {
                let before = self.configs.values().next_back().cloned().unwrap_or_default();
                ensure(before.is_step(config), || format!("{config:?} does not follow {before:?}"))?;
                self.configs.insert(entry.index, config.clone());
            }
        }
        Ok(())
    }

    /// No vote twice; and nothing is said that the disk does not have.
    pub(super) fn send(&mut self, from: u8, to: u8, message: &Msg, disk: &Stored) -> Check {
        let state = disk.hard_state;
        let says = || format!("{from} says {message:?} to {to} with {state:?} on disk");
        match &message.body {
            Body::PreVote { .. } | Body::PreVoteReply { granted: true } => return Ok(()),
            Body::VoteReply { granted: true } => {
                self.vote(message.term, from, to)?;
                ensure(state.term > message.term || state.vote == Some(to), says)?;
            }
            Body::Vote { .. } => {
                self.vote(message.term, from, from)?;
                ensure(state.term > message.term || state.vote == Some(from), says)?;
            }
            Body::Appended { index } => ensure(last_index(disk) >= *index || state.term > message.term, says)?,
            _ => (),
        }
        ensure(state.term >= message.term, says)
    }

    fn vote(&mut self, term: u64, voter: u8, candidate: u8) -> Check {
        let first = *self.votes.entry((term, voter)).or_insert(candidate);
        ensure(first == candidate, || format!("{voter} votes for {first} and {candidate} in term {term}"))
    }
}

fn last_index(disk: &Stored) -> u64 {
    disk.entries.last().map_or(disk.snapshot.index, |entry| entry.index)
}

fn has(disk: &Stored, entry: &Entry<u8, u64>) -> bool {
    disk.snapshot.index >= entry.index || disk.entries.iter().any(|own| own == entry)
}
