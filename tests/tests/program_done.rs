//! Three servers die and come back under a peer on tokio and a peer on smol.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use serde_json::json;
use tests::{Network, Program, Servers, linked_servers, long_file, peer_row, wait_for_bytes};

fn hash(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

#[test]
fn a_file_and_messages_go_on_while_servers_are_killed_and_restarted() {
    let network = Network::new();
    let mut servers = Servers::start(&network);

    let recv = network.node("recv", "tokio").flag("--dir", network.path("files")).arg("--relay-only");
    let (mut tokio, id, _) = servers.join(recv).start_ready();
    tokio.status_until("links to all servers", |status| linked_servers(status) == 3);
    let peer = network.peer("smol").program(Program::Smol).arg("--relay-only");
    let (mut smol, smol_id, _) = servers.join(peer).start_ready();
    smol.status_until("links to all servers", |status| linked_servers(status) == 3);

    // a file crosses while its relay is killed
    let len = long_file();
    let file = network.file("big", len);
    let send = network.node("send", "sender").program(Program::Smol).arg(&file).flag("--to", &id).arg("--relay-only");
    let mut sender = servers.join(send).start();
    let via = sender.event_of("path", &id)["via"].as_str().expect("a relay").to_owned();
    wait_for_bytes(&network.path("files"));
    servers.kill(&via);
    let (lines, status, stderr) = sender.finish();
    assert!(status.success(), "{stderr}");
    let sent = lines.last().unwrap();
    println!("the relay {via} was killed: {sent}");
    assert_eq!((&sent["bytes"], &sent["blake3"]), (&json!(len), &json!(hash(&file))));
    assert_eq!(sent["blake3"], hash(&network.path("files").join("big")));
    assert_ne!(sent["via"], *via, "the file ended on another way");
    assert!(sent["longest_stall_ms"].as_u64().unwrap() <= 1_000, "{sent}");

    // all servers are killed
    let killed = Instant::now();
    servers.kill_all();
    for peer in [&mut tokio, &mut smol] {
        peer.event("suspended");
    }
    let suspended = killed.elapsed();
    println!("suspended after {} ms", suspended.as_millis());
    assert!(suspended <= Duration::from_secs(31), "{suspended:?}");
    let outcome = smol.deliver(&id, "nobody is there");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("suspended")));

    // one comes back, and it is not the founder
    servers.restart(1);
    let back = Instant::now();
    for peer in [&mut tokio, &mut smol] {
        peer.event("resumed");
    }
    let resumed = back.elapsed();
    println!("resumed after {} ms", resumed.as_millis());
    assert!(resumed <= Duration::from_secs(5), "{resumed:?}");
    smol.status_until("the other peer's return", |status| peer_row(status, &id).is_some());
    assert_eq!(smol.deliver(&id, "the next message")["event"], "delivered");
    let message = tokio.event("message");
    assert_eq!((&message["from"], &message["data"]), (&json!(smol_id), &json!("the next message")));

    // the founder with its first command line, `--found` in it, and the third: one cluster
    servers.restart(0);
    servers.restart(2);
    for server in servers.running() {
        server.status_until("links to both others and its peers", |status| {
            linked_servers(status) == 2 && peer_row(status, &id).is_some() && peer_row(status, &smol_id).is_some()
        });
        assert!(server.take("error").is_empty(), "no foreign cluster");
    }
    for peer in [&mut tokio, &mut smol] {
        peer.status_until("links to all servers", |status| linked_servers(status) == 3);
    }
    assert_eq!(smol.deliver(&id, "as before")["event"], "delivered");
    assert_eq!(tokio.deliver(&smol_id, "as before")["event"], "delivered");
}
