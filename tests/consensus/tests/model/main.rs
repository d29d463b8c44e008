//! A model checker walks through everything that three servers can do within bounds, with the real Raft: messages come
//! late, in another order, twice or never, disks are slow, servers end and start again.
//!
//! There is no time: an election timeout may pass whenever it likes, and the lease is left to the tests that have clocks.

mod checks;
mod intern;
mod server;
mod world;

use std::time::{Duration, Instant};

use p2pcore::{
    id::Incarnation,
    master::{Membership, Roster},
    raft::{Configuration, Flaw, HardState, Snapshot, Stored},
};
use stateright::{Checker, HasDiscoveries, Model};

use checks::{
    COMPLETE, LEGAL_STEPS, LOGS_MATCH, ONE_LEADER, ONE_VOTE, OTHER_SENIOR, QUORUMS_MEET, RESTARTED, SAME_COMMITS,
    SAVED, SECOND_TERM, THREE_VOTERS,
};
use server::{Disk, Nature};
use world::{Budget, Setting, World, id};

/// The servers by age.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Members from the oldest on.
fn roster(places: &[usize]) -> Roster {
    let mut roster = Roster::default();
    for place in places {
        let join = Incarnation { counter: 1, random: [0; 16] };
        roster.admit(Membership { id: id(*place), join }, None, Duration::ZERO);
    }
    roster
}

/// The disk of a member of a cluster with these voters and learners.
fn member(voters: &[usize], learners: &[usize]) -> Disk {
    let [voters, learners] = [voters, learners].map(|places| places.iter().map(|place| id(*place)));
    let snapshot = Snapshot { index: 1, term: 0, config: Configuration::new(voters, learners, 1) };
    Stored { hard_state: HardState { commit: 1, ..HardState::default() }, snapshot, entries: Vec::new() }
}

/// A is alone; B comes, then C: one voter, one voter and a learner, one voter and two learners, three voters.
fn growth(flaw: Option<Flaw>) -> Setting {
    Setting {
        nature: Nature { flaw, terms: 2, entries: 5 },
        disks: [Stored::founding([id(A)]), Stored::default(), Stored::default()],
        rosters: vec![roster(&[A, B]), roster(&[A, B, C])],
        under_way: 1,
        budget: Budget { timeouts: [2, 1, 1], restarts: [1, 1, 0], ..Budget::default() },
    }
}

/// The same; messages overtake each other, and only A stands for election.
fn growth_in_disorder(flaw: Option<Flaw>) -> Setting {
    let budget = Budget { timeouts: [2, 0, 0], restarts: [1, 0, 0], ..Budget::default() };
    Setting { under_way: 2, budget, ..growth(flaw) }
}

/// A decides alone, and B and C are about to vote; messages overtake each other, and A and B stand for election.
fn last_step_in_disorder(flaw: Option<Flaw>) -> Setting {
    let disk = member(&[A], &[B, C]);
    Setting {
        nature: Nature { flaw, terms: 2, entries: 3 },
        disks: [disk.clone(), disk.clone(), disk],
        rosters: vec![roster(&[A, B, C])],
        under_way: 2,
        budget: Budget { timeouts: [1, 1, 0], commands: 1, ..Budget::default() },
    }
}

/// Of three voters the oldest leaves: it hands over, and the second one remains as the only voter.
fn shrinking(flaw: Option<Flaw>) -> Setting {
    let disk = member(&[A, B, C], &[]);
    let mut without = roster(&[A, B, C]);
    without.end(&id(A), true);
    Setting {
        nature: Nature { flaw, terms: 3, entries: 5 },
        disks: [disk.clone(), disk.clone(), disk],
        rosters: vec![without],
        under_way: 1,
        budget: Budget { timeouts: [1, 1, 0], ..Budget::default() },
    }
}

/// Three voters, of which the last one may start again between two votes.
fn two_candidates(flaw: Option<Flaw>) -> Setting {
    let budget = Budget { timeouts: [1, 1, 0], restarts: [0, 0, 1], ..Budget::default() };
    Setting { rosters: vec![roster(&[A, B, C])], budget, ..shrinking(flaw) }
}

/// More states than any of these has; what goes on beyond is not complete.
const MOST: usize = 200_000_000;

/// Walks through all states; each rule must hold in all of them, and each of `marks` be reached. Returns how many there are.
fn states(name: &str, setting: Setting, marks: &[&'static str]) -> usize {
    let begin = Instant::now();
    let checker = World::new(setting).checker().threads(2).target_state_count(MOST).spawn_dfs().join();
    let [unique, generated] = [checker.unique_state_count(), checker.state_count()];
    let extent = if generated < MOST { "complete" } else { "bounded" };
    println!(
        "model check: {unique} states (unique), {generated} generated, depth {}, {:.1} s, {extent}; {name}: {}",
        checker.max_depth(),
        begin.elapsed().as_secs_f64(),
        checker.model().parts(),
    );
    for rule in checks::rules() {
        if let Some(path) = checker.discovery(rule) {
            let steps: Vec<String> = path.into_actions().iter().map(|action| checker.model().tell(action)).collect();
            panic!("it does not hold that {rule}:\n{}", steps.join("\n"));
        }
    }
    for mark in marks {
        assert!(checker.discovery(mark).is_some(), "never reached: {mark}");
    }
    assert_eq!(extent, "complete", "{name}");
    unique
}

#[test]
fn a_cluster_that_grows_to_three() {
    let states = states("growth", growth(None), &[SECOND_TERM, THREE_VOTERS, RESTARTED]);
    assert!(states >= 4_000_000, "{states}");
}

#[test]
fn a_cluster_that_grows_while_messages_overtake_each_other() {
    states("growth in disorder", growth_in_disorder(None), &[SECOND_TERM, THREE_VOTERS, RESTARTED]);
    states("last step in disorder", last_step_in_disorder(None), &[SECOND_TERM, THREE_VOTERS]);
}

#[test]
fn a_cluster_that_shrinks_to_another_senior() {
    states("shrinking", shrinking(None), &[SECOND_TERM, OTHER_SENIOR]);
}

/// Plants a fault, and expects that it breaks `rule`.
fn is_found(flaw: Flaw, setting: fn(Option<Flaw>) -> Setting, rule: &'static str) {
    let world = World::new(setting(Some(flaw))).checker().threads(2).target_state_count(MOST);
    let checker = world.finish_when(HasDiscoveries::AnyOf([rule].into())).spawn_bfs().join();
    let path = checker.discovery(rule).unwrap_or_else(|| panic!("{flaw:?} does not break that {rule}"));
    println!(
        "{flaw:?} planted: {} states, {} steps to break that {rule}",
        checker.unique_state_count(),
        path.into_actions().len()
    );
}

#[test]
fn each_rule_is_broken_by_a_planted_fault() {
    is_found(Flaw::DirectStep, growth, LEGAL_STEPS);
    is_found(Flaw::DirectStep, growth, ONE_LEADER);
    is_found(Flaw::DirectStep, growth, QUORUMS_MEET);
    is_found(Flaw::DirectStep, growth, LOGS_MATCH);
    is_found(Flaw::VoteNotPersisted, two_candidates, ONE_VOTE);
    is_found(Flaw::SendBeforePersist, two_candidates, SAVED);
    is_found(Flaw::LearnersCount, growth, SAME_COMMITS);
    is_found(Flaw::LearnersCount, growth, COMPLETE);
}
