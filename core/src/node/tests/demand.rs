//! Streams and datagrams to a node that is online and not linked.

use std::time::Duration;

use bytes::Bytes;

use super::{
    super::*,
    net::{Net, address, secs},
};
use crate::{CommandError, Reason, Role, SecretKey, wire::CloseCode};

/// No peer links to another one by itself.
fn sparse() -> Config {
    Config { full_mesh_peers: 0, ..Config::default() }
}

fn linked(net: &mut Net, from: usize, to: usize) -> bool {
    let id = net.id(to);
    net.node(from).status().peers.iter().any(|peer| peer.info.id == id && peer.linked)
}

fn open(net: &mut Net, from: usize, to: usize) -> Result<StreamKey, CommandError> {
    let (now, id) = (net.now, net.id(to));
    net.node(from).open_stream(now, id)
}

fn opened(net: &mut Net, index: usize) -> Option<StreamKey> {
    let opened = |event| if let Event::StreamOpened { stream, .. } = event { Some(stream) } else { None };
    net.take_events(index).into_iter().find_map(opened)
}

#[test]
fn a_stream_makes_the_link_that_it_needs() {
    let mut net = Net::cluster_with(sparse(), 1, 2);
    net.run(secs(2));
    assert!(!linked(&mut net, 1, 2));
    let stream = open(&mut net, 1, 2).unwrap();
    let now = net.now;
    assert_eq!(net.node(1).stream_write(now, stream, b"early"), Ok(0));
    assert_eq!(net.node(1).stream_read(now, stream, 10), Ok(None));
    net.run(secs(1));
    assert!(net.take_events(1).contains(&Event::StreamWritable(stream)));
    let now = net.now;
    assert_eq!(net.node(1).stream_write(now, stream, b"ping"), Ok(4));
    net.run(Duration::from_millis(100));
    let theirs = opened(&mut net, 2).unwrap();
    let now = net.now;
    assert_eq!(net.node(2).stream_read(now, theirs, 100), Ok(Some(Bytes::from_static(b"ping"))));
    net.run(secs(30));
    assert!(linked(&mut net, 1, 2), "the link stays");
}

#[test]
fn a_stream_that_ends_before_its_link_arrives_empty() {
    let mut net = Net::cluster_with(sparse(), 1, 2);
    net.run(secs(2));
    let stream = open(&mut net, 1, 2).unwrap();
    let now = net.now;
    net.node(1).stream_finish(now, stream).unwrap();
    assert_eq!(net.node(1).stream_write(now, stream, b"late"), Err(CommandError::Gone));
    net.run(secs(1));
    let theirs = opened(&mut net, 2).unwrap();
    let now = net.now;
    assert_eq!(net.node(2).stream_read(now, theirs, 100), Ok(Some(Bytes::new())));
}

#[test]
fn a_stream_waits_while_its_link_is_made_again() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(4));
    let (now, id) = (net.now, net.id(2));
    let token = net.node(1).remotes[&id].current.unwrap();
    net.node(1).close(now, token, CloseCode::Superseded);
    let stream = open(&mut net, 1, 2).unwrap();
    net.run(secs(3));
    assert!(net.take_events(1).contains(&Event::StreamWritable(stream)));
    assert!(opened(&mut net, 2).is_some());
}

#[test]
fn streams_wait_for_a_bounded_time_and_in_a_bounded_number() {
    let mut net = Net::cluster_with(Config { max_waiting_streams: 2, ..sparse() }, 1, 2);
    net.run(secs(2));
    net.kill(2);
    let streams = [open(&mut net, 1, 2).unwrap(), open(&mut net, 1, 2).unwrap()];
    assert_eq!(open(&mut net, 1, 2), Err(CommandError::Failed(Reason::Full)));
    let now = net.now;
    net.node(1).stream_reset(now, streams[0]);
    net.run(Duration::from_millis(9_900));
    let resets = |net: &mut Net| {
        let reset =
            |event| if let Event::StreamReset { stream, reason } = event { Some((stream, reason)) } else { None };
        net.take_events(1).into_iter().filter_map(reset).collect::<Vec<_>>()
    };
    assert_eq!(resets(&mut net), []);
    net.run(Duration::from_millis(200));
    assert_eq!(resets(&mut net), [(streams[1], Reason::Timeout)]);
    let now = net.now;
    assert_eq!(net.node(1).stream_write(now, streams[1], b"x"), Err(CommandError::Gone));
    let waiting = open(&mut net, 1, 2).unwrap();
    let now = net.now;
    net.node(1).stop(now);
    net.run(secs(1));
    assert_eq!(resets(&mut net), [(waiting, Reason::Reset)]);
}

#[test]
fn a_stream_to_a_peer_that_goes_offline_is_reset() {
    let mut net = Net::cluster_with(Config { stream_open_timeout: secs(600), ..sparse() }, 1, 2);
    net.run(secs(2));
    net.kill(2);
    let stream = open(&mut net, 1, 2).unwrap();
    net.run(secs(40));
    assert!(net.take_events(1).contains(&Event::StreamReset { stream, reason: Reason::Offline }));
    let again = open(&mut net, 1, 2).unwrap();
    net.run(secs(1));
    assert!(net.take_events(1).contains(&Event::StreamReset { stream: again, reason: Reason::Offline }));
}

