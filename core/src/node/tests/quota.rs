//! What one source may have of a server: relayed bytes, links, handshakes.

use std::net::SocketAddr;

use super::*;

/// Relays 20 KB a second for each peer.
fn thrifty() -> Config {
    Config { relay_bytes_per_id: 20_000, relay_burst: Duration::from_millis(500), ..Config::default() }
}

/// Two peers kept apart, linked through some of the servers before them.
fn apart(servers: usize) -> Net {
    let mut net = Net::cluster_with(thrifty(), servers, 2);
    net.cut.insert((address(servers), address(servers + 1)));
    net.run(secs(2));
    net
}

fn counter(net: &mut Net, index: usize, name: &str) -> u64 {
    net.node(index).status().counters.get(name).copied().unwrap_or(0)
}

fn offer(net: &mut Net, from: usize, to: usize, kib: usize) {
    let (now, id) = (net.now, net.id(to));
    net.node(from).send(now, &[id], vec![7; kib * 1024].into(), SendOptions::default()).unwrap();
}

#[test]
fn over_the_quota_of_the_only_relay_all_arrives_by_and_by_and_the_operator_is_told() {
    let mut net = apart(1);
    offer(&mut net, 1, 2, 200);
    net.run(secs(5));
    assert!(net.messages(2).is_empty(), "200 KiB at 20 KB a second");
    net.run(secs(20));
    assert_eq!(net.messages(2).len(), 1);
    let server = net.id(0);
    let events = net.take_events(1);
    let warnings = events.iter().filter(|e| **e == Event::Warning(Warning::OverQuota { by: server })).count();
    assert_eq!(warnings, 1, "once for a link");
    assert!(events.iter().any(|e| matches!(e, Event::Outcome { outcome: Outcome::Delivered, .. })));
    assert!(!events.iter().any(|e| matches!(e, Event::ServerDown { .. } | Event::PeerDown { .. })));
    let (told, heard) = (counter(&mut net, 0, "relay: told a sender"), counter(&mut net, 1, "relay: told of a quota"));
    assert!((1..=26).contains(&told) && heard == told, "{told} told, {heard} heard in 25 s");
    assert!(counter(&mut net, 0, "dropped: over the relay quota") > 0);
}

#[test]
fn over_the_quota_of_one_relay_another_one_is_used() {
    let mut net = apart(2);
    let via = net.node(2).status().peers[0].via.unwrap();
    offer(&mut net, 2, 3, 200);
    net.run(secs(2));
    let paths: Vec<Option<Id>> = net
        .take_events(2)
        .into_iter()
        .filter_map(|e| if let Event::Path { via, .. } = e { Some(via) } else { None })
        .collect();
    assert!(paths.iter().any(|path| path.is_some() && *path != Some(via)), "{via} at first, then {paths:?}");
    net.run(secs(18));
    assert_eq!(net.messages(3).len(), 1);
}

#[test]
fn others_have_their_own_quota() {
    let mut net = apart(1);
    let third = net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.relay_only = true;
    });
    net.run(secs(2));
    offer(&mut net, 1, 2, 400);
    net.run(Duration::from_millis(500));
    for round in 0..10 {
        net.send(third, 2, &round.to_string());
        net.run(Duration::from_millis(300));
    }
    assert_eq!(net.messages(2).len(), 10, "each within 300 ms");
}

#[test]
fn a_server_that_tells_all_the_time_is_heeded_once_in_a_pause() {
    let mut net = apart(2);
    let server = net.node(2).status().peers[0].via.unwrap();
    net.take_events(2);
    let now = net.now;
    for _ in 0..100 {
        net.node(2).rest_relay(now, server, Duration::from_secs(3_600));
    }
    net.run(secs(1));
    let switches = net.take_events(2).into_iter().filter(|e| matches!(e, Event::Path { .. })).count();
    assert_eq!(switches, 1);
    net.run(secs(8));
    let now = net.now;
    assert!(net.node(2).relays[&server].rests_until.unwrap() <= now + secs(1), "ten seconds at most");
}

#[test]
fn one_prefix_has_so_many_links_and_leaves_room_for_others() {
    let mut net = Net::cluster_with(Config { max_links_per_prefix: 2, ..Config::default() }, 1, 3);
    net.run(secs(3));
    assert_eq!(net.node(0).status().clients.len(), 2);
    assert!(counter(&mut net, 0, "dropped: first packet over the share of its prefix") > 0);
    let elsewhere = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    net.nodes[elsewhere].address = "198.51.100.1:7000".parse().unwrap();
    net.run(secs(3));
    assert_eq!(net.node(0).status().clients.len(), 3);
    // a link that ends makes room
    let is_linked = |net: &mut Net, index| net.node(index).status().servers.first().is_some_and(|server| server.linked);
    let waits = (1..4).find(|index| !is_linked(&mut net, *index)).unwrap();
    let leaves = (1..4).find(|index| *index != waits).unwrap();
    let now = net.now;
    net.node(leaves).stop(now);
    net.run(secs(5));
    assert!(is_linked(&mut net, waits));
}

#[test]
fn handshakes_that_never_end_leave_room_for_those_of_others() {
    let mut net = Net::cluster_with(Config { max_handshakes_per_prefix: 3, ..Config::default() }, 1, 0);
    for _ in 0..6 {
        net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    }
    for index in 1..7 {
        // nothing of the server's reaches them
        net.nodes[index].address = SocketAddr::from(([198, 51, 100, index as u8], 7000));
        net.nodes[index].start.network.sockets[0].1 = net.nodes[index].address;
    }
    let lost: Vec<SocketAddr> = net.nodes[1..].iter().map(|host| host.address).collect();
    net.exchange();
    net.run(Duration::from_millis(1));
    let first: Vec<_> = net.flying.drain(..).collect();
    for (_, from, to, data) in first {
        net.deliver(from, to, &data);
    }
    assert_eq!(net.node(0).links.inbound_handshakes(), 3);
    for address in &lost {
        net.cut.insert((*address, super::address(0)));
    }
    let other = net.add(Role::Peer, |start| start.introducers = vec![super::address(0)]);
    net.run(secs(1));
    assert!(net.node(other).status().servers.first().is_some_and(|server| server.linked));
}

#[test]
fn who_comes_and_goes_with_many_ids_pushes_nobody_s_delivery_state_out() {
    let mut net = Net::cluster_with(Config { max_sessions: 8, ..Config::default() }, 1, 1);
    net.run(secs(2));
    net.send(1, 0, "kept");
    net.run(secs(1));
    assert_eq!(net.messages(0), ["kept"]);
    let honest = net.id(1);
    net.kill(1);
    net.run(secs(31));
    for _ in 0..30 {
        let minted = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
        net.run(secs(1));
        let now = net.now;
        net.node(minted).stop(now);
        net.run(secs(1));
        net.kill(minted);
    }
    let remotes = &net.node(0).remotes;
    assert!(remotes.len() <= 10, "{} are remembered", remotes.len());
    assert!(remotes.get(&honest).is_some_and(|remote| remote.conversation.is_some()));
}
