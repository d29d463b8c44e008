//! The load of the plan: what the applications do by themselves.

use std::time::Duration;

use p2pcore::Id;

use super::{Happening, World, process::identity};
use crate::plan::LoadKind;

/// The number of a key that no node of a plan has.
const NOBODYS_KEY: u64 = u64::MAX;

impl World {
    pub(super) fn load(&mut self, n: usize) {
        let load = self.plan.loads[n].clone();
        let rng = &mut self.loads[n];
        let pause = load.every_us / 2 + rng.below(load.every_us.max(1));
        let again = self.now + Duration::from_micros(pause.max(1));
        if again < Duration::from_millis(load.until_ms) {
            self.schedule.push(again, Happening::Load(n));
        }
        // the draws are made whether the node runs or not: what one fault does to it moves no later choice
        let mut choose = || rng.pick(&load.to).cloned();
        let names = [choose(), choose(), choose()];
        let draws = [(); 4].map(|()| rng.next_u64());
        let mut to: Vec<Id> =
            names.iter().flatten().filter_map(|name| self.named(name)).map(|n| self.id_of(n)).collect();
        to.sort_unstable();
        to.dedup();
        let Some(from) = self.named(&load.from) else { return };
        let process = &self.processes[from];
        if process.machine.is_none() || process.stopping || !process.held.is_empty() {
            return;
        }
        let is_to_master = matches!(load.kind, LoadKind::ToMaster { .. } | LoadKind::AskMaster { .. });
        let Some(first) = to.first().copied().or(is_to_master.then(|| self.id_of(from))) else { return };
        let below = |draw: u64, bound: usize| (draw % (bound as u64).max(1)) as usize;
        match load.kind {
            LoadKind::Messages { fan_out, lanes, burst, max_len, ttl_ms } => {
                to.truncate(1 + below(draws[0], usize::from(fan_out)));
                for n in 0..u64::from(burst.max(1)) {
                    let lane = below(draws[1].wrapping_add(n), usize::from(lanes)) as u8;
                    let len = below(draws[2].rotate_left(n as u32 * 7), max_len);
                    self.app_sends(from, &to, len, lane, ttl_ms.map(Duration::from_millis));
                }
            }
            LoadKind::ToNobody => {
                let nobody = identity(self.plan.seed, draws[0].is_multiple_of(2), NOBODYS_KEY).id();
                self.app_sends(from, &[nobody], below(draws[1], 1_000), 0, None);
            }
            LoadKind::Requests { max_len, timeout_ms } => {
                self.app_asks(from, first, below(draws[0], max_len), timeout_ms.map(Duration::from_millis));
            }
            LoadKind::Datagrams { max_len } => self.app_datagram(from, first, below(draws[0], max_len)),
            LoadKind::ToMaster { max_len, ttl_ms } => {
                self.app_tells_master(from, below(draws[0], max_len), ttl_ms.map(Duration::from_millis));
            }
            LoadKind::AskMaster { max_len, timeout_ms } => {
                self.app_asks_master(from, below(draws[0], max_len), timeout_ms.map(Duration::from_millis));
            }
            LoadKind::Streams { max_len } => drop(self.app_streams(from, first, draws[0] % max_len.max(1))),
        }
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    pub(super) fn id_of(&self, number: usize) -> Id {
        self.processes[number].id()
    }
}
