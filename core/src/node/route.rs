//! Where a datagram goes, under QUIC's feet.

use std::net::SocketAddr;

use super::SocketId;
use crate::{Id, prefix::Prefix, relay::Slot};

/// One way to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Route {
    /// To an address, from one of the own sockets.
    Udp { socket: SocketId, remote: SocketAddr },
    /// Through a server, to a slot of its.
    Relay { server: Id, slot: Slot },
    /// With a question to a server, for a first packet alone: nothing ever comes by it.
    Lookup { server: Id },
}

impl Route {
    /// The relaying server.
    pub(crate) fn via(&self) -> Option<Id> {
        match self {
            Self::Udp { .. } => None,
            Self::Relay { server, .. } | Self::Lookup { server } => Some(*server),
        }
    }

    /// Whose share of this node what comes this way counts for.
    pub(crate) fn prefix(&self) -> Prefix {
        match self {
            Self::Udp { remote, .. } => Prefix::of(remote),
            Self::Relay { server, .. } | Self::Lookup { server } => Prefix::Relay(*server),
        }
    }

    /// The real address.
    pub(crate) fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Udp { remote, .. } => Some(*remote),
            Self::Relay { .. } | Self::Lookup { .. } => None,
        }
    }
}
