//! The plan that a seed makes: swarm, so each class of faults is on in half of all seeds.

use p2pcore::raft::Timing;

use super::{
    DemandPlan, DiskFate, Effect, Fault, FaultKind, Hostility, Ip, LanPlan, LinkModel, Load, LoadKind, NodePlan, Plan,
    Selector,
};
use crate::rng::Stream;

const FAULTY_MS: u64 = 60_000;
/// After this no fault begins, so that each has its say before everything heals.
const LAST_FAULT_MS: u64 = 50_000;
const FIRST_FAULT_MS: u64 = 2_000;

impl Plan {
    /// The world, the faults and the load of `seed`.
    pub fn from_seed(seed: u64) -> Self {
        let mut plan = Self::empty(seed);
        plan.faulty_ms = FAULTY_MS;
        plan.people();
        plan.ways();
        plan.load();
        for (class, make) in CLASSES.iter().enumerate() {
            let mut rng = Stream::new(seed, "fault class", class as u64);
            if rng.chance(500_000) {
                plan.class(class as u64, &mut rng, *make);
            }
        }
        plan.clocks(&mut Stream::new(seed, "clocks", 0), Timing::default().drift_ppm);
        plan.load_for_master();
        plan.demand();
        if seed % 4 == 3 {
            plan.churn(&mut Stream::new(seed, "churn", 0), 1, 10);
        }
        plan
    }

    /// In a third of all seeds the network is on demand, or now and again.
    fn demand(&mut self) {
        let mut rng = Stream::new(self.seed, "on demand", 0);
        let peers = self.nodes.iter().filter(|node| !node.server).count() as u64;
        if rng.chance(333_333) {
            let full_mesh_peers = rng.below(peers) as usize;
            self.demand = Some(DemandPlan {
                full_mesh_peers,
                full_mesh_again: full_mesh_peers.saturating_sub(rng.below(2) as usize),
                idle_ms: rng.log_between(500, 60_000),
            });
        }
    }

    /// Some say something to whoever is Master.
    fn load_for_master(&mut self) {
        /// The numbers of these loads begin here, apart from those of the others.
        const FIRST_ID: u64 = 1_000;
        let mut rng = Stream::new(self.seed, "to master", 0);
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for id in FIRST_ID..FIRST_ID + rng.below(4) {
            let from = rng.pick(&names).cloned().unwrap_or_default();
            let max_len = rng.log_between(16, 20_000) as usize;
            let ttl_ms = rng.chance(300_000).then(|| rng.log_between(100, 10_000));
            let kind = if rng.chance(500_000) {
                LoadKind::ToMaster { max_len, ttl_ms }
            } else {
                LoadKind::AskMaster { max_len, timeout_ms: ttl_ms }
            };
            let every_us = rng.log_between(50_000, 2_000_000);
            self.loads.push(Load {
                id,
                from,
                to: Vec::new(),
                at_ms: rng.below(5_000),
                until_ms: FAULTY_MS,
                every_us,
                kind,
            });
        }
    }

    fn people(&mut self) {
        let mut rng = Stream::new(self.seed, "people", 0);
        let (servers, peers) = (rng.between(1, 4), rng.between(2, 6));
        for lan in 0..rng.below(3) {
            let prefix = u8::try_from(rng.below(3)).unwrap_or(0);
            self.lans.push(LanPlan {
                name: format!("lan{lan}"),
                prefix,
                open: rng.chance(300_000),
                routes_to: Vec::new(),
            });
        }
        if let [first, second] = self.lans.as_mut_slice()
            && first.prefix != second.prefix
            && rng.chance(300_000)
        {
            first.routes_to = vec![second.name.clone()];
            second.routes_to = vec![first.name.clone()];
        }
        let names: Vec<String> = (1..=servers).map(|n| format!("s{n}")).collect();
        for (n, name) in names.iter().enumerate() {
            self.nodes.push(NodePlan {
                server: true,
                found: n == 0,
                // whoever returns without its disk needs somebody to join
                join: names.iter().filter(|other| *other != name).cloned().collect(),
                ip: Ip::Both,
                lazy: rng.chance(200_000),
                start_ms: if n == 0 { 0 } else { rng.below(1_000) },
                ..NodePlan::named(name, n as u64)
            });
        }
        for n in 1..=peers {
            let lan = rng.chance(500_000).then(|| rng.pick(&self.lans).map(|lan| lan.name.clone())).flatten();
            let introducer = rng.pick(&names).cloned();
            self.nodes.push(NodePlan {
                join: introducer.into_iter().collect(),
                ip: *rng.pick(&[Ip::V4, Ip::V6, Ip::Both, Ip::Both]).unwrap_or(&Ip::Both),
                interfaces: if lan.is_none() && rng.chance(200_000) { 2 } else { 1 },
                lan,
                relay_only: rng.chance(150_000),
                lazy: rng.chance(200_000),
                reading_us: if rng.chance(25_000) { rng.log_between(100, 50_000) } else { 0 },
                start_ms: rng.below(3_000),
                ..NodePlan::named(&format!("p{n}"), 100 + n)
            });
        }
    }

