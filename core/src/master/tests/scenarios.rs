//! The rules, one by one.

use super::{world::World, *};
use crate::id::ClusterId;

#[test]
fn one_member_is_master_at_once() {
    let mut world = World::new(1);
    world.boot(1, Start::Found(ClusterId([9; 16])));
    world.until(50, "1 is Master", |world| world.master() == Some(1));
    assert_eq!(world.view(1).kind(), Some(Kind::Elected));
}

#[test]
fn of_two_members_the_older_is_the_only_voter() {
    let mut world = World::of(2, 1);
    assert_eq!((world.order(2), world.voters(2), world.master()), (vec![1, 2], vec![1], Some(1)));
    world.until(2_000, "2 knows the Master", |world| world.view(2).master() == Some(server(1)));
    world.part(&[1], &[2]);
    world.run(5_000);
    assert_eq!(world.master(), Some(1), "through a partition too");
    assert_eq!(world.view(2).reason(), Some(NoQuorum { need: 1, have: 0 }));
}

#[test]
fn three_members_all_vote_and_a_newcomer_votes_within_five_seconds() {
    let mut world = World::of(2, 1);
    world.boot(3, Start::Join);
    world.until(5_000, "three voters", |world| (1..=3).all(|node| world.voters(node) == [1, 2, 3]));
    assert!(world.checks.configs().all(|config| config.voters.incoming.len() != 2), "never two voters on the way up");
}

#[test]
fn at_most_seven_vote_and_the_rest_learn() {
    let mut world = World::of(9, 1);
    assert_eq!(world.voters(9), [1, 2, 3, 4, 5, 6, 7]);
    world.on(3, Council::leave);
    world.until(5_000, "the oldest learner takes the place", |world| world.voters(9) == [1, 2, 4, 5, 6, 7, 8]);
}

#[test]
fn five_members_two_alive_have_no_master_and_say_why() {
    let mut world = World::of(5, 1);
    for node in [1, 2, 3] {
        world.crash(node);
    }
    world.until(5_000, "no Master", |world| {
        [4, 5].iter().all(|node| world.view(*node) == MasterView::NoMaster(Some(NoQuorum { need: 3, have: 2 })))
    });
    world.run(30_000);
    assert_eq!(world.view(4), MasterView::NoMaster(Some(NoQuorum { need: 3, have: 2 })), "nor a Provisional one, ever");
    world.restart(1);
    world.until(6_000, "a Master", |world| (4..=5).all(|node| world.view(node).kind() == Some(Kind::Elected)));
}

#[test]
fn three_to_two_leaves_the_older_as_the_only_voter_and_two_to_one_the_last() {
    for leaver in [1, 2, 3] {
        let mut world = World::of(3, u64::from(leaver));
        world.on(leaver, Council::leave);
        let rest: Vec<u8> = (1..=3).filter(|node| *node != leaver).collect();
        let (older, younger) = (rest[0], rest[1]);
        world.until(8_000, "the older one alone votes", |world| {
            rest.iter().all(|node| world.voters(*node) == [older]) && world.master() == Some(older)
        });
        assert_eq!(world.order(younger), rest);
        world.until(3_000, "the leaver is out", |world| {
            world.council(leaver).is_some_and(|council| council.standing() == Standing::Out)
        });
        world.on(older, Council::leave);
        world.until(8_000, "the younger one alone votes", |world| {
            world.voters(younger) == [younger] && world.master() == Some(younger) && world.order(younger) == [younger]
        });
    }
}

#[test]
fn a_learner_of_two_leaves_and_a_last_member_cannot() {
    let mut world = World::of(2, 1);
    assert_eq!(world.on(2, Council::leave), Some(Ok(())));
    world.until(3_000, "2 is out", |world| world.order(1) == [1] && world.hosts[&2].events.contains(&Event::Out));
    assert_eq!(world.on(1, Council::leave), Some(Err(CommandError::OnlyMember(server(1)))));
}

#[test]
fn who_left_comes_back_after_a_start_as_a_new_member() {
    let mut world = World::of(3, 1);
    world.on(1, Council::leave);
    world.until(8_000, "1 is out", |world| world.hosts[&1].events.contains(&Event::Out));
    world.run(5_000);
    assert_eq!(world.order(2), [2, 3], "it does not come back by itself");
    world.crash(1);
    world.restart(1);
    world.until(8_000, "1 is the youngest", |world| world.order(2) == [2, 3, 1] && world.voters(2) == [1, 2, 3]);
}

