//! The world of raft-rs, with what its application must do, and what is decided otherwise in ours.
//!
//! | decided otherwise in ours | what is done here about it |
//! |---|---|
//! | a configuration is in force from its entry on | raft-rs lets its application say when; see [`config`](crate::config) |
//! | following a leader uses up the vote of the term | the vote is set |
//! | a failed transfer costs a term, if the other node was told already | the leader campaigns |
//! | no change before an entry of the own term is committed | the change is refused |
//! | whoever may have heard of a leader a short while ago, even before a restart, gives no answer to any candidate | only requests that raft-rs would be silent on pass |
//! | a transfer to a node that is removed ends if it was not told yet, and goes on if it was | the same |
//! | a joint configuration is left before it is asked whether the target of a transfer has all | the target is told later |
//! | a voter may campaign until its removal is committed | it does |
//! | a removed leader steps down, after one more append to each follower | it steps down, and further appends are lost |
//! | only the leader that one follows can order a campaign | the message is lost |
//! | only consent to the election at hand counts | the message is lost |
//! | a rejection takes nothing back that is known to agree | it says no less, or is lost |
//! | an answer that says the same again ends a probe too | what it says is forgotten first |
//! | appends follow a snapshot's answer without waiting | it is reported that the snapshot arrived |
//! | a probe without entries is one too | it is marked |
//! | a snapshot of an older term is answered as an append is | it arrives as a heartbeat |
//! | a snapshot is taken from a leader even if its configuration does not have the receiver yet | it arrives with the receiver in it |
//! | a heartbeat's answer tells that a snapshot got lost | this is reported |
//! | commit indexes do not travel with votes | they are removed |
//! | a change that changes nothing, names a node twice or removes a stranger is refused | the change is refused |
//! | a new member does not count as active before it answered | the mark is removed |

use std::collections::{BTreeMap, BTreeSet};

use p2pcore::raft::{Change, Role};
use raft::{
    CAMPAIGN_TRANSFER, INVALID_ID, NO_LIMIT, Progress, ProgressState, RawNode, SnapshotStatus, StateRole, eraftpb::*,
};

use crate::{
    common::{Act, Content, Follower, Id, Line, Pace, Said, Saying, Setting, Told, View, World},
    config::{self, Configs, is_change},
    storage::Disk,
};

pub(crate) struct Theirs {
    nodes: BTreeMap<Id, Node>,
    setting: Setting,
    sent: Vec<(Said, Message)>,
}

struct Node {
    raft: RawNode<Disk>,
    configs: Configs,
    /// A leader may have been heard a short while ago.
    deaf: bool,
    /// Another node was told to campaign in this term.
    abdicated: Option<u64>,
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
            node.raft.mut_store().hard_state = node.raft.raft.hard_state();
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
        let mut raft = RawNode::new(&config, disk, &config::silence()).unwrap();
        let configs = Configs::of(&mut raft.raft);
        self.nodes.insert(id, Node { raft, configs, deaf: true, abdicated: None, told: Vec::new() });
        self.collect(id);
    }

    fn collect(&mut self, id: Id) {
        let sent = self.nodes.get_mut(&id).unwrap().settle();
        self.sent.extend(sent.into_iter().map(|message| (said(&message), message)));
    }
}

