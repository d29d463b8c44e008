//! Which path is used while something works.

use std::time::Duration;

use super::world::{World, ms};
use crate::path::{
    CandidateState, PathEvent,
    PathKind::{Direct, Punched, Relayed},
    PathSet,
};

#[test]
fn a_better_class_wins_as_soon_as_it_is_proven() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.run(ms(500));
    world.add(2, Punched, 20);
    world.run(ms(41));
    let switched = PathEvent::Switched { route: 2, kind: Punched };
    for end in &world.ends {
        assert_eq!(end.events, [(ms(540), switched)]);
        assert_eq!((end.best(), end.set.kind(), end.set.rtt()), (2, Some(Punched), Some(ms(40))));
    }
    world.add(3, Direct, 60);
    world.run(ms(200));
    assert!(world.ends.iter().all(|end| end.best() == 3), "the class counts, not the round trip");
}

#[test]
fn nothing_is_used_before_its_probe_came_back() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.add(2, Direct, 50);
    world.run(ms(99));
    assert!(world.ends.iter().all(|end| end.best() == 1 && end.switches() == 0));
    world.run(ms(2));
    assert!(world.ends.iter().all(|end| end.best() == 2));
}

#[test]
fn a_path_that_carries_small_packets_only_is_not_used() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.wire(2, Direct, 5);
    for way in &mut world.wires.get_mut(&2).unwrap().ways {
        way.mtu = 1_199;
    }
    for end in &mut world.ends {
        end.set.add_candidate(world.now, 2, Direct);
    }
    world.run(Duration::from_secs(60));
    assert!(world.ends.iter().all(|end| end.best() == 1 && end.switches() == 0));
}

#[test]
fn a_path_that_works_one_way_is_not_used_and_is_named_so() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.wire(2, Direct, 5);
    world.set_up(2, [true, false]);
    for end in &mut world.ends {
        end.set.add_candidate(world.now, 2, Direct);
    }
    world.run(Duration::from_secs(60));
    assert!(world.ends.iter().all(|end| end.best() == 1 && end.switches() == 0));
    let state = world.ends[0].set.candidates().find(|candidate| candidate.route == 2).unwrap().state;
    assert_eq!(state, CandidateState::OneWay);
}

#[test]
fn within_a_class_a_path_must_be_faster_by_much_and_for_long() {
    for (delay, wins) in [(48, false), (46, false), (44, true), (10, true)] {
        let mut world = World::new(&[(1, Relayed, 50)]);
        world.run(ms(1_000));
        world.add(2, Relayed, delay);
        world.run(ms(1_900));
        assert_eq!(world.ends[0].switches(), 0, "not at once");
        world.run(ms(1_500));
        assert_eq!(world.ends[0].best() == 2, wins, "{delay} ms");
    }
}

#[test]
fn a_path_that_is_faster_for_a_moment_only_does_not_win() {
    let mut world = World::new(&[(1, Relayed, 50)]);
    world.run(ms(1_000));
    world.add(2, Relayed, 10);
    world.run(ms(900));
    for way in &mut world.wires.get_mut(&2).unwrap().ways {
        way.delay = ms(120);
    }
    world.run(Duration::from_secs(60));
    assert!(world.ends.iter().all(|end| end.switches() == 0));
}

#[test]
fn the_faster_path_is_noticed_under_load_too() {
    let mut world = World::new(&[(1, Relayed, 20), (2, Relayed, 20)]);
    world.stream(0, Some(ms(10)));
    world.run(Duration::from_secs(5));
    for way in &mut world.wires.get_mut(&1).unwrap().ways {
        way.delay = ms(60);
    }
    world.run(Duration::from_secs(40));
    assert_eq!(world.ends[0].best(), 2);
    assert_eq!(world.ends[0].switches(), 1);
}

