//! Whole nodes on a small network in memory; the simulator has the faults.

mod batches;
mod clock;
mod demand;
mod hostile;
mod lazy;
mod master;
mod master_hostile;
mod net;
mod on_demand;
mod packets;
mod quota;
mod replaced;
mod servers;
mod twins;

use std::{collections::BTreeMap, time::Duration};

use bytes::{Bytes, BytesMut};

use super::*;
use crate::{NetworkKey, Reason, Role, SecretKey, ServerKey};
use net::{Net, address, secs};

#[test]
fn a_message_goes_from_peer_to_peer() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    net.send(1, 2, "hello");
    net.run(secs(1));
    assert_eq!(net.messages(2), ["hello"]);
    assert_eq!(net.outcomes(1), [Outcome::Delivered]);
    let status = net.node(1).status();
    assert_eq!(status.peers.len(), 1, "{status:#?}");
    assert_eq!(status.peers[0].kind, Some(PathKind::Direct));
}

#[test]
fn a_message_sent_before_the_first_directory_waits_for_it() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    let newcomer = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    while !net.nodes[newcomer].events.iter().any(|event| matches!(event, Event::ServerUp { .. })) {
        net.run(Duration::from_millis(1));
    }
    assert!(net.node(newcomer).status().peers.is_empty(), "nobody is known yet");
    let (now, nobody) = (net.now, Id::from_key(Role::Peer, &crate::PublicKey([9; 32])));
    let to = [net.id(1), nobody];
    net.node(newcomer).send(now, &to, Bytes::from_static(b"early"), SendOptions::default()).unwrap();
    let asked = net.node(newcomer).request(now, nobody, Bytes::from_static(b"early"), None).unwrap();
    net.run(secs(1));
    assert_eq!(net.messages(1), ["early"]);
    let events = net.take_events(newcomer);
    let of = |to: Id| {
        events.iter().find_map(|e| {
            if let Event::Outcome { to: id, outcome, .. } = e
                && *id == to
            {
                Some(*outcome)
            } else {
                None
            }
        })
    };
    assert_eq!((of(to[0]), of(nobody)), (Some(Outcome::Delivered), Some(Outcome::Failed(Reason::UnknownId))));
    assert!(events.contains(&Event::Reply { request: asked, from: nobody, result: Err(Reason::UnknownId) }));
}

#[test]
fn servers_form_a_full_mesh_and_peers_link_to_all() {
    let mut net = Net::cluster(3, 2);
    net.run(secs(3));
    for index in 0..5 {
        let status = net.node(index).status();
        let linked = status.servers.iter().filter(|server| server.linked).count();
        assert_eq!(linked, if index < 3 { 2 } else { 3 }, "node {index}: {status:#?}");
    }
    let status = net.node(0).status();
    assert_eq!(status.clients.len(), 2);
    assert!(status.links.len() >= 2 * 4, "{:#?}", status.links);
}

#[test]
fn servers_that_hear_of_each_other_make_one_link_for_each_pair() {
    let mut net = Net::cluster(6, 0);
    net.run(secs(5));
    let counters = |node: &mut Node, name| node.status().counters.get(name).copied().unwrap_or_default();
    let accepted: u64 = (0..6).map(|index| counters(net.node(index), "links accepted")).sum();
    assert_eq!(accepted, 15);
}

#[test]
fn a_pair_kept_apart_meets_through_a_server() {
    let mut net = Net::cluster(2, 2);
    net.cut.insert((address(2), address(3)));
    net.run(secs(2));
    net.send(2, 3, "relayed");
    net.run(secs(1));
    assert_eq!(net.messages(3), ["relayed"]);
    assert_eq!(net.node(2).status().peers[0].kind, Some(PathKind::Relayed));
}

