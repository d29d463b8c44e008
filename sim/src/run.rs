//! A whole run: faults with safety checks, then the healed world and its convergence.

use std::{
    any::Any,
    panic::{self, AssertUnwindSafe},
    time::Duration,
};

use serde::Serialize;

use crate::{
    check::{Breach, Violation, Violations},
    clock,
    machine::Maker,
    plan::Plan,
    world::World,
};

/// What a run of one seed says; printed as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// The hash over all inputs and outputs of all nodes.
    pub hash: String,
    /// The promises broken.
    pub violations: Vec<Violation>,
    /// Virtual time.
    #[serde(skip)]
    pub time: Duration,
    /// How many nodes there were.
    #[serde(skip)]
    pub nodes: usize,
}

/// What a run of many seeds says; printed as it is.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Summary {
    /// How many seeds.
    pub seeds: u64,
    /// Nodes times virtual hours.
    pub node_hours: f64,
    /// Virtual seconds in a second.
    pub ratio: f64,
    /// The promises broken.
    pub violations: Vec<Violation>,
}

/// Runs the plan that `seed` makes.
pub fn seed(seed: u64, maker: Maker) -> Report {
    plan(Plan::from_seed(seed), maker)
}

/// Runs a plan. A node that panics breaks a promise like any other.
pub fn plan(plan: Plan, maker: Maker) -> Report {
    let (seed, nodes) = (plan.seed, plan.nodes.len());
    let faulty = Duration::from_millis(plan.faulty_ms);
    let whole = panic::catch_unwind(AssertUnwindSafe(|| {
        let mut world = World::new(plan, maker);
        world.run_until(faulty);
        world.heal();
        world.converge();
        Report { seed, hash: world.hash(), violations: world.violations().to_vec(), time: world.now(), nodes }
    }));
    whole.unwrap_or_else(|panic| {
        let mut violations = Violations::default();
        violations.add(seed, clock::now(), Breach::new("no_panic", [], message(panic.as_ref())));
        Report { seed, hash: "0".repeat(32), violations: violations.list().to_vec(), time: clock::now(), nodes }
    })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str).or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without words").to_owned()
}

impl Summary {
    /// Puts the reports of many seeds together; `wall` is how long they took.
    pub fn of(reports: &[Report], wall: Duration) -> Self {
        let time: Duration = reports.iter().map(|report| report.time).sum();
        let node_hours = reports.iter().map(|r| r.time.as_secs_f64() * r.nodes as f64 / 3_600.0).sum();
        Self {
            seeds: reports.len() as u64,
            node_hours,
            ratio: time.as_secs_f64() / wall.as_secs_f64().max(1e-9),
            violations: reports.iter().flat_map(|report| report.violations.clone()).collect(),
        }
    }
}
