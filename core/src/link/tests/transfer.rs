//! Bulk data over paths that come and go.

use super::world::*;
use crate::path::PathKind::{Direct, Relayed};

const MIB: u64 = 1024 * 1024;

#[test]
fn sixty_four_mib_cross_one_path() {
    let mut world = World::new(1, vec![Path::new(Direct, ms(1)).megabits(1000, 500_000)]);
    world.connect();
    world.sides[DIALLER].bulk.insert(0, (64 * MIB, 0));
    let started = world.now;
    assert!(world.run_until(ms(20_000), |world| world.received(ANSWERER) == 64 * MIB));
    println!("64 MiB in {:?}, {:?}", world.now - started, world.sides[DIALLER].link().stats());
    assert_eq!(world.sides[ANSWERER].lost(), None);
}

/// Every 2 s the path in use dies for a second; the rates in MB/s, second by second.
fn deaths(seed: u8, megabits: u64, delay: u64, queue: u64, lanes: u8, total: u64) -> Vec<f64> {
    let path = || Path::new(Relayed, ms(delay)).megabits(megabits, queue);
    let mut world = World::new(seed, vec![path(), path()]);
    world.connect();
    world.run_for(ms(200));
    for lane in 0..lanes {
        world.sides[DIALLER].bulk.insert(lane, (total / u64::from(lanes), 0));
    }
    let total = total / u64::from(lanes) * u64::from(lanes);
    let mut rates = Vec::new();
    let mut dead = None;
    let started = world.now;
    for second in 0..60 {
        if let Some(route) = dead.take() {
            world.paths[usize::from(route)].up = [true; 2];
        }
        let before = world.received(ANSWERER);
        let moment = world.now;
        if second % 2 == 1 {
            let route = world.sides[DIALLER].link().route().unwrap();
            world.paths[usize::from(route)].up = [false; 2];
            dead = Some(route);
        }
        let done = world.run_until(ms(1000), |world| world.received(ANSWERER) == total);
        let took = (world.now - moment).as_secs_f64().max(0.001);
        rates.push((world.received(ANSWERER) - before) as f64 / took / 1e6);
        if done {
            break;
        }
    }
    for side in &world.sides {
        assert_eq!(side.lost(), None);
    }
    let stats = world.sides[DIALLER].link().stats();
    println!(
        "{megabits} Mbit/s, {delay} ms, queue {queue}, {lanes} lanes: {total} bytes in {:?}, longest stall {:?}\n  MB/s {}\n  {stats:?}",
        world.now - started,
        world.sides[ANSWERER].longest_stall,
        rates.iter().map(|rate| format!("{rate:.1}")).collect::<Vec<_>>().join(" "),
    );
    assert_eq!(world.received(ANSWERER), total, "not all arrived");
    assert!(world.sides[ANSWERER].longest_stall <= ms(1000));
    rates
}

#[test]
fn a_path_death_every_two_seconds_kills_no_transfer_at_100_megabits() {
    deaths(2, 100, 5, 125_000, 1, 64 * MIB);
}

#[test]
fn a_path_death_every_two_seconds_kills_no_transfer_at_a_gigabit() {
    deaths(3, 1000, 2, 500_000, 4, 512 * MIB);
}

#[test]
fn the_same_with_long_queues() {
    deaths(4, 100, 20, 1_000_000, 2, 64 * MIB);
    deaths(5, 1000, 10, 4_000_000, 4, 512 * MIB);
}

#[test]
fn the_same_with_short_queues() {
    deaths(6, 100, 5, 30_000, 1, 64 * MIB);
    deaths(7, 1000, 1, 60_000, 4, 256 * MIB);
}
