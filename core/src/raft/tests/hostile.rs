//! Messages that no node would send, in any state: no panic, and what is committed stays.

use proptest::{collection, prelude::*};

use super::{random, world::World, *};

/// Small numbers, which meet what is there, and the greatest ones.
fn number() -> impl Strategy<Value = u64> {
    prop_oneof![6 => 0u64..12, 1 => 12u64..2_000, 1 => u64::MAX - 2..=u64::MAX]
}

fn config() -> impl Strategy<Value = Configuration<u8>> {
    let set = || collection::btree_set(0u8..7, 0..4);
    let joins = collection::btree_map(0u8..7, number(), 0..6);
    let wild = (set(), set(), set(), set(), joins).prop_map(|(incoming, outgoing, learners, learners_next, joins)| {
        Configuration { voters: Voters { incoming, outgoing }, learners, learners_next, joins }
    });
    let sound =
        (set(), set(), number()).prop_map(|(voters, learners, join)| Configuration::new(voters, learners, join));
    prop_oneof![1 => wild, 2 => sound]
}

fn payload() -> impl Strategy<Value = Payload<u8, u64>> {
    prop_oneof![
        Just(Payload::Noop),
        number().prop_map(|command| Payload::Command(command.into())),
        config().prop_map(|config| Payload::Config(config.into())),
    ]
}

fn append() -> impl Strategy<Value = Body<u8, u64>> {
    let entry = (number(), number(), payload(), any::<bool>());
    (number(), number(), collection::vec(entry, 0..4), number()).prop_map(|(prev_index, prev_term, wild, commit)| {
        let (mut last_term, mut entries) = (prev_term, Vec::new());
        for (offset, (term, index, payload, fits)) in (1u64..).zip(wild) {
            // most of them fit, or none would be looked at
            let next = prev_index.wrapping_add(offset);
            last_term = if fits { last_term.saturating_add(term % 2) } else { term };
            entries.push(Entry { term: last_term, index: if fits { next } else { index }, payload });
        }
        Body::Append { prev_index, prev_term, entries, commit }
    })
}

