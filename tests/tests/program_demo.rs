//! `demo`.

use std::time::{Duration, Instant};

use serde_json::Value;
use tests::Program;

fn demo(program: Program) {
    let start = Instant::now();
    let output = program.command(["demo", "--json"]).output().unwrap();
    assert!(start.elapsed() <= Duration::from_secs(60), "{:?}", start.elapsed());
    let (stdout, stderr) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    let lines = stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")).collect::<Vec<_>>();
    let verdict = lines.last().expect("a verdict");
    assert!(output.status.success(), "{verdict}\n{stderr}");
    let mut keys = verdict.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    keys.sort_unstable();
    assert_eq!(keys, ["delivered", "duplicated", "failed", "longest_stall_ms", "lost", "reordered", "sent"]);
    let number = |key: &str| verdict[key].as_u64().expect("a whole number");
    assert!(number("sent") >= 200 * 12, "{verdict}");
    assert_eq!(number("delivered"), number("sent"));
    for key in ["failed", "lost", "duplicated", "reordered"] {
        assert_eq!(number(key), 0, "{verdict}");
    }
    assert!(number("longest_stall_ms") <= 1_000, "{verdict}");

    // who is Master when a server is killed, and that another one follows
    let killed = |line: &Value| line["what"].as_str().is_some_and(|what| what.ends_with(" is killed"));
    let at = lines.iter().position(killed).expect("a server is killed");
    assert!(lines[at]["what"].as_str().unwrap().contains("Master"), "{stdout}");
    let masters = |lines: &[Value]| -> Vec<Value> {
        let elected = lines.iter().filter(|line| line["event"] == "master" && line["kind"] == "elected");
        elected.map(|line| line["id"].clone()).collect()
    };
    let (before, after) = (masters(&lines[..at]), masters(&lines[at..]));
    assert!(after.iter().any(|id| Some(id) != before.last()), "{stdout}");
}

#[test]
fn the_demo_loses_nothing_on_tokio() {
    demo(Program::Tokio);
}

#[test]
fn the_demo_loses_nothing_on_smol() {
    demo(Program::Smol);
}

#[test]
fn the_demo_without_json_ends_with_a_verdict_for_humans() {
    let output = Program::Tokio.command(["demo"]).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}");
    let last = stdout.lines().last().unwrap();
    assert!(last.starts_with("sent ") && last.ends_with(": good"), "{last}");
}
