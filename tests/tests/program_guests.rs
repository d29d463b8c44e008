//! `send`, `recv` and `ping` are nodes too: they take commands and have a control socket.

use std::{fs, os::unix::fs::PermissionsExt, thread, time::Duration};

use serde_json::{Value, json};
use tests::{Control, Network, NodeCommand, Program, Running};

fn receiver(network: &Network, address: &str) -> (Running, String) {
    let (mut receiver, id, _) =
        network.node("recv", "r").flag("--dir", network.path("files")).join(address).start_ready();
    receiver.event("server_up");
    (receiver, id)
}

fn names(network: &Network) -> Vec<String> {
    let entries = network.path("files").read_dir().unwrap();
    entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn recv_takes_commands_and_shows_messages_like_any_node() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut receiver, id) = receiver(&network, &address);
    let (mut peer, peer_id, _) = network.peer("p").join(&address).start_ready();
    peer.event_of("peer_up", &id);
    receiver.event_of("peer_up", &peer_id);
    assert_eq!(receiver.status()["id"], *id);
    assert_eq!(peer.deliver(&id, "no file")["event"], "delivered");
    assert_eq!(receiver.event("message")["data"], "no file");
    assert_eq!(receiver.deliver(&peer_id, "nor this")["event"], "delivered");
    peer.command(&json!({"command": "request", "ref": "q", "to": id, "data": "what?"}));
    let rid = receiver.event("request")["rid"].clone();
    receiver.command(&json!({"command": "reply", "rid": rid, "data": "that"}));
    assert_eq!(peer.event("reply")["data"], "that");
    receiver.raw("bad");
    assert_eq!(receiver.event("error")["ref"], json!(null));
    let (_, status, stderr) = receiver.quit();
    assert!(status.success(), "{stderr}");
}

#[test]
fn recv_has_a_control_socket_that_sees_what_is_stored_and_ends_it() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (receiver, id) = receiver(&network, &address);
    let socket = network.state("r").join("control.sock");
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut control = Control::connect(&network.state("r"));
    control.command(&json!({"command": "status", "ref": "mine"}));
    assert_eq!(control.event("status")["id"], *id);
    let file = network.file("a", 10_000);
    assert!(network.node("send", "x").arg(&file).flag("--to", &id).join(&address).start().finish().1.success());
    assert_eq!(control.event("stored")["name"], "a");
    control.command(&json!({"command": "quit"}));
    let (_, status, stderr) = receiver.finish();
    assert!(status.success(), "{stderr}");
    assert!(!socket.exists());
}

#[test]
fn recv_ends_with_status_0_at_a_signal() {
    let network = Network::new();
    let (_server, address) = network.founder();
    for signal in ["INT", "TERM"] {
        let (receiver, _) = receiver(&network, &address);
        receiver.signal(signal);
        let (_, status, stderr) = receiver.finish();
        assert!(status.success(), "{signal}: {status}: {stderr}");
    }
}

#[test]
fn ping_takes_quit_and_has_answers_by_then() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let id = server.id();
    for program in Program::ALL {
        let mut ping =
            network.node("ping", "x").program(program).arg(&id).flag("--count", "1000").join(&address).start();
        ping.event("pong");
        let mut control = Control::connect(&network.state("x"));
        assert_eq!(control.event("pong")["id"], *id);
        assert_eq!(ping.status()["role"], "peer");
        let (_, status, stderr) = ping.quit();
        assert!(status.success(), "{stderr}");
    }
    let mut ping = network.node("ping", "x").arg("C00000000-0000-8000-8000-000000000000").join(&address).start();
    ping.event("server_up");
    let (_, status, stderr) = ping.quit();
    assert_eq!(status.code(), Some(1), "no answer so far: {stderr}");
}

#[test]
fn send_that_is_told_to_quit_says_that_the_file_did_not_go() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (receiver, id) = receiver(&network, &address);
    let file = network.file("big", 128_000_000);
    let mut send = network.node("send", "x").arg(&file).flag("--to", &id).join(&address).start();
    send.event_of("peer_up", &id);
    while names(&network).is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    Control::connect(&network.state("x")).command(&json!({"command": "quit"}));
    let (lines, status, stderr) = send.finish();
    assert_eq!((status.code(), stderr.lines().count()), (Some(1), 1), "{stderr}");
    assert!(stderr.contains("interrupted") && lines.iter().all(|line| line.get("blake3").is_none()));
    assert!(receiver.quit().1.success());
    assert!(names(&network).is_empty(), "nothing half-written");
}

#[test]
fn what_a_killed_recv_left_behind_goes_at_the_next_start() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (killed, id) = receiver(&network, &address);
    let file = network.file("big", 128_000_000);
    let send = network.node("send", "x").arg(&file).flag("--to", &id).join(&address).start();
    while names(&network).is_empty() {
        thread::sleep(Duration::from_millis(1));
    }
    killed.kill();
    send.kill();
    assert!(names(&network)[0].ends_with(".part"));
    fs::write(network.path("files").join("mine.part"), "mine").unwrap();
    let (second, _) = receiver(&network, &address);
    assert_eq!(names(&network), ["mine.part"]);
    drop(second);
}

#[test]
fn send_and_recv_have_a_state_for_the_time_they_run() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let temporary = network.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let file = network.file("a", 10_000);
    let guest = |command: NodeCommand| command.without("--state").join(&address).env("TMPDIR", &temporary);
    let recv = guest(network.node("recv", "r")).flag("--dir", network.path("files")).arg("--once");
    let (mut recv, id, _) = recv.start_ready();
    recv.event("server_up");
    assert_eq!(temporary.read_dir().unwrap().count(), 1);
    let send = guest(network.node("send", "x")).arg(&file).flag("--to", &id).start();
    for node in [send, recv] {
        let (_, status, stderr) = node.finish();
        assert!(status.success(), "{stderr}");
    }
    assert_eq!(temporary.read_dir().unwrap().count(), 0);
}

#[test]
fn a_request_to_a_human_who_receives_files_is_refused() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let command = network.node("recv", "r").flag("--dir", network.path("files")).join(&address).without_json();
    let receiver = command.start_text();
    let id = receiver.line().split(' ').next().unwrap().to_owned();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    peer.event_of("peer_up", &id);
    peer.command(&json!({"command": "request", "ref": "q", "to": id, "data": "what?"}));
    let expected: Value = json!({"event": "failed", "ref": "q", "to": id, "reason": "refused"});
    assert_eq!(peer.event("failed"), expected);
    assert_eq!(peer.deliver(&id, "hello")["event"], "delivered");
    let line = receiver.line();
    assert!(line.contains("hello") && line.starts_with("p ("), "{line}");
}
