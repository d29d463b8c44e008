//! Three servers and two peers on hosts of their own, and drop rules between them.

use std::{
    thread,
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tests::{Host, Lan, Network, NodeCommand, Program, Running};

/// The bounds of the contracts.
const DEAD_PATH_LEFT: Duration = Duration::from_secs(1);
const IDLE_LINK_LOST: Duration = Duration::from_secs(30);
const SUSPENDED: Duration = Duration::from_secs(1);
const RESUMED: Duration = Duration::from_secs(5);

/// A node and where it runs.
struct Node {
    running: Running,
    id: String,
    host: Host,
}

impl Node {
    fn start(command: NodeCommand, host: &Host) -> Self {
        let (running, id, _) = command.on(host).start_ready();
        Self { running, id, host: host.clone() }
    }

    /// Waits for links to so many servers.
    fn linked(&mut self, count: usize) {
        self.running.status_until(&format!("links to {count} servers"), |status| linked(status, "servers") == count);
    }

    /// Waits for this kind of path to the other.
    fn path(&mut self, kind: &str, to: &Self) {
        let is_it = |status: &Value| row(status, "peers", &to.id).is_some_and(|row| row["kind"] == *kind);
        self.running.status_until(&format!("the {kind} path"), is_it);
    }

    /// Sends a message, which has to arrive.
    fn send(&mut self, to: &mut Self, data: &str) {
        let outcome = self.running.deliver(&to.id, data);
        assert_eq!(outcome["event"], "delivered", "{data}: {outcome}");
        // in order and never twice: the next one that arrives is this one
        let message = to.running.event("message");
        assert_eq!((&message["from"], &message["data"]), (&json!(self.id), &json!(data)));
    }
}

fn row<'a>(status: &'a Value, table: &str, id: &str) -> Option<&'a Value> {
    status[table].as_array().expect("a table").iter().find(|row| row["id"] == *id)
}

fn linked(status: &Value, table: &str) -> usize {
    status[table].as_array().expect("a table").iter().filter(|row| row["linked"] == true).count()
}

/// All of them; what runs goes before the hosts.
struct Site {
    servers: Vec<Node>,
    a: Node,
    b: Node,
    lan: Lan,
    _network: Network,
}

impl Site {
    /// Starts them, and does `before_peers` before the peers; `None` if there are no hosts to be had.
    fn start_with(before_peers: impl Fn(&Lan, &Host, &Host)) -> Option<Self> {
        let (lan, [s1, s2, s3, a, b]) = Lan::new()?;
        let network = Network::new();
        let [introducer, _] = s1.listen();
        let mut servers = vec![Node::start(network.server("s1").arg("--found"), &s1)];
        for (name, host) in [("s2", &s2), ("s3", &s3)] {
            servers.push(Node::start(network.server(name).join(&introducer), host));
        }
        servers.iter_mut().for_each(|server| server.linked(2));
        before_peers(&lan, &a, &b);
        let mut a = Node::start(network.peer("a").join(&introducer), &a);
        let mut b = Node::start(network.peer("b").program(Program::Smol).join(&introducer), &b);
        a.linked(3);
        b.linked(3);
        // whoever came later is unknown to the other until a server has told
        a.running.event_of("peer_up", &b.id);
        b.running.event_of("peer_up", &a.id);
        Some(Self { servers, a, b, lan, _network: network })
    }

    /// The same, with a direct path between the peers at the end.
    fn start() -> Option<Self> {
        let mut site = Self::start_with(|_, _, _| ())?;
        site.talk("at the start");
        site.path("direct");
        Some(site)
    }

    /// A message each way.
    fn talk(&mut self, data: &str) {
        self.a.send(&mut self.b, data);
        self.b.send(&mut self.a, data);
    }

    /// Waits for this kind of path at both peers.
    fn path(&mut self, kind: &str) {
        self.a.path(kind, &self.b);
        self.b.path(kind, &self.a);
    }

    /// The kinds of path that there were between the peers since the last call.
    fn paths(&mut self) -> Vec<Value> {
        let (a, b) = (self.a.id.clone(), self.b.id.clone());
        let paths = [(&mut self.a, b), (&mut self.b, a)].map(|(peer, other)| {
            let lines = peer.running.take("path").into_iter();
            lines.filter(|line| line["id"] == *other).map(|line| line["kind"].clone()).collect::<Vec<_>>()
        });
        paths.concat()
    }

