//! The checks are checked: each planted fault breaks one of them.

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};

use super::{random, *};

/// What breaks first under `flaw`, and in which of many random schedules.
fn found(voters: u8, flaw: Flaw) -> Option<(usize, String)> {
    let mut runner = TestRunner::deterministic();
    (0..20_000).find_map(|schedule| {
        let acts = random::acts(400).new_tree(&mut runner).unwrap().current();
        random::run(voters, Some(flaw), acts).broken.map(|broken| (schedule, broken))
    })
}

#[test]
fn a_vote_that_is_not_on_disk_is_found() {
    let (_, broken) = found(3, Flaw::VoteNotPersisted).unwrap();
    assert!(broken.contains("on disk"), "{broken}");
}

#[test]
fn an_answer_before_the_disk_has_it_is_found() {
    let (_, broken) = found(3, Flaw::SendBeforePersist).unwrap();
    assert!(broken.contains("on disk"), "{broken}");
}

#[test]
fn changing_several_voters_in_one_step_is_found() {
    let (_, broken) = found(1, Flaw::DirectStep).unwrap();
    assert!(broken.contains("does not follow"), "{broken}");
}

#[test]
fn a_learner_that_is_counted_is_found() {
    let (_, broken) = found(3, Flaw::LearnersCount).unwrap();
    assert!(broken.contains("on the disks of a quorum"), "{broken}");
}

/// The leader commits what is on no other disk, and the next leader lacks it.
#[test]
fn an_answer_of_an_earlier_membership_is_found() {
    let (schedule, broken) = found(3, Flaw::StaleJoin).unwrap();
    println!("planted: StaleJoin found by schedule {schedule}: {broken}");
    let by = ["on the disks of a quorum", "lacks committed"];
    assert!(by.iter().any(|by| broken.contains(by)), "{broken}");
}
