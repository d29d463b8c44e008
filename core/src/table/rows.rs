//! The rows of the tables C, D and E (and of A, which is a server's own E).

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::Bounded;
use crate::{Incarnation, Name, relay::Slot};

/// The most addresses in one list of a row; a longer list does not decode.
pub const MAX_ADDRESSES: usize = 32;

/// A list of addresses in a row.
pub type Addresses = Bounded<SocketAddr, MAX_ADDRESSES>;

/// What the NAT in front of a node does with ports, in the words of RFC 4787.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum NatClass {
    /// Not enough samples: to be treated as endpoint-independent mapping with port filtering.
    #[default]
    Unknown,
    /// No NAT: an unsolicited packet arrived.
    None,
    /// One port for all destinations (endpoint-independent mapping).
    EndpointIndependent,
    /// A port for each destination, close to the last one (endpoint-dependent mapping).
    Sequential,
    /// A port for each destination, not to be guessed (endpoint-dependent mapping).
    Random,
}

/// What a node tells of itself (table D).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NetworkInfo {
    /// Changes since the node's start.
    pub version: u64,
    /// The addresses that servers see it under.
    pub public: Addresses,
    /// The addresses of its interfaces.
    pub private: Addresses,
    /// The addresses that it listens on or advertises.
    pub listen: Addresses,
    /// What the NAT in front of it does.
    pub nat: NatClass,
    /// It takes nothing from a direct path to another peer.
    pub relay_only: bool,
}

impl NetworkInfo {
    /// One address, the one most widely reachable, to be shown to people.
    pub fn any_address(&self) -> Option<SocketAddr> {
        self.public.iter().chain(self.listen.iter()).chain(self.private.iter()).next().copied()
    }
}

/// A peer that is linked to a server (tables A and E).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRow {
    /// Its name.
    pub name: Name,
    /// Its run.
    pub incarnation: Incarnation,
    /// What it tells of itself.
    pub network: NetworkInfo,
    /// Its slot at the server whose table this is.
    pub slot: Slot,
}

impl PeerRow {
    /// What orders the rows of one peer in the tables of several servers; the newest counts.
    pub const fn newness(&self) -> (Incarnation, u64) {
        (self.incarnation, self.network.version)
    }
}

/// A server that is up (table C).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerRow {
    /// Its name.
    pub name: Name,
    /// Its run.
    pub incarnation: Incarnation,
    /// The version of what it tells of itself.
    pub version: u64,
    /// Where it can be reached.
    pub addresses: Addresses,
    /// Its slot at the server whose table this is; `None` for that server itself and while they are not linked.
    pub slot: Option<Slot>,
}

impl ServerRow {
    /// What orders the rows of one server in the tables of several servers; the newest counts.
    pub const fn newness(&self) -> (Incarnation, u64) {
        (self.incarnation, self.version)
    }
}

/// The newest of the rows of one peer that several servers show. Of equal ones the first.
pub fn newest<'a>(rows: impl IntoIterator<Item = &'a PeerRow>) -> Option<&'a PeerRow> {
    rows.into_iter().reduce(|newest, row| if row.newness() > newest.newness() { row } else { newest })
}