    fn hosts_of_servers(&self) -> Vec<&Host> {
        self.servers.iter().map(|server| &server.host).collect()
    }

    /// Waits until every node has every other in its tables.
    fn whole(&mut self) {
        let ids = [self.a.id.clone(), self.b.id.clone()];
        for server in &mut self.servers {
            server.running.status_until("everybody in its tables", |status| {
                linked(status, "servers") == 2
                    && ids.iter().all(|id| row(status, "clients", id).is_some() && row(status, "peers", id).is_some())
            });
            assert!(server.running.take("error").is_empty(), "no foreign cluster");
        }
        for peer in [&mut self.a, &mut self.b] {
            peer.running.status_until("everybody in its tables", |status| {
                linked(status, "servers") == 3 && linked(status, "peers") == 1
            });
        }
    }
}

#[test]
fn peers_cut_off_from_each_other_talk_through_a_server_until_it_heals() {
    let Some(mut site) = Site::start() else { return };
    site.whole();
    site.paths();
    site.lan.cut(&[&site.a.host], &[&site.b.host]);
    let sent = Instant::now();
    site.a.send(&mut site.b, "over the dead path");
    let path = site.a.running.event_of("path", &site.b.id);
    let left = sent.elapsed();
    println!("the dead path was left after {} ms", left.as_millis());
    assert!(left <= DEAD_PATH_LEFT, "{left:?}");
    assert!(path["kind"] == "relayed" && site.servers.iter().any(|server| path["via"] == *server.id), "{path}");
    site.path("relayed");
    site.talk("relayed");
    let healed = Instant::now();
    site.lan.heal();
    site.path("direct");
    println!("direct again after {} ms", healed.elapsed().as_millis());
    site.talk("direct again");
}

#[test]
fn a_path_that_works_one_way_only_is_not_used() {
    let Some(mut site) = Site::start() else { return };
    for from_a in [true, false] {
        let (from, to) = if from_a { (&site.a, &site.b) } else { (&site.b, &site.a) };
        site.lan.cut_one_way(&[&from.host], &[&to.host]);
        site.talk("one way only");
        site.path("relayed");
        site.talk("relayed");
        site.lan.heal();
        site.path("direct");
        site.talk("direct again");
    }
}

#[test]
fn peers_that_never_had_more_than_one_way_are_relayed() {
    let Some(mut site) = Site::start_with(|lan, a, b| lan.cut_one_way(&[a], &[b])) else { return };
    let start = Instant::now();
    // longer than all quick probes
    while start.elapsed() < Duration::from_secs(3) {
        site.talk("through a server");
        thread::sleep(Duration::from_millis(200));
    }
    let paths = site.paths();
    assert!(!paths.is_empty() && paths.iter().all(|kind| kind == "relayed"), "{paths:?}");
    site.lan.heal();
    site.path("direct");
    site.talk("direct");
}

#[test]
fn a_server_cut_off_from_all_is_lost_and_comes_back() {
    let Some(mut site) = Site::start() else { return };
    site.whole();
    let lost = site.servers[2].id.clone();
    let (s1, s2, s3) = (&site.servers[0].host, &site.servers[1].host, &site.servers[2].host);
    let cut = Instant::now();
    site.lan.cut(&[s3], &[s1, s2, &site.a.host, &site.b.host]);
    site.talk("one of the three is away");
    let [s1, s2, s3] = &mut site.servers[..] else { panic!("three servers") };
    for node in [&mut site.a, &mut site.b, s1, s2] {
        node.running.event_of("server_down", &lost);
    }
    let took = cut.elapsed();
    println!("the server was lost after {} ms", took.as_millis());
    assert!(took <= IDLE_LINK_LOST, "{took:?}");
    s3.linked(0);
    site.talk("two are left");
    let healed = Instant::now();
    site.lan.heal();
    site.whole();
    println!("everybody in all tables after {} ms", healed.elapsed().as_millis());
    site.talk("all three again");
}

