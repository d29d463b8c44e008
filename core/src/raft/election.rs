//! Elections: pre-vote, vote, and who may get one.

use std::collections::BTreeMap;

use super::{
    Body, Command, Configuration, Heard, Message, NodeId, Output, Raft, VoteResult, disk::Held, machine::State,
};

impl<N: NodeId, D: Command> Raft<N, D> {
    /// The election timeout has passed: asks whether an election could be won, and if so holds it.
    ///
    /// Does nothing at a leader, at a node that is no voter, or while the node itself gives no votes.
    pub fn campaign(&mut self) {
        if self.is_deaf() || !self.may_campaign() {
            return;
        }
        self.state = State::PreCandidate { votes: BTreeMap::from([(self.id, true)]) };
        self.tell_role();
        // without the others' consent the term stays as it is: a node that was cut off disturbs nobody when it comes back
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        let message =
            Message { term: self.term.saturating_add(1), join: 0, body: Body::PreVote { last_index, last_term } };
        for to in self.other_voters() {
            self.outputs.push_back(Output::Send { to, message: message.clone() });
        }
        self.tally();
    }

    /// Whether this node is the only voter, and nobody else can have led in its term: no need to wait for anybody.
    pub fn decides_alone(&self) -> bool {
        let is_settled = !self.log.has_config_after(self.commit);
        is_settled && self.config.is_sole_voter(&self.id) && self.vote.is_none_or(|vote| vote == self.id)
    }

    /// Begins the next term with a vote for itself.
    pub(super) fn hold_election(&mut self, transfer: bool) {
        let Some(term) = self.term.checked_add(1) else { return };
        self.term = term;
        self.vote = Some(self.id);
        self.disk.hard_state_changed();
        self.state = State::Candidate { votes: BTreeMap::new() };
        self.tell_role();
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        self.count_when_saved(Held::OwnVote { term });
        for to in self.other_voters() {
            let message = self.message(0, Body::Vote { last_index, last_term, transfer });
            self.send_when_saved(to, message);
        }
    }

    /// The vote for itself is on disk.
    pub(super) fn count_own_vote(&mut self, term: u64) {
        if term == self.term {
            self.on_vote_reply(self.id, true);
        }
    }

    pub(super) fn on_pre_vote(&mut self, from: N, term: u64, last_index: u64, last_term: u64) {
        if self.is_deaf() {
            return;
        }
        let is_free = term > self.term || (term == self.term && self.may_vote_for(&from));
        let granted = is_free && self.log.is_up_to_date(last_index, last_term);
        // consent is to the term asked about, refusal tells the own one
        let term = if granted { term } else { self.term };
        self.send_when_saved(from, Message { term, join: 0, body: Body::PreVoteReply { granted } });
    }

    pub(super) fn on_vote(&mut self, from: N, term: u64, last_index: u64, last_term: u64, transfer: bool) -> Heard {
        if self.is_deaf() && !transfer {
            return Heard::Nothing;
        }
        if term > self.term {
            self.become_follower(term, None);
        }
        let is_free = term == self.term && self.may_vote_for(&from);
        let granted = is_free && self.log.is_up_to_date(last_index, last_term);
        if granted && self.vote != Some(from) {
            self.vote = Some(from);
            self.disk.hard_state_changed();
        }
        let reply = self.message(0, Body::VoteReply { granted });
        self.send_when_saved(from, reply);
        if granted { Heard::Candidate } else { Heard::Nothing }
    }

    pub(super) fn on_pre_vote_reply(&mut self, from: N, granted: bool) {
        if let State::PreCandidate { votes } = &mut self.state {
            votes.entry(from).or_insert(granted);
            self.tally();
        }
    }

    pub(super) fn on_vote_reply(&mut self, from: N, granted: bool) {
        if let State::Candidate { votes } = &mut self.state {
            votes.entry(from).or_insert(granted);
            self.tally();
        }
    }

    /// Campaigns at the leader's wish, without a pre-vote.
    pub(super) fn on_timeout_now(&mut self, from: N, term: u64) {
        let is_from_leader = matches!(self.state, State::Follower { leader } if leader == Some(from));
        if term == self.term && is_from_leader && self.may_campaign() {
            self.hold_election(true);
        }
    }

    fn tally(&mut self) {
        let (State::PreCandidate { votes } | State::Candidate { votes }) = &self.state else { return };
        let result = self.config.voters.vote(|node| votes.get(node).copied());
        match (result, &self.state) {
            (VoteResult::Won, State::PreCandidate { .. }) => self.hold_election(false),
            (VoteResult::Won, _) => self.become_leader(),
            (VoteResult::Lost, _) => self.become_follower(self.term, None),
            (VoteResult::Pending, _) => (),
        }
    }

    /// A leader gives no vote either: it must step down first.
    fn is_deaf(&self) -> bool {
        self.is_leader() || self.deaf
    }

    fn may_vote_for(&self, candidate: &N) -> bool {
        // who follows a leader has given its vote to it
        self.vote.is_none_or(|vote| vote == *candidate)
    }

    /// A voter may, and one whose removal is not known to be committed: perhaps only its log has the entry that
    /// removes it (thesis, section 4.2.2).
    pub(super) fn may_campaign(&self) -> bool {
        let is_voter = |config: &Configuration<N>| config.voters.contains(&self.id);
        self.term < u64::MAX && (is_voter(&self.config) || is_voter(self.committed_config()))
    }

    fn other_voters(&self) -> Vec<N> {
        self.config.voters.iter().filter(|node| *node != self.id).collect()
    }
}
