//! Drivers that drain rarely and at odd moments, all nodes at once: several inputs in a row are legal at any time.

use std::time::Duration;

use sim::{
    machine::nodes,
    plan::{Load, LoadKind, Plan},
    run,
    scenario::Scenario,
};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// Three servers and four peers, one of them behind a relay, one in a LAN, under bursts of everything that an application
/// can do.
fn busy(seed: u64, lazy: Duration) -> Plan {
    let mut scenario = Scenario::new(seed);
    for name in ["s1", "s2", "s3"] {
        scenario = scenario.server(name).lazy_for(lazy);
    }
    for name in ["p1", "p2", "p3", "p4"] {
        scenario = scenario.peer(name).lazy_for(lazy);
        scenario = match name {
            "p2" => scenario.relay_only(),
            "p3" => scenario.in_lan("home"),
            _ => scenario,
        };
    }
    let mut plan = scenario.start().plan().clone();
    let messages = |burst, lanes, max_len| LoadKind::Messages { fan_out: 3, lanes, burst, max_len, ttl_ms: None };
    let kinds = [
        ("p1", 150_000, messages(60, 4, 300)),
        ("p2", 400_000, messages(10, 2, 30_000)),
        ("p3", 100_000, LoadKind::Requests { max_len: 2_000, timeout_ms: None }),
        ("p4", 80_000, LoadKind::Datagrams { max_len: 900 }),
        ("p1", 3_000_000, LoadKind::Streams { max_len: 2 << 20 }),
        ("p2", 300_000, LoadKind::ToMaster { max_len: 500, ttl_ms: None }),
        ("p4", 300_000, LoadKind::AskMaster { max_len: 500, timeout_ms: None }),
        ("s2", 500_000, messages(20, 3, 1_000)),
    ];
    let to = ["p1", "p2", "p3", "p4", "s1"].map(str::to_owned);
    plan.loads = (1..)
        .zip(kinds)
        .map(|(id, (from, every_us, kind))| Load {
            id,
            from: from.to_owned(),
            to: to.iter().filter(|name| *name != from).cloned().collect(),
            at_ms: 4_000,
            until_ms: 16_000,
            every_us,
            kind,
        })
        .collect();
    (plan.faulty_ms, plan.converge_ms) = (16_000, 40_000);
    plan
}

#[test]
fn all_drivers_lazy_and_bursts_of_everything_break_no_promise() {
    for (seed, lazy) in [(1, 3), (2, 3), (3, 20), (4, 60)] {
        let report = run::plan(busy(seed, Duration::from_millis(lazy)), nodes());
        assert_eq!(report.violations, [], "seed {seed}");
    }
}

#[test]
fn all_drivers_lazy_and_the_cluster_converges_delivers_and_mends() {
    let lazy = Duration::from_millis(30);
    let mut scenario = Scenario::new(81);
    for name in ["s1", "s2", "s3"] {
        scenario = scenario.server(name).lazy_for(lazy);
    }
    for name in ["p1", "p2", "p3"] {
        scenario = scenario.peer(name).lazy_for(lazy);
    }
    let mut world = scenario.start();
    world.expect("convergence", secs(20), |world| world.converged());
    let sent: Vec<_> = (0..200).map(|number| world.send("p1", "p2", 10 + number)).collect();
    let delivered = Some(p2pcore::node::Outcome::Delivered);
    world.expect("every message", secs(10), |world| sent.iter().all(|sent| world.outcome(*sent) == delivered));
    let master = world.agreed_master().expect("a Master");
    world.kill(&master);
    world.expect("another Master", secs(10), |world| world.agreed_master().is_some_and(|other| other != master));
    world.revive(&master);
    world.expect("convergence", secs(20), |world| world.converged());
    let stream = world.stream("p2", "p3", 4 << 20);
    world.expect("a whole stream", secs(60), |world| world.progress(stream).complete);
    world.assert_clean();
}
