//! The flags of everything that is a node.

use std::{fs, io::ErrorKind, net::SocketAddr, os::unix::fs::PermissionsExt};

use serde_json::{Value, json};
use tests::{Network, NodeCommand, Program, free_address};

fn texts(value: &Value) -> Vec<&str> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text")).collect()
}

#[test]
fn without_listen_a_node_takes_a_port_of_ipv4_and_one_of_ipv6() {
    let network = Network::new();
    for program in Program::ALL {
        let mut server = network.server(program.name()).program(program).without("--listen").arg("--found").start();
        let ready = server.event("ready");
        let listen = texts(&ready["listen"]);
        assert!(listen.iter().all(|text| text.parse::<SocketAddr>().is_ok_and(|a| a.port() != 0)), "{listen:?}");
        assert!(listen.iter().any(|text| text.starts_with("0.0.0.0:")), "{listen:?}");
        assert!(listen.iter().any(|text| text.starts_with("[::]:")), "IPv6 in brackets: {listen:?}");
    }
}

#[test]
fn listen_and_join_may_be_repeated() {
    let network = Network::new();
    let (first, second) = (free_address(), "[::1]:0");
    let command = network.server("s").replace("--listen", &first).flag("--listen", second).arg("--found");
    let mut server = command.start();
    let ready = server.event("ready");
    let listen = texts(&ready["listen"]);
    assert_eq!((listen.len(), listen[0]), (2, first.as_str()));
    for address in listen {
        // a server that is not there does not keep it from the other
        let command = network.peer("p").join(&free_address()).join(address);
        let mut peer = if address.starts_with('[') { command.replace("--listen", "[::1]:0") } else { command }.start();
        assert_eq!(peer.event("server_up")["name"], "s");
        assert!(peer.quit().1.success());
    }
}

#[test]
fn advertised_addresses_are_in_the_tables_of_others() {
    let network = Network::new();
    let advertise = |command: NodeCommand, addresses: [&'static str; 2]| {
        addresses.into_iter().fold(command, |command, address| command.flag("--advertise", address))
    };
    let (of_server, of_peer) = (["192.0.2.1:4433", "[2001:db8::1]:4433"], ["192.0.2.2:5", "[2001:db8::2]:5"]);
    let (_server, _, address) = advertise(network.server("s1"), of_server).arg("--found").start_ready();
    let (_a, a_id, _) = advertise(network.peer("a"), of_peer).join(&address).start_ready();
    let mut b = network.peer("b").join(&address).start();
    let has = |row: &Value, key: &str, all: [&str; 2]| all.iter().all(|text| texts(&row[key]).contains(text));
    b.status_until("the addresses", |status| {
        let rows = |key: &str| status[key].as_array().unwrap().clone();
        rows("servers").iter().any(|row| has(row, "addresses", of_server))
            && rows("peers").iter().any(|row| row["id"] == *a_id && has(row, "listen", of_peer))
    });
}

#[test]
fn a_key_of_its_own_is_used_and_the_state_gets_none() {
    let network = Network::new();
    let key = network.path("own.key");
    let output = tests::run(["key", "new", "--role", "server", "--out", key.to_str().unwrap()]);
    let id = String::from_utf8(output.stdout).unwrap();
    let (_server, ready, _) = network.server("s").flag("--key", &key).arg("--found").start_ready();
    assert_eq!(ready, id.trim());
    assert!(!network.state("s").join("identity.key").exists());
}

#[test]
fn what_stands_in_the_state_is_for_the_owner_only() {
    let network = Network::new();
    let command = network.server("s").replace("--state", network.path("a/b/state")).arg("--found");
    let (_server, ..) = command.start_ready();
    let mut names = Vec::new();
    for entry in command.state().read_dir().unwrap() {
        let entry = entry.unwrap();
        match entry.metadata() {
            Ok(metadata) => assert_eq!(metadata.permissions().mode() & 0o077, 0, "{entry:?}"),
            // a file is written beside the one that it replaces, and the server runs
            Err(error) => assert_eq!(error.kind(), ErrorKind::NotFound, "{entry:?}"),
        }
        names.push(entry.file_name().into_string().unwrap());
    }
    for name in ["identity.key", "control.sock"] {
        assert!(names.iter().any(|known| known == name), "{names:?}");
    }
}

