//! The Master: who it is, sending to it, and the members of the cluster, by real programs.

use std::{fs, process::Output, time::Duration};

use serde_json::{Value, json};
use tests::{Control, Network, Program, Running, Servers, free_address, linked_servers, one_line, voters};

fn keys(value: &Value) -> Vec<&str> {
    let mut keys = value.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>();
    keys.sort_unstable();
    keys
}

fn text(value: &Value) -> &str {
    value.as_str().expect("text")
}

/// Waits for news of a Master that the others have not seen as one of these.
fn next_master(node: &mut Running, not: &[&str]) -> Value {
    node.wait("another Master", |line| {
        line["event"] == "master" && line["id"].as_str().is_some_and(|id| !not.contains(&id))
    })
}

fn send_master(node: &mut Running, keys: Value) -> Value {
    let mut command = json!({"command": "send_master", "ref": "to the Master", "data": "x"});
    command.as_object_mut().unwrap().extend(keys.as_object().unwrap().clone());
    node.command(&command);
    node.wait("an outcome", |line| line["ref"] == "to the Master")
}

/// `members` with these arguments, at the node of this name.
fn members(network: &Network, program: Program, name: &str, args: &[&str]) -> Output {
    let state = network.state(name);
    program.command(["members".as_ref(), "--state".as_ref(), state.as_os_str()]).args(args).output().unwrap()
}

fn members_json(network: &Network, name: &str, args: &[&str]) -> Value {
    let args = [&["--json"], args].concat();
    let output = members(network, Program::Tokio, name, &args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    let stdout = String::from_utf8(output.stdout).unwrap();
    let [line] = stdout.lines().collect::<Vec<_>>()[..] else { panic!("not one line: {stdout}") };
    serde_json::from_str(line).unwrap()
}

fn members_refused(network: &Network, name: &str, args: &[&str]) -> String {
    let output = members(network, Program::Tokio, name, args);
    assert_eq!(output.status.code(), Some(1), "{args:?}");
    assert!(output.stdout.is_empty());
    one_line(&String::from_utf8_lossy(&output.stderr))
}

fn assert_ended_well(name: &str, running: Running) -> Vec<Value> {
    let (lines, status, stderr) = running.finish();
    assert!(status.success() && stderr.is_empty(), "{name}: {status}: {stderr}");
    lines
}

#[test]
fn a_founder_is_master_and_a_peer_hears_of_it() {
    let network = Network::new();
    for program in Program::ALL {
        let (mut server, id, address) = network.server(program.name()).arg("--found").program(program).start_ready();
        let (mut peer, ..) =
            network.peer(&format!("p-{}", program.name())).program(program).join(&address).start_ready();
        let said = [server.event("master"), peer.event("master")];
        assert_eq!(said[0], said[1]);
        let [master, _] = said;
        assert_eq!(keys(&master), ["event", "id", "kind", "reason", "token"]);
        let expected = (&json!(id), &json!("elected"), &json!(null));
        assert_eq!((&master["id"], &master["kind"], &master["reason"]), expected);
        let token = text(&master["token"]);
        assert!(token.bytes().all(|digit| digit.is_ascii_digit() || (b'a'..=b'f').contains(&digit)), "{token}");
        for node in [&mut server, &mut peer] {
            let status = node.status_until("the members", |status| status["members"] != json!([]));
            let mut shown = status["master"].clone();
            shown["event"] = json!("master");
            assert_eq!(shown, master, "the same in the status");
            assert_eq!(status["members"], json!([{"id": id, "voter": true}]));
        }
        assert!(server.take("master").is_empty() && peer.take("master").is_empty(), "told once");
    }
}

#[test]
fn status_master_is_null_until_one_is_known() {
    let network = Network::new();
    let mut lonely = network.server("s").flag("--expect", "2").start();
    lonely.event("ready");
    let status = lonely.status();
    assert_eq!((&status["master"], &status["members"]), (&json!(null), &json!([])));
    assert!(lonely.take("master").is_empty());
    let outcome = send_master(&mut lonely, json!({}));
    assert_eq!(outcome, json!({"event": "failed", "ref": "to the Master", "to": null, "reason": "no_master"}));
    let answer = members_json(&network, "s", &[]);
    assert_eq!((&answer["master"], &answer["members"]), (&json!(null), &json!([])));
}

#[test]
fn masters_die_until_there_is_no_quorum_and_each_change_is_told() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let first = servers.wait_for_voters(3);
    let (mut peer, ..) = servers.join(network.peer("p").program(Program::Smol)).start_ready();
    let told = next_master(&mut peer, &[]);
    assert_eq!(told["id"], *first);
    peer.status_until("links to all servers", |status| linked_servers(status) == 3);

    servers.kill(&first);
    let next = next_master(&mut peer, &[&first]);
    let second = text(&next["id"]).to_owned();
    assert!(text(&next["token"]) > text(&told["token"]), "the order of the texts is the order of the tokens");
    assert_eq!(text(&next["token"]).len(), text(&told["token"]).len());
    for server in servers.running() {
        assert_eq!(next_master(server, &[&first])["id"], *second);
    }

    let index = servers.index_of(&second);
    servers.kill(&second);
    let is_none = |line: &Value| line["event"] == "master" && !line["reason"].is_null();
    let none = peer.wait("no Master, and why", is_none);
    let reason = json!({"code": "no_quorum", "need": 2, "have": 1});
    assert_eq!(none, json!({"event": "master", "id": null, "kind": null, "token": null, "reason": reason}));
    let last = servers.running().next().unwrap();
    last.wait("no Master, and why", is_none);
    for node in [last, &mut peer] {
        let outcome = send_master(node, json!({}));
        assert_eq!(outcome, json!({"event": "failed", "ref": "to the Master", "to": null, "reason": "no_master"}));
        assert_eq!(node.status()["master"]["reason"], reason);
    }

    servers.restart(index);
    let third = next_master(&mut peer, &[]);
    assert!(text(&third["token"]) > text(&next["token"]));
    peer.status_until("a Master", |status| status["master"]["id"] == third["id"]);
    assert_eq!(send_master(&mut peer, json!({}))["event"], "delivered");
}

