//! The Master dies, is cut off, or loses its disk: real processes, and hosts of their own.

use std::time::Instant;

use serde_json::{Value, json};
use tests::{Host, Lan, Network, NodeCommand, Running, Servers};

/// Waits until so many members vote.
fn voters(node: &mut Running, count: usize) -> Value {
    node.status_until(&format!("{count} voters"), |status| {
        let members = status["members"].as_array().expect("a list");
        members.len() == count && members.iter().all(|member| member["voter"] == true)
    })
}

/// Waits until it shows an elected Master; its Id and token.
fn master(node: &mut Running) -> (String, String) {
    let shown = node.status_until("a Master", |status| status["master"]["kind"] == "elected");
    let text = |key: &str| shown["master"][key].as_str().expect("a text").to_owned();
    (text("id"), text("token"))
}

/// Waits for the event of another Master; when it came, and its token.
fn next_master(node: &mut Running, old: &str) -> (Instant, String) {
    let is_next = |line: &Value| line["event"] == "master" && line["kind"] == "elected" && line["id"] != *old;
    let (at, line) = node.wait_at("the next Master", is_next);
    (at, line["token"].as_str().expect("a token").to_owned())
}

fn is_lost(line: &Value) -> bool {
    line["event"] == "master" && line["id"].is_null()
}

#[test]
fn a_killed_master_is_replaced_two_killed_leave_none_and_one_back_makes_one() {
    let network = Network::new();
    let mut servers = Servers::start(&network);
    let mut peer = servers.join(network.peer("app")).start_ready().0;
    servers.running().for_each(|server| drop(voters(server, 3)));
    let (first, token) = master(&mut peer);
    let killed = Instant::now();
    servers.kill(&first);
    let mut second = String::new();
    for node in servers.running().chain([&mut peer]) {
        let (at, next) = next_master(node, &first);
        println!("the next Master was announced after {} ms", at.duration_since(killed).as_millis());
        assert!(next > token, "{next} after {token}");
        second = master(node).0;
    }
    let killed = Instant::now();
    servers.kill(&second);
    let reason = json!({"code": "no_quorum", "need": 2, "have": 1});
    for node in servers.running().chain([&mut peer]) {
        let (at, _) = node.wait_at("no Master and why", |line| is_lost(line) && line["reason"] == reason);
        println!("no Master, for want of a quorum: told after {} ms", at.duration_since(killed).as_millis());
        let shown = node.status()["master"].clone();
        assert_eq!(shown, json!({"id": null, "kind": null, "token": null, "reason": reason}));
    }
    peer.command(&json!({"command": "send_master", "ref": "m", "data": "anybody?"}));
    let failed = peer.wait("the outcome", |line| line["ref"] == "m");
    assert_eq!((&failed["event"], &failed["reason"]), (&json!("failed"), &json!("no_master")));
    let started = Instant::now();
    servers.restart_one();
    for node in servers.running().chain([&mut peer]) {
        let (id, next) = master(node);
        println!("{id} is Master {} ms after one server was started again", started.elapsed().as_millis());
        assert!(next > token);
    }
}

#[test]
fn a_wiped_disk_comes_back_as_the_youngest_member() {
    let network = Network::new();
    let mut servers = Servers::start(&network);
    servers.running().for_each(|server| drop(voters(server, 3)));
    let wiped = servers.wipe_founder();
    for server in servers.running() {
        let is_last = |status: &Value| {
            let members = status["members"].as_array().expect("a list");
            members.len() == 3 && members[2]["id"] == *wiped && members.iter().all(|member| member["voter"] == true)
        };
        server.status_until("the wiped server as the youngest", is_last);
        assert_ne!(master(server).0, wiped, "it was Master before, and is no longer");
    }
}

fn start(command: NodeCommand, host: &Host) -> (Running, String) {
    let (running, id, _) = command.on(host).start_ready();
    (running, id)
}

/// A server shows itself as Master as long as its guard is valid, and no longer.
#[test]
fn the_guard_of_a_minority_is_void_before_the_majority_elects() {
    let Some((lan, hosts)) = Lan::new::<4>() else { return };
    let [s1, s2, s3, app] = &hosts;
    let network = Network::new();
    let [introducer, _] = s1.listen();
    let mut first = start(network.server("s1").arg("--found"), s1);
    let join = |name: &str, host| start(network.server(name).join(&introducer), host);
    let mut others = [join("s2", s2), join("s3", s3)];
    let mut peer = start(network.peer("app").join(&introducer), app).0;
    for node in [&mut first.0].into_iter().chain(others.iter_mut().map(|(node, _)| node)) {
        voters(node, 3);
    }
    let (old, token) = master(&mut peer);
    assert_eq!(old, first.1, "the founder leads on");
    for (node, _) in &mut others {
        node.take("master");
    }
    first.0.take("master");
    let cut = Instant::now();
    lan.cut(&[s1], &[s2, s3]);
    let (void, _) = first.0.wait_at("the end of the guard", is_lost);
    for (node, _) in &mut others {
        let (elected, next) = next_master(node, &old);
        println!(
            "the minority's guard was void {} ms after the cut, the next Master shown after {} ms",
            void.duration_since(cut).as_millis(),
            elected.duration_since(cut).as_millis()
        );
        assert!(void < elected && next > token);
    }
    // the peer reaches all three, and believes the higher token
    next_master(&mut peer, &old);
    lan.heal();
    let (new, _) = master(&mut peer);
    first.0.status_until("the new Master", |status| status["master"]["id"] == *new);
}
