//! The nodes of the demonstration, on loopback sockets of their own.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use p2pcore::{Identity, Name, NetworkKey, Role, SecretKey, ServerKey};
use tempfile::TempDir;

use crate::{
    AddressFilter, NodeHandle, Options,
    keys::random,
    program::{Program, failure::Failure, node},
};

pub(super) const SERVERS: usize = 3;
pub(super) const PEERS: usize = 4;

/// Three servers and four peers. Peers 0 and 1 cannot reach each other's addresses.
pub(super) struct World {
    program: Program,
    network_key: NetworkKey,
    server_key: ServerKey,
    dir: TempDir,
    pub(super) servers: Vec<Server>,
    pub(super) peers: Vec<NodeHandle>,
}

pub(super) struct Server {
    pub(super) handle: NodeHandle,
    identity: Identity,
    address: SocketAddr,
    /// Nothing passes in or out.
    cut: Arc<AtomicBool>,
}

impl World {
    pub(super) fn new(program: &Program) -> Result<Self, Failure> {
        let dir = tempfile::Builder::new().prefix("p2pcore-demo-").tempdir();
        let mut world = Self {
            program: program.clone(),
            network_key: NetworkKey::from_bytes(random()?),
            server_key: ServerKey::from_bytes(random()?),
            dir: dir.map_err(|error| Failure::io("cannot make a temporary directory", &error))?,
            servers: Vec::new(),
            peers: Vec::new(),
        };
        for index in 0..SERVERS {
            let identity = Identity::new(Role::Server, SecretKey::from_bytes(random()?));
            let server = world.start_server(index, identity, any_port())?;
            world.servers.push(server);
        }
        let mut barred = None;
        for index in 0..PEERS {
            let filter = barred.map(|barred| -> AddressFilter { Arc::new(move |remote| remote != barred) });
            let peer = world.start_peer(index, filter)?;
            // barred at one end, nothing passes in either direction
            barred = (index == 0).then(|| peer.listen_addresses()[0]);
            world.peers.push(peer);
        }
        Ok(world)
    }

    /// The server is gone for all others from one moment to the next, without a goodbye.
    pub(super) async fn kill(&self, index: usize) {
        let server = &self.servers[index];
        server.cut.store(true, Ordering::Relaxed);
        server.handle.stop().await;
    }

    /// Starts it again with what it has on the disk.
    pub(super) fn restart(&mut self, index: usize) -> Result<(), Failure> {
        let (identity, address) = (self.servers[index].identity.clone(), self.servers[index].address);
        self.servers[index] = self.start_server(index, identity, address)?;
        Ok(())
    }

    pub(super) async fn stop(&self) {
        for handle in self.peers.iter().chain(self.servers.iter().map(|server| &server.handle)) {
            let handle = handle.clone();
            self.program.runtime.spawn(Box::pin(async move { handle.stop().await }));
        }
        for handle in self.peers.iter().chain(self.servers.iter().map(|server| &server.handle)) {
            handle.ended().await;
        }
    }

    fn start_server(&self, index: usize, identity: Identity, listen: SocketAddr) -> Result<Server, Failure> {
        let cut = Arc::new(AtomicBool::new(false));
        let mut options = self.options(identity.clone(), format!("server-{}", index + 1), listen);
        options.server_key = Some(self.server_key.clone());
        // only the first command line ever says so, and it keeps saying it
        options.found = index == 0;
        let is_cut = cut.clone();
        options.filter = Some(Arc::new(move |_| !is_cut.load(Ordering::Relaxed)));
        let handle = node::start(&self.program, options)?;
        let address = handle.listen_addresses()[0];
        Ok(Server { handle, identity, address, cut })
    }

    fn start_peer(&self, index: usize, filter: Option<AddressFilter>) -> Result<NodeHandle, Failure> {
        let identity = Identity::new(Role::Peer, SecretKey::from_bytes(random()?));
        let mut options = self.options(identity, format!("peer-{}", index + 1), any_port());
        options.filter = filter;
        node::start(&self.program, options)
    }

    fn options(&self, identity: Identity, name: String, listen: SocketAddr) -> Options {
        let state: PathBuf = self.dir.path().join(&name);
        Options {
            name: Name::new(name).unwrap_or_default(),
            listen: vec![listen],
            join: self.servers.iter().map(|server| server.address).filter(|address| *address != listen).collect(),
            state: Some(state),
            ..Options::new(identity, self.network_key.clone())
        }
    }
}

fn any_port() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
