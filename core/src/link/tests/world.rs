//! The virtual network: two nodes of one link each, and paths between them with delay, loss, rate and a finite queue.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};

use crate::{
    Config, Id, Identity, NetworkKey, Role, SecretKey,
    link::{Link, LinkEnv, LinkEvent, LinkToken, LostReason},
    noise,
    path::PathKind,
    rng::Rng,
    testing::epoch,
};

/// A path, the same at both ends.
pub(super) type Route = u8;

/// The sides of the link: 0 dials, 1 answers.
pub(super) const DIALLER: usize = 0;
pub(super) const ANSWERER: usize = 1;

const PERIOD: usize = 251;

pub(super) fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[derive(Clone, Debug)]
pub(super) struct Path {
    pub(super) kind: PathKind,
    pub(super) delay: Duration,
    /// Of 1,000.
    pub(super) loss: u64,
    /// Bytes a second.
    pub(super) rate: u64,
    /// Bytes that wait at most; more are dropped.
    pub(super) queue: u64,
    /// The longest datagram that gets through.
    pub(super) mtu: usize,
    /// Whether each direction carries anything, by the sending side.
    pub(super) up: [bool; 2],
    free: [Option<Instant>; 2],
}

impl Path {
    pub(super) fn new(kind: PathKind, delay: Duration) -> Self {
        let rate = 10_000_000_000;
        Self { kind, delay, loss: 0, rate, queue: u64::MAX, mtu: usize::MAX, up: [true; 2], free: [None; 2] }
    }

    pub(super) fn megabits(mut self, megabits: u64, queue: u64) -> Self {
        self.rate = megabits * 125_000;
        self.queue = queue;
        self
    }

    pub(super) fn lossy(mut self, per_mille: u64) -> Self {
        self.loss = per_mille;
        self
    }
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Flight {
    pub(super) at: Instant,
    seq: u64,
    pub(super) to: usize,
    pub(super) route: Route,
    pub(super) ecn: u8,
    pub(super) bytes: Vec<u8>,
}

/// One node with at most one link.
pub(super) struct Side {
    pub(super) env: Arc<LinkEnv>,
    pub(super) id: Id,
    pub(super) link: Option<Link<Route>>,
    pub(super) events: Vec<LinkEvent<Route>>,
    /// Bytes yet to be sent by lane, and how many were written.
    pub(super) bulk: BTreeMap<u8, (u64, u64)>,
    /// Bytes received by lane, all as expected.
    pub(super) received: BTreeMap<u8, u64>,
    /// The longest time between two arrivals, and when the last one was.
    pub(super) longest_stall: Duration,
    pub(super) last_arrival: Option<Instant>,
    seed: u8,
}

impl Side {
    pub(super) fn link(&mut self) -> &mut Link<Route> {
        self.link.as_mut().unwrap()
    }

    pub(super) fn established(&self) -> bool {
        self.events.iter().any(|event| matches!(event, LinkEvent::Established { .. }))
    }

    pub(super) fn lost(&self) -> Option<&LostReason> {
        self.events.iter().find_map(|event| match event {
            LinkEvent::Lost(reason) => Some(reason),
            _ => None,
        })
    }

    pub(super) fn controls(&self) -> Vec<Bytes> {
        let controls = self.events.iter().filter_map(|event| match event {
            LinkEvent::Control(bytes) => Some(bytes.clone()),
            _ => None,
        });
        controls.collect()
    }
}

pub(super) struct World {
    pub(super) now: Instant,
    pub(super) start: Instant,
    pub(super) sides: [Side; 2],
    pub(super) paths: Vec<Path>,
    pub(super) flights: BinaryHeap<Reverse<Flight>>,
    /// Every datagram that was sent, if asked for.
    pub(super) record: Option<Vec<Flight>>,
    pub(super) trace: blake3::Hasher,
    pub(super) max_segments: usize,
    seq: u64,
    rng: Rng,
    pattern: Bytes,
}

pub(super) fn env(seed: u8, config: Config, network_key: u8) -> Arc<LinkEnv> {
    let identity = Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32]));
    let key = NetworkKey::from_bytes([network_key; 32]);
    let handshake = noise::Handshake::new(identity, key, config.ciphers.clone());
    Arc::new(LinkEnv { config: Arc::new(config), handshake: Arc::new(handshake) })
}

