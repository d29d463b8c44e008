//! Links: who meets whom, by which way, and exactly once.

use std::time::Duration;

use p2pcore::{
    Config, Event,
    node::{Outcome, PathKind},
};
use sim::{plan::LinkModel, scenario::Scenario};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn three_servers_and_two_peers_come_together_and_talk() {
    let mut world = Scenario::new(1).server("s1").server("s2").server("s3").peer("p1").peer("p2").start();
    world.expect("all are linked and every table is true", secs(10), |world| world.converged());
    let sent = world.send("p1", "p2", 64);
    assert!(world.ask("p2", "s3", 64));
    world.expect("delivery", secs(1), |world| world.outcome(sent) == Some(Outcome::Delivered));
    assert_eq!(world.kind("p1", "p2"), Some(PathKind::Direct));
    world.assert_clean();
}

/// 46 peers are 1,035 pairs, and all of them dial from both ends at the same moment.
#[test]
fn a_thousand_simultaneous_dials_make_one_link_each() {
    const PEERS: usize = 46;
    let same = LinkModel { delay_us: (20_000, 20_000), jitter_us: 0, ..LinkModel::default() };
    let mut world = Scenario::new(2).server("s1").peers("p", PEERS).links(same).start();
    let names: Vec<String> = (1..=PEERS).map(|n| format!("p{n}")).collect();
    let known = |world: &mut sim::world::World| {
        names.iter().all(|name| world.status(name).is_some_and(|s| s.peers.len() == PEERS - 1))
    };
    world.expect("all know all", secs(10), known);
    let mut sent = Vec::new();
    for from in &names {
        sent.extend(
            names.iter().filter(|to| *to != from).map(|to| (from, to)).map(|(from, to)| world.send(from, to, 64)),
        );
    }
    world.expect("full mesh", secs(20), |world| world.converged());
    world.expect("nothing is lost", secs(20), |world| {
        sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered))
    });
    for name in &names {
        assert_eq!(world.links(name), PEERS, "{name} has one link to each peer and to the server");
    }
    world.assert_clean();
}

/// 1,000 peers that all come in the same instant to one server.
#[test]
fn a_thousand_peers_join_one_server_at_once() {
    const PEERS: usize = 1_000;
    let mut world = Scenario::new(3).server("s1").peers("p", PEERS).start();
    let joined = |world: &mut sim::world::World| world.status("s1").is_some_and(|status| status.clients.len() == PEERS);
    world.expect("all are in table A", secs(30), joined);
    world.assert_clean();
}

