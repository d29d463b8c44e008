//! How a server begins, what is to be done outside, and what it tells.

use serde::{Deserialize, Serialize};

use super::{Durable, MasterMessage, MasterView, PersistId};
use crate::{
    id::{ClusterId, Id},
    raft::{StateError, TimingError},
};

/// How a server begins.
#[derive(Clone, Debug)]
pub enum Start {
    /// With what was on its disk: it returns to that cluster.
    Saved(Box<Durable>),
    /// It founds this cluster, of which it is the first member.
    Found(ClusterId),
    /// It waits to be admitted.
    Join,
    /// It waits until so many servers are there, itself included. If none of them has a cluster yet, the one running
    /// longest founds; if that is this one, it is this cluster.
    Expect {
        /// How many servers.
        servers: usize,
        /// Used by the founder.
        cluster: ClusterId,
    },
}

/// Why a server cannot begin.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// The saved state was not written by this program, or not as a whole.
    #[error(
        "the saved state of the Master is not one that was ever written ({0}): restore it, or remove it to come back as a new member"
    )]
    State(#[from] StateError),
    /// The saved roster's entry is none that the saved log has or had.
    #[error(
        "the saved state of the Master is not one that was ever written (its roster is of entry {0}, beyond the log): restore it, or remove it to come back as a new member"
    )]
    RosterBeyondLog(u64),
    /// The settings do not work.
    #[error(transparent)]
    Timing(#[from] TimingError),
    /// The same moment would come again and again.
    #[error("ask_every and provisional_after must not be 0")]
    Pace,
}

/// Where this server stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Standing {
    /// A member, or on the way to be one.
    Active,
    /// It asked to leave.
    Leaving,
    /// It left, or was removed by command. It comes back, as another member, when it is started again.
    Out,
}

/// What is to be done outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this to a linked server; it may get lost.
    Send {
        /// The receiver.
        to: Id,
        /// What it gets.
        message: Box<MasterMessage>,
    },
    /// Write this, then call [`Council::persisted`](super::Council::persisted) with its id. It replaces what was written before.
    Persist {
        /// To be given back once it is on disk.
        id: PersistId,
        /// The whole durable state.
        state: Box<Durable>,
    },
    /// Something changed.
    Event(Event),
}

/// What changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Who is the Master, or its token, or why there is none.
    Master(MasterView),
    /// The committed members or their roles, from the oldest on.
    Members(Vec<MemberInfo>),
    /// This server is no member any more, because it left or was removed by command.
    Out,
    /// Something that somebody should look at.
    Warning(Warning),
}

/// A committed member.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MemberInfo {
    /// Who.
    pub id: Id,
    /// Whether it is counted in elections.
    pub is_voter: bool,
}

/// Something that somebody should look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Warning {
    /// A server of another cluster. Nothing of it is ever taken over.
    #[error("{id} belongs to the foreign cluster {cluster}: give it another network key, or remove its state")]
    ForeignCluster {
        /// That server.
        id: Id,
        /// Its cluster.
        cluster: ClusterId,
    },
    /// A new cluster was forced twice, at different servers, in one generation.
    #[error("{id} belongs to another forced cluster of the same generation: force one of the two once more")]
    Fork {
        /// That server.
        id: Id,
    },
    /// A new cluster was forced while this server was away: it joins anew.
    #[error("generation {0} was forced: the old state is void, joining as a new member")]
    Superseded(u64),
    /// The servers that are to found a cluster together are not there.
    #[error("waiting for {need} servers to found a cluster, {have} are here: start the others, or lower --expect")]
    TooFew {
        /// So many are expected, this one included.
        need: usize,
        /// So many are there, this one included.
        have: usize,
    },
}
