//! Each check fires when the fault that it is for is planted.

use std::time::Duration;

use super::{
    random::{Reached, run},
    world::{MS, Nature, World},
    *,
};
use crate::raft;

/// Runs seeds until a check fires, and expects that it is one of those that should.
fn is_found(plant: impl Fn(&mut World), by: &[&str]) {
    is_found_after(plant, by, None);
}

/// As [`is_found`], but what the fault leads to as well may fire before, in other seeds.
fn is_found_after(plant: impl Fn(&mut World), by: &[&str], before: Option<&str>) {
    let mut broken = (0..200).filter_map(|seed| run(seed, &plant, &mut Reached::default()).broken);
    let first = broken.find(|broken| before.is_none_or(|before| !broken.contains(before))).unwrap_or_default();
    assert!(by.iter().any(|by| first.contains(by)), "{first:?}");
}

fn planted(flaw: Flaw, nodes: u8) -> World {
    let mut world = World::new(1);
    world.flaw = Some(flaw);
    world.grow(nodes);
    world
}

fn assert_broken(world: &World, by: &str) {
    let broken = world.broken.clone().unwrap_or_default();
    assert!(broken.contains(by), "{broken:?}");
}

#[test]
fn a_guard_that_outlives_timeout_now() {
    let mut world = planted(Flaw::StaleLease, 3);
    let master = world.master().unwrap();
    let next = if master == 1 { 2 } else { 1 };
    world.on(master, |council, now| council.transfer_to(now, server(next))).unwrap().unwrap();
    world.run(1_000);
    assert_broken(&world, "hold valid guards");
}

#[test]
fn a_provisional_master_that_ignores_the_veto() {
    let mut world = planted(Flaw::IgnoreVeto, 2);
    world.witness(2, &[1]);
    world.part(&[1], &[2]);
    world.run(20_000);
    assert_broken(&world, "against a veto");
}

#[test]
fn a_provisional_master_that_takes_itself_for_a_real_one() {
    let mut world = planted(Flaw::ProvisionalGuard, 2);
    world.part(&[1], &[2]);
    world.run(20_000);
    assert_broken(&world, "hold valid guards");
    let mut world = planted(Flaw::ProvisionalGuard, 2);
    world.crash(1);
    world.run(20_000);
    assert_broken(&world, "is no voter");
}

#[test]
fn a_lease_that_does_not_count_with_the_drift() {
    let election_min = Duration::from_millis(1_000);
    let timing = crate::raft::Timing {
        election_min,
        election_max: election_min + Duration::from_millis(5),
        drift_ppm: 100_000,
        ..crate::raft::Timing::default()
    };
    let story = |flaw| {
        (0..40).find_map(|seed| {
            let nature = Nature { drift_ppm: 50_000, delay: (MS / 10, MS), ..Nature::default() };
            let mut world = World::with(seed, nature, Settings { timing, ..Settings::default() });
            world.flaw = flaw;
            world.grow(3);
            for _ in 0..10 {
                let Some(master) = world.master() else { break };
                let others: Vec<u8> = (1..=3).filter(|node| *node != master).collect();
                world.part(&[master], &others);
                world.run(3_000);
                world.heal();
                world.run(3_000);
            }
            world.broken
        })
    };
    assert!(story(Some(Flaw::Raft(raft::Flaw::LeaseWithoutDrift))).unwrap().contains("hold valid guards"));
    assert_eq!(story(None), None, "with the drift counted the same stories are sound");
}

/// One that the master does not reach campaigns; the one in the middle follows the master until it starts again.
#[test]
fn a_vote_right_after_a_start() {
    let story = |flaw| {
        (0..40).find_map(|seed| {
            let mut world = World::new(seed);
            world.flaw = flaw;
            world.grow(3);
            let master = world.master().unwrap();
            let others: Vec<u8> = (1..=3).filter(|node| *node != master).collect();
            world.cut(master, others[0]);
            world.run(2_000);
            world.cut(master, others[1]);
            world.crash(others[1]);
            world.restart(others[1]);
            world.run(3_000);
            world.broken
        })
    };
    assert!(story(Some(Flaw::Raft(raft::Flaw::VoteAfterStart))).unwrap().contains("hold valid guards"));
    assert_eq!(story(None), None);
}

#[test]
fn one_to_three_voters_in_one_step() {
    is_found(|world| world.flaw = Some(Flaw::Raft(raft::Flaw::DirectStep)), &["does not follow"]);
}

#[test]
fn a_lease_that_counts_from_the_answer() {
    let plant = |world: &mut World| world.flaw = Some(Flaw::Raft(raft::Flaw::LeaseFromAnswer));
    is_found_after(plant, &["is valid after"], Some("hold valid guards"));
}

/// The survivor of a forced cluster began Raft anew.
#[test]
fn a_fault_of_raft_outlives_a_new_generation() {
    let mut world = planted(Flaw::Raft(raft::Flaw::DirectStep), 2);
    world.on(1, Council::force_new_cluster).unwrap().unwrap();
    world.boot(3, Start::Join);
    world.run(20_000);
    assert_broken(&world, "does not follow");
}

#[test]
fn a_server_that_answers_for_the_disk_it_lost() {
    is_found(|world| world.flaw = Some(Flaw::AnswerForLostDisk), &["votes for", "are Elected in term"]);
}

#[test]
fn an_age_that_is_decided_twice() {
    is_found(|world| world.flaw = Some(Flaw::AgeAnew), &["the order of"]);
}

#[test]
fn a_view_that_shows_whoever_spoke_last() {
    let story = |flaw| {
        let mut world = World::new(1);
        world.flaw = flaw;
        world.grow(3);
        let old = world.master().unwrap();
        let token = world.view(old).token().unwrap();
        world.crash(old);
        world.run(5_000);
        // a saying of the old Master took its time
        let saying = Saying { token, round: 1_000 };
        let (late, relay) = if old == 1 { (2, 3) } else { (1, if old == 2 { 3 } else { 2 }) };
        let allegiance = world.council(late).unwrap().allegiance();
        let message = MasterMessage { allegiance, body: Body::Saying(saying) };
        let late = if world.master() == Some(late) { relay } else { late };
        let from = world.master().unwrap();
        world.on(late, |council, now| council.handle(now, server(from), message));
        world.check();
        world.broken
    };
    assert!(story(Some(Flaw::LastWordCounts)).unwrap().contains("after"));
    assert_eq!(story(None), None);
}

#[test]
fn a_newcomer_that_takes_the_beginning_of_the_log_for_the_present() {
    let story = |flaw| {
        let mut world = World::new(1);
        world.flaw = flaw;
        world.grow(3);
        world.wipe(1);
        world.restart(1);
        world.until(10_000, "the founder reads that it is alone", |world| {
            world.council(1).is_some_and(|council| council.raft().commit() == 1 && council.roster().members.is_empty())
        });
        world.part(&[1], &[2, 3]);
        world.run(5_000);
        world.broken
    };
    let broken = story(Some(Flaw::ElectUnplaced)).unwrap();
    assert!(broken.contains("leads without a roster"), "{broken}");
    assert_eq!(story(None), None);
}

#[test]
fn a_resource_without_a_fence_is_written_by_a_deposed_master() {
    is_found(|world| world.is_unfenced = true, &["the resource accepts"]);
}
