//! What the JSON lines promise beside their keys.

use std::{
    io::{BufRead, BufReader, Read},
    process::Stdio,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Network, Program};

#[test]
fn goodbye_and_exit_take_at_most_2_seconds() {
    let network = Network::new();
    let (_server, address) = network.founder();
    for program in Program::ALL {
        for how in ["quit", "INT", "TERM"] {
            let (mut peer, ..) = network.peer(program.name()).program(program).join(&address).start_ready();
            peer.event("server_up");
            let start = Instant::now();
            let status = if how == "quit" {
                peer.quit().1
            } else {
                peer.signal(how);
                peer.finish().1
            };
            assert_eq!(status.code(), Some(0), "{how}");
            assert!(start.elapsed() <= Duration::from_secs(2), "{how}: {:?}", start.elapsed());
        }
    }
}

#[test]
fn a_node_that_has_lost_its_servers_still_ends_within_2_seconds() {
    let network = Network::new();
    let (server, address) = network.founder();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    peer.event("server_up");
    server.kill();
    let start = Instant::now();
    assert_eq!(peer.quit().1.code(), Some(0));
    assert!(start.elapsed() <= Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_goodbye_of_the_last_server_is_suspended_within_a_second() {
    let network = Network::new();
    let (server, address) = network.founder();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    peer.event("server_up");
    assert!(server.quit().1.success());
    let start = Instant::now();
    peer.event("suspended");
    assert!(start.elapsed() <= Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn logs_go_to_standard_error_and_leave_the_lines_alone() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut peer, ..) = network.peer("p").join(&address).env("RUST_LOG", "p2pcore=debug").start_ready();
    peer.event("server_up");
    // a line that is no JSON object fails the test
    let (lines, status, stderr) = peer.quit();
    assert!(status.success() && lines.iter().all(Value::is_object));
    assert!(stderr.contains("ServerUp"), "{stderr:?}");
}

#[test]
fn delivered_comes_only_after_the_receiver_has_written_its_line() {
    // more than a pipe holds
    const LEN: usize = 4 * 1024 * 1024;
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut sender, ..) = network.peer("a").join(&address).start_ready();
    let mut command = network.peer("b").join(&address).command();
    let mut receiver = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(receiver.stdout.take().unwrap());
    let mut ready = String::new();
    lines.read_line(&mut ready).unwrap();
    let id = serde_json::from_str::<Value>(&ready).unwrap()["id"].as_str().unwrap().to_owned();
    sender.event_of("peer_up", &id);
    sender.command(&json!({"command": "send", "ref": "r", "to": [id], "data": "x".repeat(LEN)}));
    // the whole of it has crossed by then, and nobody reads it
    std::thread::sleep(Duration::from_secs(2));
    assert!(sender.take("delivered").is_empty());
    let reader = std::thread::spawn(move || {
        let mut all = Vec::new();
        let _ = lines.read_to_end(&mut all);
        all
    });
    assert_eq!(sender.event("delivered")["ref"], "r");
    receiver.kill().unwrap();
    receiver.wait().unwrap();
    let text = String::from_utf8(reader.join().unwrap()).unwrap();
    let message = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    assert!(message.into_iter().any(|line| line["event"] == "message" && line["data"].as_str().unwrap().len() == LEN));
}

#[test]
fn a_message_whose_receiver_was_killed_and_restarted_has_an_unknown_outcome() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut a, a_id, _) = network.peer("a").join(&address).start_ready();
    let command = network.peer("b").join(&address);
    let (mut b, b_id, _) = command.start_ready();
    a.event_of("peer_up", &b_id);
    b.event_of("peer_up", &a_id);
    assert_eq!(a.deliver(&b_id, "first")["event"], "delivered");
    // it takes the bytes of the second, and is gone before it handed them over
    b.stop();
    a.command(&json!({"command": "send", "ref": "r", "to": [b_id], "data": "second"}));
    a.status();
    b.kill();
    let (mut b, ..) = command.start_ready();
    let outcome = a.wait("an outcome", |line| line["ref"] == "r");
    assert_eq!(outcome, json!({"event": "failed", "ref": "r", "to": b_id, "reason": "unknown_outcome"}));
    a.status_until("its return", |status| status["peers"].as_array().unwrap().iter().any(|row| row["id"] == *b_id));
    assert_eq!(a.deliver(&b_id, "third")["event"], "delivered");
    assert_eq!(b.event("message")["data"], "third", "the second never comes late");
}

#[test]
fn what_is_open_at_the_end_still_has_one_outcome() {
    let network = Network::new();
    let (_server, address) = network.founder();
    for program in Program::ALL {
        let (mut a, a_id, _) = network.peer(program.name()).program(program).join(&address).start_ready();
        let (mut b, b_id, _) = network.peer(&format!("{}-b", program.name())).join(&address).start_ready();
        a.event_of("peer_up", &b_id);
        b.event_of("peer_up", &a_id);
        a.command(&json!({"command": "request", "ref": "asked", "to": b_id, "data": "?"}));
        b.event("request");
        // what b says next takes the receipt along, which waits up to 20 ms otherwise: b stands still sooner
        b.command(&json!({"command": "send", "to": [a_id], "data": "?"}));
        a.event("message");
        b.stop();
        a.command(&json!({"command": "send", "ref": "sent", "to": [b_id], "data": "!"}));
        a.status();
        let (lines, status, stderr) = a.quit();
        assert!(status.success(), "{stderr}");
        for (reference, reason) in [("asked", "reset"), ("sent", "unknown_outcome")] {
            let answers = lines.iter().filter(|line| line["ref"] == reference).collect::<Vec<_>>();
            let expected = json!({"event": "failed", "ref": reference, "to": b_id, "reason": reason});
            assert_eq!(answers, [&expected], "{lines:?}");
        }
    }
}

#[test]
fn an_id_leaves_the_tables_at_its_goodbye_or_30_seconds_after_it_vanished() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let (mut a, ..) = network.peer("a").join(&address).start_ready();
    let (quits, quits_id, _) = network.peer("quits").join(&address).start_ready();
    let (killed, killed_id, _) = network.peer("killed").join(&address).start_ready();
    for id in [&quits_id, &killed_id] {
        a.event_of("peer_up", id);
        server.event_of("peer_up", id);
    }
    let start = Instant::now();
    killed.kill();
    assert!(quits.quit().1.success());
    for node in [&mut a, &mut server] {
        node.event_of("peer_down", &quits_id);
        assert!(start.elapsed() <= Duration::from_secs(3), "{:?}", start.elapsed());
    }
    for node in [&mut a, &mut server] {
        node.event_of("peer_down", &killed_id);
        assert!(start.elapsed() <= Duration::from_secs(30), "{:?}", start.elapsed());
    }
    assert_eq!(server.status()["clients"].as_array().unwrap().len(), 1);
}

#[test]
fn the_status_names_the_relay_of_a_relayed_peer() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let server_id = server.id();
    let (mut a, ..) = network.peer("a").join(&address).arg("--relay-only").start_ready();
    let (_b, b_id, _) = network.peer("b").join(&address).start_ready();
    let status = a.status_until("a link", |status| {
        status["peers"].as_array().unwrap().iter().any(|row| row["id"] == *b_id && row["linked"] == true)
    });
    let row = &status["peers"][0];
    assert_eq!((&row["kind"], &row["via"]), (&json!("relayed"), &json!(server_id)));
    assert!(row["rtt_ms"].is_u64(), "{row}");
}
