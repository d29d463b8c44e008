//! A whole node under anything that its driver, its application and members without manners may do.

mod application;
mod members;

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    ClusterId, Config, Event, Id, Identity, Input, NetworkKey, Node, Output, Role, SecretKey, ServerKey,
    node::{Datagram, PersistId, Receipt, ReplyToken, RequestId, SendId, SocketId, StreamKey},
    relay::Slot,
};

use super::{build::Builder, case::Case, member::Member, start_of_time};

const NETWORK_KEY: [u8; 32] = [2; 32];
const SERVER_KEY: [u8; 32] = [3; 32];
const NODE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 7_000);
const CLUSTER: ClusterId = ClusterId([9; 16]);
/// Longer than any message lives.
const LONGEST: Duration = Duration::from_secs(1_300);
const HOP: Duration = Duration::from_micros(100);
/// Operations of one case.
const MAX_OPERATIONS: usize = 150;
/// What one drain may bring, far above what one operation can cause.
const MAX_OUTPUTS: usize = 20_000;
/// How often a node may be due again at the same instant.
const MAX_WAKES: usize = 64;
const MAX_REMEMBERED: usize = 32;

/// A founding server, its driver, its application, and two members.
///
/// # Panics
/// If it breaks a promise.
pub fn server_core(data: &[u8]) {
    let mut case = Case::new(data);
    let habits = case.byte();
    let mut bench = Bench::new(Role::Server, &mut case);
    bench.start();
    // the first member is a peer or a server, the second a peer; a case may do without them
    if habits & 1 == 0 {
        bench.dial(0);
    }
    if habits & 6 == 6 {
        bench.dial(1);
    }
    bench.run(&mut case);
    bench.end(habits & 8 == 0);
}

/// A peer, its driver, its application, the server that it is introduced to, and another peer.
///
/// # Panics
/// If it breaks a promise.
pub fn peer_core(data: &[u8]) {
    let mut case = Case::new(data);
    let habits = case.byte();
    let mut bench = Bench::new(Role::Peer, &mut case);
    if habits & 1 == 0 {
        bench.members[0].listen();
    }
    bench.start();
    if habits & 6 == 6 {
        bench.dial(1);
    }
    bench.run(&mut case);
    bench.end(habits & 8 == 0);
}

/// The node, and all that is around it.
struct Bench {
    now: Instant,
    config: Config,
    node: Node,
    members: [Member; 2],
    /// What flew by lately.
    seen: VecDeque<(SocketAddr, Vec<u8>)>,
    orders: VecDeque<PersistId>,
    receipts: Vec<Receipt>,
    tokens: Vec<ReplyToken>,
    streams: Vec<StreamKey>,
    /// Messages without an outcome, and requests without a reply.
    sent: BTreeMap<(SendId, Id), ()>,
    asked: BTreeMap<RequestId, ()>,
    persists: bool,
    relayed: bool,
    stopped: bool,
    buf: Vec<u8>,
}

fn small() -> Config {
    let mut config = Config::default();
    config.max_message = 64 * 1024;
    config.max_queued_messages = 16;
    config.max_queued_bytes = 256 * 1024;
    config.max_unhanded_messages = 8;
    config.max_unhanded_bytes = 128 * 1024;
    config.max_sessions = 8;
    config.max_requests = 8;
    config.max_streams = 4;
    config.max_waiting_streams = 8;
    config.max_links = 12;
    config.max_handshakes = 4;
    config.max_first_packet_nonces = 16;
    config.max_candidates = 6;
    config.max_servers = 4;
    config.max_foreign = 3;
    config.max_peers = 12;
    config.max_outgoing = 64;
    config.directory_log = 8;
    config.full_mesh_peers = 6;
    config.max_links_per_prefix = 10;
    config.max_handshakes_per_prefix = 3;
    config.relay_bytes_per_id = 20_000;
    config.relay_bytes_per_prefix = 30_000;
    config.relay_bytes_total = 40_000;
    config.max_relay_prefixes = 3;
    config
}