    fn ways(&mut self) {
        let mut rng = Stream::new(self.seed, "ways", 0);
        let low = rng.log_between(100, 40_000);
        self.link = LinkModel {
            delay_us: (low, low + rng.log_between(100, 60_000)),
            jitter_us: rng.log_between(1, 10_000),
            mtu: *rng.pick(&[1_500, 1_500, 1_420, 1_280]).unwrap_or(&1_500),
            bandwidth_bps: Some(rng.log_between(2_000_000, 1_000_000_000)),
            queue_bytes: rng.log_between(60_000, 1_000_000),
            ..LinkModel::default()
        };
        let peers: Vec<String> = self.nodes.iter().filter(|node| !node.server).map(|node| node.name.clone()).collect();
        let servers: Vec<String> = self.servers().map(|node| node.name.clone()).collect();
        for _ in 0..rng.below(3) {
            let (Some(from), Some(to)) = (rng.pick(&peers), rng.pick(&peers)) else { continue };
            if from != to {
                self.unreachable.push(Selector::way(from, to, rng.chance(500_000)));
            }
        }
        // a peer that one server never hears must still be able to come through another one
        if servers.len() > 1
            && rng.chance(300_000)
            && let (Some(peer), Some(server)) = (rng.pick(&peers), servers.last())
        {
            self.unreachable.push(Selector::way(peer, server, rng.chance(500_000)));
            let first = servers[0].clone();
            if let Some(node) = self.nodes.iter_mut().find(|node| node.name == *peer) {
                node.join = vec![first];
            }
        }
    }

    fn load(&mut self) {
        let mut rng = Stream::new(self.seed, "load", 0);
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for (id, from) in (0..rng.between(3, 10)).zip(names.iter().cycle().skip(rng.below(8) as usize)) {
            let (kind, slowest_us) = match rng.below(10) {
                0..=4 => (
                    LoadKind::Messages {
                        fan_out: if rng.chance(300_000) { 3 } else { 1 },
                        lanes: 1 + u8::try_from(rng.below(4)).unwrap_or(0),
                        burst: if rng.chance(200_000) { 100 } else { 1 },
                        max_len: rng.log_between(16, 65_536) as usize,
                        ttl_ms: rng.chance(200_000).then(|| rng.log_between(50, 20_000)),
                    },
                    2_000_000,
                ),
                5 => (
                    LoadKind::Messages { fan_out: 1, lanes: 2, burst: 1, max_len: 2_000_000, ttl_ms: None },
                    20_000_000,
                ),
                6 => (LoadKind::ToNobody, 5_000_000),
                7 => (
                    LoadKind::Requests {
                        max_len: rng.log_between(16, 20_000) as usize,
                        timeout_ms: rng.chance(300_000).then(|| rng.log_between(100, 10_000)),
                    },
                    1_000_000,
                ),
                8 => (LoadKind::Datagrams { max_len: 1_000 }, 500_000),
                _ => (LoadKind::Streams { max_len: rng.log_between(1_000, 2_000_000) }, 10_000_000),
            };
            let to = names.iter().filter(|name| *name != from).cloned().collect();
            let every_us = match kind {
                LoadKind::Messages { burst, max_len, .. } => {
                    // some 400 kB/s at most, for the sake of the wall clock
                    let floor = u64::from(burst) * max_len as u64 * 2;
                    rng.log_between(floor.max(10_000), slowest_us.max(floor * 4))
                }
                _ => rng.log_between(20_000, slowest_us),
            };
            self.loads.push(Load {
                id,
                from: from.clone(),
                to,
                at_ms: rng.below(5_000),
                until_ms: FAULTY_MS,
                every_us,
                kind,
            });
        }
    }

    fn class(&mut self, class: u64, rng: &mut Stream, make: Make) {
        let times = rng.log_between(1, 8);
        for n in 0..times {
            let Some(kind) = make(self, rng) else { continue };
            let at_ms = rng.between(FIRST_FAULT_MS, LAST_FAULT_MS);
            let for_ms = rng.log_between(50, 20_000).min(FAULTY_MS - at_ms);
            self.faults.push(Fault { id: class * 1_000 + n, at_ms, for_ms, kind });
        }
    }
}

impl NodePlan {
    /// A public peer with IPv4 and IPv6 that knows nobody yet.
    pub fn named(name: &str, key: u64) -> Self {
        Self {
            name: name.to_owned(),
            server: false,
            key,
            lan: None,
            ip: Ip::Both,
            interfaces: 1,
            join: Vec::new(),
            found: false,
            expect: None,
            relay_only: false,
            lazy: false,
            lazy_us: super::usual_lazy_us(),
            reading_us: 0,
            start_ms: 0,
            clock_ppm: 0,
            disk_us: super::usual_disk_us(),
        }
    }
}

impl Selector {
    /// The way from one host to another.
    pub fn way(from: &str, to: &str, both_ways: bool) -> Self {
        Self { from: vec![from.to_owned()], to: vec![to.to_owned()], both_ways, ..Self::default() }
    }
}

