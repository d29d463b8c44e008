//! The disk of a node of raft-rs. Its own `MemStorage` forgets the term of the last dropped entry, and makes snapshots of
//! the commit index instead of the last dropped entry as we do.

use raft::{GetEntriesContext, RaftState, Result, Storage, StorageError, eraftpb::*, util::limit_size};

use crate::common::Place;

#[derive(Clone, Default)]
pub(crate) struct Disk {
    pub(crate) hard_state: HardState,
    pub(crate) snapshot: SnapshotMetadata,
    pub(crate) entries: Vec<Entry>,
}

impl Disk {
    pub(crate) fn founding(last: Place, voters: impl IntoIterator<Item = u64>) -> Self {
        let mut disk = Self::default();
        (disk.snapshot.index, disk.snapshot.term) = last;
        disk.snapshot.mut_conf_state().voters = voters.into_iter().collect();
        (disk.hard_state.commit, disk.hard_state.term) = last;
        disk
    }

    pub(crate) fn restore(&mut self, snapshot: SnapshotMetadata) {
        self.snapshot = snapshot;
        self.entries.clear();
    }

    pub(crate) fn append(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.entries.retain(|entry| entry.index < first.index);
        self.entries.extend_from_slice(entries);
    }

    /// Drops the entries up to `index`, at which `config` was in force.
    pub(crate) fn compact(&mut self, index: u64, config: ConfState) {
        self.snapshot.term = self.term(index).unwrap();
        self.snapshot.index = index;
        self.snapshot.set_conf_state(config);
        self.entries.retain(|entry| entry.index > index);
    }

    fn last(&self) -> u64 {
        self.entries.last().map_or(self.snapshot.index, |entry| entry.index)
    }

    fn place(&self, index: u64) -> usize {
        usize::try_from(index - self.snapshot.index - 1).unwrap()
    }
}

impl Storage for Disk {
    fn initial_state(&self) -> Result<RaftState> {
        Ok(RaftState::new(self.hard_state.clone(), self.snapshot.get_conf_state().clone()))
    }

    fn entries(
        &self,
        low: u64,
        high: u64,
        max_size: impl Into<Option<u64>>,
        _: GetEntriesContext,
    ) -> Result<Vec<Entry>> {
        if low <= self.snapshot.index {
            return Err(StorageError::Compacted.into());
        }
        let mut entries = self.entries[self.place(low)..self.place(high)].to_vec();
        limit_size(&mut entries, max_size.into());
        Ok(entries)
    }

    fn term(&self, index: u64) -> Result<u64> {
        match index {
            _ if index == self.snapshot.index => Ok(self.snapshot.term),
            _ if index < self.snapshot.index => Err(StorageError::Compacted.into()),
            _ if index > self.last() => Err(StorageError::Unavailable.into()),
            _ => Ok(self.entries[self.place(index)].term),
        }
    }

    fn first_index(&self) -> Result<u64> {
        Ok(self.snapshot.index + 1)
    }

    fn last_index(&self) -> Result<u64> {
        Ok(self.last())
    }

    fn snapshot(&self, _: u64, _: u64) -> Result<Snapshot> {
        let mut snapshot = Snapshot::default();
        snapshot.set_metadata(self.snapshot.clone());
        Ok(snapshot)
    }
}