impl Bench {
    fn new(role: Role, case: &mut Case<'_>) -> Self {
        let now = start_of_time();
        let is_server = role == Role::Server;
        let shape = case.byte();
        // at a server the first member may be a server too, at a peer it is the introducer
        let first = if !is_server || shape & 1 != 0 { Role::Server } else { Role::Peer };
        let address = |last| SocketAddr::from(([192, 0, 2, last], 7_000));
        let identity = Identity::new(role, SecretKey::from_bytes([1; 32]));
        let mut start = super::start(identity);
        start.network_key = NetworkKey::from_bytes(NETWORK_KEY);
        start.server_key = is_server.then(|| ServerKey::from_bytes(SERVER_KEY));
        start.introducers = if is_server { Vec::new() } else { vec![address(2)] };
        start.network.sockets = vec![(SocketId(0), NODE)];
        start.network.interfaces = vec![NODE.ip()];
        start.relay_only = shape & 2 != 0 && !is_server;
        let config = small();
        let node = Node::new(config.clone(), start).expect("a good start");
        let keys = || (NetworkKey::from_bytes(NETWORK_KEY), ServerKey::from_bytes(SERVER_KEY));
        let cluster = (!is_server).then_some(CLUSTER);
        let member = |role, seed: u8, cluster| {
            let identity = Identity::new(role, SecretKey::from_bytes([seed; 32]));
            Member::new(identity, address(seed), keys(), cluster, shape & 4 == 0)
        };
        Self {
            now,
            config,
            node,
            members: [member(first, 2, cluster), member(Role::Peer, 3, cluster)],
            seen: VecDeque::new(),
            orders: VecDeque::new(),
            receipts: Vec::new(),
            tokens: Vec::new(),
            streams: Vec::new(),
            sent: BTreeMap::new(),
            asked: BTreeMap::new(),
            persists: shape & 8 == 0,
            relayed: false,
            stopped: false,
            buf: Vec::new(),
        }
    }

    /// Lets a server found its cluster, and everything come to rest.
    fn start(&mut self) {
        for _ in 0..4 {
            self.exchange();
        }
        if self.members[0].cluster.is_none() && self.members[0].id().is_server() {
            // as if it had been told before
            let council = self.node.council().and_then(|council| council.allegiance());
            self.members[0].cluster = council.map(|allegiance| allegiance.cluster);
        }
    }

    fn dial(&mut self, number: usize) {
        let named = (!self.node.id().is_server()).then(|| self.node.id());
        self.members[number].dial(self.now, NODE, named);
        for _ in 0..6 {
            self.exchange();
        }
    }

    fn run(&mut self, case: &mut Case<'_>) {
        for _ in 0..MAX_OPERATIONS {
            if case.is_over() {
                break;
            }
            self.operation(case);
            self.judge();
        }
    }

    /// Whatever happened, the node comes to rest; and if there is time, whatever waits has an end.
    fn end(&mut self, is_long: bool) {
        self.come_to_rest();
        self.judge();
        if !is_long {
            return;
        }
        self.members.iter().for_each(|member| member.forgery.rest());
        for _ in 0..3 {
            self.exchange();
            self.now += Duration::from_secs(40);
            self.input(Input::Timeout);
        }
        self.drain(usize::MAX, usize::MAX);
        self.come_to_rest();
        // each message and each request has had its outcome by now
        if !self.stopped {
            self.now += LONGEST;
            self.input(Input::Timeout);
            self.drain(usize::MAX, usize::MAX);
            // what goes to itself waits for its application
            while let Some(receipt) = self.receipts.pop() {
                self.node.handed(self.now, receipt);
                self.drain(usize::MAX, usize::MAX);
            }
            assert_eq!(self.asked.len(), 0, "requests without a reply");
            assert_eq!(self.sent.len(), 0, "messages without an outcome");
        }
        let _ = self.node.status();
        self.judge();
    }

