//! The outputs that other programs read, as the contract has them.

use std::{
    process::Command,
    time::{Duration, Instant},
};

use serde_json::Value;

/// Runs the program; returns the last line as JSON and whether it says that all is well.
fn sim(arguments: &[&str]) -> (Value, bool) {
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    (serde_json::from_str(text.lines().last().unwrap()).unwrap(), output.status.success())
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// The exit status follows from the violations, and each of them has its keys.
fn check_violations(value: &Value, success: bool) {
    let violations = value["violations"].as_array().unwrap();
    assert_eq!(violations.is_empty(), success);
    for violation in violations {
        assert_eq!(keys(violation), ["at_ms", "checker", "nodes", "seed", "what"]);
        assert!(violation["nodes"].as_array().unwrap().iter().all(|id| id.as_str().unwrap().len() == 37));
    }
}

#[test]
fn one_seed_in_two_processes_is_one_hash() {
    let start = Instant::now();
    let (first, success) = sim(&["run", "--seed", "7", "--json"]);
    let limit = Duration::from_secs(if cfg!(debug_assertions) { 120 } else { 10 });
    assert!(start.elapsed() <= limit, "{:?}", start.elapsed());
    assert_eq!(keys(&first), ["hash", "seed", "violations"]);
    assert_eq!(first["seed"], 7);
    let hash = first["hash"].as_str().unwrap();
    assert!(hash.len() == 32 && hash.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f')));
    check_violations(&first, success);
    assert_eq!(sim(&["run", "--seed", "7", "--json"]).0, first);
}

#[test]
fn many_seeds_have_a_summary() {
    let (summary, success) = sim(&["run", "--seeds", "2", "--from", "5", "--json"]);
    assert_eq!(keys(&summary), ["node_hours", "ratio", "seeds", "violations"]);
    assert_eq!(summary["seeds"], 2);
    assert!(summary["node_hours"].as_f64().unwrap() > 0.0 && summary["ratio"].as_f64().unwrap() > 0.0);
    check_violations(&summary, success);
}

#[test]
fn a_plan_printed_and_run_again_is_the_seed() {
    let plan = Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "--seed", "9", "--print-plan"]).output().unwrap();
    assert!(plan.status.success());
    let file = std::env::temp_dir().join(format!("p2pcore-plan-{}.json", std::process::id()));
    std::fs::write(&file, plan.stdout).unwrap();
    let replayed = sim(&["run", "--plan", file.to_str().unwrap(), "--json"]);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(replayed, sim(&["run", "--seed", "9", "--json"]));
}

#[test]
fn a_missing_plan_is_one_clear_line() {
    let output =
        Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "--plan", "/nowhere/plan.json"]).output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && text.lines().count() == 1 && text.contains("/nowhere/plan.json"), "{text}");
}

#[test]
fn the_summary_adds_up_and_counts_from_0() {
    let node_hours = |arguments: &[&str]| {
        let (summary, _) = sim(&[&["run", "--json"], arguments].concat());
        summary["node_hours"].as_f64().unwrap()
    };
    let both = node_hours(&["--seeds", "2"]);
    let each = ["0", "1"].map(|from| node_hours(&["--seeds", "1", "--from", from]));
    assert!((both - each[0] - each[1]).abs() < 1e-9, "{both} is not {each:?}");
    let plan = Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "--seed", "0", "--print-plan"]).output().unwrap();
    let nodes = serde_json::from_slice::<Value>(&plan.stdout).unwrap()["nodes"].as_array().unwrap().len();
    assert!(each[0] > 0.0 && each[0] < nodes as f64, "{nodes} nodes for less than an hour: {}", each[0]);
}

#[test]
fn a_seed_is_any_u64_and_nothing_else() {
    let last = u64::MAX.to_string();
    assert_eq!(sim(&["run", "--seed", &last, "--json"]).0["seed"], u64::MAX);
    for seed in ["-1", "18446744073709551616", "x", ""] {
        let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "--seed", seed]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{seed}");
    }
}

#[test]
fn a_broken_promise_is_a_violation_and_exit_status_1() {
    let plan = Command::new(env!("CARGO_BIN_EXE_sim")).args(["run", "--seed", "3", "--print-plan"]).output().unwrap();
    let mut plan = serde_json::from_slice::<Value>(&plan.stdout).unwrap();
    // a peer that knows no server does not start
    let nodes = plan["nodes"].as_array_mut().unwrap();
    let peer = nodes.iter_mut().find(|node| node["server"] == false).expect("a peer");
    peer["join"] = Value::Array(Vec::new());
    let file = std::env::temp_dir().join(format!("p2pcore-broken-plan-{}.json", std::process::id()));
    std::fs::write(&file, plan.to_string()).unwrap();
    let arguments = ["run", "--plan", file.to_str().unwrap(), "--json"];
    let output = Command::new(env!("CARGO_BIN_EXE_sim")).args(arguments).output().unwrap();
    let (report, success) = sim(&arguments);
    std::fs::remove_file(&file).unwrap();
    assert_eq!(output.status.code(), Some(1));
    check_violations(&report, success);
    let violation = report["violations"].as_array().unwrap().iter().find(|violation| violation["checker"] == "starts");
    let violation = violation.expect("it does not start");
    assert_eq!(violation["seed"], 3);
    assert!(violation["at_ms"].is_u64() && violation["nodes"][0].as_str().unwrap().starts_with('C'), "{violation}");
}
