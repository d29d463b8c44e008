//! A process: one node with its disk, its sockets and its driver's habits, over many runs.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use p2pcore::{
    Event, Id, Identity, Incarnation, Name, NetworkKey, Role, SecretKey, ServerKey, Start, StartError,
    node::{LocalNetwork, SocketId},
};

use super::{Happening, World, clock::Clock, disk::Disk};
use crate::{
    check::{Breach, Run, pace::Pace},
    machine::Machine,
    net::{Addresses, Packet},
    plan::{DiskFate, NodePlan},
    rng::Stream,
};

pub(super) const IPV4: SocketId = SocketId(0);
pub(super) const IPV6: SocketId = SocketId(1);
const SERVER_PORT: u16 = 4_433;
const FIRST_PEER_PORT: u16 = 5_000;

/// What a node told its application, except for messages and their outcomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// When.
    pub at: Duration,
    /// What.
    pub event: Event,
}

pub(super) struct Process {
    pub(super) number: usize,
    pub(super) plan: NodePlan,
    pub(super) identity: Identity,
    pub(super) machine: Option<Box<dyn Machine>>,
    runs: u32,
    pub(super) clock: Clock,
    pub(super) disk: Disk,
    /// The faults that hold it still.
    pub(super) held: BTreeSet<u64>,
    /// What happened to it meanwhile.
    pub(super) missed: Vec<Happening>,
    pub(super) excused_until: Duration,
    pub(super) stopping: bool,
    /// While its outputs are drained, what its application does needs no drain of its own.
    pub(super) draining: bool,
    pub(super) inbox: VecDeque<Packet>,
    pub(super) wake_at: Option<Duration>,
    pub(super) drain_at: Option<Duration>,
    pub(super) pace: Pace,
    /// The driver's own choices.
    pub(super) choices: Stream,
    pub(super) reads_until: Duration,
    pub(super) unhanded: BTreeMap<Id, usize>,
    pub(super) seen: Vec<Seen>,
    pub(super) start_error: Option<StartError>,
}

impl Process {
    const MAX_SEEN: usize = 100_000;

    pub(super) fn new(seed: u64, number: usize, plan: &NodePlan) -> Self {
        Self {
            number,
            plan: plan.clone(),
            identity: identity(seed, plan.server, plan.key),
            machine: None,
            runs: 0,
            clock: Clock::new(plan.clock_ppm),
            disk: Disk::new(seed, number),
            held: BTreeSet::new(),
            missed: Vec::new(),
            excused_until: Duration::ZERO,
            stopping: false,
            draining: false,
            inbox: VecDeque::new(),
            wake_at: None,
            drain_at: None,
            pace: Pace::default(),
            choices: Stream::new(seed, "driver", number as u64),
            reads_until: Duration::ZERO,
            unhanded: BTreeMap::new(),
            seen: Vec::new(),
            start_error: None,
        }
    }

    pub(super) fn id(&self) -> Id {
        self.identity.id()
    }

    /// The current run, if there is one.
    pub(super) fn run(&self) -> Option<Run> {
        self.machine.is_some().then_some(Run { process: self.number, run: self.runs })
    }

    pub(super) fn was_started(&self) -> bool {
        self.runs > 0
    }

    /// A node that is about to go, stands still or did so a moment ago keeps no time.
    pub(super) fn is_excused(&self, now: Duration) -> bool {
        self.stopping || self.stood_still(now)
    }

    fn stood_still(&self, now: Duration) -> bool {
        !self.held.is_empty() || now < self.excused_until
    }

    /// A restarted peer has another port, as it would have in life.
    pub(super) fn port(&self) -> u16 {
        if self.plan.server { SERVER_PORT } else { FIRST_PEER_PORT + (self.runs % 50_000) as u16 }
    }

    pub(super) fn network(&self, addresses: Addresses) -> LocalNetwork {
        let any: [(SocketId, IpAddr); 2] = [(IPV4, Ipv4Addr::UNSPECIFIED.into()), (IPV6, Ipv6Addr::UNSPECIFIED.into())];
        let bound = any.map(|(socket, ip)| (socket, SocketAddr::new(ip, self.port())));
        LocalNetwork { sockets: bound.into(), interfaces: addresses, advertised: Vec::new() }
    }

    pub(super) fn note(&mut self, at: Duration, event: Event) {
        if self.seen.len() < Self::MAX_SEEN {
            self.seen.push(Seen { at, event });
        }
    }

    fn clear(&mut self) {
        self.machine = None;
        self.stopping = false;
        self.missed.clear();
        self.inbox.clear();
        self.wake_at = None;
        self.drain_at = None;
        self.unhanded.clear();
    }
}

/// The identity that follows from a key's number.
pub(super) fn identity(seed: u64, server: bool, key: u64) -> Identity {
    let secret = SecretKey::from_bytes(Stream::new(seed, "identity", key).bytes32());
    Identity::new(if server { Role::Server } else { Role::Peer }, secret)
}

