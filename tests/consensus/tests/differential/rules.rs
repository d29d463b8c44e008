//! Where ours and raft-rs differ, and what is done about it at raft-rs.
//!
//! | in ours | at raft-rs |
//! |---|---|
//! | **elections** | |
//! | who follows a leader has no vote left in its term | the vote is set |
//! | who may have heard a leader, even before a restart, answers no candidate | requests are lost, but for those that raft-rs itself ignores |
//! | a voter may campaign until its removal is committed | it does |
//! | only consent to the election at hand counts | other consent is lost |
//! | who is no member has no say in an election | its answers are lost |
//! | no commit index travels with a vote | it is removed |
//! | **transfers** | |
//! | only the leader that one follows can order a campaign | other orders are lost |
//! | the order goes out after a joint configuration was left, not before | it is lost, and comes again with the next answer |
//! | a transfer to a node that is removed ends, unless the order is out | the same |
//! | giving up costs a term, if the order is out | the leader campaigns |
//! | a second transfer | is refused in both |
//! | **configurations** | |
//! | in force from their entries on | the same; see [`config`](crate::config) |
//! | no change before an entry of the term is committed | it is refused |
//! | no change that changes nothing, names a node twice or removes a stranger | it is refused |
//! | a new member is not active before it answers | the mark is removed |
//! | a joint one is left once an entry of the term is committed | nothing is applied before |
//! | a removed leader steps down, after one more append to each follower | it steps down, and further appends are lost |
//! | the first one is in a snapshot at index 1 | the same |
//! | **replication** | |
//! | a rejection takes nothing back that is known to agree | it is lost |
//! | an answer that says the same again ends a probe too | it is made news |
//! | a snapshot is taken even if its configuration does not have the receiver | it comes with the receiver |
//! | a snapshot of an older term is answered as an append is | it comes as a heartbeat |
//! | an answer that says that a snapshot is there ends the wait for it | it is reported as arrived |
//! | a heartbeat's answer that comes instead means that it got lost | it is reported as lost |

use std::collections::BTreeSet;

use p2pcore::raft::Change;
use raft::{
    CAMPAIGN_TRANSFER, INVALID_ID, ProgressState, SnapshotStatus, StateRole,
    eraftpb::{Message, MessageType as Kind},
};

use crate::{
    common::Id,
    config::{encode, is_legal, receive},
    theirs::Node,
};

impl Node {
    /// Gets a message; what ours would not look at is lost.
    pub(crate) fn receive(&mut self, mut message: Message) {
        if !self.admits(&message) {
            return;
        }
        let (kind, from, term) = (message.get_msg_type(), message.from, message.term);
        if kind == Kind::MsgTimeoutNow && !self.raft.raft.promotable() && self.may_campaign() {
            self.raft.raft.campaign(CAMPAIGN_TRANSFER);
            return;
        }
        match kind {
            Kind::MsgSnapshot if term < self.raft.raft.term => message.set_msg_type(Kind::MsgHeartbeat),
            Kind::MsgSnapshot => receive(message.mut_snapshot(), self.raft.raft.id),
            Kind::MsgAppendResponse | Kind::MsgHeartbeatResponse if term == self.raft.raft.term => {
                self.prepare_for_answer(&message);
            }
            _ => (),
        }
        // that the sender is no member is an error to raft-rs
        _ = self.raft.step(message);
        let is_of_leader = matches!(kind, Kind::MsgAppend | Kind::MsgHeartbeat | Kind::MsgSnapshot);
        self.deaf |= is_of_leader && self.follows(from, term);
    }

    fn admits(&mut self, message: &Message) -> bool {
        let (is_leader, follows_sender) = (self.is_leader(), self.follows(message.from, message.term));
        let is_of_member = is_leader || self.configs.in_force().contains(message.from);
        let raft = &mut self.raft.raft;
        match message.get_msg_type() {
            Kind::MsgRequestVote | Kind::MsgRequestPreVote => {
                let is_deaf = self.deaf || is_leader;
                raft.election_elapsed = if is_deaf { 0 } else { raft.election_timeout() };
                let is_ignored = raft.leader_id != INVALID_ID && message.term > raft.term;
                !is_deaf || is_ignored || message.context == CAMPAIGN_TRANSFER
            }
            Kind::MsgRequestPreVoteResponse if !message.reject => is_of_member && message.term == raft.term + 1,
            Kind::MsgTimeoutNow => follows_sender,
            Kind::MsgAppendResponse if message.reject && is_leader && message.term == raft.term => {
                let Some(progress) = raft.mut_prs().get_mut(message.from) else { return false };
                progress.recent_active = true;
                message.index > progress.matched
            }
            Kind::MsgRequestPreVoteResponse
            | Kind::MsgRequestVoteResponse
            | Kind::MsgAppendResponse
            | Kind::MsgHeartbeatResponse => is_of_member,
            _ => true,
        }
    }

