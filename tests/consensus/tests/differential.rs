//! Our Raft against raft-rs.

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
#[path = "differential/schedule.rs"]
mod schedule;
#[path = "differential/storage.rs"]
mod storage;
#[path = "differential/theirs.rs"]
mod theirs;

use coverage::Coverage;
use lockstep::{Divergence, run};
use ours::Fault;
use schedule::Schedule;

const LENGTH: usize = 150;

/// The smallest part of a schedule in which the worlds diverge too.
fn shrink(mut schedule: Schedule, fault: Option<Fault>) -> (Schedule, Divergence) {
    let mut found = run(&schedule, fault).unwrap_err();
    loop {
        schedule.steps.truncate(found.step + 1);
        let shorter = (0..schedule.steps.len()).rev().find_map(|place| {
            let mut shorter = schedule.clone();
            shorter.steps.remove(place);
            run(&shorter, fault).err().map(|divergence| (shorter, divergence))
        });
        match shorter {
            Some(shorter) => (schedule, found) = shorter,
            None => return (schedule, found),
        }
    }
}

#[test]
fn both_do_the_same() {
    let count = std::env::var("N").map_or(1000, |n| n.parse().unwrap());
    let mut coverage = Coverage::default();
    for seed in std::env::var("FROM").map_or(0, |n| n.parse().unwrap())..count {
        let schedule = Schedule::new(seed, LENGTH);
        match run(&schedule, None) {
            Ok(other) => coverage.add(other),
            Err(_) => {
                let (schedule, divergence) = shrink(schedule, None);
                let steps: Vec<String> = schedule.steps.iter().map(|step| format!("{step:?}")).collect();
                panic!(
                    "seed {seed}: {:?}\n{}\nat {}: {}",
                    schedule.setting,
                    steps.join("\n"),
                    divergence.step,
                    divergence.what
                );
            }
        }
    }
    println!("differential: {count} schedules, 0 divergences");
    println!("{coverage}");
}
