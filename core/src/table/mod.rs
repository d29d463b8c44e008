//! The tables A to F: versioned maps that one node publishes and others replicate by snapshots and deltas.
//!
//! [`Publisher`] and [`Replica`] know nothing of what the rows mean; [`rows`] and [`link_report`] do. All that comes
//! from the network is limited while it is decoded. `docs/tables.md` has the rules.

mod bounded;
pub mod link_report;
mod publisher;
mod replica;
pub mod rows;
mod update;

pub use bounded::{Bounded, TooMany};
pub use link_report::{LinkKind, LinkReport, UnknownDirectory};
pub use publisher::{Publisher, TableFull};
pub use replica::{Changes, Refused, Replica};
pub use rows::{Addresses, MAX_ADDRESSES, NatClass, NetworkInfo, PeerRow, ServerRow, newest};
pub use update::{Delta, MAX_PART_ROWS, PART_BYTES, Snapshot, Update, Version};

#[cfg(test)]
mod tests;
