//! The machine: its state, and which part of it a message is for.

use std::collections::{BTreeMap, VecDeque};

use super::{
    Body, Command, Configuration, Entry, Flaw, Limits, Message, NodeId, Persist, Progress, Snapshot, Stored,
    disk::Disk, leader::Leader, log::Log,
};
use crate::planted::Planted;

/// One node's part in the consensus.
///
/// Inputs may come in any order and number; outputs queue up until [`poll`](Self::poll) takes them. Equal states have
/// equal hashes, so that a model checker can walk through the states; how many orders went to the disk before makes no
/// difference.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Raft<N, D> {
    pub(super) id: N,
    pub(super) limits: Limits,
    pub(super) term: u64,
    pub(super) vote: Option<N>,
    pub(super) log: Log<N, D>,
    pub(super) commit: u64,
    /// The newest configuration in the log.
    pub(super) config: Configuration<N>,
    pub(super) state: State<N>,
    /// No vote is given, because a leader was heard a short while ago, or may have been before a restart.
    pub(super) deaf: bool,
    pub(super) disk: Disk<N, D>,
    pub(super) outputs: VecDeque<Output<N, D>>,
    told: RoleChange<N>,
    pub(super) planted: Planted<Flaw>,
}

/// What a node is in its term.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum State<N> {
    Follower { leader: Option<N> },
    PreCandidate { votes: BTreeMap<N, bool> },
    Candidate { votes: BTreeMap<N, bool> },
    Leader(Leader<N>),
}

/// What a node is in its term.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Answers.
    Follower,
    /// Asks whether an election could be won.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Makes entries.
    Leader,
}

/// A node's role and leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RoleChange<N> {
    /// In this term.
    pub term: u64,
    /// The node itself is this.
    pub role: Role,
    /// The leader of the term, as far as the node knows.
    pub leader: Option<N>,
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Output<N, D> {
    /// Write this, then call [`Raft::persisted`] with its id.
    Persist(Persist<N, D>),
    /// Send this; it may get lost, come late, or come twice.
    Send {
        /// The receiver.
        to: N,
        /// What it gets.
        message: Message<N, D>,
    },
    /// These entries are committed: nothing will ever take them back. Each comes once, in order; after a start those come
    /// again that are on disk as committed.
    Committed(Vec<Entry<N, D>>),
    /// The entries up to this one were committed, and are no longer to be had; their commands are skipped.
    Installed(Snapshot<N>),
    /// The node's term, role or leader changed.
    Role(RoleChange<N>),
}

/// What a message means for the election timeout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Heard {
    /// Nothing: the timeout goes on.
    Nothing,
    /// The leader of the term spoke: the timeout begins anew, and no vote is given until [`Raft::leader_silent`].
    Leader,
    /// A candidate got this node's vote: the timeout begins anew.
    Candidate,
}

/// Why a stored state is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum StateError {
    /// The entries have a gap, or their terms fall, or one of them is later than the stored term.
    #[error("the stored log is not one that was ever written")]
    BadLog,
    /// The commit index is not between the snapshot and the end of the log.
    #[error("the stored commit index {0} is not in the log")]
    BadCommit(u64),
}

impl<N: NodeId, D: Command> Raft<N, D> {
    /// Goes on from what is on disk, as a follower that gives no vote before [`leader_silent`](Self::leader_silent).
    ///
    /// # Errors
    /// When the stored state is not one that was ever written.
    pub fn new(id: N, stored: Stored<N, D>, limits: Limits) -> Result<Self, StateError> {
        let Stored { hard_state, snapshot, entries } = stored;
        let log = Log::new(snapshot, entries, hard_state.term).ok_or(StateError::BadLog)?;
        if hard_state.commit < log.snapshot().index || hard_state.commit > log.last_index() {
            return Err(StateError::BadCommit(hard_state.commit));
        }
        let committed: Vec<_> = log.range(0, hard_state.commit).cloned().collect();
        let outputs = if committed.is_empty() { VecDeque::new() } else { [Output::Committed(committed)].into() };
        Ok(Self {
            id,
            limits,
            term: hard_state.term,
            vote: hard_state.vote,
            commit: hard_state.commit,
            config: log.config_at(log.last_index()).clone(),
            log,
            state: State::Follower { leader: None },
            deaf: true,
            disk: Disk::default(),
            outputs,
            told: RoleChange { term: hard_state.term, role: Role::Follower, leader: None },
            planted: Planted::default(),
        })
    }

    /// Handles a message of another node, and says what it means for the election timeout.
    pub fn step(&mut self, from: N, message: Message<N, D>) -> Heard {
        if from == self.id || !message.is_sound() {
            return Heard::Nothing;
        }
        let Message { term, join, body } = message;
        match body {
            Body::PreVote { last_index, last_term } => self.on_pre_vote(from, term, last_index, last_term),
            Body::Vote { last_index, last_term, transfer } => {
                return self.on_vote(from, term, last_index, last_term, transfer);
            }
            Body::Append { .. } | Body::Heartbeat { .. } | Body::Snapshot(_) => {
                return self.on_leader(from, term, join, body);
            }
            Body::TimeoutNow => self.on_timeout_now(from, term),
            _ => self.on_reply(from, term, join, &body),
        }
        Heard::Nothing
    }