#[test]
fn a_message_to_the_master_is_delivered_from_peers_servers_and_itself() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let id = servers.wait_for_voters(3);
    let (mut peer, peer_id, _) = servers.join(network.peer("p").program(Program::Smol)).start_ready();
    next_master(&mut peer, &[]);
    let master = servers.index_of(&id);
    let delivered = json!({"event": "delivered", "ref": "to the Master", "to": id});

    let outcome = send_master(&mut peer, json!({"data": "hé", "lane": 3, "ttl_ms": 30_000, "x": 1}));
    assert_eq!(outcome, delivered);
    let message = servers.get(master).event("message");
    let expected = json!({"event": "message", "from": peer_id, "role": "peer", "name": "p", "lane": 3, "data": "hé"});
    assert_eq!(message, expected, "as any other message");

    for index in 0..3 {
        let server = servers.get(index);
        let from = server.id();
        assert_eq!(send_master(server, json!({})), delivered);
        let message = servers.get(master).event("message");
        assert_eq!((&message["from"], &message["lane"]), (&json!(from), &json!(0)));
    }

    peer.command(&json!({"command": "send_master", "ref": "b", "data_base64": "/wD+"}));
    assert_eq!(peer.event("delivered")["ref"], "b");
    assert_eq!(servers.get(master).event("message")["data_base64"], "/wD+");
    for bad in [json!({}), json!({"data": "x", "data_base64": ""}), json!({"data": "x", "lane": 99})] {
        let mut command = json!({"command": "send_master", "ref": "bad"});
        command.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        peer.command(&command);
        assert_eq!(peer.event("error")["ref"], "bad");
    }
}

#[test]
fn a_master_that_stands_still_takes_nothing_in_time() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let id = server.id();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    next_master(&mut peer, &[]);
    server.stop();
    let outcome = send_master(&mut peer, json!({"ttl_ms": 300}));
    assert_eq!(outcome, json!({"event": "expired", "ref": "to the Master", "to": id}));
    server.signal("CONT");
}

