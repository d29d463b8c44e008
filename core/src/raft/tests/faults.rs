//! Faults that other implementations had, each under its name; and that the checks see what goes wrong with it.

use super::{world::World, *};
use Op::{Learner, Remove, Voter};

fn flawed(voters: u8, all: u8, flaw: Option<Flaw>) -> World {
    World::new(voters, all, Limits { max_append_entries: 1, ..Limits::default() }, flaw)
}

fn broken(world: &World) -> &str {
    world.broken.as_deref().unwrap_or_default()
}

fn role(world: &World, id: u8) -> Role {
    world.node(id).role().role
}

/// A member leaves, loses its disk, and comes back within one term; then an answer of its first membership arrives.
fn rejoin(flaw: Option<Flaw>) -> World {
    let mut world = flawed(3, 3, flaw);
    world.elect(1);
    world.on(1, |node| node.propose(7)).unwrap();
    world.settle_until(|world| world.node(3).last_index() == 3);
    let late = world.wire.iter().position(|(from, ..)| *from == 3).unwrap();
    let late = world.wire.remove(late);
    world.settle();
    world.change(1, Change::Simple(vec![Remove(3)]));
    world.wipe(3);
    world.isolate(3);
    world.change(1, Change::Simple(vec![Learner(3)]));
    world.heal();
    world.wire.push(late);
    world.settle();
    for _ in 0..5 {
        world.beat(1);
    }
    world
}

#[test]
fn an_answer_from_before_a_rejoin_does_not_count() {
    let world = rejoin(None);
    assert_eq!(world.node(1).term(), 1, "all in one term");
    assert_eq!(world.node(3).commit(), world.node(1).commit());
    world.assert_sound();
    let world = rejoin(Some(Flaw::StaleJoin));
    assert_ne!(world.node(3).commit(), world.node(1).commit(), "it never catches up");
}

/// Figure 8 of the Raft paper, up to its state (d).
fn figure_8(flaw: Option<Flaw>) -> World {
    let mut world = flawed(5, 5, flaw);
    world.elect(1);
    world.connect_only(&[1, 2]);
    world.propose(1, 20);
    world.connect_only(&[3, 4, 5]);
    world.give_up(1);
    world.on(5, Node::campaign);
    (3..=5).for_each(|id| world.on(id, Node::leader_silent));
    world.on(5, Node::campaign);
    world.settle_until(|world| world.node(5).is_leader());
    world.wire.clear();
    world.connect_only(&[1, 2, 3]);
    world.give_up(5);
    world.on(1, Node::leader_silent);
    world.elect(1);
    for id in 1..=3 {
        world.on(id, Node::leader_silent);
    }
    world.on(1, Node::campaign);
    world.settle_until(|world| world.node(3).last_index() == 3);
    world.cut.insert((1, 3));
    world.settle();
    assert_eq!([1, 2, 3].map(|id| world.node(id).last_index()), [4, 4, 3]);
    world.connect_only(&[3, 4, 5]);
    world.elect(5);
    world.elect(5);
    assert!(world.node(5).is_leader());
    world
}

#[test]
fn entries_of_earlier_terms_are_not_committed_by_counting() {
    figure_8(None).assert_sound();
    let world = figure_8(Some(Flaw::CountOldTerms));
    assert!(broken(&world).contains("lacks committed"), "{}", broken(&world));
}

/// Ongaro's counterexample of 2015: four voters, one being added by a leader that is lost, another one removed by its
/// successor, and the first one comes back.
fn two_single_changes(flaw: Option<Flaw>) -> (World, Result<u64, ProposeChangeError<u8>>) {
    let mut world = flawed(4, 5, flaw);
    world.elect(1);
    world.connect_only(&[1, 5]);
    world.change(1, Change::Simple(vec![Voter(5)]));
    world.connect_only(&[2, 3, 4]);
    world.give_up(1);
    for id in 2..=4 {
        world.on(id, Node::leader_silent);
    }
    world.on(2, Node::campaign);
    world.settle_until(|world| world.node(2).is_leader());
    world.connect_only(&[2, 3]);
    let result = world.on(2, |node| node.propose_change(&Change::Simple(vec![Remove(1)])));
    world.settle();
    world.connect_only(&[1, 4, 5]);
    world.elect(1);
    world.elect(1);
    (world, result)
}

#[test]
fn no_change_before_an_entry_of_the_term_is_committed() {
    let (world, result) = two_single_changes(None);
    assert_eq!(result, Err(ProposeChangeError::TermNotCommitted));
    world.assert_sound();
    let (world, result) = two_single_changes(Some(Flaw::ChangeBeforeNoop));
    assert!(result.is_ok() && broken(&world).contains("lacks committed"), "{}", broken(&world));
}

