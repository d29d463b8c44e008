//! The faults of the plan begin and end here.

use std::time::Duration;

use super::{Happening, World};
use crate::plan::{Act, FaultKind, MASTER};

impl World {
    /// After standing still a node needs so long until its clock counts again.
    const EXCUSE: Duration = Duration::from_secs(5);

    pub(super) fn fault_begins(&mut self, n: usize) {
        let fault = self.plan.faults[n].clone();
        tracing::info!(target: "sim", "fault {} begins: {:?}", fault.id, fault.kind);
        let Some(kind) = self.resolved(fault.kind) else { return };
        self.faults.insert(n, kind.clone());
        match kind {
            FaultKind::Ways { on, effect } => self.network.begin(fault.id, &on, effect),
            FaultKind::Crash { node, disk } => self.of(&node, |world, n| world.crash(n, disk)),
            FaultKind::CrashWriting { node, disk } => {
                self.of(&node, |world, n| world.processes[n].disk.set_trap(Some(disk)));
            }
            FaultKind::Leave { node } => self.of(&node, Self::leave),
            FaultKind::Pause { node } => self.of(&node, |world, n| world.hold(n, fault.id)),
            FaultKind::Sleep { node } => self.of(&node, |world, n| world.fall_asleep(n, fault.id)),
            FaultKind::Jump { node, by_ms } => {
                self.of(&node, |world, n| world.clock_jumps(n, Duration::from_millis(by_ms)));
            }
            FaultKind::Act { node, act } => self.of(&node, |world, n| drop(world.act(n, &act))),
            FaultKind::InterfaceDown { node, interface } => {
                self.of(&node, |world, n| world.set_interface(n, interface, false));
            }
            FaultKind::Hostile { .. } => self.schedule.push(self.now, Happening::Hostile(n)),
        }
    }

    pub(super) fn fault_ends(&mut self, n: usize) {
        let Some(kind) = self.faults.remove(&n) else { return };
        let id = self.plan.faults[n].id;
        tracing::info!(target: "sim", "fault {id} ends");
        match kind {
            FaultKind::Ways { .. } => self.network.end(id),
            FaultKind::Crash { node, .. } | FaultKind::Leave { node } => self.of(&node, |world, n| {
                world.end(n, false);
                world.start(n);
            }),
            FaultKind::CrashWriting { node, .. } => self.of(&node, |world, n| {
                world.processes[n].disk.set_trap(None);
                world.start(n);
            }),
            FaultKind::Pause { node } | FaultKind::Sleep { node } => self.of(&node, |world, n| world.let_go(n, id)),
            FaultKind::Act { act: Act::Remove(node), .. } | FaultKind::Act { node, act: Act::Leave } => {
                self.of(&node, Self::start);
            }
            FaultKind::InterfaceDown { node, interface } => {
                self.of(&node, |world, n| world.set_interface(n, interface, true));
            }
            FaultKind::Hostile { .. } | FaultKind::Jump { .. } | FaultKind::Act { .. } => {}
        }
    }

    /// The fault with the name of the present Master where it says so; `None` if that is nobody.
    fn resolved(&self, mut kind: FaultKind) -> Option<FaultKind> {
        let mut names: Vec<&mut String> = match &mut kind {
            FaultKind::Ways { on, .. } => on.from.iter_mut().chain(&mut on.to).collect(),
            FaultKind::Act { node, act: Act::Remove(other) | Act::Transfer(other) } => vec![node, other],
            FaultKind::Crash { node, .. }
            | FaultKind::CrashWriting { node, .. }
            | FaultKind::Leave { node }
            | FaultKind::Pause { node }
            | FaultKind::Sleep { node }
            | FaultKind::Jump { node, .. }
            | FaultKind::Act { node, .. }
            | FaultKind::InterfaceDown { node, .. }
            | FaultKind::Hostile { node, .. } => vec![node],
        };
        names.retain(|name| *name == MASTER);
        if !names.is_empty() {
            let master = self.holder()?;
            names.into_iter().for_each(|name| master.clone_into(name));
        }
        Some(kind)
    }

    /// Ends every fault: whoever stood still goes on, whoever is dead starts again.
    pub fn heal(&mut self) {
        tracing::info!(target: "sim", "everything heals");
        self.network.heal();
        // slow readers would need longer than anybody waits for what they have
        self.schedule
            .hasten(self.now, |happening| matches!(happening, Happening::Taken { .. } | Happening::Answer { .. }));
        self.faults.clear();
        for n in 0..self.processes.len() {
            self.processes[n].disk.set_trap(None);
            if !self.processes[n].held.is_empty() {
                self.processes[n].held.clear();
                self.was_held(n);
            }
            if self.processes[n].stopping || self.wants_out(n) {
                self.end(n, false);
            }
            self.processes[n].plan.reading_us = 0;
            self.processes[n].reads_until = self.now;
            self.start(n);
            self.network_changed(n);
        }
    }

    pub(super) fn hold(&mut self, n: usize, by: u64) {
        self.processes[n].held.insert(by);
    }

    /// Its clock stands still too: it cannot act, so what it believes does not count until it wakes up.
    pub(super) fn fall_asleep(&mut self, n: usize, by: u64) {
        self.hold(n, by);
        self.processes[n].clock.stand(self.now);
        self.judge(n);
    }

    pub(super) fn clock_jumps(&mut self, n: usize, by: Duration) {
        self.trace.note(self.now, n, &("jump", by));
        self.processes[n].clock.jump(self.now, by);
        self.consensus.clock_jumped(self.now, self.config.master.timing.election_max);
        self.judge(n);
        if self.processes[n].held.is_empty() {
            self.set_alarm(n);
        }
    }

    pub(super) fn let_go(&mut self, n: usize, by: u64) {
        if self.processes[n].held.remove(&by) && self.processes[n].held.is_empty() {
            self.was_held(n);
        }
    }

    pub(super) fn set_interface(&mut self, n: usize, interface: u8, up: bool) {
        self.network.set_interface(n, interface, up);
        self.network_changed(n);
    }

    fn was_held(&mut self, n: usize) {
        let process = &mut self.processes[n];
        process.excused_until = self.now + Self::EXCUSE;
        if process.clock.stands() {
            let stood = process.clock.run(self.now);
            if let Some(run) = process.run() {
                self.ledger.slept(run, stood);
                self.requests.slept(run, stood);
            }
            self.resumed(n);
        }
        let missed = std::mem::take(&mut self.processes[n].missed);
        missed.into_iter().for_each(|happening| self.schedule.push(self.now, happening));
        self.goes_on(n);
    }

    /// Does something with a node of that name, if there is one: plans are written by hand too.
    fn of(&mut self, name: &str, act: impl FnOnce(&mut Self, usize)) {
        if let Some(n) = self.named(name) {
            act(self, n);
        }
    }
}
