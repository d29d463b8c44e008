//! `ping`.

use serde_json::json;
use tests::{Network, Program};

#[test]
fn a_ping_is_answered_by_a_peer_and_by_a_server_whose_applications_do_not_see_it() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let (mut peer, id, _) = network.peer("p").join(&address).start_ready();
    peer.event("server_up");
    let server_id = server.status()["id"].as_str().unwrap().to_owned();
    for (program, to) in [(Program::Tokio, &id), (Program::Smol, &server_id)] {
        let command = network.node("ping", "x").program(program).arg(to).flag("--count", "2").join(&address);
        let (lines, status, stderr) = command.start().finish();
        assert!(status.success(), "{stderr}");
        let pongs = lines.iter().filter(|line| line["event"] == "pong").collect::<Vec<_>>();
        assert_eq!(pongs.len(), 2);
        for (index, pong) in pongs.into_iter().enumerate() {
            assert_eq!((&pong["id"], &pong["seq"]), (&json!(to), &json!(index + 1)));
            assert!(pong["rtt_ms"].is_u64(), "{pong}");
        }
    }
    assert!(peer.take("request").is_empty() && server.take("request").is_empty());
}

#[test]
fn a_ping_shows_the_kind_of_path() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut peer, id, _) = network.peer("p").join(&address).start_ready();
    peer.event("server_up");
    let command = network.node("ping", "x").arg(&id).flag("--count", "2").join(&address).arg("--relay-only");
    let (lines, status, stderr) = command.start().finish();
    assert!(status.success(), "{stderr}");
    let pong = lines.iter().find(|line| line["event"] == "pong").unwrap();
    assert_eq!(pong["kind"], "relayed");
    assert!(pong["via"].as_str().unwrap().starts_with('S'));
}

#[test]
fn a_ping_without_an_answer_ends_with_status_1() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let to = "C00000000-0000-8000-8000-000000000000";
    let line = network.node("ping", "x").arg(to).flag("--count", "1").join(&address).refused();
    assert!(line.contains(to), "{line}");
}

#[test]
fn guests_leave_no_state_behind() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let to = "C00000000-0000-8000-8000-000000000000";
    let temporary = network.path("tmp");
    std::fs::create_dir(&temporary).unwrap();
    let command = network.node("ping", "x").without("--state").arg(to).flag("--count", "1").join(&address);
    command.env("TMPDIR", &temporary).refused();
    assert_eq!(temporary.read_dir().unwrap().count(), 0);
}

#[test]
fn a_throw_away_state_may_have_a_path_that_is_too_long_for_a_socket() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let temporary = network.path(&"x".repeat(100));
    std::fs::create_dir(&temporary).unwrap();
    let command = network.node("ping", "x").without("--state").arg(server.id()).flag("--count", "1").join(&address);
    let (_, status, stderr) = command.env("TMPDIR", &temporary).start().finish();
    assert!(status.success(), "{stderr}");
    assert_eq!(temporary.read_dir().unwrap().count(), 0);
}
