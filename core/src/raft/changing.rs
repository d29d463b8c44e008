//! Changes of the configuration, and handing over the leadership.

use super::{
    Body, ChangeError, Command, Flaw, NodeId, Op, Output, Payload, Progress, ProposeError, Raft, machine::State,
};

/// A change of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Change<N> {
    /// In one step; the set of voters changes by one at most.
    Simple(Vec<Op<N>>),
    /// Through a joint configuration, which the leader leaves by itself as soon as it is committed.
    Joint(Vec<Op<N>>),
}

/// Why a change of the configuration is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum ProposeChangeError<N: NodeId> {
    /// Nothing can be proposed here and now.
    #[error(transparent)]
    Propose(#[from] ProposeError<N>),
    /// The leader has not committed an entry of its term yet: it may not know the newest configuration.
    #[error("no entry of this term is committed yet")]
    TermNotCommitted,
    /// Another change is not committed yet.
    #[error("another change is under way")]
    InFlight,
    /// That configuration cannot follow the one in force.
    #[error(transparent)]
    Change(#[from] ChangeError<N>),
}

/// Why leadership is not handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TransferError<N: NodeId> {
    /// This node does not lead.
    #[error("not the leader; that is {leader:?}")]
    NotLeader {
        /// As far as it is known.
        leader: Option<N>,
    },
    /// Only another voter can lead.
    #[error("{0:?} is not another voter")]
    NotAVoter(N),
    /// Another node was told to campaign already.
    #[error("leadership is going to {to:?}")]
    Transferring {
        /// The next leader.
        to: N,
    },
}

impl<N: NodeId, D: Command> Raft<N, D> {
    /// Puts a change of the configuration at the end of the log and returns its index. It is in force at once, and done
    /// when it is committed; a change through a joint configuration, when the entry that leaves that one is.
    ///
    /// # Errors
    /// When this node does not lead, another change is under way, no entry of the term is committed yet, or the change is
    /// not a legal one.
    pub fn propose_change(&mut self, change: &Change<N>) -> Result<u64, ProposeChangeError<N>> {
        self.check_proposal()?;
        if self.log.has_config_after(self.commit) {
            return Err(ProposeChangeError::InFlight);
        }
        if !self.has_committed_in_term() && !self.has(Flaw::ChangeBeforeNoop) {
            return Err(ProposeChangeError::TermNotCommitted);
        }
        let join = self.log.next_index().ok_or(ProposeError::Busy)?;
        let config = match change {
            Change::Simple(ops) | Change::Joint(ops) if self.has(Flaw::DirectStep) => self.in_one_step(ops, join)?,
            Change::Simple(ops) => self.config.simple(ops, join, &self.limits)?,
            Change::Joint(ops) => self.config.enter_joint(ops, join, &self.limits)?,
        };
        let index = self.append(Payload::Config(config.into())).ok_or(ProposeError::Busy)?;
        self.send_appends();
        Ok(index)
    }

    /// Hands the leadership over to the voter `to`: it is told to campaign as soon as it has the whole log. Until then
    /// nothing can be proposed.
    ///
    /// # Errors
    /// When this node does not lead, or `to` cannot.
    pub fn transfer(&mut self, to: N) -> Result<(), TransferError<N>> {
        let last = self.log.last_index();
        let leader = self.role().leader;
        let State::Leader(state) = &mut self.state else { return Err(TransferError::NotLeader { leader }) };
        let level = state.progress.get(&to).map(|progress| progress.matched == last);
        let Some(level) = level.filter(|_| self.config.voters.contains(&to)) else {
            return Err(TransferError::NotAVoter(to));
        };
        if let Some(to) = state.transfer.filter(|_| state.abdicated) {
            return Err(TransferError::Transferring { to });
        }
        state.transfer = Some(to);
        if level {
            self.send_timeout_now(to);
        } else {
            self.send_append(to, true);
        }
        Ok(())
    }

    /// An election timeout has passed since [`transfer`](Self::transfer), and this node still leads: it goes on. If the
    /// other one was told to campaign already it still may, so this node leads on only in a term of its own.
    pub fn abort_transfer(&mut self) {
        let forgets = self.has(Flaw::AbortInTerm);
        let State::Leader(leader) = &mut self.state else { return };
        leader.abdicated &= !forgets;
        if leader.transfer.take().is_some() && leader.abdicated {
            self.hold_election(true);
        }
    }

    /// Who is to lead next, while this node still leads.
    pub fn transfer_target(&self) -> Option<N> {
        match &self.state {
            State::Leader(leader) => leader.transfer,
            _ => None,
        }
    }

    pub(super) fn send_timeout_now(&mut self, to: N) {
        let State::Leader(leader) = &mut self.state else { return };
        // from now on the other one may be elected at any time: the lease ends first
        leader.abdicated = true;
        let Some(progress) = leader.progress.get(&to) else { return };
        let message = super::Message { term: self.term, join: progress.join, body: Body::TimeoutNow };
        self.outputs.push_back(Output::Send { to, message });
    }

    /// Follows all members; those who leave, until that is committed.
    pub(super) fn track_members(&mut self) {
        let last = self.log.last_index();
        let State::Leader(leader) = &mut self.state else { return };
        let (config, committed) = (&self.config, self.log.config_at(self.commit));
        let join_of = |node: &N| config.join_of(node).or(committed.join_of(node));
        leader.progress.retain(|node, progress| join_of(node) == Some(progress.join));
        for node in config.joins.keys().chain(committed.joins.keys()).filter(|node| **node != self.id) {
            let join = join_of(node).unwrap_or(0);
            leader.progress.entry(*node).or_insert_with(|| Progress::new(join, last));
        }
        if !leader.abdicated {
            leader.transfer.take_if(|to| !config.voters.contains(to));
        }
    }

    /// At the leader a configuration is committed: one that it does not belong to makes it step down (Raft paper,
    /// section 6).
    pub(super) fn config_committed(&mut self) {
        let is_removed = !self.config.voters.contains(&self.id) && !self.log.has_config_after(self.commit);
        if is_removed {
            self.become_follower(self.term, None);
        } else {
            self.track_members();
        }
    }

    /// Leaves a joint configuration that is in force, once that is allowed.
    pub(super) fn leave_joint(&mut self) {
        let is_ready = self.is_leader() && self.has_committed_in_term() && !self.log.has_config_after(self.commit);
        if is_ready && let Ok(config) = self.config.leave_joint() {
            self.append(Payload::Config(config.into()));
            self.send_appends();
        }
    }

    fn has_committed_in_term(&self) -> bool {
        self.log.term(self.commit) == Some(self.term)
    }
}
