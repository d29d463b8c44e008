use std::{collections::BTreeSet, time::Duration};

use p2pcore::{Event, node::Outcome};

use super::toy::{Bug, toys};
use crate::{
    plan::{Effect, Fault, FaultKind, Hostility, Ip, Load, LoadKind, Plan, Selector},
    run,
    scenario::Scenario,
    world::World,
};

/// The plan of a seed, with what the toy can do: public hosts, short messages and datagrams.
fn plan(seed: u64) -> Plan {
    let mut plan = Plan::from_seed(seed);
    plan.lans.clear();
    plan.unreachable.clear();
    for node in &mut plan.nodes {
        (node.lan, node.ip) = (None, Ip::Both);
    }
    for load in &mut plan.loads {
        load.every_us = load.every_us.max(50_000);
        match &mut load.kind {
            LoadKind::Messages { max_len, burst, .. } => (*max_len, *burst) = ((*max_len).min(900), 1),
            LoadKind::Datagrams { .. } | LoadKind::ToNobody => {}
            kind => *kind = LoadKind::Datagrams { max_len: 500 },
        }
    }
    plan
}

/// Two peers that talk through nothing but themselves, without faults.
fn calm() -> Plan {
    let mut plan = Plan::empty(5);
    plan.nodes = Scenario::new(5).server("s1").peer("p1").peer("p2").start_with(toys(Bug::None)).plan().nodes.clone();
    let kind = LoadKind::Messages { fan_out: 1, lanes: 1, burst: 1, max_len: 100, ttl_ms: Some(5_000) };
    let to = vec!["p2".to_owned()];
    plan.loads.push(Load { id: 1, from: "p1".to_owned(), to, at_ms: 500, until_ms: 5_000, every_us: 300_000, kind });
    (plan.faulty_ms, plan.converge_ms) = (5_000, 10_000);
    plan
}

fn checkers(plan: Plan, bug: Bug) -> BTreeSet<&'static str> {
    run::plan(plan, toys(bug)).violations.iter().map(|violation| violation.checker).collect()
}