fn body() -> impl Strategy<Value = Body<u8, u64>> {
    prop_oneof![
        (number(), number()).prop_map(|(last_index, last_term)| Body::PreVote { last_index, last_term }),
        any::<bool>().prop_map(|granted| Body::PreVoteReply { granted }),
        (number(), number(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| Body::Vote {
            last_index,
            last_term,
            transfer
        }),
        any::<bool>().prop_map(|granted| Body::VoteReply { granted }),
        append(),
        append(),
        append(),
        number().prop_map(|index| Body::Appended { index }),
        (number(), number(), number()).prop_map(|(prev_index, hint_index, hint_term)| Body::Rejected {
            prev_index,
            hint_index,
            hint_term
        }),
        (number(), number()).prop_map(|(commit, round)| Body::Heartbeat { commit, round }),
        number().prop_map(|round| Body::HeartbeatReply { round }),
        (number(), number(), config()).prop_map(|(index, term, config)| Body::Snapshot(Snapshot {
            index,
            term,
            config
        })),
        Just(Body::TimeoutNow),
    ]
}

fn message() -> impl Strategy<Value = (u8, Msg)> {
    (0u8..8, number(), number(), body()).prop_map(|(from, term, join, body)| (from, Message { term, join, body }))
}

/// What a caller may do in between.
fn poke(node: &mut Node, what: u8) {
    match what % 8 {
        0 => node.leader_silent(),
        1 => node.campaign(),
        2 => drop(node.beat()),
        3 => node.check_quorum(),
        4 => drop(node.propose(1)),
        5 => drop(node.propose_change(&Change::Joint(vec![Op::Voter(what % 7)]))),
        6 => drop(node.transfer(what % 7)),
        _ => node.abort_transfer(),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_panics_or_undoes_a_commit(
        acts in random::acts(60),
        hostile in collection::vec((message(), any::<u8>(), any::<bool>()), 1..60),
    ) {
        let mut world = random::run(3, None, acts);
        while world.write(1) {}
        let mut node = world.nodes.remove(&1).unwrap();
        let mut disk = world.disks.remove(&1).unwrap();
        for ((from, message), what, saves) in hostile {
            let (before, committed): (u64, Vec<_>) =
                (node.commit(), node.entries().filter(|entry| entry.index <= node.commit()).cloned().collect());
            let term = node.term();
            node.step(from, message);
            poke(&mut node, what);
            prop_assert!(node.commit() >= before && node.term() >= term);
            prop_assert!(node.commit() <= node.last_index());
            for entry in &committed {
                prop_assert!(entry.index <= node.snapshot().index || node.entries().any(|own| own == entry));
            }
            while let Some(output) = node.poll() {
                if let Output::Persist(order) = output {
                    disk.write(&order);
                    if saves {
                        node.persisted(order.id);
                    }
                }
            }
        }
        // whatever it was told, it can start again from what it wrote
        let again = Node::new(1, disk, random::limits());
        prop_assert!(again.is_ok());
    }

    #[test]
    fn what_is_written_is_what_is_in_memory(acts in random::acts(200)) {
        let mut world = random::run(3, None, acts);
        for id in 1..=5 {
            while world.write(id) {}
            let (node, disk) = (world.node(id), &world.disks[&id]);
            prop_assert_eq!((node.term(), node.vote()), (disk.hard_state.term, disk.hard_state.vote));
            prop_assert_eq!(node.snapshot(), &disk.snapshot);
            prop_assert!(node.entries().eq(disk.entries.iter()));
        }
    }

    #[test]
    fn messages_survive_the_wire(message in message()) {
        let bytes = postcard::to_allocvec(&message.1).unwrap();
        prop_assert_eq!(postcard::from_bytes::<Msg>(&bytes).unwrap(), message.1);
    }
}

fn follower() -> Node {
    let mut world = World::of(3);
    world.elect(1);
    world.propose(1, 7);
    world.nodes.remove(&2).unwrap()
}

fn tell(node: &mut Node, term: u64, body: Body<u8, u64>) -> Vec<Body<u8, u64>> {
    node.step(1, Message { term, join: 1, body });
    let mut said = Vec::new();
    while let Some(output) = node.poll() {
        match output {
            Output::Persist(order) => node.persisted(order.id),
            Output::Send { message, .. } => said.push(message.body),
            _ => (),
        }
    }
    said
}

#[test]
fn a_commit_index_beyond_the_log_commits_nothing() {
    let mut node = follower();
    let commit = node.commit();
    tell(&mut node, 1, Body::Heartbeat { commit: 1_000_000, round: 9 });
    assert_eq!(node.commit(), commit);
    tell(&mut node, 1, Body::Append { prev_index: 3, prev_term: 1, entries: vec![], commit: u64::MAX });
    assert_eq!(node.commit(), 3, "what agrees with the leader's log may be committed");
}

#[test]
fn entries_with_a_gap_are_ignored() {
    let mut node = follower();
    let entry = |index, term| Entry { term, index, payload: Payload::Noop };
    for entries in [vec![entry(5, 1)], vec![entry(4, 1), entry(6, 1)], vec![entry(4, 0)], vec![entry(4, 2)]] {
        let append = Body::Append { prev_index: 3, prev_term: 1, entries, commit: 0 };
        assert_eq!((tell(&mut node, 1, append), node.last_index()), (vec![], 3));
    }
}

#[test]
fn a_committed_entry_is_not_replaced() {
    let mut node = follower();
    tell(&mut node, 1, Body::Heartbeat { commit: 3, round: 1 });
    let entries = vec![Entry { term: 2, index: 3, payload: Payload::Noop }];
    tell(&mut node, 2, Body::Append { prev_index: 2, prev_term: 1, entries, commit: 3 });
    assert_eq!(node.entries().last().map(|entry| entry.term), Some(1));
}

#[test]
fn only_what_agrees_with_the_leaders_log_is_committed() {
    let mut node = follower();
    let entry = |index, term| Entry { term, index, payload: Payload::Noop };
    tell(
        &mut node,
        1,
        Body::Append { prev_index: 3, prev_term: 1, entries: vec![entry(4, 1), entry(5, 1)], commit: 3 },
    );
    tell(&mut node, 2, Body::Append { prev_index: 3, prev_term: 1, entries: vec![entry(4, 1)], commit: 5 });
    assert_eq!((node.commit(), node.last_index()), (4, 5), "entry 5 may be another one at the leader");
}

#[test]
fn a_configuration_that_is_cut_off_the_log_is_no_longer_in_force() {
    let mut node = follower();
    let config = Configuration::new([1, 2, 3, 4], [], 1);
    let entries = vec![Entry { term: 1, index: 4, payload: Payload::Config(config.into()) }];
    tell(&mut node, 1, Body::Append { prev_index: 3, prev_term: 1, entries, commit: 3 });
    assert_eq!(node.config().voters, Voters::new([1, 2, 3, 4]));
    let entries = vec![Entry { term: 2, index: 4, payload: Payload::Noop }];
    tell(&mut node, 2, Body::Append { prev_index: 3, prev_term: 1, entries, commit: 3 });
    assert_eq!(node.config().voters, Voters::new([1, 2, 3]));
}

#[test]
fn an_answer_beyond_the_log_or_the_rounds_is_not_believed() {
    let mut world = World::of(3);
    world.elect(1);
    let before: Vec<_> =
        world.node(1).progress().map(|(_, progress)| (progress.matched, progress.acked_round)).collect();
    for body in [Body::Appended { index: 99 }, Body::HeartbeatReply { round: 99 }] {
        world.on(1, |node| node.step(2, Message { term: 1, join: 1, body }));
    }
    let after: Vec<_> =
        world.node(1).progress().map(|(_, progress)| (progress.matched, progress.acked_round)).collect();
    assert_eq!(before, after);
}

#[test]
fn only_the_leader_may_ask_to_campaign() {
    let mut node = follower();
    node.step(3, Message { term: 1, join: 1, body: Body::TimeoutNow });
    assert_eq!(node.term(), 1);
    tell(&mut node, 1, Body::TimeoutNow);
    assert_eq!(node.term(), 2);
}

#[test]
fn a_second_leader_of_the_term_is_not_listened_to() {
    let mut node = follower();
    let heard = node.step(3, Message { term: 1, join: 1, body: Body::Heartbeat { commit: 3, round: 1 } });
    assert_eq!((heard, node.role().leader), (Heard::Nothing, Some(1)));
}

#[test]
fn an_old_snapshot_changes_nothing() {
    let mut node = follower();
    let before: Vec<_> = node.entries().cloned().collect();
    let config = Configuration::new([9], [], 1);
    let said = tell(&mut node, 1, Body::Snapshot(Snapshot { index: 1, term: 1, config }));
    assert_eq!(said, [Body::Appended { index: node.commit() }]);
    assert!(node.entries().eq(&before));
}

#[test]
fn at_the_end_of_terms_nobody_campaigns() {
    let mut node = follower();
    tell(&mut node, u64::MAX, Body::Heartbeat { commit: 0, round: 1 });
    assert_eq!(node.term(), u64::MAX);
    node.leader_silent();
    node.campaign();
    assert_eq!(node.role().role, Role::Follower);
}

#[test]
fn a_log_at_the_end_of_indexes_takes_no_more() {
    let config = Configuration::new([1], [], 1);
    let disk = Stored {
        hard_state: HardState { term: 1, vote: None, commit: u64::MAX - 1 },
        snapshot: Snapshot { index: u64::MAX - 1, term: 1, config },
        entries: vec![],
    };
    let mut world = World::of(1);
    world.disks.insert(1, disk);
    world.restart(1);
    world.elect(1);
    assert!(world.node(1).is_leader());
    assert_eq!(world.on(1, |node| node.propose(1)), Err(ProposeError::Busy));
}

/// Found by hostile messages to the Council: a leader with an entry at the greatest number took it for one still to be
/// sent, each answer for room for more, and the messages had no end.
#[test]
fn a_leader_at_the_end_of_indexes_comes_to_rest() {
    let mut world = World::of(3);
    for id in 1..=3 {
        let config = Configuration::new([1, 2, 3], [], 1);
        let disk = Stored {
            hard_state: HardState { term: 1, vote: None, commit: u64::MAX - 3 },
            snapshot: Snapshot { index: u64::MAX - 3, term: 1, config },
            entries: vec![],
        };
        world.disks.insert(id, disk);
        world.restart(id);
    }
    world.elect(1);
    let proposed = [1, 2].map(|command| world.on(1, |node| node.propose(command)));
    world.settle();
    assert_eq!(proposed, [Ok(u64::MAX - 1), Err(ProposeError::Busy)]);
    for _ in 0..3 {
        world.beat(1);
    }
    assert_eq!([1, 2, 3].map(|id| world.node(id).commit()), [u64::MAX - 1; 3]);
    world.assert_sound();
    let entry = Entry { term: 2, index: u64::MAX, payload: Payload::Noop };
    let append = Body::<u8, u64>::Append { prev_index: u64::MAX - 1, prev_term: 2, entries: vec![entry], commit: 0 };
    assert!(!Message { term: 2, join: 1, body: append }.is_sound());
}

#[test]
fn a_stored_state_that_was_never_written_is_refused() {
    let entry = |index, term| Entry { term, index, payload: Payload::Noop };
    let start = |commit, entries| {
        let stored = Stored { hard_state: HardState { term: 3, vote: None, commit }, entries, ..Stored::founding([1]) };
        Node::new(1, stored, Limits::default()).err()
    };
    assert_eq!(start(2, vec![entry(2, 1), entry(3, 3)]), None);
    assert_eq!(start(1, vec![entry(3, 1)]), Some(StateError::BadLog));
    assert_eq!(start(1, vec![entry(2, 4)]), Some(StateError::BadLog));
    assert_eq!(start(3, vec![entry(2, 1)]), Some(StateError::BadCommit(3)));
    assert_eq!(start(0, vec![]), Some(StateError::BadCommit(0)));
}

#[test]
fn a_slow_disk_holds_back_a_bounded_number_of_answers() {
    let mut world = World::new(3, 3, random::limits(), None);
    world.is_fast = false;
    for term in 1..100 {
        world.on(2, |node| node.step(1, Message { term, join: 1, body: Body::Heartbeat { commit: 0, round: 1 } }));
    }
    while world.write(2) {}
    assert_eq!(world.wire.len(), random::limits().max_held);
}

#[test]
fn a_leader_that_commits_nothing_fills_a_log_to_its_bound_only() {
    let limits = Limits { max_uncommitted: 4, ..Limits::default() };
    let mut node = Node::new(2, Stored::founding([1, 2, 3]), limits).unwrap();
    let append = |prev: u64, commit| {
        let entries =
            (1..=3).map(|offset| Entry { term: 1, index: prev + offset, payload: Payload::Command(prev.into()) });
        Body::Append { prev_index: prev, prev_term: u64::from(prev > 1), entries: entries.collect(), commit }
    };
    let mut prev = 1;
    for _ in 0..10 {
        tell(&mut node, 1, append(prev, 1));
        prev = node.last_index();
    }
    assert_eq!(prev, 9, "twice as many as a leader accepts beyond its commit index");
    tell(&mut node, 1, append(9, 9));
    assert_eq!((node.commit(), node.last_index()), (9, 12), "once they are committed, it goes on");
}