#[test]
fn a_name_is_optional() {
    let network = Network::new();
    let mut server = network.server("s").without("--name").arg("--found").start();
    assert_eq!(server.event("ready")["name"], "");
    let line = network.server("s2").replace("--name", "x".repeat(65)).arg("--found").command().output().unwrap();
    assert_eq!(line.status.code(), Some(2));
}

#[test]
fn a_server_returns_to_its_cluster_whatever_its_flags() {
    let network = Network::new();
    let founder = network.server("s1").replace("--listen", free_address()).arg("--found");
    let (first, first_id, address) = founder.start_ready();
    let second = network.server("s2").replace("--listen", free_address()).join(&address);
    let (mut second_running, second_id, _) = second.start_ready();
    second_running.event_of("server_up", &first_id);
    second_running
        .status_until("its admission", |status| status["members"].as_array().is_some_and(|all| all.len() == 2));
    drop(first);
    second_running.event_of("server_down", &first_id);
    // without `--found`, without `--join`: it knows the other by its last table
    let without = network.server("s1").replace("--listen", founder.listen());
    let mut first = without.start();
    first.event_of("server_up", &second_id);
    drop(second_running);
    // with `--found` it makes no cluster of its own
    let mut second = second.arg("--found").start();
    second.event_of("server_up", &first_id);
    assert!(first.take("error").is_empty() && second.take("error").is_empty());
}

#[test]
fn a_peer_whose_introducer_is_gone_starts_from_its_state() {
    let network = Network::new();
    let (mut first, address) = network.founder();
    let first_id = first.id();
    let (mut second, second_id, _) = network.server("s2").join(&address).start_ready();
    second.event_of("server_up", &first_id);
    let command = network.peer("p").join(&address);
    let (mut peer, id, _) = command.start_ready();
    peer.event_of("server_up", &second_id);
    assert!(peer.quit().1.success());
    first.kill();
    for command in [command, network.peer("p")] {
        let mut peer = command.start();
        assert_eq!(peer.event("ready")["id"], *id);
        peer.event_of("server_up", &second_id);
        assert_eq!(peer.deliver(&second_id, "here again")["event"], "delivered");
        assert!(peer.quit().1.success());
    }
}

#[test]
fn one_output_of_both_programs_for_humans() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let server_id = server.id();
    for program in Program::ALL {
        let dir = network.path("files");
        let recv = network.node("recv", "r").program(program).flag("--dir", &dir).arg("--once").join(&address);
        let recv = recv.without_json().start_text();
        let id = recv.line().split(' ').next().unwrap().to_owned();
        let ping = network.node("ping", "x").program(program).arg(&server_id).flag("--count", "2").join(&address);
        let (lines, status, stderr) = ping.without_json().start_text().finish();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
        assert_eq!(lines.len(), 2, "a line each: {lines:?}");
        assert!(lines.iter().all(|line| line.contains(" ms ") && line.contains("path=direct")), "{lines:?}");
        let file = network.file(program.name(), 100_000);
        let send = network.node("send", "x").program(program).arg(&file).flag("--to", &id).join(&address);
        let (lines, status, stderr) = send.without_json().start_text().finish();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
        assert!(lines.len() == 1 && lines[0].starts_with("sent 100000 bytes in "), "{lines:?}");
        let (lines, status, stderr) = recv.finish();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
        assert!(lines.len() == 1 && lines[0].starts_with("100000 bytes from "), "{lines:?}");
        assert_eq!(fs::read(file).unwrap(), fs::read(dir.join(program.name())).unwrap());
    }
}

#[test]
fn a_wrong_network_key_is_one_line_for_humans_too() {
    let (network, other) = (Network::new(), Network::new());
    let (_server, address) = network.founder();
    let to = json!("C00000000-0000-8000-8000-000000000000");
    let ping = network.node("ping", "x").arg(to.as_str().unwrap()).join(&address).without_json();
    let line = ping.replace("--network-key", other.path("network.key")).refused();
    assert!(line.contains("key or the address may be wrong"), "{line}");
}