#[test]
fn an_older_newcomer_takes_the_vote_of_two_through_both() {
    let mut world = World::new(1);
    world.boot(2, Start::Join);
    world.run(10_000);
    world.boot(1, Start::Found(ClusterId([9; 16])));
    world.until(10_000, "2 is the older one and Master", |world| {
        world.order(1) == [2, 1] && world.voters(1) == [2] && world.master() == Some(2)
    });
    let voters: Vec<usize> = world.checks.configs().map(|config| config.voters.incoming.len()).collect();
    assert_eq!(voters, [1, 2, 1]);
}

#[test]
fn a_restart_with_its_disk_keeps_the_age() {
    let mut world = World::of(2, 1);
    world.crash(1);
    world.run(60_000);
    world.restart(1);
    world.until(5_000, "1 is Master again", |world| {
        world.master() == Some(1) && world.view(2).master() == Some(server(1))
    });
    assert_eq!(world.order(2), [1, 2]);
    world.run(5_000);
    world.boot(3, Start::Join);
    world.until(6_000, "3 is the youngest", |world| world.order(2) == [1, 2, 3]);
}

#[test]
fn an_age_of_hours_survives_a_restart_by_half_at_least() {
    let mut world = World::new(1);
    world.boot(1, Start::Found(ClusterId([9; 16])));
    world.run(400_000);
    world.crash(1);
    world.boot(2, Start::Join);
    world.run(60_000);
    world.restart(1);
    world.until(6_000, "2 is the younger", |world| world.order(1) == [1, 2]);
}

#[test]
fn a_server_without_its_disk_is_a_younger_member_and_never_votes_twice() {
    let mut world = World::of(3, 1);
    world.wipe(1);
    world.restart(1);
    world.until(10_000, "1 is the youngest, and votes", |world| {
        world.order(2) == [2, 3, 1] && world.voters(2) == [1, 2, 3]
    });
    world.run(3_000);
    assert!(world.master().is_some());
    world.assert_sound();
}

#[test]
fn the_long_dead_are_removed_one_at_a_time_and_never_below_three() {
    let settings = Settings { remove_after: Some(std::time::Duration::from_secs(20)), ..Settings::default() };
    let mut world = World::with(1, world::Nature::default(), settings);
    world.grow(5);
    world.crash(5);
    world.run(2_000);
    world.crash(4);
    world.run(10_000);
    assert_eq!(world.order(1).len(), 5);
    world.until(30_000, "two are removed", |world| world.voters(1) == [1, 2, 3]);
    world.crash(3);
    world.run(60_000);
    assert_eq!(world.order(1), [1, 2, 3]);
    world.restart(4);
    world
        .until(10_000, "4 is back, as the youngest, and the next dead one may go", |world| world.order(1) == [1, 2, 4]);
}

#[test]
fn a_server_that_was_removed_stays_away_until_it_is_started_again() {
    let mut world = World::of(4, 1);
    assert_eq!(
        world.on(2, |council, now| council.remove(now, server(9))),
        Some(Err(CommandError::NotAMember(server(9))))
    );
    assert_eq!(world.on(2, |council, now| council.remove(now, server(4))), Some(Ok(())));
    world.until(5_000, "4 is removed", |world| world.voters(2) == [1, 2, 3] && world.order(2) == [1, 2, 3]);
    world.run(10_000);
    assert_eq!(world.order(2), [1, 2, 3]);
    assert_eq!(world.council(4).unwrap().standing(), Standing::Out);
}

#[test]
fn the_younger_of_two_is_provisional_after_a_while_and_never_valid() {
    let mut world = World::of(2, 1);
    world.run(3_000);
    let elected = world.view(2).token().unwrap();
    world.crash(1);
    world.run(9_000);
    assert_eq!(world.view(2).kind(), None);
    world.until(6_000, "2 is Provisional", |world| world.view(2).kind() == Some(Kind::Provisional));
    assert_eq!((world.view(2).master(), world.masters()), (Some(server(2)), vec![]));
    assert!(world.view(2).token().unwrap() < elected);
    world.restart(1);
    world.until(3_000, "1 is Master again", |world| world.view(2).master() == Some(server(1)));
}

