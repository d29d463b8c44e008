//! Raft, after etcd's: one log and one leader among nodes that crash, restart and lose each other's messages.
//!
//! [`Raft`] is a pure state machine without time: messages, elections, heartbeats and what became of the disk go in;
//! messages, orders to the disk and committed entries come out. [`Timed`] adds the time, which is handed in too, the
//! randomised timeouts and the leader's lease. Nothing here knows what a node is: any `Copy + Ord` id will do, and the
//! application's commands are opaque.
//!
//! ```text
//!  step ──────┐   ┌──────────┐   ┌── Send       to another node; replies only after
//!  propose ───┼──▶│   Raft   │──▶├── Persist    term, vote and log are on disk
//!  persisted ─┘   └──────────┘   ├── Committed  entries, in order
//!    ▲ campaign, beat, …         └── Role       who leads
//!  Timed: deadline, lease
//! ```
//!
//! # Rules and where they come from
//!
//! | rule | source |
//! |---|---|
//! | elections, log matching, conflicts, commit by counting only in the own term | Raft paper, figure 2, sections 5.2 to 5.4 |
//! | joint consensus, left by the leader itself; a configuration is in force from its entry on; a leader that is not in it steps down once it is committed | Raft paper, section 6; thesis, section 4.2.2 |
//! | learners; outgoing voters that become learners when the joint configuration is left | etcd |
//! | one voter at a time outside of joint consensus; no change before an entry of the own term is committed | thesis, section 4.1; Ongaro's correction of 2015 |
//! | pre-vote, leadership transfer | thesis, sections 9.6 and 3.10 |
//! | who heard of a leader within the minimal election timeout gives no vote; a leader without a quorum steps down | thesis, sections 4.2.3 and 6.2; etcd's check-quorum |
//! | hints for conflicts, probe / replicate / snapshot, appends under way are bounded | etcd |
//! | answers echo the join of the membership they belong to | a fault that several implementations share |
//! | after a start no vote for as long as a lease may last | ours: the disk does not know who was heard |
//!
//! A message that no node could have sent changes nothing. Nothing here panics, whatever comes from outside.

pub mod change;
mod changing;
mod disk;
mod election;
mod entry;
mod flaw;
mod follower;
mod leader;
mod lease;
mod limits;
mod log;
mod machine;
mod message;
mod progress;
pub mod quorum;
mod timed;

#[cfg(test)]
mod tests;

use std::{fmt::Debug, hash::Hash};

use bytes::Bytes;

pub use change::{ChangeError, Configuration, Op};
pub use changing::{Change, ProposeChangeError, TransferError};
pub use entry::{Entry, HardState, LogTail, OrderId, Payload, Persist, Snapshot, Stored};
pub use leader::ProposeError;
pub use limits::Limits;
pub use machine::{Heard, Output, Raft, Role, RoleChange, StateError};
pub use message::{Body, Message};
pub use progress::{Progress, ProgressState};
pub use quorum::{VoteResult, Voters};
pub use timed::{Draw, Timed, Timing, TimingError};

#[cfg(any(test, feature = "planted"))]
pub use flaw::Flaw;
#[cfg(not(any(test, feature = "planted")))]
pub(crate) use flaw::Flaw;

/// How nodes are named.
pub trait NodeId: Copy + Ord + Hash + Debug {}

impl<N: Copy + Ord + Hash + Debug> NodeId for N {}

/// What the application puts into the log.
pub trait Command: Clone + Eq + Hash + Debug {
    /// Its length in bytes, for the [`Limits`].
    fn size(&self) -> usize;
}

impl Command for Bytes {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Command for Vec<u8> {
    fn size(&self) -> usize {
        self.len()
    }
}

impl Command for u64 {
    fn size(&self) -> usize {
        size_of::<Self>()
    }
}
