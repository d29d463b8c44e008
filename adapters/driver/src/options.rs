//! How to start a node.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc};

use p2pcore::{Config, Identity, Name, NetworkKey, ServerKey};

/// Says whether datagrams from and to a remote address may pass.
pub type AddressFilter = Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>;

/// All that [`Endpoint::start`](crate::Endpoint::start) needs to know.
#[derive(Clone)]
#[non_exhaustive]
pub struct Options {
    /// Limits and intervals. `ciphers` is put in the order that suits the CPU.
    pub config: Config,
    /// Role and key pair.
    pub identity: Identity,
    /// The human name.
    pub name: Name,
    /// What every node of the network has.
    pub network_key: NetworkKey,
    /// What only servers have.
    pub server_key: Option<ServerKey>,
    /// Where to listen; if empty, on any port of IPv4 and of IPv6. At most 16.
    pub listen: Vec<SocketAddr>,
    /// Addresses by which others reach this machine, when they are not an interface's.
    pub advertise: Vec<SocketAddr>,
    /// Addresses of any servers.
    pub join: Vec<SocketAddr>,
    /// Make a new cluster, if there is no saved one.
    pub found: bool,
    /// Without saved state: wait for so many servers, this one included, and make a new cluster with them, unless one of
    /// them has one.
    pub expect: Option<usize>,
    /// Never use a direct path to another peer.
    pub relay_only: bool,
    /// The directory of the durable state, made if missing; without one, nothing outlives the node.
    pub state: Option<PathBuf>,
    /// Drops what it refuses, as a firewall would; for tests and demonstrations.
    pub filter: Option<AddressFilter>,
}

impl Options {
    /// The defaults with an identity and a network.
    pub fn new(identity: Identity, network_key: NetworkKey) -> Self {
        Self {
            config: Config::default(),
            identity,
            name: Name::default(),
            network_key,
            server_key: None,
            listen: Vec::new(),
            advertise: Vec::new(),
            join: Vec::new(),
            found: false,
            expect: None,
            relay_only: false,
            state: None,
            filter: None,
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Options")
            .field("identity", &self.identity)
            .field("name", &self.name)
            .field("listen", &self.listen)
            .field("join", &self.join)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
