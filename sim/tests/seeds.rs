//! Some hundred seeds with faults, in parts that run side by side; and that a seed is a run.

use sim::{machine::nodes, run};

fn clean(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let report = run::seed(seed, nodes());
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}

#[test]
fn seeds_0_to_74_break_no_promise() {
    clean(0..75);
}

#[test]
fn seeds_75_to_149_break_no_promise() {
    clean(75..150);
}

#[test]
fn seeds_150_to_224_break_no_promise() {
    clean(150..225);
}

#[test]
fn seeds_225_to_299_break_no_promise() {
    clean(225..300);
}

/// Messages behind bulk on a thin link, links that flee from path to path through one deep queue, slow readers.
#[test]
fn seeds_that_once_found_something_break_no_promise() {
    clean([380, 1102, 1326, 1668, 1761]);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1_000, 1_001, 1_002] {
        assert_eq!(run::seed(seed, nodes()).hash, run::seed(seed, nodes()).hash);
    }
}
