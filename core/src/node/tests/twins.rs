//! Two holders of one key at two servers, two clusters under one network key, and who lies about such things.

use std::time::Duration;

use super::{
    super::*,
    net::{Net, address, secs},
};
use crate::{
    Reason, Role, SecretKey,
    wire::{Control, Sighting},
};

/// Two servers that do not reach each other, and a peer (node 2) that both have. Peers do not link to each other by themselves.
fn servers_apart() -> Net {
    let mut net = Net::cluster_with(Config { full_mesh_peers: 0, ..Config::default() }, 2, 1);
    net.run(secs(2));
    let (now, watched) = (net.now, Identity::new(Role::Peer, SecretKey::from_bytes([4; 32])).id());
    net.node(2).watch(now, Watch::Id(watched)).unwrap();
    net.cut.insert((address(0), address(1)));
    net.run(secs(35));
    net
}

fn add_holder(net: &mut Net, of: usize, server: usize) -> usize {
    let index = net.add(Role::Peer, |start| {
        start.introducers = vec![address(server)];
        start.identity = Identity::new(Role::Peer, SecretKey::from_bytes([u8::try_from(of).unwrap() + 1; 32]));
    });
    net.cut.insert((address(index), address(1 - server)));
    index
}

fn alarms(net: &mut Net, index: usize, of: Id) -> usize {
    let events = net.take_events(index).into_iter();
    events.filter(|event| matches!(event, Event::DuplicateIdentity { id, .. } if *id == of)).count()
}

#[test]
fn two_holders_at_two_servers_are_told_by_a_peer_that_sees_both() {
    let mut net = servers_apart();
    let one = add_holder(&mut net, 3, 0);
    let other = add_holder(&mut net, 3, 1);
    let id = net.id(one);
    net.run(secs(8));
    for index in [0, 1, one, other] {
        assert_eq!(alarms(&mut net, index, id), 0, "too early at node {index}");
    }
    net.run(secs(12));
    for index in [0, 1, one, other] {
        assert_eq!(alarms(&mut net, index, id), 1, "node {index}");
    }
    net.run(secs(60));
    for index in [0, 1, one, other] {
        assert_eq!(alarms(&mut net, index, id), 0, "again at node {index}");
    }
}

#[test]
fn a_run_that_only_a_report_can_know_to_be_dead_goes_early_and_without_alarm() {
    let mut net = servers_apart();
    let old = add_holder(&mut net, 3, 0);
    let id = net.id(old);
    net.run(secs(2));
    net.kill(old);
    let new = add_holder(&mut net, 3, 1);
    net.run(secs(13));
    assert!(net.node(0).status().clients.iter().all(|client| client.id != id));
    assert!(net.node(1).status().clients.iter().any(|client| client.id == id));
    net.run(secs(20));
    for index in [0, 1, new] {
        assert_eq!(alarms(&mut net, index, id), 0, "node {index}");
    }
}

#[test]
fn false_reports_close_no_link_and_cost_little() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let id = net.id(2);
    net.take_events(2);
    for round in 0..600_u64 {
        let (now, server) = (net.now, net.id(0));
        let incarnation = Incarnation { counter: round, random: [9; 16] };
        let sighting = Sighting { id, incarnation, address: Some(address(77)) };
        net.node(1).tell(now, server, &Control::SeenElsewhere(sighting));
        if round % 100 == 0 {
            // nothing gets through for two seconds
            net.cut.insert((address(0), address(2)));
        }
        if round % 100 == 20 {
            net.cut.clear();
        }
        net.run(Duration::from_millis(100));
    }
    assert!(alarms(&mut net, 0, id) <= 1);
    let down = |event: &Event| matches!(event, Event::ServerDown { .. } | Event::Suspended);
    assert!(!net.take_events(2).iter().any(down));
    assert!(net.node(0).counters["reports of a second run"] <= 10);
}

#[test]
fn a_report_about_the_run_that_is_linked_a_stranger_or_a_server_is_nothing() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, server, id) = (net.now, net.id(0), net.id(2));
    let incarnation = net.nodes[2].start.incarnation;
    let stranger = Identity::new(Role::Peer, SecretKey::from_bytes([99; 32])).id();
    for id in [id, stranger] {
        net.node(1).tell(now, server, &Control::SeenElsewhere(Sighting { id, incarnation, address: None }));
    }
    let other = net.add(Role::Server, |start| start.introducers = vec![address(0)]);
    net.run(secs(1));
    let (now, id) = (net.now, net.id(other));
    assert!(net.node(0).is_linked(&id));
    net.node(1).tell(now, server, &Control::SeenElsewhere(Sighting { id, incarnation, address: None }));
    net.run(secs(1));
    assert_eq!(net.node(0).counters.get("reports of a second run"), None);
    assert_eq!(net.node(0).status().clients.len(), 2);
}

#[test]
fn a_second_cluster_under_one_network_key_is_told_to_every_server() {
    let mut net = Net::cluster(2, 0);
    let foreign = net.add(Role::Server, |start| start.found = true);
    net.run(secs(2));
    // it has been linked to its own cluster when it asks the foreign server
    let peer = net.add(Role::Peer, |start| start.introducers = vec![address(0), address(foreign)]);
    net.nodes[peer].start.introducers = vec![address(foreign)];
    net.run(secs(3));
    net.restart(peer, true);
    net.run(secs(5));
    let (by, id) = (net.id(peer), net.id(foreign));
    for server in [0, 1] {
        let told = Event::Warning(Warning::ForeignClusterMet { by, id });
        let times = net.take_events(server).iter().filter(|event| **event == told).count();
        assert!((1..=2).contains(&times), "{times} at server {server}");
    }
    assert!(net.node(0).status().servers.iter().all(|server| server.id != id));
}

#[test]
fn what_is_told_of_foreign_clusters_is_bounded() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    let server = net.id(0);
    for seed in 0..200 {
        let now = net.now;
        let id = Identity::new(Role::Server, SecretKey::from_bytes([seed; 32])).id();
        net.node(1).tell(now, server, &Control::ForeignCluster { id, cluster: None });
        net.run(Duration::from_millis(20));
    }
    let told = |event: &Event| matches!(event, Event::Warning(Warning::ForeignClusterMet { .. }));
    let times = net.take_events(0).iter().filter(|event| told(event)).count();
    assert_eq!(times, Config::default().max_foreign);
    assert_eq!(net.node(0).status().clients.len(), 1);
}

#[test]
fn what_a_refused_holder_of_a_key_sends_fails_with_that_reason() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let identity = net.nodes[1].start.identity.clone();
    let second = net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.identity = identity;
    });
    while !net.nodes[second].events.iter().any(|event| matches!(event, Event::DuplicateIdentity { .. })) {
        net.run(Duration::from_millis(10));
    }
    net.send(second, 2, "nobody takes this");
    net.run(Duration::from_millis(700));
    assert_eq!(net.outcomes(second), [Outcome::Failed(Reason::DuplicateIdentity)]);
    net.take_events(2);
    net.send(1, 2, "from the one that is linked");
    net.run(Duration::from_millis(100));
    assert_eq!(net.messages(2), ["from the one that is linked"]);
}
