//! The servers as judges see them, what operators do at them, and the resources that their Masters write.

use std::time::{Duration, Instant};

use p2pcore::{
    CommandError, Id, Input, Node,
    master::{Kind, Standing, Token},
    node::{Guard, MemberCommand},
};

use super::{Happening, World, process::Process};
use crate::{
    check::consensus::{Held, fence::Resource, views},
    plan::Act,
    rng::Stream,
};

/// One resource that fences and one that does not, and the writes of each server.
#[derive(Debug)]
pub(super) struct Resources {
    fenced: Resource,
    /// Nothing is promised of it; it shows what the fence is for.
    unfenced: Resource,
    strays: u64,
    writers: Vec<Stream>,
}

impl Resources {
    pub(super) fn new(seed: u64, nodes: usize) -> Self {
        let writers = (0..nodes).map(|n| Stream::new(seed, "writer", n as u64)).collect();
        Self { fenced: Resource::new(true), unfenced: Resource::new(false), strays: 0, writers }
    }

    /// How many writes the fence refused, and how many got through without it that should not have.
    pub(super) fn counts(&self) -> (u64, u64) {
        (self.fenced.refused(), self.strays)
    }
}

impl World {
    /// Looks at a node after it was touched.
    pub(super) fn judge(&mut self, number: usize) {
        let process = &self.processes[number];
        let (Some(run), Some(machine)) = (process.run(), process.machine.as_deref()) else { return };
        if !process.plan.server {
            return;
        }
        if process.clock.stands() {
            return self.consensus.stands_still(run);
        }
        let (id, epoch) = (process.id(), self.epoch);
        let in_world = |at: Instant| process.clock.world(at.saturating_duration_since(epoch));
        let held = machine.guard().map(|Guard { token, until }| Held { token, until: in_world(until) });
        let council = machine.council();
        let mut breaches = self.consensus.look(self.now, run, id, council, held);
        if let Some(council) = council
            && let Some(token) = council.view().token()
            && (token.id, token.kind) == (id, Kind::Provisional)
        {
            let older = council.roster().ids().find(|other| *other != id);
            let is_vetoed = machine.status().links.iter().any(|link| Some(link.to) == older);
            breaches.extend(views::provisional(id, council.roster().members.len(), is_vetoed).err());
        }
        breaches.into_iter().for_each(|breach| self.report(breach));
    }

    /// A server's disk has changed.
    pub(super) fn judge_disk(&mut self, number: usize) {
        let process = &self.processes[number];
        let (id, Some(state)) = (process.id(), &process.disk.state) else { return };
        if !process.plan.server {
            return;
        }
        // the engine's own tests write what no node would
        let Ok(durable) = Node::saved_council(state, id) else { return };
        if let Some(durable) = &durable {
            let council = process.machine.as_deref().and_then(|machine| machine.council());
            let breach = self.consensus.written(id, durable, council);
            self.check(breach);
        }
        self.processes[number].disk.council = durable;
    }

    /// The name of the server that may act as Master now, by its own clock.
    pub(super) fn holder(&self) -> Option<String> {
        let held = |n: &usize| self.valid_guard(*n).is_some();
        (0..self.processes.len()).find(held).map(|n| self.processes[n].plan.name.clone())
    }

    pub(super) fn valid_guard(&self, number: usize) -> Option<Guard> {
        let machine = self.processes[number].machine.as_deref()?;
        machine.guard().filter(|guard| guard.is_valid(self.instant(number)))
    }

    /// The token of the office that a server holds now: with a guard, or as the Provisional Master that it shows.
    pub(super) fn office(&self, number: usize) -> Option<Token> {
        let shown = || {
            let token = self.processes[number].machine.as_deref()?.master()?.token()?;
            (token.id == self.id_of(number) && token.kind == Kind::Provisional).then_some(token)
        };
        self.valid_guard(number).map(|guard| guard.token).or_else(shown)
    }

    /// Whether a server asked to leave, and has not left: nobody may have heard it.
    pub(super) fn wants_out(&self, number: usize) -> bool {
        let council = self.processes[number].machine.as_deref().and_then(|machine| machine.council());
        council.is_some_and(|council| council.standing() != Standing::Active)
    }

    /// Does what an operator or an application does at a server.
    pub(super) fn act(&mut self, number: usize, act: &Act) -> Option<Result<(), CommandError>> {
        let id = |name: &str| self.named(name).map(|n| self.id_of(n));
        let command = match act {
            Act::Resign => None,
            Act::Leave => Some(MemberCommand::Leave),
            Act::Remove(name) => Some(MemberCommand::Remove(id(name)?)),
            Act::Transfer(name) => Some(MemberCommand::Transfer(id(name)?)),
            Act::Force => Some(MemberCommand::ForceNewCluster).filter(|_| self.knows_newest(number)),
        };
        if command.is_none() && *act == Act::Force {
            return None;
        }
        self.trace.note(self.now, number, act);
        let result = self.command(number, |machine, now| match command {
            Some(command) => machine.change_members(now, command),
            None => machine.resign(now),
        });
        tracing::info!(target: "sim", "{} is told to {act:?}: {result:?}", self.processes[number].plan.name);
        result
    }

    /// An operator forces a new cluster only where the newest one is known: two of one generation never merge.
    fn knows_newest(&self, number: usize) -> bool {
        let generation = |process: &Process| {
            let council = process.machine.as_deref().and_then(|machine| machine.council());
            let in_memory = council.and_then(|council| council.allegiance());
            in_memory.map_or(0, |own| own.generation.number).max(process.disk.generation())
        };
        let own = generation(&self.processes[number]);
        own > 0 && self.processes.iter().all(|process| generation(process) <= own)
    }

    /// Whether no other disk knows of the newest cluster that a disk knows of.
    pub(super) fn has_last_copy(&self, number: usize) -> bool {
        let generation = |process: &Process| process.disk.generation();
        let own = generation(&self.processes[number]);
        let others = self.processes.iter().filter(|process| process.number != number);
        own > 0 && others.map(generation).all(|other| other < own)
    }

    /// A server writes to the resources while it is Master; the write takes its time.
    pub(super) fn write_as_master(&mut self, number: usize) {
        const EVERY_US: u64 = 400_000;
        const SLOWEST_US: u64 = 3_000_000;
        let writer = &mut self.resources.writers[number];
        let (pause, delay) = (writer.between(1, EVERY_US), writer.log_between(100, SLOWEST_US));
        self.schedule.push(self.now + Duration::from_micros(pause), Happening::Writes(number));
        if self.processes[number].held.is_empty()
            && let Some(Guard { token, .. }) = self.valid_guard(number)
        {
            self.schedule.push(self.now + Duration::from_micros(delay), Happening::Write(token));
        }
    }

    pub(super) fn write_arrives(&mut self, token: Token) {
        let tenures = self.consensus.tenures();
        let breach = self.resources.fenced.write(token, tenures).map(drop);
        self.resources.strays += u64::from(self.resources.unfenced.write(token, tenures).is_err());
        self.check(breach);
    }

    /// The machine slept.
    pub(super) fn resumed(&mut self, number: usize) {
        self.trace.note(self.now, number, &"resumed");
        self.input(number, Input::Resumed);
    }

    /// The name of a node.
    pub(super) fn name_of(&self, id: Id) -> Option<String> {
        self.processes.iter().find(|process| process.id() == id).map(|process| process.plan.name.clone())
    }
}
