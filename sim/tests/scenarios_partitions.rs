//! Who is Master while links are cut: partitions, partial connectivity, a member that comes and goes.

use std::time::Duration;

use p2pcore::{
    Event,
    master::{Kind, Token},
    node::MemberCommand,
};
use sim::{
    plan::{Effect, LinkModel, Selector},
    rng::Stream,
    scenario::Scenario,
    world::{Begun, World},
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many servers, all of them voters, and two peers.
fn cluster(seed: u64, servers: usize) -> World {
    let mut world = Scenario::new(seed).servers("s", servers).peers("p", 2).start();
    world.expect("convergence", secs(30), |world| world.converged());
    world
}

/// Lets that server be the Master.
fn appoint(world: &mut World, name: &str) {
    let (master, id) = (world.agreed_master().unwrap(), world.id(name));
    if master != name {
        world.change_members(&master, MemberCommand::Transfer(id)).unwrap();
    }
    world.expect("it is Master", secs(5), |world| world.agreed_master().as_deref() == Some(name));
}

/// Cuts all ways between servers but these.
fn cut_all_but(world: &mut World, servers: usize, links: &[(&str, &str)]) -> Vec<Begun> {
    let names: Vec<String> = (1..=servers).map(|n| format!("s{n}")).collect();
    let pairs = names.iter().enumerate().flat_map(|(n, one)| names[n + 1..].iter().map(move |other| (one, other)));
    let is_cut = |(one, other): &(&String, &String)| {
        !links.iter().any(|(a, b)| (one == a && other == b) || (one == b && other == a))
    };
    pairs.filter(is_cut).map(|(one, other)| world.cut(one, other)).collect()
}

/// No node but `apart_from` shows anything else than `token` for so long.
#[track_caller]
fn stays(world: &mut World, token: Token, time: Duration, apart_from: &str) {
    let since = world.now();
    world.run_for(time);
    for name in world.running().into_iter().filter(|name| name != apart_from) {
        let other = world.seen_at(&name, since + Duration::from_nanos(1), |event| matches!(event, Event::Master(_)));
        assert_eq!((other, world.token(&name)), (None, Some(token)), "{name}");
    }
    world.assert_clean();
}

#[track_caller]
fn elects_and_stays(world: &mut World) -> String {
    // until then a Master that was cut off may still be shown
    world.run_for(secs(2));
    world.expect("all show one Master", secs(10), |world| world.agreed_master().is_some());
    let master = world.agreed_master().unwrap();
    let token = world.token(&master).unwrap();
    assert_eq!(token.kind, Kind::Elected);
    stays(world, token, secs(60), "");
    master
}

#[test]
fn a_member_that_comes_and_goes_disrupts_nobody() {
    for servers in [3, 5] {
        let mut world = cluster(41, servers);
        appoint(&mut world, "s1");
        let (token, mut rng) = (world.token("s1").unwrap(), Stream::new(41, "flaps", 0));
        let on = Selector { from: vec!["s3".to_owned()], both_ways: true, ..Selector::default() };
        let end = world.now() + secs(60);
        while world.now() < end {
            let cut = world.begin(&on, Effect::Block);
            stays(&mut world, token, Duration::from_millis(rng.between(100, 700)), "s3");
            world.mend(cut);
            stays(&mut world, token, Duration::from_millis(rng.between(100, 700)), "s3");
        }
        world.expect("convergence", secs(60), |world| world.converged());
        assert_eq!(world.token("s3"), Some(token));
        world.assert_clean();
    }
}

#[test]
fn a_chain_of_three_elects_and_stays() {
    for first in ["s1", "s2", "s3"] {
        let mut world = cluster(42, 3);
        appoint(&mut world, first);
        let cuts = cut_all_but(&mut world, 3, &[("s1", "s2"), ("s2", "s3")]);
        assert_eq!(elects_and_stays(&mut world), first, "whoever still has a quorum stays");
        world.kill(first);
        if first == "s2" {
            world.expect("no quorum", secs(2), |world| ["s1", "s3"].iter().all(|name| world.guard(name).is_none()));
            cuts.into_iter().for_each(|cut| world.mend(cut));
        }
        elects_and_stays(&mut world);
    }
}

#[test]
fn a_chain_of_five_elects_and_stays() {
    const CHAIN: [(&str, &str); 4] = [("s1", "s2"), ("s2", "s3"), ("s3", "s4"), ("s4", "s5")];
    for (first, has_quorum) in [("s1", false), ("s2", true), ("s3", true), ("s5", false)] {
        let mut world = cluster(43, 5);
        appoint(&mut world, first);
        cut_all_but(&mut world, 5, &CHAIN);
        let master = elects_and_stays(&mut world);
        assert!(!has_quorum || master == first, "{master} after {first}");
        assert!(["s2", "s3", "s4"].contains(&master.as_str()), "{master}");
    }
}

#[test]
fn the_hub_of_a_star_is_elected_and_stays() {
    for first in ["s1", "s4"] {
        let mut world = cluster(44, 5);
        appoint(&mut world, first);
        cut_all_but(&mut world, 5, &[("s4", "s1"), ("s4", "s2"), ("s4", "s3"), ("s4", "s5")]);
        assert_eq!(elects_and_stays(&mut world), "s4");
    }
}

/// The quorum-loss case of OmniPaxos: the old Master is alive and heard by the only server that still has a quorum.
#[test]
fn the_only_server_with_a_quorum_replaces_a_master_that_it_still_hears() {
    for seed in 45..50 {
        let mut world = cluster(seed, 5);
        appoint(&mut world, "s3");
        cut_all_but(&mut world, 5, &[("s1", "s2"), ("s1", "s3"), ("s1", "s4"), ("s1", "s5")]);
        assert_eq!(elects_and_stays(&mut world), "s1");
    }
}

/// Such a way is no link, so that nobody is left who could tell the old Master of the new one.
#[test]
fn a_way_that_works_in_one_direction_only_keeps_no_master_in_office() {
    for is_deaf in [false, true] {
        let mut world = cluster(50, 3);
        appoint(&mut world, "s1");
        let old = world.token("s1");
        for other in ["s2", "s3"] {
            let (from, to) = if is_deaf { (other, "s1") } else { ("s1", other) };
            world.cut_one_way(from, to);
        }
        world.expect("another Master", secs(5), |world| {
            let token = world.token("s2").filter(|token| Some(*token) > old && token.kind == Kind::Elected);
            token.is_some() && ["s3", "p1", "p2"].iter().all(|name| world.token(name) == token)
        });
        let token = world.token("s2").unwrap();
        assert_eq!(world.guard("s1"), None);
        stays(&mut world, token, secs(60), "s1");
    }
}

/// Cuts the Master off and finds when it could act last, and when the next one could act first.
fn partition(world: &mut World, minority: &[&str]) -> (Duration, Duration) {
    const STEP: Duration = Duration::from_micros(500);
    let old = world.agreed_master().unwrap();
    let names = world.plan().servers().map(|server| server.name.clone());
    let majority: Vec<String> = names.filter(|name| !minority.contains(&name.as_str())).collect();
    let minority = minority.iter().map(|name| (*name).to_owned()).collect();
    world.begin(
        &Selector { from: minority, to: majority.clone(), both_ways: true, ..Selector::default() },
        Effect::Block,
    );
    let mut last = world.now();
    let end = world.now() + secs(10);
    while world.now() < end && world.violations().is_empty() {
        if world.guard(&old).is_some() {
            last = world.now();
        }
        if majority.iter().any(|name| world.guard(name).is_some()) {
            return (last, world.now());
        }
        world.run_for(STEP);
    }
    (last, end)
}

/// The smallest time from the last act of the old Master to the first one of the next one, over many seeds; `None` if both
/// could act at once.
fn smallest_gap(servers: usize, minority: &[&str], master_ppm: i32, others_ppm: i32) -> Option<Duration> {
    let mut smallest = Duration::MAX;
    for seed in 0..20 {
        let scenario = Scenario::new(seed).server("s1").clock_ppm(master_ppm);
        let scenario = (2..=servers).fold(scenario, |all, n| all.server(&format!("s{n}")).clock_ppm(others_ppm));
        let mut world = scenario.links(LinkModel::lan()).start();
        world.expect("convergence", secs(30), |world| world.converged());
        appoint(&mut world, "s1");
        world.run_for(Duration::from_millis(100 + 7 * seed));
        let (last, first) = partition(&mut world, minority);
        if !world.violations().is_empty() {
            assert!(world.violations().iter().all(|violation| violation.checker == "one_guard"));
            return None;
        }
        assert!(last < first, "seed {seed}: {last:?} {first:?}");
        smallest = smallest.min(first - last);
    }
    Some(smallest)
}

#[test]
fn in_the_minority_the_guard_ends_before_the_majority_elects() {
    for (servers, minority) in [(3, &["s1"][..]), (5, &["s1", "s5"])] {
        // any two clocks run apart by one percent at most: that is the bound
        for ppm in [0, 5_000] {
            let gap = smallest_gap(servers, minority, -ppm, ppm).expect("one guard");
            println!(
                "partition of {servers} servers, drift {ppm} ppm each way: the old guard ends at least {gap:?} before the next one begins"
            );
        }
    }
}

#[test]
fn beyond_the_bound_of_drift_two_guards_can_meet() {
    assert_eq!(smallest_gap(3, &["s1"], -250_000, 250_000), None);
}
