//! Lanes: short messages do not wait for a long one.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Network, Program, peer_row};

fn summary(times: &mut [Duration]) -> String {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100].as_secs_f64() * 1e3;
    format!("p50 {:.1} ms, p99 {:.1} ms, max {:.1} ms of {}", at(50), at(99), at(100), times.len())
}

/// A long message takes three times: its line goes into the sender, its bytes to the receiver, its line out of there. Only in
/// the second one can anything overtake it: what comes behind its line on standard input or output waits for that.
#[test]
fn small_messages_pass_the_largest_one_of_another_lane() {
    const LONG: usize = 16 * 1024 * 1024;
    const ROUNDS: usize = 8;
    const PACE: Duration = Duration::from_millis(1);
    const MAX_SMALL: usize = 60_000;
    /// So many, sent right after the long one, have to overtake it.
    const FIRST: usize = 5;
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut tokio, id, _) = network.peer("tokio").join(&address).start_ready();
    let (mut smol, ..) = network.peer("smol").program(Program::Smol).join(&address).start_ready();
    smol.status_until("a direct path", |status| peer_row(status, &id).is_some_and(|row| row["kind"] == "direct"));

    let long = "x".repeat(LONG);
    let mut under_way = BTreeMap::new();
    let (mut sent, mut passed, mut waited, mut long_times) = (0, Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let reference = format!("long {round}");
        smol.command(&json!({"command": "send", "ref": reference, "to": [id], "data": long, "lane": 1}));
        let (first, begun) = (sent, Instant::now());
        let mut due = begun;
        let mut is_over = false;
        // at a fixed pace, however long the last ones take
        while !is_over {
            let now = Instant::now();
            if due <= now {
                due += PACE;
                assert!(sent < MAX_SMALL, "the long message does not arrive");
                let data = format!("{sent:0>64}");
                smol.command(&json!({"command": "send", "ref": sent.to_string(), "to": [id], "data": data}));
                under_way.insert(sent.to_string(), Instant::now());
                sent += 1;
            }
            let Some(line) = smol.line_within(due.saturating_duration_since(now)) else { continue };
            let Some(of) = line["ref"].as_str() else { continue };
            assert_eq!(line["event"], "delivered", "{line}");
            is_over = of == reference;
            if !is_over {
                passed.push(under_way.remove(of).expect("one outcome each").elapsed());
            }
        }
        long_times.push(begun.elapsed().as_millis());
        let overtook = (first..first + FIRST).filter(|small| !under_way.contains_key(&small.to_string())).count();
        assert_eq!(overtook, FIRST, "small messages waited for the long one of round {round}");
        while !under_way.is_empty() {
            let line = smol.wait("the last small ones", |line| line["ref"].is_string());
            assert_eq!(line["event"], "delivered", "{line}");
            waited.push(under_way.remove(line["ref"].as_str().unwrap()).expect("one outcome each").elapsed());
        }
    }
    println!("{ROUNDS} messages of 16 MiB in lane 1 took {long_times:?} ms");
    println!("64-byte messages in lane 0 that overtook one: {}", summary(&mut passed));
    println!("all of them: {}", summary(&mut [passed.as_slice(), waited.as_slice()].concat()));

    let (mut small, mut long) = (0, 0);
    while small < sent || long < ROUNDS {
        let message = tokio.event("message");
        if message["lane"] == 1 {
            assert_eq!(message["data"].as_str().unwrap().len(), LONG);
            long += 1;
        } else {
            assert_eq!(message["data"], format!("{small:0>64}"), "once each, in order");
            small += 1;
        }
    }
    assert!(tokio.take("message").is_empty());
}
