//! The second phase: in the healed world everything must come right.

use std::{collections::BTreeMap, time::Duration};

use p2pcore::{
    Id, Reason,
    node::{Outcome, Status},
};

use super::World;
use crate::check::{Breach, convergence};

impl World {
    /// Runs the healed world until it has converged and one message has gone between each two nodes, or reports what
    /// is missing after [`Plan::converge_ms`](crate::plan::Plan::converge_ms).
    pub fn converge(&mut self) {
        const STEP: Duration = Duration::from_millis(250);
        /// A message in a world at rest, behind what its lane still carries of expired ones; less than a time to live.
        const SOON: Duration = Duration::from_secs(50);
        /// On demand no table shows whether all who were told that somebody is absent have heard of his return.
        const TOLD: Duration = Duration::from_secs(2);
        let healed = self.now;
        let end = healed + Duration::from_millis(self.plan.converge_ms);
        let rest = if self.plan.demand.is_some() { TOLD } else { Duration::ZERO };
        let mut since = None;
        while !self.violations.is_full() {
            let missing = self.unconverged();
            if !missing.is_empty() {
                since = None;
            } else if self.now >= *since.get_or_insert(self.now) + rest {
                break;
            }
            if self.now >= end {
                return missing.into_iter().for_each(|breach| self.report(breach));
            }
            self.run_until(self.now + STEP);
            self.operate(healed);
        }
        let mut sent = self.send_around();
        let end = self.now + SOON;
        while !self.violations.is_full() {
            let missing: Vec<_> = sent.iter().filter(|(_, to, number)| !self.is_delivered(*to, *number)).collect();
            if missing.is_empty() {
                return;
            }
            if self.now >= end {
                let breach = |(from, to, _): &&(usize, usize, Option<u64>)| {
                    let what = "a message in the healed world is not delivered in time";
                    Breach::new("convergence", [self.id_of(*from), self.id_of(*to)], what)
                };
                let breaches: Vec<Breach> = missing.iter().map(breach).collect();
                return breaches.into_iter().for_each(|breach| self.report(breach));
            }
            self.run_until(self.now + STEP);
            self.send_again(&mut sent);
        }
    }

    /// A message written to a link whose other end had just died has an unknown outcome, by contract: once more.
    fn send_again(&mut self, sent: &mut [(usize, usize, Option<u64>)]) {
        for (from, to, number) in sent {
            let outcome = number.and_then(|number| self.ledger.outcome_of(number, self.id_of(*to)));
            if outcome == Some(Outcome::Failed(Reason::UnknownOutcome)) {
                *number = self.app_sends(*from, &[self.id_of(*to)], 100, 0, None);
            }
        }
    }

    /// What still differs from a world at rest.
    pub fn unconverged(&mut self) -> Vec<Breach> {
        let mut breaches = convergence::differences(&self.statuses());
        let (messages, requests) = (self.ledger.open(), self.requests.open());
        if messages + requests > 0 {
            let what = format!("{messages} messages without outcome, {requests} requests without reply");
            breaches.push(Breach::new("one_outcome", [], what));
        }
        for (run, to) in self.ledger.still_blocked() {
            let nodes = [self.id_of(run.process), to];
            breaches.push(Breach::new("one_unblocked", nodes, "blocked, and never unblocked"));
        }
        for process in &self.processes {
            if process.unhanded.values().any(|waiting| *waiting > 0) {
                breaches.push(Breach::new("convergence", [process.id()], "its application has not read all messages"));
            }
        }
        if let Some(run) = self.streams.stuck(self.now).first() {
            let node = self.id_of(run.process);
            breaches.push(Breach::new("streams_end", [node], "a byte stream neither ends nor is reset"));
        }
        breaches
    }

    /// The tables of all running nodes.
    pub fn statuses(&self) -> BTreeMap<Id, Status> {
        let machines = self.processes.iter().filter_map(|process| process.machine.as_ref());
        machines.map(|machine| (machine.id(), machine.status())).collect()
    }

    fn send_around(&mut self) -> Vec<(usize, usize, Option<u64>)> {
        let nodes = 0..self.processes.len();
        let pairs: Vec<_> = nodes.clone().flat_map(|from| nodes.clone().map(move |to| (from, to))).collect();
        let pairs = pairs.into_iter().filter(|(from, to)| from != to);
        pairs.map(|(from, to)| (from, to, self.app_sends(from, &[self.id_of(to)], 100, 0, None))).collect()
    }

    fn is_delivered(&self, to: usize, number: Option<u64>) -> bool {
        number.is_some_and(|number| self.ledger.outcome_of(number, self.id_of(to)) == Some(Outcome::Delivered))
    }
}