#[test]
fn a_right_machine_breaks_no_promise_under_any_fault() {
    for seed in 0..40 {
        let report = run::plan(plan(seed), toys(Bug::None));
        assert_eq!(report.violations, [], "seed {seed}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in 0..5 {
        assert_eq!(run::plan(plan(seed), toys(Bug::None)), run::plan(plan(seed), toys(Bug::None)));
    }
    assert_ne!(run::plan(plan(1), toys(Bug::None)).hash, run::plan(plan(2), toys(Bug::None)).hash);
}

#[test]
fn a_plan_read_from_json_is_the_same_run() {
    let copy = serde_json::from_str(&serde_json::to_string(&plan(3)).unwrap()).unwrap();
    assert_eq!(run::plan(copy, toys(Bug::None)).hash, run::plan(plan(3), toys(Bug::None)).hash);
}

#[test]
fn every_planted_bug_is_found_by_its_checker() {
    for (bug, checker) in [
        (Bug::TwoOutcomes, "one_outcome"),
        (Bug::NoOutcome, "one_outcome"),
        (Bug::DeliveredEarly, "delivered_true"),
        (Bug::HandsToItself, "right_id"),
        (Bug::FlipsBit, "payload_intact"),
        (Bug::OutOfOrder, "order"),
        (Bug::FailsWhatArrives, "outcome_true"),
        (Bug::Spins, "no_spin"),
        (Bug::NeverDrains, "no_spin"),
        (Bug::ForgetsWhatIsQueued, "queued_is_due"),
        (Bug::NeverSuspends, "suspended_in_time"),
        (Bug::WrongTables, "convergence"),
        (Bug::ShowsNoMaster, "convergence"),
        (Bug::Panics, "no_panic"),
    ] {
        assert_eq!(checkers(calm(), Bug::None), BTreeSet::new());
        let found = checkers(calm(), bug);
        assert!(found.contains(checker), "{bug:?} was found by {found:?}");
    }
}

#[test]
fn two_guards_at_once_are_found() {
    for bug in [Bug::None, Bug::EveryServerHoldsAGuard] {
        let mut world = Scenario::new(9).server("s1").server("s2").peer("p1").start_with(toys(bug));
        world.run_for(Duration::from_secs(1));
        let found = world.violations().iter().any(|violation| violation.checker == "one_guard");
        assert_eq!(found, bug == Bug::EveryServerHoldsAGuard);
    }
}

fn with_fault(kind: FaultKind) -> Plan {
    let mut plan = calm();
    plan.faults.push(Fault { id: 1, at_ms: 600, for_ms: 4_000, kind });
    plan
}

#[test]
fn bugs_that_need_a_fault_are_found_with_it() {
    let ways = |effect| FaultKind::Ways { on: Selector::default(), effect };
    let hostile = |what| FaultKind::Hostile { node: "p1".to_owned(), what, per_second: 50 };
    let leave = FaultKind::Leave { node: "p1".to_owned() };
    for (fault, bug, checker) in [
        (ways(Effect::Duplicate(1_000_000)), Bug::HandsTwice, "at_most_once"),
        (hostile(Hostility::Garbage), Bug::AnswersStrangers, "silence"),
        (hostile(Hostility::Altered), Bug::AnswersStrangers, "silence"),
        (hostile(Hostility::Truncated), Bug::AnswersStrangers, "silence"),
        (leave, Bug::NeverStops, "stops_in_time"),
    ] {
        assert_eq!(checkers(with_fault(fault.clone()), Bug::None), BTreeSet::new());
        let found = checkers(with_fault(fault), bug);
        assert!(found.contains(checker), "{bug:?} was found by {found:?}");
    }
}

/// Replay and shrinking rest on this: what the remaining faults do stays as it was.
#[test]
fn a_fault_that_touches_nobody_moves_nothing() {
    let mut more = plan(4);
    let on = Selector { from: vec!["nobody of that name".to_owned()], ..Selector::default() };
    more.faults
        .insert(0, Fault { id: 999, at_ms: 1_000, for_ms: 9_000, kind: FaultKind::Ways { on, effect: Effect::Block } });
    assert_eq!(run::plan(more, toys(Bug::None)).hash, run::plan(plan(4), toys(Bug::None)).hash);
}

fn pair() -> World {
    let mut world = Scenario::new(9).server("s1").peer("p1").peer("p2").start_with(toys(Bug::None));
    world.run_for(Duration::from_secs(1));
    world
}

#[test]
fn nothing_has_converged_before_everybody_was_there() {
    let late = Duration::from_secs(3);
    let mut world = Scenario::new(9).server("s1").peer("p1").starting_at(late).start_with(toys(Bug::None));
    assert!(!world.converged());
    assert!(world.expect("convergence", late * 2, |world| world.converged()) >= late);
}

#[test]
fn a_partition_has_a_direction_and_an_end() {
    let mut world = pair();
    let begun = world.cut_one_way("p2", "p1");
    let sent = world.send("p1", "p2", 50);
    world.run_for(Duration::from_secs(2));
    assert_eq!(world.outcome(sent), None);
    world.mend(begun);
    world.expect("delivery", Duration::from_secs(1), |world| world.outcome(sent) == Some(Outcome::Delivered));
    assert!(world.was_handed(sent));
}

#[test]
fn a_crash_loses_what_was_not_on_disk_and_a_restart_is_another_run() {
    let mut world = pair();
    let sent = world.send("p1", "p2", 50);
    world.expect("delivery", Duration::from_secs(1), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.kill("p2");
    assert!(!world.is_running("p2"));
    let sent = world.send("p1", "p2", 50);
    world.run_for(Duration::from_secs(1));
    world.revive("p2");
    let failed = |world: &mut World| matches!(world.outcome(sent), Some(Outcome::Failed(_)));
    world.expect("the session is gone", Duration::from_secs(1), failed);
}

#[test]
fn a_paused_node_stands_still_and_goes_on() {
    let mut world = pair();
    world.pause("p2");
    let sent = world.send("p1", "p2", 50);
    world.run_for(Duration::from_secs(3));
    assert!(!world.was_handed(sent));
    world.wake_up("p2");
    world.expect("delivery", Duration::from_secs(1), |world| world.outcome(sent) == Some(Outcome::Delivered));
}

#[test]
fn a_slow_reader_delays_the_receipt_and_a_lazy_driver_does_no_harm() {
    let reading = Duration::from_millis(700);
    let scenario = Scenario::new(9).server("s1").lazy().peer("p1").lazy().peer("p2").lazy().reading(reading);
    let mut world = scenario.start_with(toys(Bug::None));
    world.run_for(Duration::from_secs(1));
    let sent = world.send("p1", "p2", 50);
    let took =
        world.expect("delivery", Duration::from_secs(2), |world| world.outcome(sent) == Some(Outcome::Delivered));
    assert!(took >= reading);
}

#[test]
fn goodbye_ends_a_node_and_strangers_are_counted() {
    let mut world = pair();
    world.stranger("s1", b"hello");
    world.stop("p1");
    world.run_for(Duration::from_secs(1));
    assert!(!world.is_running("p1"));
    assert!(world.seen_at("p1", Duration::ZERO, |event| *event == Event::Stopped).is_some());
    assert_eq!(world.answered_to_strangers(), 0);
    world.assert_clean();
}
