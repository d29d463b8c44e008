//! Random faults, with all checks after each step; then all works again and must come to rest where the rules say.

use std::time::Duration;

use super::{
    world::{MS, Nature, World},
    *,
};
use crate::{id::ClusterId, rng::Rng};

/// What happened on the way, to see that the schedules reach what they are for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reached {
    pub(super) masters: usize,
    pub(super) provisional: u64,
    pub(super) joint: usize,
    pub(super) forced: u64,
    pub(super) guards: u64,
    pub(super) refused: u64,
}

fn settings(rng: &mut Rng) -> Settings {
    Settings {
        provisional_after: (rng.below(4) > 0).then_some(Duration::from_secs(3)),
        remove_after: (rng.below(2) > 0).then_some(Duration::from_secs(15)),
        stable_after: Duration::from_millis(300 + rng.below(1_000)),
        ..Settings::default()
    }
}

fn nature(rng: &mut Rng) -> Nature {
    let delay = [(MS / 2, 2 * MS), (5 * MS, 30 * MS), (MS, 150 * MS)][rng.below(3) as usize];
    Nature {
        delay,
        loss: [0, 0, 10, 100][rng.below(4) as usize],
        disk: [MS, 20 * MS][rng.below(2) as usize],
        notice: [50 * MS, 1_000 * MS, 10_000 * MS][rng.below(3) as usize],
        ..Nature::default()
    }
}

/// One world from one seed, with what is `plant`ed in it.
pub(super) fn run(seed: u64, plant: impl Fn(&mut World), reached: &mut Reached) -> World {
    let mut rng = Rng::from_seed([3; 32]).fork("schedule", seed);
    let nodes = 1 + rng.below(6) as u8;
    let (settings, nature) = (settings(&mut rng), nature(&mut rng));
    let mut world = World::with(seed, nature, settings);
    plant(&mut world);
    for node in 1..=nodes {
        world.boot(node, if node == 1 { Start::Found(ClusterId([9; 16])) } else { Start::Join });
        world.run(rng.below(3_000));
    }
    for _ in 0..40 {
        if world.broken.is_some() {
            return world;
        }
        let node = 1 + rng.below(u64::from(nodes)) as u8;
        let other = 1 + rng.below(u64::from(nodes)) as u8;
        fault(&mut world, rng.below(30), node, other, &mut rng);
        world.run([20, 300, 1_500, 6_000][rng.below(4) as usize]);
        reached.provisional += u64::from((1..=nodes).any(|node| world.view(node).kind() == Some(Kind::Provisional)));
    }
    if world.broken.is_none() {
        recover(&mut world, nodes, reached);
    }
    reached.joint += world.checks.configs().filter(|config| config.voters.is_joint()).count();
    reached.guards += world.checks.guards;
    reached.refused += world.checks.refused;
    reached.masters += world.checks.masters();
    world
}

fn fault(world: &mut World, which: u64, node: u8, other: u8, rng: &mut Rng) {
    let master = world.master().unwrap_or(node);
    match which {
        0..=2 => world.crash(node),
        3 => world.crash(master),
        4..=7 => {
            let down: Vec<u8> =
                world.hosts.iter().filter(|(_, host)| host.council.is_none()).map(|(node, _)| *node).collect();
            down.into_iter().for_each(|node| world.restart(node));
        }
        8 => {
            world.wipe(node);
            world.run(rng.below(500));
            world.restart(node);
        }
        9 if world.council(node).is_some() => {
            world.crash(node);
            world.run(rng.below(50));
            world.restart(node);
        }
        10..=12 if node != other => world.cut(node, other),
        13 | 14 => {
            let all: Vec<u8> = world.hosts.keys().copied().collect();
            let side = rng.next_u64();
            let (left, right): (Vec<u8>, Vec<u8>) = all.iter().partition(|node| side >> **node & 1 == 1);
            world.part(&left, &right);
        }
        15..=18 => world.heal(),
        19 => world.pause(master, rng.below(4_000)),
        20 => _ = world.on(node, Council::leave),
        21 => _ = world.on(node, |council, now| council.remove(now, server(other))),
        22 => _ = world.on(master, |council, now| council.transfer_to(now, server(other))),
        23 => _ = world.on(node, |council, now| council.transfer(now, server(other))),
        24 => _ = world.on(master, Council::resign),
        25 => _ = world.on(node, Council::resumed),
        26 => {
            let reports: Vec<u8> = [node, other].into_iter().filter(|_| rng.below(2) == 0).collect();
            world.witness(node, &reports);
        }
        27 if rng.below(4) == 0 => force(world, node),
        _ => (),
    }
}

