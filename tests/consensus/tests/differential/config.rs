//! Configurations of raft-rs, in force from their entries on as in ours.
//!
//! raft-rs leaves it to its application when a change comes in force, and most do it when its entry is committed. Here it is
//! as soon as the log has the entry, and is taken back when the entry is cut off. Who is removed is sent to until the
//! removal is committed, or it would never hear of it.

use std::collections::BTreeSet;

use p2pcore::raft::{Change, Op};
use raft::{Changer, GetEntriesContext, MapChange, ProgressTracker, Raft, StateRole, eraftpb::*};

use crate::{
    common::{Id, Members},
    storage::Disk,
};

/// The configurations of a node's snapshot and log.
pub(crate) struct Configs {
    /// By index; the last one is in force.
    list: Vec<(u64, ConfState)>,
    /// Removals by the index of their entry.
    leaving: Vec<(u64, MapChange)>,
}

impl Configs {
    /// What is in the snapshot and the log of a node that just started.
    pub(crate) fn of(raft: &mut Raft<Disk>) -> Self {
        let mut configs = Self { list: Vec::new(), leaving: Vec::new() };
        configs.rebuild(raft);
        configs
    }

    /// Looks at what the log got since it was last on disk.
    pub(crate) fn put_in_force(&mut self, raft: &mut Raft<Disk>) {
        let entries = raft.raft_log.unstable_entries().to_vec();
        let first = entries.first().map_or(u64::MAX, |entry| entry.index);
        if raft.raft_log.unstable_snapshot().is_some() || self.list.iter().any(|(index, _)| *index >= first) {
            self.rebuild(raft);
        } else {
            self.enforce(raft, &entries);
        }
    }

    /// The members that a committed configuration removed are gone.
    pub(crate) fn release(&mut self, raft: &mut Raft<Disk>) {
        let committed = raft.raft_log.committed;
        for (_, removals) in self.leaving.extract_if(.., |(index, _)| *index <= committed) {
            let config = raft.prs().conf().clone();
            raft.mut_prs().apply_conf(config, removals, 0);
        }
    }

