//! Floods: honest peers exchange messages, straight and through servers, beside strangers and members that take all they can.

use std::{collections::BTreeMap, rc::Rc, time::Duration};

use p2pcore::{
    Config, Id, Node,
    node::{Misdeed, Outcome},
};
use sim::{
    check::honest::{self, Rate},
    machine::Maker,
    plan::{Fault, FaultKind, Hostility},
    scenario::Scenario,
    world::{Sent, World},
};

/// How long a message of the honest is of use.
const OF_USE: Duration = Duration::from_millis(500);
/// Each honest pair sends a message so often.
const PACE: Duration = Duration::from_millis(10);
const HONEST: [&str; 7] = ["s1", "s2", "s3", "h1", "h2", "h3", "h4"];
/// Straight, through a server, and to a server.
const PAIRS: [(&str, &str); 5] = [("h1", "h2"), ("h2", "h1"), ("h3", "h4"), ("h4", "h3"), ("h1", "s1")];

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn config(change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::default();
    change(&mut config);
    config
}

/// Three servers, a pair of peers that meet directly and one that meets through servers only.
fn scenario(seed: u64) -> Scenario {
    let scenario = Scenario::new(seed).servers("s", 3);
    scenario.peers("h", 4).apart("h3", "h4")
}

/// Nodes whose name says what harm they do, so many times each millisecond.
fn members(misdeeds: &'static [(&'static str, Misdeed, u16)]) -> Maker {
    Rc::new(move |config, start| {
        let (name, now) = (start.name.clone(), start.now);
        let mut node = Node::new(config, start)?;
        if let Some((_, what, per_ms)) = misdeeds.iter().find(|(evil, ..)| name.as_str() == *evil) {
            node.misbehave(now, *what, *per_ms);
        }
        Ok(Box::new(node))
    })
}

type Rates = BTreeMap<(&'static str, &'static str), Rate>;

/// The honest pairs send for a while; `flood` does its part in between.
fn traffic(world: &mut World, time: Duration, mut flood: impl FnMut(&mut World)) -> Rates {
    let mut sent: Vec<((&str, &str), Option<Sent>)> = Vec::new();
    let end = world.now() + time;
    while world.now() < end {
        for pair in PAIRS {
            sent.push((pair, world.try_send_within(pair.0, pair.1, 500, OF_USE)));
        }
        flood(world);
        world.run_for(PACE);
    }
    world.run_for(OF_USE * 2);
    let mut rates = Rates::new();
    for (pair, sent) in sent {
        let in_time = sent.is_some_and(|sent| world.outcome(sent) == Some(Outcome::Delivered));
        rates.entry(pair).or_default().add(in_time);
    }
    rates
}

/// Waits for the honest to be linked, and learns what their traffic is without a flood.
fn quiet(world: &mut World) -> Rates {
    let linked = |world: &mut World| {
        for (one, other) in PAIRS {
            if world.is_running(one) && !world.linked(one, other) {
                world.try_send_within(one, other, 1, OF_USE);
            }
        }
        let masters = HONEST.map(|name| world.token(name));
        let agreed = masters[0].is_some() && masters.iter().all(|token| *token == masters[0]);
        agreed && PAIRS.iter().all(|(one, other)| world.linked(one, other))
    };
    world.expect("the honest are linked", secs(20), linked);
    world.run_for(secs(3));
    traffic(world, secs(3), |_| {})
}

/// The honest lost neither rate nor links while `flood` went on from now.
#[track_caller]
fn unhurt(world: &mut World, without: &Rates, time: Duration, flood: impl FnMut(&mut World)) {
    let begin = world.now();
    let with = traffic(world, time, flood);
    println!("without: {without:?}\nwith: {with:?}");
    let honest: Vec<Id> = HONEST.iter().map(|name| world.id(name)).collect();
    let mut breaches = Vec::new();
    for pair in PAIRS {
        let ids = [world.id(pair.0), world.id(pair.1)];
        breaches.extend(honest::keeps_its_rate(ids, without[&pair], with[&pair]).err());
    }
    for name in HONEST {
        let seen = world.seen(name).iter().filter(|seen| seen.at >= begin);
        let judge = |seen: &sim::world::Seen| {
            honest::keeps_its_links(world.id(name), seen.at, &seen.event, |id| honest.contains(id)).err()
        };
        breaches.extend(seen.filter_map(judge));
    }
    assert!(breaches.is_empty(), "{breaches:#?}");
    world.assert_clean();
}

