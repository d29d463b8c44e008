//! What the adapters of p2pcore share, free of any runtime: sockets, the disk, and an async handle of a running node.
//!
//! An adapter implements [`Runtime`]; [`Endpoint::start`] then spawns the one task that owns the node.
#![forbid(unsafe_code)]

mod clocks;
mod command;
#[cfg(feature = "conformance")]
pub mod conformance;
mod cpu;
mod delivery;
mod drive;
mod endpoint;
mod error;
mod events;
mod flow;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod handle;
mod interfaces;
mod keeper;
pub mod keys;
mod master;
mod office;
mod oneshot;
mod options;
mod outcomes;
pub mod program;
mod runtime;
mod sockets;
mod state;
mod stream;
#[cfg(test)]
mod testing;
mod tray;

pub use delivery::{Deliveries, Delivery, Message, Messages, Request, Responder};
pub use endpoint::Endpoint;
pub use error::{RequestError, StartFailure, StateError};
pub use events::Events;
pub use handle::NodeHandle;
pub use master::MasterGuard;
pub use options::{AddressFilter, Options};
pub use outcomes::{BatchOutcomes, Outcomes};
pub use runtime::{BoxFuture, Runtime, Timer, UdpIo};
pub use stream::ByteStream;