#[test]
fn a_full_queue_to_the_master_fails_with_its_reason() {
    const SIZE: usize = 8 * 1024 * 1024;
    let network = Network::new();
    let (mut server, address) = network.founder();
    let id = server.id();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    next_master(&mut peer, &[]);
    server.stop();
    let data = "x".repeat(SIZE);
    let mut sent = 0;
    let full = loop {
        sent += 1;
        peer.command(&json!({"command": "send_master", "ref": sent.to_string(), "data": data}));
        peer.status();
        if let Some(failed) = peer.take("failed").into_iter().next() {
            break failed;
        }
        assert!(sent < 64, "no queue is that long");
    };
    let expected = json!({"event": "failed", "ref": sent.to_string(), "to": id, "reason": "full"});
    assert_eq!(full, expected);
    server.signal("CONT");
    for reference in 1..sent {
        peer.wait("its one outcome", |line| line["ref"] == reference.to_string());
    }
    peer.status_until("the Master again", |status| status["master"]["id"] == *id);
    assert_eq!(send_master(&mut peer, json!({}))["event"], "delivered");
}

#[test]
fn what_is_on_its_way_fails_when_the_master_changes() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let old = servers.wait_for_voters(3);
    let (mut peer, ..) = servers.join(network.peer("p")).start_ready();
    next_master(&mut peer, &[]);
    peer.status_until("links to all servers", |status| linked_servers(status) == 3);
    let index = servers.index_of(&old);
    servers.get(index).stop();
    let outcome = send_master(&mut peer, json!({}));
    let reason = "master_changed";
    assert_eq!(outcome, json!({"event": "failed", "ref": "to the Master", "to": old, "reason": reason}));
    // whoever stood still finds out, and does not act on what it held
    servers.get(index).signal("CONT");
    assert_ne!(next_master(servers.get(index), &[&old])["id"], *old);
}

#[test]
fn members_are_listed_by_every_node_and_both_programs() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let master = servers.wait_for_voters(3);
    let (mut peer, ..) = servers.join(network.peer("p")).start_ready();
    peer.status_until("the members", |status| voters(status) == 3);
    let listed = members_json(&network, "s1", &[]);
    assert_eq!(keys(&listed), ["event", "id", "master", "members", "ref"]);
    assert_eq!((&listed["event"], &listed["ref"]), (&json!("members"), &json!(null)));
    assert_eq!(listed["master"]["id"], *master);
    assert!(listed["members"].as_array().unwrap().iter().all(|row| keys(row) == ["id", "voter"]));
    assert_eq!(listed["members"].as_array().unwrap().len(), 3);
    for name in ["s2", "s3", "p"] {
        let other = members_json(&network, name, &["list"]);
        assert_eq!((&other["members"], &other["master"]), (&listed["members"], &listed["master"]), "{name}");
    }
    for program in Program::ALL {
        let output = members(&network, program, "s1", &[]);
        let stdout = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && stdout.matches("voter").count() == 3, "{stdout}");
        assert_eq!(stdout.matches("Master").count(), 2, "one of them, and its token: {stdout}");
        let status = program.command(["status".as_ref(), "--state".as_ref(), network.state("p").as_os_str()]).output();
        let stdout = String::from_utf8(status.unwrap().stdout).unwrap();
        assert!(stdout.contains(&format!("{master}  voter    Master")), "{stdout}");
    }
    let mut control = Control::connect(&network.state("s2"));
    control.command(&json!({"command": "members", "ref": "m"}));
    let answer = control.event("members");
    assert_eq!((&answer["ref"], &answer["members"]), (&json!("m"), &listed["members"]));
}

