//! What is not on disk yet, and what waits for it.

use std::{
    collections::VecDeque,
    hash::{Hash, Hasher},
};

use super::{Command, Flaw, HardState, LogTail, Message, NodeId, OrderId, Output, Persist, Raft};

/// What happens once an order is on disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Held<N, D> {
    /// This message leaves.
    Send(N, Message<N, D>),
    /// The node's vote for itself counts.
    OwnVote { term: u64 },
    /// The leader's own log counts up to this index.
    OwnLog { term: u64, index: u64 },
}

/// The difference between memory and disk. Two are equal if the same is outstanding, however much was written before.
#[derive(Clone, Debug)]
pub(super) struct Disk<N, D> {
    /// Orders given out.
    ordered: u64,
    /// Of these, on disk.
    saved: u64,
    hard_state: bool,
    snapshot: bool,
    /// The log changed from this index on.
    log_from: Option<u64>,
    held: VecDeque<(u64, Held<N, D>)>,
}

impl<N, D> Default for Disk<N, D> {
    fn default() -> Self {
        Self { ordered: 0, saved: 0, hard_state: false, snapshot: false, log_from: None, held: VecDeque::new() }
    }
}

impl<N, D> Disk<N, D> {
    pub(super) fn hard_state_changed(&mut self) {
        self.hard_state = true;
    }

    pub(super) fn log_changed(&mut self, from: u64) {
        self.log_from = Some(self.log_from.map_or(from, |already| already.min(from)));
    }

    /// The snapshot changed, and what the disk has of the log is void.
    pub(super) fn snapshot_changed(&mut self) {
        self.snapshot = true;
    }

    /// How many orders are outstanding, what none of them brings yet, and what waits for which of them.
    #[expect(clippy::type_complexity, reason = "is compared and hashed, and never named")]
    fn outstanding(&self) -> (u64, (bool, bool, Option<u64>), impl Iterator<Item = (u64, &Held<N, D>)>) {
        let held = self.held.iter().map(|(order, held)| (order.saturating_sub(self.saved), held));
        (self.ordered.saturating_sub(self.saved), (self.hard_state, self.snapshot, self.log_from), held)
    }

    fn is_behind(&self) -> bool {
        self.hard_state || self.snapshot || self.log_from.is_some()
    }

    /// The order that must be on disk before anything may be said about the state in memory.
    fn awaited(&self) -> Option<u64> {
        if self.is_behind() {
            return Some(self.ordered.saturating_add(1));
        }
        (self.saved < self.ordered).then_some(self.ordered)
    }
}

impl<N: PartialEq, D: PartialEq> PartialEq for Disk<N, D> {
    fn eq(&self, other: &Self) -> bool {
        let ((orders, changed, held), (orders_, changed_, held_)) = (self.outstanding(), other.outstanding());
        (orders, changed) == (orders_, changed_) && held.eq(held_)
    }
}

impl<N: Eq, D: Eq> Eq for Disk<N, D> {}

impl<N: Hash, D: Hash> Hash for Disk<N, D> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let (orders, changed, held) = self.outstanding();
        (orders, changed, self.held.len()).hash(state);
        held.for_each(|held| held.hash(state));
    }
}

impl<N: NodeId, D: Command> Raft<N, D> {
    /// An order, and all before it, is on disk.
    pub fn persisted(&mut self, id: OrderId) {
        self.disk.saved = self.disk.saved.max(id.0.min(self.disk.ordered));
        while self.disk.held.front().is_some_and(|(order, _)| *order <= self.disk.saved) {
            if let Some((_, held)) = self.disk.held.pop_front() {
                self.release(held);
            }
        }
    }

    /// Sends a message once everything that it may rest on is on disk.
    pub(super) fn send_when_saved(&mut self, to: N, message: Message<N, D>) {
        match self.disk.awaited() {
            Some(order) if !self.has(Flaw::SendBeforePersist) => {
                if self.disk.held.len() < self.limits.max_held {
                    self.disk.held.push_back((order, Held::Send(to, message)));
                }
            }
            _ => self.outputs.push_back(Output::Send { to, message }),
        }
    }

    /// Lets the node count itself once its state is on disk.
    pub(super) fn count_when_saved(&mut self, held: Held<N, D>) {
        match self.disk.awaited() {
            Some(order) => self.disk.held.push_back((order, held)),
            None => self.release(held),
        }
    }

    fn release(&mut self, held: Held<N, D>) {
        match held {
            Held::Send(to, message) => self.outputs.push_back(Output::Send { to, message }),
            Held::OwnVote { term } => self.count_own_vote(term),
            Held::OwnLog { term, index } => self.count_own_log(term, index),
        }
    }

    /// The order that brings the disk up to date; `None` if it is, or will be by the orders given out.
    pub(super) fn next_order(&mut self) -> Option<Persist<N, D>> {
        if !self.disk.is_behind() {
            return None;
        }
        self.disk.hard_state = false;
        self.disk.ordered = self.disk.ordered.saturating_add(1);
        let snapshot = std::mem::take(&mut self.disk.snapshot).then(|| self.log.snapshot().clone());
        let after = self.log.snapshot().index;
        let changed = self.disk.log_from.take().map(|from| from.saturating_sub(1).max(after));
        let after = if snapshot.is_some() { Some(after) } else { changed };
        let entries = after.map(|after| LogTail {
            from: after.saturating_add(1),
            entries: self.log.range(after, self.log.last_index()).cloned().collect(),
        });
        let vote = if self.has(Flaw::VoteNotPersisted) { None } else { self.vote };
        let hard_state = HardState { term: self.term, vote, commit: self.commit };
        Some(Persist { id: OrderId(self.disk.ordered), hard_state, snapshot, entries })
    }
}