#[test]
fn a_peer_that_reports_a_link_to_the_older_one_vetoes() {
    let mut world = World::of(2, 1);
    world.witness(2, &[1]);
    world.part(&[1], &[2]);
    world.run(60_000);
    assert_eq!(world.view(2).kind(), None);
    assert_eq!(world.master(), Some(1));
    world.witness(2, &[]);
    world.until(11_000, "2 is Provisional", |world| world.view(2).kind() == Some(Kind::Provisional));
    world.witness(2, &[1]);
    assert_eq!(world.view(2).kind(), None, "a late report ends it at once");
}

#[test]
fn a_forced_cluster_is_a_new_generation_that_others_join() {
    let mut world = World::of(3, 1);
    world.crash(1);
    world.crash(2);
    world.until(5_000, "no Master", |world| world.master().is_none());
    assert_eq!(world.on(3, Council::force_new_cluster), Some(Ok(())));
    world.until(100, "3 is Master", |world| world.master() == Some(3));
    assert_eq!(world.view(3).token().unwrap().generation, 2);
    world.restart(1);
    world.restart(2);
    world.until(10_000, "all are there again", |world| {
        (1..=3).all(|node| world.voters(node) == [1, 2, 3] && world.view(node).master() == Some(server(3)))
    });
    assert_eq!(world.order(1)[0], 3, "whoever was away is younger");
    assert!(world.hosts[&1].events.contains(&Event::Warning(Warning::Superseded(2))));
}

#[test]
fn a_master_that_meets_a_higher_generation_drops_its_guard_at_once() {
    let mut world = World::of(2, 1);
    world.part(&[1], &[2]);
    world.run(3_000);
    world.on(2, Council::force_new_cluster);
    world.run(1_000);
    assert_eq!(world.masters(), [1, 2], "each in its generation: only the token protects");
    world.heal();
    world.until(200, "1 is no Master", |world| world.masters() == [2]);
    world.until(5_000, "1 is the younger member", |world| world.order(2) == [2, 1] && world.order(1) == [2, 1]);
}

#[test]
fn two_forced_clusters_of_one_generation_do_not_merge() {
    let mut world = World::of(3, 1);
    world.part(&[1], &[2]);
    world.part(&[1, 2], &[3]);
    world.run(5_000);
    world.on(1, Council::force_new_cluster);
    world.on(2, Council::force_new_cluster);
    world.heal();
    world.run(5_000);
    assert!(world.hosts[&1].events.contains(&Event::Warning(Warning::Fork { id: server(2) })));
    assert_eq!((world.order(1)[0], world.order(2)[0]), (1, 2));
    world.on(1, Council::force_new_cluster);
    world.until(10_000, "one more makes one of it", |world| (1..=3).all(|node| world.voters(node) == [1, 2, 3]));
}

#[test]
fn a_foreign_cluster_is_warned_of_and_never_merged() {
    let mut world = World::new(1);
    world.boot(1, Start::Found(ClusterId([1; 16])));
    world.boot(2, Start::Found(ClusterId([2; 16])));
    world.run(10_000);
    assert_eq!((world.order(1), world.order(2)), (vec![1], vec![2]));
    let warning = Warning::ForeignCluster { id: server(2), cluster: ClusterId([2; 16]) };
    let warnings = world.hosts[&1].events.iter().filter(|event| **event == Event::Warning(warning)).count();
    assert_eq!(warnings, 1, "told once");
}

#[test]
fn servers_that_expect_each_other_found_one_cluster_with_all() {
    for seed in 0..10 {
        let mut world = World::new(seed);
        for node in 1..=3 {
            world.boot(node, Start::Expect { servers: 3, cluster: ClusterId([node; 16]) });
            let pause = 100 + world.rng.below(2_000);
            world.run(pause);
        }
        world.until(10_000, "one cluster of three", |world| {
            (1..=3).all(|node| world.voters(node) == [1, 2, 3] && world.view(node).master() == world.view(1).master())
        });
        assert_eq!(world.order(3), [1, 2, 3], "the one running longest founded");
    }
}

#[test]
fn alone_a_server_that_expects_others_founds_nothing() {
    let mut world = World::new(1);
    world.boot(1, Start::Expect { servers: 3, cluster: ClusterId([1; 16]) });
    world.boot(2, Start::Expect { servers: 3, cluster: ClusterId([2; 16]) });
    world.run(60_000);
    assert_eq!(world.view(1), MasterView::NoMaster(None));
    let warning = Event::Warning(Warning::TooFew { need: 3, have: 2 });
    assert_eq!(world.hosts[&1].events.iter().filter(|event| **event == warning).count(), 1);
}

