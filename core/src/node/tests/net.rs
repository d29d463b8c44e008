//! A small network in memory: every datagram takes 5 ms, and nothing goes wrong by itself.

use std::{
    collections::{BTreeSet, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use super::super::*;
use crate::{NetworkKey, Role, SecretKey, ServerKey, testing::epoch};

const DELAY: Duration = Duration::from_millis(5);

pub(super) struct Net {
    /// Of the nodes that start from now on.
    pub(super) config: Config,
    pub(super) now: Instant,
    /// From node to node; set it before anything is sent.
    pub(super) delay: Duration,
    pub(super) nodes: Vec<Host>,
    pub(super) flying: VecDeque<(Instant, SocketAddr, SocketAddr, Vec<u8>)>,
    /// Pairs of addresses between which nothing passes.
    pub(super) cut: BTreeSet<(SocketAddr, SocketAddr)>,
}

pub(super) struct Host {
    pub(super) address: SocketAddr,
    pub(super) node: Option<Node>,
    pub(super) events: Vec<Event>,
    pub(super) saved: Option<Bytes>,
    pub(super) start: Start,
    pub(super) takes: bool,
    /// The disk answers.
    pub(super) persists: bool,
}

pub(super) fn address(index: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, u8::try_from(index).unwrap() + 1], 7000))
}

impl Net {
    pub(super) fn new() -> Self {
        Self {
            config: Config::default(),
            now: epoch(),
            nodes: Vec::new(),
            flying: VecDeque::new(),
            delay: DELAY,
            cut: BTreeSet::new(),
        }
    }

    pub(super) fn add(&mut self, role: Role, change: impl FnOnce(&mut Start)) -> usize {
        let index = self.nodes.len();
        let seed = u8::try_from(index).unwrap() + 1;
        let own = address(index);
        let mut start = Start {
            identity: Identity::new(role, SecretKey::from_bytes([seed; 32])),
            name: Name::new(format!("{role}{index}")).unwrap(),
            network_key: NetworkKey::from_bytes([1; 32]),
            server_key: (role == Role::Server).then(|| ServerKey::from_bytes([2; 32])),
            incarnation: Incarnation { counter: 1, random: [seed; 16] },
            introducers: Vec::new(),
            found: false,
            expect: None,
            saved: None,
            network: LocalNetwork {
                sockets: vec![(SocketId(0), own)],
                interfaces: vec![own.ip()],
                advertised: Vec::new(),
            },
            relay_only: false,
            seed: [seed; 32],
            now: self.now,
        };
        change(&mut start);
        let node = Node::new(self.config.clone(), start.clone()).unwrap();
        self.nodes.push(Host {
            address: own,
            node: Some(node),
            events: Vec::new(),
            saved: None,
            start,
            takes: true,
            persists: true,
        });
        index
    }

    /// A founder, and `servers` - 1 more that join it, and `peers` that join it too.
    pub(super) fn cluster(servers: usize, peers: usize) -> Self {
        Self::cluster_with(Config::default(), servers, peers)
    }

    /// The same, all with these settings.
    pub(super) fn cluster_with(config: Config, servers: usize, peers: usize) -> Self {
        let mut net = Self { config, ..Self::new() };
        for index in 0..servers {
            net.add(Role::Server, |start| match index {
                0 => start.found = true,
                _ => start.introducers = vec![address(0)],
            });
        }
        for _ in 0..peers {
            net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
        }
        net
    }

    pub(super) fn id(&self, index: usize) -> Id {
        self.nodes[index].start.identity.id()
    }

    pub(super) fn node(&mut self, index: usize) -> &mut Node {
        self.nodes[index].node.as_mut().unwrap()
    }

    pub(super) fn kill(&mut self, index: usize) {
        self.nodes[index].node = None;
    }

    pub(super) fn restart(&mut self, index: usize, with_disk: bool) {
        let now = self.now;
        let host = &mut self.nodes[index];
        host.start.now = now;
        host.start.incarnation.counter += 1;
        host.start.incarnation.random[0] ^= 0x55;
        host.start.seed[0] ^= 0x55;
        host.start.saved = host.saved.clone().filter(|_| with_disk);
        host.node = Some(Node::new(self.config.clone(), host.start.clone()).unwrap());
    }