    fn operation(&mut self, case: &mut Case<'_>) {
        match case.byte() % 40 {
            0 => self.now += case.time(),
            1 => self.input(Input::Timeout),
            2 | 3 => self.exchange(),
            4 => {
                self.now += case.time();
                self.exchange();
            }
            5 => {
                let (events, transmits) = (case.below(5), case.below(5));
                self.drain(events, transmits);
            }
            6 => self.come_to_rest(),
            7 => self.persist(case),
            8 => self.change_network(case),
            9 => self.input(Input::Resumed),
            10 => self.send(case),
            11 => self.request(case),
            12 => self.reply(case),
            13 => self.hand(case),
            14 => self.stream(case),
            15 => self.office(case),
            16 => {
                if let Some(to) = self.pick_id(case) {
                    let data = Bytes::from(case.stretched(1_300));
                    let _ = self.node.datagram(self.now, to, data);
                }
            }
            17 => {
                let _ = (self.node.status(), self.node.guard(), self.node.members().len());
            }
            18 if case.byte() > 200 => {
                self.node.stop(self.now);
                self.stopped = true;
            }
            19 => {
                let bytes = case.stretched(1_300);
                let from = self.address(case);
                self.deliver(from, &bytes);
            }
            20 => self.replay(case),
            number => self.member(number, case),
        }
    }

    fn pick_id(&self, case: &mut Case<'_>) -> Option<Id> {
        let mut ids = vec![self.members[0].id(), self.members[1].id(), self.node.id()];
        ids.push(Id::from_key(Role::Peer, &p2pcore::PublicKey([case.byte() >> 4; 32])));
        ids.push(Id::from_key(Role::Server, &p2pcore::PublicKey([case.byte() >> 4; 32])));
        case.pick(&ids)
    }

    fn input(&mut self, input: Input) {
        self.node.handle(self.now, input);
    }

    fn deliver(&mut self, from: SocketAddr, data: &[u8]) {
        if self.seen.len() >= MAX_REMEMBERED {
            self.seen.pop_front();
        }
        self.seen.push_back((from, data.to_vec()));
        let segment_size = data.len();
        let datagram = Datagram {
            socket: SocketId(0),
            remote: from,
            local_ip: None,
            ecn: 0,
            data: BytesMut::from(data),
            segment_size,
        };
        self.input(Input::Datagram(datagram));
    }

    /// What the node says goes to the members, and what they say goes to the node.
    fn exchange(&mut self) {
        self.now += HOP;
        if self.node.deadline().is_some_and(|deadline| deadline.at <= self.now) {
            self.input(Input::Timeout);
        }
        self.drain(usize::MAX, usize::MAX);
        for number in 0..self.members.len() {
            let from = self.members[number].address;
            for data in self.members[number].transmit(self.now) {
                let data = self.by_relay(number, data);
                self.deliver(from, &data);
            }
        }
        self.now += HOP;
        self.drain(usize::MAX, usize::MAX);
    }

    /// The second member may reach a peer through the first one, which is a server.
    fn by_relay(&mut self, number: usize, data: Vec<u8>) -> Vec<u8> {
        let [server, _] = &mut self.members;
        if number == 0 || !self.relayed || !server.id().is_server() {
            return data;
        }
        let (Some(src), Some(dst), Some(link)) = (Slot::new(3, 0), Slot::new(1, 0), &mut server.relays) else {
            return data;
        };
        let mut packet = Vec::new();
        link.seal(src, dst, &data, &mut packet);
        packet
    }

    /// Takes at most so many outputs and datagrams. What is there to be taken was due.
    fn drain(&mut self, events: usize, transmits: usize) {
        for number in 0..events {
            let due = self.is_due();
            let Some(output) = self.node.poll() else { break };
            assert!(due, "an output waited without a deadline: {output:?}");
            assert!(number < MAX_OUTPUTS, "outputs without end");
            self.take(output);
        }
        for number in 0..transmits {
            let due = self.is_due();
            let mut buf = std::mem::take(&mut self.buf);
            buf.clear();
            let transmit = self.node.poll_transmit(self.now, &mut buf);
            self.buf = buf;
            let Some(transmit) = transmit else { break };
            assert!(due, "a datagram waited without a deadline");
            assert!(number < MAX_OUTPUTS, "datagrams without end");
            assert!(transmit.size == self.buf.len() && transmit.size > 0, "{transmit:?}");
            let size = transmit.segment_size.unwrap_or(transmit.size);
            assert!(size > 0 && transmit.size <= 65_535 && size <= 1_500, "{transmit:?}");
            for at in (0..transmit.size).step_by(size) {
                let data = self.buf[at..(at + size).min(transmit.size)].to_vec();
                for member in self.members.iter_mut().filter(|member| member.address == transmit.destination) {
                    member.receive(self.now, NODE, &data);
                }
                if self.seen.len() >= MAX_REMEMBERED {
                    self.seen.pop_front();
                }
                self.seen.push_back((transmit.destination, data));
            }
        }
    }

