//! Three servers die and come back under a peer on tokio and a peer on smol.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Network, NodeCommand, Program, Running, free_address};

/// The command line of each server, kept for its return.
fn commands(network: &Network) -> Vec<NodeCommand> {
    let addresses = [free_address(), free_address(), free_address()];
    let server = |n: usize| {
        let command = network.server(&format!("s{}", n + 1)).replace("--listen", &addresses[n]);
        if n == 0 { command.arg("--found") } else { command.join(&addresses[0]) }
    };
    (0..3).map(server).collect()
}

fn join_all(command: NodeCommand, servers: &[NodeCommand]) -> NodeCommand {
    servers.iter().fold(command, |command, server| command.join(&server.listen())).arg("--relay-only")
}

fn linked_servers(status: &Value) -> usize {
    status["servers"].as_array().unwrap().iter().filter(|row| row["linked"] == true).count()
}

fn is_peer_known(status: &Value, id: &str) -> bool {
    status["peers"].as_array().unwrap().iter().any(|row| row["id"] == *id)
}

#[test]
fn a_file_and_messages_go_on_while_servers_are_killed_and_restarted() {
    const LEN: usize = 32 * 1024 * 1024;
    let network = Network::new();
    let commands = commands(&network);
    let mut servers = commands.iter().map(|command| Some(command.start_ready().0)).collect::<Vec<_>>();
    for server in servers.iter_mut().flatten() {
        server.status_until("links to both others", |status| linked_servers(status) == 2);
    }

    let mut tokio = join_all(network.node("recv", "tokio").flag("--dir", network.path("files")), &commands).start();
    let id = tokio.event("ready")["id"].as_str().unwrap().to_owned();
    tokio.status_until("links to all servers", |status| linked_servers(status) == 3);
    let mut smol = join_all(network.peer("smol").program(Program::Smol), &commands).start();
    let smol_id = smol.event("ready")["id"].as_str().unwrap().to_owned();
    smol.status_until("links to all servers", |status| linked_servers(status) == 3);

    // a file crosses while its relay is killed
    let file = network.file("big", LEN);
    let sender = network.node("send", "sender").program(Program::Smol).arg(&file).flag("--to", &id);
    let mut sender = join_all(sender, &commands).start();
    let via = sender.event_of("path", &id)["via"].as_str().expect("a relay").to_owned();
    while fs::read_dir(network.path("files")).unwrap().all(|entry| entry.unwrap().metadata().unwrap().len() == 0) {
        thread::sleep(Duration::from_millis(1));
    }
    let relay = servers.iter_mut().position(|server| server.as_mut().unwrap().id() == via).expect("one of the three");
    servers[relay].take().unwrap().kill();
    let (lines, status, stderr) = sender.finish();
    assert!(status.success(), "{stderr}");
    let sent = lines.last().unwrap();
    println!("the relay {via} was killed: {sent}");
    let hash = |path| blake3::hash(&fs::read(path).unwrap()).to_hex().to_string();
    assert_eq!((&sent["bytes"], &sent["blake3"]), (&json!(LEN), &json!(hash(file))));
    assert_eq!(sent["blake3"], hash(network.path("files").join("big")));
    assert_ne!(sent["via"], *via, "the file ended on another way");
    assert!(sent["longest_stall_ms"].as_u64().unwrap() <= 1_000, "{sent}");

    // all servers are killed
    let killed = Instant::now();
    servers.into_iter().flatten().for_each(Running::kill);
    for peer in [&mut tokio, &mut smol] {
        peer.event("suspended");
    }
    let suspended = killed.elapsed();
    println!("suspended after {} ms", suspended.as_millis());
    assert!(suspended <= Duration::from_secs(31), "{suspended:?}");
    let outcome = smol.deliver(&id, "nobody is there");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("suspended")));

    // one comes back, and it is not the founder
    let mut second = commands[1].start_ready().0;
    let back = Instant::now();
    for peer in [&mut tokio, &mut smol] {
        peer.event("resumed");
    }
    let resumed = back.elapsed();
    println!("resumed after {} ms", resumed.as_millis());
    assert!(resumed <= Duration::from_secs(5), "{resumed:?}");
    smol.status_until("the other peer's return", |status| is_peer_known(status, &id));
    assert_eq!(smol.deliver(&id, "the next message")["event"], "delivered");
    let message = tokio.event("message");
    assert_eq!((&message["from"], &message["data"]), (&json!(smol_id), &json!("the next message")));

    // the founder with its first command line, `--found` in it, and the third: one cluster
    let (mut first, mut third) = (commands[0].start_ready().0, commands[2].start_ready().0);
    for server in [&mut first, &mut second, &mut third] {
        server.status_until("links to both others and its peers", |status| {
            linked_servers(status) == 2 && is_peer_known(status, &id) && is_peer_known(status, &smol_id)
        });
        assert!(server.take("error").is_empty(), "no foreign cluster");
    }
    for peer in [&mut tokio, &mut smol] {
        peer.status_until("links to all servers", |status| linked_servers(status) == 3);
    }
    assert_eq!(smol.deliver(&id, "as before")["event"], "delivered");
    assert_eq!(tokio.deliver(&smol_id, "as before")["event"], "delivered");
}
