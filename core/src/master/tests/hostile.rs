//! Messages that no server would send, at any time: nothing panics, and the tables stay bounded.

use proptest::{collection, prelude::*};

use super::{world::World, *};
use crate::{
    id::ClusterId,
    raft::{self, Configuration, Entry, Payload, Snapshot},
};

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![0..12u64, Just(u64::MAX), Just(u64::MAX - 1), any::<u64>()]
}

fn id() -> impl Strategy<Value = Id> {
    (0..6u8).prop_map(server)
}

fn join() -> impl Strategy<Value = Incarnation> {
    (0..3u64, 0..6u8).prop_map(|(counter, node)| Incarnation { counter, random: [node; 16] })
}

fn any_membership() -> impl Strategy<Value = Membership> {
    (id(), join()).prop_map(|(id, join)| Membership { id, join })
}

fn any_roster() -> impl Strategy<Value = Roster> {
    let member = (any_membership(), number()).prop_map(|(membership, age_ms)| Member { membership, age_ms });
    let others = || collection::vec(any_membership(), 0..4);
    (collection::vec(member, 0..5), others(), others()).prop_map(|(members, leaving, gone)| Roster {
        members,
        leaving,
        gone,
    })
}

fn any_config() -> impl Strategy<Value = Configuration<Id>> {
    (collection::vec(id(), 0..4), collection::vec(id(), 0..3), number())
        .prop_map(|(voters, learners, join)| Configuration::new(voters, learners, join))
}

fn entry() -> impl Strategy<Value = Entry<Id, Roster>> {
    let payload = prop_oneof![
        Just(Payload::Noop),
        any_roster().prop_map(|roster| Payload::Command(roster.into())),
        any_config().prop_map(|config| Payload::Config(config.into())),
    ];
    (number(), number(), payload).prop_map(|(term, index, payload)| Entry { term, index, payload })
}

fn raft_body() -> impl Strategy<Value = raft::Body<Id, Roster>> {
    use raft::Body as Raft;
    prop_oneof![
        (number(), number()).prop_map(|(last_index, last_term)| Raft::PreVote { last_index, last_term }),
        (number(), number(), any::<bool>()).prop_map(|(last_index, last_term, transfer)| Raft::Vote {
            last_index,
            last_term,
            transfer
        }),
        any::<bool>().prop_map(|granted| Raft::VoteReply { granted }),
        any::<bool>().prop_map(|granted| Raft::PreVoteReply { granted }),
        number().prop_map(|index| Raft::Appended { index }),
        number().prop_map(|round| Raft::HeartbeatReply { round }),
        (number(), number()).prop_map(|(commit, round)| Raft::Heartbeat { commit, round }),
        Just(Raft::TimeoutNow),
        (number(), number(), collection::vec(entry(), 0..3), number()).prop_map(
            |(prev_index, prev_term, entries, commit)| Raft::Append { prev_index, prev_term, entries, commit }
        ),
        (number(), number(), any_roster(), number()).prop_map(|(index, term, roster, commit)| Raft::Append {
            prev_index: index,
            prev_term: term,
            entries: vec![Entry { term, index: index.wrapping_add(1), payload: Payload::Command(roster.into()) }],
            commit,
        }),
        (number(), number(), any_config()).prop_map(|(index, term, config)| Raft::Snapshot(Snapshot {
            index,
            term,
            config
        })),
    ]
}

fn wish() -> impl Strategy<Value = Wish> {
    prop_oneof![
        (any_membership(), proptest::option::of(number()))
            .prop_map(|(membership, running_ms)| Wish::Join { membership, running_ms }),
        any_membership().prop_map(Wish::Leave),
        id().prop_map(Wish::Remove),
        id().prop_map(Wish::HandOver),
    ]
}

fn saying() -> impl Strategy<Value = Saying> {
    (number(), any::<bool>(), number(), id(), number()).prop_map(|(generation, is_elected, term, id, round)| {
        let kind = if is_elected { Kind::Elected } else { Kind::Provisional };
        Saying { token: Token { generation, kind, term, id }, round }
    })
}

fn message() -> impl Strategy<Value = MasterMessage> {
    let body = prop_oneof![
        1 => Just(Body::Hello),
        8 => (join(), join(), number(), number(), raft_body()).prop_map(|(from, to, term, join, body)| Body::Raft {
            from,
            to,
            message: raft::Message { term, join, body },
        }),
        3 => (wish(), any::<bool>()).prop_map(|(wish, passed_on)| Body::Ask { wish, passed_on }),
        1 => any_membership().prop_map(Body::Ended),
        1 => saying().prop_map(Body::Saying),
        1 => (number(), any::<bool>()).prop_map(|(running_ms, yields)| Body::Expecting { running_ms, yields }),
    ];
    let allegiance =
        (0..40u8, prop_oneof![20 => Just(1u64), 1 => number()], id()).prop_map(|(cluster, number, founder)| {
            let cluster = ClusterId([if cluster == 0 { 1 } else { 9 }; 16]);
            let founder = if number == 1 { server(1) } else { founder };
            Allegiance { cluster, generation: Generation { number, founder } }
        });
    (proptest::option::weighted(0.9, allegiance), body)
        .prop_map(|(allegiance, body)| MasterMessage { allegiance, body })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_message_panics(
        nodes in 1..4u8,
        messages in collection::vec((0..6u8, 0..6u8, message(), 0..1_500u64), 1..60),
    ) {
        let mut world = World::of(nodes, 1);
        world.boot(5, Start::Expect { servers: 9, cluster: ClusterId([5; 16]) });
        for (to, from, message, pause) in messages {
            world.broken = None;
            let to = if to == 0 { 5 } else { 1 + to % nodes };
            world.on(to, |council, now| council.handle(now, server(from), message.clone()));
            world.on(to, |council, now| council.linked(now, server(from), std::time::Duration::ZERO));
            world.on(to, |council, now| council.handle(now, server(from), message));
            world.run(pause);
            world.on(to, |council, now| {
                council.timeout(now);
                assert!(council.deadline().is_none_or(|at| at > now), "its timer would ring for ever");
            });
        }
        for node in world.hosts.keys() {
            let council = world.council(*node).unwrap();
            prop_assert!(council.links.len() <= 256 && council.raft().entries().count() <= 1_000);
        }
    }
}