    fn is_due(&self) -> bool {
        self.node.deadline().is_some_and(|deadline| deadline.at <= self.now)
    }

    fn take(&mut self, output: Output) {
        match output {
            Output::Persist(persist) if self.persists => self.input(Input::Persisted(persist.id)),
            Output::Persist(persist) => {
                if self.orders.len() >= MAX_REMEMBERED {
                    self.orders.pop_front();
                }
                self.orders.push_back(persist.id);
            }
            Output::Event(event) => self.event(event),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::Messages { receipt, data, lane, .. } => {
                assert!(data.iter().all(|data| data.len() <= self.config.max_message) && lane < self.config.lanes);
                assert_eq!(receipt.each().count(), data.len());
                match data.len() % 3 {
                    0 => self.receipts.extend(receipt.each()),
                    _ => self.receipts.push(receipt),
                }
            }
            Event::Request { receipt, token, data, .. } => {
                assert!(data.len() <= self.config.max_message);
                self.receipts.push(receipt);
                remember(&mut self.tokens, token);
            }
            Event::Outcome { sends, to, outcome } => {
                for send in sends {
                    assert!(self.sent.remove(&(send, to)).is_some(), "a second outcome: {outcome:?}");
                }
            }
            Event::Reply { request, result, .. } => {
                assert!(self.asked.remove(&request).is_some(), "a second reply: {result:?}");
            }
            Event::StreamOpened { stream, .. } => remember(&mut self.streams, stream),
            Event::Left | Event::Stopped => self.stopped = true,
            _ => {}
        }
    }

    /// Drained as a driver drains, the node is due later or never.
    fn come_to_rest(&mut self) {
        for _ in 0..MAX_WAKES {
            self.drain(usize::MAX, usize::MAX);
            if !self.is_due() {
                return;
            }
            self.input(Input::Timeout);
        }
        panic!("the node spins: {:?}", self.node.deadline());
    }

    fn judge(&self) {
        let over: Vec<_> = self.node.usage().into_iter().filter(|usage| usage.is_over()).collect();
        assert!(over.is_empty(), "{over:?}");
    }
}

fn remember<T>(list: &mut Vec<T>, item: T) {
    if list.len() >= MAX_REMEMBERED {
        list.remove(0);
    }
    list.push(item);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bench(role: Role, shape: u8) -> Bench {
        let mut bench = Bench::new(role, &mut Case::new(&[shape]));
        if role == Role::Peer {
            bench.members[0].listen();
        }
        bench.start();
        if role == Role::Server {
            bench.dial(0);
        }
        bench.dial(1);
        bench
    }

    #[test]
    fn members_get_in() {
        let peers = bench(Role::Server, 0).node.status();
        assert_eq!((peers.clients.len(), peers.servers.len()), (2, 0), "{peers:#?}");
        let with_server = bench(Role::Server, 1).node.status();
        assert_eq!(with_server.clients.len(), 1);
        assert!(with_server.servers.iter().any(|server| server.linked), "{with_server:#?}");
        let peer = bench(Role::Peer, 0);
        let status = peer.node.status();
        assert!(status.servers.iter().any(|server| server.linked) && !status.suspended, "{status:#?}");
        assert!(peer.members.iter().all(|member| member.probe_token.is_some()));
    }

    #[test]
    fn what_they_say_arrives() {
        let mut bench = bench(Role::Server, 0);
        let lane = [28, 0, 0, 1, 0, 0, 3, 9, 0, 5, 0, 7, 0, 1];
        bench.run(&mut Case::new(&lane));
        bench.exchange();
        assert_eq!(bench.receipts.len(), 1);
        assert!(bench.members[0].slot.is_some(), "{:?}", bench.members[0].heard);
    }
}