#[test]
fn two_equal_paths_with_jitter_do_not_alternate() {
    let mut world = World::new(&[(1, Relayed, 30), (2, Relayed, 30)]);
    world.stream(0, Some(ms(10)));
    for round in 0..200 {
        for (route, delay) in [(1, 20 + round * 7 % 30), (2, 20 + round * 11 % 30)] {
            for way in &mut world.wires.get_mut(&route).unwrap().ways {
                way.delay = ms(delay);
            }
        }
        world.run(ms(3_100));
    }
    let switches = world.ends[0].switches();
    assert!(switches <= 20, "{switches} switches in ten minutes");
}

#[test]
fn a_removed_path_is_left_at_once_if_another_lives() {
    let mut world = World::new(&[(1, Relayed, 10), (2, Relayed, 20)]);
    world.run(ms(500));
    let now = world.now;
    world.set_up(1, [false; 2]);
    world.ends[0].set.remove_candidate(now, &1);
    assert_eq!(world.ends[0].best(), 2);
    assert!(world.ends[0].set.candidate(&1).is_none());
    world.ends[0].set.remove_candidate(now, &2);
    assert_eq!(world.ends[0].best(), 2, "the last one is used until there is another");
    world.run(Duration::from_secs(20));
    assert!(!world.ends[0].is_dead(), "it still answers");
    world.add(3, Relayed, 30);
    world.run(ms(100));
    assert_eq!(world.ends[0].best(), 3);
    assert!(world.ends[0].set.candidate(&2).is_none());
}

#[test]
fn a_route_known_under_another_kind_is_renamed() {
    let mut world = World::new(&[(1, Punched, 10)]);
    world.run(ms(500));
    let now = world.now;
    assert!(world.ends[0].set.add_candidate(now, 1, Direct));
    assert_eq!(world.ends[0].set.kind(), Some(Direct));
    assert_eq!(world.ends[0].set.poll_event(), Some(PathEvent::Switched { route: 1, kind: Direct }));
}

#[test]
fn a_path_that_comes_and_goes_is_tried_ever_more_seldom() {
    let mut world = World::new(&[(1, Relayed, 20), (2, Direct, 5)]);
    world.stream(0, Some(ms(5)));
    world.stream(1, Some(ms(5)));
    world.run(Duration::from_secs(2));
    let from = world.elapsed();
    for _ in 0..60 {
        world.set_up(2, [false; 2]);
        world.run(ms(1_000));
        world.set_up(2, [true; 2]);
        world.run(ms(1_000));
    }
    for end in 0..2 {
        let switches = world.ends[end].switches();
        assert!(switches <= 16, "{switches} switches in two minutes");
        assert!(world.blackout(end, from) <= ms(1_000), "{:?}", world.blackout(end, from));
    }
    world.run(Duration::from_secs(80));
    assert!(world.ends.iter().all(|end| end.best() == 2), "once it stays, it is used");
}

#[test]
fn a_long_round_trip_is_no_reason_to_leave_a_better_class() {
    let mut world = World::new(&[(1, Relayed, 30), (2, Direct, 300)]);
    world.run(Duration::from_secs(3));
    let before = world.ends[0].switches();
    world.stream(0, Some(ms(10)));
    world.run(Duration::from_secs(30));
    assert_eq!((world.ends[0].best(), world.ends[0].switches()), (2, before));
}

#[test]
fn the_end_that_did_not_dial_holds_back_too() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.wire(2, Direct, 5);
    let now = world.now;
    world.ends[0].set.add_candidate(now, 2, Direct);
    world.stream(1, Some(ms(5)));
    world.run(Duration::from_secs(2));
    assert_eq!(world.ends[1].best(), 2, "learned from the probes of the other end");
    for _ in 0..30 {
        world.set_up(2, [false; 2]);
        world.run(ms(4_000));
        world.set_up(2, [true; 2]);
        world.run(ms(4_000));
    }
    let switches = world.ends[1].switches();
    assert!(switches <= 24, "{switches} switches in four minutes");
}

