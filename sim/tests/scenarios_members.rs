//! Who belongs to a cluster, who votes and who is Master, while servers come, die, leave and return.

use std::{collections::BTreeSet, time::Duration};

use p2pcore::{
    CommandError, Event, Reason,
    master::{Kind, MasterView, NoQuorum},
    node::{MemberCommand, Outcome},
};
use sim::{plan::LinkModel, scenario::Scenario, world::World};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// So many servers in a cluster, each a second younger than the one before, and two peers.
fn cluster(seed: u64, servers: u64) -> World {
    let add = |scenario: Scenario, n: u64| scenario.server(&format!("s{n}")).starting_at(secs(n - 1));
    let mut world = (1..=servers).fold(Scenario::new(seed), add).peers("p", 2).start();
    world.expect("convergence", secs(30), |world| world.converged());
    world
}

/// The members as a node knows them, from the oldest on, the voters with a star.
fn roles(world: &World, name: &str) -> String {
    let voters = world.voters(name);
    let names = world.status(name).into_iter().flat_map(|status| status.members);
    let nodes = || world.plan().nodes.iter().map(|node| node.name.clone());
    let names = names.filter_map(|member| nodes().find(|node| world.id(node) == member.id));
    let marked = names.map(|name| if voters.contains(&name) { format!("{name}*") } else { name });
    marked.collect::<Vec<_>>().join(" ")
}

/// All running nodes know these members with these roles, and show that Master.
#[track_caller]
fn expect_roles(world: &mut World, members: &str, master: &str) {
    let is_so = |world: &World| {
        let all: BTreeSet<String> = world.running().iter().map(|name| roles(world, name)).collect();
        (all == [members.to_owned()].into() && world.agreed_master().as_deref() == Some(master))
            .then_some(())
            .ok_or(all)
    };
    let end = world.now() + secs(40);
    while let Err(all) = is_so(world) {
        assert!(world.now() < end, "{all:?} under {:?}, not {members} under {master}", world.agreed_master());
        world.run_for(Duration::from_millis(10));
    }
}

fn elected(world: &World, name: &str) -> Option<p2pcore::master::Token> {
    world.token(name).filter(|token| token.kind == Kind::Elected)
}

/// No running node shows a Master, nor holds a guard, and all say why.
#[track_caller]
fn expect_no_quorum(world: &mut World, need: u32, have: u32) {
    let reason = MasterView::NoMaster(Some(NoQuorum { need, have }));
    world.expect("no Master and the reason", secs(40), |world| {
        world.running().iter().all(|name| world.master(name) == Some(reason))
    });
    assert!(world.running().iter().all(|name| world.guard(name).is_none()));
    assert_eq!(world.send_to_master("p1", 10), None);
}

#[test]
fn one_two_three_two_one() {
    let scenario = Scenario::new(61).server("s1").server("s2").starting_at(secs(15)).server("s3").starting_at(secs(30));
    let mut world = scenario.peers("p", 2).start();
    expect_roles(&mut world, "s1*", "s1");
    assert!(world.now() < secs(15));
    let first = world.token("s1");
    expect_roles(&mut world, "s1* s2", "s1");
    assert!(world.now() < secs(30));
    expect_roles(&mut world, "s1* s2* s3*", "s1");
    assert_eq!(world.token("p1"), first, "nobody who joins disturbs the Master");
    world.change_members("s1", MemberCommand::Leave).unwrap();
    expect_roles(&mut world, "s2* s3", "s2");
    let second = world.token("p1");
    assert!(second > first);
    world.expect("it stops", secs(3), |world| !world.is_running("s1"));
    world.change_members("s2", MemberCommand::Leave).unwrap();
    expect_roles(&mut world, "s3*", "s3");
    assert!(world.token("p1") > second);
    let refused = world.change_members("s3", MemberCommand::Leave);
    assert!(matches!(refused, Err(CommandError::Members(_))), "{refused:?}");
    // and back: who left comes as the youngest
    world.introduce("s1", &["s3"]);
    world.revive("s1");
    expect_roles(&mut world, "s3* s1", "s3");
    world.assert_clean();
}

#[test]
fn the_youngest_leave_first() {
    let mut world = cluster(62, 3);
    let token = elected(&world, "p1");
    expect_roles(&mut world, "s1* s2* s3*", "s1");
    world.change_members("s1", MemberCommand::Remove(world.id("s3"))).unwrap();
    expect_roles(&mut world, "s1* s2", "s1");
    world.change_members("s2", MemberCommand::Leave).unwrap();
    expect_roles(&mut world, "s1*", "s1");
    assert_eq!(elected(&world, "p1"), token, "the Master is the same all the time");
    world.assert_clean();
}

