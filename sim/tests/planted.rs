//! Faults of the consensus that are planted in real nodes, each found by the simulator; and the same runs without the fault.

use std::{
    rc::Rc,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use p2pcore::{Node, master::Flaw, raft::Flaw::*};
use sim::{
    machine::{Maker, nodes},
    plan::{
        Act, DiskFate, Effect, Fault, FaultKind, LinkModel, LinkRule, MASTER, MasterPlan, NodePlan, Plan, Selector,
    },
    run,
};

/// A fault, and a seed that finds it: by which checker, in which plan.
type Case = (Flaw, u64, &'static str, fn(u64) -> Plan);

/// Not among them: [`StaleJoin`]. An answer of an earlier membership comes over a link of that membership's process, and a link
/// ends with its process; a membership that ends without a restart keeps its disk, so that its late answer is true.
const CASES: [Case; 19] = [
    (Flaw::AnswerForLostDisk, 160, "one_vote", Plan::council),
    (Flaw::StaleLease, 161, "one_guard", Plan::council),
    (Flaw::IgnoreVeto, 154, "provisional", Plan::council),
    (Flaw::ProvisionalGuard, 168, "one_guard", Plan::council),
    (Flaw::AgeAnew, 161, "age_once", Plan::council),
    (Flaw::ElectUnplaced, 81, "one_guard", founder_reads_its_past),
    (Flaw::LastWordCounts, 7, "views_in_order", Plan::council),
    (Flaw::Raft(VoteNotPersisted), 161, "persist_before_send", Plan::council),
    (Flaw::Raft(VoteAfterStart), 1, "one_guard", voter_restarts_under_a_lease),
    (Flaw::Raft(VoteDespiteLeader), 7, "one_guard", Plan::council),
    (Flaw::Raft(SendBeforePersist), 160, "persist_before_send", Plan::council),
    (Flaw::Raft(DirectStep), 160, "legal_steps", Plan::council),
    (Flaw::Raft(ChangeBeforeNoop), 168, "change_after_noop", Plan::council),
    (Flaw::Raft(CountOldTerms), 163, "commit_own_term", Plan::council),
    (Flaw::Raft(LearnersCount), 160, "persist_before_send", Plan::council),
    (Flaw::Raft(LeaseInTransfer), 1, "one_guard", heir_is_not_heard),
    (Flaw::Raft(LeaseWithoutDrift), 103, "one_guard", Plan::council),
    (Flaw::Raft(LeaseFromAnswer), 1, "one_guard", far_master_is_cut_off),
    (Flaw::Raft(AbortInTerm), 1, "one_guard", timeout_now_is_late),
];

#[test]
fn each_planted_fault_is_found_and_without_it_nothing_is() {
    for (flaw, seed, checker, plan) in CASES {
        // what changes elsewhere moves seeds: one soon after it will do
        let hit = (seed..seed + 40).find(|seed| found(plan(*seed), planted(flaw)).contains(&checker));
        let seed = hit.unwrap_or_else(|| panic!("{flaw:?} is not found by seeds from {seed} on"));
        assert_eq!(run::plan(plan(seed), nodes()).violations, [], "{flaw:?} is not there, seed {seed}");
        println!("planted: {flaw:?} found by seed {seed} ({checker})");
    }
}

/// Looks for seeds that find something: `HUNT=from..to`, and perhaps `FLAW=name`.
#[test]
#[ignore = "takes as long as it is told to"]
fn hunt() {
    let range = std::env::var("HUNT").unwrap_or_else(|_| "0..100".to_owned());
    let (from, to) = range.split_once("..").expect("from..to");
    let (from, to): (u64, u64) = (from.parse().unwrap(), to.parse().unwrap());
    let only = std::env::var("FLAW").unwrap_or_default();
    let hand_made = std::env::var("HAND_MADE").is_ok();
    let cases = CASES.into_iter().chain([(Flaw::Raft(StaleJoin), 0, "", Plan::council as fn(u64) -> Plan)]);
    for (flaw, _, _, plan) in cases.filter(|(flaw, ..)| format!("{flaw:?}").contains(&only)) {
        let plan = if hand_made { plan } else { Plan::council };
        let (next, hit) = (AtomicU64::new(from), Mutex::new(None));
        let search = || {
            while hit.lock().unwrap().is_none() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= to {
                    return;
                }
                let checkers = found(plan(seed), planted(flaw));
                if !checkers.is_empty() {
                    hit.lock().unwrap().get_or_insert((seed, checkers));
                }
            }
        };
        thread::scope(|scope| (0..2).for_each(|_| drop(scope.spawn(search))));
        match hit.into_inner().unwrap() {
            Some((seed, checkers)) => println!("planted: {flaw:?} found by seed {seed} {checkers:?}"),
            None => println!("planted: {flaw:?} not found"),
        }
    }
}

/// Nodes with a fault.
fn planted(flaw: Flaw) -> Maker {
    Rc::new(move |config, start| {
        let mut node = Node::new(config, start)?;
        node.plant(flaw);
        Ok(Box::new(node))
    })
}

/// The checkers that a run sets off, the first one first.
fn found(plan: Plan, maker: Maker) -> Vec<&'static str> {
    let mut checkers: Vec<&'static str> = Vec::new();
    for violation in run::plan(plan, maker).violations {
        if !checkers.contains(&violation.checker) {
            checkers.push(violation.checker);
        }
    }
    checkers
}

