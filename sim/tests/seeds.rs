//! Many seeds with faults, in parts that run side by side; and that a seed is a run.

use sim::{machine::nodes, run};

fn clean(seeds: impl IntoIterator<Item = u64>) {
    for seed in seeds {
        let report = run::seed(seed, nodes());
        assert!(report.violations.is_empty(), "seed {seed}: {:#?}", report.violations);
    }
}

#[test]
fn seeds_0_to_39_break_no_promise() {
    clean(0..40);
}

#[test]
fn seeds_40_to_79_break_no_promise() {
    clean(40..80);
}

#[test]
fn seeds_80_to_119_break_no_promise() {
    clean(80..120);
}

#[test]
fn seeds_120_to_159_break_no_promise() {
    clean(120..160);
}

/// Messages behind bulk on a thin link, links that flee from path to path through one deep queue, slow readers, a message to
/// one who has just come back on demand, messages to the Master that were taken when their sender stopped.
#[test]
fn seeds_that_once_found_something_break_no_promise() {
    clean([185, 233, 380, 1102, 1326, 1668, 1761]);
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1_000, 1_001, 1_002] {
        assert_eq!(run::seed(seed, nodes()).hash, run::seed(seed, nodes()).hash);
    }
}