#[test]
fn no_two_changes_in_flight() {
    let mut world = World::new(3, 5, Limits::default(), None);
    world.elect(1);
    world.on(1, |node| node.propose_change(&Change::Simple(vec![Learner(4)]))).unwrap();
    let second = world.on(1, |node| node.propose_change(&Change::Simple(vec![Learner(5)])));
    assert_eq!(second, Err(ProposeChangeError::InFlight));
    world.settle();
    world.change(1, Change::Simple(vec![Learner(5)]));
    world.assert_sound();
}

/// A sole voter becomes three in one step, and forgets it.
fn direct_step(flaw: Option<Flaw>) -> (World, Result<u64, ProposeChangeError<u8>>) {
    let mut world = World::new(1, 3, Limits::default(), flaw);
    world.elect(1);
    world.change(1, Change::Simple(vec![Learner(2)]));
    world.change(1, Change::Simple(vec![Learner(3)]));
    world.is_fast = false;
    let result = world.on(1, |node| node.propose_change(&Change::Simple(vec![Voter(2), Voter(3)])));
    let others_write = |world: &mut World| {
        for _ in 0..20 {
            while !world.wire.is_empty() {
                world.deliver(0);
            }
            _ = (world.write(2), world.write(3));
        }
    };
    others_write(&mut world);
    world.restart(1);
    for id in 1..=3 {
        world.on(id, Node::leader_silent);
    }
    world.isolate(1);
    world.on(2, Node::campaign);
    others_write(&mut world);
    world.is_fast = true;
    world.on(1, Node::campaign);
    (world, result)
}

#[test]
fn one_to_three_voters_in_one_step_is_refused() {
    let (world, result) = direct_step(None);
    assert_eq!(result, Err(ProposeChangeError::Change(ChangeError::NotByOne(2))));
    world.assert_sound();
    let (world, _) = direct_step(Some(Flaw::DirectStep));
    assert_eq!([1, 2].map(|id| (world.node(id).is_leader(), world.node(id).term())), [(true, 2); 2]);
    assert!(broken(&world).contains("does not follow"), "{}", broken(&world));
}

#[test]
fn an_exchange_at_two_members_goes_through_a_joint_configuration() {
    let mut world = World::new(1, 2, Limits::default(), None);
    world.elect(1);
    world.change(1, Change::Simple(vec![Learner(2)]));
    let ops = vec![Voter(2), Learner(1)];
    let direct = world.on(1, |node| node.propose_change(&Change::Simple(ops.clone())));
    assert_eq!(direct, Err(ProposeChangeError::Change(ChangeError::NotByOne(2))));
    world.change(1, Change::Joint(ops));
    assert_eq!(world.checks.configs().filter(|config| config.voters.is_joint()).count(), 1);
    assert_eq!(role(&world, 1), Role::Follower, "a learner does not lead");
    world.elect(2);
    assert!(world.node(2).is_leader());
    assert_eq!(world.node(1).committed_config().learners, [1].into());
    world.assert_sound();
}

#[test]
fn a_removed_leader_steps_down_once_that_is_committed() {
    let mut world = World::of(3);
    world.elect(1);
    world.cut.extend([(2, 1), (3, 1)]);
    world.change(1, Change::Simple(vec![Remove(1)]));
    assert!(world.node(1).is_leader(), "not before");
    assert_eq!(world.node(1).config().voters, Voters::new([2, 3]));
    world.heal();
    world.beat(1);
    assert_eq!(role(&world, 1), Role::Follower);
    assert_eq!([1, 2, 3].map(|id| world.node(id).commit()), [3, 3, 3], "all heard of it");
    world.elect(1);
    assert_eq!(world.leader(), None, "who was removed does not campaign");
    world.elect(3);
    assert!(world.node(3).is_leader());
    world.assert_sound();
}

#[test]
fn a_leader_that_alone_knows_of_its_removal_leads_until_it_is_committed() {
    let mut world = World::of(2);
    world.elect(1);
    world.isolate(1);
    world.change(1, Change::Simple(vec![Remove(1)]));
    world.restart(1);
    world.heal();
    world.elect(2);
    assert_eq!(world.leader(), None, "the log of 1 is longer");
    world.elect(1);
    world.elect(1);
    assert_eq!(world.node(2).committed_config().voters, Voters::new([2]));
    world.elect(2);
    assert!(world.node(2).is_leader());
    world.assert_sound();
}

