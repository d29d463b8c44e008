//! What a link tells its node.

use std::{fmt, time::Duration};

use bytes::Bytes;

use crate::{Id, PublicKey, path::PathKind};

/// Names a byte stream of one link; the same number at both ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkStreamId(pub u64);

/// News of a link, in the order in which it happened as far as that matters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkEvent<R> {
    /// The handshake is done and the remote has said where it receives probes. Comes before all that follows.
    Established {
        /// Who the remote is, by its key.
        remote: Id,
        /// Its static public key.
        key: PublicKey,
        /// The same at both ends, of this link alone.
        nonce: [u8; 16],
    },
    /// One whole control message.
    Control(Bytes),
    /// `read_lane` may have something; read until it has nothing.
    LaneReadable(u8),
    /// A `write_lane` that left a rest may be tried again.
    LaneWritable(u8),
    /// A datagram of the remote.
    Datagram(Bytes),
    /// A datagram that was `Blocked` may be tried again.
    DatagramsUnblocked,
    /// The remote opened a byte stream.
    StreamOpened(LinkStreamId),
    /// `stream_read` may have something; read until it has nothing.
    StreamReadable(LinkStreamId),
    /// A `stream_write` that took less than all may be tried again.
    StreamWritable(LinkStreamId),
    /// The remote has all bytes of a finished stream.
    StreamFinished(LinkStreamId),
    /// The remote gave the stream up; it is gone.
    StreamReset(LinkStreamId),
    /// Packets go another way now.
    PathChanged {
        /// The way.
        route: R,
        /// Its kind.
        kind: PathKind,
    },
    /// The link is over. The last event; what is queued for the remote (such as the reason) still leaves.
    Lost(LostReason),
}

/// Why a link is over.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// No path answered any more.
    TimedOut,
    /// The handshake was not done in time.
    HandshakeTimeout,
    /// Another Id answered than the one dialled.
    WrongId,
    /// The handshake failed.
    Handshake(String),
    /// The remote closed it.
    Closed {
        /// The code given to [`close`](super::Link::close), or one of [`close_code`].
        code: u32,
        /// The text given to it, without control characters.
        reason: String,
    },
    /// The remote broke the protocol.
    Violation(String),
    /// The remote did not take its control messages.
    Overrun,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TimedOut => f.write_str("no path answered any more"),
            Self::HandshakeTimeout => f.write_str("the handshake took too long"),
            Self::WrongId => f.write_str("another id answered than the one dialled"),
            Self::Handshake(text) => write!(f, "the handshake failed: {text}"),
            Self::Closed { code, reason } => write!(f, "closed by the remote: {reason} (code {code:#x})"),
            Self::Violation(text) => write!(f, "the remote broke the protocol: {text}"),
            Self::Overrun => f.write_str("the remote did not take its control messages"),
        }
    }
}

/// The codes by which a link closes of its own accord; those below are the node's.
pub mod close_code {
    /// The lowest of them.
    pub const FIRST: u32 = 0xffff_ff00;
    /// No path answered.
    pub const TIMED_OUT: u32 = FIRST;
    /// The remote broke the protocol.
    pub const VIOLATION: u32 = FIRST + 1;
    /// The remote did not take its control messages.
    pub const OVERRUN: u32 = FIRST + 2;
    /// The handshake took too long.
    pub const HANDSHAKE_TIMEOUT: u32 = FIRST + 3;
    /// QUIC itself found fault; the text says with what.
    pub const TRANSPORT: u32 = FIRST + 4;
}

/// Bytes for one remote, appended to the caller's buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct LinkTransmit<R> {
    /// Where they go.
    pub route: R,
    /// Where the same bytes go as well, while `route` is in doubt.
    pub double: Option<R>,
    /// How many bytes were appended.
    pub size: usize,
    /// The length of each datagram but the last, if there are several.
    pub segment_size: Option<usize>,
    /// The ECN bits for the IP header, 0 to 3.
    pub ecn: u8,
}

/// Counters of a link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkStats {
    /// Datagrams sent, probes and doubles apart.
    pub datagrams_sent: u64,
    /// Bytes in them.
    pub bytes_sent: u64,
    /// Datagrams received that were authentic and new.
    pub datagrams_received: u64,
    /// Bytes in them.
    pub bytes_received: u64,
    /// Datagrams received that were not.
    pub datagrams_refused: u64,
    /// Packets lost on the way, over all paths.
    pub packets_lost: u64,
    /// Changes of path.
    pub switches: u64,
    /// Datagrams sent on two ways.
    pub doubled: u64,
    /// The congestion window in bytes.
    pub window: u64,
    /// The largest datagram that the path is known to carry, in bytes.
    pub mtu: u16,
    /// QUIC's smoothed round-trip time.
    pub rtt: Duration,
}

/// Why a datagram was not queued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DatagramError {
    /// One packet of the present path cannot carry it.
    #[error("the datagram is too large: at most {max} bytes are possible now")]
    TooLarge {
        /// The limit in bytes.
        max: usize,
    },
    /// The buffer is full; here it is again. [`LinkEvent::DatagramsUnblocked`] follows.
    #[error("too many datagrams wait to be sent: wait and send again")]
    Blocked(Bytes),
    /// The link is not established, or over.
    #[error("the link is not up")]
    Down,
}

/// A stream operation that cannot be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StreamError {
    /// As many streams of this side are open as may be.
    #[error("too many byte streams are open: finish some first")]
    TooMany,
    /// There is no such stream (any more).
    #[error("the byte stream is over")]
    Gone,
}

/// Too much waits for the remote; the link is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the remote does not take its control messages: the link is given up")]
pub struct Overrun;