fn stranger(id: u64, node: &str, what: Hostility, per_second: u32) -> Fault {
    let kind = FaultKind::Hostile { node: node.to_owned(), what, per_second };
    Fault { id, at_ms: 12_000, for_ms: 20_000, kind }
}

#[test]
fn junk_of_strangers_at_line_rate() {
    let mut scenario = scenario(901);
    for (n, node) in ["s1", "s2", "h1", "h2", "h4"].into_iter().enumerate() {
        let n = 10 * n as u64;
        scenario = scenario.fault(stranger(n, node, Hostility::Garbage, 20_000));
        scenario = scenario.fault(stranger(n + 1, node, Hostility::Recorded, 4_000));
        scenario = scenario.fault(stranger(n + 2, node, Hostility::Altered, 4_000));
    }
    let mut world = scenario.start();
    let without = quiet(&mut world);
    let from = secs(12).max(world.now());
    world.run_until(from);
    unhurt(&mut world, &without, secs(4), |_| {});
}

#[test]
fn a_member_that_sends_valid_messages_as_fast_as_it_is_let() {
    let mut world = scenario(902).peer("evil").apart("evil", "h4").start();
    let without = quiet(&mut world);
    unhurt(&mut world, &without, secs(5), |world| {
        for to in ["h1", "h4", "s1"] {
            for lane in 0..4 {
                for _ in 0..25 {
                    world.try_send("evil", to, 1_000, lane);
                }
            }
        }
    });
    assert!(world.counts().sent > 100_000, "{:?}", world.counts());
}

#[test]
fn a_member_that_probes_without_end() {
    let mut world = scenario(903).peer("evil").start_with(members(&[("evil", Misdeed::Probes, 20)]));
    let without = quiet(&mut world);
    unhurt(&mut world, &without, secs(5), |_| {});
}

#[test]
fn a_member_that_says_nonsense_on_its_links() {
    let mut world = scenario(904).peer("evil").start_with(members(&[("evil", Misdeed::Garbage, 20)]));
    let without = quiet(&mut world);
    unhurt(&mut world, &without, secs(10), |_| {});
    let lost = world.counter("evil", "links lost");
    assert!(lost > 10, "each nonsense costs the link, and it was said {lost} times");
}

/// Beyond the quota of an Id, so that the server tells it.
#[test]
fn a_member_that_has_nothing_relayed_at_line_rate() {
    let config = config(|config| {
        config.relay_bytes_per_id = 20_000_000;
        config.relay_bytes_per_prefix = 20_000_000;
        config.relay_bytes_total = 10_000_000;
    });
    let scenario = scenario(905).config(config).peer("evil").in_lan("den").ipv4_only();
    let mut world = scenario.start_with(members(&[("evil", Misdeed::Relayed, 25)]));
    let without = quiet(&mut world);
    unhurt(&mut world, &without, secs(5), |_| {});
    let over: u64 = ["s1", "s2", "s3"].map(|name| world.counter(name, "dropped: over the relay quota")).iter().sum();
    assert!(over > 50_000, "{over} dropped");
    assert!(world.counter("evil", "relay: told of a quota") <= 3 * 30, "once a second and server");
}