#[test]
fn resigning_ends_the_guard_at_once_and_another_one_is_elected() {
    let mut world = World::of(3, 1);
    let master = world.master().unwrap();
    let before = world.view(master).token().unwrap();
    world.on(master, Council::resign);
    assert_eq!(world.masters(), []);
    world.until(1_000, "another Master", |world| world.master().is_some_and(|now| now != master));
    assert!(world.view(world.master().unwrap()).token().unwrap() > before);
}

#[test]
fn the_only_voter_that_resigns_comes_back_under_a_new_token() {
    let mut world = World::of(1, 1);
    let before = world.view(1).token().unwrap();
    world.on(1, Council::resign);
    assert_eq!((world.masters(), world.view(1).kind()), (vec![], None));
    world.until(4_000, "1 is Master again", |world| world.master() == Some(1));
    assert!(world.view(1).token().unwrap() > before);
}

#[test]
fn the_office_is_handed_over_and_the_guard_ends_first() {
    let mut world = World::of(3, 1);
    let master = world.master().unwrap();
    let next = if master == 2 { 3 } else { 2 };
    assert_eq!(world.on(master, |council, now| council.transfer_to(now, server(next))), Some(Ok(())));
    assert_eq!(world.masters(), []);
    world.until(500, "the next Master", |world| world.master() == Some(next));
    let other = 6 - master - next;
    assert_eq!(world.on(other, |council, now| council.transfer(now, server(master))), Some(Ok(())));
    world.until(500, "asked for at a third server", |world| world.master() == Some(master));
}

/// Each leader is asked to go before it could write the roster again; snapshots say nothing of it.
#[test]
fn no_storm_of_hand_overs_drives_the_roster_out_of_the_log() {
    let mut world = World::of(3, 1);
    world.part(&[1, 2], &[3]);
    world.boot(4, Start::Join);
    world.cut(3, 4);
    world.until(5_000, "the fourth is a member", |world| world.order(1).contains(&4) && world.order(2).contains(&4));
    let last = |world: &World| [1, 2].map(|node| world.council(node).unwrap().raft().last_index()).into_iter().max();
    let before = last(&world).unwrap();
    for _ in 0..20_000 {
        world.run(1);
        for (node, other) in [(1, 2), (2, 1)] {
            if world.council(node).is_some_and(|council| council.raft().is_leader()) {
                let _ = world.on(node, |council, now| council.transfer_to(now, server(other)));
            }
        }
        if last(&world).unwrap() > before + 24 {
            break;
        }
    }
    assert!(last(&world).unwrap() > before + 24, "{}", world.picture());
    world.heal();
    world.until(5_000, "the third knows the fourth", |world| world.order(3).contains(&4));
    world.assert_sound();
}

#[test]
fn a_suspend_voids_the_guard_until_a_quorum_answers() {
    let mut world = World::of(3, 1);
    let master = world.master().unwrap();
    world.on(master, Council::resumed);
    assert_eq!(world.masters(), []);
    world.until(50, "a quorum answered", |world| world.masters() == [master]);
}

#[test]
fn the_minority_loses_its_guard_before_the_majority_elects() {
    for seed in 0..20 {
        let mut world = World::of(3, seed);
        let master = world.master().unwrap();
        let others: Vec<u8> = (1..=3).filter(|node| *node != master).collect();
        world.part(&[master], &others);
        world.until(10_000, "another Master", |world| world.master().is_some_and(|now| now != master));
        assert_eq!(world.view(master).kind(), None);
        world.heal();
        world.until(2_000, "all see the same", |world| world.view(master).master() == world.master().map(server));
    }
}

#[test]
fn a_killed_master_is_followed_by_another_one() {
    for seed in 0..20 {
        let mut world = World::of(5, seed);
        let master = world.master().unwrap();
        world.crash(master);
        world.until(6_000, "another Master that all know", |world| {
            let now = world.master().map(server);
            now.is_some()
                && world.hosts.keys().filter(|node| **node != master).all(|node| world.view(*node).master() == now)
        });
    }
}

