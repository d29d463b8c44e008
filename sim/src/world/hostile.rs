//! Hosts that have no key: what they see on the wire, and what they send.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use p2pcore::Id;

use super::{Happening, World};
use crate::{
    net::{Arrival, Network, Packet, cut, flip},
    plan::{FaultKind, Hostility, Plan},
    rng::Stream,
};

/// The hostile hosts, one for each fault, and what they have seen.
#[derive(Debug, Default)]
pub(super) struct Hostile {
    hosts: BTreeMap<usize, (usize, Stream)>,
    seen: VecDeque<Arrival>,
    own: Option<usize>,
}

impl Hostile {
    const MAX_SEEN: usize = 1_024;

    pub(super) fn new(plan: &Plan, network: &mut Network) -> Self {
        let hostile = plan.faults.iter().enumerate().filter(|(_, f)| matches!(f.kind, FaultKind::Hostile { .. }));
        let host = |(n, fault): (usize, &crate::plan::Fault)| {
            (n, (network.add_stranger(), Stream::new(plan.seed, "hostile", fault.id)))
        };
        Self { hosts: hostile.map(host).collect(), seen: VecDeque::new(), own: None }
    }

    /// The host that a scenario sends from.
    pub(super) fn own_host(&mut self, network: &mut Network) -> usize {
        *self.own.get_or_insert_with(|| network.add_stranger())
    }

    /// They see every packet that arrives somewhere. Those that are not as an honest node sent them do not count: a bit that
    /// is flipped twice is authentic.
    pub(super) fn watch(&mut self, arrival: &Arrival) {
        if !self.hosts.is_empty() && !arrival.altered {
            if self.seen.len() >= Self::MAX_SEEN {
                self.seen.pop_front();
            }
            self.seen.push_back(arrival.clone());
        }
    }

    /// A packet of an honest node seen before, three times in four one to `target`.
    fn recorded(&self, target: usize, rng: &mut Stream) -> Option<&Arrival> {
        let (near, place) = (rng.chance(750_000), rng.next_u64());
        let fitting = |arrival: &&Arrival| !near || arrival.host == target;
        let count = self.seen.iter().filter(fitting).count() as u64;
        self.seen.iter().filter(fitting).nth((place % count.max(1)) as usize)
    }
}

impl World {
    pub(super) fn hostile_sends(&mut self, n: usize) {
        let fault = self.plan.faults[n].clone();
        let FaultKind::Hostile { node, what, per_second } = fault.kind else { return };
        let (Some(target), Some((host, rng))) = (self.named(&node), self.hostile.hosts.get(&n).cloned()) else {
            return;
        };
        let mut rng = rng;
        let pause = Duration::from_micros(rng.between(1, 2_000_000 / u64::from(per_second.max(1))));
        if self.now + pause < Duration::from_millis(fault.at_ms + fault.for_ms) {
            self.schedule.push(self.now + pause, Happening::Hostile(n));
        }
        let place = rng.next_u64();
        let recorded = self.hostile.recorded(target, &mut rng).cloned();
        let garbage = garbage(&mut rng);
        let ipv6 = rng.chance(500_000);
        if let Some(hostile) = self.hostile.hosts.get_mut(&n) {
            hostile.1 = rng;
        }
        let mut data = garbage;
        if what != Hostility::Garbage {
            let Some(arrival) = recorded else { return };
            data = arrival.packet.data.clone();
            match what {
                Hostility::Spoofed => return self.schedule.push(self.now, Happening::Arrive(arrival)),
                Hostility::Altered => flip(&mut data, place),
                Hostility::Truncated => cut(&mut data, place),
                Hostility::Garbage | Hostility::Recorded => {}
            }
        }
        self.stranger_sends(host, target, ipv6, data, what == Hostility::Recorded);
    }

    /// A host without the key sends bytes to a node.
    pub(super) fn stranger_sends(&mut self, host: usize, target: usize, ipv6: bool, data: Bytes, recorded: bool) {
        const PORT: u16 = 666;
        let Some(ip) = self.network.public_address(target, ipv6).or(self.network.public_address(target, !ipv6)) else {
            return;
        };
        let to = SocketAddr::new(ip, self.processes[target].port());
        self.strangers.sent(host, data.len(), recorded);
        let mut arrivals = Vec::new();
        self.network.send(self.now, host, None, PORT, to, 0, data, &mut arrivals);
        for (at, mut arrival) in arrivals {
            arrival.altered = true;
            self.schedule.push(at, Happening::Arrive(arrival));
        }
    }

    /// The node that a packet comes from, as far as its address tells.
    pub(super) fn sender_of(&self, packet: &Packet) -> Vec<Id> {
        let is_its = |n: &usize| self.network.addresses(*n).contains(&packet.from.ip());
        (0..self.processes.len()).find(is_its).map(|n| self.id_of(n)).into_iter().collect()
    }
}

/// Bytes of every first value and many lengths.
fn garbage(rng: &mut Stream) -> Bytes {
    let len = if rng.chance(300_000) { 1_200 + rng.below(273) } else { rng.below(1_473) };
    let mut bytes = vec![0; len as usize];
    rng.fill(&mut bytes);
    bytes.into()
}