    /// Forgets what was in force before the entry after `index`. Returns what was in force then.
    pub(crate) fn compact(&mut self, index: u64) -> ConfState {
        let config = at(&self.list, index).clone();
        self.list.retain(|(place, _)| *place > index);
        self.list.insert(0, (index, config.clone()));
        config
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = (u64, Members)> {
        self.list.iter().map(|(index, config)| (*index, members(config)))
    }

    pub(crate) fn in_force(&self) -> Members {
        members(at(&self.list, u64::MAX))
    }

    pub(crate) fn committed(&self, raft: &Raft<Disk>) -> Members {
        members(at(&self.list, raft.raft_log.committed))
    }

    /// Whether the one in force is committed.
    pub(crate) fn are_committed(&self, raft: &Raft<Disk>) -> bool {
        self.list.last().is_none_or(|(index, _)| *index <= raft.raft_log.committed)
    }

    /// Begins anew from the snapshot; not at a leader, which would forget what it knows of the others.
    fn rebuild(&mut self, raft: &mut Raft<Disk>) {
        let snapshot = match raft.raft_log.unstable_snapshot() {
            Some(snapshot) => original(snapshot),
            None => raft.store().snapshot.clone(),
        };
        *raft.mut_prs() = tracker(raft, snapshot.clone());
        raft.post_conf_change();
        self.list = vec![(snapshot.index, snapshot.get_conf_state().clone())];
        self.leaving.clear();
        let log = &raft.raft_log;
        let entries = log.entries(log.first_index(), None, GetEntriesContext::empty(false)).unwrap();
        self.enforce(raft, &entries);
        self.release(raft);
    }

    fn enforce(&mut self, raft: &mut Raft<Disk>, entries: &[Entry]) {
        for entry in entries.iter().filter(|entry| is_change(entry)) {
            self.enforce_one(raft, entry);
        }
    }

    fn enforce_one(&mut self, raft: &mut Raft<Disk>, entry: &Entry) {
        let change = decode(entry);
        let mut changer = Changer::new(raft.prs());
        let (config, mut changes) = match change.enter_joint() {
            _ if change.leave_joint() => changer.leave_joint(),
            Some(auto_leave) => changer.enter_joint(auto_leave, &change.changes),
            None => changer.simple(&change.changes),
        }
        .unwrap();
        let next = members(&config.to_conf_state());
        let leaving = changes.extract_if(.., |(id, _)| !next.contains(*id)).collect();
        self.leaving.iter_mut().for_each(|(_, removals)| removals.retain(|(id, _)| !next.contains(*id)));
        self.leaving.push((entry.index, leaving));
        let joining: Vec<Id> = changes.iter().map(|(id, _)| *id).collect();
        raft.mut_prs().apply_conf(config, changes, entry.index);
        for id in joining {
            // it has not answered yet
            raft.mut_prs().get_mut(id).unwrap().recent_active = false;
        }
        if raft.state == StateRole::Leader {
            send_new_entries(raft);
        }
        let config = raft.post_conf_change();
        self.list.push((entry.index, config));
    }
}

/// raft-rs does not by itself when it leaves a joint configuration.
fn send_new_entries(raft: &mut Raft<Disk>) {
    let last = raft.raft_log.last_index();
    let lacks = |(id, progress): (&Id, &raft::Progress)| (*id != raft.id && progress.next_idx <= last).then_some(*id);
    let mut ids: Vec<Id> = raft.prs().iter().filter_map(lacks).collect();
    ids.sort_unstable();
    ids.into_iter().for_each(|id| raft.send_append(id));
}

/// What raft-rs makes of a snapshot's configuration.
fn tracker(raft: &Raft<Disk>, snapshot: SnapshotMetadata) -> ProgressTracker {
    let config = raft::Config { max_inflight_msgs: raft.max_inflight, ..raft::Config::new(raft.id) };
    let disk = Disk { snapshot, ..Disk::default() };
    Raft::new(&config, disk, &silence()).unwrap().prs().clone()
}

fn at(list: &[(u64, ConfState)], index: u64) -> &ConfState {
    list.iter().rev().find(|(place, _)| *place <= index).map(|(_, config)| config).unwrap()
}

pub(crate) fn silence() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

pub(crate) fn is_change(entry: &Entry) -> bool {
    entry.get_entry_type() == EntryType::EntryConfChangeV2
}

pub(crate) fn members(config: &ConfState) -> Members {
    let set = |ids: &[Id]| ids.iter().copied().collect();
    Members {
        voters: set(config.get_voters()),
        outgoing: set(config.get_voters_outgoing()),
        learners: set(config.get_learners()),
        learners_next: set(config.get_learners_next()),
    }
}

/// Whether ours would take the change: raft-rs takes one that changes nothing, names a node twice, or removes a stranger.
pub(crate) fn is_legal(prs: &ProgressTracker, change: &Change<Id>) -> bool {
    let now = members(&prs.conf().to_conf_state());
    let (Change::Simple(ops) | Change::Joint(ops)) = change;
    let changes_nothing = ops.iter().all(|op| match op {
        Op::Voter(id) => now.voters.contains(id),
        Op::Learner(id) => now.learners.contains(id),
        Op::Remove(_) => false,
    });
    let ids: BTreeSet<Id> = ops.iter().map(|(Op::Voter(id) | Op::Learner(id) | Op::Remove(id))| *id).collect();
    let names_stranger = ops.iter().any(|op| matches!(op, Op::Remove(id) if !now.contains(*id)));
    let (_, singles) = encode(change);
    let next = match change {
        Change::Simple(_) => Changer::new(prs).simple(&singles.changes),
        Change::Joint(_) => Changer::new(prs).enter_joint(true, &singles.changes),
    };
    next.is_ok() && !changes_nothing && !names_stranger && ids.len() == ops.len()
}

/// A change, and the context with which its entry can be read again.
pub(crate) fn encode(change: &Change<Id>) -> (Vec<u8>, ConfChangeV2) {
    let (is_joint, ops) = match change {
        Change::Simple(ops) => (0, ops),
        Change::Joint(ops) => (1, ops),
    };
    let op = |op: &Op<Id>| match op {
        Op::Voter(id) => [0, *id as u8],
        Op::Learner(id) => [1, *id as u8],
        Op::Remove(id) => [2, *id as u8],
    };
    let context: Vec<u8> = [is_joint].into_iter().chain(ops.iter().flat_map(op)).collect();
    let change = read(&context);
    (context, change)
}

fn decode(entry: &Entry) -> ConfChangeV2 {
    // the one that leaves a joint configuration is made by raft-rs itself, and has no context
    if entry.context.is_empty() { ConfChangeV2::default() } else { read(&entry.context) }
}

fn read(context: &[u8]) -> ConfChangeV2 {
    let mut change = ConfChangeV2::default();
    if context[0] == 1 {
        change.set_transition(ConfChangeTransition::Implicit);
    }
    for op in context[1..].chunks(2) {
        let mut single = ConfChangeSingle::default();
        single.set_change_type(match op[0] {
            0 => ConfChangeType::AddNode,
            1 => ConfChangeType::AddLearnerNode,
            _ => ConfChangeType::RemoveNode,
        });
        single.node_id = u64::from(op[1]);
        change.mut_changes().push(single);
    }
    change
}

/// Makes raft-rs take a snapshot whose configuration does not have the receiver.
pub(crate) fn receive(snapshot: &mut Snapshot, id: Id) {
    let config = snapshot.mut_metadata().mut_conf_state();
    if !members(config).contains(id) {
        config.mut_learners().push(id);
        snapshot.data = vec![id as u8].into();
    }
}

/// The snapshot as it was before [`receive`].
pub(crate) fn original(snapshot: &Snapshot) -> SnapshotMetadata {
    let mut metadata = snapshot.get_metadata().clone();
    if let Some(id) = snapshot.data.first() {
        metadata.mut_conf_state().mut_learners().retain(|learner| *learner != u64::from(*id));
    }
    metadata
}