impl Node {
    /// Lets the disk work until all is on it. Returns what is sent.
    fn settle(&mut self) -> Vec<Message> {
        let mut sent = Vec::new();
        loop {
            let raft = &mut self.raft.raft;
            if raft.vote == INVALID_ID {
                raft.vote = raft.leader_id;
            }
            let transferee = raft.lead_transferee;
            self.configs.put_in_force(raft);
            let was_told = self.abdicated == Some(raft.term);
            let voters = raft.prs().conf().voters();
            raft.lead_transferee = transferee.filter(|to| was_told || voters.contains(*to));
            if !self.raft.has_ready() {
                break;
            }
            let mut ready = self.raft.ready();
            sent.extend(ready.take_messages());
            sent.extend(ready.take_persisted_messages());
            let has_snapshot = !ready.snapshot().is_empty();
            let hard_state = self.raft.raft.hard_state();
            let disk = self.raft.mut_store();
            if has_snapshot {
                let snapshot = config::original(ready.snapshot());
                self.told.push(Told::Installed((snapshot.index, snapshot.term)));
                disk.restore(snapshot);
            }
            disk.append(ready.entries());
            if has_snapshot
                || !ready.entries().is_empty()
                || (hard_state.term, hard_state.vote) != (disk.hard_state.term, disk.hard_state.vote)
            {
                disk.hard_state = hard_state;
            }
            let mut committed = ready.take_committed_entries();
            let mut light = self.raft.advance_append(ready);
            sent.extend(light.take_messages());
            committed.extend(light.take_committed_entries());
            self.told.extend(committed.iter().map(line).map(Told::Committed));
            if has_snapshot || !committed.is_empty() {
                // not without news, or a new leader would leave a joint configuration before it committed anything
                self.raft.advance_apply();
            }
            if (has_snapshot || committed.iter().any(is_change)) && self.config_committed() {
                let mut told = BTreeSet::new();
                sent.retain(|message| message.get_msg_type() != MessageType::MsgAppend || told.insert(message.to));
            }
        }
        let raft = &mut self.raft.raft;
        for message in &sent {
            let progress = raft.mut_prs().get_mut(message.to);
            if let Some(progress) = progress.filter(|progress| progress.state == ProgressState::Probe)
                && message.get_msg_type() == MessageType::MsgAppend
            {
                progress.pause();
            }
        }
        let has_all = |id| raft.prs().get(id).is_some_and(|progress| progress.matched == raft.raft_log.last_index());
        sent.retain(|message| message.get_msg_type() != MessageType::MsgTimeoutNow || has_all(message.to));
        for message in &mut sent {
            // what it is of a vote; elsewhere it is 0 already
            message.commit_term = 0;
            if message.get_msg_type() == MessageType::MsgTimeoutNow {
                self.abdicated = Some(message.term);
            }
        }
        sent
    }

    /// Returns whether the leader steps down.
    fn config_committed(&mut self) -> bool {
        let raft = &mut self.raft.raft;
        let is_voter = raft.prs().conf().voters().contains(raft.id);
        let is_removed = raft.state == StateRole::Leader && !is_voter && self.configs.are_committed(raft);
        if is_removed {
            raft.become_follower(raft.term, INVALID_ID);
        }
        self.configs.release(raft);
        is_removed
    }

    fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn may_campaign(&self) -> bool {
        let raft = &self.raft.raft;
        raft.promotable() || self.configs.committed(raft).is_voter(raft.id)
    }

    fn campaign(&mut self) {
        if !self.is_leader() && !self.deaf && self.may_campaign() {
            self.raft.campaign().unwrap();
        }
    }

    fn local(&mut self, kind: MessageType) {
        let mut message = Message::default();
        message.set_msg_type(kind);
        self.raft.raft.step(message).unwrap();
    }

    fn propose_change(&mut self, change: &Change<Id>) -> bool {
        let raft = &self.raft.raft;
        if !self.is_leader()
            || raft.lead_transferee.is_some()
            || raft.has_pending_conf()
            || !raft.commit_to_current_term()
            || !config::is_legal(raft.prs(), change)
        {
            return false;
        }
        let (context, change) = config::encode(change);
        self.raft.propose_conf_change(context, change).is_ok()
    }

    fn transfer(&mut self, to: Id) -> bool {
        let raft = &self.raft.raft;
        if !self.is_leader() || raft.lead_transferee.is_some() || !raft.prs().conf().voters().contains(to) {
            return false;
        }
        self.raft.transfer_leader(to);
        self.raft.raft.lead_transferee == Some(to)
    }

    fn abort_transfer(&mut self) {
        let raft = &mut self.raft.raft;
        if raft.lead_transferee.is_none() {
            return;
        }
        raft.abort_leader_transfer();
        if self.abdicated == Some(raft.term) {
            raft.become_follower(raft.term, INVALID_ID);
            raft.campaign(CAMPAIGN_TRANSFER);
        }
    }