#[test]
fn a_killed_relay_costs_no_message() {
    let mut net = Net::cluster(2, 2);
    net.cut.insert((address(2), address(3)));
    net.run(secs(2));
    let via = net.node(2).status().peers[0].via.unwrap();
    let relay = (0..2).find(|index| net.id(*index) == via).unwrap();
    let mut sent = 0;
    for round in 0..100 {
        if round == 20 {
            net.kill(relay);
        }
        net.send(2, 3, &round.to_string());
        sent += 1;
        net.run(Duration::from_millis(20));
    }
    net.run(secs(2));
    let got = net.messages(3);
    let want: Vec<Bytes> = (0..sent).map(|round: i32| Bytes::from(round.to_string())).collect();
    assert_eq!(got, want);
    assert_eq!(net.outcomes(2).len(), 100);
}

#[test]
fn a_relay_only_peer_never_goes_direct() {
    let mut net = Net::cluster(1, 1);
    net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.relay_only = true;
    });
    net.run(secs(5));
    net.send(1, 2, "x");
    net.run(secs(1));
    assert_eq!(net.messages(2), ["x"]);
    assert_eq!(net.node(1).status().peers[0].kind, Some(PathKind::Relayed));
}

#[test]
fn all_servers_lost_is_suspended_until_one_is_back() {
    let mut net = Net::cluster(2, 2);
    net.run(secs(2));
    net.kill(0);
    net.kill(1);
    net.run(secs(31));
    assert!(net.take_events(2).contains(&Event::Suspended));
    let (now, id) = (net.now, net.id(3));
    net.node(2).send(now, &[id], Bytes::new(), SendOptions::default()).unwrap();
    net.run(Duration::from_millis(10));
    assert_eq!(net.outcomes(2), [Outcome::Failed(Reason::Suspended)]);
    net.restart(1, true);
    net.run(secs(5));
    assert!(net.take_events(2).contains(&Event::Resumed));
    net.send(2, 3, "again");
    net.run(secs(1));
    assert_eq!(net.messages(3), ["again"]);
}

#[test]
fn requests_are_answered_or_say_why_not() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, id) = (net.now, net.id(2));
    let request = net.node(1).request(now, id, Bytes::from_static(b"?"), None).unwrap();
    net.run(Duration::from_millis(100));
    let token = net.take_events(2).into_iter().find_map(|event| match event {
        Event::Request { token, .. } => Some(token),
        _ => None,
    });
    let now = net.now;
    net.node(2).reply(now, token.unwrap(), Ok(Bytes::from_static(b"!"))).unwrap();
    net.run(Duration::from_millis(100));
    let reply = Event::Reply { request, from: id, result: Ok(Bytes::from_static(b"!")) };
    assert!(net.take_events(1).contains(&reply));
    let stranger = Identity::new(Role::Peer, SecretKey::from_bytes([99; 32])).id();
    let now = net.now;
    let request = net.node(1).request(now, stranger, Bytes::new(), None).unwrap();
    net.run(Duration::from_millis(100));
    let reply = Event::Reply { request, from: stranger, result: Err(Reason::UnknownId) };
    assert!(net.take_events(1).contains(&reply));
}

#[test]
fn a_restarted_peer_without_state_is_admitted_after_the_old_one_is_silent() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    net.kill(2);
    net.restart(2, false);
    net.run(secs(5));
    net.send(1, 2, "new");
    net.run(secs(3));
    assert_eq!(net.messages(2), ["new"]);
}

#[test]
fn two_holders_of_one_key_are_both_told() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    let twin = net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.identity = Identity::new(Role::Peer, SecretKey::from_bytes([2; 32]));
    });
    net.run(secs(4));
    let own = net.id(1);
    for index in [1, twin] {
        let told =
            net.take_events(index).iter().any(|e| matches!(e, Event::DuplicateIdentity { id, .. } if *id == own));
        assert!(told, "node {index}");
    }
}

#[test]
fn the_founder_returns_to_its_cluster() {
    let mut net = Net::cluster(2, 0);
    net.run(secs(2));
    net.kill(0);
    net.restart(0, true);
    net.run(secs(5));
    let status = net.node(1).status();
    assert!(status.servers.iter().all(|server| server.linked), "{status:#?}");
    let cluster = net.node(0).cluster;
    assert_eq!(net.node(1).cluster, cluster);
}

