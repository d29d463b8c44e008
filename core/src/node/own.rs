//! D: what this node tells of itself.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
};

use super::{LocalNetwork, SocketId};
use crate::{
    Id,
    table::{Addresses, NetworkInfo},
};

/// The sources of the own network info: the machine's sockets and interfaces, and what servers see.
#[derive(Clone, Debug)]
pub(super) struct OwnNetwork {
    local: LocalNetwork,
    seen: BTreeMap<Id, SocketAddr>,
    relay_only: bool,
    info: NetworkInfo,
}

impl OwnNetwork {
    pub(super) fn new(local: LocalNetwork, relay_only: bool) -> Self {
        let mut own = Self { local, seen: BTreeMap::new(), relay_only, info: NetworkInfo::default() };
        own.refresh();
        own
    }

    pub(super) fn info(&self) -> &NetworkInfo {
        &self.info
    }

    pub(super) fn local(&self) -> &LocalNetwork {
        &self.local
    }

    /// The machine changed. Returns whether D did.
    pub(super) fn set_local(&mut self, local: LocalNetwork) -> bool {
        self.local = local;
        self.refresh()
    }

    /// A server sees this node at `address`. Returns whether D changed.
    pub(super) fn set_seen(&mut self, server: Id, address: SocketAddr) -> bool {
        self.seen.insert(server, address);
        self.refresh()
    }

    /// That server is not linked any more.
    pub(super) fn forget(&mut self, server: &Id) -> bool {
        self.seen.remove(server).is_some() && self.refresh()
    }

    /// The socket to reach `remote` from: the first of its address family.
    pub(super) fn socket_for(&self, remote: &SocketAddr) -> Option<SocketId> {
        let same_family = |local: &SocketAddr| local.is_ipv4() == remote.is_ipv4();
        self.local.sockets.iter().find(|(_, local)| same_family(local)).map(|(socket, _)| *socket)
    }

    /// Whether `address` is one of this node's own.
    pub(super) fn is_own(&self, address: &SocketAddr) -> bool {
        [&self.info.listen, &self.info.private].into_iter().any(|own| own.contains(address))
    }

    fn refresh(&mut self) -> bool {
        let mut private = Vec::new();
        let mut listen = self.local.advertised.clone();
        for (_, socket) in &self.local.sockets {
            if !socket.ip().is_unspecified() {
                push_new(&mut listen, *socket);
                continue;
            }
            for ip in self.local.interfaces.iter().filter(|ip| ip.is_ipv4() == socket.is_ipv4() && usable(ip)) {
                push_new(&mut private, SocketAddr::new(*ip, socket.port()));
            }
        }
        let mut public = Vec::new();
        for address in self.seen.values() {
            push_new(&mut public, *address);
        }
        let [public, private, listen] = [public, private, listen].map(Addresses::first);
        let changed = (&public, &private, &listen) != (&self.info.public, &self.info.private, &self.info.listen);
        if changed || self.info.version == 0 {
            let version = self.info.version.saturating_add(1);
            self.info =
                NetworkInfo { version, public, private, listen, relay_only: self.relay_only, ..NetworkInfo::default() };
        }
        changed
    }
}

fn push_new(list: &mut Vec<SocketAddr>, address: SocketAddr) {
    if !list.contains(&address) {
        list.push(address);
    }
}

/// Link-local IPv6 needs a zone, which means nothing to others.
fn usable(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !ip.is_unspecified() && !ip.is_link_local(),
        IpAddr::V6(ip) => !ip.is_unspecified() && !ip.is_unicast_link_local(),
    }
}

/// The addresses under which a node with network info `theirs` may be reached directly by one with `ours`, best first:
/// private ones only if a server sees both at the same public address (RFC 8445 host candidates of one site). What a
/// server saw is tried whatever its range: that server's network is common to both.
pub(super) fn direct_candidates(ours: &NetworkInfo, theirs: &NetworkInfo, max: usize) -> Vec<SocketAddr> {
    let public_ips = |info: &NetworkInfo| info.public.iter().map(SocketAddr::ip).collect::<Vec<_>>();
    let their_ips = public_ips(theirs);
    let same_site = public_ips(ours).iter().any(|ip| their_ips.contains(ip));
    let loopback_ok = same_site && their_ips.iter().any(IpAddr::is_loopback);
    let mut found = Vec::new();
    let told = theirs.listen.iter().chain(&theirs.private).map(|address| (address, false));
    for (address, seen) in told.chain(theirs.public.iter().map(|address| (address, true))) {
        let ip = address.ip();
        let reachable = if ip.is_loopback() { loopback_ok } else { seen || same_site || !is_private(&ip) };
        if reachable && !found.contains(address) && found.len() < max {
            found.push(*address);
        }
    }
    found
}

/// RFC 1918, RFC 4193 and RFC 6598 addresses: they mean something only inside one site.
fn is_private(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(list: &[&str]) -> Vec<SocketAddr> {
        list.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn info(public: &[&str], private: &[&str], listen: &[&str]) -> NetworkInfo {
        NetworkInfo {
            public: Addresses::first(addresses(public)),
            private: Addresses::first(addresses(private)),
            listen: Addresses::first(addresses(listen)),
            ..NetworkInfo::default()
        }
    }

    #[test]
    fn private_addresses_only_within_one_site() {
        let here = info(&["203.0.113.1:4000"], &["10.0.0.1:4000"], &[]);
        let same = info(&["203.0.113.1:5000"], &["10.0.0.2:4000"], &[]);
        let other = info(&["198.51.100.7:5000"], &["10.0.0.2:4000"], &[]);
        assert_eq!(direct_candidates(&here, &same, 16), addresses(&["10.0.0.2:4000", "203.0.113.1:5000"]));
        assert_eq!(direct_candidates(&here, &other, 16), addresses(&["198.51.100.7:5000"]));
    }

    #[test]
    fn loopback_only_if_servers_see_both_there() {
        let here = info(&["127.0.0.1:1"], &[], &["127.0.0.1:1"]);
        let there = info(&["127.0.0.1:2"], &[], &["127.0.0.1:2"]);
        let far = info(&["198.51.100.7:5000"], &[], &["127.0.0.1:2"]);
        assert_eq!(direct_candidates(&here, &there, 16), addresses(&["127.0.0.1:2"]));
        assert_eq!(direct_candidates(&here, &far, 16), addresses(&["198.51.100.7:5000"]));
    }

    #[test]
    fn version_grows_only_with_a_change() {
        let local = LocalNetwork {
            sockets: vec![(SocketId(0), "0.0.0.0:7000".parse().unwrap())],
            interfaces: vec!["192.0.2.1".parse().unwrap(), "169.254.1.1".parse().unwrap()],
            advertised: Vec::new(),
        };
        let mut own = OwnNetwork::new(local.clone(), false);
        assert_eq!(own.info().private.to_vec(), addresses(&["192.0.2.1:7000"]));
        let version = own.info().version;
        assert!(!own.set_local(local));
        assert_eq!(own.info().version, version);
        let server = crate::Identity::new(crate::Role::Server, crate::SecretKey::from_bytes([1; 32])).id();
        assert!(own.set_seen(server, "198.51.100.1:7000".parse().unwrap()));
        assert_eq!(own.info().version, version + 1);
        assert!(own.forget(&server));
        assert!(own.info().public.is_empty());
    }
}
