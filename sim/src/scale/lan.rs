//! A plain network of whole nodes: each datagram takes one to two milliseconds, and none is lost.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Config, Event, Identity, Incarnation, Input, Name, NetworkKey, Node, Output, Role, SecretKey, ServerKey, Start,
    node::{Datagram, LocalNetwork, Outcome, SendOptions, SocketId},
};

use super::{FRIENDS, Heap};
use crate::{rng::Stream, schedule::Schedule};

const PORT: u16 = 7_000;
const DELAY: Duration = Duration::from_millis(1);
/// The counter of nodes that is added up.
const TABLE_BYTES: &str = "table bytes sent";

/// The network and its nodes, servers first.
pub(super) struct Lan {
    epoch: Instant,
    now: Duration,
    schedule: Schedule<Happening>,
    hosts: Vec<Host>,
    servers: usize,
    heap: Heap,
    rng: Stream,
    buffer: Vec<u8>,
    steps: u64,
    table_bytes_of_the_dead: u64,
    unlinked: usize,
    sent: u64,
    delivered: u64,
    failed: u64,
    open: u64,
}

enum Happening {
    Arrive { from: usize, to: usize, data: Vec<u8> },
    Wake(usize),
    Talk { from: usize, every: Duration },
    Stopped(usize, u64),
    Start(usize),
}

struct Host {
    address: SocketAddr,
    identity: Identity,
    node: Option<Node>,
    saved: Option<Bytes>,
    runs: u64,
    wake_at: Option<Duration>,
    /// What its node has on the heap.
    heap: i64,
    linked_servers: usize,
    friends: Vec<usize>,
    /// Messages of this run without an outcome.
    open: u64,
}

impl Lan {
    pub(super) fn new(heap: Heap) -> Self {
        Self {
            epoch: Instant::now(),
            now: Duration::ZERO,
            schedule: Schedule::default(),
            hosts: Vec::new(),
            servers: 0,
            heap,
            rng: Stream::new(1, "scale", 0),
            buffer: Vec::with_capacity(128 * 1_024),
            steps: 0,
            table_bytes_of_the_dead: 0,
            unlinked: 0,
            sent: 0,
            delivered: 0,
            failed: 0,
            open: 0,
        }
    }

    pub(super) fn now(&self) -> Duration {
        self.now
    }

    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Messages without an outcome.
    pub(super) fn open(&self) -> u64 {
        self.open
    }

    /// Messages sent, delivered, and failed or expired.
    pub(super) fn outcomes(&self) -> [u64; 3] {
        [self.sent, self.delivered, self.failed]
    }

    /// Starts the servers and waits until they are one cluster.
    pub(super) fn start_servers(&mut self, count: usize) {
        self.servers = count;
        for _ in 0..count {
            let host = self.add(Role::Server);
            self.start(host);
        }
        self.run_for(Duration::from_secs(15));
    }

    /// Starts all peers at once; each knows one server.
    pub(super) fn start_peers(&mut self, count: usize) {
        let first = self.hosts.len();
        for _ in 0..count {
            self.add(Role::Peer);
        }
        self.unlinked = count;
        for host in first..first + count {
            while self.hosts[host].friends.len() < FRIENDS.min(count - 1) {
                let friend = first + self.rng.below(count as u64) as usize;
                if friend != host && !self.hosts[host].friends.contains(&friend) {
                    self.hosts[host].friends.push(friend);
                }
            }
            self.schedule.push(self.now, Happening::Start(host));
        }
    }

    /// Whether each peer is linked to every server.
    pub(super) fn all_are_linked(&self) -> bool {
        self.unlinked == 0
    }

    /// Each peer sends a message to each of its friends.
    pub(super) fn greet_friends(&mut self) {
        for host in self.servers..self.hosts.len() {
            for friend in self.hosts[host].friends.clone() {
                self.send(host, friend);
            }
        }
    }

    /// From now on each peer says something to one of its friends every so often.
    pub(super) fn talk(&mut self, every: Duration) {
        for from in self.servers..self.hosts.len() {
            let at = self.now + every.mul_f64(self.rng.below(1_000) as f64 / 1_000.0);
            self.schedule.push(at, Happening::Talk { from, every });
        }
    }

    /// For `time`, a peer leaves after each `pause`, half of them without goodbye, and returns after `away`.
    pub(super) fn churn(&mut self, time: Duration, pause: Duration, away: Duration) {
        let peers = (self.hosts.len() - self.servers) as u64;
        let end = self.now + time;
        while self.now + pause <= end {
            self.run_for(pause);
            let host = self.servers + self.rng.below(peers) as usize;
            if self.hosts[host].node.is_none() {
                continue;
            }
            if self.rng.chance(500_000) {
                let run = self.hosts[host].runs;
                self.step(host, |node, now| node.stop(now));
                self.schedule.push(self.now + Duration::from_secs(2), Happening::Stopped(host, run));
            } else {
                self.end(host);
            }
            self.schedule.push(self.now + away, Happening::Start(host));
        }
        self.run_for(end.saturating_sub(self.now));
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(self.now + time);
    }