    pub(super) fn run(&mut self, time: Duration) {
        let end = self.now + time;
        let mut idle_rounds = 0;
        while self.now < end {
            self.exchange();
            let deadlines = self.nodes.iter().filter_map(|host| host.node.as_ref()?.deadline()).map(|d| d.at);
            let next = deadlines.chain(self.flying.front().map(|(at, ..)| *at)).min().unwrap_or(end).min(end);
            idle_rounds = if next <= self.now { idle_rounds + 1 } else { 0 };
            assert!(idle_rounds < 1000, "a node spins");
            self.now = self.now.max(next);
            let now = self.now;
            while self.flying.front().is_some_and(|(at, ..)| *at <= now) {
                let (_, from, to, data) = self.flying.pop_front().unwrap();
                self.deliver(from, to, &data);
            }
            for host in &mut self.nodes {
                if let Some(node) = &mut host.node
                    && node.deadline().is_some_and(|deadline| deadline.at <= now)
                {
                    node.handle(now, Input::Timeout);
                }
            }
        }
        self.exchange();
    }

    pub(super) fn deliver(&mut self, from: SocketAddr, to: SocketAddr, data: &[u8]) {
        let now = self.now;
        if self.cut.contains(&(from, to)) || self.cut.contains(&(to, from)) {
            return;
        }
        if let Some(node) = self.nodes.iter_mut().find(|host| host.address == to).and_then(|host| host.node.as_mut()) {
            let data = BytesMut::from(data);
            let segment_size = data.len();
            let datagram = Datagram { socket: SocketId(0), remote: from, local_ip: None, ecn: 0, data, segment_size };
            node.handle(now, Input::Datagram(datagram));
        }
    }

    pub(super) fn exchange(&mut self) {
        let now = self.now;
        for host in &mut self.nodes {
            let Some(node) = &mut host.node else { continue };
            while let Some(output) = node.poll() {
                match output {
                    Output::Persist(persist) => {
                        if host.persists {
                            host.saved = Some(persist.state);
                            node.handle(now, Input::Persisted(persist.id));
                        }
                    }
                    Output::Event(event) => {
                        if host.takes
                            && let Event::Messages { receipt, .. } | Event::Request { receipt, .. } = &event
                        {
                            node.handed(now, *receipt);
                        }
                        host.events.push(event);
                    }
                }
            }
            let mut buf = Vec::new();
            while let Some(transmit) = node.poll_transmit(now, &mut buf) {
                let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
                for datagram in buf.chunks(size) {
                    self.flying.push_back((now + self.delay, host.address, transmit.destination, datagram.to_vec()));
                }
                buf.clear();
            }
        }
    }

    pub(super) fn take_events(&mut self, index: usize) -> Vec<Event> {
        std::mem::take(&mut self.nodes[index].events)
    }

    pub(super) fn messages(&mut self, index: usize) -> Vec<Bytes> {
        let events = self.take_events(index).into_iter();
        events.flat_map(|event| if let Event::Messages { data, .. } = event { data } else { Vec::new() }).collect()
    }

    pub(super) fn outcomes(&mut self, index: usize) -> Vec<Outcome> {
        let events = self.take_events(index).into_iter();
        let outcomes = |event| {
            if let Event::Outcome { sends, outcome, .. } = event {
                (sends.count, outcome)
            } else {
                (0, Outcome::Expired)
            }
        };
        events.map(outcomes).flat_map(|(count, outcome)| (0..count).map(move |_| outcome)).collect()
    }

    pub(super) fn send(&mut self, from: usize, to: usize, text: &str) {
        let (now, id) = (self.now, self.id(to));
        self.node(from).send(now, &[id], Bytes::copy_from_slice(text.as_bytes()), SendOptions::default()).unwrap();
    }
}

pub(super) fn secs(secs: u64) -> Duration {
    Duration::from_secs(secs)
}
