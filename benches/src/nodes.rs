//! Whole nodes on a network in memory that loses nothing.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Config, Event, Identity, Incarnation, Input, Name, NetworkKey, Node, Output, Role, SecretKey, ServerKey, Start,
    deadline::Deadlines,
    node::{Datagram, LocalNetwork, SocketId},
};

use crate::{HOP, epoch};

const SERVER: usize = 0;
const FIRST_PEER: usize = 1;
const PORT: u16 = 7_000;
/// Peers that come at once: fewer than a server takes from one network in a second.
const WAVE: usize = 256;
const LINKING: Duration = Duration::from_secs(10);
/// Longer than all probes and searches that follow a new link.
const SETTLING: Duration = Duration::from_secs(5);

type OnEvent<'a> = &'a mut dyn FnMut(Instant, usize, &mut Node, Event);

/// A server and its peers. The peers know nothing of each other, so that each node but the server has one link.
pub struct Net {
    now: Instant,
    nodes: Vec<Node>,
    /// When each node wants to be woken: a step of one node costs nothing for the others.
    due: Deadlines<usize>,
    flying: Vec<Flight>,
    linked: usize,
    turn: usize,
    buf: Vec<u8>,
}

struct Flight {
    from: usize,
    to: SocketAddr,
    data: BytesMut,
}

impl Net {
    /// A server with `peers` links, everything at rest.
    ///
    /// # Panics
    /// If the links do not come about.
    pub fn star(peers: usize) -> Self {
        let now = epoch();
        let (nodes, due) = (vec![node(SERVER, now)], Deadlines::default());
        let mut net = Self { now, nodes, due, flying: Vec::new(), linked: 0, turn: 0, buf: Vec::new() };
        net.settle(SERVER, &mut |_, _, _, _| {});
        while net.linked < peers {
            net.join(WAVE.min(peers - net.linked));
        }
        let end = net.now + SETTLING;
        while net.now < end {
            net.advance(&mut |_, _, _, _| {});
        }
        net
    }

    /// So many peers more, until all of them are linked.
    fn join(&mut self, peers: usize) {
        let (end, wanted) = (self.now + LINKING, self.linked + peers);
        for _ in 0..peers {
            let index = self.nodes.len();
            self.nodes.push(node(index, self.now));
            self.settle(index, &mut |_, _, _, _| {});
            // one after another, so that their deadlines are not the same
            self.advance(&mut |_, _, _, _| {});
        }
        while self.linked < wanted {
            assert!(self.now < end, "{} of {wanted} links", self.linked);
            self.advance(&mut |_, _, _, _| {});
        }
    }

    /// How many peers are linked to the server.
    pub fn server_links(&self) -> usize {
        self.linked
    }

    /// What a driver does when it wakes: returns whether there was anything to do.
    pub fn idle_step(&mut self) -> bool {
        let node = &mut self.nodes[SERVER];
        node.handle(self.now, Input::Timeout);
        let busy = node.poll().is_some() | node.poll_transmit(self.now, &mut self.buf).is_some();
        busy | node.deadline().is_none_or(|deadline| deadline.at <= self.now)
    }

    /// The server takes one datagram of one peer and is drained; how long that took. The next time it is another peer's
    /// turn, or always the first one's.
    ///
    /// # Panics
    /// If the server is not at rest before.
    pub fn packet_step(&mut self, in_turn: bool) -> Duration {
        self.rest();
        let (len, server) = (self.nodes.len(), self.nodes[SERVER].id());
        self.turn = if in_turn { self.turn % (len - 1) + 1 } else { FIRST_PEER };
        let peer = &mut self.nodes[self.turn];
        peer.datagram(self.now, server, Bytes::from_static(&[7; 100])).expect("a link to send on");
        self.settle(self.turn, &mut |_, _, _, _| {});
        let mut flying = std::mem::take(&mut self.flying);
        let first = flying.pop().expect("the peer has sent it");
        self.flying = flying;
        let input = Input::Datagram(datagram(first));
        self.step(input)
    }

    /// The time comes at which the server wants to be woken for one link; how long that took.
    ///
    /// # Panics
    /// If the server wants nothing.
    pub fn timer_step(&mut self) -> Duration {
        self.rest();
        self.now = self.due.get(&SERVER).expect("links are looked after").max(self.now);
        self.step(Input::Timeout)
    }

    /// One step of the server: the input, and all that comes of it.
    fn step(&mut self, input: Input) -> Duration {
        let begun = Instant::now();
        self.nodes[SERVER].handle(self.now, input);
        self.settle(SERVER, &mut |_, _, _, _| {});
        begun.elapsed()
    }

    /// What flies arrives, and nothing is due at the server.
    fn rest(&mut self) {
        self.advance(&mut |_, _, _, _| {});
        while !self.flying.is_empty() || self.due.get(&SERVER).is_some_and(|at| at <= self.now) {
            self.advance(&mut |_, _, _, _| {});
        }
    }

