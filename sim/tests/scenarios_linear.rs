//! Acquire, release and writes under a token: linearizable whatever happens to the servers, if the resource fences.

use std::{rc::Rc, time::Duration};

use p2pcore::{
    Node,
    master::{Flaw, Token},
    node::MemberCommand,
    raft,
};
use sim::{
    check::{
        linear::{Call, History, NotLinearizable},
        office::{Answer, Office, Operation},
    },
    machine::{Maker, nodes},
    plan::{Effect, Selector},
    rng::Stream,
    scenario::Scenario,
    schedule::Schedule,
    world::{Begun, World},
};

const SERVERS: [&str; 5] = ["s1", "s2", "s3", "s4", "s5"];
/// The search is exponential in what is open at once, and linear in the length only as long as that is small.
const MAX_OPERATIONS: usize = 200;
const END: Duration = Duration::from_secs(90);

/// A register somewhere outside.
struct Register {
    is_fenced: bool,
    seen: Option<Token>,
    value: u64,
}

impl Register {
    fn answer(&mut self, operation: Operation) -> Answer {
        let (Operation::Read(token) | Operation::Write { token, .. }) = operation else {
            unreachable!("{operation:?} is not for a register")
        };
        if self.is_fenced && self.seen > Some(token) {
            return Answer::Refused;
        }
        self.seen = self.seen.max(Some(token));
        match operation {
            Operation::Write { to, .. } => {
                self.value = to;
                Answer::Written
            }
            _ => Answer::Value(self.value),
        }
    }
}

/// The application at one server.
#[derive(Default)]
struct App {
    run: u32,
    is_held: bool,
    /// The office that it takes itself to have.
    token: Option<Token>,
    /// It waits for an office.
    acquiring: Option<Call>,
}

enum Step {
    /// An application goes on; it has just read a value, or begins anew.
    Act {
        app: usize,
        run: u32,
        read: Option<u64>,
    },
    /// A request is at the register.
    Arrive {
        app: usize,
        run: u32,
        call: Call,
        operation: Operation,
    },
    /// The answer is back.
    Answer {
        app: usize,
        run: u32,
        call: Call,
        answer: Answer,
    },
    Fault,
    Undo(Undo),
}

enum Undo {
    Kill(usize),
    Hold(usize),
    Ways(Begun),
}

struct Run {
    world: World,
    rng: Stream,
    schedule: Schedule<Step>,
    apps: [App; 5],
    servers: usize,
    register: Register,
    history: History<Operation, Answer>,
    refused: usize,
    offices: usize,
    releases: usize,
}

impl Run {
    fn new(seed: u64, is_fenced: bool, maker: Maker) -> Self {
        let mut rng = Stream::new(seed, "applications", 0);
        let servers = if rng.chance(500_000) { 3 } else { 5 };
        // any two clocks run apart by no more than the bound of one percent
        let scenario = SERVERS[..servers].iter().fold(Scenario::new(seed), |scenario, name| {
            let ppm = rng.between(0, 10_000) as i32 - 5_000;
            scenario.server(name).clock_ppm(ppm)
        });
        let mut world = scenario.start_with(maker);
        world.expect("a Master and its voters", Duration::from_secs(20), |world| {
            world.converged() && world.agreed_master().is_some()
        });
        let mut run = Self {
            world,
            rng,
            schedule: Schedule::default(),
            apps: Default::default(),
            servers,
            register: Register { is_fenced, seen: None, value: 0 },
            history: History::default(),
            refused: 0,
            offices: 0,
            releases: 0,
        };
        (0..servers).for_each(|app| run.act_soon(app, None, 50_000));
        run.soon(2_000_000, Step::Fault);
        run
    }

    fn go(&mut self) {
        while self.history.len() < MAX_OPERATIONS
            && let Some((at, step)) = self.schedule.pop_until(END)
        {
            self.world.run_until(at);
            self.step(step);
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Act { app, run, .. } | Step::Answer { app, run, .. } if self.apps[app].run != run => {}
            Step::Act { app, .. } | Step::Answer { app, .. } if self.apps[app].is_held => {
                self.schedule.push(self.world.now() + Duration::from_millis(7), step);
            }
            Step::Act { app, read, .. } => self.act(app, read),
            Step::Arrive { app, run, call, operation } => {
                let answer = self.register.answer(operation);
                self.soon(200_000, Step::Answer { app, run, call, answer });
            }
            Step::Answer { app, call, answer, .. } => self.answered(app, call, answer),
            Step::Fault => {
                self.fault();
                self.soon(4_000_000, Step::Fault);
            }
            Step::Undo(undo) => self.undo(undo),
        }
    }

    fn act(&mut self, app: usize, read: Option<u64>) {
        let guard = self.world.guard(SERVERS[app]);
        let Some(guard) = guard else {
            if self.apps[app].acquiring.is_none() {
                self.apps[app].acquiring = Some(self.history.invoke(Operation::Acquire));
            }
            return self.act_soon(app, None, 50_000);
        };
        let token = guard.token;
        if self.apps[app].token != Some(token) {
            let call = self.apps[app].acquiring.take().unwrap_or_else(|| self.history.invoke(Operation::Acquire));
            self.history.answer(call, Answer::Acquired(token));
            self.apps[app].token = Some(token);
            self.offices += 1;
            self.all_check();
            return self.act_soon(app, None, 50_000);
        }
        self.at_once(Operation::Check(token), Answer::Valid);
        let operation = match read {
            Some(from) => Operation::Write { token, from, to: self.history.len() as u64 },
            None if self.rng.chance(80_000) => return self.release(app, token),
            None => Operation::Read(token),
        };
        let (run, call) = (self.apps[app].run, self.history.invoke(operation));
        self.soon(3_000_000, Step::Arrive { app, run, call, operation });
    }

