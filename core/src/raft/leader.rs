//! What a leader does: append, send, count, commit.

use std::collections::BTreeMap;

use super::{Body, Command, Entry, Flaw, NodeId, Output, Payload, Progress, Raft, disk::Held, machine::State};

/// What only a leader knows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Leader<N> {
    /// Of each other member.
    pub(super) progress: BTreeMap<N, Progress>,
    /// Who is to lead next.
    pub(super) transfer: Option<N>,
    /// Another node was told to campaign: no lease any more in this term.
    pub(super) abdicated: bool,
    /// Rounds of heartbeats in this term.
    pub(super) round: u64,
    /// Its own log is on disk up to this index.
    pub(super) saved: u64,
}

/// Why a proposal is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProposeError<N: NodeId> {
    /// Only the leader makes entries.
    #[error("not the leader; that is {leader:?}")]
    NotLeader {
        /// As far as it is known.
        leader: Option<N>,
    },
    /// Leadership is on its way to another node: try there.
    #[error("leadership is going to {to:?}")]
    Transferring {
        /// The next leader.
        to: N,
    },
    /// Too many entries wait to be committed: try again later.
    #[error("too many entries wait to be committed")]
    Busy,
    /// The command is longer than the limit.
    #[error("{0} bytes are more than the limit")]
    TooLarge(usize),
}

impl<N: NodeId, D: Command> Raft<N, D> {
    /// Puts a command at the end of the log. Returns its index; whether it is ever committed shows when another entry, or
    /// this one with the current term, is committed there.
    ///
    /// # Errors
    /// When this node does not lead, is about to stop leading, or is over a limit.
    pub fn propose(&mut self, command: D) -> Result<u64, ProposeError<N>> {
        self.check_proposal()?;
        if command.size() > self.limits.max_command_bytes {
            return Err(ProposeError::TooLarge(command.size()));
        }
        let index = self.append(Payload::Command(command.into())).ok_or(ProposeError::Busy)?;
        self.send_appends();
        Ok(index)
    }

    /// Sends heartbeats: one round. Returns its number, counted from 1 in each term; `None` at a node that does not lead.
    pub fn beat(&mut self) -> Option<u64> {
        let State::Leader(leader) = &mut self.state else { return None };
        leader.round = leader.round.saturating_add(1);
        let (round, term) = (leader.round, self.term);
        for (to, progress) in &leader.progress {
            let commit = self.commit.min(progress.matched);
            let message = super::Message { term, join: progress.join, body: Body::Heartbeat { commit, round } };
            self.outputs.push_back(Output::Send { to: *to, message });
        }
        Some(round)
    }

    /// An election timeout has passed since the last check: a leader that no quorum answered since then steps down.
    pub fn check_quorum(&mut self) {
        let id = self.id;
        let State::Leader(leader) = &mut self.state else { return };
        let active: Vec<N> =
            leader.progress.iter().filter(|(_, progress)| progress.recent_active).map(|(node, _)| *node).collect();
        for progress in leader.progress.values_mut() {
            progress.recent_active = false;
        }
        if !self.config.voters.has_quorum(|node| *node == id || active.contains(node)) {
            self.step_down();
        }
    }

    /// Leads no longer in this term, in which nobody else can lead: as a leader without a quorum, it follows nobody.
    pub fn step_down(&mut self) {
        if self.is_leader() {
            self.become_follower(self.term, None);
        }
    }

    /// The newest round of heartbeats that a quorum acknowledged, by the configuration in force; 0 if none.
    /// `None` at a node that does not lead, or that told another one to campaign.
    pub fn acked_round(&self) -> Option<u64> {
        let State::Leader(leader) = &self.state else { return None };
        if leader.abdicated && !self.has(Flaw::LeaseInTransfer) {
            return None;
        }
        let acked = |node: &N| match leader.progress.get(node) {
            _ if *node == self.id => leader.round,
            Some(progress) => progress.acked_round,
            None => 0,
        };
        self.agreed(acked)
    }