/// Forces a new cluster where the newest generation is known.
fn force(world: &mut World, node: u8) {
    let generation = |node: u8| world.council(node)?.allegiance().map(|own| own.generation.number);
    let newest = world.hosts.keys().filter_map(|node| generation(*node)).max();
    if generation(node).is_some() && generation(node) == newest {
        world.on(node, Council::force_new_cluster);
    }
}

/// All is well again: there must come one Master that all know, with all as members in the roles that the rules give.
fn recover(world: &mut World, nodes: u8, reached: &mut Reached) {
    world.heal();
    world.nature.loss = 0;
    world.nature.delay = (MS / 2, 5 * MS);
    for node in 1..=nodes {
        world.witness(node, &[]);
        world.pause(node, 0);
    }
    for _ in 0..4 {
        for node in 1..=nodes {
            // whoever left or was removed wants to come back
            if world.council(node).is_some_and(|council| council.standing() != Standing::Active) {
                world.crash(node);
            }
            if world.council(node).is_none() {
                world.restart(node);
            }
        }
        world.run(40_000);
        if world.broken.is_some() || is_well(world, nodes) {
            return;
        }
        // too many disks are lost, or two clusters were forced: the operator's way out
        if world.masters().len() != 1 {
            let newest = (1..=nodes).max_by_key(|node| {
                let own = world.council(*node).and_then(Council::allegiance);
                (own.map(|own| own.generation.number), world.order(*node).len())
            });
            if world.hosts.keys().all(|node| world.council(*node).is_none_or(|council| council.allegiance().is_none()))
            {
                // all disks are lost
                world.crash(1);
                world.boot(1, Start::Found(ClusterId([8; 16])));
                world.run(20_000);
            } else if let Some(node) = newest {
                reached.forced += 1;
                world.on(node, Council::force_new_cluster);
                world.run(20_000);
            }
        }
    }
    panic!("does not recover:\n{}", world.picture());
}

fn is_well(world: &World, nodes: u8) -> bool {
    let masters = world.masters();
    let voters = if nodes < 3 { 1 } else { usize::from(nodes) };
    masters.len() == 1
        && (1..=nodes).all(|node| {
            world.view(node).master() == masters.first().map(|master| server(*master))
                && world.order(node).len() == usize::from(nodes)
                && world.voters(node).len() == voters
                && (nodes > 2 || world.voters(node).first() == world.order(node).first())
        })
}

#[test]
fn nothing_breaks_and_all_ends_well() {
    let mut reached = Reached::default();
    for seed in 0..60 {
        let world = run(seed, |_| (), &mut reached);
        assert_eq!(world.broken, None, "seed {seed}\n{}", world.picture());
    }
    println!("{reached:?}");
    assert!(
        reached.masters > 100
            && reached.joint > 60
            && reached.provisional > 10
            && reached.guards > 10_000
            && reached.refused > 100,
        "{reached:?}"
    );
}

#[test]
#[ignore = "takes minutes"]
fn soak() {
    let mut reached = Reached::default();
    for seed in 1_000..3_000 {
        let world = run(seed, |_| (), &mut reached);
        assert_eq!(world.broken, None, "seed {seed}\n{}", world.picture());
    }
    println!("{reached:?}");
}

#[test]
fn the_same_seed_is_the_same_story() {
    let story = |seed| {
        let world = run(seed, |_| (), &mut Reached::default());
        (world.now, world.messages, world.picture())
    };
    assert_eq!(story(5), story(5));
}