#[test]
fn of_three_one_may_die_and_of_two_left_none() {
    let mut world = cluster(63, 3);
    world.kill("s1");
    world.expect("the next Master", secs(5), |world| world.agreed_master().is_some());
    let (next, other) = if world.agreed_master().as_deref() == Some("s2") { ("s2", "s3") } else { ("s3", "s2") };
    expect_roles(&mut world, "s1* s2* s3*", next);
    world.kill(other);
    expect_no_quorum(&mut world, 2, 1);
    world.run_for(secs(60));
    expect_no_quorum(&mut world, 2, 1);
    world.revive("s1");
    world.expect("a Master again", secs(10), |world| world.agreed_master().is_some());
    world.assert_clean();
}

#[test]
fn two_of_five_have_no_master_and_say_why() {
    let mut world = cluster(64, 5);
    expect_roles(&mut world, "s1* s2* s3* s4* s5*", "s1");
    ["s1", "s2", "s3"].iter().for_each(|name| world.kill(name));
    expect_no_quorum(&mut world, 3, 2);
    world.run_for(secs(60));
    expect_no_quorum(&mut world, 3, 2);
    world.revive("s2");
    world.expect("three of five have one", secs(10), |world| world.agreed_master().is_some());
    let sent = world.send_to_master("p1", 100).unwrap();
    world.expect("delivery", secs(5), |world| world.outcome(sent) == Some(Outcome::Delivered));
    ["s1", "s3"].iter().for_each(|name| world.revive(name));
    world.expect("convergence", secs(60), |world| world.converged());
    world.assert_clean();
}

#[test]
fn of_two_the_younger_shows_itself_when_the_older_died_and_acts_only_in_a_forced_cluster() {
    const DELAY: Duration = secs(10);
    let mut world = cluster(65, 2);
    expect_roles(&mut world, "s1* s2", "s1");
    let (old, killed) = (elected(&world, "s2").unwrap(), world.now());
    let shown =
        |event: &Event| matches!(event, Event::Master(MasterView::Master(token)) if token.kind == Kind::Provisional);
    world.kill("s1");
    world.expect("a Provisional Master", secs(60), |world| {
        ["s2", "p1", "p2"].iter().all(|name| world.seen_at(name, killed, shown).is_some())
    });
    let at = world.seen_at("s2", killed, shown).unwrap();
    println!("the younger of two shows itself {:?} after the older one died", at - killed);
    assert!(at >= killed + DELAY);
    let provisional = world.token("s2").unwrap();
    assert_eq!((provisional.kind, provisional.id, provisional.generation), (Kind::Provisional, world.id("s2"), 1));
    assert!(provisional < old && world.token("p1") == Some(provisional));
    for _ in 0..1_000 {
        assert_eq!(world.guard("s2"), None);
        world.run_for(Duration::from_millis(20));
    }
    world.change_members("s2", MemberCommand::ForceNewCluster).unwrap();
    expect_roles(&mut world, "s2*", "s2");
    let forced = world.token("p2").unwrap();
    assert_eq!((forced.kind, forced.generation), (Kind::Elected, 2));
    assert!(forced > old && world.guard("s2").is_some());
    world.revive("s1");
    expect_roles(&mut world, "s2* s1", "s2");
    assert_eq!(world.token("s1"), Some(forced));
    world.expect("convergence", secs(60), |world| world.converged());
    world.assert_clean();
}

#[test]
fn of_two_the_older_without_its_disk_is_let_in_again_only_by_a_forced_cluster() {
    let mut world = cluster(74, 2);
    expect_roles(&mut world, "s1* s2", "s1");
    world.kill("s1");
    world.lose_disk("s1");
    world.introduce("s1", &["s2"]);
    world.run_for(secs(1));
    world.revive("s1");
    world.run_for(secs(60));
    assert_eq!((elected(&world, "p1"), world.members("s1")), (None, vec![]), "nobody may decide");
    world.change_members("s2", MemberCommand::ForceNewCluster).unwrap();
    expect_roles(&mut world, "s2* s1", "s2");
    world.expect("convergence", secs(60), |world| world.converged());
    world.assert_clean();
}

#[test]
fn of_two_the_younger_keeps_quiet_while_a_peer_reports_a_link_to_the_older() {
    let mut world = cluster(66, 2);
    expect_roles(&mut world, "s1* s2", "s1");
    let token = elected(&world, "s1");
    let servers = world.cut("s1", "s2");
    world.expect("it hears no Master", secs(40), |world| world.token("s2").is_none());
    let quiet = world.now();
    world.run_for(secs(120));
    let named = |event: &Event| matches!(event, Event::Master(MasterView::Master(_)));
    assert_eq!(world.seen_at("s2", quiet, named), None);
    assert_eq!((elected(&world, "p1"), elected(&world, "s1")), (token, token), "the older one is Master all the time");
    let peers = ["p1", "p2"].map(|peer| world.cut("s1", peer));
    world.expect("nobody reports the older one", secs(60), |world| world.token("s2").is_some());
    assert_eq!(world.token("s2").map(|token| token.kind), Some(Kind::Provisional));
    assert!(world.guard("s2").is_none() && world.guard("s1").is_some());
    peers.into_iter().chain([servers]).for_each(|cut| world.mend(cut));
    world.expect("convergence", secs(60), |world| world.converged());
    assert_eq!(elected(&world, "s2"), token);
    world.assert_clean();
}