#[test]
fn a_node_of_another_network_gets_no_byte() {
    let mut net = Net::cluster(1, 0);
    net.add(Role::Peer, |start| {
        start.introducers = vec![address(0)];
        start.network_key = NetworkKey::from_bytes([9; 32]);
    });
    net.run(secs(8));
    assert_eq!(net.node(0).counters.get("links accepted"), None);
    assert!(net.node(0).counters.contains_key("dropped: stranger"));
    let warned = |event: &Event| matches!(event, Event::Warning(Warning::NoServerAnswered(_)));
    assert!(net.take_events(1).iter().any(warned));
}

#[test]
fn a_server_with_a_wrong_server_key_is_refused() {
    let mut net = Net::cluster(1, 0);
    net.add(Role::Server, |start| {
        start.introducers = vec![address(0)];
        start.server_key = Some(ServerKey::from_bytes([9; 32]));
    });
    net.run(secs(3));
    assert_eq!(net.node(0).status().servers, []);
    let refused = |event: &Event| matches!(event, Event::Warning(Warning::Refused { .. }));
    assert!(net.take_events(1).iter().any(refused));
}

#[test]
fn streams_carry_bytes_both_ways() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, id) = (net.now, net.id(2));
    let stream = net.node(1).open_stream(now, id).unwrap();
    assert_eq!(net.node(1).stream_write(now, stream, b"ping"), Ok(4));
    net.node(1).stream_finish(now, stream).unwrap();
    net.run(Duration::from_millis(200));
    let theirs = net.take_events(2).into_iter().find_map(|event| match event {
        Event::StreamOpened { stream, .. } => Some(stream),
        _ => None,
    });
    let now = net.now;
    let theirs = theirs.unwrap();
    assert_eq!(net.node(2).stream_read(now, theirs, 100), Ok(Some(Bytes::from_static(b"ping"))));
    assert_eq!(net.node(2).stream_read(now, theirs, 100), Ok(Some(Bytes::new())));
}

#[test]
fn stopping_says_goodbye() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let now = net.now;
    net.node(2).stop(now);
    net.run(Duration::from_millis(200));
    assert_eq!(net.node(0).status().clients.len(), 1);
    assert_eq!(net.node(1).status().peers, []);
    net.run(secs(2));
    assert!(net.take_events(2).contains(&Event::Stopped));
}

/// Node 1 has sent a message to node 2 and asked it something, and node 2 has got both and taken neither.
fn sent_and_asked() -> (Net, RequestId) {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    net.nodes[2].takes = false;
    let (now, to) = (net.now, net.id(2));
    net.send(1, 2, "take this");
    let request = net.node(1).request(now, to, Bytes::from_static(b"and say so"), None).unwrap();
    net.run(Duration::from_millis(100));
    (net, request)
}

/// As a program does that was started for one message: it takes it, answers, and stops, with nothing drained in between.
#[test]
fn what_was_said_before_the_stop_still_leaves() {
    let (mut net, _) = sent_and_asked();
    let now = net.now;
    for event in net.take_events(2) {
        match event {
            Event::Messages { receipt, .. } => net.node(2).handed(now, receipt),
            Event::Request { receipt, token, .. } => {
                net.node(2).handed(now, receipt);
                net.node(2).reply(now, token, Ok(Bytes::from_static(b"done"))).unwrap();
            }
            _ => {}
        }
    }
    let id = net.id(1);
    net.node(2).send(now, &[id], Bytes::from_static(b"last words"), SendOptions::default()).unwrap();
    net.node(2).stop(now);
    net.run(secs(1));
    let events = net.take_events(1);
    let has = |wanted: &dyn Fn(&Event) -> bool| events.iter().any(wanted);
    assert!(has(&|event| matches!(event, Event::Outcome { outcome: Outcome::Delivered, .. })), "{events:?}");
    assert!(has(&|event| matches!(event, Event::Reply { result: Ok(reply), .. } if reply == "done")), "{events:?}");
    assert!(has(&|event| matches!(event, Event::Messages { data, .. } if data == &["last words"])), "{events:?}");
    assert!(net.take_events(2).contains(&Event::Stopped));
}

