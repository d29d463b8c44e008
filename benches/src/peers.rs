//! Nodes of this project on loopback sockets, as all measurements start them.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use p2pcore::{
    Event, Id, Identity, NetworkKey, Role, SecretKey, ServerKey,
    node::{Outcome, SendOptions},
};
use p2pcore_driver::{Endpoint, NodeHandle, Options, Runtime};
use tokio::task::JoinHandle;

use crate::Failure;

/// How long a node may take to be linked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Node `number` of its role, on any port.
pub(crate) fn options(role: Role, number: u64) -> Options {
    let mut seed = [7; 32];
    seed[..8].copy_from_slice(&number.to_be_bytes());
    let mut options = Options::new(Identity::new(role, SecretKey::from_bytes(seed)), NetworkKey::from_bytes([7; 32]));
    options.listen = vec![SocketAddr::from((Ipv4Addr::LOCALHOST, 0))];
    options.server_key = (role == Role::Server).then(|| ServerKey::from_bytes([8; 32]));
    options
}

/// Starts a peer and waits until it is linked to a server.
pub(crate) async fn join(
    runtime: Arc<dyn Runtime>,
    servers: &[SocketAddr],
    number: u64,
    relay_only: bool,
) -> Result<NodeHandle, Failure> {
    let mut options = options(Role::Peer, number);
    options.join = servers.to_vec();
    options.relay_only = relay_only;
    let peer = Endpoint::start(runtime, options)?;
    let events = peer.events();
    let linked = async {
        while let Some(event) = events.next().await {
            if matches!(event, Event::ServerUp { .. }) {
                return Ok(());
            }
        }
        Err(Failure::from("the node ended"))
    };
    tokio::time::timeout(PATIENCE, linked).await??;
    Ok(peer)
}

/// Takes all messages and accepts them.
pub(crate) fn reader(node: NodeHandle) -> JoinHandle<()> {
    tokio::spawn(async move {
        while let Some(delivery) = node.recv_batch().await {
            drop(delivery);
        }
    })
}

/// Waits until messages arrive there.
pub(crate) async fn meet(from: &NodeHandle, to: Id) -> Result<(), Failure> {
    let arrived = async {
        loop {
            if let Ok(mut outcomes) = from.try_send(&[to], Bytes::from_static(b"?"), SendOptions::default())
                && let Some((_, Outcome::Delivered)) = outcomes.next().await
            {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await?;
    Ok(())
}
