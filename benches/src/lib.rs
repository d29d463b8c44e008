//! What the benches share: parts of the core, joined in memory and set going.
//!
//! `cargo bench -p benches` measures everything, `cargo bench -p benches --bench relay` one topic. Time is virtual
//! wherever the core takes it as an argument: no bench waits.

mod conversations;
mod directory;
mod links;
mod nodes;
mod packets;
mod relay;

use std::time::{Duration, Instant};

pub use conversations::ConversationPair;
pub use directory::{DirectoryPair, peer_id, peer_row};
pub use links::Dialling;
pub use nodes::Net;
pub use packets::{CIPHERS, Packets};
pub use relay::RelayStar;

/// How long anything is under way between two ends in memory: time has to pass for pacing and retries.
const HOP: Duration = Duration::from_micros(100);

/// Some instant: only differences count.
pub fn epoch() -> Instant {
    Instant::now()
}