#[test]
fn what_is_under_way_at_the_stop_has_its_outcome_before_the_end() {
    let (mut net, request) = sent_and_asked();
    net.take_events(1);
    let (now, to) = (net.now, net.id(2));
    net.node(1).stop(now);
    net.run(secs(2));
    let events = net.take_events(1);
    let at = |wanted: &dyn Fn(&Event) -> bool| events.iter().position(wanted).unwrap_or_else(|| panic!("{events:?}"));
    let lost = Reason::UnknownOutcome;
    let sent = at(&|event| matches!(event, Event::Outcome { outcome: Outcome::Failed(reason), .. } if *reason == lost));
    let asked = at(&|event| *event == Event::Reply { request, from: to, result: Err(lost) });
    let end = at(&|event| *event == Event::Stopped);
    assert!(sent < end && asked < end, "{events:?}");
}

#[test]
fn a_socket_that_was_never_named_brings_nothing() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(1));
    let now = net.now;
    let data = BytesMut::from(&[0x40; 1_200][..]);
    let remote = address(1);
    net.node(0).handle(
        now,
        Input::Datagram(Datagram { socket: SocketId(9), remote, local_ip: None, ecn: 0, segment_size: 0, data }),
    );
    assert_eq!(net.node(0).status().counters["dropped: from a socket that was never named"], 1);
}

#[test]
fn a_message_to_oneself_arrives() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(1));
    net.send(1, 1, "me");
    net.run(Duration::from_millis(10));
    let events: BTreeMap<bool, Vec<Event>> = net.take_events(1).into_iter().fold(BTreeMap::new(), |mut map, event| {
        map.entry(matches!(event, Event::Messages { .. })).or_insert_with(Vec::new).push(event);
        map
    });
    assert_eq!(events[&true].len(), 1);
    assert!(events[&false].iter().any(|e| matches!(e, Event::Outcome { outcome: Outcome::Delivered, .. })));
}

#[test]
fn a_founded_cluster_is_not_told_before_it_is_on_disk() {
    let mut net = Net::cluster(1, 1);
    net.nodes[0].persists = false;
    net.run(secs(3));
    assert_eq!(net.node(1).status().servers, []);
    assert_eq!(net.node(1).cluster, None);
}

#[test]
fn a_relay_only_server_accepts_everybody() {
    let mut net = Net::new();
    net.add(Role::Server, |start| {
        start.found = true;
        start.relay_only = true;
    });
    net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    net.run(secs(2));
    assert_eq!(net.node(0).status().clients.len(), 1);
}

#[test]
fn a_reply_to_an_earlier_run_answers_nothing() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, id) = (net.now, net.id(2));
    net.node(1).request(now, id, Bytes::from_static(b"old"), None).unwrap();
    net.run(Duration::from_millis(100));
    let tokens = |events: Vec<Event>| -> Vec<ReplyToken> {
        let token = |event| if let Event::Request { token, .. } = event { Some(token) } else { None };
        events.into_iter().filter_map(token).collect()
    };
    let old = tokens(net.take_events(2))[0];
    net.kill(1);
    net.restart(1, true);
    net.run(secs(5));
    let now = net.now;
    let request = net.node(1).request(now, id, Bytes::from_static(b"new"), None).unwrap();
    net.run(Duration::from_millis(500));
    let new = tokens(net.take_events(2))[0];
    let now = net.now;
    let _ = net.node(2).reply(now, old, Ok(Bytes::from_static(b"old")));
    net.node(2).reply(now, new, Ok(Bytes::from_static(b"new"))).unwrap();
    net.run(Duration::from_millis(500));
    let replies: Vec<Event> = net.take_events(1).into_iter().filter(|e| matches!(e, Event::Reply { .. })).collect();
    assert_eq!(replies, [Event::Reply { request, from: id, result: Ok(Bytes::from_static(b"new")) }]);
}

