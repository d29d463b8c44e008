//! The test world: two ends, links with delay, loss, size limit and one-way death, and a stream of data with receipts.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    Config,
    path::{PathEvent, PathKind, PathSet, ProbeKeys, candidate::Candidate},
    rng::Rng,
    testing::epoch,
};

pub(super) type Route = u8;

pub(super) const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The two sides' keys.
pub(super) fn keys() -> [ProbeKeys; 2] {
    let (there, back, near, far) = ([1; 32], [2; 32], [3; 8], [4; 8]);
    [
        ProbeKeys { send: there, receive: back, send_token: far, receive_token: near },
        ProbeKeys { send: back, receive: there, send_token: near, receive_token: far },
    ]
}

/// One direction of a link.
#[derive(Clone, Debug)]
pub(super) struct Way {
    pub(super) up: bool,
    pub(super) delay: Duration,
    pub(super) loss_percent: u64,
    pub(super) mtu: usize,
}

#[derive(Clone, Debug)]
pub(super) struct Wire {
    pub(super) kind: PathKind,
    /// From end 0 and from end 1.
    pub(super) ways: [Way; 2],
    /// The route by which each end knows it.
    pub(super) names: [Route; 2],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Packet {
    Probe(Vec<u8>),
    Data { number: u64 },
    Ack { number: u64 },
}

const DATA_SIZE: usize = 1_200;
const ACK_SIZE: usize = 60;

pub(super) struct End {
    pub(super) set: PathSet<Route>,
    pub(super) events: Vec<(Duration, PathEvent<Route>)>,
    /// Probes sent: when, where, how many bytes.
    pub(super) probes: Vec<(Duration, Route, Vec<u8>)>,
    /// When data arrived that had not arrived before.
    pub(super) arrivals: Vec<Duration>,
    /// One data packet each so often, with in-flight accounting.
    pub(super) sends_every: Option<Duration>,
    /// Handles nothing; what arrives waits.
    pub(super) paused: bool,
    waiting: Vec<(Route, PathKind, Packet)>,
    next_data: Option<Instant>,
    next_number: u64,
    unacknowledged: BTreeSet<u64>,
    received: BTreeSet<u64>,
    acknowledged: BTreeSet<u64>,
}

impl End {
    fn new(config: &Config, now: Instant) -> Self {
        Self {
            set: PathSet::new(config, now),
            events: Vec::new(),
            probes: Vec::new(),
            arrivals: Vec::new(),
            sends_every: None,
            paused: false,
            waiting: Vec::new(),
            next_data: None,
            next_number: 0,
            unacknowledged: BTreeSet::new(),
            received: BTreeSet::new(),
            acknowledged: BTreeSet::new(),
        }
    }

    pub(super) fn best(&self) -> Route {
        self.set.active().unwrap().route
    }

    pub(super) fn is_dead(&self) -> bool {
        self.events.iter().any(|(_, event)| *event == PathEvent::Dead)
    }

    pub(super) fn switches(&self) -> usize {
        self.events.iter().filter(|(_, event)| matches!(event, PathEvent::Switched { .. })).count()
    }

    pub(super) fn candidate(&self, route: Route) -> &Candidate<Route> {
        self.set.candidate(&route).unwrap()
    }
}

pub(super) struct World {
    pub(super) start: Instant,
    pub(super) now: Instant,
    pub(super) ends: [End; 2],
    pub(super) wires: BTreeMap<Route, Wire>,
    queue: BTreeMap<(Instant, u64), (usize, Route, Packet)>,
    sequence: u64,
    rng: Rng,
}

impl World {
    /// Both ends know the routes of `links` (number, kind, delay of each direction in ms), and are established on the first.
    pub(super) fn new(links: &[(Route, PathKind, u64)]) -> Self {
        Self::with_config(&Config::default(), links)
    }

    pub(super) fn with_config(config: &Config, links: &[(Route, PathKind, u64)]) -> Self {
        let start = epoch();
        let ends = [(); 2].map(|()| End::new(config, start));
        let wires = BTreeMap::new();
        let rng = Rng::from_seed([7; 32]);
        let mut world = Self { start, now: start, ends, wires, queue: BTreeMap::new(), sequence: 0, rng };
        for &(route, kind, delay) in links {
            world.wire(route, kind, delay);
            for end in &mut world.ends {
                end.set.add_candidate(start, route, kind);
            }
        }
        for (end, keys) in world.ends.iter_mut().zip(keys()) {
            end.set.establish(start, keys, links[0].0);
        }
        world.pump();
        world
    }

    /// A link that nobody knows yet.
    pub(super) fn wire(&mut self, route: Route, kind: PathKind, delay: u64) {
        let way = Way { up: true, delay: ms(delay), loss_percent: 0, mtu: 1_500 };
        self.wires.insert(route, Wire { kind, ways: [way.clone(), way], names: [route; 2] });
    }

    pub(super) fn add(&mut self, route: Route, kind: PathKind, delay: u64) {
        self.wire(route, kind, delay);
        for end in &mut self.ends {
            end.set.add_candidate(self.now, route, kind);
        }
        self.pump();
    }