    /// Every application looks at its guard: an overlap is short.
    fn all_check(&mut self) {
        for (app, name) in SERVERS.iter().enumerate().take(self.servers) {
            let held = self.world.guard(name).map(|guard| guard.token);
            if let App { is_held: false, token: Some(token), .. } = self.apps[app]
                && held == Some(token)
            {
                self.at_once(Operation::Check(token), Answer::Valid);
            }
        }
    }

    fn answered(&mut self, app: usize, call: Call, answer: Answer) {
        self.history.answer(call, answer);
        match answer {
            Answer::Value(value) => self.act_soon(app, Some(value), 500_000),
            Answer::Refused => {
                self.refused += 1;
                self.act_soon(app, None, 50_000);
            }
            _ => self.act_soon(app, None, 50_000),
        }
    }

    fn release(&mut self, app: usize, token: Token) {
        let call = self.history.invoke(Operation::Release(token));
        self.world.resign(SERVERS[app]).unwrap();
        self.history.answer(call, Answer::Released);
        self.apps[app].token = None;
        self.releases += 1;
        self.act_soon(app, None, 500_000);
    }

    fn at_once(&mut self, operation: Operation, answer: Answer) {
        let call = self.history.invoke(operation);
        self.history.answer(call, answer);
    }

    fn act_soon(&mut self, app: usize, read: Option<u64>, most_us: u64) {
        let run = self.apps[app].run;
        self.soon(most_us, Step::Act { app, run, read });
    }

    fn soon(&mut self, most_us: u64, step: Step) {
        let after = Duration::from_micros(self.rng.log_between(200, most_us));
        self.schedule.push(self.world.now() + after, step);
    }

    /// Whoever is Master is hit half of the time.
    fn fault(&mut self) {
        let master = (0..self.servers).find(|app| self.world.guard(SERVERS[*app]).is_some());
        let any = self.rng.below(self.servers as u64) as usize;
        let hit = master.filter(|_| self.rng.chance(500_000)).unwrap_or(any);
        let name = SERVERS[hit];
        if !self.world.is_running(name) || self.apps[hit].is_held {
            return;
        }
        let undo = match self.rng.below(6) {
            0 => {
                self.world.kill(name);
                self.apps[hit] = App { run: self.apps[hit].run + 1, ..App::default() };
                Undo::Kill(hit)
            }
            1 => {
                self.world.pause(name);
                self.apps[hit].is_held = true;
                Undo::Hold(hit)
            }
            2 => {
                self.world.sleep(name);
                self.apps[hit].is_held = true;
                Undo::Hold(hit)
            }
            3 => {
                let to = self.world.id(SERVERS[any]);
                // whether anybody can is none of the operator's business
                let _ = self.world.change_members(name, MemberCommand::Transfer(to));
                return;
            }
            cut => {
                let on = Selector { from: vec![name.to_owned()], both_ways: cut == 4, ..Selector::default() };
                let effects = [Effect::Block, Effect::Block, Effect::Delay(200_000), Effect::Loss(300_000)];
                Undo::Ways(self.world.begin(&on, *self.rng.pick(&effects).unwrap_or(&Effect::Block)))
            }
        };
        self.soon(5_000_000, Step::Undo(undo));
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Kill(app) => {
                self.world.revive(SERVERS[app]);
                self.act_soon(app, None, 50_000);
            }
            Undo::Hold(app) => {
                self.world.wake_up(SERVERS[app]);
                self.apps[app].is_held = false;
            }
            Undo::Ways(begun) => self.world.mend(begun),
        }
    }

    fn verdict(&self) -> Result<(), NotLinearizable> {
        self.history.check(&Office)
    }
}

#[test]
fn with_a_fence_every_history_is_linearizable() {
    let (mut operations, mut refused, mut offices, mut releases) = (0, 0, 0, 0);
    for seed in 0..30 {
        let mut run = Run::new(seed, true, nodes());
        run.go();
        run.world.assert_clean();
        assert_eq!(run.verdict(), Ok(()), "seed {seed}");
        operations += run.history.len();
        refused += run.refused;
        offices += run.offices;
        releases += run.releases;
    }
    println!(
        "{operations} operations, {offices} offices, {releases} of them released, {refused} requests of deposed Masters refused"
    );
    assert!(refused > 0 && releases > 0 && offices > 100, "nothing was tried");
}

#[test]
fn without_a_fence_updates_are_lost() {
    let found = (0..10).filter(|seed| {
        let mut run = Run::new(*seed, false, nodes());
        run.go();
        run.world.assert_clean();
        run.verdict().is_err()
    });
    let found: Vec<u64> = found.collect();
    println!("without a fence {} of 10 histories are not linearizable: seeds {found:?}", found.len());
    assert!(!found.is_empty());
}

#[test]
fn guards_that_overlap_are_not_linearizable_though_the_register_fences() {
    for flaw in [Flaw::StaleLease, Flaw::Raft(raft::Flaw::VoteDespiteLeader), Flaw::Raft(raft::Flaw::LeaseInTransfer)] {
        let planted: Maker = Rc::new(move |config, start| {
            let mut node = Node::new(config, start)?;
            node.plant(flaw);
            Ok(Box::new(node))
        });
        let found = (0..100).find(|seed| {
            let mut run = Run::new(*seed, true, planted.clone());
            run.go();
            run.verdict().is_err()
        });
        println!("{flaw:?} is found with seed {found:?}");
        assert!(found.is_some(), "{flaw:?}");
    }
}
