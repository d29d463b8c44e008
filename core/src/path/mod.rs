//! Which way each datagram of a link goes: candidates, keyed probes, choice, doubt, death.
//!
//! A [`PathSet`] is a pure state machine under one link. It knows routes only as an opaque type and nothing of what the
//! link carries. The layout of the probes and the rules are written down in `docs/paths.md`.

mod budget;
mod candidate;
mod caution;
mod choice;
mod handshake;
mod heartbeat;
mod probe;
mod set;

#[cfg(feature = "fuzzing")]
pub mod window;

#[cfg(test)]
mod tests;

pub use probe::{MAX_PROBE, MIN_PROBE, ProbeKeys};
pub use set::{CandidateInfo, CandidateState, PathEvent, PathSet, Routes};

/// The size in bytes of a probe that proves a path: what QUIC needs a path to carry.
pub const FULL_SIZE: usize = 1_200;

/// Which kind of way leads to another node, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PathKind {
    /// An address of the other end just worked.
    Direct,
    /// Through NATs, opened by both ends.
    Punched,
    /// Through a server.
    Relayed,
}

impl PathKind {
    /// The text of the JSON lines.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Punched => "punched",
            Self::Relayed => "relayed",
        }
    }
}