impl World {
    pub(super) fn new(seed: u8, paths: Vec<Path>) -> Self {
        Self::with_config(seed, paths, Config::default())
    }

    pub(super) fn with_config(seed: u8, paths: Vec<Path>, config: Config) -> Self {
        let sides = [11, 22].map(|id| {
            let env = env(id, config.clone(), 1);
            Side {
                id: env.handshake.id(),
                env,
                link: None,
                events: Vec::new(),
                bulk: BTreeMap::new(),
                received: BTreeMap::new(),
                longest_stall: Duration::ZERO,
                last_arrival: None,
                seed: seed ^ id,
            }
        });
        let now = epoch();
        Self {
            now,
            start: now,
            sides,
            paths,
            flights: BinaryHeap::new(),
            record: None,
            trace: blake3::Hasher::new(),
            max_segments: 40,
            seq: 0,
            rng: Rng::from_seed([seed; 32]),
            pattern: (0..PERIOD * 400).map(|i| (i % PERIOD) as u8).collect(),
        }
    }

    /// Dials over all paths.
    pub(super) fn dial(&mut self) {
        let routes = self.paths.iter().enumerate().map(|(route, path)| (route as Route, path.kind)).collect();
        let answerer = Some(self.sides[ANSWERER].id);
        self.dial_over(routes, answerer, answerer);
    }

    /// `named` is the Id in the first packet, `expected` the one that must be proven.
    pub(super) fn dial_over(&mut self, routes: Vec<(Route, PathKind)>, named: Option<Id>, expected: Option<Id>) {
        let side = &mut self.sides[DIALLER];
        let first_id = noise::first_id(side.env.handshake.network_key(), self.rng.bytes(), named);
        let token = LinkToken(1000 + u32::from(side.seed));
        let link = Link::dial(&side.env, self.now, token, [side.seed; 32], expected, first_id, routes);
        side.link = Some(link);
    }

    /// Dials and waits until both ends are established.
    pub(super) fn connect(&mut self) {
        self.dial();
        assert!(self.run_until(ms(5_000), |world| world.sides.iter().all(Side::established)), "not established");
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        self.run_until(time, |_| false);
    }

