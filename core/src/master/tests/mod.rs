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

/// The Id of a test server.
pub(super) fn server(node: u8) -> Id {
    Id::from_key(Role::Server, &PublicKey([node; 32]))
}

/// Its first membership.
pub(super) fn membership(node: u8) -> Membership {
    Membership { id: server(node), join: Incarnation { counter: 1, random: [node; 16] } }
}
