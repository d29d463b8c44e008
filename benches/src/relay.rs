//! A server's forwarding plane and the nodes linked to it.

use std::time::{Duration, Instant};

use p2pcore::{
    Config,
    prefix::Prefix,
    relay::{Forwarder, RelayKeys, RelayLink, Slot, Verdict},
};

use crate::epoch;

const REST: Duration = Duration::from_secs(120);
/// A QUIC packet, by its first byte.
const PAYLOAD: u8 = 0x40;

/// A forwarder and the far ends of its links; each sends to the next one in turn.
pub struct RelayStar {
    now: Instant,
    forwarder: Forwarder<usize, usize>,
    ends: Vec<(Slot, RelayLink)>,
    turn: usize,
    payload: Vec<u8>,
}

impl RelayStar {
    /// `nodes` linked nodes that send packets of `len` bytes, headers included.
    ///
    /// # Panics
    /// If there are more nodes than slots, or `len` is no longer than a header.
    pub fn new(nodes: usize, len: usize) -> Self {
        let now = epoch();
        let mut forwarder = Forwarder::new(REST, nodes, &Config::default().quota_limits());
        let link = |owner: usize| {
            let mut exported = [5; 32];
            exported[..8].copy_from_slice(&owner.to_be_bytes());
            let prefix = Prefix::V4([192, 0, owner.to_be_bytes()[7]]);
            let keys = RelayKeys::derive(&exported, false, true);
            let slot = forwarder.link(now, owner, false, keys, owner, prefix).expect("a slot for each");
            (slot, RelayLink::new(RelayKeys::derive(&exported, true, false)))
        };
        let ends = (0..nodes).map(link).collect();
        let payload = vec![PAYLOAD; len.checked_sub(p2pcore::relay::HEADER_LEN).expect("room for the header")];
        Self { now, forwarder, ends, turn: 0, payload }
    }

    /// The next packet, and the route it comes by.
    pub fn packet(&mut self) -> (usize, Vec<u8>) {
        let from = self.turn;
        self.turn = (from + 1) % self.ends.len();
        let (dst, _) = self.ends[self.turn];
        let (src, link) = &mut self.ends[from];
        let mut packet = Vec::with_capacity(self.payload.len() + p2pcore::relay::HEADER_LEN);
        link.seal(*src, dst, &self.payload, &mut packet);
        (from, packet)
    }

    /// What the server does with a packet; whether it is passed on.
    pub fn forward(&mut self, route: usize, packet: &mut [u8]) -> bool {
        // a rate within the quotas
        self.now += Duration::from_micros(1);
        matches!(self.forwarder.receive(self.now, route, packet), Verdict::Forward { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_packet_is_passed_on_once() {
        let mut star = RelayStar::new(3, 1_216);
        for _ in 0..10 {
            let (route, mut packet) = star.packet();
            let mut again = packet.clone();
            assert_eq!(packet.len(), 1_216);
            assert!(star.forward(route, &mut packet));
            assert!(!star.forward(route, &mut again));
        }
    }
}