/// Half of them sit there, the others leave and come back; the prefix they come from has 100 links at each node.
#[test]
fn a_thousand_ids_of_one_prefix_come_sit_and_leave() {
    const MINTED: usize = 1_000;
    let config = config(|config| {
        (config.max_links, config.max_peers) = (150, 150);
        (config.max_links_per_prefix, config.max_handshakes_per_prefix) = (100, 50);
    });
    let mut scenario = scenario(906).config(config).peer("late").starting_at(secs(25));
    for n in 1..=MINTED {
        scenario = scenario.peer(&format!("m{n}")).in_lan("mint").ipv4_only().starting_at(secs(15));
    }
    let mut world = scenario.start();
    let without = quiet(&mut world);
    world.run_until(secs(15));
    let mut turn = 0;
    unhurt(&mut world, &without, secs(15), |world| {
        turn += 1;
        let name = format!("m{}", MINTED / 2 + turn % (MINTED / 2));
        if world.is_running(&name) {
            world.kill(&name);
        } else if world.now() > secs(16) {
            world.revive(&name);
        }
    });
    assert!(world.counter("s1", "dropped: first packet over the share of its prefix") > 100);
    assert!(["s1", "s2", "s3", "h1"].iter().all(|server| world.linked("late", server)), "there is room for others");
}

#[test]
fn a_reader_that_never_takes_a_message() {
    let scenario = scenario(907).config(config(|config| {
        config.max_queued_messages = 4_096;
        config.max_unhanded_messages = 512;
    }));
    let mut world = scenario.peer("slow").reading(secs(3_600)).start();
    let without = quiet(&mut world);
    world.expect("a link", secs(10), |world| world.linked("h1", "slow"));
    unhurt(&mut world, &without, secs(5), |world| {
        for from in ["h1", "h3", "s1"] {
            for _ in 0..20 {
                world.try_send(from, "slow", 1_000, 0);
            }
        }
    });
    assert!(world.counts().blocked > 0, "the queues are full: {:?}", world.counts());
}

#[test]
fn a_member_that_takes_no_packet_but_answers_probes() {
    let scenario = scenario(908).config(config(|config| config.max_queued_messages = 4_096));
    let mut world = scenario.peer("deaf").start_with(members(&[("deaf", Misdeed::Deaf, 1)]));
    let without = quiet(&mut world);
    unhurt(&mut world, &without, secs(20), |world| {
        for from in ["h1", "h3", "s1"] {
            for _ in 0..20 {
                world.try_send_within(from, "deaf", 1_000, secs(60));
            }
        }
    });
}

#[test]
fn a_member_that_begins_everything_and_ends_nothing() {
    let scenario = scenario(909).config(config(|config| config.max_unhanded_bytes = 1 << 20));
    let mut world = scenario.peer("evil").start_with(members(&[("evil", Misdeed::Halves, 20)]));
    let without = quiet(&mut world);
    for to in ["h1", "h4", "s1"] {
        world.send("evil", to, 100);
        while world.try_stream("evil", to, 1 << 40).is_some() {}
    }
    unhurt(&mut world, &without, secs(5), |world| {
        for to in ["h1", "h4", "s1"] {
            for _ in 0..50 {
                world.ask("evil", to, 200);
            }
        }
    });
}

/// All peers lose all servers but one at once, and come back together.
#[test]
fn many_peers_come_at_once_when_a_server_is_back() {
    const CROWD: usize = 200;
    let mut world = scenario(910).peers("p", CROWD).start();
    let without = quiet(&mut world);
    world.kill("s2");
    world.run_for(secs(40));
    world.revive("s2");
    let begin = world.now();
    let with = traffic(&mut world, secs(5), |_| {});
    for pair in PAIRS {
        let ids = [world.id(pair.0), world.id(pair.1)];
        assert_eq!(honest::keeps_its_rate(ids, without[&pair], with[&pair]), Ok(()));
    }
    let down = |name: &str| world.seen_at(name, begin, |event| matches!(event, p2pcore::Event::ServerDown { .. }));
    assert_eq!(HONEST.map(down), [None; HONEST.len()]);
    let all = |world: &mut World| (1..=CROWD).all(|n| world.linked(&format!("p{n}"), "s2"));
    world.expect("all are back", secs(10), all);
    world.assert_clean();
}
