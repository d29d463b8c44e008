//! The commands that need no other node, and what each refuses.

use std::{
    fs,
    net::UdpSocket,
    os::unix::{fs::PermissionsExt, net::UnixListener},
};

use p2pcore::Id;
use tests::{Network, Program, one_line, run};

fn refused(args: &[&str]) -> String {
    let output = run(args);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    one_line(&String::from_utf8_lossy(&output.stderr))
}

#[test]
fn network_new_writes_two_keys_for_the_owner_only_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("new");
    let args = ["network", "new", "--out", out.to_str().unwrap()];
    assert!(run(args).status.success());
    let keys = ["network.key", "server.key"].map(|name| out.join(name));
    let before = keys.each_ref().map(|key| fs::read(key).unwrap());
    for key in &keys {
        assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert!(refused(&args).contains("never overwritten"));
    assert_eq!(keys.each_ref().map(|key| fs::read(key).unwrap()), before);
}

#[test]
fn key_new_prints_the_id_and_never_overwrites() {
    let dir = tempfile::tempdir().unwrap();
    for (role, letter) in [("server", 'S'), ("peer", 'C')] {
        let file = dir.path().join(role);
        let args = ["key", "new", "--role", role, "--out", file.to_str().unwrap()];
        let output = run(args);
        let text = String::from_utf8(output.stdout).unwrap();
        let id = text.strip_suffix('\n').unwrap();
        assert!(id.parse::<Id>().is_ok() && id.starts_with(letter), "{id}");
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        let before = fs::read(&file).unwrap();
        assert!(refused(&args).contains("exists already"));
        assert_eq!(fs::read(&file).unwrap(), before);
    }
}

#[test]
fn a_command_line_that_makes_no_sense_ends_with_status_2() {
    for args in [&["fly"][..], &["ping", "C1", "--network-key", "x"], &["send", "file"], &["peer", "--found"], &[]] {
        for program in Program::ALL {
            assert_eq!(program.command(args).output().unwrap().status.code(), Some(2), "{args:?}");
        }
    }
}

#[test]
fn an_id_has_one_form_only() {
    let network = Network::new();
    for id in [
        "C00000000-0000-8000-8000-00000000000",
        "c00000000-0000-8000-8000-000000000000",
        "X00000000-0000-8000-8000-000000000000",
        "C0000000A-0000-8000-8000-000000000000",
        "C00000000000080008000000000000000",
        "C{00000000-0000-8000-8000-000000000000}",
    ] {
        let ping = network.node("ping", "x").arg(id).join("127.0.0.1:9");
        assert_eq!(ping.command().output().unwrap().status.code(), Some(2), "{id}");
    }
}

#[test]
fn status_without_a_node_is_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().to_str().unwrap();
    assert!(refused(&["status", "--state", state]).contains("no node is running"));
    // what a node that was killed left behind
    drop(UnixListener::bind(dir.path().join("control.sock")).unwrap());
    assert!(refused(&["status", "--state", state, "--json"]).contains("no node is running"));
}

#[test]
fn a_server_without_state_join_and_found_refuses_to_start() {
    let network = Network::new();
    let line = network.server("s").refused();
    assert!(line.contains("--join") && line.contains("--found"), "{line}");
}

#[test]
fn a_peer_that_knows_no_server_refuses_to_start() {
    let line = Network::new().peer("p").refused();
    assert!(line.contains("--join"), "{line}");
}

#[test]
fn a_key_file_that_is_missing_or_unreadable_is_one_clear_line() {
    let network = Network::new();
    let missing = network.path("missing");
    for command in [
        network.server("s").arg("--found").replace("--network-key", &missing),
        network.server("s").arg("--found").replace("--server-key", &missing),
        network.server("s").arg("--found").flag("--key", &missing),
        network.peer("p").join("127.0.0.1:9").replace("--network-key", network.path("")),
    ] {
        let line = command.refused();
        assert!(line.contains("cannot read") && line.contains(network.path("").to_str().unwrap()), "{line}");
    }
    assert!(!missing.exists());
}