    pub(super) fn check_proposal(&self) -> Result<(), ProposeError<N>> {
        let State::Leader(leader) = &self.state else {
            return Err(ProposeError::NotLeader { leader: self.role().leader });
        };
        if let Some(to) = leader.transfer {
            return Err(ProposeError::Transferring { to });
        }
        let uncommitted = self.log.last_index().saturating_sub(self.commit);
        if usize::try_from(uncommitted).map_or(true, |uncommitted| uncommitted >= self.limits.max_uncommitted) {
            return Err(ProposeError::Busy);
        }
        Ok(())
    }

    pub(super) fn become_leader(&mut self) {
        let last = self.log.last_index();
        self.state = State::Leader(Leader {
            progress: BTreeMap::new(),
            transfer: None,
            abdicated: false,
            round: 0,
            // the vote for itself was on disk, so all before it is
            saved: last,
        });
        self.tell_role();
        self.track_members();
        self.append(Payload::Noop);
        self.send_appends();
    }

    /// Adds an entry to the own log. `None` at the end of numbers.
    pub(super) fn append(&mut self, payload: Payload<N, D>) -> Option<u64> {
        let index = self.log.next_index()?;
        let entry = Entry { term: self.term, index, payload };
        if let Some(config) = entry.config() {
            self.config = config.clone();
            // before the entry is there: it is the first one that newcomers are sent
            self.track_members();
        }
        self.log.push(entry);
        self.disk.log_changed(index);
        self.count_when_saved(Held::OwnLog { term: self.term, index });
        Some(index)
    }

    /// The own log is on disk up to `index`.
    pub(super) fn count_own_log(&mut self, term: u64, index: u64) {
        if let State::Leader(leader) = &mut self.state
            && term == self.term
        {
            leader.saved = leader.saved.max(index);
            self.advance_commit();
        }
    }

    /// Sends each other member what it lacks.
    pub(super) fn send_appends(&mut self) {
        for to in self.followers() {
            self.send_append(to, false);
        }
    }

    /// An answer to a leader's message, or to a request for a vote.
    pub(super) fn on_reply(&mut self, from: N, term: u64, join: u64, body: &Body<N, D>) {
        let is_follower = matches!(&self.state, State::Leader(leader) if leader.progress.contains_key(&from));
        if !is_follower && !self.config.contains(&from) {
            return;
        }
        let is_consent = matches!(body, Body::PreVoteReply { granted: true });
        if is_consent {
            if term.checked_sub(1) == Some(self.term) {
                self.on_pre_vote_reply(from, true);
            }
            return;
        }
        if term > self.term {
            self.become_follower(term, None);
        }
        if term < self.term {
            return;
        }
        match *body {
            Body::PreVoteReply { granted } => self.on_pre_vote_reply(from, granted),
            Body::VoteReply { granted } => self.on_vote_reply(from, granted),
            Body::Appended { index } => self.on_appended(from, join, index),
            Body::Rejected { prev_index, hint_index, hint_term } => {
                self.on_rejected(from, join, prev_index, hint_index, hint_term);
            }
            Body::HeartbeatReply { round } => self.on_heartbeat_reply(from, join, round),
            _ => (),
        }
    }

    fn on_appended(&mut self, from: N, join: u64, index: u64) {
        let (last, max_inflight) = (self.log.last_index(), self.limits.max_inflight);
        let Some(progress) = self.progress_of(from, join) else { return };
        // no follower has more than its leader
        if index > last {
            return;
        }
        let was_paused = progress.is_paused(max_inflight);
        progress.recent_active = true;
        let has_advanced = progress.appended(index) && self.advance_commit();
        if was_paused && !has_advanced {
            // it may not have heard of the commit index
            self.send_append(from, true);
        }
        while self.send_append(from, false) {}
        let last = self.log.last_index();
        if let State::Leader(leader) = &self.state
            && leader.transfer == Some(from)
            && leader.progress.get(&from).is_some_and(|progress| progress.matched == last)
        {
            self.send_timeout_now(from);
        }
    }