/// Three servers in a LAN, the first one the oldest, for so long.
fn three(seed: u64, faulty_ms: u64) -> Plan {
    let mut plan = Plan::empty(seed);
    plan.faulty_ms = faulty_ms;
    plan.link = LinkModel { delay_us: (100, 500), jitter_us: 100, ..LinkModel::default() };
    let names = ["s1", "s2", "s3"];
    plan.nodes = (0..)
        .zip(names)
        .map(|(n, name)| NodePlan {
            server: true,
            found: n == 0,
            join: names.iter().filter(|other| **other != name).map(|name| (*name).to_owned()).collect(),
            start_ms: n * 500,
            ..NodePlan::named(name, n)
        })
        .collect();
    plan
}

/// Settings with longer elections than by default.
const PATIENT: MasterPlan = MasterPlan {
    heartbeat_ms: 100,
    election_min_ms: 3_000,
    election_max_ms: 4_000,
    drift_ppm: 10_000,
    stable_ms: 1_000,
    provisional_ms: None,
    remove_ms: None,
};

/// A voter that heard the Master a moment ago restarts, and hears only the third one, who wants to be elected. The lease is
/// longer than by default: it takes a second until a link to another run of a server is taken for what it is.
fn voter_restarts_under_a_lease(seed: u64) -> Plan {
    let mut plan = three(seed, 60_000);
    plan.master = Some(PATIENT);
    for n in 0..3 {
        let at = 14_000 + n * 15_000;
        let to_the_first = FaultKind::Act { node: MASTER.to_owned(), act: Act::Transfer("s1".to_owned()) };
        add(&mut plan, at - 2_000, 100, to_the_first);
        add(&mut plan, at, 9_000, block("s3", "s1", true));
        add(&mut plan, at + 5_000, 20, FaultKind::Crash { node: "s2".to_owned(), disk: DiskFate::Kept });
        add(&mut plan, at + 5_000, 3_000, block("s2", "s1", true));
    }
    plan
}

/// The Master hands over to one whom it cannot hear just then.
fn heir_is_not_heard(seed: u64) -> Plan {
    let mut plan = three(seed, 30_000);
    for n in 0..8 {
        let (at, heir) = (6_000 + n * 3_000, if n % 2 == 0 { "s2" } else { "s1" });
        add(&mut plan, at, 900, block(heir, MASTER, false));
        add(&mut plan, at + 20, 100, FaultKind::Act { node: MASTER.to_owned(), act: Act::Transfer(heir.to_owned()) });
    }
    plan
}

/// The Master is far from the other two, who are near each other: an answer is long on its way when they stop to hear it.
fn far_master_is_cut_off(seed: u64) -> Plan {
    let mut plan = three(seed, 30_000);
    let far = LinkModel { delay_us: (150_000, 150_000), ..plan.link };
    plan.links = ["s2", "s3"].map(|near| LinkRule { on: Selector::way("s1", near, true), model: far }).to_vec();
    for n in 0..3 {
        let at = 6_000 + n * 8_000;
        add(&mut plan, at, 100, FaultKind::Act { node: MASTER.to_owned(), act: Act::Transfer("s1".to_owned()) });
        add(&mut plan, at + 2_000 + seed * 10, 4_000, block("s1", "s2", true));
        add(&mut plan, at + 2_000 + seed * 10, 4_000, block("s1", "s3", true));
    }
    plan
}

/// The message that tells the heir to campaign is on its way for longer than the Master waits for it, and the heir's own
/// patience is longer still.
fn timeout_now_is_late(seed: u64) -> Plan {
    let mut plan = three(seed, 60_000);
    plan.master = Some(MasterPlan { heartbeat_ms: 200, election_min_ms: 1_000, election_max_ms: 3_000, ..PATIENT });
    for n in 0..8 {
        let (at, heir) = (8_000 + n * 6_000, if n % 2 == 0 { "s2" } else { "s1" });
        let on = Selector::way(MASTER, heir, false);
        add(&mut plan, at, 1_050, FaultKind::Ways { on, effect: Effect::Delay(1_000_000) });
        add(&mut plan, at, 3_000, block(heir, MASTER, false));
        add(&mut plan, at + 20, 100, FaultKind::Act { node: MASTER.to_owned(), act: Act::Transfer(heir.to_owned()) });
    }
    plan
}

/// The founder loses its disk, comes back, and is cut off when it has read no more of the log than that it is alone.
fn founder_reads_its_past(seed: u64) -> Plan {
    let mut plan = three(seed, 30_000);
    plan.link = LinkModel { delay_us: (60_000, 60_000), jitter_us: 0, ..plan.link };
    add(&mut plan, 12_000, 300, FaultKind::Crash { node: "s1".to_owned(), disk: DiskFate::Lost });
    let on = Selector { from: vec!["s1".to_owned()], both_ways: true, ..Selector::default() };
    add(&mut plan, 12_500 + seed * 20, 5_000, FaultKind::Ways { on, effect: Effect::Block });
    plan
}

fn block(from: &str, to: &str, both_ways: bool) -> FaultKind {
    FaultKind::Ways { on: Selector::way(from, to, both_ways), effect: Effect::Block }
}

fn add(plan: &mut Plan, at_ms: u64, for_ms: u64, kind: FaultKind) {
    plan.faults.push(Fault { id: plan.faults.len() as u64, at_ms, for_ms, kind });
}
