//! Random schedules: loss, reordering, duplication, restarts, cuts, changes of the configuration.

use proptest::{collection, prelude::*};

use super::{world::World, *};

/// What may happen next; numbers are taken modulo what there is.
#[derive(Clone, Debug)]
pub(super) enum Act {
    Deliver(usize),
    Run(usize),
    Lose(usize),
    Repeat(usize),
    Write(u8),
    /// Everybody's timeout ends, this node's first.
    Elect(u8),
    Restart(u8),
    Silent(u8),
    Campaign(u8),
    Beat(u8),
    CheckQuorum(u8),
    Propose(u8),
    Change(u8, bool, Vec<Op<u8>>),
    Transfer(u8, u8),
    Abort(u8),
    Cut(u8),
    Heal,
    /// A message is on its way for longer than others.
    Delay(usize),
    /// What was delayed arrives.
    Arrive(usize),
    /// A member is removed, or one that was comes back without its disk, as a voter or a learner.
    Rejoin(u8, bool),
}

const NODES: u8 = 5;

fn op() -> impl Strategy<Value = Op<u8>> {
    (1..=NODES, 0..3).prop_map(|(node, kind)| match kind {
        0 => Op::Voter(node),
        1 => Op::Learner(node),
        _ => Op::Remove(node),
    })
}

fn act() -> impl Strategy<Value = Act> {
    let node = || 1..=NODES;
    prop_oneof![
        20 => any::<usize>().prop_map(Act::Deliver),
        20 => (1usize..30).prop_map(Act::Run),
        4 => any::<usize>().prop_map(Act::Lose),
        3 => any::<usize>().prop_map(Act::Repeat),
        20 => node().prop_map(Act::Write),
        3 => node().prop_map(Act::Elect),
        2 => node().prop_map(Act::Restart),
        6 => node().prop_map(Act::Silent),
        6 => node().prop_map(Act::Campaign),
        4 => node().prop_map(Act::Beat),
        1 => node().prop_map(Act::CheckQuorum),
        5 => node().prop_map(Act::Propose),
        5 => (node(), any::<bool>(), collection::vec(op(), 1..4)).prop_map(|(node, joint, ops)| Act::Change(node, joint, ops)),
        1 => (node(), node()).prop_map(|(node, to)| Act::Transfer(node, to)),
        1 => node().prop_map(Act::Abort),
        1 => node().prop_map(Act::Cut),
        1 => Just(Act::Heal),
        10 => any::<usize>().prop_map(Act::Delay),
        6 => any::<usize>().prop_map(Act::Arrive),
        10 => (node(), any::<bool>()).prop_map(|(node, is_voter)| Act::Rejoin(node, is_voter)),
    ]
}

pub(super) fn acts(most: usize) -> impl Strategy<Value = Vec<Act>> {
    collection::vec(act(), 1..most)
}

/// Small limits, so that snapshots and full windows occur.
pub(super) fn limits() -> Limits {
    Limits { max_append_entries: 2, max_inflight: 2, max_log: 6, max_held: 16, ..Limits::default() }
}

/// At the newest leader if it is a leader's act, else at the node named.
fn leader_or(world: &World, id: u8) -> u8 {
    if id.is_multiple_of(2) { world.leader().unwrap_or(id) } else { id }
}

pub(super) fn perform(world: &mut World, act: Act, command: u64) {
    let on_wire = world.wire.len();
    match act {
        Act::Deliver(place) if on_wire > 0 => world.deliver(place % on_wire),
        Act::Run(count) => (0..count).for_each(|_| run_a_little(world)),
        Act::Lose(place) if on_wire > 0 => _ = world.wire.remove(place % on_wire),
        Act::Delay(place) if on_wire > 0 => world.delay(place % on_wire),
        Act::Repeat(place) if on_wire > 0 => world.wire.push(world.wire[place % on_wire].clone()),
        Act::Deliver(_) | Act::Lose(_) | Act::Repeat(_) | Act::Delay(_) => (),
        Act::Arrive(place) => world.arrive(place),
        Act::Rejoin(id, is_voter) => rejoin(world, id, if is_voter { Op::Voter(id) } else { Op::Learner(id) }),
        Act::Elect(id) => {
            (1..=NODES).for_each(|other| world.on(other, Node::leader_silent));
            world.campaign(id);
        }
        Act::Write(id) => _ = world.write(id),
        Act::Restart(id) => world.restart(id),
        Act::Silent(id) => world.on(id, Node::leader_silent),
        Act::Campaign(id) => {
            world.on(id, Node::leader_silent);
            world.campaign(id);
        }
        Act::Beat(id) => _ = world.on(leader_or(world, id), Node::beat),
        Act::CheckQuorum(id) => world.on(id, Node::check_quorum),
        Act::Propose(id) => _ = world.on(leader_or(world, id), |node| node.propose(command)),
        Act::Change(id, true, ops) => {
            _ = world.on(leader_or(world, id), |node| node.propose_change(&Change::Joint(ops)))
        }
        Act::Change(id, false, ops) => {
            _ = world.on(leader_or(world, id), |node| node.propose_change(&Change::Simple(ops)))
        }
        Act::Transfer(id, to) => _ = world.on(leader_or(world, id), |node| node.transfer(to)),
        Act::Abort(id) => world.on(id, Node::abort_transfer),
        Act::Cut(id) => world.isolate(id),
        Act::Heal => world.heal(),
    }
}

