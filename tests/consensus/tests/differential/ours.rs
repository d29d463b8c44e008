//! The world of our own Raft.

use std::collections::BTreeMap;

use p2pcore::raft::{
    Body, Configuration, Entry, Flaw, Limits, Message, Output, Payload, Persist, Progress, ProgressState, Raft, Stored,
    TransferError,
};

use crate::common::{Act, Content, Follower, Id, Line, Members, Pace, Said, Saying, Setting, Told, View, World};

pub(crate) struct Ours {
    nodes: BTreeMap<Id, Raft<Id, u64>>,
    disks: BTreeMap<Id, Stored<Id, u64>>,
    limits: Limits,
    flaw: Option<Flaw>,
    sent: Vec<(Said, Envelope)>,
    told: BTreeMap<Id, Vec<Told>>,
}

/// A message and its sender.
#[derive(Clone, Debug)]
pub(crate) struct Envelope {
    from: Id,
    message: Message<Id, u64>,
}

impl Ours {
    pub(crate) fn new(setting: &Setting, flaw: Option<Flaw>) -> Self {
        let limits = Limits {
            max_append_entries: if setting.is_chopped { 1 } else { usize::MAX },
            max_append_bytes: usize::MAX,
            max_inflight: setting.max_inflight,
            max_log: setting.max_log,
            ..Limits::default()
        };
        let mut world = Self {
            nodes: BTreeMap::new(),
            disks: BTreeMap::new(),
            limits,
            flaw,
            sent: Vec::new(),
            told: BTreeMap::new(),
        };
        for id in setting.ids() {
            let disk = if id <= setting.founders { founding(setting.founders) } else { Stored::default() };
            world.disks.insert(id, disk);
            world.start(id);
        }
        world
    }

    /// Whether a message answers a leader of its term that knows its sender as one that joined later.
    pub(crate) fn is_of_earlier_membership(&self, to: Id, envelope: &Envelope) -> bool {
        let (node, Envelope { from, message }) = (&self.nodes[&to], envelope);
        let joined_later = |(id, progress): (Id, &Progress)| id == *from && progress.join != message.join;
        let is_answer =
            matches!(message.body, Body::Appended { .. } | Body::Rejected { .. } | Body::HeartbeatReply { .. });
        is_answer && message.term == node.term() && node.progress().any(joined_later)
    }

    pub(crate) fn stored_commit(&self, id: Id) -> u64 {
        self.disks[&id].hard_state.commit
    }

    fn start(&mut self, id: Id) {
        let disk = self.disks[&id].clone();
        let mut node = Raft::new(id, disk, self.limits).unwrap();
        if let Some(flaw) = self.flaw {
            node.plant(flaw);
        }
        self.nodes.insert(id, node);
        self.collect(id);
    }

    fn collect(&mut self, id: Id) {
        let node = self.nodes.get_mut(&id).unwrap();
        let told = self.told.entry(id).or_default();
        let mut orders = Vec::new();
        while let Some(output) = node.poll() {
            match output {
                Output::Persist(order) => orders.push(order),
                Output::Send { to, message } => {
                    let said = said(id, to, &message);
                    self.sent.push((said, Envelope { from: id, message }));
                }
                Output::Committed(entries) => told.extend(entries.iter().map(line).map(Told::Committed)),
                Output::Installed(snapshot) => told.push(Told::Installed((snapshot.index, snapshot.term))),
                Output::Role(_) => (),
            }
        }
        for order in orders {
            self.write(id, &order);
            self.nodes.get_mut(&id).unwrap().persisted(order.id);
            self.collect(id);
        }
    }

    fn write(&mut self, id: Id, order: &Persist<Id, u64>) {
        self.disks.get_mut(&id).unwrap().write(order);
    }
}

impl World for Ours {
    type Message = Envelope;

