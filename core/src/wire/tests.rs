//! Golden vectors: the bytes of each message, which a change must not silently alter, and the decoder's refusals.

use proptest::prelude::*;

use super::*;
use crate::{
    PublicKey, Role,
    master::{Allegiance, Body, Generation, Kind, NoQuorum, Saying, Token},
    table::{Addresses, Delta, NetworkInfo, Snapshot, Version},
};

fn id(role: Role, seed: u8) -> Id {
    Id::from_key(role, &PublicKey([seed; 32]))
}

fn run() -> Incarnation {
    Incarnation { counter: 300, random: [7; 16] }
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, last], 4433))
}

fn network() -> NetworkInfo {
    NetworkInfo {
        version: 3,
        public: Addresses::first([address(1)]),
        private: Addresses::first(["[2001:db8::1]:9".parse().unwrap()]),
        listen: Addresses::default(),
        ..NetworkInfo::default()
    }
}

fn wanted() -> Wanted {
    Wanted { ids: Bounded::first([id(Role::Peer, 1)]), names: Bounded::first([Name::new("ant").unwrap()]) }
}

fn messages() -> Vec<(&'static str, Control)> {
    let name = Name::new("ant").unwrap();
    let slot = Slot::new(258, 3).unwrap();
    let row = PeerRow { name: name.clone(), incarnation: run(), network: network(), slot };
    let server = ServerRow {
        name: name.clone(),
        incarnation: run(),
        version: 2,
        addresses: Addresses::first([address(2)]),
        slot: Some(slot),
    };
    let version = Version { epoch: run(), number: 9 };
    let hello = Hello {
        name,
        incarnation: run(),
        cluster: Some(ClusterId([5; 16])),
        server_proof: None,
        last_link: Some([6; 16]),
        dial: 1,
        network: network(),
    };
    let rows = vec![(id(Role::Peer, 1), row.clone())];
    let told = rows.clone();
    let founder = id(Role::Server, 3);
    let token = Token { generation: 1, kind: Kind::Elected, term: 7, id: founder };
    let delta = Delta {
        epoch: run(),
        from: 9,
        to: 10,
        more: true,
        set: vec![(id(Role::Peer, 1), row)],
        removed: vec![id(Role::Peer, 2)],
    };
    vec![
        ("hello", Control::Hello(Box::new(hello))),
        ("seen", Control::Seen(address(9))),
        ("network", Control::Network(network())),
        ("servers", Control::Servers(Bounded::first([(id(Role::Server, 3), server)]))),
        ("slot", Control::Slot(slot)),
        ("snapshot", Control::Directory(Update::Snapshot(Snapshot { version, more: false, rows }))),
        ("delta", Control::Directory(Update::Delta(delta))),
        ("directory lost", Control::DirectoryLost),
        ("links lost", Control::LinksLost),
        ("duplicate", Control::Duplicate(Bounded::first([address(1), address(2)]))),
        (
            "seen elsewhere",
            Control::SeenElsewhere(Sighting { id: id(Role::Peer, 1), incarnation: run(), address: Some(address(4)) }),
        ),
        (
            "council",
            Control::Council(Box::new(MasterMessage {
                allegiance: Some(Allegiance {
                    cluster: ClusterId([5; 16]),
                    generation: Generation { number: 1, founder },
                }),
                body: Body::Saying(Saying { token, round: 300 }),
            })),
        ),
        ("master", Control::Master(MasterView::Master(token))),
        ("no master", Control::Master(MasterView::NoMaster(Some(NoQuorum { need: 3, have: 2 })))),
        (
            "members",
            Control::Members(Members {
                generation: 1,
                version: 9,
                list: Bounded::first([MemberInfo { id: founder, is_voter: true }]),
            }),
        ),
        ("on demand", Control::OnDemand { max_watches: 4_096 }),
        ("watch", Control::Watch(wanted())),
        ("unwatch", Control::Unwatch(wanted())),
        (
            "rows",
            Control::Rows(Rows {
                set: Bounded::first(told),
                absent: Bounded::first([id(Role::Peer, 2)]),
                names: Bounded::first([Name::new("ant").unwrap()]),
            }),
        ),
        ("idle", Control::Idle),
        ("busy", Control::Busy),
        ("first packet", Control::FirstPacket { to: id(Role::Peer, 1), packet: Bytes::from_static(&[0xc0, 1, 2]) }),
        ("foreign cluster", Control::ForeignCluster { id: id(Role::Server, 3), cluster: Some(ClusterId([5; 16])) }),
    ]
}

