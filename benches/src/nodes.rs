//! Whole nodes on a network in memory that loses nothing.

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Config, Event, Identity, Incarnation, Input, Name, NetworkKey, Node, Output, Role, SecretKey, ServerKey, Start,
    node::{Datagram, LocalNetwork, SocketId},
};

use crate::{HOP, epoch};

const SERVER: usize = 0;
const FIRST_PEER: usize = 1;
const PORT: u16 = 7_000;
const LINKING: Duration = Duration::from_secs(10);
/// Longer than all probes and searches that follow a new link.
const SETTLING: Duration = Duration::from_secs(5);

/// A server and its peers. The peers know nothing of each other, so that each node but the server has one link.
pub struct Net {
    now: Instant,
    nodes: Vec<Node>,
    flying: Vec<Flight>,
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
        let nodes = (0..=peers).map(|index| node(index, now)).collect();
        let mut net = Self { now, nodes, flying: Vec::new(), buf: Vec::new() };
        let end = now + LINKING;
        while net.server_links() < peers {
            assert!(net.now < end, "{} of {peers} links", net.server_links());
            net.advance(|_, _, _, _| {});
        }
        let end = net.now + SETTLING;
        while net.now < end {
            net.advance(|_, _, _, _| {});
        }
        net
    }

    /// How many peers are linked to the server.
    pub fn server_links(&self) -> usize {
        self.nodes[SERVER].status().clients.len()
    }

    /// The server alone, and the time it knows.
    pub fn into_server(mut self) -> (Node, Instant) {
        (self.nodes.swap_remove(SERVER), self.now)
    }

    /// The first peer asks the server, which answers with the same bytes; returns them.
    ///
    /// # Panics
    /// If there is no peer, or no reply.
    pub fn round_trip(&mut self, data: &Bytes) -> Bytes {
        let to = self.nodes[SERVER].id();
        self.nodes[FIRST_PEER].request(self.now, to, data.clone(), None).expect("a link to ask on");
        let mut reply = None;
        while reply.is_none() {
            self.advance(|now, index, node, event| match event {
                Event::Request { data, token, .. } => node.reply(now, token, Ok(data)).expect("room for the reply"),
                Event::Reply { result, .. } if index == FIRST_PEER => reply = Some(result),
                _ => {}
            });
        }
        reply.expect("the loop ends with one").expect("a reply")
    }

    /// Lets everything move until nothing can without time, then lets the time pass up to the next thing that happens.
    fn advance(&mut self, mut on_event: impl FnMut(Instant, usize, &mut Node, Event)) {
        let now = self.now;
        for (index, node) in self.nodes.iter_mut().enumerate() {
            while let Some(output) = node.poll() {
                match output {
                    Output::Persist(persist) => node.handle(now, Input::Persisted(persist.id)),
                    Output::Event(event) => {
                        if let Event::Message { receipt, .. } | Event::Request { receipt, .. } = &event {
                            node.handed(now, *receipt);
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
        }
        let next = self.nodes.iter().filter_map(|node| node.deadline()).map(|deadline| deadline.at).min();
        self.now = match next {
            Some(at) if self.flying.is_empty() => at.max(now + HOP),
            _ => now + HOP,
        };
        self.deliver();
    }

    fn deliver(&mut self) {
        for Flight { from, to, data } in std::mem::take(&mut self.flying) {
            let segment_size = data.len();
            let remote = address(from);
            let datagram = Datagram { socket: SocketId(0), remote, local_ip: None, ecn: 0, data, segment_size };
            if let Some(node) = index_of(&to).and_then(|index| self.nodes.get_mut(index)) {
                node.handle(self.now, Input::Datagram(datagram));
            }
        }
        for node in &mut self.nodes {
            if node.deadline().is_some_and(|deadline| deadline.at <= self.now) {
                node.handle(self.now, Input::Timeout);
            }
        }
    }
}

fn node(index: usize, now: Instant) -> Node {
    let role = if index == SERVER { Role::Server } else { Role::Peer };
    let own = address(index);
    let mut seed = [1; 32];
    seed[..8].copy_from_slice(&index.to_be_bytes());
    let start = Start {
        identity: Identity::new(role, SecretKey::from_bytes(seed)),
        name: Name::new(format!("{role}{index}")).expect("a short name"),
        network_key: NetworkKey::from_bytes([1; 32]),
        server_key: (role == Role::Server).then(|| ServerKey::from_bytes([2; 32])),
        incarnation: Incarnation { counter: 1, random: [3; 16] },
        introducers: if index == SERVER { Vec::new() } else { vec![address(SERVER)] },
        found: index == SERVER,
        expect: None,
        saved: None,
        network: LocalNetwork { sockets: vec![(SocketId(0), own)], interfaces: vec![own.ip()], advertised: Vec::new() },
        relay_only: false,
        seed,
        now,
        wall_time: Duration::from_secs(1),
    };
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

/// What a driver does when it wakes: returns whether there was anything to do.
pub fn wake(node: &mut Node, now: Instant, buf: &mut Vec<u8>) -> bool {
    node.handle(now, Input::Timeout);
    let busy = node.poll().is_some() | node.poll_transmit(now, buf).is_some();
    busy | node.deadline().is_none_or(|deadline| deadline.at <= now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_settled_server_with_links_has_nothing_to_do() {
        let net = Net::star(3);
        assert_eq!(net.server_links(), 3);
        let (mut server, now) = net.into_server();
        assert_eq!(server.status().clients.len(), 3);
        assert!(!wake(&mut server, now, &mut Vec::new()));
    }

    #[test]
    fn requests_come_back() {
        let mut net = Net::star(1);
        for text in ["one", "two", "three"] {
            assert_eq!(net.round_trip(&Bytes::from(text)), text);
        }
    }
}
