//! Paths that die under load.

use std::time::Duration;

use super::world::{World, ms};
use crate::path::{
    PathEvent,
    PathKind::{Direct, Punched, Relayed},
};

const SECOND: Duration = Duration::from_secs(1);

/// Data flows both ways or one way over link 1 (direct), which dies in the given directions; link 2 (relayed) lives.
fn die(delays: [u64; 2], streams: [bool; 2], up: [bool; 2]) -> World {
    let mut world = World::new(&[(1, Direct, delays[0]), (2, Relayed, delays[1])]);
    for (end, streams) in streams.into_iter().enumerate() {
        if streams {
            world.stream(end, Some(ms(5)));
        }
    }
    world.run(Duration::from_secs(20));
    world.set_up(1, up);
    world.run(Duration::from_secs(5));
    world
}

#[test]
fn a_path_that_dies_under_load_is_left_within_a_second() {
    for delays in [[1, 1], [1, 40], [10, 20], [40, 20], [80, 80], [100, 100]] {
        for up in [[false, false], [true, false], [false, true]] {
            for streams in [[true, false], [false, true], [true, true]] {
                let world = die(delays, streams, up);
                for (from, _) in streams.into_iter().enumerate().filter(|(_, streams)| *streams) {
                    let blackout = world.blackout(1 - from, Duration::from_secs(15));
                    let case = format!("{delays:?} ms, {up:?}, from {from} of {streams:?}: {blackout:?}");
                    assert!(blackout <= ms(300) + ms(4 * delays[1]) + ms(20), "{case}");
                    assert!(blackout <= SECOND, "{case}");
                }
                let used = world.ends.each_ref().map(|end| (end.best(), end.switches(), end.is_dead()));
                assert_eq!(used, [(2, 1, false); 2], "{delays:?} ms, {up:?}, {streams:?}");
            }
        }
    }
}

#[test]
fn silence_doubles_and_the_switch_waits_for_an_answer() {
    let mut world = World::new(&[(1, Direct, 20), (2, Relayed, 30)]);
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(5));
    world.set_up(1, [false; 2]);
    world.run(ms(100));
    assert_eq!(world.ends[0].set.routes(world.now).unwrap().double, None, "three round trips are not over");
    world.run(ms(70));
    let routes = world.ends[0].set.routes(world.now).unwrap();
    assert_eq!((routes.best, routes.double), (1, Some(2)));
    world.run(ms(100));
    let routes = world.ends[0].set.routes(world.now).unwrap();
    assert_eq!((routes.best, routes.double), (2, None));
}

#[test]
fn the_next_best_path_may_be_dead_too() {
    let mut world = World::new(&[(1, Direct, 10), (2, Punched, 10), (3, Relayed, 30)]);
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(5));
    world.set_up(1, [false; 2]);
    world.set_up(2, [false; 2]);
    world.run(Duration::from_secs(3));
    assert_eq!(world.ends.each_ref().map(|end| end.best()), [3, 3]);
    let blackout = world.blackout(1, Duration::from_secs(3));
    assert!(blackout <= SECOND, "{blackout:?}");
}

#[test]
fn a_stall_of_the_path_in_use_moves_nothing() {
    let mut world = World::new(&[(1, Direct, 20), (2, Relayed, 5)]);
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(5));
    let before = world.ends[0].switches();
    for _ in 0..20 {
        world.set_up(1, [false; 2]);
        world.run(ms(90));
        world.set_up(1, [true; 2]);
        world.run(ms(1_000));
    }
    assert_eq!((world.ends[0].best(), world.ends[0].switches()), (1, before));
}

#[test]
fn loss_moves_nothing_and_kills_nothing() {
    let mut world = World::new(&[(1, Direct, 20), (2, Relayed, 25)]);
    world.run(ms(500));
    for wire in world.wires.values_mut() {
        wire.ways[0].loss_percent = 10;
        wire.ways[1].loss_percent = 10;
    }
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(60));
    assert!(world.ends.iter().all(|end| end.best() == 1 && end.switches() == 0 && !end.is_dead()));
}

#[test]
fn an_only_path_is_kept_through_an_outage_and_not_for_ever() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(5));
    world.set_up(1, [false; 2]);
    world.run(Duration::from_secs(4));
    assert!(world.ends[0].set.routes(world.now).unwrap().double.is_none());
    world.set_up(1, [true; 2]);
    world.run(Duration::from_secs(5));
    assert!(world.ends.iter().all(|end| end.events.is_empty()), "nothing happened");
    let cut = world.elapsed();
    world.set_up(1, [false; 2]);
    world.run(Duration::from_secs(7));
    let (at, event) = world.ends[0].events[0];
    assert_eq!(event, PathEvent::Dead);
    assert!(at > cut + Duration::from_secs(4) && at < cut + Duration::from_secs(6), "{:?}", at - cut);
}

