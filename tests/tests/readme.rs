//! What the README says is run as it stands there, in a directory of its own and on the loopback interface.

use std::{
    fs,
    os::unix::fs::symlink,
    path::Path,
    process::{Command, Output},
};

use serde_json::{Value, json};
use tests::{Network, Program, Running, Text, free_address};

const README: &str = include_str!("../../README.md");
const CI: &str = include_str!("../../.ci/run");

/// The lines of all fenced blocks in this language.
fn blocks(language: &str) -> Vec<String> {
    let fence = format!("```{language}\n");
    let blocks = README.split(&fence).skip(1).map(|rest| rest.split("```").next().expect("a part"));
    blocks.flat_map(|block| block.replace("\\\n", " ").lines().map(str::to_owned).collect::<Vec<_>>()).collect()
}

fn shell_commands() -> Vec<String> {
    let without_comment = |line: &String| line.split(" # ").next().expect("a part").trim().to_owned();
    blocks("sh").iter().map(without_comment).filter(|line| !line.is_empty()).collect()
}

fn shell(dir: &Path, line: &str) -> Command {
    let mut command = Command::new("sh");
    // `exec`: signals are for the program
    command.arg("-c").arg(format!("exec {line}")).current_dir(dir);
    command
}

fn succeeded(line: &str, output: &Output) -> String {
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn every_shell_command_runs() {
    let dir = tempfile::tempdir().unwrap();
    let programs = Program::Tokio.path();
    fs::create_dir(dir.path().join("target")).unwrap();
    symlink(programs.parent().unwrap(), dir.path().join("target/release")).unwrap();
    let file = vec![7; 3_000_000];
    fs::write(dir.path().join("big.iso"), &file).unwrap();
    let addresses = [("192.0.2.1:4433", free_address()), ("192.0.2.2:4433", free_address())];

    let mut running = Vec::new();
    let mut id = String::from("C...");
    let mut ran = Vec::new();
    for line in shell_commands() {
        if line.starts_with("cargo ") {
            assert!(CI.contains(&line), "`{line}` is not run by .ci/run");
            continue;
        }
        let mut own = line.replace("C...", &id);
        for (written, address) in &addresses {
            own = own.replace(written, address);
        }
        let command = own.split_whitespace().nth(1).expect("a command").to_owned();
        match command.as_str() {
            "server" | "peer" | "recv" => {
                let text = Text::start(shell(dir.path(), &own));
                let first = text.line();
                if command == "recv" {
                    first.split(' ').next().unwrap().clone_into(&mut id);
                }
                running.push((own, text));
            }
            "status" => {
                let stdout = succeeded(&own, &shell(dir.path(), &own).output().unwrap());
                assert!(stdout.contains(&id), "{stdout}");
            }
            "members" => {
                let stdout = succeeded(&own, &shell(dir.path(), &own).output().unwrap());
                assert!(stdout.contains("Master, this server"), "{stdout}");
            }
            _ => drop(succeeded(&own, &shell(dir.path(), &own).output().unwrap())),
        }
        ran.push(command);
    }
    ran.sort_unstable();
    ran.dedup();
    assert_eq!(ran, ["members", "network", "peer", "ping", "recv", "send", "server", "status"]);
    assert_eq!(fs::read(dir.path().join("inbox/big.iso")).unwrap(), file);
    for (line, text) in running.into_iter().rev() {
        text.signal("TERM");
        let (_, status, stderr) = text.finish();
        assert!(status.success() && stderr.is_empty(), "{line}: {status}: {stderr}");
    }
}

fn keys(value: &Value) -> Vec<String> {
    let mut keys = value.as_object().expect("an object").keys().cloned().collect::<Vec<_>>();
    keys.sort_unstable();
    keys
}

/// Plays the examples against two real peers, and finds every event among what they really said.
#[test]
fn the_json_lines_are_what_a_node_takes_and_says() {
    let (commands, events): (Vec<_>, Vec<_>) =
        blocks("json").into_iter().partition(|line| line.contains("\"command\""));
    let network = Network::new();
    let (mut server, address) = network.founder();
    let server_id = server.id();
    let (mut app, app_id, _) = network.peer("app").join(&address).arg("--relay-only").start_ready();
    let (mut other, other_id, _) = network.peer("laptop").join(&address).start_ready();
    app.event_of("peer_up", &other_id);
    other.event_of("peer_up", &app_id);

    // the request that the example of `reply` answers, and one that nobody answers
    other.command(&json!({"command": "request", "ref": "r", "to": app_id, "data": "what time is it?"}));
    app.wait("the request", |line| line["event"] == "request" && line["rid"] == 1);
    let answer = |node: &mut Running, reference: &str| node.wait("an answer", |line| line["ref"] == reference);
    let mut said = Vec::new();
    for line in &commands {
        let command = serde_json::from_str::<Value>(line).expect("a line is JSON");
        app.raw(&line.replace("C...", &other_id).replace("S...", &server_id));
        let reference = command["ref"].as_str();
        match command["command"].as_str().unwrap() {
            "send" => {
                for _ in command["to"].as_array().unwrap() {
                    let outcome = answer(&mut app, reference.unwrap());
                    assert_eq!(outcome["event"], "delivered", "{line}");
                    said.push(outcome);
                }
                said.push(other.event("message"));
            }
            "request" => {
                said.push(answer(&mut app, reference.unwrap()));
                assert_eq!(said.last().unwrap()["reason"], "timeout");
                said.push(other.event("request"));
            }
            "reply" => {
                said.push(answer(&mut other, "r"));
                assert_eq!(said.last().unwrap()["event"], "reply", "{line}");
            }
            "send_master" => {
                let outcome = answer(&mut app, reference.unwrap());
                assert_eq!((&outcome["event"], &outcome["to"]), (&json!("delivered"), &json!(server_id)), "{line}");
            }
            "status" => assert_eq!(answer(&mut app, reference.unwrap())["event"], "status"),
            "members" => said.push(answer(&mut app, reference.unwrap())),
            "quit" => {}
            unknown => panic!("`{unknown}` is not known here"),
        }
    }
    other.raw("bad");
    said.push(other.event("error"));
    let (lines, status, stderr) = app.finish();
    assert!(status.success(), "the last example is `quit`: {stderr}");
    assert!(lines.iter().all(|line| line["event"] != "error"), "{lines:?}");
    said.extend(lines);
    said.push(network.peer("third").join(&address).start().wait("the first line", |_| true));
    said.push(network.peer("fourth").join(&address).start().event("server_up"));
    said.push(network.peer("fifth").join(&address).start().event("peer_up"));
    for line in events {
        let example = serde_json::from_str::<Value>(&line).expect("a line is JSON");
        let known = |real: &Value| real["event"] == example["event"] && keys(real) == keys(&example);
        assert!(said.iter().any(known), "no node said a line like {line}");
    }
}
