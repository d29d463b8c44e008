//! The world: runs many nodes against the network, the faults and the load of a plan, and has every promise checked.

mod app;
mod clock;
mod control;
mod converge;
mod disk;
mod driver;
mod fault;
mod hostile;
mod inspect;
mod load;
mod master;
mod operator;
mod process;
mod streams;
mod to_master;

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use p2pcore::{
    Config, Id,
    master::Token,
    node::{Receipt, ReplyToken},
};

use self::{hostile::Hostile, master::Resources, process::Process, streams::Streams};
use crate::{
    check::{
        Breach, Run, Violation, Violations, bounds::Bounds, consensus::Consensus, ledger::Ledger, limits,
        requests::Requests, strangers::Strangers,
    },
    machine::Maker,
    net::{Arrival, Network},
    plan::{DiskFate, FaultKind, Plan},
    rng::Stream,
    schedule::Schedule,
    trace::Trace,
};

pub use control::{Begun, Sent};
pub use process::Seen;
pub use streams::Progress;

/// A world in the middle of its run.
pub struct World {
    plan: Plan,
    config: Config,
    maker: Maker,
    epoch: Instant,
    now: Duration,
    schedule: Schedule<Happening>,
    network: Network,
    processes: Vec<Process>,
    names: BTreeMap<String, usize>,
    loads: Vec<Stream>,
    streams: Streams,
    hostile: Hostile,
    trace: Trace,
    violations: Violations,
    ledger: Ledger,
    requests: Requests,
    bounds: Bounds,
    strangers: Strangers,
    consensus: Consensus,
    resources: Resources,
    /// The faults under way, with the names of those whom they hit.
    faults: BTreeMap<usize, FaultKind>,
}

/// What the schedule holds. What belongs to one run of a process is void when that run is over.
#[derive(Debug)]
enum Happening {
    Arrive(Arrival),
    Start(usize),
    Wake(Run),
    Drain(Run),
    /// The disk has carried out the oldest order under way.
    Persisted(Run),
    /// The process dies while an order to the disk is under way.
    Crash(Run, DiskFate),
    /// The application has taken a message.
    Taken {
        run: Run,
        from: Id,
        receipt: Receipt,
        number: u64,
    },
    /// The application answers a request.
    Answer {
        run: Run,
        token: ReplyToken,
        number: u64,
    },
    FaultBegins(usize),
    FaultEnds(usize),
    /// A stopped node has had its time to say goodbye.
    GoodbyeOver(Run),
    Hostile(usize),
    Load(usize),
    /// A server writes to a resource if it is Master.
    Writes(usize),
    /// A write under this token arrives there.
    Write(Token),
    Check,
}

impl Happening {
    /// The process without which this cannot happen: not while it stands still.
    fn waits_for(&self) -> Option<usize> {
        match self {
            Self::Persisted(run) | Self::Taken { run, .. } | Self::Answer { run, .. } => Some(run.process),
            _ => None,
        }
    }
}

impl World {
    const CHECK_EVERY: Duration = Duration::from_millis(100);

    /// The world of `plan` at time zero, with default settings for its nodes.
    pub fn new(plan: Plan, maker: Maker) -> Self {
        Self::with_config(plan, Config::default(), maker)
    }

    /// The world of `plan` at time zero.
    pub fn with_config(plan: Plan, mut config: Config, maker: Maker) -> Self {
        config.master = plan.master.map_or(config.master, Into::into);
        if let Some(demand) = plan.demand {
            config.full_mesh_peers = demand.full_mesh_peers;
            config.full_mesh_again = demand.full_mesh_again;
            config.idle_link = Duration::from_millis(demand.idle_ms);
        }
        let mut network = Network::new(&plan);
        let hostile = Hostile::new(&plan, &mut network);
        let slowest = plan.nodes.iter().map(|node| -node.clock_ppm).max().unwrap_or(0).max(0).unsigned_abs();
        let mut world = Self {
            config,
            maker,
            epoch: Instant::now(),
            now: Duration::ZERO,
            schedule: Schedule::default(),
            network,
            processes: plan.nodes.iter().enumerate().map(|(n, node)| Process::new(plan.seed, n, node)).collect(),
            names: plan.nodes.iter().enumerate().map(|(n, node)| (node.name.clone(), n)).collect(),
            loads: plan.loads.iter().map(|load| Stream::new(plan.seed, "load", load.id)).collect(),
            streams: Streams::default(),
            hostile,
            trace: Trace::default(),
            violations: Violations::default(),
            ledger: Ledger::default(),
            requests: Requests::default(),
            bounds: Bounds::new(slowest),
            strangers: Strangers::default(),
            consensus: Consensus::default(),
            resources: Resources::new(plan.seed, plan.nodes.len()),
            faults: BTreeMap::new(),
            plan,
        };
        world.schedule_plan();
        world
    }

