//! What stands between a LAN and the public network. It keeps one public port for each inner address and port, for
//! ever; the NAT kinds of RFC 4787 take the place of [`Gateway::outbound`], [`Gateway::inbound`] and [`Gateway::admits`].

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use super::Port;
use crate::rng::FixedState;

#[derive(Debug)]
pub(super) struct Gateway {
    pub(super) public: Ipv4Addr,
    prefix: u8,
    seats: u8,
    open: bool,
    routes: BTreeSet<usize>,
    inside: BTreeMap<Ipv4Addr, Port>,
    ports: BTreeMap<SocketAddr, u16>,
    inner: BTreeMap<u16, SocketAddr>,
    /// (inner address, outer remote) pairs that something went out by.
    opened: HashSet<(SocketAddr, SocketAddr), FixedState>,
}

impl Gateway {
    const FIRST_PORT: u16 = 10_000;

    pub(super) fn new(number: usize, prefix: u8, open: bool, routes: BTreeSet<usize>) -> Self {
        let low = u8::try_from(number + 1).unwrap_or(u8::MAX);
        Self {
            public: Ipv4Addr::new(46, 0, 0, low),
            prefix,
            seats: 0,
            open,
            routes,
            inside: BTreeMap::new(),
            ports: BTreeMap::new(),
            inner: BTreeMap::new(),
            opened: HashSet::default(),
        }
    }

    /// The prefix, and a number for the next host.
    pub(super) fn next_seat(&mut self) -> (u8, u8) {
        self.seats = self.seats.wrapping_add(1);
        (self.prefix, self.seats)
    }

    pub(super) fn add(&mut self, address: Ipv4Addr, port: Port) {
        self.inside.insert(address, port);
    }

    /// The host that has a private address, here or in a LAN that is routed to.
    pub(super) fn find(&self, all: &[Self], address: Ipv4Addr) -> Option<Port> {
        let routed = self.routes.iter().filter_map(|lan| all.get(*lan));
        std::iter::once(self).chain(routed).find_map(|lan| lan.inside.get(&address).copied())
    }

    /// The source address of an outgoing packet beyond the gateway.
    pub(super) fn outbound(&mut self, _now: Duration, inner: SocketAddr, to: SocketAddr) -> SocketAddr {
        self.opened.insert((inner, to));
        if inner.is_ipv6() {
            return inner;
        }
        let next = Self::FIRST_PORT.saturating_add(u16::try_from(self.ports.len()).unwrap_or(u16::MAX));
        let port = *self.ports.entry(inner).or_insert(next);
        self.inner.insert(port, inner);
        (self.public, port).into()
    }

    /// Whose a public port is.
    pub(super) fn inbound(&self, port: u16) -> Option<(Port, SocketAddr)> {
        let inner = *self.inner.get(&port)?;
        let SocketAddr::V4(v4) = inner else { return None };
        Some((*self.inside.get(v4.ip())?, inner))
    }

    /// Whether a packet from outside may pass now.
    pub(super) fn admits(&self, from: SocketAddr, inner: SocketAddr) -> bool {
        self.open || self.opened.contains(&(inner, from)) || self.is_own(from, inner)
    }

    /// Hosts of this LAN that meet at its public address: the filter knows them by the ports that it gave them.
    fn is_own(&self, from: SocketAddr, inner: SocketAddr) -> bool {
        let to = self.ports.get(&inner).map(|port| SocketAddr::from((self.public, *port)));
        let sender = (from.ip() == self.public).then(|| self.inner.get(&from.port())).flatten();
        sender.is_some_and(|sender| to.is_some_and(|to| self.opened.contains(&(*sender, to))))
    }
}
