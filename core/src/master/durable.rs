//! What must survive a restart, and what is not on disk yet.

use std::{collections::VecDeque, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Allegiance, Roster};
use crate::{
    id::{Id, Incarnation},
    raft::{self, OrderId, Stored},
};

/// Everything that a server must find again after a restart to be the same member.
///
/// Whoever starts without it, or with an older one, must be a new member: it could vote twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Durable {
    /// Where it belongs; `None` until it is admitted somewhere.
    pub allegiance: Option<Allegiance>,
    /// The incarnation under which it asked to join.
    pub join: Incarnation,
    /// It left, or was removed by command: a start is needed to come back, as another membership.
    pub is_out: bool,
    /// Term, vote and log.
    pub raft: Stored<Id, Roster>,
    /// The newest committed roster, if there is one.
    pub roster: Roster,
    /// The index of the entry that brought it.
    pub roster_index: u64,
    /// Its members ran for so long since then, in milliseconds.
    pub aged_ms: u64,
}

/// Counts the orders to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PersistId(pub u64);

/// What the disk will hold once all orders are carried out, and which of Raft's orders wait for it.
#[derive(Clone, Debug, Default)]
pub(super) struct Archive {
    pub(super) raft: Stored<Id, Roster>,
    last: u64,
    waiting: VecDeque<(PersistId, OrderId)>,
}

impl Archive {
    pub(super) fn new(raft: Stored<Id, Roster>) -> Self {
        Self { raft, ..Self::default() }
    }

    /// Raft begins anew: what it ordered before is of no interest any more.
    pub(super) fn restart(&mut self, raft: Stored<Id, Roster>) {
        self.raft = raft;
        self.waiting.clear();
    }

    /// An order of Raft is to be carried out.
    pub(super) fn order(&mut self, order: &raft::Persist<Id, Roster>) -> PersistId {
        self.raft.write(order);
        let id = self.next();
        self.waiting.push_back((id, order.id));
        id
    }

    /// Something else is to be written.
    pub(super) fn next(&mut self) -> PersistId {
        self.last = self.last.saturating_add(1);
        PersistId(self.last)
    }

    /// The state of order `id` is on disk: so is all that Raft ordered until then.
    pub(super) fn persisted(&mut self, id: PersistId) -> Option<OrderId> {
        let mut newest = None;
        while let Some((_, order)) = self.waiting.front().filter(|(waiting, _)| *waiting <= id) {
            newest = Some(*order);
            self.waiting.pop_front();
        }
        newest
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
