//! Seeds of the plans for the consensus, in parts that run side by side.

use sim::{check::consensus::Reached, machine::nodes, plan::Plan, run, world::World};

fn clean(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let report = run::plan(Plan::council(seed), nodes());
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}

#[test]
fn seeds_0_to_59_break_no_promise() {
    clean(0..60);
}

#[test]
fn seeds_60_to_119_break_no_promise() {
    clean(60..120);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1_000, 1_001, 1_002] {
        let run = || run::plan(Plan::council(seed), nodes()).hash;
        assert_eq!(run(), run());
    }
}

/// Whatever is to be judged has to happen.
#[test]
fn the_plans_reach_what_they_are_for() {
    let mut all = Reached::default();
    for seed in 2_000..2_040 {
        let plan = Plan::council(seed);
        let faulty = std::time::Duration::from_millis(plan.faulty_ms);
        let mut world = World::new(plan, nodes());
        world.run_until(faulty);
        let Reached { masters, generation, rosters, joint, provisional, refused, strays } = world.reached();
        all.masters += masters;
        all.generation = all.generation.max(generation);
        all.rosters += rosters;
        all.joint += joint;
        all.provisional += provisional;
        all.refused += refused;
        all.strays += strays;
    }
    println!("in 40 seeds: {all:?}");
    let counts = [all.masters, all.rosters, all.joint];
    assert!(
        counts.iter().all(|count| *count > 10)
            && all.provisional > 2
            && all.generation > 1
            && all.refused > 10
            && all.strays > 10,
        "{all:?}"
    );
}