#[test]
fn the_office_is_handed_over_and_members_go() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let first = servers.wait_for_voters(3);
    let (mut peer, ..) = servers.join(network.peer("p")).start_ready();
    let before = next_master(&mut peer, &[]);

    // to a server that is not Master, by way of the third
    let heir = (0..3).find(|index| servers.get(*index).id() != first).unwrap();
    let (heir, name) = (servers.get(heir).id(), format!("s{}", heir + 1));
    let done = members_json(&network, "s3", &["transfer", &heir]);
    assert_eq!((&done["event"], &done["master"]["id"]), (&json!("members"), &json!(heir)));
    let after = next_master(&mut peer, &[&first]);
    assert_eq!(after["id"], *heir);
    assert!(text(&after["token"]) > text(&before["token"]));
    let output = members(&network, Program::Smol, &name, &["transfer", &heir]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("{heir} is Master\n"), "it is already");

    // the Master removes another one, which ends
    let victim = (0..3).find(|index| servers.get(*index).id() != heir).unwrap();
    let victim_id = servers.get(victim).id();
    let done = members_json(&network, &name, &["remove", &victim_id]);
    assert!(!done["members"].as_array().unwrap().iter().any(|row| row["id"] == *victim_id), "{done}");
    let lines = assert_ended_well("the removed one", servers.take(victim));
    assert!(lines.contains(&json!({"event": "left"})), "{lines:?}");
    let again = members_refused(&network, &name, &["remove", &victim_id]);
    assert!(again.contains("no member"), "{again}");

    // the Master itself leaves
    let output = members(&network, Program::Tokio, &name, &["leave"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "this server has left the cluster\n");
    let heir_index = name[1..].parse::<usize>().unwrap() - 1;
    let lines = assert_ended_well("the one that left", servers.take(heir_index));
    assert!(lines.contains(&json!({"event": "left"})), "{lines:?}");
    assert_ne!(next_master(&mut peer, &[&heir])["id"], *heir);

    // the last one stays, and who left comes back as the youngest member
    let last = servers.running().next().unwrap();
    let last_id = last.id();
    last.status_until("one member", |status| status["members"] == json!([{"id": last_id, "voter": true}]));
    let last_name = text(&last.status()["name"]).to_owned();
    let refused = members_refused(&network, &last_name, &["leave"]);
    assert!(refused.contains("the only member"), "{refused}");
    servers.restart(heir_index);
    let back =
        servers.get(heir_index).status_until("two members", |status| status["members"].as_array().unwrap().len() == 2);
    assert_eq!(back["members"], json!([{"id": last_id, "voter": true}, {"id": heir, "voter": false}]));
}

#[test]
fn a_dead_server_does_not_become_master() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let id = servers.wait_for_voters(3);
    let victim = (servers.index_of(&id) + 1) % 3;
    let victim_id = servers.get(victim).id();
    servers.take(victim).kill();
    let name = text(&servers.running().next().unwrap().status()["name"]).to_owned();
    let line = members_refused(&network, &name, &["transfer", &victim_id]);
    assert!(line.contains("has not become Master"), "{line}");
    // and can be taken out by any of the others
    let done = members_json(&network, &name, &["remove", &victim_id]);
    assert_eq!(done["members"].as_array().unwrap().len(), 2);
}

#[test]
fn an_order_about_the_members_is_accepted_or_refused_with_the_reason() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let (mut peer, ..) = network.peer("p").join(&address).start_ready();
    next_master(&mut peer, &[]);
    let (id, nobody) = (server.id(), "S00000000-0000-8000-8000-000000000000");
    let ask = |node: &mut Running, command: &str, id: &str| {
        node.command(&json!({"command": command, "ref": "m", "id": id}));
        node.wait("an answer", |line| line["ref"] == "m")
    };
    for (command, of, reason) in [
        ("members_leave", "", "only member"),
        ("members_remove", &*id, "only member"),
        ("members_remove", nobody, "no member"),
        ("members_transfer", nobody, "no member"),
        ("members_remove", "x", "needs `id`"),
    ] {
        let answer = ask(&mut server, command, of);
        assert_eq!((keys(&answer), &answer["event"]), (vec!["event", "reason", "ref"], &json!("error")));
        assert!(text(&answer["reason"]).contains(reason), "{answer}");
    }
    assert_eq!(ask(&mut server, "members_transfer", &id), json!({"event": "accepted", "ref": "m"}));
    for command in ["members_leave", "members_force_new_cluster"] {
        let answer = ask(&mut peer, command, "");
        assert!(text(&answer["reason"]).contains("only servers"), "{answer}");
    }
    let refused = members_refused(&network, "p", &["leave"]);
    assert!(refused.contains("only servers"), "{refused}");
    let refused = members_refused(&network, "nobody", &["list"]);
    assert!(refused.starts_with("no node is running on"), "{refused}");
}