    /// Runs while `waits` holds, at most for `time`. Returns when it ended.
    pub(super) fn run_while(&mut self, time: Duration, waits: impl Fn(&Self) -> bool) -> Duration {
        let end = self.now + time;
        while waits(self) && self.now < end {
            self.run_until(self.now + Duration::from_millis(10));
        }
        self.now
    }

    /// What all servers have on the heap.
    pub(super) fn heap_of_servers(&self) -> i64 {
        self.hosts.iter().take(self.servers).map(|host| host.heap).sum()
    }

    /// What all peers have on the heap.
    pub(super) fn heap_of_peers(&self) -> i64 {
        self.hosts.iter().skip(self.servers).map(|host| host.heap).sum()
    }

    /// Links that peers say they have to other peers.
    pub(super) fn links_between_peers(&self) -> usize {
        let nodes = self.hosts.iter().skip(self.servers).filter_map(|host| host.node.as_ref());
        nodes.map(|node| node.status().peers.iter().filter(|peer| peer.linked).count()).sum()
    }

    /// Bytes of control messages for the tables that all nodes have sent.
    pub(super) fn table_bytes(&self) -> u64 {
        let nodes = self.hosts.iter().filter_map(|host| host.node.as_ref());
        self.table_bytes_of_the_dead + nodes.map(table_bytes_of).sum::<u64>()
    }

