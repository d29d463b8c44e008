//! Our Raft against raft-rs, the crate `raft`: the same random schedule is applied to a world of each, in lockstep.
//!
//! Compared after every single step, at the node that made it: term, vote, role, leader, commit index, snapshot, the whole
//! log, every configuration in it, what the application was told is committed, whether the disk has it all, a transfer under
//! way, what a leader knows of each follower and how it sends to it, whether a proposal, a change or a transfer was
//! accepted, and every message sent, in full. What one world sends and the other does not is a divergence, but for
//! three kinds that are counted and lost (end of `differential/lockstep.rs`). After a schedule all is healed, and both must
//! commit again.
//!
//! Not compared: time (neither is ticked), what is on the disk while an order to it is under way (disks work at once), leases
//! and answers of an earlier membership (raft-rs knows neither), and the order of what one step sends. What is decided
//! otherwise in ours is made up for at raft-rs, rule by rule in the table of `differential/rules.rs`.

#[path = "differential/common.rs"]
mod common;
#[path = "differential/config.rs"]
mod config;
#[path = "differential/coverage.rs"]
mod coverage;
#[path = "differential/lockstep.rs"]
mod lockstep;
#[path = "differential/ours.rs"]
mod ours;
#[path = "differential/rules.rs"]
mod rules;
#[path = "differential/schedule.rs"]
mod schedule;
#[path = "differential/storage.rs"]
mod storage;
#[path = "differential/theirs.rs"]
mod theirs;

use std::{ops::Range, thread};

use coverage::Coverage;
use lockstep::{Divergence, run};
use p2pcore::raft::Flaw;
use schedule::Schedule;

const SCHEDULES: u64 = 10_000;
const LENGTH: usize = 150;

#[test]
fn both_do_the_same() {
    let middle = SCHEDULES / 2;
    let coverage = thread::scope(|scope| {
        let first = scope.spawn(|| run_all(0..middle));
        let mut coverage = run_all(middle..SCHEDULES);
        coverage.add(first.join().unwrap());
        coverage
    });
    println!("differential: {SCHEDULES} schedules, {} steps, 0 divergences", coverage.of("steps"));
    println!("{coverage}");
    for (name, least) in [
        ("delivered", 1_500_000),
        ("lost", 120_000),
        ("repeated", 18_000),
        ("restarts", 30_000),
        ("rests", 55_000),
        ("votes", 70_000),
        ("elections", 20_000),
        ("leader changes", 9_000),
        ("leaders removed", 1_800),
        ("leaders without a quorum", 5_000),
        ("entries committed", 70_000),
        ("conflicts cut off", 1_200),
        ("configurations committed", 20_000),
        ("joint ones", 4_000),
        ("ones with learners", 5_000),
        ("changes refused", 60_000),
        ("compactions", 10_000),
        ("snapshots installed", 4_000),
        ("transfers done", 3_500),
    ] {
        assert!(coverage.of(name) >= least, "{name}: {} is less than {least}", coverage.of(name));
    }
    let alone = coverage.of("said by ours alone") + coverage.of("said by theirs alone");
    assert!(alone < coverage.of("delivered") / 1_000, "{alone} messages were sent by one of them alone");
}

/// Faults of ours are noticed, and soon.
#[test]
fn planted_faults_make_them_diverge() {
    for flaw in [
        Flaw::VoteNotPersisted,
        Flaw::VoteAfterStart,
        Flaw::VoteDespiteLeader,
        Flaw::DirectStep,
        Flaw::ChangeBeforeNoop,
        Flaw::CountOldTerms,
        Flaw::LearnersCount,
        Flaw::AbortInTerm,
    ] {
        let found = (0..500).find(|seed| run(&Schedule::new(*seed, LENGTH), Some(flaw)).is_err());
        assert!(found.is_some(), "{flaw:?} is not noticed");
        println!("{flaw:?} is noticed in schedule {}", found.unwrap_or_default());
    }
}

fn run_all(seeds: Range<u64>) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds {
        let schedule = Schedule::new(seed, LENGTH);
        match run(&schedule, None) {
            Ok(other) => coverage.add(other),
            Err(_) => panic!("schedule {seed}: {}", explain(schedule)),
        }
    }
    coverage
}

/// The smallest part of a schedule in which the worlds diverge too, and how.
fn explain(mut schedule: Schedule) -> String {
    let mut found = run(&schedule, None).unwrap_err();
    loop {
        schedule.steps.truncate(found.step + 1);
        let shorter = (0..schedule.steps.len()).rev().find_map(|place| {
            let mut shorter = schedule.clone();
            shorter.steps.remove(place);
            run(&shorter, None).err().map(|divergence| (shorter, divergence))
        });
        match shorter {
            Some(shorter) => (schedule, found) = shorter,
            None => break,
        }
    }
    let steps: Vec<String> = schedule.steps.iter().map(|step| format!("{step:?}")).collect();
    let Divergence { step, what } = found;
    format!("{:?}\n{}\nat step {step}: {what}", schedule.setting, steps.join("\n"))
}