#[test]
fn acknowledgements_of_what_went_the_old_way_do_not_count_for_the_new_one() {
    let mut world = World::new(&[(1, Relayed, 10)]);
    world.add(2, Direct, 50);
    world.run(ms(101));
    assert_eq!(world.ends[0].best(), 2);
    let (now, set) = (world.now, &mut world.ends[0].set);
    let confirmed = |set: &PathSet<u8>| set.candidate(&2).unwrap().confirmed;
    let before = confirmed(set);
    set.note_acknowledged(now + ms(98));
    assert_eq!(confirmed(set), before);
    set.note_acknowledged(now + ms(100));
    assert_eq!(confirmed(set), Some(now + ms(100)));
}

#[test]
fn paths_that_are_only_held_up_are_left_a_few_times_at_most() {
    let mut world = World::new(&[(1, Relayed, 10), (2, Relayed, 11)]);
    for end in [0, 1] {
        world.stream(end, Some(ms(20)));
    }
    world.run(ms(5_000));
    for _ in 0..20 {
        // a queue that both paths share fills and drains
        for delay in [1_000, 10] {
            world.wires.values_mut().flat_map(|wire| &mut wire.ways).for_each(|way| way.delay = ms(delay));
            world.run(ms(2_000));
        }
    }
    let switches = world.ends.each_ref().map(|end| end.switches());
    assert!(switches.iter().all(|switches| *switches <= 6), "{switches:?}");
    let (best, cut) = (world.ends[0].best(), world.elapsed());
    world.set_up(best, [false; 2]);
    world.run(ms(10_000));
    assert!(world.ends.iter().all(|end| end.best() != best && !end.is_dead()));
    assert!(world.blackout(1, cut) <= ms(5_000), "a death is found still: {:?}", world.blackout(1, cut));
}

#[test]
fn a_path_that_rests_gives_way_to_one_of_its_kind_only() {
    let mut world = World::new(&[(1, Relayed, 10), (2, Relayed, 40)]);
    world.run(ms(1_000));
    assert_eq!(world.ends[0].best(), 1);
    let (now, until) = (world.now, world.now + ms(1_000));
    world.ends[0].set.rest(now, &1, until);
    assert_eq!(world.ends[0].best(), 2, "at once");
    world.run(ms(900));
    assert_eq!(world.ends[0].best(), 2);
    world.run(Duration::from_secs(10));
    assert_eq!(world.ends[0].best(), 1, "the faster one again, by the rule within a kind");

    let mut world = World::new(&[(1, Direct, 10), (2, Relayed, 10)]);
    world.run(ms(1_000));
    let (now, until) = (world.now, world.now + ms(1_000));
    world.ends[0].set.rest(now, &1, until);
    world.run(Duration::from_secs(5));
    assert_eq!((world.ends[0].best(), world.ends[0].switches()), (1, 0));
}

/// The other end, on a path of 1 ms, doubts in vain that its data arrives, since the answers take 105 ms: that goes on until this
/// end leaves its slow path too. A case of `properties`.
#[test]
fn alarms_of_a_faster_end_do_not_hold_back_the_comparison() {
    let links = [(0, Direct, 1), (1, Punched, 1), (2, Direct, 1), (3, Direct, 105)];
    let mut world = World::new(&links);
    world.stream(0, Some(ms(20)));
    let faults = [
        (1, 2, [false; 2], 1),
        (0, 1, [false; 2], 1),
        (104, 3, [false; 2], 1),
        (116, 0, [true, false], 77),
        (619, 0, [false; 2], 1),
    ];
    for (after, route, up, delay) in faults {
        world.run(ms(after));
        for (way, up) in world.wires.get_mut(&route).unwrap().ways.iter_mut().zip(up) {
            (way.up, way.delay) = (up, ms(delay));
        }
    }
    for (route, _, delay) in links {
        for way in &mut world.wires.get_mut(&route).unwrap().ways {
            (way.up, way.delay) = (route != 2, ms(delay));
        }
    }
    world.run(Duration::from_secs(400));
    for end in &world.ends {
        assert_eq!((end.best(), end.set.routes(world.now).unwrap().double), (0, None));
    }
}