    pub(super) fn set_up(&mut self, route: Route, up: [bool; 2]) {
        let wire = self.wires.get_mut(&route).unwrap();
        wire.ways[0].up = up[0];
        wire.ways[1].up = up[1];
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    pub(super) fn run(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(next) = self.next().filter(|at| *at <= until) {
            assert!(next >= self.now, "time runs backwards");
            self.now = next;
            self.step();
        }
        self.now = until;
    }

    fn next(&self) -> Option<Instant> {
        let packets = self.queue.first_key_value().map(|((at, _), _)| *at);
        let awake = || self.ends.iter().filter(|end| !end.paused);
        let timers = awake().filter_map(|end| end.set.deadline()).map(|at| at.max(self.now)).min();
        let data = awake().filter_map(|end| end.next_data).map(|at| at.max(self.now)).min();
        [packets, timers, data].into_iter().flatten().min()
    }

    fn step(&mut self) {
        while let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= self.now) {
            let (to, route, packet) = entry.remove();
            let wire = &self.wires[&route];
            let (name, kind) = (wire.names[to], wire.kind);
            if self.ends[to].paused {
                self.ends[to].waiting.push((name, kind, packet));
            } else {
                self.receive(to, name, kind, packet);
            }
        }
        for index in 0..2 {
            if self.ends[index].paused {
                continue;
            }
            if self.ends[index].next_data.is_some_and(|at| at <= self.now) {
                self.send_data(index);
            }
            self.ends[index].set.handle_timeout(self.now);
        }
        self.pump();
        for end in self.ends.iter().filter(|end| !end.paused) {
            assert!(end.set.deadline().is_none_or(|at| at > self.now), "spins: {:?}", end.set);
        }
    }

    /// Data goes out so often from now on.
    pub(super) fn stream(&mut self, from: usize, every: Option<Duration>) {
        self.ends[from].sends_every = every;
        self.ends[from].next_data = every.map(|_| self.now);
    }

    pub(super) fn resume(&mut self, index: usize) {
        self.ends[index].paused = false;
        self.ends[index].set.handle_timeout(self.now);
        for (route, kind, packet) in std::mem::take(&mut self.ends[index].waiting) {
            self.receive(index, route, kind, packet);
        }
        self.pump();
    }

    fn send_data(&mut self, from: usize) {
        let end = &mut self.ends[from];
        end.next_number += 1;
        let number = end.next_number;
        end.unacknowledged.insert(number);
        end.next_data = end.sends_every.map(|every| self.now + every);
        self.send_on_best(from, Packet::Data { number }, DATA_SIZE);
        self.ends[from].set.set_in_flight(self.now, true);
    }

    fn send_on_best(&mut self, from: usize, packet: Packet, size: usize) {
        let routes = self.ends[from].set.routes(self.now).unwrap();
        for route in [Some(routes.best), routes.double].into_iter().flatten() {
            self.ends[from].set.note_sent(self.now, route, size);
            self.transmit(from, route, packet.clone(), size);
        }
    }

    pub(super) fn receive(&mut self, to: usize, route: Route, kind: PathKind, packet: Packet) {
        let (now, end) = (self.now, &mut self.ends[to]);
        match packet {
            Packet::Probe(bytes) => {
                end.set.receive_probe(now, route, kind, &bytes);
            }
            Packet::Data { number } => {
                let fresh = end.received.insert(number);
                end.set.note_received(now, route, DATA_SIZE, fresh);
                if fresh {
                    end.arrivals.push(now - self.start);
                    self.send_on_best(to, Packet::Ack { number }, ACK_SIZE);
                }
            }
            Packet::Ack { number } => {
                let fresh = end.acknowledged.insert(number);
                end.set.note_received(now, route, ACK_SIZE, fresh);
                let kept = end.unacknowledged.split_off(&(number + 1));
                if !std::mem::replace(&mut end.unacknowledged, kept).is_empty() {
                    end.set.note_acknowledged(now);
                }
                end.set.set_in_flight(now, !end.unacknowledged.is_empty());
            }
        }
        self.pump();
    }

    fn transmit(&mut self, from: usize, route: Route, packet: Packet, size: usize) {
        let Some((&id, wire)) = self.wires.iter().find(|(_, wire)| wire.names[from] == route) else { return };
        let way = &wire.ways[from];
        if way.up && size <= way.mtu && self.rng.below(100) >= way.loss_percent {
            self.sequence += 1;
            self.queue.insert((self.now + way.delay, self.sequence), (1 - from, id, packet));
        }
    }

    fn pump(&mut self) {
        for index in 0..2 {
            if self.ends[index].paused {
                continue;
            }
            let mut buf = Vec::new();
            while let Some(route) = self.ends[index].set.poll_transmit(self.now, &mut buf) {
                self.ends[index].probes.push((self.elapsed(), route, buf.clone()));
                let size = buf.len();
                self.transmit(index, route, Packet::Probe(std::mem::take(&mut buf)), size);
            }
            while let Some(event) = self.ends[index].set.poll_event() {
                self.ends[index].events.push((self.now - self.start, event));
            }
            self.check(index);
        }
    }

    /// What holds at any time.
    fn check(&self, index: usize) {
        let set = &self.ends[index].set;
        assert!(set.candidates.len() <= set.settings.max_candidates);
        if let Some(active) = set.active() {
            let proven = set.candidates.iter().any(Candidate::is_proven);
            assert!(active.is_proven() || !proven, "an unproven path is used while a proven one lives: {set:?}");
        }
        let routes: BTreeSet<_> = set.candidates().map(|candidate| candidate.route).collect();
        assert_eq!(routes.len(), set.candidates.len(), "a route stands twice");
    }

    /// The longest time without new data at `at` between `from` and now.
    pub(super) fn blackout(&self, at: usize, from: Duration) -> Duration {
        let arrivals = self.ends[at].arrivals.iter().copied().filter(|time| *time >= from);
        let times: Vec<_> = [from].into_iter().chain(arrivals).chain([self.elapsed()]).collect();
        times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap()
    }
}