#[test]
fn two_peers_with_ipv6_only_go_straight() {
    let mut world = Scenario::new(4).server("s1").ipv6_only().peer("p1").ipv6_only().peer("p2").ipv6_only().start();
    world.expect("convergence", secs(10), |world| world.converged());
    world.expect("a direct path", secs(10), |world| world.kind("p1", "p2") == Some(PathKind::Direct));
    let sent = world.send("p1", "p2", 100_000);
    world.expect("delivery", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn peers_of_different_families_meet_through_a_server() {
    let mut world = Scenario::new(5).server("s1").peer("p4").ipv4_only().peer("p6").ipv6_only().start();
    world.expect("convergence", secs(10), |world| world.converged());
    assert_eq!(world.kind("p4", "p6"), Some(PathKind::Relayed));
    assert_eq!(world.via("p4", "p6").as_deref(), Some("s1"));
    let sent = world.send("p4", "p6", 1_000);
    world.expect("delivery", secs(2), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn peers_of_one_lan_go_straight_and_those_of_another_do_not_take_their_place() {
    let scenario = Scenario::new(6).server("s1").peer("h1").in_lan("home").peer("h2").in_lan("home");
    let mut world = scenario.peer("c1").in_lan("cafe").ipv4_only().start();
    world.expect("convergence", secs(20), |world| world.converged());
    world.expect("a direct path at home", secs(10), |world| world.kind("h1", "h2") == Some(PathKind::Direct));
    let sent = ["h1", "h2"].map(|from| world.send(from, "c1", 500));
    world.expect("delivery", secs(5), |world| sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered)));
    world.assert_clean();
}

#[test]
fn a_way_that_works_in_one_direction_only_is_no_way() {
    let mut world = Scenario::new(7).server("s1").peer("p1").peer("p2").deaf("p2", "p1").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let sent = [("p1", "p2"), ("p2", "p1")].map(|(from, to)| world.send(from, to, 1_000));
    world.expect("delivery", secs(5), |world| sent.iter().all(|sent| world.outcome(*sent) == Some(Outcome::Delivered)));
    world.run_for(secs(30));
    assert_eq!(world.kind("p1", "p2"), Some(PathKind::Relayed));
    assert_eq!(world.kind("p2", "p1"), Some(PathKind::Relayed));
    world.assert_clean();
}

#[test]
fn a_peer_that_one_server_does_not_hear_links_to_it_through_another() {
    let mut world = Scenario::new(8).server("s1").server("s2").peer("p1").peer("p2").apart("p1", "s2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    assert!(world.linked("p1", "s2"));
    let sent = world.send("p1", "s2", 1_000);
    world.expect("delivery", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.assert_clean();
}

#[test]
fn one_key_in_two_processes_is_told_to_both() {
    let scenario = Scenario::new(9).server("s1").peer("p1").peer("twin").with_key_of("p1").starting_at(secs(5));
    let mut world = scenario.start();
    let told = |world: &sim::world::World, name: &str| {
        world.seen_at(name, Duration::ZERO, |event| matches!(event, Event::DuplicateIdentity { .. })).is_some()
    };
    world.expect("both say so", secs(15), |world| told(world, "p1") && told(world, "twin"));
    world.assert_clean();
}

/// Each server has one of the holders and does not hear of the other: only a peer that is linked to both servers can know.
#[test]
fn one_key_at_two_servers_that_are_apart_is_told_to_both() {
    let scenario = Scenario::new(12).server("s1").server("s2").peer("p1").peer("p2");
    let scenario = scenario.peer("one").starting_at(secs(60)).apart("one", "s2");
    let scenario =
        scenario.peer("other").with_key_of("one").joining(&["s2"]).starting_at(secs(60)).apart("other", "s1");
    let mut world = scenario.start();
    world.run_for(secs(10));
    world.cut("s1", "s2");
    world.run_for(secs(52));
    let key = world.id("one");
    let told = |world: &sim::world::World, name: &str| {
        world.seen_at(name, Duration::ZERO, |event| matches!(event, Event::DuplicateIdentity { id, .. } if *id == key))
    };
    assert_eq!(told(&world, "s1").or(told(&world, "s2")), None);
    world.expect("both servers say so", secs(25), |world| ["s1", "s2"].iter().all(|name| told(world, name).is_some()));
    world.expect("both holders say so", secs(1), |world| {
        ["one", "other"].iter().all(|name| told(world, name).is_some())
    });
    world.assert_clean();
}

#[test]
fn relay_only_never_goes_straight() {
    let mut world = Scenario::new(10).server("s1").peer("p1").relay_only().peer("p2").start();
    world.expect("convergence", secs(20), |world| world.converged());
    let sent = world.send("p2", "p1", 50_000);
    world.expect("delivery", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    world.run_for(secs(20));
    let direct = |event: &Event| matches!(event, Event::Path { id, kind: PathKind::Direct, .. } if !id.is_server());
    assert_eq!(world.seen_at("p1", Duration::ZERO, direct), None);
    assert_eq!(world.seen_at("p2", Duration::ZERO, direct), None);
    world.assert_clean();
}

#[test]
fn garbage_of_every_first_byte_draws_nothing() {
    let mut world = Scenario::new(11).server("s1").peer("p1").start();
    world.expect("convergence", secs(10), |world| world.converged());
    for first in 0..=u8::MAX {
        for len in [0, 1, 8, 21, 64, 1_200, 1_452] {
            let mut bytes = vec![first; len];
            bytes.iter_mut().skip(1).enumerate().for_each(|(n, byte)| *byte = n as u8);
            world.stranger("s1", &bytes);
            world.stranger("p1", &bytes);
        }
        world.run_for(Duration::from_millis(20));
    }
    world.run_for(secs(2));
    assert_eq!(world.answered_to_strangers(), 0);
    assert!(world.converged());
    world.assert_clean();
}

/// As in a network of more peers than are linked to each other by themselves.
#[test]
fn a_stream_to_a_peer_without_a_link_makes_one() {
    let mut config = Config::default();
    config.full_mesh_peers = 0;
    let scenario = Scenario::new(13).config(config).server("s1").server("s2").peer("p1").in_lan("home").peer("p2");
    let mut world = scenario.start();
    let on_demand = |world: &mut sim::world::World| world.status("p1").is_some_and(|status| status.on_demand);
    world.expect("p1 on demand", secs(10), on_demand);
    world.run_for(secs(5));
    assert!(!world.linked("p1", "p2"));
    let stream = world.stream("p1", "p2", 1_000_000);
    world.expect("all bytes", secs(10), |world| world.progress(stream).complete);
    world.run_for(secs(60));
    assert!(world.linked("p1", "p2"));
    world.assert_clean();
}
