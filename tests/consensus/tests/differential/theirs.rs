//! The world of raft-rs.

use std::collections::BTreeMap;

use p2pcore::raft::Role;
use raft::{CAMPAIGN_TRANSFER, INVALID_ID, NO_LIMIT, Progress, ProgressState, RawNode, Ready, StateRole, eraftpb::*};

use crate::{
    common::{Act, Content, Follower, Id, Line, Pace, Said, Saying, Setting, Told, View, World},
    config::{Configs, is_change, original, silence},
    storage::Disk,
};

pub(crate) struct Theirs {
    nodes: BTreeMap<Id, Node>,
    setting: Setting,
    sent: Vec<(Said, Message)>,
}

pub(crate) struct Node {
    pub(crate) raft: RawNode<Disk>,
    pub(crate) configs: Configs,
    /// A leader may have been heard a short while ago.
    pub(crate) deaf: bool,
    /// As leader of this term it told another node to campaign.
    pub(crate) ordered: Option<u64>,
    told: Vec<Told>,
}

impl Theirs {
    pub(crate) fn new(setting: &Setting) -> Self {
        let mut world = Self { nodes: BTreeMap::new(), setting: *setting, sent: Vec::new() };
        for id in setting.ids() {
            let is_founder = id <= setting.founders;
            let disk = if is_founder { Disk::founding((1, 1), 1..=setting.founders) } else { Disk::default() };
            world.start(id, disk);
        }
        world
    }

    /// Which of the committed entries are dropped is the application's choice.
    pub(crate) fn compact(&mut self, id: Id, index: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        if index > node.raft.store().snapshot.index {
            let config = node.configs.compact(index);
            node.raft.mut_store().compact(index, config);
        }
    }

    /// How late the commit index is written is the application's choice.
    pub(crate) fn set_stored_commit(&mut self, id: Id, commit: u64) {
        let node = self.nodes.get_mut(&id).unwrap();
        assert!(commit <= node.raft.raft.raft_log.committed);
        node.raft.mut_store().hard_state.commit = commit;
    }

    fn start(&mut self, id: Id, disk: Disk) {
        let config = raft::Config {
            id,
            check_quorum: true,
            pre_vote: true,
            // there are no ticks, so these never pass; without a range nothing is drawn either
            min_election_tick: 1_000_000,
            max_election_tick: 1_000_001,
            max_size_per_msg: if self.setting.is_chopped { 0 } else { NO_LIMIT },
            max_inflight_msgs: self.setting.max_inflight,
            applied: disk.snapshot.index,
            ..raft::Config::default()
        };
        let mut raft = RawNode::new(&config, disk, &silence()).unwrap();
        let configs = Configs::of(&mut raft.raft);
        self.nodes.insert(id, Node { raft, configs, deaf: true, ordered: None, told: Vec::new() });
        self.collect(id);
    }

    fn collect(&mut self, id: Id) {
        let sent = self.nodes.get_mut(&id).unwrap().settle();
        self.sent.extend(sent.into_iter().map(|message| (said(&message), message)));
    }
}

impl Node {
    /// Does what is to be done until there is nothing more. Returns what is sent.
    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        loop {
            self.follow_rules();
            if !self.raft.has_ready() {
                self.censor(&mut sent);
                return sent;
            }
            let mut ready = self.raft.ready();
            self.write(&ready);
            let has_snapshot = !ready.snapshot().is_empty();
            let mut committed = ready.take_committed_entries();
            sent.extend(ready.take_messages());
            sent.extend(ready.take_persisted_messages());
            let mut light = self.raft.advance_append(ready);
            sent.extend(light.take_messages());
            committed.extend(light.take_committed_entries());
            self.told.extend(committed.iter().map(line).map(Told::Committed));
            if has_snapshot || !committed.is_empty() {
                self.raft.advance_apply();
            }
            if has_snapshot || committed.iter().any(is_change) {
                self.config_committed(&mut sent);
            }
        }
    }

    fn write(&mut self, ready: &Ready) {
        let hard_state = self.raft.raft.hard_state();
        let disk = self.raft.mut_store();
        if !ready.snapshot().is_empty() {
            let snapshot = original(ready.snapshot());
            self.told.push(Told::Installed((snapshot.index, snapshot.term)));
            disk.restore(snapshot);
        }
        disk.append(ready.entries());
        disk.hard_state = hard_state;
    }

    fn prompt(&mut self, kind: MessageType) {
        let mut message = Message::default();
        message.set_msg_type(kind);
        self.raft.raft.step(message).unwrap();
    }
}

impl World for Theirs {
    type Message = Message;

