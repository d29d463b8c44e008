//! What a user can get wrong when other nodes are there.

use std::{fs, path::Path};

use p2pcore::Id;
use serde_json::json;
use tests::{Network, Program};

#[test]
fn a_wrong_network_key_is_told_after_a_few_seconds() {
    let (network, other) = (Network::new(), Network::new());
    let (_server, address) = network.founder();
    for program in Program::ALL {
        let command = network.peer(program.name()).program(program).join(&address);
        let mut peer = command.replace("--network-key", other.path("network.key")).start();
        let error = peer.event("error");
        assert_eq!(error["ref"], json!(null));
        let reason = error["reason"].as_str().unwrap();
        assert!(reason.contains(&address) && reason.contains("key or the address may be wrong"), "{reason}");
    }
    let to = "C00000000-0000-8000-8000-000000000000";
    let ping = network.node("ping", "x").arg(to).join(&address).replace("--network-key", other.path("network.key"));
    let line = ping.refused();
    assert!(line.contains("key or the address may be wrong"), "{line}");
}

#[test]
fn a_wrong_server_key_is_told_and_the_cluster_goes_on() {
    let (network, other) = (Network::new(), Network::new());
    let (mut server, address) = network.founder();
    let command = network.server("s2").join(&address).replace("--server-key", other.path("server.key"));
    let mut intruder = command.start();
    let reason = intruder.event("error")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("server key"), "{reason}");
    assert!(server.status()["servers"].as_array().unwrap().iter().all(|row| row["name"] != "s2"));
}

#[test]
fn an_unknown_id_fails_with_its_reason() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut peer, ..) = network.peer("a").join(&address).start_ready();
    peer.event("server_up");
    let to = "C00000000-0000-8000-8000-000000000000";
    let outcome = peer.deliver(to, "x");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("unknown_id")));
    peer.command(&json!({"command": "request", "ref": "q", "to": to, "data": "x"}));
    assert_eq!(peer.event("failed"), json!({"event": "failed", "ref": "q", "to": to, "reason": "unknown_id"}));
}

#[test]
fn an_oversized_message_fails_with_its_reason_and_the_next_one_arrives() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut a, ..) = network.peer("a").join(&address).start_ready();
    let (mut b, b_id, _) = network.peer("b").join(&address).start_ready();
    a.event_of("peer_up", &b_id);
    let limit = 16 * 1024 * 1024;
    let outcome = a.deliver(&b_id, &"x".repeat(limit + 1));
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("too_large")));
    assert_eq!(a.deliver(&b_id, &"x".repeat(limit))["event"], "delivered");
    assert_eq!(b.event("message")["data"].as_str().unwrap().len(), limit);
    // no message could be so long
    a.raw(&"x".repeat(49 * 1024 * 1024));
    assert!(a.event("error")["reason"].as_str().unwrap().contains("too long"));
}

#[test]
fn a_full_queue_fails_with_its_reason_and_nothing_else_is_lost() {
    const SIZE: usize = 8 * 1024 * 1024;
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut a, ..) = network.peer("a").join(&address).start_ready();
    let (mut b, b_id, _) = network.peer("b").join(&address).start_ready();
    a.event_of("peer_up", &b_id);
    b.event("server_up");
    // a receiver that stands still takes nothing out of the queue
    b.stop();
    let data = "x".repeat(SIZE);
    let mut sent = 0;
    let full = loop {
        sent += 1;
        a.command(&json!({"command": "send", "ref": sent.to_string(), "to": [b_id], "data": data}));
        a.status();
        if let Some(failed) = a.take("failed").into_iter().next() {
            break failed;
        }
        assert!(sent < 64, "no queue is that long");
    };
    assert_eq!((&full["reason"], &full["ref"]), (&json!("full"), &json!(sent.to_string())));
    b.signal("CONT");
    for _ in 1..sent {
        let message = b.event("message");
        assert_eq!(message["data"].as_str().unwrap().len(), SIZE);
        a.event("delivered");
    }
    assert_eq!(a.deliver(&b_id, "there is room again")["event"], "delivered");
}

/// The state of a node as its last start would have left it at another time: the layout is that of the driver's `state.rs`.
fn set_incarnation(state: &Path, counter: u64) {
    const MAGIC: usize = 16;
    let path = state.join("incarnation");
    let file = fs::read(&path).unwrap();
    let (magic, owner) = file[..MAGIC + Id::LEN].split_at(MAGIC);
    let counter = counter.to_le_bytes();
    let mut hasher = blake3::Hasher::new_derive_key("p2pcore 2026 checksum of a state file");
    let hash = hasher.update(owner).update(&counter).finalize();
    fs::write(path, [magic, owner, hash.as_bytes(), &counter].concat()).unwrap();
}

fn incarnation(state: &Path) -> u64 {
    let file = fs::read(state.join("incarnation")).unwrap();
    u64::from_le_bytes(*file.last_chunk().unwrap())
}

#[test]
fn a_clock_that_jumps_between_two_starts_makes_no_older_run() {
    const YEAR_2100: u64 = 4_102_444_800;
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut a, a_id, _) = network.peer("a").join(&address).start_ready();
    let command = network.peer("b").join(&address);
    let (b, id, _) = command.start_ready();
    a.event_of("peer_up", &id);
    b.kill();
    // the last start saw a clock that was far behind; then one that was far ahead, and the two after that have it right again
    for last in [Some(5), Some(YEAR_2100), None, None] {
        if let Some(last) = last {
            set_incarnation(command.state(), last);
        }
        let before = incarnation(command.state());
        let (mut b, ..) = command.start_ready();
        assert!(incarnation(command.state()) > before);
        b.event_of("peer_up", &a_id);
        assert_eq!(b.deliver(&a_id, "here I am")["event"], "delivered");
        assert_eq!(a.deliver(&id, "welcome")["event"], "delivered");
        assert_eq!(b.event("message")["data"], "welcome");
        assert!(a.take("duplicate_identity").is_empty() && b.take("duplicate_identity").is_empty());
        // without a goodbye: the others have to see by its number that the next one is newer
        b.kill();
    }
    assert!(incarnation(command.state()) > YEAR_2100);
}

#[test]
fn data_that_begins_like_the_programs_own_messages_is_refused() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut peer, id, _) = network.peer("a").join(&address).start_ready();
    for command in ["send", "request"] {
        let to = if command == "send" { json!([id]) } else { json!(id) };
        peer.command(&json!({"command": command, "ref": command, "to": to, "data": "\0p2pcore\0p"}));
        assert_eq!(peer.event("error")["ref"], command);
    }
}

#[test]
fn a_second_cluster_under_the_same_network_key_is_an_error_and_no_merge() {
    let network = Network::new();
    let (mut first, address) = network.founder();
    let command = network.server("s2").arg("--found");
    let (second, ..) = command.start_ready();
    assert!(second.quit().1.success());
    // it has a cluster of its own to return to
    let mut second = command.join(&address).start();
    let reason = second.event("error")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("cluster"), "{reason}");
    assert!(first.status()["servers"].as_array().unwrap().iter().all(|row| row["name"] != "s2"));
}
