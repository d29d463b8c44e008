//! What happened, so that one can see that it was not nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use p2pcore::raft::Role;

use crate::common::{Act, Id, View};

/// Counts by name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Coverage {
    counts: BTreeMap<&'static str, u64>,
    /// Of the schedule under way: each term's leader.
    leaders: BTreeMap<u64, Id>,
    /// Who voted in which term.
    votes: BTreeSet<(u64, Id)>,
    commit: u64,
    transfer: Option<Id>,
}

impl Coverage {
    pub(crate) fn count(&mut self, name: &'static str) {
        *self.counts.entry(name).or_default() += 1;
    }

    pub(crate) fn of(&self, name: &str) -> u64 {
        self.counts.get(name).copied().unwrap_or(0)
    }

    /// Adds the counts of another schedule.
    pub(crate) fn add(&mut self, other: Self) {
        for (name, count) in other.counts {
            *self.counts.entry(name).or_default() += count;
        }
    }

    pub(crate) fn acted(&mut self, act: &Act, accepted: bool) {
        match act {
            Act::Restart => self.count("restarts"),
            Act::Propose(_) if accepted => self.count("proposals"),
            Act::Change(_) if accepted => self.count("changes proposed"),
            Act::Change(_) => self.count("changes refused"),
            Act::Transfer(to) if accepted => {
                self.count("transfers begun");
                self.transfer = Some(*to);
            }
            _ => (),
        }
    }

    /// A node changed.
    pub(crate) fn seen(&mut self, id: Id, before: &View, after: &View) {
        if after.role == Some(Role::Leader) && before.role != Some(Role::Leader) {
            self.elected(id, after.term);
        }
        if before.role == Some(Role::Leader) && after.role == Some(Role::Follower) && after.term == before.term {
            let is_voter = after.configs.last().is_some_and(|(_, members)| members.is_voter(id));
            self.count(if is_voter { "leaders without a quorum" } else { "leaders removed" });
        }
        if after.vote.is_some() && self.votes.insert((after.term, id)) {
            self.count("votes");
        }
        if before.log.iter().any(|line| !after.has(line.place)) {
            self.count("conflicts cut off");
        }
        if after.snapshot.0 > before.last_index() {
            self.count("snapshots installed");
        } else if after.snapshot != before.snapshot {
            self.count("compactions");
        }
        if after.commit > self.commit {
            self.committed(after);
        }
    }

    fn elected(&mut self, id: Id, term: u64) {
        self.count("elections");
        if self.leaders.values().next_back().is_some_and(|before| *before != id) {
            self.count("leader changes");
        }
        assert_eq!(*self.leaders.entry(term).or_insert(id), id, "two leaders in term {term}");
        if self.transfer.take() == Some(id) {
            self.count("transfers done");
        }
    }

    fn committed(&mut self, view: &View) {
        let is_new = |index: u64| index > self.commit && index <= view.commit;
        let entries = view.log.iter().filter(|line| is_new(line.place.0)).count();
        let configs: Vec<_> = view.configs.iter().filter(|(index, _)| is_new(*index)).collect();
        let joint = configs.iter().filter(|(_, members)| !members.outgoing.is_empty()).count();
        let learners = configs.iter().filter(|(_, members)| !members.learners.is_empty()).count();
        for (name, count) in [
            ("entries committed", entries),
            ("configurations committed", configs.len()),
            ("joint ones", joint),
            ("ones with learners", learners),
        ] {
            (0..count).for_each(|_| self.count(name));
        }
        self.commit = view.commit;
    }
}

impl fmt::Display for Coverage {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (name, count)) in self.counts.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(formatter, "{comma}{name} {count}")?;
        }
        Ok(())
    }
}