#[test]
fn servers_cut_off_from_each_other_serve_the_peers_that_reach_both() {
    let Some(mut site) = Site::start() else { return };
    site.whole();
    let lost = site.servers[2].id.clone();
    let (s1, s2, s3) = (&site.servers[0].host, &site.servers[1].host, &site.servers[2].host);
    let cut = Instant::now();
    site.lan.cut(&[s3], &[s1, s2]);
    site.servers[..2].iter_mut().for_each(|server| drop(server.running.event_of("server_down", &lost)));
    let took = cut.elapsed();
    println!("the server was lost to the others after {} ms", took.as_millis());
    assert!(took <= IDLE_LINK_LOST, "{took:?}");
    site.talk("the servers are split");
    for peer in [&mut site.a, &mut site.b] {
        let status = peer.running.status();
        assert_eq!(linked(&status, "servers"), 3, "{status}");
        assert!(peer.running.take("server_down").is_empty());
    }
    site.lan.heal();
    site.whole();
    site.talk("whole again");
}

#[test]
fn two_halves_work_on_and_become_one_again() {
    let Some(mut site) = Site::start() else { return };
    site.whole();
    let [s1, s2, s3] = &mut site.servers[..] else { panic!("three servers") };
    let cut = Instant::now();
    site.lan.cut(&[&s1.host, &site.a.host], &[&s2.host, &s3.host, &site.b.host]);
    // each node loses those of the other half, and no other
    let (a, b) = (&mut site.a, &mut site.b);
    for (node, lost) in [(&mut *a, [&s2.id, &s3.id].as_slice()), (&mut *b, &[&s1.id])] {
        lost.iter().for_each(|id| drop(node.running.event_of("server_down", id)));
    }
    a.running.event_of("peer_down", &b.id);
    b.running.event_of("peer_down", &a.id);
    s1.linked(0);
    s2.linked(1);
    s3.linked(1);
    let took = cut.elapsed();
    println!("the halves have lost each other after {} ms", took.as_millis());
    assert!(took <= IDLE_LINK_LOST, "{took:?}");
    a.linked(1);
    b.linked(2);
    let outcome = a.running.deliver(&b.id, "to the other half");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("offline")));
    let healed = Instant::now();
    site.lan.heal();
    site.whole();
    println!("one again after {} ms", healed.elapsed().as_millis());
    site.talk("one again");
}

/// A peer is suspended by this cut from the servers, and resumes after it.
fn suspended_by(cut: impl Fn(&Lan, &Host, &[&Host])) {
    let Some(mut site) = Site::start() else { return };
    site.whole();
    let start = Instant::now();
    cut(&site.lan, &site.a.host, &site.hosts_of_servers());
    site.a.running.event("suspended");
    let suspended = start.elapsed();
    println!("suspended after {} ms", suspended.as_millis());
    assert!(suspended <= IDLE_LINK_LOST + SUSPENDED, "{suspended:?}");
    let outcome = site.a.running.deliver(&site.b.id, "nobody is there");
    assert_eq!((&outcome["event"], &outcome["reason"]), (&json!("failed"), &json!("suspended")));
    for server in &mut site.servers {
        server.running.status_until("the peer's loss", |status| row(status, "clients", &site.a.id).is_none());
    }
    let lost = start.elapsed();
    println!("out of the servers' tables after {} ms", lost.as_millis());
    assert!(lost <= IDLE_LINK_LOST, "{lost:?}");
    let healed = Instant::now();
    site.lan.heal();
    site.a.running.event("resumed");
    let resumed = healed.elapsed();
    println!("resumed after {} ms", resumed.as_millis());
    assert!(resumed <= RESUMED, "{resumed:?}");
    site.talk("the next message");
    site.whole();
}

#[test]
fn a_peer_cut_off_from_all_servers_is_suspended_and_resumes() {
    suspended_by(|lan, peer, servers| lan.cut(&[peer], servers));
}

#[test]
fn a_peer_that_hears_no_server_is_suspended_and_resumes() {
    suspended_by(|lan, peer, servers| lan.cut_one_way(servers, &[peer]));
}

#[test]
fn a_peer_that_no_server_hears_is_suspended_and_resumes() {
    suspended_by(|lan, peer, servers| lan.cut_one_way(&[peer], servers));
}