    fn act(&mut self, id: Id, act: &Act) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut accepted = true;
        match act {
            Act::Restart => {
                self.start(id);
                return true;
            }
            Act::Silent => node.leader_silent(),
            Act::Campaign => node.campaign(),
            Act::Beat => drop(node.beat()),
            Act::CheckQuorum => node.check_quorum(),
            Act::Propose(command) => accepted = node.propose(*command).is_ok(),
            Act::Change(change) => accepted = node.propose_change(change).is_ok(),
            Act::Transfer(to) => {
                // raft-rs and ours differ in what a second transfer does to the first
                let transfer = match node.transfer_target() {
                    Some(to) => Err(TransferError::Transferring { to }),
                    None => node.transfer(*to),
                };
                accepted = transfer.is_ok();
            }
            Act::Abort => node.abort_transfer(),
        }
        self.collect(id);
        accepted
    }

    fn step(&mut self, to: Id, Envelope { from, message }: Envelope) {
        self.nodes.get_mut(&to).unwrap().step(from, message);
        self.collect(to);
    }

    fn take_sent(&mut self) -> Vec<(Said, Envelope)> {
        std::mem::take(&mut self.sent)
    }

    fn view(&mut self, id: Id) -> View {
        let (node, disk) = (&self.nodes[&id], &self.disks[&id]);
        let (role, snapshot) = (node.role(), node.snapshot());
        let mut configs = vec![(snapshot.index, members(&snapshot.config))];
        configs.extend(node.entries().filter_map(|entry| Some((entry.index, members(entry.config()?)))));
        View {
            term: node.term(),
            vote: node.vote(),
            role: Some(role.role),
            leader: role.leader,
            commit: node.commit(),
            snapshot: (snapshot.index, snapshot.term),
            log: node.entries().map(line).collect(),
            configs,
            is_saved: (disk.hard_state.term, disk.hard_state.vote) == (node.term(), node.vote())
                && disk.entries.iter().eq(node.entries()),
            transfer: node.transfer_target(),
            followers: node.progress().map(|(id, progress)| (id, follower(progress))).collect(),
            told: self.told.remove(&id).unwrap_or_default(),
        }
    }
}

/// In term 1 and not 0, as usual: raft-rs takes what lies beyond the end of a log for an entry of term 0.
fn founding(founders: u64) -> Stored<Id, u64> {
    let mut disk = Stored::founding(1..=founders);
    disk.snapshot.term = 1;
    disk.hard_state.term = 1;
    disk
}

fn members(config: &Configuration<Id>) -> Members {
    Members {
        voters: config.voters.incoming.clone(),
        outgoing: config.voters.outgoing.clone(),
        learners: config.learners.clone(),
        learners_next: config.learners_next.clone(),
    }
}

fn follower(progress: &Progress) -> Follower {
    let pace = match progress.state {
        ProgressState::Probe => Pace::Probe(progress.next),
        ProgressState::Replicate => Pace::Replicate(progress.next),
        ProgressState::Snapshot(index) => Pace::Snapshot(index),
    };
    Follower { matched: progress.matched, is_active: progress.recent_active, pace }
}

fn line(entry: &Entry<Id, u64>) -> Line {
    let content = match &entry.payload {
        Payload::Noop => Content::Noop,
        Payload::Command(command) => Content::Command(**command),
        Payload::Config(_) => Content::Config,
    };
    Line { place: (entry.index, entry.term), content }
}

fn said(from: Id, to: Id, message: &Message<Id, u64>) -> Said {
    let body = match &message.body {
        Body::PreVote { last_index, last_term } => Saying::PreVote { last: (*last_index, *last_term) },
        Body::PreVoteReply { granted } => Saying::PreVoteReply { granted: *granted },
        Body::Vote { last_index, last_term, transfer } => {
            Saying::Vote { last: (*last_index, *last_term), transfer: *transfer }
        }
        Body::VoteReply { granted } => Saying::VoteReply { granted: *granted },
        Body::Append { prev_index, prev_term, entries, commit } => Saying::Append {
            prev: (*prev_index, *prev_term),
            entries: entries.iter().map(line).collect(),
            commit: *commit,
        },
        Body::Appended { index } => Saying::Appended { index: *index },
        Body::Rejected { prev_index, hint_index, hint_term } => {
            Saying::Rejected { prev_index: *prev_index, hint: (*hint_index, *hint_term) }
        }
        Body::Heartbeat { commit, .. } => Saying::Heartbeat { commit: *commit },
        Body::HeartbeatReply { .. } => Saying::HeartbeatReply,
        Body::Snapshot(snapshot) => Saying::Snapshot { last: (snapshot.index, snapshot.term) },
        Body::TimeoutNow => Saying::TimeoutNow,
    };
    Said { from, to, term: message.term, body }
}
