//! Plans for the consensus: a few servers, hardly anything else, and much churn in a short time.

use super::{
    Act, DiskFate, Effect, Fault, FaultKind, LinkModel, Load, LoadKind, MASTER, MasterPlan, NodePlan, Plan, Selector,
};
use crate::rng::Stream;

const FAULTY_MS: u64 = 30_000;
const FIRST_FAULT_MS: u64 = 500;
/// From here on the first members are on their disks, so that there is a cluster to come back to.
const FIRST_LOSS_MS: u64 = 5_000;
/// The numbers of these faults begin here, apart from those of the other classes.
const FIRST_ID: u64 = 100_000;

impl Plan {
    /// A world of two to five servers and up to two peers whose servers crash, part, join, leave, hand over, lose disks and
    /// have clocks that are as wrong as they may be, or more.
    pub fn council(seed: u64) -> Self {
        let mut plan = Self::empty(seed);
        plan.faulty_ms = FAULTY_MS;
        let mut rng = Stream::new(seed, "council", 0);
        let settings = settings(&mut rng);
        plan.master = Some(settings);
        plan.council_people(&mut rng, settings.drift_ppm);
        plan.link = link(&mut rng);
        plan.council_load(&mut rng);
        plan.churn(&mut Stream::new(seed, "churn", 0), 15, 45);
        plan
    }

    fn council_people(&mut self, rng: &mut Stream, drift_ppm: u32) {
        let servers = *rng.pick(&[2, 3, 3, 3, 3, 4, 5, 5]).unwrap_or(&3);
        let expect = rng.chance(250_000).then_some(2 + rng.below(servers - 1));
        let names: Vec<String> = (1..=servers).map(|n| format!("s{n}")).collect();
        for (n, name) in (0..).zip(&names) {
            let is_first = n < expect.unwrap_or(1);
            self.nodes.push(NodePlan {
                server: true,
                found: expect.is_none() && n == 0,
                expect: expect.filter(|_| is_first).and_then(|expect| usize::try_from(expect).ok()),
                join: names.iter().filter(|other| *other != name).cloned().collect(),
                lazy: rng.chance(100_000),
                start_ms: if is_first { rng.below(300) } else { rng.log_between(1, 15_000) },
                disk_us: if rng.chance(500_000) { 20_000 } else { rng.log_between(1_000, 300_000) },
                ..NodePlan::named(name, n)
            });
        }
        for n in 1..=rng.below(3) {
            let join = rng.pick(&names).into_iter().cloned().collect();
            self.nodes.push(NodePlan { join, ..NodePlan::named(&format!("p{n}"), 100 + n) });
        }
        self.clocks(rng, drift_ppm);
    }

    /// Each clock is wrong by half of what two may run apart, at most; sometimes one is as slow and all others are as fast as
    /// may be.
    pub(super) fn clocks(&mut self, rng: &mut Stream, drift_ppm: u32) {
        let most = i32::try_from(drift_ppm / 2).unwrap_or(0);
        let is_split = rng.chance(400_000);
        let slow = rng.below(self.servers().count() as u64);
        for (n, node) in (0..).zip(&mut self.nodes) {
            let wrong = i32::try_from(rng.between(0, u64::from(drift_ppm))).unwrap_or(0) - most;
            node.clock_ppm = match is_split {
                true if n == slow => -most,
                true => most,
                false => wrong,
            };
        }
    }

    fn council_load(&mut self, rng: &mut Stream) {
        let names: Vec<String> = self.nodes.iter().map(|node| node.name.clone()).collect();
        for (id, from) in (0..).zip(&names) {
            let kind = match rng.below(3) {
                0 => LoadKind::ToMaster {
                    max_len: 2_000,
                    ttl_ms: rng.chance(300_000).then(|| rng.log_between(50, 9_000)),
                },
                1 => LoadKind::AskMaster { max_len: 2_000, timeout_ms: None },
                _ => LoadKind::Messages { fan_out: 2, lanes: 1, burst: 1, max_len: 2_000, ttl_ms: None },
            };
            let to = names.iter().filter(|name| *name != from).cloned().collect();
            let every_us = rng.log_between(50_000, 1_000_000);
            self.loads.push(Load {
                id,
                from: from.clone(),
                to,
                at_ms: rng.below(2_000),
                until_ms: FAULTY_MS,
                every_us,
                kind,
            });
        }
    }

    /// Faults of servers and of the ways between them, and what operators do; so many at least and at most.
    pub(super) fn churn(&mut self, rng: &mut Stream, least: u64, most: u64) {
        let last = self.faulty_ms - self.faulty_ms / 10;
        for n in 0..rng.between(least, most) {
            let (at_ms, kind) = (rng.between(FIRST_FAULT_MS, last), self.churning(rng));
            let for_ms = match &kind {
                FaultKind::Act { .. } => rng.log_between(300, 5_000),
                FaultKind::Crash { .. } | FaultKind::CrashWriting { .. } => rng.log_between(20, 5_000),
                _ => rng.log_between(100, 14_000),
            };
            let loses = |kind: &FaultKind| match kind {
                FaultKind::Crash { disk, .. } | FaultKind::CrashWriting { disk, .. } => *disk != DiskFate::Kept,
                _ => false,
            };
            let at_ms = if loses(&kind) { at_ms.max(FIRST_LOSS_MS) } else { at_ms };
            self.faults.push(Fault { id: FIRST_ID + n, at_ms, for_ms: for_ms.min(self.faulty_ms - at_ms), kind });
        }
    }

