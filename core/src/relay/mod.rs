//! The forwarding plane: packets between two nodes through a server that both are linked to, without any set-up.
//!
//! A relayed packet is a UDP datagram with a header of 16 bytes: two [`Slot`]s, a counter and a tag under a key of the
//! link between the sender and the server. The server looks the sender up by its slot, checks the tag, and passes the
//! packet on under the key of the destination's link; the payload is end-to-end protected and stays as it is.
//! `docs/relay.md` has the layout.

mod counter;
mod forwarder;
mod header;
mod link;
mod quota;
mod slots;
mod told;

pub use forwarder::{DropReason, Forwarder, ForwarderCounters, QUOTA_PAUSE, TELL_INTERVAL, Verdict};
pub use header::{HEADER_LEN, MAX_OVERHEAD, PacketClass, Slot};
pub use link::{Opened, RelayError, RelayKeys, RelayLink};
pub use quota::QuotaLimits;
pub use slots::Slots;
pub use told::Told;
