//! The machine against a small world: links, disks, clocks that drift, and what must hold whatever happens.

mod checks;
mod hostile;
mod planted;
mod random;
mod scenarios;
mod world;

use super::*;
use crate::id::{Id, Incarnation, PublicKey, Role};

pub(super) use checks::steps_are_safe;

/// What is done wrong on purpose, to show that a check notices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// A server without its disk goes on as if it were the same member.
    AnswerForLostDisk,
    /// The end of the lease is asked for once in a while, not each time.
    StaleLease,
    /// The last one of two does not care what peers report.
    IgnoreVeto,
    /// A Provisional Master takes itself for a real one.
    ProvisionalGuard,
    /// A resource does not look at tokens.
    NoFence,
    /// Ages are compared anew each time that a roster is written.
    AgeAnew,
    /// A newcomer takes part in elections before it has read of its own admission.
    ElectUnplaced,
    /// A view shows whoever spoke last.
    LastWordCounts,
}

/// The Id of a test server.
pub(super) fn server(node: u8) -> Id {
    Id::from_key(Role::Server, &PublicKey([node; 32]))
}

/// Its first membership.
pub(super) fn membership(node: u8) -> Membership {
    Membership { id: server(node), join: Incarnation { counter: 1, random: [node; 16] } }
}
