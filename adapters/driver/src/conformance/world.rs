//! A small network on loopback for the tests.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_lite::FutureExt;
use p2pcore::{Event, Identity, Name, NetworkKey, Role, SecretKey, ServerKey};

use super::MakeRuntime;
use crate::{Delivery, Endpoint, Events, Message, NodeHandle, Options, Runtime};

/// How long anything may take before a test says that it hangs.
const HANG: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) runtime: Arc<dyn Runtime>,
    directory: tempfile::TempDir,
}

impl World {
    pub(crate) fn new(make: MakeRuntime<'_>) -> Self {
        Self { runtime: make(), directory: tempfile::tempdir().expect("a temporary directory") }
    }

    /// A path in the test's own directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A server that founds a cluster, on loopback.
    pub(crate) fn server(&self, seed: u8) -> Options {
        let mut options = options(Role::Server, seed);
        options.server_key = Some(ServerKey::from_bytes([8; 32]));
        options.found = true;
        options
    }

    /// A peer that joins at `introducer`, on loopback.
    pub(crate) fn peer(&self, seed: u8, introducer: &NodeHandle) -> Options {
        let mut options = options(Role::Peer, seed);
        options.join = introducer.listen_addresses().to_vec();
        options
    }

    pub(crate) fn start(&self, options: Options) -> NodeHandle {
        Endpoint::start(self.runtime.clone(), options).expect("the node starts")
    }

    /// A server and two peers that know each other.
    pub(crate) fn pair(&self, change: impl Fn(&mut Options)) -> (NodeHandle, NodeHandle, NodeHandle) {
        let server = self.start(self.server(1));
        let [a, b] = [2, 3].map(|seed| {
            let mut options = self.peer(seed, &server);
            change(&mut options);
            self.start(options)
        });
        self.acquainted(&a, &b);
        (server, a, b)
    }

    /// Waits until each has the other in its directory.
    pub(crate) fn acquainted(&self, a: &NodeHandle, b: &NodeHandle) {
        for (one, other) in [(a, b), (b, a)] {
            self.run("they know each other", async {
                while !one.status().await.expect("running").peers.iter().any(|peer| peer.info.id == other.id()) {
                    self.pause(20).await;
                }
            });
        }
    }

    pub(crate) async fn pause(&self, milliseconds: u64) {
        self.runtime.sleep_until(Instant::now() + Duration::from_millis(milliseconds)).await;
    }

    /// Runs `task` to its end; a task that hangs fails the test with `what`.
    pub(crate) fn run<T>(&self, what: &str, task: impl Future<Output = T>) -> T {
        let hang = async {
            self.runtime.sleep_until(Instant::now() + HANG).await;
            panic!("it hangs: {what}");
        };
        self.runtime.run(task.or(hang))
    }
}

fn options(role: Role, seed: u8) -> Options {
    let identity = Identity::new(role, SecretKey::from_bytes([seed; 32]));
    let mut options = Options::new(identity, NetworkKey::from_bytes([7; 32]));
    options.name = Name::new(format!("node {seed}")).expect("a short name");
    options.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    options
}

/// The next delivery, which must be a message.
pub(crate) async fn next_message(node: &NodeHandle) -> Message {
    match node.recv().await {
        Some(Delivery::Message(message)) => message,
        other => panic!("want a message, have {other:?}"),
    }
}

/// Reads events until one is as wanted.
pub(crate) async fn event(events: &Events, wanted: impl Fn(&Event) -> bool) -> Event {
    loop {
        let event = events.next().await.expect("the node runs");
        if wanted(&event) {
            return event;
        }
    }
}

/// The bytes of each file in a directory, by name.
pub(crate) fn files(directory: &Path) -> std::collections::BTreeMap<PathBuf, Vec<u8>> {
    std::fs::read_dir(directory)
        .expect("a directory")
        .map(|entry| entry.expect("an entry").path())
        .map(|path| (path.clone(), std::fs::read(&path).expect("a file")))
        .collect()
}
