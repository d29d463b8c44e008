//! Forged, replayed, copied and too many packets.

use std::time::Duration;

use super::world::{Packet, World, keys, ms};
use crate::path::{
    FULL_SIZE, PathEvent,
    PathKind::{Direct, Relayed},
    probe::{MIN_PROBE, Probe, ProbeKind},
};

fn ping(counter: u64, size: usize) -> Vec<u8> {
    let mut packet = Vec::new();
    let probe = Probe { counter, path: 40, kind: ProbeKind::Ping, doubt: false, reports: Vec::new() };
    probe.seal(&keys()[1], size, &mut packet);
    packet
}

#[test]
fn replayed_probes_keep_nothing_alive() {
    let mut world = World::new(&[(1, Direct, 10)]);
    world.run(Duration::from_secs(60));
    let recorded: Vec<_> = world.ends[1].probes.iter().map(|probe| probe.2.clone()).collect();
    assert!(recorded.len() > 5);
    world.set_up(1, [false; 2]);
    let cut = world.elapsed();
    for _ in 0..300 {
        world.run(ms(100));
        for packet in &recorded {
            world.receive(0, 1, Direct, Packet::Probe(packet.clone()));
        }
    }
    let (at, event) = *world.ends[0].events.last().unwrap();
    assert_eq!(event, PathEvent::Dead);
    assert!(at < cut + Duration::from_secs(22), "{:?}", at - cut);
}

#[test]
fn a_forged_packet_moves_no_path_and_makes_no_candidate() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let (now, set) = (world.now, &mut world.ends[0].set);
    let mut forged = ping(1 << 40, FULL_SIZE);
    forged[FULL_SIZE - 1] ^= 1;
    let deadline = set.deadline();
    assert!(!set.receive_probe(now, 9, Direct, &forged));
    assert!(!set.receive_probe(now, 9, Direct, &[0x80; 60]));
    assert!(!set.receive_probe(now, 1, Direct, &[]));
    assert_eq!((set.candidates().count(), set.deadline(), set.poll_event()), (1, deadline, None));
}

#[test]
fn one_copied_packet_moves_nothing_and_draws_three_times_its_size_at_most() {
    for size in [MIN_PROBE, 400, FULL_SIZE] {
        let mut world = World::new(&[(1, Relayed, 10)]);
        world.run(Duration::from_secs(1));
        let now = world.now;
        assert!(world.ends[0].set.receive_probe(now, 9, Direct, &ping(1 << 40, size)));
        world.run(Duration::from_secs(60));
        let drawn: usize = world.ends[0].probes.iter().filter(|probe| probe.1 == 9).map(|probe| probe.2.len()).sum();
        assert!(drawn >= size && drawn <= 3 * size, "{size} bytes drew {drawn}");
        assert_eq!((world.ends[0].best(), world.ends[0].switches()), (1, 0));
        assert!(world.ends[0].set.candidate(&9).is_none(), "it is forgotten");
    }
}

#[test]
fn a_short_packet_from_an_unknown_source_is_answered_and_proven_in_two_steps() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    world.wire(9, Direct, 5);
    let (now, set) = (world.now, &mut world.ends[0].set);
    set.learn(now, 9, Direct);
    set.note_received(now, 9, 60, true);
    world.run(ms(100));
    assert!(world.ends.iter().all(|end| end.best() == 9));
}

#[test]
fn a_flood_of_pings_is_answered_within_a_budget() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let before = world.ends[0].probes.len();
    for step in 0..1_000u64 {
        for packet in 0..20 {
            world.receive(0, 1, Relayed, Packet::Probe(ping((1 << 40) + step * 20 + packet, FULL_SIZE)));
        }
        world.run(ms(1));
    }
    let answers = world.ends[0].probes.len() - before;
    assert!((200..=270).contains(&answers), "{answers} answers to 20,000 pings in a second");
}

#[test]
fn a_flood_of_pings_from_made_up_sources_is_bounded_too() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let before = world.ends[0].probes.len();
    for step in 0..10_000u64 {
        let route = 10 + (step % 240) as u8;
        world.receive(0, route, Direct, Packet::Probe(ping((1 << 40) + step, FULL_SIZE)));
        if step % 10 == 9 {
            world.run(ms(1));
        }
    }
    let sent = world.ends[0].probes.len() - before;
    assert!(sent <= 3_000, "{sent} probes caused in a second");
    assert!(world.ends[0].set.candidates().count() <= 16);
    assert_eq!(world.ends[0].best(), 1);
}

#[test]
fn pings_that_nobody_fetches_the_answers_of_take_bounded_memory() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let (now, set) = (world.now, &mut world.ends[0].set);
    for step in 0..100_000u64 {
        set.receive_probe(now + ms(step), 1, Relayed, &ping((1 << 40) + step, MIN_PROBE));
    }
    let mut answers = 0;
    while set.poll_transmit(now + ms(100_000), &mut Vec::new()).is_some() {
        answers += 1;
    }
    assert!(answers < 40, "{answers}");
}

#[test]
fn an_end_that_always_alarms_moves_nothing() {
    let mut world = World::new(&[(1, Direct, 10), (2, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let before = (world.ends[0].probes.len(), world.ends[0].switches());
    for step in 0..1_000u64 {
        let mut packet = Vec::new();
        let counter = (1 << 40) + step;
        let probe = Probe { counter, path: 40, kind: ProbeKind::Ping, doubt: true, reports: Vec::new() };
        probe.seal(&keys()[1], MIN_PROBE, &mut packet);
        world.receive(0, 1, Direct, Packet::Probe(packet));
        world.run(ms(10));
    }
    let pings = world.ends[0].probes[before.0..].iter().filter(|probe| probe.2.len() == FULL_SIZE).count();
    assert!(pings < 150, "{pings} full probes in ten seconds");
    assert_eq!((world.ends[0].best(), world.ends[0].switches()), (1, before.1));
}

#[test]
fn an_answer_that_came_another_way_proves_nothing() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.ends[0].set.add_candidate(now, 9, Direct);
    world.run(ms(1));
    let asked = world.ends[0].candidate(9).pings[0].counter;
    let mut pong = Vec::new();
    let probe = Probe { counter: 1 << 40, path: 0, kind: ProbeKind::Pong(asked), doubt: false, reports: Vec::new() };
    probe.seal(&keys()[1], FULL_SIZE, &mut pong);
    world.receive(0, 1, Relayed, Packet::Probe(pong));
    assert!(!world.ends[0].candidate(9).is_proven());
    assert!(world.ends[0].candidate(9).confirmed.is_some(), "the other end heard it, though");
}

#[test]
fn a_short_answer_proves_nothing() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    let now = world.now;
    world.ends[0].set.add_candidate(now, 9, Direct);
    world.run(ms(1));
    let asked = world.ends[0].candidate(9).pings[0].counter;
    let mut pong = Vec::new();
    let probe = Probe { counter: 1 << 40, path: 0, kind: ProbeKind::Pong(asked), doubt: false, reports: Vec::new() };
    probe.seal(&keys()[1], FULL_SIZE - 1, &mut pong);
    world.receive(0, 9, Direct, Packet::Probe(pong));
    assert!(!world.ends[0].candidate(9).is_proven());
}
