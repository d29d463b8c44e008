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
        ("foreign cluster", Control::ForeignCluster { id: id(Role::Server, 3), cluster: Some(ClusterId([5; 16])) }),
    ]
}

#[test]
fn bytes_are_those_of_the_golden_vectors() {
    let lines =
        messages().into_iter().map(|(name, message)| format!("{name}: {}\n", crate::id::hex(&message.encode())));
    assert_eq!(lines.collect::<String>(), include_str!("golden.txt"));
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
    assert_eq!(CloseCode::from_code(10), None);
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