#[test]
fn bytes_are_those_of_the_golden_vectors() {
    let lines =
        messages().into_iter().map(|(name, message)| format!("{name}: {}\n", crate::id::hex(&message.encode())));
    assert_eq!(lines.collect::<String>(), include_str!("golden.txt"));
}

/// Of the most members that there can be, with the longest numbers.
#[test]
fn the_largest_append_of_a_council_fits() {
    use crate::{
        master::{Member, Membership, Roster, Settings},
        raft,
    };
    let settings = Settings::default();
    let limits = settings.limits();
    let run = Incarnation { counter: u64::MAX, random: [255; 16] };
    let all: Vec<Id> = (0..limits.max_learners + limits.max_voters)
        .map(|member| id(Role::Server, u8::try_from(member).unwrap()))
        .collect();
    let membership = |id: &Id| Membership { id: *id, join: run };
    let roster = Roster {
        members: all.iter().map(|id| Member { membership: membership(id), age_ms: u64::MAX }).collect(),
        leaving: all.iter().map(membership).collect(),
        gone: all.iter().take(32).map(membership).collect(),
    };
    let (learners, voters) = all.split_at(limits.max_learners);
    let voters: std::collections::BTreeSet<Id> = voters.iter().copied().collect();
    let config = raft::Configuration {
        voters: raft::Voters { incoming: voters.clone(), outgoing: voters },
        learners: learners.iter().copied().collect(),
        learners_next: all.iter().copied().take(limits.max_voters).collect(),
        joins: all.iter().map(|id| (*id, u64::MAX)).collect(),
    };
    let entry = |payload| raft::Entry { term: u64::MAX, index: u64::MAX, payload };
    let rosters = (0..limits.max_append_bytes / raft::Command::size(&roster))
        .map(|_| raft::Payload::Command(roster.clone().into()));
    let more = limits.max_append_entries - rosters.len();
    let configs = (0..more).map(|_| raft::Payload::Config(config.clone().into()));
    let body = raft::Body::Append {
        prev_index: u64::MAX,
        prev_term: u64::MAX,
        entries: rosters.chain(configs).map(entry).collect(),
        commit: u64::MAX,
    };
    let message = raft::Message { term: u64::MAX, join: u64::MAX, body };
    let generation = Generation { number: u64::MAX, founder: all[0] };
    let message = MasterMessage {
        allegiance: Some(Allegiance { cluster: ClusterId([5; 16]), generation }),
        body: Body::Raft { from: run, to: run, message },
    };
    let len = Control::Council(Box::new(message)).encode().len();
    assert!((MAX_CONTROL / 2..=MAX_CONTROL).contains(&len), "{len}");
}

#[test]
fn messages_round_trip() {
    for (name, message) in messages() {
        assert_eq!(Control::decode(&message.encode()), Ok(message), "{name}");
    }
}

#[test]
fn another_version_is_refused_by_name() {
    let mut bytes = Control::LinksLost.encode().to_vec();
    bytes[0] = 2;
    assert_eq!(Control::decode(&bytes), Err(WireError::UnknownVersion(2)));
    assert_eq!(Control::decode(&[]), Err(WireError::Malformed));
}

#[test]
fn trailing_bytes_and_cut_messages_are_refused() {
    for (name, message) in messages() {
        let mut bytes = message.encode().to_vec();
        bytes.push(0);
        assert_eq!(Control::decode(&bytes), Err(WireError::Malformed), "{name}");
        for len in 1..bytes.len() - 1 {
            assert_ne!(Control::decode(&bytes[..len]), Ok(message.clone()), "{name} cut to {len}");
        }
    }
}

#[test]
fn over_long_messages_and_lists_are_refused() {
    assert_eq!(Control::decode(&vec![VERSION; MAX_CONTROL + 1]), Err(WireError::TooLong(MAX_CONTROL + 1)));
    let three = postcard::to_extend(&vec![address(1); 3], vec![VERSION, 10]).unwrap();
    assert_eq!(Control::decode(&three), Err(WireError::Malformed));
}

#[test]
fn every_close_code_reads_back() {
    for code in CloseCode::ALL {
        assert_eq!(CloseCode::from_code(code as u64), Some(code));
    }
    assert_eq!(CloseCode::from_code(11), None);
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut versioned = vec![VERSION];
        versioned.extend(&bytes);
        let _ = Control::decode(&bytes);
        if let Ok(message) = Control::decode(&versioned) {
            prop_assert_eq!(Control::decode(&message.encode()), Ok(message));
        }
    }
}
