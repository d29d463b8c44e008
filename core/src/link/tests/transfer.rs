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

/// A transfer of 20 MB over two relayed paths of 100 Mbit/s, in the middle of which `fault` happens to the path in use;
/// the longest time in which nothing arrived.
fn stall(seed: u8, fault: impl FnOnce(&mut World, usize)) -> std::time::Duration {
    let path = |delay| Path::new(Relayed, ms(delay)).megabits(100, 125_000);
    let mut world = World::new(seed, vec![path(10), path(12)]);
    world.connect();
    world.run_for(ms(500));
    world.sides[DIALLER].bulk.insert(0, (20_000_000, 0));
    world.run_for(ms(500));
    let route = world.sides[DIALLER].link().route().unwrap();
    fault(&mut world, usize::from(route));
    assert!(world.run_until(ms(120_000), |world| world.received(ANSWERER) == 20_000_000), "stuck");
    assert!(world.sides.iter().all(|side| side.lost().is_none()));
    let stall = world.sides[ANSWERER].longest_stall;
    println!("seed {seed}: {stall:?} {:?}", world.sides[DIALLER].link().stats());
    stall
}

#[test]
fn a_path_that_dies_in_one_direction_is_left_within_a_second() {
    for direction in [DIALLER, ANSWERER] {
        let stall = stall(10, |world, route| world.paths[route].up[direction] = false);
        assert!(stall <= ms(300), "{stall:?}");
    }
}

#[test]
fn a_blackout_of_all_paths_costs_little_more_than_itself() {
    for blackout in [100, 500, 2000] {
        let stall = stall(11, |world, _| {
            world.paths.iter_mut().for_each(|path| path.up = [false; 2]);
            world.run_for(ms(blackout));
            world.paths.iter_mut().for_each(|path| path.up = [true; 2]);
        });
        assert!(stall <= ms(blackout + 700), "{stall:?} for {blackout} ms");
    }
}

#[test]
fn a_link_with_one_path_survives_a_blackout() {
    let mut world = World::new(12, vec![Path::new(Relayed, ms(10)).megabits(100, 125_000)]);
    world.connect();
    world.sides[DIALLER].bulk.insert(0, (20_000_000, 0));
    world.run_for(ms(500));
    world.paths[0].up = [false; 2];
    world.run_for(ms(3000));
    world.paths[0].up = [true; 2];
    assert!(world.run_until(ms(5000), |world| world.received(ANSWERER) == 20_000_000));
    println!("{:?}", world.sides[ANSWERER].longest_stall);
    assert!(world.sides[ANSWERER].longest_stall <= ms(3700), "{:?}", world.sides[ANSWERER].longest_stall);
}

#[test]
fn a_path_that_becomes_slow_or_lossy_does_not_stop_a_transfer() {
    stall(13, |world, route| world.paths[route].loss = 50);
    stall(14, |world, route| world.paths[route].rate /= 10);
    stall(15, |world, route| world.paths[route].delay *= 10);
}

#[test]
fn keys_change_in_mid_transfer_even_while_the_path_dies() {
    let mut world = World::new(16, vec![Path::new(Relayed, ms(5)), Path::new(Relayed, ms(5))]);
    world.paths = world.paths.into_iter().map(|path| path.megabits(100, 125_000).lossy(2)).collect();
    world.connect();
    for side in [DIALLER, ANSWERER] {
        world.sides[side].bulk.insert(0, (20_000_000, 0));
    }
    for round in 0..20 {
        world.run_for(ms(100));
        let now = world.now;
        world.sides[round % 2].link().update_keys(now);
        if round == 10 {
            let route = world.sides[DIALLER].link().route().unwrap();
            world.paths[usize::from(route)].up = [false; 2];
        }
    }
    let done = |world: &World| [DIALLER, ANSWERER].into_iter().all(|side| world.received(side) == 20_000_000);
    assert!(world.run_until(ms(10_000), done));
    assert!(world.sides.iter().all(|side| side.lost().is_none()));
    let updates = [DIALLER, ANSWERER].map(|side| world.sides[side].env.handshake.key_updates());
    // one that was asked for before the last was acknowledged is left out
    assert!(updates.iter().all(|updates| *updates >= 10), "{updates:?}");
}

#[test]
fn runs_are_long_and_bounded() {
    let mut world = World::new(17, vec![Path::new(Direct, ms(1)).megabits(1000, 500_000)]);
    world.max_segments = usize::MAX;
    world.connect();
    world.sides[DIALLER].bulk.insert(0, (10 * MIB, 0));
    assert!(world.run_until(ms(1000), |world| world.received(ANSWERER) == 10 * MIB));
    world.run_for(ms(100));
    let now = world.now;
    let link = world.sides[DIALLER].link();
    assert_eq!(link.write_lane(now, 1, vec![0; 500_000].into()), None);
    let mut buf = Vec::new();
    let transmit = link.poll_transmit(now, usize::MAX, &mut buf).unwrap();
    assert!((60_000..=65_535).contains(&transmit.size), "{transmit:?}");
}