    /// Virtual time.
    pub fn now(&self) -> Duration {
        self.now
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The hash over all that went into and came out of the nodes so far.
    pub fn hash(&self) -> String {
        self.trace.hash()
    }

    /// The promises broken so far.
    pub fn violations(&self) -> &[Violation] {
        self.violations.list()
    }

    /// Runs to virtual time `until`, or until there are too many violations.
    pub fn run_until(&mut self, until: Duration) {
        while !self.violations.is_full()
            && let Some((at, happening)) = self.schedule.pop_until(until)
        {
            self.advance(at);
            self.happen(happening);
        }
        self.advance(until);
    }

    fn advance(&mut self, to: Duration) {
        self.now = self.now.max(to);
        crate::clock::set(self.now);
    }

    /// The time that a node is told.
    fn instant(&self, number: usize) -> Instant {
        self.epoch + self.processes[number].clock.shows(self.now)
    }

    fn schedule_plan(&mut self) {
        let at = Duration::from_millis;
        for (n, node) in self.plan.nodes.iter().enumerate() {
            self.schedule.push(at(node.start_ms), Happening::Start(n));
            if node.server {
                self.schedule.push(at(node.start_ms), Happening::Writes(n));
            }
        }
        for (n, fault) in self.plan.faults.iter().enumerate() {
            self.schedule.push(at(fault.at_ms), Happening::FaultBegins(n));
            self.schedule.push(at(fault.at_ms + fault.for_ms), Happening::FaultEnds(n));
        }
        for (n, load) in self.plan.loads.iter().enumerate() {
            self.schedule.push(at(load.at_ms), Happening::Load(n));
        }
        self.schedule.push(Self::CHECK_EVERY, Happening::Check);
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(number) = happening.waits_for()
            && !self.processes[number].held.is_empty()
        {
            return self.processes[number].missed.push(happening);
        }
        match happening {
            Happening::Arrive(arrival) => self.arrive(arrival),
            Happening::Start(process) => self.start(process),
            Happening::Wake(run) if self.runs(run) => self.wake(run.process),
            Happening::Drain(run) if self.runs(run) => self.lazy_drain(run.process),
            Happening::Persisted(run) if self.runs(run) => self.persisted(run.process),
            Happening::Crash(run, fate) if self.runs(run) => self.crash(run.process, fate),
            Happening::Taken { run, from, receipt, number } if self.runs(run) => {
                self.taken(run.process, from, receipt, number);
            }
            Happening::Answer { run, token, number } if self.runs(run) => self.answer(run.process, token, number),
            Happening::FaultBegins(n) => self.fault_begins(n),
            Happening::FaultEnds(n) => self.fault_ends(n),
            Happening::GoodbyeOver(run) if self.runs(run) => self.goodbye_over(run.process),
            Happening::Hostile(n) => self.hostile_sends(n),
            Happening::Load(n) => self.load(n),
            Happening::Writes(n) => self.write_as_master(n),
            Happening::Write(token) => self.write_arrives(token),
            Happening::Check => self.check_overdue(),
            // of a run that is over
            Happening::Wake(_)
            | Happening::Drain(_)
            | Happening::Persisted(_)
            | Happening::Crash(..)
            | Happening::Taken { .. }
            | Happening::Answer { .. }
            | Happening::GoodbyeOver(_) => {}
        }
    }

    fn runs(&self, run: Run) -> bool {
        self.processes[run.process].run() == Some(run)
    }

    fn check_overdue(&mut self) {
        let Self { processes, ledger, requests, bounds, now, .. } = self;
        let excused = |run: Run| processes[run.process].is_excused(*now);
        for process in processes.iter().filter(|process| process.is_excused(*now)) {
            if let Some(run) = process.run() {
                bounds.excuse(run, *now);
            }
        }
        let mut breaches = Vec::new();
        // a look at everything, so not at each check
        if now.subsec_nanos() < Self::CHECK_EVERY.subsec_nanos() {
            let usage = processes.iter().filter_map(|process| Some((process.id(), process.machine.as_ref()?.usage())));
            breaches.extend(usage.flat_map(|(id, usage)| limits::over(id, &usage)));
        }
        breaches.extend(ledger.overdue(*now, excused));
        breaches.extend(requests.overdue(*now, excused));
        breaches.extend(bounds.overdue(*now, excused));
        breaches.into_iter().for_each(|breach| self.report(breach));
        self.schedule.push(self.now + Self::CHECK_EVERY, Happening::Check);
    }

    fn check(&mut self, result: Result<(), Breach>) {
        if let Err(breach) = result {
            self.report(breach);
        }
    }

    fn report(&mut self, breach: Breach) {
        self.violations.add(self.plan.seed, self.now, breach);
    }
}