    /// The minimal election timeout has passed since a leader was heard, or the longest lease since the start: votes may
    /// be given again.
    pub fn leader_silent(&mut self) {
        self.deaf = false;
    }

    /// The next thing to do outside; orders to the disk first.
    pub fn poll(&mut self) -> Option<Output<N, D>> {
        match self.next_order() {
            Some(order) => Some(Output::Persist(order)),
            None => self.outputs.pop_front(),
        }
    }

    /// The node itself.
    pub fn id(&self) -> N {
        self.id
    }

    /// The latest term that it has seen.
    pub fn term(&self) -> u64 {
        self.term
    }

    /// Who got its vote in this term, or leads it.
    pub fn vote(&self) -> Option<N> {
        self.vote
    }

    /// The index of the last committed entry.
    pub fn commit(&self) -> u64 {
        self.commit
    }

    /// The index of the last entry, committed or not.
    pub fn last_index(&self) -> u64 {
        self.log.last_index()
    }

    /// The entries that are still there, in order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry<N, D>> {
        self.log.range(0, u64::MAX)
    }

    /// What stands for the entries before these.
    pub fn snapshot(&self) -> &Snapshot<N> {
        self.log.snapshot()
    }

    /// The configuration in force here: the newest one in the log, committed or not (Raft paper, section 6).
    pub fn config(&self) -> &Configuration<N> {
        &self.config
    }

    /// The newest configuration that is committed.
    pub fn committed_config(&self) -> &Configuration<N> {
        self.log.config_at(self.commit)
    }

    /// What it is in its term, and who leads.
    pub fn role(&self) -> RoleChange<N> {
        let (role, leader) = match &self.state {
            State::Follower { leader } => (Role::Follower, *leader),
            State::PreCandidate { .. } => (Role::PreCandidate, None),
            State::Candidate { .. } => (Role::Candidate, None),
            State::Leader(_) => (Role::Leader, Some(self.id)),
        };
        RoleChange { term: self.term, role, leader }
    }

    /// Whether it leads its term.
    pub fn is_leader(&self) -> bool {
        matches!(self.state, State::Leader(_))
    }

    /// What the leader knows of each other member; nothing at any other node.
    pub fn progress(&self) -> impl Iterator<Item = (N, &Progress)> {
        let progress = match &self.state {
            State::Leader(leader) => Some(leader.progress.iter()),
            _ => None,
        };
        progress.into_iter().flatten().map(|(node, progress)| (*node, progress))
    }

    /// Follows `leader`, or waits for one, in `term`, which is not below the own one.
    pub(super) fn become_follower(&mut self, term: u64, leader: Option<N>) {
        if term > self.term {
            self.term = term;
            self.vote = None;
            self.disk.hard_state_changed();
        }
        if let (None, Some(leader)) = (self.vote, leader) {
            // who follows has no vote left in this term, not even after it lost its disk and was admitted anew
            self.vote = Some(leader);
            self.disk.hard_state_changed();
        }
        self.state = State::Follower { leader };
        self.tell_role();
    }

    /// Reports the role if it changed.
    pub(super) fn tell_role(&mut self) {
        let role = self.role();
        if role != self.told {
            self.told = role;
            self.outputs.push_back(Output::Role(role));
        }
    }

    /// A message in the own term.
    pub(super) fn message(&self, join: u64, body: Body<N, D>) -> Message<N, D> {
        Message { term: self.term, join, body }
    }

    /// Commits up to `index`, which is in the log. Returns whether a configuration was committed.
    pub(super) fn commit_to(&mut self, index: u64) -> bool {
        let index = index.min(self.log.last_index());
        if index <= self.commit {
            return false;
        }
        let entries: Vec<_> = self.log.range(self.commit, index).cloned().collect();
        let has_config = entries.iter().any(|entry| entry.config().is_some());
        self.commit = index;
        self.outputs.push_back(Output::Committed(entries));
        has_config
    }

    /// Drops committed entries when the log has become too long.
    pub(super) fn compact(&mut self) {
        if self.log.len() <= self.limits.max_log {
            return;
        }
        let kept = u64::try_from(self.limits.max_log / 2).unwrap_or(u64::MAX);
        let mut index = self.log.last_index().saturating_sub(kept).min(self.commit);
        // a snapshot does not say what the commands led to: who gets it needs the newest one from the log
        if self.log.len() <= self.limits.max_log.saturating_mul(4)
            && let Some(command) = self.log.last_command(self.commit)
        {
            index = index.min(command.saturating_sub(1));
        }
        if self.log.compact(index) {
            self.disk.snapshot_changed();
        }
    }
}