    fn prepare_for_answer(&mut self, answer: &Message) {
        let Some(progress) = self.raft.raft.mut_prs().get_mut(answer.from) else { return };
        let snapshot = (progress.state == ProgressState::Snapshot).then_some(progress.pending_snapshot);
        let is_heartbeat = answer.get_msg_type() == Kind::MsgHeartbeatResponse;
        match snapshot {
            Some(_) if is_heartbeat => self.raft.report_snapshot(answer.from, SnapshotStatus::Failure),
            _ if is_heartbeat || answer.reject => (),
            Some(index) if answer.index >= index => self.raft.report_snapshot(answer.from, SnapshotStatus::Finish),
            _ if answer.index == progress.matched => progress.matched = progress.matched.saturating_sub(1),
            _ => (),
        }
    }

    /// To be done before raft-rs is asked what is to be done.
    pub(crate) fn follow_rules(&mut self) {
        let raft = &mut self.raft.raft;
        if raft.vote == INVALID_ID {
            raft.vote = raft.leader_id;
        }
        let transferee = raft.lead_transferee;
        self.configs.put_in_force(raft);
        let is_order_out = self.ordered == Some(raft.term);
        let voters = raft.prs().conf().voters();
        raft.lead_transferee = transferee.filter(|to| is_order_out || voters.contains(*to));
    }

    /// To be done after a configuration was committed, with what was `sent` since the last entry was.
    pub(crate) fn config_committed(&mut self, sent: &mut Vec<Message>) {
        let raft = &mut self.raft.raft;
        let is_voter = raft.prs().conf().voters().contains(raft.id);
        if raft.state == StateRole::Leader && !is_voter && self.configs.are_committed(raft) {
            raft.become_follower(raft.term, INVALID_ID);
            let mut receivers = BTreeSet::new();
            sent.retain(|message| message.get_msg_type() != Kind::MsgAppend || receivers.insert(message.to));
        }
        self.configs.release(raft);
    }

    /// To be done before anything that a step `sent` leaves.
    pub(crate) fn censor(&mut self, sent: &mut Vec<Message>) {
        let raft = &self.raft.raft;
        let last = raft.raft_log.last_index();
        sent.retain_mut(|message| {
            // without its term a commit index is ignored
            message.commit_term = 0;
            let progress = raft.prs().get(message.to);
            match (message.get_msg_type(), progress) {
                (Kind::MsgTimeoutNow, Some(progress)) if progress.matched == last => self.ordered = Some(message.term),
                (Kind::MsgTimeoutNow, _) => return false,
                _ => (),
            }
            true
        });
    }

    pub(crate) fn campaign(&mut self) {
        if !self.is_leader() && !self.deaf && self.may_campaign() {
            self.raft.campaign().unwrap();
        }
    }

    pub(crate) fn propose_change(&mut self, change: &Change<Id>) -> bool {
        let raft = &self.raft.raft;
        let is_possible = self.is_leader()
            && raft.lead_transferee.is_none()
            && !raft.has_pending_conf()
            && raft.commit_to_current_term()
            && is_legal(raft.prs(), change);
        let (context, change) = encode(change);
        is_possible && self.raft.propose_conf_change(context, change).is_ok()
    }

    pub(crate) fn transfer(&mut self, to: Id) -> bool {
        let raft = &self.raft.raft;
        if !self.is_leader() || raft.lead_transferee.is_some() || !raft.prs().conf().voters().contains(to) {
            return false;
        }
        self.raft.transfer_leader(to);
        self.raft.raft.lead_transferee == Some(to)
    }

    pub(crate) fn abort_transfer(&mut self) {
        let raft = &mut self.raft.raft;
        if raft.lead_transferee.take().is_some() && self.ordered == Some(raft.term) {
            raft.become_follower(raft.term, INVALID_ID);
            raft.campaign(CAMPAIGN_TRANSFER);
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.raft.state == StateRole::Leader
    }

    fn may_campaign(&self) -> bool {
        let raft = &self.raft.raft;
        raft.promotable() || self.configs.committed(raft).is_voter(raft.id)
    }

    fn follows(&self, leader: Id, term: u64) -> bool {
        let raft = &self.raft.raft;
        raft.state == StateRole::Follower && raft.term == term && raft.leader_id == leader
    }
}
