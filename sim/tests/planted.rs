//! Faults of the consensus that are planted in real nodes, each found by the simulator; and the same runs without the fault.

use std::{
    rc::Rc,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use p2pcore::{Node, master::Flaw, raft};
use sim::{
    machine::{Maker, nodes},
    plan::Plan,
    run,
};

/// Nodes with a fault.
fn planted(flaw: Flaw) -> Maker {
    Rc::new(move |config, start| {
        let mut node = Node::new(config, start)?;
        node.plant(flaw);
        Ok(Box::new(node))
    })
}

/// The checkers that a run with this fault sets off, the first one first.
fn found(plan: Plan, maker: Maker) -> Vec<&'static str> {
    let mut checkers: Vec<&'static str> = Vec::new();
    for violation in run::plan(plan, maker).violations {
        if !checkers.contains(&violation.checker) {
            checkers.push(violation.checker);
        }
    }
    checkers
}

const FLAWS: [Flaw; 20] = [
    Flaw::AnswerForLostDisk,
    Flaw::StaleLease,
    Flaw::IgnoreVeto,
    Flaw::ProvisionalGuard,
    Flaw::AgeAnew,
    Flaw::ElectUnplaced,
    Flaw::LastWordCounts,
    Flaw::Raft(raft::Flaw::VoteNotPersisted),
    Flaw::Raft(raft::Flaw::VoteAfterStart),
    Flaw::Raft(raft::Flaw::VoteDespiteLeader),
    Flaw::Raft(raft::Flaw::SendBeforePersist),
    Flaw::Raft(raft::Flaw::DirectStep),
    Flaw::Raft(raft::Flaw::ChangeBeforeNoop),
    Flaw::Raft(raft::Flaw::CountOldTerms),
    Flaw::Raft(raft::Flaw::LearnersCount),
    Flaw::Raft(raft::Flaw::StaleJoin),
    Flaw::Raft(raft::Flaw::LeaseInTransfer),
    Flaw::Raft(raft::Flaw::LeaseWithoutDrift),
    Flaw::Raft(raft::Flaw::LeaseFromAnswer),
    Flaw::Raft(raft::Flaw::AbortInTerm),
];

/// Looks for seeds that find something: `HUNT=from..to`, and perhaps `FLAW=name`.
#[test]
#[ignore = "takes as long as it is told to"]
fn hunt() {
    let range = std::env::var("HUNT").unwrap_or_else(|_| "0..100".to_owned());
    let (from, to) = range.split_once("..").expect("from..to");
    let seeds = from.parse::<u64>().unwrap()..to.parse().unwrap();
    let only = std::env::var("FLAW").unwrap_or_default();
    for flaw in FLAWS.into_iter().filter(|flaw| format!("{flaw:?}").contains(&only)) {
        let (next, end) = (AtomicU64::new(seeds.start), seeds.end);
        let hit = Mutex::new(None);
        let search = || {
            while hit.lock().unwrap().is_none() {
                let seed = next.fetch_add(1, Ordering::Relaxed);
                if seed >= end {
                    return;
                }
                let checkers = found(Plan::council(seed), planted(flaw));
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
    let _ = nodes();
}
