//! Every JSON line of the contract, from real programs.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
};

use serde_json::{Value, json};
use tests::{Network, Program, Running};

/// A server on one runtime and two peers, one on each, that know each other.
struct Cluster {
    network: Network,
    address: String,
    server: Running,
    a: Running,
    b: Running,
    a_id: String,
    b_id: String,
}

fn cluster() -> Cluster {
    let network = Network::new();
    let (server, address) = network.founder();
    let (mut a, a_id, _) = network.peer("a").join(&address).start_ready();
    let (mut b, b_id, _) = network.peer("b").program(Program::Smol).join(&address).start_ready();
    a.event_of("peer_up", &b_id);
    b.event_of("peer_up", &a_id);
    Cluster { network, address, server, a, b, a_id, b_id }
}

fn keys(value: &Value) -> Vec<&str> {
    let mut keys = value.as_object().expect("an object").keys().map(String::as_str).collect::<Vec<_>>();
    keys.sort_unstable();
    keys
}

#[test]
fn ready_is_the_first_line_and_comes_once() {
    let network = Network::new();
    for (program, name) in [(Program::Tokio, "one"), (Program::Smol, "two")] {
        let mut server = network.server(name).arg("--found").program(program).start();
        let ready = server.wait("the first line", |_| true);
        assert_eq!(keys(&ready), ["event", "id", "listen", "name", "role"]);
        assert_eq!(
            (&ready["event"], &ready["role"], &ready["name"]),
            (&json!("ready"), &json!("server"), &json!(name))
        );
        assert!(ready["listen"][0].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(ready["id"].as_str().unwrap().starts_with('S'));
        assert!(server.take("ready").is_empty());
    }
}

#[test]
fn the_identity_stays_with_the_state() {
    let network = Network::new();
    let command = network.server("s").arg("--found");
    let (first, id, _) = command.start_ready();
    assert!(first.quit().1.success());
    let (_second, again, _) = command.program(Program::Smol).start_ready();
    assert_eq!(id, again);
}

#[test]
fn quit_sigint_and_sigterm_end_a_node_with_status_0() {
    let network = Network::new();
    for program in Program::ALL {
        let command = network.server(program.name()).arg("--found").program(program);
        assert!(command.start_ready().0.quit().1.success());
        for signal in ["INT", "TERM"] {
            let (server, ..) = command.start_ready();
            server.signal(signal);
            let (_, status, stderr) = server.finish();
            assert!(status.success(), "{signal}: {status}: {stderr}");
        }
        assert!(!command.state().join("control.sock").exists());
    }
}

#[test]
fn the_end_of_standard_input_does_not_stop_the_node() {
    let mut c = cluster();
    c.a.close_stdin();
    assert_eq!(c.b.deliver(&c.a_id, "still there?")["event"], "delivered");
    c.a.event("message");
}

#[test]
fn a_bad_line_gives_an_error_with_its_ref_and_harms_nothing() {
    let network = Network::new();
    let (mut server, _) = network.founder();
    for (line, reference) in [
        ("hello", json!(null)),
        ("[]", json!(null)),
        (r#"{"command":"fly","ref":"r1"}"#, json!("r1")),
        (r#"{"command":"send","ref":"r2","to":["x"],"data":""}"#, json!("r2")),
        (r#"{"command":"send","ref":"r3","to":[],"data":""}"#, json!("r3")),
        (r#"{"command":"reply","ref":"r4","rid":77,"data":""}"#, json!("r4")),
        (r#"{"command":"request","ref":"r5","data":""}"#, json!("r5")),
    ] {
        server.raw(line);
        let error = server.event("error");
        assert_eq!(keys(&error), ["event", "reason", "ref"]);
        assert_eq!(error["ref"], reference, "{line}");
        assert!(error["reason"].as_str().is_some_and(|reason| !reason.is_empty()));
    }
    server.raw("");
    assert_eq!(server.status()["event"], "status");
    assert!(server.take("error").is_empty());
}

#[test]
fn server_up_and_server_down_name_the_server() {
    let network = Network::new();
    let (server, address) = network.founder();
    let mut peer = network.peer("a").join(&address).start();
    let up = peer.event("server_up");
    assert_eq!(keys(&up), ["event", "id", "name"]);
    assert_eq!(up["name"], "s1");
    assert!(server.quit().1.success());
    let down = peer.event("server_down");
    assert_eq!(keys(&down), ["event", "id", "name"]);
    assert_eq!(down["id"], up["id"]);
}

#[test]
fn peer_up_and_peer_down_name_the_peer() {
    let mut c = cluster();
    let (extra, id, _) = c.network.peer("extra").join(&c.address).start_ready();
    let up = c.a.event_of("peer_up", &id);
    assert_eq!(up, json!({"event": "peer_up", "id": id, "name": "extra"}));
    assert!(extra.quit().1.success());
    let down = c.a.event_of("peer_down", &id);
    assert_eq!(down, json!({"event": "peer_down", "id": id, "name": "extra"}));
}

#[test]
fn path_tells_kind_and_relay_at_each_change() {
    let c = &mut cluster();
    let path =
        c.a.wait("a direct path", |line| line["event"] == "path" && line["id"] == *c.b_id && line["kind"] == "direct");
    assert_eq!(path, json!({"event": "path", "id": c.b_id, "kind": "direct", "via": null}));
    let (mut hidden, id, _) = c.network.peer("hidden").join(&c.address).arg("--relay-only").start_ready();
    let server = hidden.event("server_up")["id"].clone();
    let path = c.a.event_of("path", &id);
    assert_eq!(path, json!({"event": "path", "id": id, "kind": "relayed", "via": server}));
}

#[test]
fn relay_only_stays_relayed_and_messages_still_arrive() {
    let c = &mut cluster();
    let (mut hidden, id, _) = c.network.peer("hidden").join(&c.address).arg("--relay-only").start_ready();
    hidden.event_of("peer_up", &c.a_id);
    c.a.event_of("peer_up", &id);
    for i in 0..20 {
        assert_eq!(c.a.deliver(&id, &i.to_string())["event"], "delivered");
    }
    // its own links to servers are direct
    let paths = hidden.take("path").into_iter().filter(|path| path["id"].as_str().unwrap().starts_with('C'));
    let kinds = paths.map(|path| path["kind"].clone()).collect::<Vec<_>>();
    assert!(!kinds.is_empty() && kinds.iter().all(|kind| kind == "relayed"), "{kinds:?}");
}

#[test]
fn a_message_is_delivered_with_its_sender_lane_and_data() {
    let mut c = cluster();
    c.a.command(
        &json!({"command": "send", "ref": "r", "to": [c.b_id], "data": "hé\n", "lane": 3, "ttl_ms": 30_000, "x": 1}),
    );
    assert_eq!(c.a.event("delivered"), json!({"event": "delivered", "ref": "r", "to": c.b_id}));
    let expected = json!({"event": "message", "from": c.a_id, "role": "peer", "name": "a", "lane": 3, "data": "hé\n"});
    assert_eq!(c.b.event("message"), expected);
}

#[test]
fn bytes_that_are_no_text_travel_as_base64() {
    let mut c = cluster();
    c.a.command(&json!({"command": "send", "to": [c.b_id], "data_base64": "/wD+"}));
    assert_eq!(c.a.event("delivered"), json!({"event": "delivered", "ref": null, "to": c.b_id}));
    let message = c.b.event("message");
    assert_eq!((&message["data_base64"], message.get("data")), (&json!("/wD+"), None));
    c.a.command(&json!({"command": "send", "to": [c.b_id], "data_base64": "aGk="}));
    assert_eq!(c.b.event("message")["data"], "hi");
}

#[test]
fn servers_send_and_receive_too() {
    let mut c = cluster();
    let server = c.server.status()["id"].as_str().unwrap().to_owned();
    assert_eq!(c.server.deliver(&c.a_id, "from above")["event"], "delivered");
    let message = c.a.event("message");
    assert_eq!((&message["role"], &message["from"]), (&json!("server"), &json!(server)));
    assert_eq!(c.a.deliver(&server, "to above")["event"], "delivered");
    assert_eq!(c.server.event("message")["data"], "to above");
}

#[test]
fn a_message_to_many_has_one_outcome_for_each() {
    let mut c = cluster();
    let server = c.server.status()["id"].as_str().unwrap().to_owned();
    let unknown = "C00000000-0000-8000-8000-000000000000";
    c.a.command(&json!({"command": "send", "ref": "many", "to": [c.b_id, server, unknown], "data": "x"}));
    let mut outcomes = (0..3).map(|_| c.a.wait("an outcome", |line| line["ref"] == "many")).collect::<Vec<_>>();
    outcomes.sort_by_key(|outcome| outcome["to"].as_str().unwrap().to_owned());
    let mut expected = vec![
        json!({"event": "failed", "ref": "many", "to": unknown, "reason": "unknown_id"}),
        json!({"event": "delivered", "ref": "many", "to": c.b_id}),
        json!({"event": "delivered", "ref": "many", "to": server}),
    ];
    expected.sort_by_key(|outcome| outcome["to"].as_str().unwrap().to_owned());
    assert_eq!(outcomes, expected);
}

#[test]
fn ten_thousand_messages_arrive_once_each_and_in_order() {
    const COUNT: usize = 10_000;
    let mut c = cluster();
    for i in 0..COUNT {
        c.a.command(&json!({"command": "send", "ref": i.to_string(), "to": [c.b_id], "data": i.to_string()}));
    }
    for i in 0..COUNT {
        assert_eq!(c.b.event("message")["data"], i.to_string());
    }
    for _ in 0..COUNT {
        c.a.event("delivered");
    }
    assert!(c.b.take("message").is_empty());
}

#[test]
fn a_request_is_answered_by_its_rid() {
    let mut c = cluster();
    c.a.command(&json!({"command": "request", "ref": "q", "to": c.b_id, "data_base64": "/wA="}));
    let request = c.b.event("request");
    assert_eq!((&request["data_base64"], request.get("data")), (&json!("/wA="), None));
    c.b.command(&json!({"command": "reply", "rid": request["rid"], "data": "text"}));
    assert_eq!(c.a.event("reply"), json!({"event": "reply", "ref": "q", "from": c.b_id, "data": "text"}));
    c.a.command(&json!({"command": "request", "ref": "q", "to": c.b_id, "data": "what?"}));
    let request = c.b.event("request");
    assert_eq!(keys(&request), ["data", "event", "from", "name", "rid", "role"]);
    assert_eq!(
        (&request["from"], &request["role"], &request["data"]),
        (&json!(c.a_id), &json!("peer"), &json!("what?"))
    );
    c.b.command(&json!({"command": "reply", "rid": request["rid"], "data_base64": "/w=="}));
    assert_eq!(c.a.event("reply"), json!({"event": "reply", "ref": "q", "from": c.b_id, "data_base64": "/w=="}));
    c.b.command(&json!({"command": "reply", "ref": "again", "rid": request["rid"], "data": "x"}));
    assert_eq!(c.b.event("error")["ref"], "again", "a request is answered once");
}

#[test]
fn a_request_without_an_answer_fails_with_timeout() {
    let mut c = cluster();
    c.a.command(&json!({"command": "request", "ref": "q", "to": c.b_id, "data": "what?", "timeout_ms": 300}));
    assert_eq!(c.a.event("failed"), json!({"event": "failed", "ref": "q", "to": c.b_id, "reason": "timeout"}));
}

#[test]
fn a_message_to_a_peer_that_went_fails_with_offline() {
    let mut c = cluster();
    let Cluster { b, .. } = c;
    assert!(b.quit().1.success());
    c.a.event_of("peer_down", &c.b_id);
    let outcome = c.a.deliver(&c.b_id, "too late");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("offline")));
}

#[test]
fn a_message_that_cannot_be_delivered_in_time_expires() {
    let mut c = cluster();
    let Cluster { b, .. } = c;
    // it vanishes without a goodbye, so its servers believe in it for a while
    b.kill();
    c.a.command(&json!({"command": "send", "ref": "r", "to": [c.b_id], "data": "x", "ttl_ms": 300}));
    assert_eq!(c.a.event("expired"), json!({"event": "expired", "ref": "r", "to": c.b_id}));
}

#[test]
fn all_servers_gone_is_suspended_and_one_back_is_resumed() {
    let network = Network::new();
    let (server, address) = network.founder();
    let (mut a, ..) = network.peer("a").join(&address).start_ready();
    let (mut b, b_id, _) = network.peer("b").join(&address).start_ready();
    a.event_of("peer_up", &b_id);
    server.kill();
    assert_eq!(a.event("suspended"), json!({"event": "suspended"}));
    b.event("suspended");
    assert_eq!(a.status()["suspended"], true);
    let outcome = a.deliver(&b_id, "nobody is there");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("suspended")));
    let _server = network.server("s1").arg("--found").replace("--listen", &address).start_ready();
    assert_eq!(a.event("resumed"), json!({"event": "resumed"}));
    b.event("resumed");
    a.status_until("the other peer's return", |status| {
        status["peers"].as_array().unwrap().iter().any(|peer| peer["id"] == *b_id)
    });
    assert_eq!(a.deliver(&b_id, "again")["event"], "delivered");
}

#[test]
fn one_key_in_two_processes_is_told_to_both() {
    let network = Network::new();
    let (_server, address) = network.founder();
    let (mut first, id, _) = network.peer("a").join(&address).start_ready();
    first.event("server_up");
    let (_other, other, _) = network.peer("c").join(&address).start_ready();
    first.event_of("peer_up", &other);
    let key = network.state("a").join("identity.key");
    let mut second = network.peer("b").join(&address).flag("--key", key).start();
    for node in [&mut first, &mut second] {
        let event = node.event("duplicate_identity");
        assert_eq!(keys(&event), ["addresses", "event", "id"]);
        assert_eq!(event["id"], *id);
        assert_eq!(event["addresses"].as_array().unwrap().len(), 2, "of both");
    }
    let outcome = second.deliver(&other, "nobody takes this");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("duplicate_identity")));
    assert_eq!(first.deliver(&other, "from the one that is linked")["event"], "delivered");
}

