//! The network: who has which address, which way a packet goes, and what happens to it there.

mod address;
mod effect;
mod gateway;
mod link;

use std::{
    collections::{BTreeMap, HashMap},
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use bytes::Bytes;

pub use address::Addresses;
use address::HostPlace;
use effect::{ActiveEffect, Ways};
pub(crate) use effect::{cut, flip};
use gateway::Gateway;
use link::Link;

use crate::{
    plan::{Effect, LinkModel, Plan, Selector},
    rng::FixedState,
};

/// An IP packet with a UDP datagram in it, as its receiver sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// The sender's address, as translated on the way.
    pub from: SocketAddr,
    /// The receiver's own address.
    pub to: SocketAddr,
    /// The ECN bits.
    pub ecn: u8,
    /// The UDP payload.
    pub data: Bytes,
}

/// A packet at the end of its way.
#[derive(Clone, Debug)]
pub struct Arrival {
    /// The receiving host.
    pub host: usize,
    interface: usize,
    /// The sender beyond the LAN's gateway, which decides when the packet gets there.
    gateway: Option<usize>,
    /// What arrives.
    pub packet: Packet,
    /// Its bytes are not those that were sent.
    pub altered: bool,
}

/// A host's interface.
type Port = (usize, usize);

/// All hosts, LANs and ways.
#[derive(Debug)]
pub struct Network {
    seed: u64,
    names: BTreeMap<String, usize>,
    hosts: Vec<HostPlace>,
    gateways: Vec<Gateway>,
    public: HashMap<IpAddr, Owner, FixedState>,
    links: HashMap<(Port, Port), Link, FixedState>,
    default_model: LinkModel,
    rules: Vec<(Ways, LinkModel)>,
    unreachable: Vec<Ways>,
    effects: BTreeMap<u64, ActiveEffect>,
    begun: u64,
}

#[derive(Clone, Copy, Debug)]
enum Owner {
    Interface(Port),
    Gateway(usize),
}

/// Where a packet to an address goes.
struct Way {
    from: SocketAddr,
    source: Port,
    target: Port,
    to: SocketAddr,
    gateway: Option<usize>,
}

impl Network {
    /// The network of `plan`; host `n` is that of node `n`.
    pub fn new(plan: &Plan) -> Self {
        let lans: BTreeMap<&str, usize> = plan.lans.iter().enumerate().map(|(n, lan)| (lan.name.as_str(), n)).collect();
        let gateways = plan.lans.iter().enumerate().map(|(n, lan)| {
            let routes = lan.routes_to.iter().filter_map(|name| lans.get(name.as_str()).copied()).collect();
            Gateway::new(n, lan.prefix, lan.open, routes)
        });
        let mut network = Self {
            seed: plan.seed,
            names: plan.nodes.iter().enumerate().map(|(n, node)| (node.name.clone(), n)).collect(),
            hosts: Vec::new(),
            gateways: gateways.collect(),
            public: HashMap::default(),
            links: HashMap::default(),
            default_model: plan.link,
            rules: Vec::new(),
            unreachable: Vec::new(),
            effects: BTreeMap::new(),
            begun: 0,
        };
        for n in 0..network.gateways.len() {
            network.public.insert(network.gateways[n].public.into(), Owner::Gateway(n));
        }
        for node in &plan.nodes {
            let lan = node.lan.as_deref().and_then(|name| lans.get(name).copied());
            let seat = lan.map(|lan| network.gateways[lan].next_seat());
            network.add(HostPlace::new(network.hosts.len(), lan, seat, node.ip, node.interfaces));
        }
        network.rules = plan.links.iter().map(|rule| (network.ways(&rule.on), rule.model)).collect();
        network.unreachable = plan.unreachable.iter().map(|on| network.ways(on)).collect();
        network
    }

    /// Adds a host that nobody knows, with one public IPv4 and IPv6 address, and returns its number.
    pub fn add_stranger(&mut self) -> usize {
        let host = self.hosts.len();
        self.add(HostPlace::new(host, None, None, crate::plan::Ip::Both, 1));
        host
    }

    fn add(&mut self, place: HostPlace) {
        let host = self.hosts.len();
        for (n, interface) in place.interfaces.iter().enumerate() {
            let port = (host, n);
            if let Some(v6) = interface.v6 {
                self.public.insert(v6.into(), Owner::Interface(port));
            }
            match (interface.v4, place.lan) {
                (Some(v4), None) => drop(self.public.insert(v4.into(), Owner::Interface(port))),
                (Some(v4), Some(lan)) => self.gateways[lan].add(v4, port),
                (None, _) => {}
            }
        }
        self.hosts.push(place);
    }

    /// The addresses of a host's interfaces that are up.
    pub fn addresses(&self, host: usize) -> Addresses {
        self.hosts[host].addresses()
    }

