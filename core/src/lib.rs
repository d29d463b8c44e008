//! Send a message to an Id, wherever it is: the pure state machine of p2pcore.
#![forbid(unsafe_code)]
#![deny(clippy::disallowed_methods)]

pub mod config;
pub mod deadline;
pub mod error;
pub mod id;
pub mod link;
pub mod message;
pub mod node;
pub mod noise;
pub mod path;
mod peer;
pub mod relay;
pub mod rng;
mod server;
pub mod table;
pub mod wire;

pub use config::{Cipher, Config};
pub use error::{CommandError, Reason, StartError};
pub use id::{ClusterId, Id, Identity, Incarnation, Name, NetworkKey, PublicKey, Role, SecretKey, ServerKey};
pub use node::{Event, Input, Node, Output, Start};

#[cfg(test)]
mod testing {
    use std::time::Instant;

    /// Some instant: tests only look at differences.
    #[allow(clippy::disallowed_methods)] // an Instant can be had in no other way
    pub(crate) fn epoch() -> Instant {
        Instant::now()
    }
}
