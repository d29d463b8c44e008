//! Which addresses a host has.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::plan::Ip;

/// The addresses of a host's interfaces that are up.
pub type Addresses = Vec<IpAddr>;

#[derive(Clone, Debug)]
pub(super) struct HostPlace {
    pub(super) lan: Option<usize>,
    pub(super) interfaces: Vec<Interface>,
}

#[derive(Clone, Debug)]
pub(super) struct Interface {
    pub(super) up: bool,
    pub(super) v4: Option<Ipv4Addr>,
    pub(super) v6: Option<Ipv6Addr>,
}

impl Interface {
    pub(super) fn address(&self, ipv6: bool) -> Option<IpAddr> {
        if ipv6 { self.v6.map(IpAddr::V6) } else { self.v4.map(IpAddr::V4) }
    }
}

impl HostPlace {
    /// `seat` numbers the hosts of one LAN: hosts of overlapping LANs have the same private addresses, as in life.
    pub(super) fn new(host: usize, lan: Option<usize>, seat: Option<(u8, u8)>, ip: Ip, interfaces: u8) -> Self {
        let number = u16::try_from(host).unwrap_or(u16::MAX);
        let [high, low] = number.to_be_bytes();
        let interfaces = (0..interfaces.max(1)).map(|n| Interface {
            up: true,
            v4: (ip != Ip::V6).then(|| match seat {
                Some((prefix, seat)) => Ipv4Addr::new(192, 168, prefix, 10 + seat % 120 + n * 120),
                None => Ipv4Addr::new(45, n, high, low),
            }),
            v6: (ip != Ip::V4).then(|| {
                let site = lan.map_or(0, |lan| u16::try_from(lan + 1).unwrap_or(u16::MAX));
                Ipv6Addr::new(0x2a00, 0x1450, 0x4000, site, 0, u16::from(n), 1, number)
            }),
        });
        Self { lan, interfaces: interfaces.collect() }
    }

    pub(super) fn addresses(&self) -> Addresses {
        let up = self.interfaces.iter().filter(|interface| interface.up);
        up.flat_map(|interface| [interface.address(false), interface.address(true)]).flatten().collect()
    }

    /// The interface that a packet leaves by, and its address.
    pub(super) fn source(&self, local: Option<IpAddr>, ipv6: bool) -> Option<(usize, IpAddr)> {
        let mut up = self.interfaces.iter().enumerate().filter(|(_, interface)| interface.up);
        up.find_map(|(n, interface)| {
            let address = interface.address(ipv6)?;
            local.is_none_or(|local| local == address || local.is_unspecified()).then_some((n, address))
        })
    }
}