/// Found by the random schedules when configurations were in force only once committed: the last voter forgot that it
/// was the last, and the one that had left had the longer log.
#[test]
fn a_voter_that_forgets_that_it_is_the_last_one_can_still_win() {
    let mut world = World::of(2);
    world.elect(2);
    world.is_fast = false;
    world.on(2, |node| node.propose_change(&Change::Simple(vec![Learner(1)]))).unwrap();
    _ = (world.write(2), world.write(1));
    while !world.wire.is_empty() {
        world.deliver(0);
        world.write(1);
    }
    world.on(2, |node| node.propose(7)).unwrap();
    while !world.wire.is_empty() {
        world.deliver(0);
        world.write(1);
    }
    world.restart(2);
    assert!(world.node(1).last_index() > world.node(2).last_index());
    world.is_fast = true;
    world.elect(2);
    assert!(world.node(2).is_leader());
    world.beat(2);
    assert_eq!(world.node(1).last_index(), world.node(2).last_index());
    world.assert_sound();
}

#[test]
fn a_member_that_was_cut_off_raises_no_term_and_disturbs_nobody() {
    let mut world = World::of(3);
    world.elect(1);
    world.isolate(3);
    for _ in 0..10 {
        world.on(3, Node::leader_silent);
        world.on(3, Node::campaign);
        world.settle();
    }
    world.propose(1, 7);
    world.heal();
    world.on(3, Node::campaign);
    world.settle();
    world.beat(1);
    assert_eq!([1, 2, 3].map(|id| world.node(id).term()), [1; 3]);
    assert_eq!((world.leader(), role(&world, 3)), (Some(1), Role::Follower));
    assert_eq!(world.node(3).commit(), world.node(1).commit());
    world.assert_sound();
}

#[test]
fn a_member_that_only_does_not_reach_the_leader_disturbs_nobody() {
    let mut world = World::of(3);
    world.elect(1);
    world.cut.extend([(1, 3), (3, 1)]);
    for _ in 0..5 {
        world.beat(1);
        world.on(1, Node::check_quorum);
        world.on(3, Node::leader_silent);
        world.on(3, Node::campaign);
        world.settle();
    }
    assert_eq!((world.leader(), world.node(1).term(), world.node(2).term()), (Some(1), 1, 1));
    // the one in the middle is reached by all: it wins as soon as the others do not hear a leader
    world.isolate(1);
    world.give_up(1);
    world.cut.clear();
    world.cut.extend([(1, 3), (3, 1)]);
    world.elect(2);
    world.beat(2);
    assert_eq!([1, 2, 3].map(|id| world.node(id).role().leader), [Some(2); 3]);
    world.assert_sound();
}

#[test]
fn a_leader_in_the_minority_steps_down() {
    let mut world = World::of(3);
    world.elect(1);
    world.isolate(3);
    world.beat(1);
    world.on(1, Node::check_quorum);
    world.beat(1);
    world.on(1, Node::check_quorum);
    assert!(world.node(1).is_leader(), "two of three answer");
    world.isolate(1);
    world.beat(1);
    world.on(1, Node::check_quorum);
    assert_eq!(world.node(1).role(), RoleChange { term: 1, role: Role::Follower, leader: None });
}

#[test]
fn no_vote_is_given_twice_over_a_restart() {
    let mut world = World::of(3);
    let vote = |from: u8| {
        (from, Message { term: 4, join: 0, body: Body::Vote { last_index: 1, last_term: 0, transfer: false } })
    };
    let ask = |world: &mut World, (from, message): (u8, Msg)| {
        world.on(3, Node::leader_silent);
        world.on(3, |node| node.step(from, message));
        world.wire.pop().map(|(.., message)| message.body)
    };
    assert_eq!(ask(&mut world, vote(1)), Some(Body::VoteReply { granted: true }));
    world.restart(3);
    assert_eq!(ask(&mut world, vote(2)), Some(Body::VoteReply { granted: false }));
    assert_eq!(ask(&mut world, vote(1)), Some(Body::VoteReply { granted: true }), "the same one may ask again");
    world.assert_sound();
}

#[test]
fn no_vote_is_given_before_the_longest_lease_after_a_restart_has_passed() {
    let ask = |flaw: Option<Flaw>| {
        let mut world = World::new(3, 3, Limits::default(), flaw);
        world.elect(1);
        world.restart(3);
        world.on(2, Node::leader_silent);
        world.on(2, Node::campaign);
        world.settle();
        world.leader()
    };
    assert_eq!(ask(None), Some(1));
    assert_eq!(ask(Some(Flaw::VoteAfterStart)), Some(2));
}

#[test]
fn who_follows_a_leader_has_no_vote_left_in_its_term() {
    let mut world = World::of(3);
    world.cut.insert((1, 3));
    world.elect(1);
    world.wipe(3);
    world.heal();
    world.beat(1);
    assert_eq!(world.disks[&3].hard_state.vote, Some(1));
}

#[test]
fn a_command_that_is_not_on_the_leaders_disk_is_not_counted_there() {
    let mut world = World::of(3);
    world.elect(1);
    world.isolate(3);
    world.is_fast = false;
    world.on(1, |node| node.propose(7)).unwrap();
    world.deliver(0);
    world.write(2);
    while !world.wire.is_empty() {
        world.deliver(0);
    }
    assert_eq!(world.node(1).commit(), 2, "only 2 has it");
    world.write(1);
    assert_eq!(world.node(1).commit(), 3);
    world.assert_sound();
}

