//! The faults of the plan begin and end here.

use std::time::Duration;

use super::{Happening, World};
use crate::plan::FaultKind;

impl World {
    /// After standing still a node needs so long until its clock counts again.
    const EXCUSE: Duration = Duration::from_secs(5);

    pub(super) fn fault_begins(&mut self, n: usize) {
        let fault = self.plan.faults[n].clone();
        tracing::info!(target: "sim", "fault {} begins: {:?}", fault.id, fault.kind);
        match fault.kind {
            FaultKind::Ways { on, effect } => self.network.begin(fault.id, &on, effect),
            FaultKind::Crash { node, disk } => self.of(&node, |world, n| {
                world.end(n, false);
                if !disk {
                    world.processes[n].disk.lose();
                }
            }),
            FaultKind::Leave { node } => self.of(&node, Self::leave),
            FaultKind::Pause { node } => self.of(&node, |world, n| world.hold(n, fault.id)),
            FaultKind::InterfaceDown { node, interface } => {
                self.of(&node, |world, n| world.set_interface(n, interface, false));
            }
            FaultKind::Hostile { .. } => self.schedule.push(self.now, Happening::Hostile(n)),
        }
    }

    pub(super) fn fault_ends(&mut self, n: usize) {
        let fault = self.plan.faults[n].clone();
        tracing::info!(target: "sim", "fault {} ends", fault.id);
        match fault.kind {
            FaultKind::Ways { .. } => self.network.end(fault.id),
            FaultKind::Crash { node, .. } | FaultKind::Leave { node } => self.of(&node, |world, n| {
                world.end(n, false);
                world.start(n);
            }),
            FaultKind::Pause { node } => self.of(&node, |world, n| world.let_go(n, fault.id)),
            FaultKind::InterfaceDown { node, interface } => {
                self.of(&node, |world, n| world.set_interface(n, interface, true));
            }
            FaultKind::Hostile { .. } => {}
        }
    }

    /// Ends every fault: whoever stood still goes on, whoever is dead starts again.
    pub fn heal(&mut self) {
        tracing::info!(target: "sim", "everything heals");
        self.network.heal();
        // slow readers would need longer than anybody waits for what they have
        self.schedule
            .hasten(self.now, |happening| matches!(happening, Happening::Taken { .. } | Happening::Answer { .. }));
        for n in 0..self.processes.len() {
            if !self.processes[n].held.is_empty() {
                self.processes[n].held.clear();
                self.was_held(n);
            }
            if self.processes[n].stopping {
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
        self.processes[n].excused_until = self.now + Self::EXCUSE;
        self.goes_on(n);
    }

    /// Does something with a node of that name, if there is one: plans are written by hand too.
    fn of(&mut self, name: &str, act: impl FnOnce(&mut Self, usize)) {
        if let Some(n) = self.named(name) {
            act(self, n);
        }
    }
}