impl World {
    /// Starts the process unless it runs.
    pub(super) fn start(&mut self, number: usize) {
        if self.processes[number].machine.is_some() {
            return;
        }
        let seed = self.plan.seed;
        let introducers = self.introducers(number);
        let addresses = self.network.addresses(number);
        let now = self.instant(number);
        let process = &mut self.processes[number];
        process.runs += 1;
        let counter = process.disk.next_counter();
        let mut secrets = Stream::new(seed, "start", (number as u64) << 32 | u64::from(process.runs));
        let mut random = [0; 16];
        secrets.fill(&mut random);
        let mut start = Start::new(
            process.identity.clone(),
            NetworkKey::from_bytes(Stream::new(seed, "network key", 0).bytes32()),
            Incarnation { counter, random },
            process.network(addresses),
            secrets.bytes32(),
            now,
        );
        start.name = Name::new(process.plan.name.as_str()).unwrap_or_default();
        start.server_key =
            process.plan.server.then(|| ServerKey::from_bytes(Stream::new(seed, "server key", 0).bytes32()));
        start.introducers = introducers;
        start.found = process.plan.found && !process.disk.was_lost();
        start.expect = process.plan.expect.filter(|_| !process.disk.was_lost());
        start.saved = process.disk.state.clone();
        start.relay_only = process.plan.relay_only;
        let id = process.id();
        self.trace.note(self.now, number, &("start", id, process.runs));
        tracing::info!(target: "sim", "{} starts, run {}", process.plan.name, process.runs);
        match (self.maker)(self.config.clone(), start) {
            Ok(machine) => {
                process.machine = Some(machine);
                process.start_error = None;
                if let Some(run) = process.run() {
                    self.bounds.started(run, id);
                }
                self.touched(number);
            }
            Err(error) => {
                process.start_error = Some(error.clone());
                self.report(Breach::new("starts", [id], format!("does not start: {error}")));
            }
        }
    }

    /// The process dies at once. The last disk that knows of the newest cluster is kept: without it there would be nothing to
    /// come back to.
    pub(super) fn crash(&mut self, number: usize, fate: DiskFate) {
        let fate = if self.has_last_copy(number) { DiskFate::Kept } else { fate };
        self.ends(number, false, fate);
        if fate == DiskFate::Lost {
            self.processes[number].disk.lose();
        }
    }

    /// The process is gone at once; `goodbye` says whether the others were told.
    pub(super) fn end(&mut self, number: usize, goodbye: bool) {
        self.ends(number, goodbye, DiskFate::Kept);
    }

    fn ends(&mut self, number: usize, goodbye: bool, fate: DiskFate) {
        let Some(run) = self.processes[number].run() else { return };
        self.trace.note(self.now, number, &("end", goodbye));
        tracing::info!(target: "sim", "{} {}", self.processes[number].plan.name, if goodbye { "left" } else { "is dead" });
        self.bounds.ended(run, self.now, goodbye);
        self.consensus.stands_still(run);
        self.ledger.died(run);
        self.requests.died(run);
        self.streams.died(run);
        self.processes[number].clear();
        let disk = &mut self.processes[number].disk;
        // who says goodbye waits for its disk
        if goodbye {
            disk.finish()
        } else {
            disk.crash(fate)
        }
        self.judge_disk(number);
    }

    /// Says goodbye; the process ends when that is said.
    pub(super) fn leave(&mut self, number: usize) {
        if self.is_going(number) {
            self.trace.note(self.now, number, &"stop");
            self.command(number, |machine, now| machine.stop(now));
        }
    }

    /// The node is about to say goodbye. Returns whether that is news.
    pub(super) fn is_going(&mut self, number: usize) -> bool {
        /// A program must have ended by then.
        const GOODBYE: Duration = Duration::from_secs(2);
        let Some(run) = self.processes[number].run() else { return false };
        if std::mem::replace(&mut self.processes[number].stopping, true) {
            return false;
        }
        // what a leaving application has not waited for is its own loss
        self.ledger.died(run);
        self.requests.died(run);
        self.streams.died(run);
        self.schedule.push(self.now + GOODBYE, Happening::GoodbyeOver(run));
        true
    }

    pub(super) fn goodbye_over(&mut self, number: usize) {
        let process = &self.processes[number];
        if !process.stood_still(self.now) {
            self.report(Breach::new("stops_in_time", [process.id()], "not stopped 2 s after the order"));
        }
        self.end(number, false);
    }

    fn introducers(&self, number: usize) -> Vec<SocketAddr> {
        let known = self.processes[number].plan.join.iter().filter_map(|name| self.names.get(name));
        let both = known.flat_map(|server| [false, true].map(|ipv6| self.network.public_address(*server, ipv6)));
        both.flatten().map(|ip| SocketAddr::new(ip, SERVER_PORT)).collect()
    }
}