#[test]
fn a_datagram_makes_the_link_for_those_that_follow() {
    let mut net = Net::cluster_with(sparse(), 1, 2);
    net.run(secs(2));
    let (now, id) = (net.now, net.id(2));
    let data = Bytes::from_static(b"datagram");
    let offline = Err(CommandError::Failed(Reason::Offline));
    assert_eq!(net.node(1).datagram(now, id, data.clone()), offline);
    net.run(secs(1));
    let now = net.now;
    assert_eq!(net.node(1).datagram(now, id, data.clone()), Ok(()));
    net.run(secs(1));
    let from = net.id(1);
    assert!(net.take_events(2).contains(&Event::Datagram { from, data }));
}

/// A node that was dialled in vain, and then not wanted for a while, is dialled again when it is.
#[test]
fn what_failed_long_ago_holds_nothing_back() {
    let config = Config { link_interest: secs(3), handshake_timeout: secs(1), ..sparse() };
    let mut net = Net::cluster_with(config, 1, 2);
    net.run(secs(2));
    let between = [(net.nodes[0].address, net.nodes[2].address), (net.nodes[1].address, net.nodes[2].address)];
    net.cut.extend(between);
    let (now, id) = (net.now, net.id(2));
    let data = Bytes::from_static(b"datagram");
    let _ = net.node(1).datagram(now, id, data.clone());
    net.run(secs(8));
    net.cut.clear();
    net.run(secs(3));
    assert!(!linked(&mut net, 1, 2));
    let now = net.now;
    let _ = net.node(1).datagram(now, id, data);
    net.run(secs(3));
    assert!(linked(&mut net, 1, 2));
}

#[test]
fn a_stream_to_nobody_does_not_outlive_the_first_directory() {
    let mut net = Net::cluster_with(sparse(), 1, 1);
    net.run(secs(2));
    let newcomer = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
    while !net.nodes[newcomer].events.iter().any(|event| matches!(event, Event::ServerUp { .. })) {
        net.run(Duration::from_millis(1));
    }
    let nobody = Id::from_key(Role::Peer, &crate::PublicKey([9; 32]));
    let now = net.now;
    let to_nobody = net.node(newcomer).open_stream(now, nobody).unwrap();
    let _ = net.node(newcomer).datagram(now, nobody, Bytes::new());
    let to_somebody = open(&mut net, newcomer, 1).unwrap();
    net.run(secs(1));
    let events = net.take_events(newcomer);
    assert!(events.contains(&Event::StreamReset { stream: to_nobody, reason: Reason::UnknownId }), "{events:?}");
    assert!(events.contains(&Event::StreamWritable(to_somebody)));
    assert!(opened(&mut net, 1).is_some());
}

#[test]
fn a_reply_makes_the_link_that_it_needs() {
    let mut net = Net::cluster_with(sparse(), 1, 2);
    net.run(secs(2));
    let (now, id, by) = (net.now, net.id(2), net.id(1));
    let request = net.node(1).request(now, id, Bytes::from_static(b"?"), None).unwrap();
    net.run(secs(1));
    let token = |event| if let Event::Request { token, .. } = event { Some(token) } else { None };
    let token = net.take_events(2).into_iter().find_map(token).unwrap();
    let (now, link) = (net.now, net.node(2).remotes[&by].current.unwrap());
    net.node(2).close(now, link, CloseCode::Superseded);
    net.run(secs(1));
    assert!(!linked(&mut net, 2, 1));
    let now = net.now;
    net.node(2).reply(now, token, Ok(Bytes::from_static(b"!"))).unwrap();
    net.run(secs(1));
    let reply = Event::Reply { request, from: id, result: Ok(Bytes::from_static(b"!")) };
    assert!(net.take_events(1).contains(&reply));
}

#[test]
fn a_stream_that_is_opened_as_both_ends_dial_survives() {
    for seed in 100..116 {
        let mut net = Net::cluster(1, 1);
        net.run(secs(2));
        let newcomer = net.add(Role::Peer, |start| {
            start.introducers = vec![address(0)];
            start.identity = Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32]));
        });
        while !net.nodes[newcomer].events.iter().any(|event| matches!(event, Event::PeerUp { .. })) {
            net.run(Duration::from_millis(1));
        }
        net.run(Duration::from_millis(u64::from(seed % 8) * 5));
        let stream = open(&mut net, newcomer, 1).unwrap();
        net.run(secs(1));
        let events = net.take_events(newcomer);
        assert!(!events.iter().any(|event| matches!(event, Event::StreamReset { .. })), "{seed}");
        let now = net.now;
        assert_eq!(net.node(newcomer).stream_write(now, stream, b"x"), Ok(1), "{seed}");
    }
}