#[test]
fn a_newcomer_that_reaches_only_a_follower_is_passed_on_to_the_leader() {
    let mut world = World::of(3, 1);
    let master = world.master().unwrap();
    let follower = if master == 1 { 2 } else { 1 };
    for other in (1..=3).filter(|node| *node != follower) {
        world.cut(other, 4);
    }
    world.boot(4, Start::Join);
    world.until(5_000, "4 is a member", |world| world.order(master) == [1, 2, 3, 4]);
    world.until(500, "4 knows the Master by hearsay", |world| world.view(4).master() == Some(server(master)));
    world.run(5_000);
    assert_eq!(world.voters(master), [1, 2, 3], "it has no log yet");
    world.heal();
    world.until(5_000, "4 votes", |world| (1..=4).all(|node| world.voters(node) == [1, 2, 3, 4]));
}

/// Partial connectivity: whoever can reach a quorum is Master, all know it, and nobody disturbs it.
#[test]
fn a_chain_and_a_hub_elect_and_stay() {
    let chain = [(1, 2), (2, 3), (3, 4), (4, 5)];
    let hub = [(1, 3), (2, 3), (4, 3), (5, 3)];
    for links in [chain, hub] {
        for seed in 0..5 {
            let mut world = World::of(5, seed);
            for a in 1..=5 {
                for b in a + 1..=5 {
                    if !links.contains(&(a, b)) && !links.contains(&(b, a)) {
                        world.cut(a, b);
                    }
                }
            }
            world.run(15_000);
            let view = world.view(1);
            assert_eq!(view.kind(), Some(Kind::Elected), "{}", world.picture());
            world.run(60_000);
            assert!((1..=5).all(|node| world.view(node) == view), "{}", world.picture());
        }
    }
}

#[test]
fn a_flapping_member_disturbs_nobody() {
    let mut world = World::of(5, 1);
    let master = world.master().unwrap();
    let token = world.view(master).token();
    let flapping = if master == 5 { 4 } else { 5 };
    let others: Vec<u8> = (1..=5).filter(|node| *node != flapping).collect();
    for _ in 0..20 {
        world.part(&[flapping], &others);
        world.run(1_700);
        world.heal();
        world.run(300);
        assert_eq!(world.view(master).token(), token);
    }
    world.assert_sound();
}

/// With default settings on a LAN the next Master is known to all within a second.
#[test]
fn a_dead_master_is_replaced_within_a_second() {
    let mut times = Vec::new();
    for seed in 0..400 {
        let mut world = World::of(if seed % 2 == 0 { 3 } else { 5 }, seed);
        let master = world.master().unwrap();
        let dead_at = world.now;
        world.crash(master);
        world.until(6_000, "another Master that all know", |world| {
            let now = world.master().map(server);
            now.is_some()
                && world.hosts.keys().filter(|node| **node != master).all(|node| world.view(*node).master() == now)
        });
        times.push((world.now - dead_at) / world::MS);
    }
    times.sort_unstable();
    let p99 = times[times.len() * 99 / 100];
    println!("p50 {} ms, p99 {p99} ms, max {}", times[times.len() / 2], times[times.len() - 1]);
    assert!(p99 <= 1_000, "{times:?}");
}

#[test]
fn a_damaged_state_is_refused_with_the_way_out() {
    let mut world = World::of(1, 1);
    world.run(1_000);
    let sound = world.hosts[&1].disk.clone().unwrap();
    let begin = |durable: Durable| {
        let incarnation = membership(1).join;
        let start = Start::Saved(Box::new(durable));
        Council::new(world.local(1), server(1), incarnation, start, world.settings, world.rng.clone()).err()
    };
    assert_eq!(begin(sound.clone()), None);
    let mut durable = sound.clone();
    durable.raft.hard_state.commit += 9;
    let error = begin(durable).unwrap();
    assert!(matches!(error, StartError::State(_)) && error.to_string().contains("remove it"), "{error}");
    for beyond in [u64::MAX, sound.raft.snapshot.index + sound.raft.entries.len() as u64 + 1] {
        let error = begin(Durable { roster_index: beyond, ..sound.clone() }).unwrap();
        assert_eq!(error, StartError::RosterBeyondLog(beyond));
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}

#[test]
fn nothing_is_said_of_a_new_cluster_before_it_is_on_disk() {
    let mut world = World::new(1);
    world.nature.disk = 1_000 * world::MS;
    world.boot(1, Start::Found(ClusterId([9; 16])));
    world.boot(2, Start::Expect { servers: 2, cluster: ClusterId([2; 16]) });
    world.until(5_000, "2 gives up waiting", |world| {
        world.council(2).is_some_and(|council| council.expecting.is_none())
    });
    assert!(world.hosts[&1].disk.is_some());
}