    /// Lets at most `time` pass until `done`; whether it is.
    pub(super) fn run_until(&mut self, time: Duration, done: impl Fn(&Self) -> bool) -> bool {
        let end = self.now + time;
        let mut idle_rounds = 0;
        loop {
            self.drain();
            if done(self) {
                return true;
            }
            let flight = self.flights.peek().map(|Reverse(flight)| flight.at);
            let deadlines = self.sides.iter().filter_map(|side| side.link.as_ref()?.deadline());
            let next = flight.into_iter().chain(deadlines.map(|(at, _)| at)).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                self.now = end;
                return done(self);
            };
            idle_rounds = if next > self.now { 0 } else { idle_rounds + 1 };
            assert!(idle_rounds < 100_000, "spinning on {:?}", self.deadlines());
            self.now = self.now.max(next);
            self.step();
        }
    }

    fn deadlines(&self) -> Vec<Option<(Instant, &'static str)>> {
        self.sides.iter().map(|side| side.link.as_ref()?.deadline()).collect()
    }

    fn step(&mut self) {
        while let Some(Reverse(flight)) = self.flights.peek()
            && flight.at <= self.now
        {
            let Some(Reverse(flight)) = self.flights.pop() else { break };
            self.deliver(flight.to, flight.route, flight.ecn, &flight.bytes);
        }
        for side in &mut self.sides {
            if let Some(link) = &mut side.link
                && link.deadline().is_some_and(|(at, _)| at <= self.now)
            {
                link.handle_timeout(self.now);
            }
        }
    }

    /// As the node's demultiplexer does; returns what `handle_probe` says.
    pub(super) fn deliver(&mut self, to: usize, route: Route, ecn: u8, bytes: &[u8]) -> bool {
        let kind = self.paths[usize::from(route)].kind;
        let side = &mut self.sides[to];
        let data = BytesMut::from(bytes);
        match (&mut side.link, bytes[0] >> 6) {
            (Some(link), 0b10) => return link.handle_probe(self.now, route, kind, bytes),
            (Some(link), 0b01 | 0b11) => {
                link.handle_datagram(self.now, route, kind, ecn, data);
            }
            (None, 0b11) => {
                let (token, seed) = (LinkToken(2000 + u32::from(side.seed)), [side.seed; 32]);
                side.link = Link::accept(&side.env, self.now, token, seed, route, kind, ecn, data);
            }
            _ => {}
        }
        false
    }

    /// Takes all events and sends all that is to be sent.
    pub(super) fn drain(&mut self) {
        for from in [DIALLER, ANSWERER] {
            self.take_events(from);
            self.fill(from);
            let mut buf = Vec::new();
            while let Some(transmit) = {
                buf.clear();
                let (now, segments) = (self.now, self.max_segments);
                self.sides[from].link.as_mut().and_then(|link| link.poll_transmit(now, segments, &mut buf))
            } {
                assert_eq!(transmit.size, buf.len());
                assert!(buf.len() <= 65_535);
                for route in std::iter::once(transmit.route).chain(transmit.double) {
                    for datagram in buf.chunks(transmit.segment_size.unwrap_or(buf.len())) {
                        self.send(from, route, transmit.ecn, datagram);
                    }
                }
            }
        }
    }

    pub(super) fn send(&mut self, from: usize, route: Route, ecn: u8, bytes: &[u8]) {
        self.seq += 1;
        self.trace.update(&(self.now - self.start).as_nanos().to_le_bytes()).update(&[from as u8, route]).update(bytes);
        let lost = self.rng.below(1000);
        let path = &mut self.paths[usize::from(route)];
        let free = path.free[from].unwrap_or(self.now).max(self.now);
        let waiting = (free - self.now).as_secs_f64() * path.rate as f64;
        let full = waiting + bytes.len() as f64 > path.queue as f64;
        let mut flight = Flight { at: self.now, seq: self.seq, to: 1 - from, route, ecn, bytes: bytes.to_vec() };
        if let Some(record) = &mut self.record {
            record.push(flight.clone());
        }
        if !path.up[from] || lost < path.loss || full || bytes.len() > path.mtu {
            return;
        }
        let free = free + Duration::from_secs_f64(bytes.len() as f64 / path.rate as f64);
        path.free[from] = Some(free);
        flight.at = free + path.delay;
        self.flights.push(Reverse(flight));
    }

    fn take_events(&mut self, of: usize) {
        let side = &mut self.sides[of];
        while let Some(event) = side.link.as_mut().and_then(Link::poll) {
            if let LinkEvent::LaneReadable(lane) = event {
                while let Some(bytes) = side.link().read_lane(self.now, lane, usize::MAX) {
                    let offset = side.received.entry(lane).or_default();
                    let expected = &self.pattern[*offset as usize % PERIOD..][..bytes.len()];
                    assert!(bytes == expected, "lane {lane} has other bytes than were sent");
                    *offset += bytes.len() as u64;
                    if let Some(last) = side.last_arrival.replace(self.now) {
                        side.longest_stall = side.longest_stall.max(self.now - last);
                    }
                }
            } else if !matches!(event, LinkEvent::LaneWritable(_)) {
                side.events.push(event);
            }
        }
    }

    /// Writes to the lanes as much as fits.
    fn fill(&mut self, of: usize) {
        let side = &mut self.sides[of];
        let Some(link) = side.link.as_mut().filter(|link| link.is_established()) else { return };
        for (lane, (left, written)) in &mut side.bulk {
            while *left > 0 {
                let len = (*left).min(65_536) as usize;
                let start = *written as usize % PERIOD;
                let rest = link.write_lane(self.now, *lane, self.pattern.slice(start..start + len));
                let taken = len - rest.as_ref().map_or(0, Bytes::len);
                *left -= taken as u64;
                *written += taken as u64;
                if rest.is_some() {
                    break;
                }
            }
        }
    }

    pub(super) fn received(&self, of: usize) -> u64 {
        self.sides[of].received.values().sum()
    }
}
