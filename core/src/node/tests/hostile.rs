//! What forged and repeated packets do not do.

use std::{net::IpAddr, time::Duration};

use bytes::BytesMut;

use super::{
    super::*,
    net::{Net, address, secs},
};
use crate::{
    PublicKey, Role,
    relay::Slot,
    table::{Bounded, NetworkInfo, PeerRow, Snapshot, Update, Version},
    wire::Control,
};

/// The source address of what node 0 sends to node 1 now.
fn source_of_the_next(net: &mut Net) -> Option<IpAddr> {
    net.send(0, 1, "answer");
    let (now, mut buf) = (net.now, Vec::new());
    let sent = std::iter::from_fn(|| net.node(0).poll_transmit(now, &mut buf)).last();
    net.run(secs(1));
    sent.unwrap().source
}

#[test]
fn a_forgery_does_not_change_where_answers_leave_from() {
    let mut net = Net::cluster(1, 1);
    net.run(secs(2));
    let [real, forged]: [IpAddr; 2] = [[192, 0, 2, 1].into(), [192, 0, 2, 99].into()];
    // the latest packet of the peer to the server, which is not delivered yet
    let capture = |net: &mut Net| {
        net.send(1, 0, "packet");
        net.exchange();
        let at = net.flying.iter().rposition(|(_, from, _, data)| *from == address(1) && data[0] & 0xc0 == 0x40);
        net.flying.remove(at.unwrap()).unwrap().3
    };
    let arrive = |net: &mut Net, data: &[u8], ip| {
        let (now, remote) = (net.now, address(1));
        let data = BytesMut::from(data);
        let segment_size = data.len();
        let datagram = Datagram { socket: SocketId(0), remote, local_ip: Some(ip), ecn: 0, data, segment_size };
        net.node(0).handle(now, Input::Datagram(datagram));
    };
    let packet = capture(&mut net);
    arrive(&mut net, &packet, real);
    assert_eq!(source_of_the_next(&mut net), Some(real));
    let mut changed = capture(&mut net);
    *changed.last_mut().unwrap() ^= 1;
    for forgery in [&changed, &packet] {
        arrive(&mut net, forgery, forged);
        assert_eq!(source_of_the_next(&mut net), Some(real));
    }
    let packet = capture(&mut net);
    arrive(&mut net, &packet, forged);
    assert_eq!(source_of_the_next(&mut net), Some(forged));
}

#[test]
fn nodes_that_were_refused_are_forgotten_and_fill_no_screen() {
    let max_sessions = 8;
    let mut net = Net::cluster_with(Config { max_sessions, ..Config::default() }, 1, 0);
    net.run(secs(1));
    for _ in 0..60 {
        let index = net.add(Role::Peer, |start| start.introducers = vec![address(0)]);
        net.node(index).cluster = Some(ClusterId([9; 16]));
        net.run(Duration::from_millis(200));
        net.kill(index);
    }
    net.run(secs(10));
    let known = net.node(0).remotes.len();
    assert!(known <= 2 * max_sessions, "{known} remembered");
    let warned = net.take_events(0).into_iter().filter(|event| matches!(event, Event::Warning(_))).count();
    assert_eq!(warned, Config::default().max_foreign, "the operator's lines are bounded");
}

#[test]
fn a_peer_cannot_say_that_a_key_has_another_holder() {
    let mut net = Net::cluster(1, 2);
    net.run(secs(2));
    let (now, victim) = (net.now, net.id(2));
    net.node(1).tell(now, victim, &Control::Duplicate(Bounded::first([address(7)])));
    net.run(secs(1));
    assert!(!net.take_events(2).iter().any(|event| matches!(event, Event::DuplicateIdentity { .. })));
    let server = net.id(0);
    assert!(net.node(2).is_linked(&server));
}

/// Whether a peer dials those that it is told of or not.
#[test]
fn a_server_that_names_new_peers_without_end_fills_no_memory() {
    for full_mesh_peers in [0, 64] {
        let config = Config { max_sessions: 16, max_links: 40, max_peers: 40, full_mesh_peers, ..Config::default() };
        let mut net = Net::cluster_with(config, 1, 1);
        net.run(secs(2));
        let peer = net.id(1);
        for round in 0..100u8 {
            let row = |number: u8| {
                let id = Id::from_key(Role::Peer, &PublicKey([round, number].repeat(16).try_into().unwrap()));
                let network = NetworkInfo::default();
                let incarnation = Incarnation { counter: 1, random: [round; 16] };
                (id, PeerRow { name: Name::default(), incarnation, network, slot: Slot::new(7, 0).unwrap() })
            };
            let version = Version { epoch: Incarnation { counter: 9, random: [9; 16] }, number: round.into() };
            let snapshot = Snapshot { version, more: false, rows: (0..30).map(row).collect() };
            let now = net.now;
            net.node(0).tell(now, peer, &Control::Directory(Update::Snapshot(snapshot)));
            // those that are gone are gone after a while
            net.run(secs(4));
            let over: Vec<_> = net.node(1).usage().into_iter().filter(|usage| usage.is_over()).collect();
            assert!(over.is_empty(), "{over:?} after {} peers", 30 * (usize::from(round) + 1));
        }
    }
}