#[test]
fn a_malformed_key_file_is_one_clear_line_that_does_not_repeat_it() {
    let network = Network::new();
    let bad = network.path("bad.key");
    fs::write(&bad, "p2pcore-network-key 0123456789abcdef").unwrap();
    for flag in ["--network-key", "--server-key"] {
        let line = network.server("s").arg("--found").replace(flag, &bad).refused();
        assert!(line.contains("not a key file") && !line.contains("0123456789abcdef"), "{line}");
    }
    let line = network.peer("p").join("127.0.0.1:9").flag("--key", network.path("network.key")).refused();
    assert!(line.contains("p2pcore-identity"), "{line}");
}

#[test]
fn a_busy_port_is_one_clear_line() {
    let network = Network::new();
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = socket.local_addr().unwrap().to_string();
    let line = network.server("s").arg("--found").replace("--listen", &address).refused();
    assert!(line.contains(&address) && line.contains("in use"), "{line}");
}

#[test]
fn a_state_directory_that_cannot_be_written_is_one_clear_line() {
    let network = Network::new();
    // below a file nothing can be made, whoever tries
    let state = network.path("network.key").join("state");
    let line = network.server("s").arg("--found").replace("--state", &state).refused();
    assert!(line.contains(network.path("network.key").to_str().unwrap()), "{line}");
}

#[test]
fn keys_for_a_directory_that_cannot_be_written_are_one_clear_line() {
    let network = Network::new();
    let file = network.path("network.key");
    let below_it = file.join("x");
    let out = below_it.to_str().unwrap();
    for args in [&["network", "new", "--out", out][..], &["key", "new", "--role", "peer", "--out", out]] {
        let line = refused(args);
        assert!(line.contains("cannot write") && line.contains(file.to_str().unwrap()), "{line}");
    }
}

#[test]
fn a_damaged_state_file_is_refused_and_left_as_it_is() {
    let network = Network::new();
    let command = network.server("s").arg("--found");
    let (server, ..) = command.start_ready();
    assert!(server.quit().1.success());
    let mut damaged = 0;
    for entry in network.state("s").read_dir().unwrap() {
        let path = entry.unwrap().path();
        let sound = fs::read(&path).unwrap();
        if path.extension().is_some_and(|extension| extension == "key") || sound.is_empty() {
            continue;
        }
        let mut bad = sound.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&path, &bad).unwrap();
        let line = command.refused();
        assert!(line.contains(path.to_str().unwrap()), "{line}");
        assert_eq!(fs::read(&path).unwrap(), bad);
        fs::write(&path, &sound).unwrap();
        damaged += 1;
    }
    assert!(damaged > 0, "a server keeps some state");
}

#[test]
fn a_state_file_that_cannot_be_read_is_one_clear_line() {
    let network = Network::new();
    let command = network.server("s").arg("--found");
    assert!(command.start_ready().0.quit().1.success());
    for name in ["core.state", "incarnation", "identity.key"] {
        let (path, aside) = (network.state("s").join(name), network.path("aside"));
        fs::rename(&path, &aside).unwrap();
        // a directory in its place cannot be read by anybody, root included
        fs::create_dir(&path).unwrap();
        let line = command.refused();
        assert!(line.contains("cannot read") && line.contains(path.to_str().unwrap()), "{line}");
        fs::remove_dir(&path).unwrap();
        fs::rename(&aside, &path).unwrap();
    }
    command.start_ready();
}

#[test]
fn two_nodes_cannot_share_a_state_directory() {
    let network = Network::new();
    let command = network.server("s").arg("--found");
    let (mut server, ..) = command.start_ready();
    let line = command.refused();
    assert!(line.contains("running"), "{line}");
    assert_eq!(server.status()["event"], "status", "the first one goes on");
}

#[test]
fn recv_into_a_directory_that_cannot_be_written_is_one_clear_line() {
    let network = Network::new();
    let dir = network.path("network.key").join("files");
    let line = network.node("recv", "r").flag("--dir", &dir).join("127.0.0.1:9").refused();
    assert!(line.contains("cannot write to the directory"), "{line}");
}

#[test]
fn send_of_what_is_no_file_is_one_clear_line() {
    let network = Network::new();
    let to = "C00000000-0000-8000-8000-000000000000";
    for (file, text) in [(network.path("missing"), "no such file"), (network.path(""), "is not a file")] {
        let line = network.node("send", "x").arg(&file).flag("--to", to).join("127.0.0.1:9").refused();
        assert!(line.contains(text), "{line}");
    }
}