    fn on_rejected(&mut self, from: N, join: u64, prev_index: u64, hint_index: u64, hint_term: u64) {
        let hint = if hint_term > 0 { self.log.conflict_by_term(hint_index, hint_term).0 } else { hint_index };
        let Some(progress) = self.progress_of(from, join) else { return };
        progress.recent_active = true;
        if progress.rejected(prev_index, hint) {
            self.send_append(from, true);
        }
    }

    fn on_heartbeat_reply(&mut self, from: N, join: u64, round: u64) {
        let (last, max_inflight) = (self.log.last_index(), self.limits.max_inflight);
        let State::Leader(Leader { round: newest, .. }) = self.state else { return };
        let Some(progress) = self.progress_of(from, join) else { return };
        progress.recent_active = true;
        if round <= newest {
            progress.acked_round = progress.acked_round.max(round);
        }
        progress.answered(max_inflight);
        if progress.matched < last {
            self.send_append(from, true);
        }
    }

    /// Commits what a quorum has, if it is of the own term (Raft paper, section 5.4.2). Returns whether it did.
    pub(super) fn advance_commit(&mut self) -> bool {
        let State::Leader(leader) = &self.state else { return false };
        let has = |node: &N| match leader.progress.get(node) {
            _ if *node == self.id => leader.saved,
            Some(progress) => progress.matched,
            None => 0,
        };
        let agreed = self.agreed(has).unwrap_or(0);
        let is_own = self.log.term(agreed) == Some(self.term) || self.has(Flaw::CountOldTerms);
        if agreed <= self.commit || !is_own {
            return false;
        }
        let has_config = self.commit_to(agreed);
        for to in self.followers() {
            self.send_append(to, true);
        }
        if has_config {
            // not before those who leave were told that they have left
            self.config_committed();
        }
        self.leave_joint();
        self.compact();
        true
    }

    /// Sends `to` the entries that it lacks, or what stands for them, unless it must answer first. With `even_empty` an
    /// append goes out without entries too: it tells the commit index and finds out what got lost. Returns whether
    /// anything was sent.
    pub(super) fn send_append(&mut self, to: N, even_empty: bool) -> bool {
        let limits = self.limits;
        let State::Leader(leader) = &mut self.state else { return false };
        let Some(progress) = leader.progress.get_mut(&to) else { return false };
        if progress.is_paused(limits.max_inflight) {
            return false;
        }
        let prev_index = progress.next.saturating_sub(1);
        let body = match self.log.term(prev_index) {
            Some(prev_term) => {
                let entries = self.log.batch(prev_index, limits.max_append_entries, limits.max_append_bytes);
                if entries.is_empty() && !even_empty {
                    return false;
                }
                progress.sent(entries.last().map(|entry| entry.index));
                Body::Append { prev_index, prev_term, entries, commit: self.commit }
            }
            None => {
                let snapshot = self.log.snapshot().clone();
                progress.sent_snapshot(snapshot.index);
                Body::Snapshot(snapshot)
            }
        };
        let join = progress.join;
        self.outputs.push_back(Output::Send { to, message: super::Message { term: self.term, join, body } });
        true
    }

    pub(super) fn followers(&self) -> Vec<N> {
        self.progress().map(|(node, _)| node).collect()
    }

    /// What a quorum has reached, by the configuration in force.
    fn agreed(&self, value: impl Fn(&N) -> u64) -> Option<u64> {
        if self.has(Flaw::LearnersCount) {
            return self.agreed_by_members(value);
        }
        self.config.voters.agreed(value)
    }

    /// What is known of `from`, if this is an answer within its present membership.
    fn progress_of(&mut self, from: N, join: u64) -> Option<&mut Progress> {
        let is_lax = self.has(Flaw::StaleJoin);
        let State::Leader(leader) = &mut self.state else { return None };
        leader.progress.get_mut(&from).filter(|progress| progress.join == join || is_lax)
    }
}
