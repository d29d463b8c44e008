//! `send` and `recv`.

use std::fs;

use serde_json::{Value, json};
use tests::{Network, Program, Running};

fn hash(path: &std::path::Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

/// A receiver of files, known to the server.
fn receiver(network: &Network, address: &str, extra: &[&str]) -> (Running, String) {
    let mut command = network.node("recv", "r").flag("--dir", network.path("files")).join(address);
    for arg in extra {
        command = command.arg(*arg);
    }
    let (mut receiver, id, _) = command.start_ready();
    receiver.event("server_up");
    (receiver, id)
}

fn files(network: &Network) -> Vec<String> {
    let entries = network.path("files").read_dir().unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn last(lines: &[Value]) -> &Value {
    lines.last().expect("a last line")
}

#[test]
fn a_file_arrives_whole_under_its_base_name() {
    let network = Network::new();
    let (_server, address) = network.founder();
    for (program, name, len) in [(Program::Tokio, "big", 5_000_001), (Program::Smol, "empty", 0)] {
        let (receiver, id) = receiver(&network, &address, &["--once"]);
        let file = network.file(name, len);
        let sender = network.node("send", "x").program(program).arg(&file).flag("--to", &id).join(&address).start();
        let (lines, status, stderr) = sender.finish();
        assert!(status.success(), "{stderr}");
        let sent = last(&lines);
        let mut keys = sent.as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
        keys.sort_unstable();
        assert_eq!(keys, ["blake3", "bytes", "kind", "longest_stall_ms", "mb_s", "ms", "via"]);
        assert_eq!((&sent["bytes"], &sent["blake3"]), (&json!(len), &json!(hash(&file))));
        assert!(sent["ms"].is_u64() && sent["longest_stall_ms"].is_u64() && sent["mb_s"].is_number());
        assert!(["direct", "relayed"].contains(&sent["kind"].as_str().unwrap()));
        let stored = network.path("files").join(name);
        assert_eq!(hash(&stored), hash(&file));
        let (lines, status, stderr) = receiver.finish();
        assert!(status.success(), "--once ends by itself: {stderr}");
        assert!(lines.iter().any(|line| line["event"] == "stored" && line["name"] == *name));
    }
    assert_eq!(files(&network).len(), 2, "no temporary file stays");
}

#[test]
fn nothing_is_overwritten() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (_receiver, id) = receiver(&network, &address, &[]);
    let file = network.file("a", 10_000);
    let command = network.node("send", "x").arg(&file).flag("--to", &id).join(&address);
    assert!(command.start().finish().1.success());
    network.file("a", 20_000);
    let before = hash(&network.path("files").join("a"));
    let line = command.refused();
    assert!(line.contains("exists"), "{line}");
    assert_eq!(hash(&network.path("files").join("a")), before);
    assert_eq!(files(&network), ["a"]);
}

#[test]
fn a_peer_that_takes_no_files_is_one_clear_line() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut peer, id, _) = network.peer("p").join(&address).start_ready();
    peer.event("server_up");
    let file = network.file("a", 1_000);
    let line = network.node("send", "x").arg(&file).flag("--to", &id).join(&address).refused();
    assert!(line.contains(&id) && line.contains("recv"), "{line}");
    assert!(peer.take("request").is_empty() && peer.take("message").is_empty(), "the application sees nothing of it");
}

#[test]
fn a_file_to_an_unknown_id_is_one_clear_line() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let to = "C00000000-0000-8000-8000-000000000000";
    let file = network.file("a", 1_000);
    let line = network.node("send", "x").arg(&file).flag("--to", to).join(&address).refused();
    assert!(line.contains(to), "{line}");
}

#[test]
fn a_relayed_file_survives_the_death_of_its_relay() {
    const LEN: usize = 64 * 1024 * 1024;
    let network = Network::new();
    let (first, address) = network.founder();
    let (mut second, _, second_address) = network.server("s2").join(&address).start_ready();
    second.event("server_up");
    let (mut receiver, id) = receiver(&network, &address, &["--relay-only"]);
    receiver.event("server_up");
    let file = network.file("big", LEN);
    let mut sender = network
        .node("send", "x")
        .program(Program::Smol)
        .arg(&file)
        .flag("--to", &id)
        .join(&second_address)
        .join(&address)
        .arg("--relay-only")
        .start();
    let path = sender.event_of("path", &id);
    let mut servers = vec![first, second];
    let via = path["via"].as_str().expect("a relay").to_owned();
    // the first bytes are on their way when the temporary file grows
    while fs::read_dir(network.path("files")).unwrap().all(|entry| entry.unwrap().metadata().unwrap().len() == 0) {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let index = servers.iter_mut().position(|server| server.status()["id"] == *via).expect("one of the two");
    servers.swap_remove(index).kill();
    let (lines, status, stderr) = sender.finish();
    assert!(status.success(), "{stderr}");
    assert_eq!(last(&lines)["kind"], "relayed");
    assert_ne!(last(&lines)["via"], *via);
    assert!(last(&lines)["longest_stall_ms"].as_u64().unwrap() <= 1_000, "{}", last(&lines));
    assert_eq!(hash(&network.path("files").join("big")), hash(&file));
}