#[test]
fn the_older_of_two_returns_with_its_disk_to_its_office() {
    let mut world = cluster(67, 2);
    let old = elected(&world, "s1").unwrap();
    world.kill("s1");
    world.run_for(secs(50));
    assert!(world.token("p1").is_some_and(|token| token < old));
    world.revive("s1");
    expect_roles(&mut world, "s1* s2", "s1");
    assert!(elected(&world, "p1") > Some(old));
    world.expect("convergence", secs(60), |world| world.converged());
    world.assert_clean();
}

/// When `by` first knew that `name` is a member without a vote, and after that, one with it.
fn learnt_and_voted(world: &World, by: &str, name: &str, since: Duration) -> (Option<Duration>, Option<Duration>) {
    let id = world.id(name);
    let as_voter = |voter: bool| {
        move |event: &Event| match event {
            Event::Members(list) => list.iter().any(|member| member.id == id && member.is_voter == voter),
            _ => false,
        }
    };
    let learnt = world.seen_at(by, since, as_voter(false));
    (learnt, learnt.and_then(|learnt| world.seen_at(by, learnt, as_voter(true))))
}

#[test]
fn a_wiped_disk_comes_back_as_the_youngest_and_learns_first() {
    for (seed, wiped, servers) in [(68, "s1", 3), (69, "s2", 3), (70, "s1", 5), (71, "s4", 5)] {
        let mut world = cluster(seed, servers);
        world.kill(wiped);
        world.lose_disk(wiped);
        world.introduce(wiped, &[if wiped == "s1" { "s2" } else { "s1" }]);
        world.run_for(secs(2));
        let since = world.now();
        world.revive(wiped);
        world.expect("convergence", secs(60), |world| world.converged());
        let last = world.members("p1").last().map(|member| member.id);
        assert_eq!(last, Some(world.id(wiped)), "it is the youngest now");
        for by in world.running().iter().filter(|name| *name != wiped) {
            let (learnt, voted) = learnt_and_voted(&world, by, wiped, since);
            assert!(learnt < voted, "{by}: {learnt:?} {voted:?}");
        }
        world.assert_clean();
    }
}

#[test]
fn three_disks_lost_one_after_the_other_lose_nothing() {
    let mut world = cluster(72, 3);
    for (wiped, other) in [("s2", "s1"), ("s1", "s3"), ("s3", "s2")] {
        world.kill(wiped);
        world.lose_disk(wiped);
        world.introduce(wiped, &[other]);
        world.revive(wiped);
        world.expect("convergence", secs(60), |world| world.converged());
    }
    let master = world.agreed_master().unwrap();
    expect_roles(&mut world, "s2* s1* s3*", &master);
    world.assert_clean();
}

#[test]
fn in_a_lan_a_newcomer_votes_within_five_seconds_of_its_first_link() {
    let mut slowest = Duration::ZERO;
    for seed in 0..10 {
        let late = |scenario: Scenario, n: u64| scenario.server(&format!("s{n}")).starting_at(secs(10 * (n - 1)));
        let scenario = Scenario::new(seed).server("s1");
        let mut world = (2..=5).fold(scenario, late).peers("p", 1).links(LinkModel::lan()).start();
        world.run_for(secs(50));
        for name in ["s3", "s4", "s5"] {
            let linked = world.seen_at(name, Duration::ZERO, |event| matches!(event, Event::ServerUp { .. })).unwrap();
            let (learnt, voted) = learnt_and_voted(&world, name, name, Duration::ZERO);
            assert!(learnt < voted, "{name} learns first: {learnt:?} {voted:?}");
            slowest = slowest.max(voted.unwrap() - linked);
        }
        expect_roles(&mut world, "s1* s2* s3* s4* s5*", "s1");
        world.assert_clean();
    }
    println!("in a LAN a newcomer votes {slowest:?} after its first link at the latest");
    assert!(slowest <= secs(5));
}

#[test]
fn a_message_to_a_master_that_left_fails_as_such_or_is_delivered() {
    let mut world = cluster(73, 3);
    let sent: Vec<_> = (0..20).filter_map(|_| world.send_to_master("p1", 1_000)).collect();
    world.change_members("s1", MemberCommand::Leave).unwrap();
    expect_roles(&mut world, "s2* s3", "s2");
    for sent in sent {
        let outcome = world.outcome(sent);
        let is_fine = matches!(outcome, Some(Outcome::Delivered | Outcome::Failed(Reason::MasterChanged)));
        assert!(is_fine, "{outcome:?}");
    }
    world.assert_clean();
}
