//! Networks on demand: over the threshold and back under load, servers that die or are cut off, links that rest.

use std::time::Duration;

use p2pcore::{Config, Reason, node::Outcome};
use sim::{
    plan::{Load, LoadKind},
    scenario::Scenario,
    world::World,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// On demand with more than so many peers, and until there are fewer than so many.
fn demand(above: usize, below: usize) -> Config {
    let mut config = Config::default();
    (config.full_mesh_peers, config.full_mesh_again) = (above, below);
    config
}

fn is_on_demand(world: &World, name: &str) -> bool {
    world.status(name).is_some_and(|status| status.on_demand)
}

fn delivered(world: &mut World, from: &str, to: &str) {
    let sent = world.send(from, to, 1_000);
    world.expect("delivery", secs(20), |world| world.outcome(sent) == Some(Outcome::Delivered));
}

/// Messages between all peers go on while the sixth and seventh come and go.
#[test]
fn over_the_threshold_and_back_no_message_is_lost() {
    let names: Vec<String> = (1..=7).map(|n| format!("p{n}")).collect();
    let load = |id: u64, from: &str| Load {
        id,
        from: from.to_owned(),
        to: names.iter().take(4).filter(|name| *name != from).cloned().collect(),
        at_ms: 5_000,
        until_ms: 100_000,
        every_us: 50_000,
        kind: LoadKind::Messages { fan_out: 2, lanes: 2, burst: 1, max_len: 5_000, ttl_ms: None },
    };
    let loads = (1..=4).map(|n| load(n, &format!("p{n}"))).collect();
    let mut world = Scenario::new(21).config(demand(5, 5)).servers("s", 2).peers("p", 7).loads(loads).start();
    for away in ["p6", "p7"] {
        world.expect("the start", secs(5), |world| world.is_running(away));
        world.stop(away);
    }
    world.expect("a full mesh", secs(20), |world| world.converged() && !is_on_demand(world, "p1"));
    for round in 0..3 {
        world.revive("p6");
        world.expect("on demand", secs(10), |world| (1..=6).all(|n| is_on_demand(world, &format!("p{n}"))));
        delivered(&mut world, "p6", "p1");
        world.run_for(secs(3));
        assert!(world.linked("p1", "p2"), "links that exist are kept");
        for away in ["p6", "p5"] {
            world.stop(away);
        }
        world.expect("the goodbyes", secs(5), |world| !world.is_running("p5") && !world.is_running("p6"));
        world.expect("back", secs(10), |world| (1..=4).all(|n| !is_on_demand(world, &format!("p{n}"))));
        world.revive("p5");
        world.expect("a full mesh", secs(20), |world| world.converged());
        assert!(!is_on_demand(&world, "p1"), "round {round}");
    }
    let counts = world.counts();
    assert!(counts.delivered > 500 && counts.failed + counts.expired == 0, "{counts:?}");
    world.assert_clean();
}

#[test]
fn a_server_dies_and_the_others_go_on_and_it_hears_of_the_watches_when_it_is_back() {
    let mut world = Scenario::new(22).config(demand(0, 0)).servers("s", 3).peers("p", 3).start();
    world.expect("convergence", secs(20), |world| world.converged());
    delivered(&mut world, "p1", "p2");
    world.kill("s1");
    delivered(&mut world, "p1", "p3");
    delivered(&mut world, "p3", "p2");
    world.run_for(secs(40));
    world.kill("p2");
    world.run_for(secs(40));
    let sent = world.send("p1", "p2", 100);
    world.expect("an outcome", secs(2), |world| world.outcome(sent) == Some(Outcome::Failed(Reason::Offline)));
    world.revive("p2");
    world.revive("s1");
    world.expect("convergence", secs(40), |world| world.converged());
    delivered(&mut world, "p1", "p2");
    world.assert_clean();
}

/// A peer that only one server has is found there, whatever the others say.
#[test]
fn a_peer_is_found_at_the_only_server_that_has_it() {
    let scenario = Scenario::new(23).config(demand(0, 0)).servers("s", 2).peer("p1").peer("p2").joining(&["s2"]);
    let mut world = scenario.apart("p2", "s1").apart("p1", "p2").start();
    world.expect("the links", secs(20), |world| {
        [("p2", "s2"), ("p1", "s1"), ("p1", "s2")].iter().all(|(from, to)| world.linked(from, to))
    });
    delivered(&mut world, "p1", "p2");
    assert_eq!(world.kind("p1", "p2"), Some(p2pcore::node::PathKind::Relayed));
    world.assert_clean();
}

/// Cut off from its servers a peer says so, and goes on when they are back.
#[test]
fn a_partition_of_one_server_fails_nobody_who_is_there() {
    let mut world = Scenario::new(24).config(demand(0, 0)).servers("s", 3).peers("p", 2).start();
    world.expect("convergence", secs(20), |world| world.converged());
    let cuts: Vec<_> = ["s2", "s3", "p1", "p2"].map(|other| world.cut("s1", other)).into();
    delivered(&mut world, "p1", "p2");
    world.run_for(secs(40));
    delivered(&mut world, "p2", "p1");
    cuts.into_iter().for_each(|cut| world.mend(cut));
    world.expect("convergence", secs(60), |world| world.converged());
    world.assert_clean();
}

#[test]
fn idle_links_are_ended_and_made_again_without_loss() {
    let mut config = demand(0, 0);
    config.idle_link = secs(5);
    let mut world = Scenario::new(25).config(config).servers("s", 2).peers("p", 3).start();
    world.expect("convergence", secs(20), |world| world.converged());
    for _ in 0..5 {
        delivered(&mut world, "p1", "p2");
        delivered(&mut world, "p2", "p3");
        assert!(world.linked("p1", "p2"));
        world.expect("no link", secs(15), |world| !world.linked("p1", "p2") && !world.linked("p2", "p3"));
        assert!(world.status("p1").unwrap().peers.is_empty());
    }
    assert!(world.counter("p1", "dials") < 12, "nobody makes links that nobody needs");
    world.assert_clean();
}
