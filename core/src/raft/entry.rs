//! Entries of the log, and what is kept of a node over a restart.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{Command, Configuration, NodeId};

/// What an entry is for. The log, the messages and the orders to the disk share what it holds.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, D: Serialize",
    deserialize = "N: Deserialize<'de> + Ord, D: Deserialize<'de>"
))]
pub enum Payload<N, D> {
    /// The first entry of a leader: with it the entries of earlier terms become committed (Raft paper, section 8).
    Noop,
    /// A command of the application.
    Command(Arc<D>),
    /// The configuration that is in force at each node from when it has this entry on, in full.
    Config(Arc<Configuration<N>>),
}

/// One place of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, D: Serialize",
    deserialize = "N: Deserialize<'de> + Ord, D: Deserialize<'de>"
))]
pub struct Entry<N, D> {
    /// The term of the leader that made it.
    pub term: u64,
    /// Its place, counted from 1.
    pub index: u64,
    /// What it says.
    pub payload: Payload<N, D>,
}

impl<N: NodeId, D: Command> Entry<N, D> {
    /// The configuration that it brings.
    pub fn config(&self) -> Option<&Configuration<N>> {
        match &self.payload {
            Payload::Config(config) => Some(config),
            Payload::Noop | Payload::Command(_) => None,
        }
    }

    /// The same in as little memory as it needs: sets that were read one by one take almost twice as much.
    pub(super) fn packed(mut self) -> Self {
        if let Payload::Config(config) = &mut self.payload {
            *config = Arc::new(config.packed());
        }
        self
    }

    /// The bytes of its command; 0 without one.
    pub fn size(&self) -> usize {
        match &self.payload {
            Payload::Command(command) => command.size(),
            Payload::Noop | Payload::Config(_) => 0,
        }
    }
}

/// What stands for the entries that were dropped: the last one of them and the configuration then in force.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(serialize = "N: Serialize", deserialize = "N: Deserialize<'de> + Ord"))]
pub struct Snapshot<N> {
    /// The index of the last dropped entry; 0 if there never was one.
    pub index: u64,
    /// The term of that entry.
    pub term: u64,
    /// The configuration as of that index.
    pub config: Configuration<N>,
}

impl<N: NodeId> Snapshot<N> {
    /// Whether it may stand before a log: one without an index after it, or a configuration, cannot.
    pub(super) fn is_sound(&self) -> bool {
        self.index < u64::MAX && (self.index == 0 || self.config.validate().is_ok())
    }
}

impl<N> Default for Snapshot<N> {
    fn default() -> Self {
        Self { index: 0, term: 0, config: Configuration::default() }
    }
}

/// What must survive a restart besides the log (Raft paper, figure 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct HardState<N> {
    /// The latest term this node has seen.
    pub term: u64,
    /// Who got its vote in that term, or led it.
    pub vote: Option<N>,
    /// A commit index, perhaps not the newest: it saves a restarted node from waiting to hear it again.
    pub commit: u64,
}

impl<N> Default for HardState<N> {
    fn default() -> Self {
        Self { term: 0, vote: None, commit: 0 }
    }
}

/// Everything that one node keeps on its disk.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(bound(
    serialize = "N: Serialize, D: Serialize",
    deserialize = "N: Deserialize<'de> + Ord, D: Deserialize<'de>"
))]
pub struct Stored<N, D> {
    /// Term, vote and commit index.
    pub hard_state: HardState<N>,
    /// What stands for the entries before the log.
    pub snapshot: Snapshot<N>,
    /// The log, from the index after the snapshot's on.
    pub entries: Vec<Entry<N, D>>,
}

impl<N, D> Default for Stored<N, D> {
    /// The disk of a node that waits to be admitted by a cluster.
    fn default() -> Self {
        Self { hard_state: HardState::default(), snapshot: Snapshot::default(), entries: Vec::new() }
    }
}

impl<N: NodeId, D: Command> Stored<N, D> {
    /// The disk of a founding member. All founding members must begin with the same configuration; those who come later
    /// begin with the [default](Self::default).
    pub fn founding(voters: impl IntoIterator<Item = N>) -> Self {
        // index 1 and not 0, so that a newcomer with an empty log is behind it and gets this configuration
        let snapshot = Snapshot { index: 1, term: 0, config: Configuration::new(voters, [], 1) };
        Self { hard_state: HardState { commit: 1, ..HardState::default() }, snapshot, entries: Vec::new() }
    }

    /// Executes an order.
    pub fn write(&mut self, order: &Persist<N, D>) {
        self.hard_state = order.hard_state;
        if let Some(snapshot) = &order.snapshot {
            self.snapshot = snapshot.clone();
            self.entries.clear();
        }
        if let Some(changed) = &order.entries {
            self.entries.retain(|entry| entry.index < changed.from);
            self.entries.extend(changed.entries.iter().cloned());
        }
    }
}

/// Counts the orders to the disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OrderId(pub u64);

/// An order to the disk, to be executed as a whole or not at all, in the order of the ids.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Persist<N, D> {
    /// To be given back once this order and all before it are on disk.
    pub id: OrderId,
    /// Replaces term, vote and commit index.
    pub hard_state: HardState<N>,
    /// Replaces the snapshot and empties the log.
    pub snapshot: Option<Snapshot<N>>,
    /// Replaces the end of the log.
    pub entries: Option<LogTail<N, D>>,
}

/// A new end of the log.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct LogTail<N, D> {
    /// What the disk has from this index on is dropped first.
    pub from: u64,
    /// The entries from there on; fewer than before if a conflicting end was cut off.
    pub entries: Vec<Entry<N, D>>,
}
