//! Transcripts: commands, and exactly what came of them.
//!
//! A line that begins with `>` is a command, one with `#` a comment; the rest is what the nodes did and must be the same
//! to the letter. What a failing test prints is the transcript as it would have to be.

use super::{world::World, *};

fn replay(script: &str) -> String {
    let mut world = World::of(1);
    let mut lines = Vec::new();
    for line in script.lines() {
        if let Some(command) = line.strip_prefix("> ") {
            lines.push(line.to_owned());
            world.transcript.clear();
            let refused = run(&mut world, command).err();
            lines.append(&mut world.transcript);
            lines.extend(refused);
        } else if line.starts_with('#') || line.is_empty() {
            lines.push(line.to_owned());
        }
    }
    world.assert_sound();
    lines.join("\n") + "\n"
}

fn check(script: &str) {
    let replayed = replay(script);
    assert!(replayed == script, "the transcript differs:\n{replayed}");
}

fn run(world: &mut World, command: &str) -> Result<(), String> {
    let words: Vec<&str> = command.split(' ').collect();
    let number = |place: usize| -> u8 { words.get(place).and_then(|word| word.parse().ok()).unwrap_or(0) };
    let (id, other) = (number(1), number(2));
    let ops = || words.iter().skip(2).filter_map(|word| op(word)).collect();
    match words.first().copied().unwrap_or_default() {
        "world" => *world = World::new(id, other, Limits::default(), None),
        "silent" => (1..=world.nodes.len() as u8).for_each(|id| world.on(id, Node::leader_silent)),
        "campaign" => world.on(id, Node::campaign),
        "beat" => _ = world.on(id, Node::beat),
        "check-quorum" => world.on(id, Node::check_quorum),
        "propose" => return refusal(world.on(id, |node| node.propose(other.into()))),
        "simple" => return refusal(world.on(id, |node| node.propose_change(&Change::Simple(ops())))),
        "joint" => return refusal(world.on(id, |node| node.propose_change(&Change::Joint(ops())))),
        "transfer" => return refusal(world.on(id, |node| node.transfer(other))),
        "settle" => world.settle(),
        "deliver" | "lose" => {
            let place = world.wire.iter().position(|(from, to, _)| (*from, *to) == (id, other));
            let place = place.ok_or("nothing is on the way")?;
            if words.first() == Some(&"deliver") { world.deliver(place) } else { _ = world.wire.remove(place) }
        }
        "isolate" => world.isolate(id),
        "heal" => world.heal(),
        "restart" => world.restart(id),
        "state" => {
            let states: Vec<String> = world.nodes.values().flat_map(state).collect();
            world.transcript.extend(states);
        }
        other => panic!("no such command: {other}"),
    }
    Ok(())
}

fn refusal<T, E: std::fmt::Display>(result: Result<T, E>) -> Result<(), String> {
    result.map(drop).map_err(|error| format!("refused: {error}"))
}

/// etcd's way: v1 a voter, l1 a learner, r1 removed.
fn op(word: &str) -> Option<Op<u8>> {
    let node = word.get(1..)?.parse().ok()?;
    match word.get(..1)? {
        "v" => Some(Op::Voter(node)),
        "l" => Some(Op::Learner(node)),
        "r" => Some(Op::Remove(node)),
        _ => None,
    }
}

fn state(node: &Node) -> Vec<String> {
    let (role, config) = (node.role(), super::world::members(node.config()));
    let last = format!("{}@{}", node.last_index(), node.log.last_term());
    let (id, commit) = (node.id(), node.commit());
    let mut lines =
        vec![format!("{id}: {:?} term {} commit {commit} last {last} config {config}", role.role, role.term)];
    lines.extend(node.progress().map(|(other, progress)| {
        let Progress { matched, next, state, join, .. } = progress;
        format!("   {other}: {state:?} match {matched} next {next} join {join}")
    }));
    lines
}

#[test]
fn the_first_election_of_three() {
    check(include_str!("transcripts/election.txt"));
}

#[test]
fn a_refused_pre_vote() {
    check(include_str!("transcripts/pre_vote.txt"));
}

#[test]
fn a_conflict_hint() {
    check(include_str!("transcripts/conflict.txt"));
}

#[test]
fn a_joint_change_from_one_to_three() {
    check(include_str!("transcripts/joint.txt"));
}

#[test]
fn a_transfer() {
    check(include_str!("transcripts/transfer.txt"));
}

#[test]
fn the_removal_of_a_leader() {
    check(include_str!("transcripts/removal.txt"));
}