    /// The first peer asks the server, which answers with the same bytes; returns them.
    ///
    /// # Panics
    /// If there is no peer, or no reply.
    pub fn round_trip(&mut self, data: &Bytes) -> Bytes {
        let to = self.nodes[SERVER].id();
        self.nodes[FIRST_PEER].request(self.now, to, data.clone(), None).expect("a link to ask on");
        let mut reply = None;
        let mut on_event = |now, index, node: &mut Node, event| match event {
            Event::Request { data, token, .. } => node.reply(now, token, Ok(data)).expect("room for the reply"),
            Event::Reply { result, .. } if index == FIRST_PEER => reply = Some(result),
            _ => {}
        };
        self.settle(FIRST_PEER, &mut on_event);
        while reply.is_none() {
            let mut on_event = |now, index, node: &mut Node, event| match event {
                Event::Request { data, token, .. } => node.reply(now, token, Ok(data)).expect("room for the reply"),
                Event::Reply { result, .. } if index == FIRST_PEER => reply = Some(result),
                _ => {}
            };
            self.advance(&mut on_event);
        }
        reply.expect("the loop ends with one").expect("a reply")
    }

    /// Lets the time pass up to the next thing that happens, and lets that happen.
    fn advance(&mut self, on_event: OnEvent<'_>) {
        self.now = match self.due.next() {
            Some((at, _)) if self.flying.is_empty() => at.max(self.now + HOP),
            _ => self.now + HOP,
        };
        let mut touched = BTreeSet::new();
        for flight in std::mem::take(&mut self.flying) {
            let Some(index) = index_of(&flight.to).filter(|index| *index < self.nodes.len()) else { continue };
            self.nodes[index].handle(self.now, Input::Datagram(datagram(flight)));
            touched.insert(index);
        }
        while let Some(index) = self.due.pop_due(self.now) {
            if touched.insert(index) {
                self.nodes[index].handle(self.now, Input::Timeout);
            }
        }
        for index in touched {
            self.settle(index, on_event);
        }
    }

    /// Takes all that a node has, as its driver does.
    fn settle(&mut self, index: usize, on_event: OnEvent<'_>) {
        let now = self.now;
        let node = &mut self.nodes[index];
        while let Some(output) = node.poll() {
            match output {
                Output::Persist(persist) => node.handle(now, Input::Persisted(persist.id)),
                Output::Event(event) => {
                    if let Event::Messages { receipt, .. } | Event::Request { receipt, .. } = &event {
                        node.handed(now, *receipt);
                    }
                    match event {
                        Event::PeerUp { .. } if index == SERVER => self.linked += 1,
                        Event::PeerDown { .. } if index == SERVER => self.linked -= 1,
                        _ => {}
                    }
                    on_event(now, index, node, event);
                }
            }
        }
        while let Some(transmit) = node.poll_transmit(now, &mut self.buf) {
            let size = transmit.segment_size.unwrap_or(transmit.size).max(1);
            let flight = |data| Flight { from: index, to: transmit.destination, data: BytesMut::from(data) };
            self.flying.extend(self.buf.chunks(size).map(flight));
            self.buf.clear();
        }
        self.due.set(index, node.deadline().map(|deadline| deadline.at));
    }
}

fn datagram(flight: Flight) -> Datagram {
    let Flight { from, data, .. } = flight;
    let segment_size = data.len();
    Datagram { socket: SocketId(0), remote: address(from), local_ip: None, ecn: 0, data, segment_size }
}

fn node(index: usize, now: Instant) -> Node {
    let role = if index == SERVER { Role::Server } else { Role::Peer };
    let own = address(index);
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&index.to_be_bytes());
    let mut start = Start::new(
        Identity::new(role, SecretKey::from_bytes(seed)),
        NetworkKey::from_bytes([1; 32]),
        Incarnation { counter: 1, random: [3; 16] },
        LocalNetwork { sockets: vec![(SocketId(0), own)], interfaces: vec![own.ip()], advertised: Vec::new() },
        seed,
        now,
    );
    start.name = Name::new(format!("{role}{index}")).expect("a short name");
    if index == SERVER {
        start.server_key = Some(ServerKey::from_bytes([2; 32]));
        start.found = true;
    } else {
        start.introducers = vec![address(SERVER)];
    }
    let mut config = Config::default();
    // the directory stays with the server: a thousand peers need not learn of each other to be linked to it
    config.delta_interval = Duration::from_secs(3_600);
    Node::new(config, start).expect("a good start")
}

fn address(index: usize) -> SocketAddr {
    let bits = u32::from(Ipv4Addr::new(10, 0, 0, 0)) + u32::try_from(index).expect("few nodes") + 1;
    SocketAddr::from((Ipv4Addr::from(bits), PORT))
}

fn index_of(address: &SocketAddr) -> Option<usize> {
    let SocketAddr::V4(address) = address else { return None };
    let bits = u32::from(*address.ip()).checked_sub(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + 1)?;
    usize::try_from(bits).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_server_with_links_has_nothing_to_do() {
        let mut net = Net::star(3);
        assert_eq!((net.server_links(), net.nodes[SERVER].status().clients.len()), (3, 3));
        assert!(!net.idle_step());
    }

    #[test]
    fn steps_go_on_for_as_long_as_the_links() {
        let mut net = Net::star(2);
        let counter = |net: &Net, of| net.nodes[SERVER].status().counters.get(of).copied();
        for _ in 0..500 {
            net.packet_step(true);
        }
        for _ in 0..100 {
            net.timer_step();
        }
        assert_eq!((net.server_links(), counter(&net, "links lost")), (2, None));
    }

    #[test]
    fn requests_come_back() {
        let mut net = Net::star(1);
        for text in ["one", "two", "three"] {
            assert_eq!(net.round_trip(&Bytes::from(text)), text);
        }
    }
}
