//! Files between two peers.
//!
//! An offer and the end are requests, the pieces between them are messages in a lane of their own: they survive the
//! change of paths, links and servers. A piece names its offset, so one whose fate is unknown may be sent again. The
//! receiver acknowledges a piece when it is written, which is the flow control, and says yes at the end when the file
//! is complete, has the right BLAKE3 hash, and stands under its name on the disk.

mod recv;
mod send;
mod store;

pub(super) use recv::run as recv;
pub(super) use send::run as send;

/// The lane of the pieces.
const LANE: u8 = 1;
/// The data of one piece, in bytes.
const CHUNK: usize = 256 * 1024;