    fn act(&mut self, id: Id, act: &Act) -> bool {
        let node = self.nodes.get_mut(&id).unwrap();
        let mut accepted = true;
        match act {
            Act::Restart => {
                let disk = std::mem::take(node.raft.mut_store());
                self.start(id, disk);
                return true;
            }
            Act::Silent => node.deaf = false,
            Act::Campaign => node.campaign(),
            Act::Beat => node.prompt(MessageType::MsgBeat),
            Act::CheckQuorum => node.prompt(MessageType::MsgCheckQuorum),
            Act::Propose(command) => {
                let data = command.to_le_bytes().to_vec();
                // a follower of raft-rs would pass it on
                accepted = node.is_leader() && node.raft.propose(Vec::new(), data).is_ok();
            }
            Act::Change(change) => accepted = node.propose_change(change),
            Act::Transfer(to) => accepted = node.transfer(*to),
            Act::Abort => node.abort_transfer(),
        }
        self.collect(id);
        accepted
    }

    fn step(&mut self, to: Id, message: Message) {
        self.nodes.get_mut(&to).unwrap().receive(message);
        self.collect(to);
    }

    fn take_sent(&mut self) -> Vec<(Said, Message)> {
        std::mem::take(&mut self.sent)
    }

    fn view(&mut self, id: Id) -> View {
        let node = self.nodes.get_mut(&id).unwrap();
        let told = std::mem::take(&mut node.told);
        let (raft, disk) = (&node.raft.raft, node.raft.store());
        let followers = raft.prs().iter().filter(|(other, _)| node.is_leader() && **other != id);
        View {
            term: raft.term,
            vote: named(raft.vote),
            role: Some(match raft.state {
                StateRole::Follower => Role::Follower,
                StateRole::PreCandidate => Role::PreCandidate,
                StateRole::Candidate => Role::Candidate,
                StateRole::Leader => Role::Leader,
            }),
            leader: named(raft.leader_id),
            commit: raft.raft_log.committed,
            snapshot: (disk.snapshot.index, disk.snapshot.term),
            log: disk.entries.iter().map(line).collect(),
            configs: node.configs.all().collect(),
            is_saved: (disk.hard_state.term, disk.hard_state.vote) == (raft.term, raft.vote)
                && raft.raft_log.unstable_entries().is_empty(),
            transfer: raft.lead_transferee,
            followers: followers.map(|(id, progress)| (*id, follower(progress))).collect(),
            told,
        }
    }
}

fn named(id: Id) -> Option<Id> {
    (id != INVALID_ID).then_some(id)
}

fn follower(progress: &Progress) -> Follower {
    let pace = match progress.state {
        ProgressState::Probe => Pace::Probe(progress.next_idx),
        ProgressState::Replicate => Pace::Replicate(progress.next_idx),
        ProgressState::Snapshot => Pace::Snapshot(progress.pending_snapshot),
    };
    Follower { matched: progress.matched, is_active: progress.recent_active, pace }
}

fn line(entry: &Entry) -> Line {
    let content = match entry.get_data() {
        _ if is_change(entry) => Content::Config,
        [] => Content::Noop,
        data => Content::Command(u64::from_le_bytes(data.try_into().unwrap())),
    };
    Line { place: (entry.index, entry.term), content }
}

fn said(message: &Message) -> Said {
    let place = (message.index, message.log_term);
    let body = match message.get_msg_type() {
        MessageType::MsgRequestPreVote => Saying::PreVote { last: place },
        MessageType::MsgRequestPreVoteResponse => Saying::PreVoteReply { granted: !message.reject },
        MessageType::MsgRequestVote => Saying::Vote { last: place, transfer: message.context == CAMPAIGN_TRANSFER },
        MessageType::MsgRequestVoteResponse => Saying::VoteReply { granted: !message.reject },
        MessageType::MsgAppend => {
            Saying::Append { prev: place, entries: message.entries.iter().map(line).collect(), commit: message.commit }
        }
        MessageType::MsgAppendResponse if message.reject => {
            Saying::Rejected { prev_index: message.index, hint: (message.reject_hint, message.log_term) }
        }
        MessageType::MsgAppendResponse => Saying::Appended { index: message.index },
        MessageType::MsgHeartbeat => Saying::Heartbeat { commit: message.commit },
        MessageType::MsgHeartbeatResponse => Saying::HeartbeatReply,
        MessageType::MsgSnapshot => {
            let snapshot = message.get_snapshot().get_metadata();
            Saying::Snapshot { last: (snapshot.index, snapshot.term) }
        }
        MessageType::MsgTimeoutNow => Saying::TimeoutNow,
        kind => panic!("{kind:?} is not for another node"),
    };
    Said { from: message.from, to: message.to, term: message.term, body }
}