    /// An address by which the public network knows the host: its own, not that of a gateway.
    pub fn public_address(&self, host: usize, ipv6: bool) -> Option<IpAddr> {
        self.hosts[host].interfaces.iter().find_map(|interface| interface.address(ipv6))
    }

    /// Takes an interface down or up.
    pub fn set_interface(&mut self, host: usize, interface: u8, up: bool) {
        if let Some(interface) = self.hosts[host].interfaces.get_mut(usize::from(interface)) {
            interface.up = up;
        }
    }

    /// Begins an effect, named `id`.
    pub fn begin(&mut self, id: u64, on: &Selector, effect: Effect) {
        let active = ActiveEffect::new(self.seed, id, self.ways(on), effect);
        self.effects.insert(id, active);
        self.begun += 1;
    }

    /// How many effects have begun so far.
    pub fn begun(&self) -> u64 {
        self.begun
    }

    /// Ends the effect named `id`.
    pub fn end(&mut self, id: u64) {
        self.effects.remove(&id);
    }

    /// Ends all effects and brings all interfaces up.
    pub fn heal(&mut self) {
        self.effects.clear();
        self.hosts.iter_mut().flat_map(|host| &mut host.interfaces).for_each(|interface| interface.up = true);
    }

    /// Sends a datagram; `arrivals` gets each copy that will arrive, with its time.
    #[allow(clippy::too_many_arguments)] // a datagram has that many parts
    pub fn send(
        &mut self,
        now: Duration,
        host: usize,
        local: Option<IpAddr>,
        port: u16,
        to: SocketAddr,
        ecn: u8,
        data: Bytes,
        arrivals: &mut Vec<(Duration, Arrival)>,
    ) {
        let Some(way) = self.route(now, host, local, port, to) else { return };
        let ipv6 = to.is_ipv6();
        if self.unreachable.iter().any(|ways| ways.contain(way.source, way.target, ipv6)) {
            return;
        }
        let link = self.link(way.source, way.target, ipv6);
        let packet = Packet { from: way.from, to: way.to, ecn, data: data.clone() };
        let mut copies = Vec::with_capacity(1);
        link.send(now, packet, &mut copies);
        for active in self.effects.values_mut() {
            if active.ways.contain(way.source, way.target, ipv6) {
                active.apply(now, &mut copies);
            }
        }
        let (host, interface) = way.target;
        let gateway = way.gateway;
        arrivals.extend(copies.into_iter().map(|(at, packet)| {
            let altered = packet.data != data;
            (at, Arrival { host, interface, gateway, packet, altered })
        }));
    }

    /// Whether an arriving packet gets past the gateway and finds the interface up.
    pub fn admits(&self, arrival: &Arrival) -> bool {
        let up = self.hosts[arrival.host].interfaces.get(arrival.interface).is_some_and(|interface| interface.up);
        up && arrival.gateway.is_none_or(|lan| self.gateways[lan].admits(arrival.packet.from, arrival.packet.to))
    }

    fn route(&mut self, now: Duration, host: usize, local: Option<IpAddr>, port: u16, to: SocketAddr) -> Option<Way> {
        let place = &self.hosts[host];
        let (n, address) = place.source(local, to.is_ipv6())?;
        let (lan, source, inner) = (place.lan, (host, n), SocketAddr::new(address, port));
        if let (IpAddr::V4(v4), Some(lan)) = (to.ip(), lan)
            && v4.is_private()
        {
            let target = self.gateways[lan].find(&self.gateways, v4)?;
            return Some(Way { from: inner, source, target, to, gateway: None });
        }
        let from = match lan {
            Some(lan) => self.gateways[lan].outbound(now, inner, to),
            None => inner,
        };
        match *self.public.get(&to.ip())? {
            Owner::Interface(target) => {
                let gateway = self.hosts[target.0].lan.filter(|other| Some(*other) != lan);
                Some(Way { from, source, target, to, gateway })
            }
            Owner::Gateway(beyond) => {
                let (target, to) = self.gateways[beyond].inbound(to.port())?;
                Some(Way { from, source, target, to, gateway: Some(beyond) })
            }
        }
    }

    fn link(&mut self, source: Port, target: Port, ipv6: bool) -> &mut Link {
        let Self { links, rules, default_model, hosts, seed, .. } = self;
        links.entry((source, target)).or_insert_with(|| {
            let rule = rules.iter().rev().find(|(ways, _)| ways.contain(source, target, ipv6));
            let near = hosts[source.0].lan.is_some() && hosts[source.0].lan == hosts[target.0].lan;
            Link::new(*seed, source, target, rule.map_or(*default_model, |(_, model)| *model), near)
        })
    }

    fn ways(&self, on: &Selector) -> Ways {
        Ways::new(on, &self.names)
    }
}

#[cfg(test)]
mod tests;
