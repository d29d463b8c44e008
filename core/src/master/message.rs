//! What servers say to each other about the Master.

use serde::{Deserialize, Serialize};

use super::{Membership, Roster, Saying};
use crate::{
    id::{ClusterId, Id, Incarnation},
    raft,
};

/// A line of succession within a cluster: 1 when it is founded, one more each time that a new cluster is forced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Generation {
    /// Counted from 1.
    pub number: u64,
    /// Who founded or forced it. Two of the same number and different founders are forks that never merge.
    pub founder: Id,
}

/// The cluster that a server belongs to, in which generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Allegiance {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its generation, as the server knows it.
    pub generation: Generation,
}

/// A message of one server to another.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct MasterMessage {
    /// Where the sender belongs; `None` while it waits to be admitted.
    pub allegiance: Option<Allegiance>,
    /// What it says.
    pub body: Body,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Body {
    /// Nothing but where the sender belongs.
    Hello,
    /// Raft's own. It is for one membership: a server that lost its disk must not answer in the name of the old one.
    Raft {
        /// The sender's membership.
        from: Incarnation,
        /// The membership of the receiver that is meant.
        to: Incarnation,
        /// The message.
        message: raft::Message<Id, Roster>,
    },
    /// Asks the leader for something; whoever is not the leader passes it on to it.
    Ask {
        /// For this.
        wish: Wish,
        /// It was passed on already, and goes no further.
        passed_on: bool,
    },
    /// This membership ended for good.
    Ended(Membership),
    /// A Master is there.
    Saying(Saying),
    /// The sender waits for a number of servers to found a cluster together.
    Expecting {
        /// For how long it has been running, in milliseconds.
        running_ms: u64,
        /// It will not be the founder.
        yields: bool,
    },
}

/// What the leader may be asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Wish {
    /// Admit this membership.
    Join {
        /// The newcomer.
        membership: Membership,
        /// For how long it has been running, in milliseconds; `None` to be admitted as the youngest.
        running_ms: Option<u64>,
    },
    /// This membership leaves.
    Leave(Membership),
    /// Remove this server.
    Remove(Id),
    /// Hand the leadership over to this voter.
    HandOver(Id),
}
