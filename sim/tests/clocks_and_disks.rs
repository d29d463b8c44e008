//! What clocks and disks may do, and what comes of it; and that a clock beyond its bound is found out.

use std::time::Duration;

use p2pcore::{Config, Event, master::Settings, raft::Timing};
use sim::{
    plan::{DiskFate, Fault, FaultKind, LinkModel},
    scenario::Scenario,
    world::World,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn lan() -> LinkModel {
    LinkModel { delay_us: (100, 500), jitter_us: 100, ..LinkModel::default() }
}

fn cluster(seed: u64, servers: usize) -> Scenario {
    (1..=servers).fold(Scenario::new(seed).links(lan()), |scenario, n| scenario.server(&format!("s{n}")))
}

fn grown(scenario: Scenario, voters: usize) -> World {
    let mut world = scenario.start();
    world.expect("all vote", secs(20), |world| {
        world.agreed_master().is_some_and(|master| world.voters(&master).len() == voters) && world.converged()
    });
    world
}

/// The others have another Master by then. Its own clock says that its guard still holds, and it is told better before it
/// can ask.
#[test]
fn a_master_that_slept_holds_no_guard_when_it_wakes_up() {
    let mut world = grown(cluster(71, 3).peer("p1"), 3);
    let old = world.agreed_master().unwrap();
    let (token, shown) = (world.token(&old).unwrap(), world.clock(&old));
    world.sleep(&old);
    world.run_for(secs(4));
    assert_eq!(world.clock(&old), shown);
    let next = world.token("p1").unwrap();
    assert!(next.id != token.id && next > token);
    world.wake_up(&old);
    assert_eq!(world.guard(&old), None);
    world.expect("one Master", secs(5), |world| world.agreed_master().is_some());
    world.assert_clean();
}

#[test]
fn a_clock_that_jumps_costs_a_moment_at_most() {
    let mut world = grown(cluster(72, 3), 3);
    for name in ["s1", "s2", "s3"] {
        for by in [Duration::from_millis(100), secs(1), secs(60)] {
            let before = world.clock(name);
            world.jump(name, by);
            assert_eq!(world.clock(name), before + by);
            world.expect("one Master", secs(5), |world| world.agreed_master().is_some());
            world.run_for(secs(1));
        }
    }
    world.expect("convergence", secs(20), |world| world.converged());
    world.assert_clean();
}

/// A slow Master that is cut off trusts its lease for longer than fast voters keep silent.
#[test]
fn clocks_that_run_apart_by_more_than_the_bound_are_found_out() {
    let overlap = |ppm: i32| {
        let timing = Timing {
            heartbeat: Duration::from_millis(100),
            election_min: secs(1),
            election_max: Duration::from_millis(1_050),
            drift_ppm: 100_000,
        };
        let mut config = Config::default();
        config.master = Settings { timing, ..Settings::default() };
        let names = ["s1", "s2", "s3"];
        let scenario = names.iter().fold(Scenario::new(73).links(lan()).config(config), |scenario, name| {
            scenario.server(name).clock_ppm(if *name == "s1" { -ppm } else { ppm })
        });
        let mut world = grown(scenario, 3);
        assert_eq!(world.agreed_master().as_deref(), Some("s1"));
        let cuts = ["s2", "s3"].map(|other| world.cut("s1", other));
        world.run_for(secs(3));
        cuts.into_iter().for_each(|cut| world.mend(cut));
        assert!(world.token("s2").is_some_and(|token| token.id != world.id("s1")), "another Master");
        world.violations().iter().any(|violation| violation.checker == "one_guard")
    };
    assert!(!overlap(50_000));
    assert!(overlap(200_000));
}

#[test]
fn a_torn_disk_is_a_lost_one_and_its_server_comes_back_as_the_youngest() {
    for (fate, is_youngest) in [(DiskFate::Kept, false), (DiskFate::Torn, true)] {
        let scenario =
            (2..=3).fold(cluster(74, 1), |scenario, n| scenario.server(&format!("s{n}")).starting_at(secs(n)));
        let scenario = scenario.fault(Fault {
            id: 1,
            at_ms: 10_000,
            for_ms: 3_000,
            kind: FaultKind::CrashWriting { node: "s2".to_owned(), disk: fate },
        });
        let mut world = scenario.start();
        world.run_until(secs(10));
        let order = |world: &World| world.members("s3").iter().map(|member| member.id).collect::<Vec<_>>();
        let [s1, s2, s3] = ["s1", "s2", "s3"].map(|name| world.id(name));
        assert_eq!(order(&world), [s1, s2, s3]);
        // something to be written
        world.resign("s1").unwrap();
        world.run_for(secs(1));
        assert!(!world.is_running("s2"));
        world.expect("convergence", secs(30), |world| world.is_running("s2") && world.converged());
        assert_eq!(order(&world), if is_youngest { [s1, s3, s2] } else { [s1, s2, s3] });
        world.assert_clean();
    }
}

/// Two of three disks are lost: there is no Master until the operator forces a new cluster.
#[test]
fn the_operator_of_a_healed_world_forces_a_new_cluster_where_nothing_else_helps() {
    let mut world = grown(cluster(75, 3).peer("p1"), 3);
    for name in ["s2", "s3"] {
        world.kill(name);
        world.lose_disk(name);
        world.introduce(name, &["s1"]);
    }
    world.run_for(secs(1));
    ["s2", "s3"].iter().for_each(|name| world.revive(name));
    world.run_for(secs(60));
    assert_eq!(world.agreed_master(), None);
    world.heal();
    world.converge();
    assert_eq!(world.token("p1").map(|token| token.generation), Some(2));
    let told = |event: &Event| matches!(event, Event::Master(view) if view.token().is_some_and(|t| t.generation == 2));
    assert!(world.seen_at("p1", Duration::ZERO, told).is_some());
    world.assert_clean();
}