    fn step(&mut self, mut message: Message) {
        if !self.admits(&message) {
            return;
        }
        if message.get_msg_type() == MessageType::MsgTimeoutNow && !self.raft.raft.promotable() && self.may_campaign() {
            self.raft.raft.campaign(CAMPAIGN_TRANSFER);
            return;
        }
        let (from, term) = (message.from, message.term);
        self.prepare(&mut message);
        let is_of_leader = matches!(
            message.get_msg_type(),
            MessageType::MsgAppend | MessageType::MsgHeartbeat | MessageType::MsgSnapshot
        );
        // an answer of a node that is no member is an error to raft-rs
        _ = self.raft.step(message);
        self.deaf |= is_of_leader && self.follows(from, term);
    }

    /// What raft-rs is to know or to forget before it gets a message.
    fn prepare(&mut self, message: &mut Message) {
        let raft = &mut self.raft.raft;
        let (id, from) = (raft.id, message.from);
        if message.get_msg_type() == MessageType::MsgSnapshot {
            if message.term < raft.term {
                message.set_msg_type(MessageType::MsgHeartbeat);
            } else {
                config::admit(message.mut_snapshot(), id);
            }
        }
        let Some(progress) = raft.mut_prs().get_mut(from) else { return };
        let has_snapshot_under_way = progress.state == ProgressState::Snapshot;
        match message.get_msg_type() {
            MessageType::MsgHeartbeatResponse if has_snapshot_under_way => {
                self.raft.report_snapshot(from, SnapshotStatus::Failure);
            }
            MessageType::MsgAppendResponse if message.reject => {
                if message.reject_hint < progress.matched {
                    (message.reject_hint, message.log_term) = (progress.matched, 0);
                }
            }
            MessageType::MsgAppendResponse if has_snapshot_under_way && message.index >= progress.pending_snapshot => {
                self.raft.report_snapshot(from, SnapshotStatus::Finish);
            }
            MessageType::MsgAppendResponse if message.index == progress.matched => {
                progress.matched = progress.matched.saturating_sub(1);
            }
            _ => (),
        }
    }

    /// Whether ours would look at the message at all.
    fn admits(&mut self, message: &Message) -> bool {
        let is_leader = self.is_leader();
        let follows_sender = self.follows(message.from, message.term);
        let is_of_member = is_leader || self.configs.in_force().contains(message.from);
        let raft = &mut self.raft.raft;
        match message.get_msg_type() {
            MessageType::MsgRequestVote | MessageType::MsgRequestPreVote => {
                let is_deaf = self.deaf || is_leader;
                raft.election_elapsed = if is_deaf { 0 } else { raft.election_timeout() };
                let is_silent = raft.leader_id != INVALID_ID && message.term > raft.term;
                !is_deaf || is_silent || message.context == CAMPAIGN_TRANSFER
            }
            MessageType::MsgRequestPreVoteResponse if !message.reject => is_of_member && message.term == raft.term + 1,
            MessageType::MsgTimeoutNow => follows_sender,
            MessageType::MsgAppendResponse if message.reject && is_leader && message.term == raft.term => {
                let Some(progress) = raft.mut_prs().get_mut(message.from) else { return false };
                progress.recent_active = true;
                message.index > progress.matched
            }
            MessageType::MsgRequestPreVoteResponse
            | MessageType::MsgRequestVoteResponse
            | MessageType::MsgAppendResponse
            | MessageType::MsgHeartbeatResponse => is_of_member,
            _ => true,
        }
    }

    fn follows(&self, leader: Id, term: u64) -> bool {
        let raft = &self.raft.raft;
        raft.state == StateRole::Follower && raft.term == term && raft.leader_id == leader
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
            Act::Beat => node.local(MessageType::MsgBeat),
            Act::CheckQuorum => node.local(MessageType::MsgCheckQuorum),
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
        self.nodes.get_mut(&to).unwrap().step(message);
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
