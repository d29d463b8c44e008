//! From options to a running node.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use p2pcore::{Incarnation, Node, Start, StartError, master, node::LocalNetwork};

use crate::{
    NodeHandle, Options, Runtime, StartFailure, StateError,
    clocks::{Clocks, ReadClocks},
    command::MAX_COMMANDS,
    cpu,
    drive::{Desk, Driver, Machine, Parts},
    events::Hub,
    flow::Flow,
    handle::Shared,
    interfaces,
    keeper::Orders,
    keys,
    office::Office,
    sockets::{self, Socket},
    state::StateDir,
    tray::{Shelf, Tray},
};

/// Starts nodes.
#[derive(Debug)]
pub struct Endpoint;

impl Endpoint {
    /// Binds the sockets, opens the state, and spawns the task that owns the node. Blocks for a few disk writes.
    ///
    /// # Errors
    /// What [`StartFailure`] lists; nothing runs then.
    pub fn start(runtime: Arc<dyn Runtime>, mut options: Options) -> Result<NodeHandle, StartFailure> {
        cpu::order(&mut options.config.ciphers);
        let id = options.identity.id();
        let wall_time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let state = match &options.state {
            Some(path) => Some(StateDir::open(path, id)?),
            None => None,
        };
        let saved = match &state {
            Some(state) => state.load()?,
            None => None,
        };
        let sockets = sockets::bind(&*runtime, &options.listen)?;
        let network = LocalNetwork {
            sockets: sockets.iter().map(|socket| (socket.id, socket.local)).collect(),
            interfaces: interfaces::list()
                .map_err(|source| StartFailure::System { what: "list the interfaces", source })?,
            advertised: options.advertise.clone(),
        };
        let counter = match &state {
            Some(state) => state.next_incarnation(wall_time.as_secs())?,
            None => wall_time.as_secs(),
        };
        let mut start = Start::new(
            options.identity.clone(),
            options.network_key.clone(),
            Incarnation { counter, random: random()? },
            network.clone(),
            random()?,
            Instant::now(),
        );
        start.name = options.name.clone();
        start.server_key = options.server_key.clone();
        start.introducers = options.join.clone();
        start.found = options.found;
        start.expect = options.expect;
        start.saved = saved;
        start.relay_only = options.relay_only;
        let node = Node::new(options.config.clone(), start).map_err(|error| match (error, &state) {
            (StartError::BadState(why), Some(state)) => state.unreadable(why).into(),
            (StartError::Master(master::StartError::State(why)), Some(state)) => state.unreadable(why).into(),
            (StartError::Master(master::StartError::RosterBeyondLog(entry)), Some(state)) => {
                state.unreadable(format_args!("its roster is of entry {entry}, beyond its log")).into()
            }
            (error, _) => StartFailure::Node(error),
        })?;
        launch(&*runtime, node, options, sockets, state, network, Arc::new(Clocks::now))
    }
}

fn random<const N: usize>() -> Result<[u8; N], StartFailure> {
    keys::random().map_err(|error| match error {
        StateError::Entropy(why) => StartFailure::Entropy(why),
        other => other.into(),
    })
}

/// Ties a machine to its sockets, its disk and its handle.
pub(crate) fn launch(
    runtime: &dyn Runtime,
    machine: impl Machine,
    options: Options,
    sockets: Vec<Socket>,
    state: Option<StateDir>,
    network: LocalNetwork,
    clocks: ReadClocks,
) -> Result<NodeHandle, StartFailure> {
    let commands = Arc::new(Tray::new(MAX_COMMANDS));
    // bounded by what the node hands out: messages not taken yet, streams, orders to the disk
    let notices = Arc::new(Tray::new(usize::MAX));
    let inbound = Arc::new(Shelf::new());
    let (accepted, streams) = async_channel::unbounded();
    let datagrams = Arc::new(Shelf::new());
    let (end, ended) = async_channel::bounded(1);
    let listen = network.sockets.iter().map(|(_, address)| *address).collect();
    let orders = Orders::start(state, notices.clone(), end)
        .and_then(|orders| interfaces::watch(network, &notices).map(|()| orders))
        .map_err(|source| StartFailure::System { what: "start a thread", source })?;
    let hub = Arc::new(Hub::default());
    let flow = Arc::new(Flow::new(&options.config));
    let office = Office::new(clocks.clone());
    let shared = Shared {
        id: options.identity.id(),
        name: options.name,
        listen,
        config: options.config,
        commands: commands.clone(),
        notices: notices.clone(),
        inbound: inbound.clone(),
        datagrams: datagrams.clone(),
        streams,
        hub: hub.clone(),
        flow: flow.clone(),
        office: office.clone(),
        ended,
    };
    let driver = Driver::new(Parts {
        machine,
        sockets,
        clocks,
        timer: runtime.timer(Instant::now()),
        filter: options.filter,
        commands,
        notices: notices.clone(),
        orders,
        desk: Desk::new(flow, hub, office, inbound, datagrams, accepted, notices),
    });
    runtime.spawn(Box::pin(driver));
    Ok(NodeHandle(Arc::new(shared)))
}