#[test]
fn several_inputs_in_a_row_make_one_order_with_all_that_changed() {
    let mut world = World::of(1);
    world.elect(1);
    let node = world.nodes.get_mut(&1).unwrap();
    let proposed = [7, 8].map(|command| node.propose(command));
    assert_eq!(proposed, [Ok(3), Ok(4)]);
    let Some(Output::Persist(order)) = node.poll() else { panic!("nothing to write") };
    let written: Vec<u64> = order.entries.iter().flat_map(|tail| &tail.entries).map(|entry| entry.index).collect();
    assert_eq!(written, [3, 4]);
    node.propose(9).unwrap();
    node.persisted(OrderId(order.id.0 + 9));
    assert_eq!(node.commit(), 4, "an order that was not given is not on disk");
}

#[test]
fn a_follower_behind_the_log_gets_a_snapshot() {
    let mut world = World::new(3, 3, super::random::limits(), None);
    world.elect(1);
    world.isolate(3);
    (0..20).for_each(|command| world.propose(1, command));
    assert!(world.node(1).snapshot().index > world.node(3).last_index());
    world.heal();
    world.beat(1);
    world.beat(1);
    assert_eq!((world.node(3).commit(), world.node(3).last_index()), (22, 22));
    world.restart(3);
    assert_eq!(world.node(3).commit(), 22);
    world.assert_sound();
}

#[test]
fn a_learner_is_never_counted() {
    let mut world = World::new(2, 4, Limits::default(), None);
    world.elect(1);
    world.change(1, Change::Simple(vec![Learner(3)]));
    world.change(1, Change::Simple(vec![Learner(4)]));
    world.isolate(2);
    let commit = world.node(1).commit();
    world.propose(1, 7);
    assert_eq!((world.node(1).commit(), world.node(3).last_index()), (commit, commit + 1));
    world.give_up(1);
    world.beat(3);
    world.elect(3);
    assert_eq!(world.leader(), None);
    world.assert_sound();
}

#[test]
fn a_transfer_that_fails_ends_in_a_new_term_of_the_same_leader() {
    let mut world = World::of(3);
    world.elect(1);
    world.beat(1);
    assert_eq!(world.node(1).acked_round(), Some(1));
    world.on(1, |node| node.transfer(3)).unwrap();
    assert_eq!(world.node(1).acked_round(), None, "the lease ends before the message leaves");
    let late = world.wire.pop().unwrap();
    assert_eq!(late.2.body, Body::TimeoutNow);
    assert_eq!(world.on(1, |node| node.propose(7)), Err(ProposeError::Transferring { to: 3 }));
    world.on(1, Node::abort_transfer);
    world.settle();
    assert_eq!((world.leader(), world.node(1).term()), (Some(1), 2));
    world.wire.push(late);
    world.settle();
    world.beat(1);
    assert_eq!((world.leader(), world.node(1).acked_round()), (Some(1), Some(1)), "the late message is of an old term");
    world.assert_sound();
}

#[test]
fn a_transfer_waits_until_the_next_leader_has_the_whole_log() {
    let mut world = World::of(3);
    world.elect(1);
    world.isolate(3);
    world.propose(1, 7);
    world.on(1, |node| node.transfer(3)).unwrap();
    world.settle();
    assert_eq!((world.leader(), world.node(1).transfer_target()), (Some(1), Some(3)));
    world.heal();
    world.beat(1);
    assert_eq!((world.leader(), world.node(3).term()), (Some(3), 2));
    assert_eq!(world.on(1, |node| node.transfer(2)), Err(TransferError::NotLeader { leader: Some(3) }));
    assert_eq!(world.on(3, |node| node.transfer(9)), Err(TransferError::NotAVoter(9)));
    world.assert_sound();
}

#[test]
fn proposals_are_bounded() {
    let limits = Limits { max_uncommitted: 2, max_command_bytes: 8, ..Limits::default() };
    let mut world = World::new(3, 3, limits, None);
    assert_eq!(world.on(1, |node| node.propose(7)), Err(ProposeError::NotLeader { leader: None }));
    world.elect(1);
    world.isolate(1);
    world.propose(1, 1);
    world.propose(1, 2);
    assert_eq!(world.on(1, |node| node.propose(3)), Err(ProposeError::Busy));
    let small = Limits { max_command_bytes: 7, ..Limits::default() };
    let mut world = World::new(1, 1, small, None);
    world.elect(1);
    assert_eq!(world.on(1, |node| node.propose(3)), Err(ProposeError::TooLarge(8)));
}