#[test]
fn random_faults_lose_nothing_and_end_no_link() {
    for seed in 0..12 {
        let mut rng = crate::rng::Rng::from_seed([100 + seed; 32]);
        let kinds = [Direct, Relayed, Relayed];
        let paths = kinds.map(|kind| Path::new(kind, ms(1 + rng.below(40))).megabits(20 + rng.below(200), 100_000));
        let mut world = World::new(seed, paths.map(|path| path.lossy(3)).to_vec());
        world.connect();
        for side in [DIALLER, ANSWERER] {
            world.sides[side].bulk.insert(0, (u64::MAX, 0));
            world.sides[side].bulk.insert(5, (u64::MAX, 0));
        }
        let mut sent = 0_u32;
        let (mut dark, mut longest_dark) = (ms(0), ms(0));
        for _ in 0..40 {
            let path = &mut world.paths[rng.below(3) as usize];
            match rng.below(5) {
                0 => path.up = [false; 2],
                1 => path.up[rng.below(2) as usize] = false,
                2 => path.delay = ms(1 + rng.below(100)),
                3 => path.rate = (5 + rng.below(200)) * 125_000,
                _ => path.loss = rng.below(60),
            }
            if rng.below(2) == 0 {
                world.paths[rng.below(3) as usize].up = [true; 2];
            }
            for side in &mut world.sides {
                side.link().send_control(sent.to_be_bytes()).unwrap();
            }
            sent += 1;
            let span = ms(rng.below(400));
            world.run_for(span);
            let works = world.paths.iter().any(|path| path.up == [true; 2]);
            dark = if works { ms(0) } else { dark + span };
            longest_dark = longest_dark.max(dark);
        }
        world.paths.iter_mut().for_each(|path| {
            path.up = [true; 2];
            path.loss = 0;
        });
        for side in &mut world.sides {
            for (left, written) in side.bulk.values_mut() {
                assert!(*written > 0);
                *left = 0;
            }
        }
        let whole = |world: &World| {
            [DIALLER, ANSWERER].into_iter().all(|side| {
                let arrived = &world.sides[1 - side].received;
                let all = world.sides[side].bulk.iter().all(|(lane, (_, written))| arrived.get(lane) == Some(written));
                all && world.sides[side].controls().len() == sent as usize
            })
        };
        assert!(world.run_until(ms(10_000), whole), "seed {seed}: something is missing");
        for side in &world.sides {
            assert_eq!(side.lost(), None, "seed {seed}");
            assert!(
                side.controls().iter().map(|bytes| &bytes[..]).eq((0..sent)
                    .map(u32::to_be_bytes)
                    .collect::<Vec<_>>()
                    .iter()
                    .map(|bytes| &bytes[..]))
            );
        }
        let stalls = world.sides.each_ref().map(|side| side.longest_stall);
        println!("seed {seed}: stalls {stalls:?}, no path for {longest_dark:?}");
        // paths that die one after the other add up
        assert!(stalls.iter().all(|stall| *stall <= longest_dark + ms(1500)), "seed {seed}: {stalls:?}");
    }
}

#[test]
fn both_directions_at_once_are_as_fast_as_one() {
    for (seed, megabits, delay, queue) in [(20, 100, 5, 125_000), (21, 100, 30, 500_000), (22, 1000, 2, 500_000)] {
        let path = || Path::new(Relayed, ms(delay)).megabits(megabits, queue);
        let mut world = World::new(seed, vec![path(), path()]);
        world.connect();
        for side in [DIALLER, ANSWERER] {
            world.sides[side].bulk.insert(0, (u64::MAX, 0));
        }
        world.run_for(ms(1000));
        let before = [DIALLER, ANSWERER].map(|side| world.received(side));
        world.run_for(ms(3000));
        let rates = [DIALLER, ANSWERER].map(|side| (world.received(side) - before[side]) as f64 / 3e6);
        // and the stall when the path dies is that of one direction
        let route = world.sides[DIALLER].link().route().unwrap();
        world.paths[usize::from(route)].up = [false; 2];
        world.run_for(ms(1000));
        let stalls = world.sides.each_ref().map(|side| side.longest_stall);
        println!("{megabits} Mbit/s, {delay} ms: {rates:.1?} MB/s, stalls {stalls:?}");
        assert!(rates.iter().all(|rate| *rate > megabits as f64 / 8.0 * 0.8), "{rates:?} MB/s");
        assert!(stalls.iter().all(|stall| *stall <= ms(130 + 6 * delay)), "{stalls:?}");
    }
}