#[test]
fn a_refused_server_backs_off() {
    let mut net = Net::cluster(1, 0);
    net.add(Role::Server, |start| {
        start.introducers = vec![address(0)];
        start.server_key = Some(ServerKey::from_bytes([9; 32]));
    });
    net.run(secs(20));
    let dials = net.node(1).counters["dials"];
    assert!(dials <= 25, "{dials} dials in 20 s");
}

#[test]
fn a_restarted_peer_is_reached_as_soon_as_a_server_shows_its_new_run() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    net.kill(2);
    net.restart(2, true);
    net.run(secs(4));
    net.take_events(1);
    net.send(1, 2, "fresh");
    net.run(Duration::from_millis(300));
    assert_eq!(net.messages(2), ["fresh"]);
    assert_eq!(net.outcomes(1), [Outcome::Delivered]);
}

#[test]
fn a_link_replaced_by_another_is_no_alarm() {
    let mut net = Net::cluster(1, 0);
    net.add(Role::Peer, |start| start.introducers = vec![address(0), address(0)]);
    net.run(secs(3));
    let events = net.take_events(1);
    assert_eq!(events.iter().filter(|event| matches!(event, Event::ServerUp { .. })).count(), 1, "{events:?}");
    assert!(!events.contains(&Event::Suspended));
}

#[test]
fn a_goodbye_goes_through_the_relay_before_it_goes_to_the_relay() {
    let mut net = Net::cluster(1, 2);
    net.cut.insert((address(1), address(2)));
    net.run(secs(2));
    assert_eq!(net.node(1).status().peers[0].kind, Some(PathKind::Relayed));
    let (now, server) = (net.now, net.id(0));
    net.node(2).open_stream(now, server).unwrap();
    net.run(Duration::from_millis(100));
    net.take_events(2);
    net.send(0, 2, "under way");
    let now = net.now;
    net.node(2).stop(now);
    net.run(Duration::from_millis(100));
    let events = net.take_events(2);
    assert!(events.iter().any(|event| matches!(event, Event::StreamReset { .. })));
    assert!(!events.iter().any(|event| matches!(event, Event::Messages { .. })), "its application has left");
    let gone = net.id(2);
    assert!(!net.node(1).is_linked(&gone), "the goodbye was lost");
    net.run(secs(1));
    assert!(net.take_events(2).contains(&Event::Stopped));
    net.send(1, 2, "too late");
    net.run(Duration::from_millis(10));
    assert_eq!(net.outcomes(1), [Outcome::Failed(Reason::Offline)]);
}

#[test]
fn a_link_to_a_peer_that_is_in_no_directory_any_more_is_asked_whether_it_lives() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    net.cut.insert((address(1), address(2)));
    let now = net.now;
    net.node(2).stop(now);
    net.run(secs(1));
    net.kill(2);
    let gone = net.id(2);
    assert!(net.node(1).is_linked(&gone), "the goodbye came through");
    net.run(secs(2));
    assert!(!net.node(1).is_linked(&gone));
    net.send(1, 2, "too late");
    net.run(Duration::from_millis(10));
    assert_eq!(net.outcomes(1), [Outcome::Failed(Reason::Offline)]);
}

#[test]
fn what_is_forwarded_leaves_in_runs_of_one_way_and_one_size() {
    let mut net = Net::cluster(1, 0);
    net.run(secs(1));
    let (now, far) = (net.now, [192, 0, 2, 99]);
    let node = net.node(0);
    for (port, len) in [(1, 100), (1, 100), (1, 60), (1, 100), (2, 100), (2, 120), (3, 1_452), (3, 1_200)] {
        let route = Route::Udp { socket: SocketId(0), remote: (far, port).into() };
        node.queue(route, BytesMut::zeroed(len), None, 0, None);
    }
    let (mut runs, mut buf) = (Vec::new(), Vec::new());
    while let Some(transmit) = node.poll_transmit(now, &mut buf) {
        runs.push((transmit.destination.port(), transmit.size, transmit.segment_size));
        buf.clear();
    }
    assert_eq!(
        runs,
        [(1, 260, Some(100)), (1, 100, None), (2, 100, None), (2, 120, None), (3, 1_452, None), (3, 1_200, None)]
    );
}
