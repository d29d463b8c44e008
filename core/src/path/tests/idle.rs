//! Heartbeats, schedules, and the death of a link that nobody uses.

use std::time::Duration;

use super::world::{World, ms};
use crate::path::{
    FULL_SIZE, PathEvent,
    PathKind::{Direct, Punched, Relayed},
};

#[test]
fn an_idle_link_beats_seldom_on_each_path() {
    let mut world = World::new(&[(1, Relayed, 20), (2, Direct, 5)]);
    world.run(Duration::from_secs(5));
    let before = world.ends[0].probes.len();
    world.run(Duration::from_secs(600));
    for route in [1, 2] {
        let sent = world.ends[0].probes[before..].iter().filter(|probe| probe.1 == route);
        let sizes: Vec<_> = sent.map(|probe| probe.2.len()).collect();
        // silences of 15 to 22 s, then of 22 s
        assert!((52..=62).contains(&sizes.len()), "28 pings and 28 answers, not {}", sizes.len());
        assert!(sizes.iter().all(|size| *size < 100), "heartbeats are small");
    }
    assert!(world.ends.iter().all(|end| end.switches() == 1 && !end.is_dead()));
}

#[test]
fn traffic_both_ways_replaces_heartbeats() {
    let mut world = World::new(&[(1, Direct, 5)]);
    world.run(Duration::from_secs(2));
    let before = world.ends[0].probes.len();
    world.stream(0, Some(ms(100)));
    world.stream(1, Some(ms(100)));
    world.run(Duration::from_secs(120));
    assert_eq!(world.ends.each_ref().map(|end| end.probes.len()), [before; 2]);
}

#[test]
fn a_path_that_is_idle_one_way_still_beats() {
    let mut world = World::new(&[(1, Direct, 5), (2, Relayed, 5)]);
    world.stream(0, Some(ms(100)));
    world.run(Duration::from_secs(60));
    let beats =
        world.ends[1].probes.iter().filter(|(at, route, _)| *route == 1 && *at > Duration::from_secs(5)).count();
    assert!((3..10).contains(&beats), "who only receives has no evidence of its own direction: {beats}");
}

#[test]
fn an_idle_link_is_dead_within_thirty_seconds() {
    let mut world = World::new(&[(1, Relayed, 20), (2, Relayed, 40), (3, Direct, 5)]);
    // the silences have grown as far as they may
    world.run(Duration::from_secs(300));
    for route in [1, 2, 3] {
        world.set_up(route, [false; 2]);
    }
    world.run(Duration::from_secs(30));
    for end in &world.ends {
        let (at, event) = *end.events.last().unwrap();
        assert_eq!(event, PathEvent::Dead);
        assert!(at > Duration::from_secs(303), "{at:?}");
    }
}

#[test]
fn an_idle_link_leaves_a_dead_path() {
    let mut world = World::new(&[(1, Direct, 5), (2, Relayed, 20)]);
    world.run(Duration::from_secs(100));
    world.set_up(1, [true, false]);
    world.run(Duration::from_secs(20));
    assert_eq!(world.ends.each_ref().map(|end| (end.best(), end.is_dead())), [(2, false); 2]);
}

#[test]
fn a_standby_path_that_died_is_not_doubled_on_and_comes_back() {
    let mut world = World::new(&[(1, Direct, 5), (2, Punched, 5), (3, Relayed, 20)]);
    world.run(Duration::from_secs(10));
    world.set_up(2, [false; 2]);
    world.run(Duration::from_secs(20));
    assert!(!world.ends[0].candidate(2).is_proven());
    assert_eq!(world.ends[0].best(), 1, "nothing else was touched");
    let now = world.now;
    world.ends[0].set.challenge(now);
    assert_eq!(world.ends[0].set.routes(now).unwrap().double, Some(3));
    world.set_up(2, [true; 2]);
    world.run(Duration::from_secs(70));
    assert!(world.ends[0].candidate(2).is_proven());
}

#[test]
fn a_silent_candidate_is_probed_as_the_schedule_says() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.run(Duration::from_secs(1));
    let (now, start) = (world.now, world.elapsed());
    world.ends[0].set.add_candidate(now, 7, Direct);
    world.run(Duration::from_secs(800));
    let probes = world.ends[0].probes.iter().filter(|(_, route, _)| *route == 7);
    let (times, sizes): (Vec<_>, Vec<_>) =
        probes.map(|(at, _, bytes)| ((*at - start).as_millis(), bytes.len())).unzip();
    let expected = [0, 20, 50, 100, 200, 400, 800, 1_600, 2_600, 6_600, 22_600, 86_600, 386_600, 686_600];
    assert_eq!(times, expected);
    assert!(sizes.iter().all(|size| *size == FULL_SIZE));
}

#[test]
fn a_network_change_probes_everything_at_once() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.run(Duration::from_secs(1));
    let now = world.now;
    world.ends[0].set.add_candidate(now, 7, Direct);
    world.run(Duration::from_secs(100));
    let before = world.ends[0].probes.len();
    let now = world.now;
    world.ends[0].set.retry_now(now);
    world.run(ms(10));
    let mut routes: Vec<_> = world.ends[0].probes[before..].iter().map(|probe| probe.1).collect();
    routes.sort_unstable();
    assert_eq!(routes, [1, 7]);
}

#[test]
fn a_challenge_shows_whether_the_other_end_lives() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.run(Duration::from_secs(10));
    let asked = world.now;
    world.ends[0].set.challenge(asked);
    assert!(world.ends[0].set.last_answer() < Some(asked));
    world.run(ms(50));
    assert!(world.ends[0].set.last_answer() >= Some(asked));
    assert!(world.ends[0].set.routes(world.now).unwrap().double.is_none(), "the doubt is over");
    world.set_up(1, [false; 2]);
    let (asked, sent) = (world.now, world.ends[0].probes.len());
    world.ends[0].set.challenge(asked);
    world.run(ms(1_000));
    assert!(world.ends[0].set.last_answer() < Some(asked));
    assert!(world.ends[0].probes.len() - sent >= 3, "three probes within a second");
}

#[test]
fn what_arrives_restarts_the_probes_of_a_silent_candidate() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.run(Duration::from_secs(1));
    world.wire(7, Punched, 10);
    let now = world.now;
    world.ends[0].set.add_candidate(now, 7, Punched);
    world.set_up(7, [false, true]);
    world.run(Duration::from_secs(100));
    world.set_up(7, [true; 2]);
    let now = world.now;
    world.ends[1].set.add_candidate(now, 7, Punched);
    world.run(ms(100));
    assert!(world.ends.iter().all(|end| end.best() == 7), "the next probe of the schedule is minutes away");
}