    fn churning(&self, rng: &mut Stream) -> FaultKind {
        let servers: Vec<&str> = self.servers().map(|server| server.name.as_str()).collect();
        let any = |rng: &mut Stream| rng.pick(&servers).map(|name| (*name).to_owned()).unwrap_or_default();
        let central = |rng: &mut Stream| if rng.chance(400_000) { MASTER.to_owned() } else { any(rng) };
        let block = |on| FaultKind::Ways { on, effect: Effect::Block };
        match rng.below(100) {
            0..15 => FaultKind::Crash { node: central(rng), disk: DiskFate::Kept },
            15..24 => FaultKind::CrashWriting { node: central(rng), disk: DiskFate::Kept },
            24..27 => FaultKind::CrashWriting { node: any(rng), disk: DiskFate::Torn },
            27..32 => FaultKind::Crash { node: any(rng), disk: DiskFate::Lost },
            32..42 => {
                let (from, to) = servers.iter().map(|name| (*name).to_owned()).partition(|_| rng.chance(500_000));
                block(Selector { from, to, both_ways: rng.chance(700_000), ..Selector::default() })
            }
            42..54 => {
                let (from, to) = if rng.chance(500_000) {
                    (vec![MASTER.to_owned()], vec![])
                } else {
                    (vec![], vec![MASTER.to_owned()])
                };
                block(Selector { from, to, both_ways: rng.chance(600_000), ..Selector::default() })
            }
            54..64 => block(Selector::way(&central(rng), &any(rng), rng.chance(600_000))),
            64..72 => FaultKind::Pause { node: central(rng) },
            72..77 => FaultKind::Sleep { node: central(rng) },
            77..80 => FaultKind::Jump { node: any(rng), by_ms: rng.log_between(50, 5_000) },
            80..87 => FaultKind::Act { node: any(rng), act: Act::Transfer(any(rng)) },
            87..90 => FaultKind::Act { node: MASTER.to_owned(), act: Act::Resign },
            90..93 => FaultKind::Act { node: central(rng), act: Act::Leave },
            93..95 => FaultKind::Act { node: any(rng), act: Act::Remove(central(rng)) },
            95 => FaultKind::Act { node: any(rng), act: Act::Force },
            96 | 97 => FaultKind::Ways {
                on: Selector::default(),
                effect: Effect::Loss(rng.log_between(1_000, 300_000) as u32),
            },
            98 => FaultKind::Ways { on: Selector::default(), effect: Effect::Delay(rng.log_between(1_000, 300_000)) },
            _ => FaultKind::Ways {
                on: Selector::default(),
                effect: Effect::Duplicate(rng.log_between(1_000, 300_000) as u32),
            },
        }
    }
}

fn settings(rng: &mut Stream) -> MasterPlan {
    let drift_ppm = *rng.pick(&[10_000, 10_000, 100_000, 200_000]).unwrap_or(&10_000);
    let election_min_ms = if rng.chance(500_000) { 300 } else { rng.log_between(200, 1_500) };
    // nodes that time out one soon after another find out what a lease is worth
    let spread = *rng.pick(&[20, 133, 133]).unwrap_or(&133);
    MasterPlan {
        heartbeat_ms: election_min_ms / 3,
        election_min_ms,
        election_max_ms: election_min_ms + election_min_ms * spread / 100,
        drift_ppm,
        stable_ms: rng.between(200, 1_500),
        provisional_ms: rng.chance(750_000).then(|| rng.between(1_000, 4_000)),
        remove_ms: rng.chance(500_000).then(|| rng.between(5_000, 15_000)),
    }
}

fn link(rng: &mut Stream) -> LinkModel {
    let delay_us = *rng.pick(&[(100, 500), (100, 500), (2_000, 10_000), (10_000, 60_000)]).unwrap_or(&(100, 500));
    LinkModel {
        delay_us,
        jitter_us: delay_us.0,
        loss_ppm: *rng.pick(&[0, 0, 10_000]).unwrap_or(&0),
        ..LinkModel::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_plan_survives_json_follows_from_its_seed_and_ends_in_time() {
        for seed in 0..100 {
            let plan = Plan::council(seed);
            let text = serde_json::to_string(&plan).unwrap();
            assert_eq!(serde_json::from_str::<Plan>(&text).unwrap(), plan);
            assert_eq!(Plan::council(seed), plan);
            assert!(plan.faults.iter().all(|fault| fault.at_ms + fault.for_ms <= plan.faulty_ms));
            let drift = plan.master.map_or(0, |master| master.drift_ppm);
            assert!(plan.nodes.iter().all(|node| node.clock_ppm.unsigned_abs() <= drift / 2));
        }
    }

    #[test]
    fn every_kind_of_fault_and_act_occurs() {
        let mut kinds = BTreeSet::new();
        for fault in (0..100).flat_map(|seed| Plan::council(seed).faults) {
            let value = serde_json::to_value(&fault).unwrap();
            let words = ["kind", "disk", "act", "effect"].map(|key| match &value[key] {
                serde_json::Value::Object(object) => object.keys().next().cloned().unwrap_or_default(),
                other => other.to_string(),
            });
            kinds.insert(words);
        }
        // three of crashes, two of crashes while writing, pause, sleep, jump, five acts, four effects
        assert_eq!(kinds.len(), 2 + 2 + 3 + 5 + 4, "{kinds:?}");
    }
}