#[test]
fn a_cluster_that_lost_its_voters_is_forced_on_a_clear_word_only() {
    let network = Network::new();
    let mut servers = Servers::start_members(&network);
    let first = servers.wait_for_voters(3);
    let (mut peer, ..) = servers.join(network.peer("p")).start_ready();
    let before = next_master(&mut peer, &[]);
    let lost = [0, 1];
    for index in lost {
        servers.take(index).kill();
    }
    let is_none = |line: &Value| line["event"] == "master" && !line["reason"].is_null();
    servers.get(2).wait("no quorum", is_none);

    let refused = members_refused(&network, "s3", &["force-new-cluster"]);
    assert!(refused.contains("--yes") && refused.contains("lost"), "{refused}");
    assert!(servers.get(2).status()["master"]["id"].is_null());
    let id = servers.get(2).id();
    let forced = members_json(&network, "s3", &["force-new-cluster", "--yes"]);
    assert_eq!(forced["members"], json!([{"id": id, "voter": true}]));
    assert_eq!((&forced["master"]["id"], &forced["master"]["kind"]), (&json!(id), &json!("elected")));
    let is_forced = |line: &Value| line["event"] == "master" && line["token"] == forced["master"]["token"];
    let after = peer.wait("the Master of the new cluster", is_forced);
    assert!(text(&after["token"]) > text(&before["token"]), "{first} is fenced off for good");

    for index in lost {
        servers.restart(index);
    }
    assert_eq!(servers.wait_for_voters(3), id);
    assert_eq!(members_json(&network, "s1", &[])["members"][0]["id"], *id, "the others joined it");
}

#[test]
fn three_servers_that_expect_each_other_are_one_cluster_without_a_founder() {
    let network = Network::new();
    let addresses = [free_address(), free_address(), free_address()];
    let command = |n: usize| {
        let command = network.server(&format!("s{n}")).replace("--listen", &addresses[n]).flag("--expect", "3");
        let program = if n == 1 { Program::Smol } else { Program::Tokio };
        addresses.iter().filter(|address| **address != addresses[n]).fold(command.program(program), |c, a| c.join(a))
    };
    let commands = [0, 1, 2].map(command);
    let mut tokens = Vec::new();
    for _ in 0..2 {
        let mut running = commands.each_ref().map(tests::NodeCommand::start);
        let is_one = |status: &Value| voters(status) == 3 && status["master"]["kind"] == "elected";
        let seen = running.each_mut().map(|server| server.status_until("three voters", is_one));
        assert!(seen.iter().all(|status| status["members"] == seen[0]["members"]), "{seen:?}");
        tokens.push(text(&seen[0]["master"]["token"]).to_owned());
        for server in &mut running {
            assert!(server.take("error").is_empty(), "no foreign cluster");
        }
        running.into_iter().for_each(Running::kill);
    }
    assert!(tokens[0] < tokens[1], "the second time it was the same cluster: {tokens:?}");
}

#[test]
fn one_expected_server_founds_and_humans_are_told() {
    let network = Network::new();
    let command = network.server("s").flag("--expect", "1").without_json();
    for _ in 0..2 {
        let server = command.start_text();
        let ready = server.line();
        let line = server.line();
        let (id, said) = line.split_once(' ').unwrap();
        assert!(ready.contains(id) && said == "is Master", "{ready}\n{line}");
        let output =
            Program::Tokio.command(["status".as_ref(), "--state".as_ref(), command.state().as_os_str()]).output();
        let stdout = String::from_utf8(output.unwrap().stdout).unwrap();
        assert!(stdout.contains(&format!("{id}  voter    Master, this server")), "{stdout}");
        server.signal("TERM");
        let (_, status, stderr) = server.finish();
        assert!(status.success() && stderr.is_empty(), "{stderr}");
    }
    let zero = network.server("z").flag("--expect", "0").command().output().unwrap();
    assert_eq!(zero.status.code(), Some(2));
}

#[test]
fn a_torn_state_is_one_line_with_the_way_out_and_without_it_a_server_is_a_new_member() {
    let network = Network::new();
    let (mut first, address) = network.founder();
    let command = network.server("s2").join(&address);
    let (mut second, id, _) = command.start_ready();
    let is_member = |status: &Value| status["members"].as_array().unwrap().len() == 2;
    second.status_until("two members", is_member);
    second.kill();
    let path = network.state("s2").join("core.state");
    let whole = fs::read(&path).unwrap();
    for torn in [&whole[..whole.len() / 2], &whole[..40], &[]] {
        fs::write(&path, torn).unwrap();
        let line = command.refused();
        assert!(line.contains("core.state") && line.contains("restore it"), "{line}");
        assert!(line.contains("remove it to come back as a new member"), "{line}");
        assert_eq!(fs::read(&path).unwrap(), torn, "left alone");
    }
    fs::remove_file(&path).unwrap();
    let mut second = command.start();
    let status = second.status_until("two members", is_member);
    assert_eq!(status["members"][1]["id"], *id);
    first.status_until("two members", is_member);
    assert!(first.line_within(Duration::ZERO).is_none_or(|line| line["event"] != "error"));
}