#[test]
fn the_status_of_a_peer_has_the_shape_of_the_contract() {
    let mut c = cluster();
    let server = c.server.status()["id"].clone();
    let status = c.a.status_until("a link to the other peer", |status| status["peers"][0]["linked"] == true);
    assert_eq!(
        keys(&status),
        [
            "counters",
            "event",
            "id",
            "listen",
            "master",
            "members",
            "name",
            "on_demand",
            "peers",
            "ref",
            "role",
            "servers",
            "suspended"
        ]
    );
    assert_eq!((&status["id"], &status["role"], &status["name"]), (&json!(c.a_id), &json!("peer"), &json!("a")));
    assert_eq!((&status["suspended"], &status["master"]["id"]), (&json!(false), &server));
    assert_eq!(status["members"], json!([{"id": server, "voter": true}]));
    assert!(status["counters"].as_object().unwrap().values().all(Value::is_u64));
    let row = &status["servers"][0];
    assert_eq!(keys(row), ["addresses", "id", "linked", "name", "rtt_ms"]);
    assert_eq!((&row["id"], &row["linked"], &row["name"]), (&server, &json!(true), &json!("s1")));
    assert!(row["rtt_ms"].is_u64());
    assert_eq!(row["addresses"][0], *c.address);
    let row = &status["peers"][0];
    assert_eq!(keys(row), ["id", "kind", "linked", "listen", "name", "private", "public", "rtt_ms", "via"]);
    assert_eq!((&row["id"], &row["name"]), (&json!(c.b_id), &json!("b")));
    assert!(["direct", "relayed"].contains(&row["kind"].as_str().unwrap()));
}