    fn run_until(&mut self, until: Duration) {
        while let Some((at, happening)) = self.schedule.pop_until(until) {
            self.now = self.now.max(at);
            self.happen(happening);
        }
        self.now = self.now.max(until);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Arrive { from, to, data } => {
                let remote = self.hosts[from].address;
                self.step(to, |node, now| {
                    let data = BytesMut::from(&data[..]);
                    let segment_size = data.len();
                    let datagram = Datagram { socket: SocketId(0), remote, local_ip: None, ecn: 0, data, segment_size };
                    node.handle(now, Input::Datagram(datagram));
                });
            }
            Happening::Wake(host) => {
                if self.hosts[host].wake_at == Some(self.now) {
                    self.hosts[host].wake_at = None;
                    self.step(host, |node, now| node.handle(now, Input::Timeout));
                }
            }
            Happening::Talk { from, every } => {
                let friends = self.hosts[from].friends.len() as u64;
                let friend = self.hosts[from].friends[self.rng.below(friends) as usize];
                self.send(from, friend);
                self.schedule.push(self.now + every, Happening::Talk { from, every });
            }
            Happening::Stopped(host, run) if self.hosts[host].runs == run => self.end(host),
            Happening::Stopped(..) => {}
            Happening::Start(host) => {
                self.start(host);
                if self.sent > 0 {
                    for friend in self.hosts[host].friends.clone() {
                        self.send(host, friend);
                    }
                }
            }
        }
    }

    fn send(&mut self, from: usize, to: usize) {
        let id = self.hosts[to].identity.id();
        let data = Bytes::from_static(&[7; 100]);
        if self.hosts[from].node.is_none() {
            return;
        }
        // an outcome may come at once
        self.hosts[from].open += 1;
        (self.sent, self.open) = (self.sent + 1, self.open + 1);
        let mut accepted = false;
        self.step(from, |node, now| accepted = node.send(now, &[id], data, SendOptions::default()).is_ok());
        if !accepted {
            self.hosts[from].open -= 1;
            (self.sent, self.open) = (self.sent - 1, self.open - 1);
        }
    }

    fn add(&mut self, role: Role) -> usize {
        let number = self.hosts.len();
        let secret = blake3::hash(&(number as u64).to_le_bytes()).into();
        let host = number as u32;
        // at most 200 to a /24, as if behind many gateways
        let ip = Ipv4Addr::from(0x0b00_0000 | (host / 200) << 8 | (host % 200 + 1));
        self.hosts.push(Host {
            address: SocketAddr::from((ip, PORT)),
            identity: Identity::new(role, SecretKey::from_bytes(secret)),
            node: None,
            saved: None,
            runs: 0,
            wake_at: None,
            heap: 0,
            linked_servers: 0,
            friends: Vec::new(),
            open: 0,
        });
        number
    }

    fn start(&mut self, number: usize) {
        self.end(number);
        let server = number < self.servers;
        let introducer = if server { 0 } else { number % self.servers };
        let introducers = if number == 0 { Vec::new() } else { vec![self.hosts[introducer].address] };
        let seed = blake3::hash(&[number as u64, self.hosts[number].runs].map(u64::to_le_bytes).concat()).into();
        let now = self.epoch + self.now;
        let host = &mut self.hosts[number];
        host.runs += 1;
        let mut start = Start::new(
            host.identity.clone(),
            NetworkKey::from_bytes([1; 32]),
            Incarnation { counter: host.runs, random: [0; 16] },
            LocalNetwork {
                sockets: vec![(SocketId(0), host.address)],
                interfaces: vec![host.address.ip()],
                advertised: Vec::new(),
            },
            seed,
            now,
        );
        start.name = Name::new(format!("n{number}")).unwrap_or_default();
        start.server_key = server.then(|| ServerKey::from_bytes([2; 32]));
        start.introducers = introducers;
        start.found = number == 0;
        start.saved = host.saved.clone();
        let before = (self.heap)();
        let mut config = Config::default();
        config.full_mesh_peers = 0;
        let node = Node::new(config, start).unwrap_or_else(|error| panic!("node {number} does not start: {error}"));
        host.heap = difference(before, (self.heap)());
        host.node = Some(node);
        self.step(number, |_, _| {});
    }

    fn end(&mut self, number: usize) {
        let host = &mut self.hosts[number];
        let Some(node) = host.node.take() else { return };
        self.table_bytes_of_the_dead += table_bytes_of(&node);
        host.heap = 0;
        host.wake_at = None;
        // what it had not finished is nobody's failure
        self.sent -= host.open;
        self.open -= host.open;
        host.open = 0;
        if number >= self.servers && std::mem::take(&mut host.linked_servers) == self.servers {
            self.unlinked += 1;
        }
    }

    /// Has a node do something, and carries out what it wants then.
    fn step(&mut self, number: usize, act: impl FnOnce(&mut Node, Instant)) {
        let now = self.epoch + self.now;
        let Some(mut node) = self.hosts[number].node.take() else { return };
        self.steps += 1;
        let mut grown = 0;
        let before = (self.heap)();
        act(&mut node, now);
        grown += difference(before, (self.heap)());
        loop {
            let before = (self.heap)();
            let output = node.poll();
            let has_output = output.is_some();
            if let Some(output) = output {
                self.output(number, &mut node, now, output);
            }
            grown += difference(before, (self.heap)());
            if has_output {
                continue;
            }
            self.buffer.clear();
            let before = (self.heap)();
            let transmit = node.poll_transmit(now, &mut self.buffer);
            grown += difference(before, (self.heap)());
            let Some(transmit) = transmit else { break };
            self.transmit(number, transmit.destination, transmit.segment_size.unwrap_or(transmit.size));
        }
        let deadline = node.deadline();
        let host = &mut self.hosts[number];
        host.heap += grown;
        host.node = Some(node);
        if let Some(deadline) = deadline {
            let at = deadline.at.saturating_duration_since(self.epoch).max(self.now);
            if host.wake_at.is_none_or(|earlier| at < earlier) {
                host.wake_at = Some(at);
                self.schedule.push(at, Happening::Wake(number));
            }
        }
    }

    fn transmit(&mut self, from: usize, destination: SocketAddr, segment_size: usize) {
        let SocketAddr::V4(destination) = destination else { return };
        let ip = u32::from(*destination.ip());
        let to = ((ip >> 8 & 0xffff) * 200 + (ip & 0xff)).wrapping_sub(1) as usize;
        if to >= self.hosts.len() {
            return;
        }
        for data in self.buffer.chunks(segment_size.max(1)) {
            let at = self.now + DELAY + Duration::from_micros(self.rng.below(1_000));
            self.schedule.push(at, Happening::Arrive { from, to, data: data.to_vec() });
        }
    }

    fn output(&mut self, number: usize, node: &mut Node, now: Instant, output: Output) {
        let (servers, host) = (self.servers, &mut self.hosts[number]);
        match output {
            Output::Persist(persist) => {
                host.saved = Some(persist.state);
                node.handle(now, Input::Persisted(persist.id));
            }
            Output::Event(Event::ServerUp { .. }) if number >= servers => {
                host.linked_servers += 1;
                self.unlinked -= usize::from(host.linked_servers == servers);
            }
            Output::Event(Event::ServerDown { .. }) if number >= servers => {
                self.unlinked += usize::from(host.linked_servers == servers);
                host.linked_servers -= 1;
            }
            Output::Event(Event::Messages { receipt, .. }) => node.handed(now, receipt),
            Output::Event(Event::Outcome { sends, outcome, .. }) => {
                match outcome {
                    Outcome::Delivered => self.delivered += sends.count,
                    Outcome::Failed(_) | Outcome::Expired => self.failed += sends.count,
                }
                host.open -= sends.count;
                self.open -= sends.count;
            }
            Output::Event(_) => {}
        }
    }
}

fn table_bytes_of(node: &Node) -> u64 {
    node.counters().get(TABLE_BYTES).copied().unwrap_or(0)
}

fn difference(before: u64, after: u64) -> i64 {
    after.wrapping_sub(before) as i64
}
