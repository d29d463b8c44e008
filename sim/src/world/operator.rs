//! The operator of a healed world: starts what has ended, and forces a new cluster where the quorum of the disks is lost for
//! good. Everything else the servers must do by themselves.

use std::time::Duration;

use p2pcore::{
    Id,
    master::Durable,
    raft::{Configuration, Entry},
};

use super::World;
use crate::plan::Act;

impl World {
    /// Does what is to be done now; the world was healed at `healed`.
    pub(super) fn operate(&mut self, healed: Duration) {
        /// An operator does not hurry: whatever can come right does so before.
        const PATIENCE: Duration = Duration::from_secs(15);
        // who asked to leave before the world healed may leave after that
        for n in 0..self.processes.len() {
            self.start(n);
        }
        if self.now >= healed + PATIENCE
            && self.agreed_master().is_none()
            && let Some(survivor) = self.survivor_without_quorum()
        {
            self.act(survivor, &Act::Force);
        }
    }

    /// The server with the newest state, if the voters that it knows of cannot elect anybody: too many of them are not what
    /// they were any more.
    fn survivor_without_quorum(&self) -> Option<usize> {
        let disks =
            || self.processes.iter().filter_map(|process| Some((process.number, process.disk.council.as_ref()?)));
        let placed = disks().filter(|(_, durable)| durable.allegiance.is_some());
        let (number, newest) = placed.max_by_key(|(_, durable)| rank(durable))?;
        let votes = |id: &Id| {
            let join = newest.roster.placed(id);
            let is_that = |durable: &Durable| {
                durable.allegiance == newest.allegiance && join == Some(durable.join) && !durable.is_out
            };
            disks().any(|(n, durable)| self.id_of(n) == *id && is_that(durable))
        };
        (!config(newest).voters.has_quorum(votes)).then_some(number)
    }
}

/// How new a state is.
fn rank(durable: &Durable) -> (u64, bool, u64, u64) {
    let last = durable.raft.entries.last().map(|entry| (entry.term, entry.index));
    let (term, index) = last.unwrap_or((durable.raft.snapshot.term, durable.raft.snapshot.index));
    (durable.allegiance.map_or(0, |own| own.generation.number), !durable.is_out, term, index)
}

/// The configuration in force in a state.
fn config(durable: &Durable) -> &Configuration<Id> {
    durable.raft.entries.iter().rev().find_map(Entry::config).unwrap_or(&durable.raft.snapshot.config)
}