#[test]
fn the_status_of_a_server_has_its_clients_and_their_links() {
    let mut c = cluster();
    let status = c.server.status_until("the report of a link between the peers", |status| {
        let links = status["links"].as_array().unwrap();
        links.iter().any(|link| link["from"] == *c.a_id && link["to"] == *c.b_id)
    });
    assert_eq!(
        keys(&status),
        [
            "clients",
            "counters",
            "event",
            "id",
            "links",
            "listen",
            "master",
            "members",
            "name",
            "on_demand",
            "peers",
            "ref",
            "role",
            "servers",
            "suspended"
        ]
    );
    assert_eq!((&status["role"], &status["name"]), (&json!("server"), &json!("s1")));
    assert_eq!(status["listen"], json!([c.address]));
    let row = &status["clients"][0];
    assert_eq!(keys(row), ["id", "listen", "name", "private", "public"]);
    let clients = status["clients"].as_array().unwrap();
    for id in [&c.a_id, &c.b_id] {
        let row = clients.iter().find(|row| row["id"] == **id).unwrap();
        assert!(row["public"][0].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(!row["listen"].as_array().unwrap().is_empty());
    }
    for link in status["links"].as_array().unwrap() {
        assert_eq!(keys(link), ["from", "kind", "to"]);
    }
}

#[test]
fn the_control_socket_speaks_the_same_lines() {
    let mut c = cluster();
    let path = c.network.state("a").join("control.sock");
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let mut stream = UnixStream::connect(path).unwrap();
    let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
    let mut next = |event: &str| -> Value {
        let mut lines = lines.by_ref().map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap());
        lines.find(|line| line["event"] == *event).unwrap()
    };
    writeln!(stream, r#"{{"command":"status","ref":"mine"}}"#).unwrap();
    let status = next("status");
    assert_eq!((&status["ref"], &status["id"]), (&json!("mine"), &json!(c.a_id)));
    writeln!(stream, "bad").unwrap();
    assert_eq!(next("error")["ref"], json!(null));
    writeln!(stream, "{}", json!({"command": "send", "ref": "s", "to": [c.b_id], "data": "x"})).unwrap();
    assert_eq!(next("delivered")["ref"], "s");
    c.b.event("message");
    assert_eq!(c.b.deliver(&c.a_id, "to all who listen")["event"], "delivered");
    assert_eq!(next("message")["data"], "to all who listen");
    assert!(c.a.take("delivered").is_empty(), "answers go to the one who asked");
    writeln!(stream, r#"{{"command":"quit"}}"#).unwrap();
    let Cluster { a, .. } = c;
    assert!(a.finish().1.success());
}

#[test]
fn status_asks_a_running_node() {
    let network = Network::new();
    let (mut server, _) = network.founder();
    let id = server.status()["id"].as_str().unwrap().to_owned();
    for program in Program::ALL {
        let state = network.state("s1");
        let args = ["status".as_ref(), "--state".as_ref(), state.as_os_str()];
        let output = program.command(args).output().unwrap();
        assert!(output.status.success());
        assert!(String::from_utf8(output.stdout).unwrap().contains(&id));
        let output = program.command(args).arg("--json").output().unwrap();
        let status: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!((&status["event"], &status["id"]), (&json!("status"), &json!(id)));
    }
}