type Make = fn(&Plan, &mut Stream) -> Option<FaultKind>;

const CLASSES: [Make; 17] = [
    |plan, rng| ways(plan, rng, |rng| Effect::Loss(rng.log_between(1_000, 300_000) as u32)),
    |plan, rng| ways(plan, rng, |rng| Effect::Duplicate(rng.log_between(1_000, 500_000) as u32)),
    |plan, rng| ways(plan, rng, |rng| Effect::Reorder(rng.log_between(1_000, 300_000) as u32)),
    |plan, rng| ways(plan, rng, |rng| Effect::Delay(rng.log_between(1_000, 500_000))),
    |plan, rng| ways(plan, rng, |rng| Effect::Corrupt(rng.log_between(1_000, 100_000) as u32)),
    |plan, rng| ways(plan, rng, |rng| Effect::Truncate(rng.log_between(1_000, 100_000) as u32)),
    |plan, rng| ways(plan, rng, |rng| Effect::Mtu(rng.between(1_280, 1_400) as usize)),
    |plan, rng| ways(plan, rng, |rng| Effect::Bandwidth(rng.log_between(500_000, 20_000_000))),
    |plan, rng| partition(plan, rng, true),
    |plan, rng| partition(plan, rng, false),
    |plan, rng| Some(FaultKind::Crash { node: any(plan, rng)?, disk: DiskFate::Kept }),
    |plan, rng| Some(FaultKind::Crash { node: replaceable(plan, rng)?, disk: DiskFate::Lost }),
    |plan, rng| Some(FaultKind::Leave { node: any(plan, rng)? }),
    |plan, rng| Some(FaultKind::Pause { node: any(plan, rng)? }),
    |plan, rng| Some(FaultKind::InterfaceDown { node: any(plan, rng)?, interface: 0 }),
    |plan, rng| hostile(plan, rng, &[Hostility::Garbage, Hostility::Altered, Hostility::Truncated]),
    |plan, rng| hostile(plan, rng, &[Hostility::Recorded, Hostility::Spoofed]),
];

fn any(plan: &Plan, rng: &mut Stream) -> Option<String> {
    rng.pick(&plan.nodes).map(|node| node.name.clone())
}

/// A server that loses its disk returns only by joining another one: the founder keeps its disk, for when all others
/// lose theirs nobody knows the cluster any more.
fn replaceable(plan: &Plan, rng: &mut Stream) -> Option<String> {
    rng.pick(&plan.nodes).filter(|node| !node.join.is_empty() && !node.found).map(|node| node.name.clone())
}

fn ways(plan: &Plan, rng: &mut Stream, effect: fn(&mut Stream) -> Effect) -> Option<FaultKind> {
    let mut on = Selector { both_ways: rng.chance(700_000), ..Selector::default() };
    if rng.chance(700_000) {
        on.from.push(any(plan, rng)?);
    }
    if rng.chance(500_000) {
        on.to.push(any(plan, rng)?);
    }
    Some(FaultKind::Ways { on, effect: effect(rng) })
}

fn partition(plan: &Plan, rng: &mut Stream, both_ways: bool) -> Option<FaultKind> {
    let (from, to): (Vec<_>, Vec<_>) =
        plan.nodes.iter().map(|node| node.name.clone()).partition(|_| rng.chance(500_000));
    // empty means everybody, and that would be another fault
    (!from.is_empty() && !to.is_empty()).then_some(FaultKind::Ways {
        on: Selector { from, to, both_ways, ..Selector::default() },
        effect: Effect::Block,
    })
}

fn hostile(plan: &Plan, rng: &mut Stream, kinds: &[Hostility]) -> Option<FaultKind> {
    Some(FaultKind::Hostile {
        node: any(plan, rng)?,
        what: *rng.pick(kinds)?,
        per_second: rng.log_between(1, 500) as u32,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_survives_json_and_follows_from_its_seed() {
        for seed in 0..50 {
            let plan = Plan::from_seed(seed);
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
            assert_eq!(Plan::from_seed(seed), plan);
        }
    }

    #[test]
    fn every_class_is_on_in_about_half_of_the_seeds() {
        let mut on = [0; CLASSES.len()];
        for seed in 0..400 {
            let classes: std::collections::BTreeSet<u64> =
                Plan::from_seed(seed).faults.iter().map(|fault| fault.id / 1_000).filter(|class| *class < 17).collect();
            for class in classes {
                on[class as usize] += 1;
            }
        }
        assert!(on.iter().all(|count| (100..=250).contains(count)), "{on:?}");
    }

    #[test]
    fn faults_end_before_the_world_heals_and_name_nodes_that_exist() {
        for seed in 0..100 {
            let plan = Plan::from_seed(seed);
            assert!(plan.faults.iter().all(|fault| fault.at_ms + fault.for_ms <= plan.faulty_ms));
            assert!(plan.nodes.iter().filter(|node| node.found).count() == 1);
            assert!(plan.nodes.iter().all(|node| node.found || !node.join.is_empty()));
        }
    }
}
