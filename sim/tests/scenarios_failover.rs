//! A Master that is gone is replaced, and how soon: times are those of the virtual world, the same in every run.

use std::time::Duration;

use p2pcore::{
    Event,
    master::{Kind, MasterView, Token},
};
use sim::{plan::LinkModel, rng::Stream, scenario::Scenario, world::World};

/// The mean of the default election timeouts, which are drawn from 300 to 700 ms.
const ELECTION: Duration = Duration::from_millis(500);
const ELECTION_MIN: Duration = Duration::from_millis(300);

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// A round trip of 50 ms with a loss of 1 %.
fn far() -> LinkModel {
    LinkModel { delay_us: (25_000, 25_000), loss_ppm: 10_000, ..LinkModel::default() }
}

/// So many servers, all of them voters, and two peers.
fn cluster(seed: u64, servers: usize, links: LinkModel) -> World {
    let mut world = Scenario::new(seed).servers("s", servers).peers("p", 2).links(links).start();
    world.expect("convergence", secs(60), |world| world.converged());
    world
}

/// How long after `since` the last one of the running nodes showed an Elected Master other than the one under `old`, which
/// all of them still do.
fn replaced(world: &mut World, since: Duration, old: Token) -> Duration {
    let next = |world: &World| world.token(&world.agreed_master()?).filter(|token| *token != old);
    world.expect("the next Master", secs(60), |world| next(world).is_some());
    let token = next(world).unwrap();
    assert_eq!(token.kind, Kind::Elected);
    let shown = |event: &Event| *event == Event::Master(MasterView::Master(token));
    let at = world.running().into_iter().map(|name| world.seen_at(&name, since, shown).unwrap());
    at.max().unwrap() - since
}

/// Kills the Master at a moment of chance, again and again.
fn fail_overs(seeds: u64, each: usize, servers: usize, links: LinkModel) -> Vec<Duration> {
    let mut times = Vec::new();
    for seed in 0..seeds {
        let mut world = cluster(seed, servers, links);
        let mut rng = Stream::new(seed, "moments", 0);
        for _ in 0..each {
            world.run_for(Duration::from_micros(rng.below(2_000_000)));
            world.expect("a Master", secs(60), |world| world.agreed_master().is_some());
            let master = world.agreed_master().unwrap();
            let (old, killed) = (world.token(&master).unwrap(), world.now());
            world.kill(&master);
            times.push(replaced(&mut world, killed, old));
            world.revive(&master);
            world.expect("convergence", secs(60), |world| world.converged());
        }
        world.assert_clean();
    }
    times.sort();
    times
}

/// The time that so many of a hundred do not exceed.
fn percentile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent).div_ceil(100) - 1]
}

fn elections(time: Duration) -> f64 {
    time.as_secs_f64() / ELECTION.as_secs_f64()
}

#[track_caller]
fn assert_soon(servers: usize) {
    let (seeds, each) = if cfg!(debug_assertions) { (6, 5) } else { (20, 5) };
    let times = fail_overs(seeds, each, servers, far());
    let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
    println!(
        "fail-over of {servers} servers at a round trip of 50 ms and a loss of 1 %, {} crashes: p50 {} ms = {:.2} election \
         timeouts, p99 {} ms = {:.2} election timeouts (of 500 ms, the mean of 300 to 700 ms)",
        times.len(),
        p50.as_millis(),
        elections(p50),
        p99.as_millis(),
        elections(p99),
    );
    assert!(elections(p50) <= 2.0 && elections(p99) <= 5.0, "{times:?}");
}

#[test]
fn of_three_far_servers_the_next_master_is_there_within_a_few_election_timeouts() {
    assert_soon(3);
}

#[test]
fn of_five_far_servers_the_next_master_is_there_within_a_few_election_timeouts() {
    assert_soon(5);
}

#[test]
fn in_a_lan_the_next_master_is_there_within_a_second() {
    let (seeds, each) = if cfg!(debug_assertions) { (4, 5) } else { (20, 5) };
    for servers in [3, 5] {
        let times = fail_overs(seeds, each, servers, LinkModel::lan());
        let (p50, p99) = (percentile(&times, 50), percentile(&times, 99));
        println!(
            "fail-over of {servers} servers in a LAN, {} crashes: p50 {} ms, p99 {} ms",
            times.len(),
            p50.as_millis(),
            p99.as_millis()
        );
        assert!(p99 <= secs(1), "{times:?}");
    }
}

#[test]
fn a_master_that_stops_is_replaced_sooner_than_any_election_timeout() {
    for (seed, links) in [(1, far()), (2, far()), (3, LinkModel::lan()), (4, LinkModel::lan())] {
        for servers in [3, 5] {
            let mut world = cluster(seed, servers, links);
            let master = world.agreed_master().unwrap();
            let (old, since) = (world.token(&master).unwrap(), world.now());
            world.stop(&master);
            let time = replaced(&mut world, since, old);
            assert!(time < ELECTION_MIN, "{servers} servers, seed {seed}: {time:?}");
            world.expect("it has left", secs(3), |world| !world.is_running(&master));
            world.assert_clean();
        }
    }
}