/// Removes `id`; or, once nobody counts it as a member, it comes back as another one, without its disk.
fn rejoin(world: &mut World, id: u8, op: Op<u8>) {
    let Some(leader) = world.leader().filter(|leader| *leader != id) else { return };
    let is_counted = world.nodes.values().any(|node| node.id() != id && node.config().contains(&id));
    if is_counted {
        _ = world.on(leader, |node| node.propose_change(&Change::Simple(vec![Op::Remove(id)])));
    } else if !world.node(leader).committed_config().contains(&id) {
        world.reborn(id, leader);
        _ = world.on(leader, |node| node.propose_change(&Change::Simple(vec![op])));
    }
}

/// Delivers the oldest message, and lets all disks work.
fn run_a_little(world: &mut World) {
    if !world.wire.is_empty() {
        world.deliver(0);
    }
    (1..=NODES).for_each(|id| while world.write(id) {});
}

/// Everything works again: whatever happened, a leader must come and commit.
fn converge(world: &mut World) -> bool {
    world.heal();
    world.is_fast = true;
    let ids: Vec<u8> = world.nodes.keys().copied().collect();
    for id in &ids {
        while world.write(*id) {}
    }
    for round in 0..40u8 {
        world.settle();
        if let Some(leader) = world.leader() {
            world.on(leader, Node::abort_transfer);
            world.settle();
            let proposed = world.on(leader, |node| node.propose(7_000_000));
            world.beat(leader);
            world.beat(leader);
            let members = world.node(leader).config().members();
            let commit = world.node(leader).commit();
            if proposed.is_ok_and(|index| index <= commit)
                && world.node(leader).is_leader()
                && members.iter().all(|node| world.node(*node).commit() == commit)
            {
                return true;
            }
        }
        // the next node's timeout ends
        for id in &ids {
            world.on(*id, Node::check_quorum);
            world.on(*id, Node::leader_silent);
        }
        world.campaign(ids[usize::from(round) % ids.len()]);
    }
    false
}

pub(super) fn run(voters: u8, flaw: Option<Flaw>, acts: Vec<Act>) -> World {
    let mut world = World::new(voters, NODES, limits(), flaw);
    world.is_fast = false;
    for (command, act) in acts.into_iter().enumerate() {
        perform(&mut world, act, command as u64);
        if world.broken.is_some() {
            break;
        }
    }
    world
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Safety at every step, and once all works again, progress.
    #[test]
    fn nothing_breaks_and_all_ends_well(voters in 1u8..=5, acts in acts(400)) {
        let mut world = run(voters, None, acts);
        prop_assert_eq!(&world.broken, &None);
        prop_assert!(converge(&mut world), "no leader that can commit: {:#?}", world.nodes);
        prop_assert_eq!(&world.broken, &None);
    }
}

/// The schedules reach what they are for.
#[test]
fn random_schedules_elect_commit_change_and_compact() {
    use proptest::{strategy::ValueTree, test_runner::TestRunner};
    let mut runner = TestRunner::deterministic();
    let (mut leaders, mut committed, mut configs, mut joint, mut snapshots) = (0, 0, 0, 0, 0);
    for _ in 0..100 {
        let world = run(3, None, acts(400).new_tree(&mut runner).unwrap().current());
        world.assert_sound();
        leaders += world.checks.leaders();
        committed += world.checks.committed();
        configs += world.checks.configs().count();
        joint += world.checks.configs().filter(|config| config.voters.is_joint()).count();
        snapshots += world.transcript.iter().filter(|line| line.contains(" installs ")).count();
    }
    let reached = (leaders, committed, configs, joint, snapshots);
    assert!(leaders > 100 && committed > 300 && configs > 120 && joint > 10 && snapshots > 10, "{reached:?}");
}