#[test]
fn after_death_nothing_is_sent_taken_or_due() {
    let mut world = World::new(&[(1, Relayed, 20)]);
    world.set_up(1, [false; 2]);
    world.stream(0, Some(ms(50)));
    world.run(Duration::from_secs(40));
    let recorded = world.ends[1].probes[0].2.clone();
    let (now, set) = (world.now, &mut world.ends[0].set);
    set.retry_now(now);
    set.challenge(now);
    set.add_candidate(now, 9, Direct);
    assert!(!set.receive_probe(now, 1, Relayed, &recorded));
    assert_eq!((set.deadline(), set.poll_transmit(now, &mut Vec::new()), set.poll_event()), (None, None, None));
}

#[test]
fn a_process_that_slept_asks_before_it_calls_the_link_dead() {
    for load in [false, true] {
        let mut world = World::new(&[(1, Relayed, 20)]);
        if load {
            world.stream(0, Some(ms(5)));
            world.stream(1, Some(ms(5)));
        }
        world.run(Duration::from_secs(5));
        world.ends[0].paused = true;
        world.run(Duration::from_secs(4));
        world.resume(0);
        world.run(Duration::from_secs(5));
        assert!(world.ends.iter().all(|end| !end.is_dead()));
        world.ends[0].paused = true;
        world.ends[1].paused = true;
        world.run(Duration::from_secs(600));
        world.resume(0);
        world.resume(1);
        world.run(Duration::from_secs(5));
        assert!(world.ends.iter().all(|end| !end.is_dead()), "both slept");
    }
}

#[test]
fn a_new_mapping_of_the_nat_is_followed() {
    let mut world = World::new(&[(1, Punched, 20)]);
    world.stream(0, Some(ms(5)));
    world.run(Duration::from_secs(5));
    world.wires.get_mut(&1).unwrap().names = [1, 9];
    world.run(Duration::from_secs(5));
    assert_eq!(world.ends.each_ref().map(|end| (end.best(), end.is_dead())), [(1, false), (9, false)]);
}

#[test]
fn the_end_that_hears_of_doubt_follows_without_data_of_its_own() {
    let world = die([10, 20], [true, false], [true, false]);
    assert_eq!(world.ends[1].best(), 2, "its acknowledgements would be lost else");
    assert!(world.ends[1].events.last().unwrap().0 < Duration::from_secs(21));
}

#[test]
fn ends_that_use_different_paths_notice_the_death_of_either() {
    for dead in [1, 2] {
        for up in [[false, false], [true, false], [false, true]] {
            let mut world = World::new(&[(1, Relayed, 20), (2, Relayed, 21)]);
            world.run(Duration::from_secs(1));
            world.ends[1].set.active = world.ends[1].set.candidate(&2).map(|candidate| candidate.id);
            world.stream(0, Some(ms(5)));
            world.run(Duration::from_secs(5));
            assert_eq!(world.ends.each_ref().map(|end| end.best()), [1, 2]);
            world.set_up(dead, up);
            world.run(Duration::from_secs(30));
            assert_eq!(world.ends.each_ref().map(|end| (end.best(), end.is_dead())), [(3 - dead, false); 2], "{up:?}");
            let blackout = world.blackout(1, Duration::from_secs(3));
            assert!(blackout <= ms(400), "{dead} {up:?} {blackout:?}");
        }
    }
}

#[test]
fn an_answer_that_was_held_up_does_not_make_the_next_death_long() {
    let mut world = World::new(&[(1, Direct, 10), (2, Relayed, 20)]);
    world.run(Duration::from_secs(13));
    world.ends[1].paused = true;
    world.run(ms(2_500));
    world.resume(1);
    world.run(ms(500));
    world.stream(0, Some(ms(5)));
    world.run(ms(500));
    world.set_up(world.ends[0].best(), [false; 2]);
    world.run(Duration::from_secs(3));
    let blackout = world.blackout(1, Duration::from_secs(17));
    assert!(blackout <= ms(300), "{blackout:?}");
}

#[test]
fn even_a_slow_path_that_dies_holds_data_up_for_a_second_at_most() {
    for delay in [150, 200, 300, 450] {
        let world = die([delay, 50], [true, true], [false, false]);
        for end in 0..2 {
            let blackout = world.blackout(end, Duration::from_secs(15));
            assert!(blackout <= SECOND, "{delay} ms: {blackout:?}");
        }
    }
}
