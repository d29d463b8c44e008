//! All schedules of small worlds, or as many as there is time for: every order of delivery, loss, slow disks, restarts.

use std::collections::BTreeSet;

use super::{world::World, *};

/// What may happen besides deliveries.
#[derive(Clone, Copy)]
struct Bounds {
    /// Nobody campaigns beyond this term.
    terms: u64,
    /// Nodes that restart, in all.
    restarts: u8,
    /// Worlds looked at.
    worlds: usize,
}

/// What was seen of all worlds that can come from one.
struct Explored {
    worlds: usize,
    is_complete: bool,
    broken: Option<String>,
    elected: BTreeSet<(u64, u8)>,
    committed: u64,
}

fn explore(first: World, bounds: Bounds) -> Explored {
    let mut seen = BTreeSet::from([(first.fingerprint(), 0)]);
    let mut waiting = vec![(first, 0)];
    let mut explored = Explored { worlds: 0, is_complete: false, broken: None, elected: BTreeSet::new(), committed: 0 };
    while let Some((world, restarts)) = waiting.pop() {
        explored.worlds += 1;
        if explored.worlds > bounds.worlds {
            return explored;
        }
        let leaders = world.nodes.values().filter(|node| node.is_leader());
        explored.elected.extend(leaders.map(|node| (node.term(), node.id())));
        explored.committed = explored.committed.max(world.checks.committed());
        for (mut next, restarts) in successors(&world, restarts, bounds) {
            next.transcript.clear();
            if next.broken.is_some() {
                explored.broken = next.broken;
                return explored;
            }
            if seen.insert((next.fingerprint(), restarts)) {
                waiting.push((next, restarts));
            }
        }
    }
    explored.is_complete = true;
    explored
}

fn successors(world: &World, restarts: u8, bounds: Bounds) -> Vec<(World, u8)> {
    let mut all = Vec::new();
    let mut after = |restarts: u8, act: &dyn Fn(&mut World)| {
        let mut next = world.clone();
        act(&mut next);
        // of equal messages one is enough, or there would be no end
        let mut once = Vec::new();
        next.wire.retain(|message| {
            !once.contains(message) && {
                once.push(message.clone());
                true
            }
        });
        all.push((next, restarts));
    };
    for place in 0..world.wire.len() {
        after(restarts, &|next| next.deliver(place));
    }
    for (&id, node) in &world.nodes {
        if world.is_writing(id) {
            after(restarts, &|next| _ = next.write(id));
        }
        if restarts < bounds.restarts {
            after(restarts + 1, &|next| next.restart(id));
        }
        if node.term() < bounds.terms && node.role().role == Role::Follower {
            after(restarts, &|next| {
                let ids: Vec<u8> = next.nodes.keys().copied().collect();
                ids.into_iter().for_each(|id| next.on(id, Node::leader_silent));
                next.on(id, Node::campaign);
            });
        }
    }
    all
}

/// All of it was seen, and nothing was broken.
fn assert_sound(explored: &Explored) {
    assert_eq!(explored.broken, None);
    assert!(explored.is_complete, "more than {} worlds", explored.worlds);
}

#[test]
fn two_voters_in_two_terms() {
    let explored = explore(World::of(2), Bounds { terms: 2, restarts: 0, worlds: 10_000 });
    assert_sound(&explored);
    assert_eq!(explored.elected, [(1, 1), (1, 2), (2, 1), (2, 2)].into());
    assert_eq!(explored.committed, 3);
}

#[test]
fn two_voters_of_which_one_restarts() {
    assert_sound(&explore(World::of(2), Bounds { terms: 1, restarts: 1, worlds: 10_000 }));
}

/// {1} is about to be exchanged for {2}; disks are slow, either may restart, both may campaign.
fn exchange(flaw: Option<Flaw>, change: fn(Vec<Op<u8>>) -> Change<u8>) -> Explored {
    let mut world = World::new(1, 2, Limits::default(), flaw);
    world.elect(1);
    world.change(1, Change::Simple(vec![Op::Learner(2)]));
    world.is_fast = false;
    world.on(1, |node| node.propose_change(&change(vec![Op::Voter(2), Op::Learner(1)]))).unwrap();
    explore(world, Bounds { terms: 2, restarts: 1, worlds: 5_000 })
}

#[test]
fn an_exchange_at_two_members() {
    let joint = exchange(None, Change::Joint);
    assert_eq!(joint.broken, None);
    assert!(joint.elected.contains(&(2, 1)) && joint.elected.contains(&(2, 2)), "{:?}", joint.elected);
    let direct = exchange(Some(Flaw::DirectStep), Change::Simple);
    assert!(direct.broken.is_some());
}
