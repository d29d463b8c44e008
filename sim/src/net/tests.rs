use std::time::Duration;

use bytes::Bytes;

use super::*;
use crate::plan::{Ip, LanPlan, NodePlan, Plan};

fn plan() -> Plan {
    let mut plan = Plan::empty(1);
    let lan = |name: &str, prefix, open| LanPlan { name: name.to_owned(), prefix, open, routes_to: Vec::new() };
    plan.lans = vec![lan("home", 1, false), lan("cafe", 2, true)];
    let node = |name: &str, lan: Option<&str>, ip| NodePlan {
        lan: lan.map(str::to_owned),
        ip,
        interfaces: if name == "wide" { 2 } else { 1 },
        ..NodePlan::named(name, 0)
    };
    plan.nodes = vec![
        node("public", None, Ip::Both),
        node("h1", Some("home"), Ip::V4),
        node("h2", Some("home"), Ip::Both),
        node("c1", Some("cafe"), Ip::V4),
        node("six", None, Ip::V6),
        node("wide", None, Ip::Both),
    ];
    plan
}

/// Sends from port 1 of `from` and returns what arrives and is let in: the host, and the addresses it sees.
fn send(network: &mut Network, from: usize, to: SocketAddr) -> Option<(usize, Packet)> {
    let mut arrivals = Vec::new();
    network.send(Duration::ZERO, from, None, 1, to, 0, Bytes::from_static(b"x"), &mut arrivals);
    let (_, arrival) = arrivals.pop()?;
    network.admits(&arrival).then_some((arrival.host, arrival.packet))
}

fn address(network: &Network, host: usize, ipv6: bool) -> SocketAddr {
    SocketAddr::new(network.public_address(host, ipv6).unwrap(), 1)
}

#[test]
fn a_closed_gateway_translates_and_lets_in_only_what_was_sent_to() {
    let mut network = Network::new(&plan());
    let public = address(&network, 0, false);
    let (host, packet) = send(&mut network, 1, public).unwrap();
    assert_eq!((host, packet.to), (0, public));
    assert_eq!(packet.from.ip(), IpAddr::from([46, 0, 0, 1]));
    let (host, answer) = send(&mut network, 0, packet.from).unwrap();
    assert_eq!((host, answer.to), (1, address(&network, 1, false)));
    assert_eq!(send(&mut network, 5, packet.from), None, "nothing was sent there");
}

#[test]
fn an_open_gateway_lets_everybody_in_by_a_port_that_is_in_use() {
    let mut network = Network::new(&plan());
    let public = address(&network, 0, false);
    let (_, packet) = send(&mut network, 3, public).unwrap();
    assert!(send(&mut network, 5, packet.from).is_some());
    assert_eq!(send(&mut network, 5, SocketAddr::new(packet.from.ip(), 9)), None);
}

#[test]
fn private_addresses_lead_nowhere_but_in_their_own_lan() {
    let mut network = Network::new(&plan());
    let (h2, c1) = (address(&network, 2, false), address(&network, 3, false));
    assert_eq!(send(&mut network, 1, h2).unwrap().0, 2);
    assert_eq!(send(&mut network, 1, c1), None);
    assert_eq!(send(&mut network, 0, h2), None);
    let mut routed = plan();
    routed.lans[0].routes_to.push("cafe".to_owned());
    assert_eq!(send(&mut Network::new(&routed), 1, c1).unwrap().0, 3);
}

#[test]
fn overlapping_lans_have_the_same_addresses() {
    let mut plan = plan();
    plan.lans[1].prefix = 1;
    let mut network = Network::new(&plan);
    let (h1, c1) = (address(&network, 1, false), address(&network, 3, false));
    assert_eq!(h1, c1);
    assert_eq!(send(&mut network, 2, c1).unwrap().0, 1);
}

#[test]
fn neighbours_meet_at_their_public_address() {
    let mut network = Network::new(&plan());
    let public = address(&network, 0, false);
    let one = send(&mut network, 1, public).unwrap().1.from;
    let two = send(&mut network, 2, public).unwrap().1.from;
    assert_eq!(send(&mut network, 1, two).unwrap().0, 2);
    assert_eq!(send(&mut network, 2, one).unwrap().0, 1);
}

#[test]
fn families_do_not_mix_and_a_dead_interface_neither_sends_nor_receives() {
    let mut network = Network::new(&plan());
    let (public6, public4) = (address(&network, 0, true), address(&network, 0, false));
    assert_eq!(send(&mut network, 4, public6).unwrap().0, 0);
    assert_eq!(send(&mut network, 4, public4), None);
    network.set_interface(0, 0, false);
    assert_eq!(send(&mut network, 4, public6), None);
    assert!(network.addresses(0).is_empty());
    network.set_interface(5, 0, false);
    network.heal();
    network.set_interface(5, 0, false);
    assert_eq!(send(&mut network, 5, public4).unwrap().1.from.ip(), IpAddr::from([45, 1, 0, 5]));
}

#[test]
fn an_effect_lasts_from_its_begin_to_its_end_and_the_unreachable_stays_so() {
    let mut blocked = plan();
    blocked.unreachable.push(Selector::way("public", "wide", false));
    let mut network = Network::new(&blocked);
    let (public, wide) = (address(&network, 0, false), address(&network, 5, false));
    network.begin(7, &Selector::way("wide", "public", false), Effect::Block);
    assert_eq!(send(&mut network, 5, public), None);
    network.end(7);
    assert!(send(&mut network, 5, public).is_some());
    network.heal();
    assert_eq!(send(&mut network, 0, wide), None);
}

#[test]
fn a_packet_that_does_not_arrive_as_it_was_sent_says_so() {
    let mut network = Network::new(&plan());
    let public = address(&network, 0, false);
    let mut altered = || {
        let mut arrivals = Vec::new();
        network.send(Duration::ZERO, 5, None, 1, public, 0, Bytes::from_static(b"x"), &mut arrivals);
        let altered = arrivals[0].1.altered;
        network.begin(7, &Selector::default(), Effect::Corrupt(1_000_000));
        altered
    };
    assert_eq!([altered(), altered()], [false, true]);
}
