use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::{Incarnation, Name, relay::Slot};

pub(super) fn epoch(counter: u64) -> Incarnation {
    Incarnation { counter, random: [counter as u8; 16] }
}

pub(super) fn peer_row(n: u32) -> PeerRow {
    let network = NetworkInfo {
        version: 3,
        public: Addresses::first([([192, 0, 2, 1], 4000).into(), ([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1], 4001).into()]),
        listen: Addresses::first([([10, 0, 0, 1], 4000).into()]),
        ..NetworkInfo::default()
    };
    let slot = Slot::new(n as u16 % 1000, 3).unwrap();
    PeerRow { name: Name::new(format!("peer {n}")).unwrap(), incarnation: epoch(1), network, slot }
}

fn table(max_rows: usize, max_log: usize) -> Publisher<u8, u32> {
    Publisher::new(epoch(1), max_rows, max_log)
}

/// A copy of `publisher` as of now.
fn copy(publisher: &Publisher<u8, u32>) -> Replica<u8, u32> {
    let mut replica = Replica::new(256);
    replica.apply_snapshot(publisher.snapshot()).unwrap();
    replica
}

#[test]
fn only_what_changes_a_row_makes_a_version() {
    let mut table = table(2, 8);
    table.set(1, 10).unwrap();
    table.set(1, 10).unwrap();
    assert_eq!(table.remove(&9), None);
    assert_eq!(table.version().number, 1);
    table.set(2, 20).unwrap();
    assert_eq!(table.set(3, 30), Err(TableFull { max: 2 }));
    table.set(2, 21).unwrap();
    assert_eq!((table.version().number, table.rows().len(), table.get(&2)), (3, 2, Some(&21)));
}

#[test]
fn a_delta_has_each_row_once_and_nothing_that_came_and_went() {
    let mut table = table(8, 8);
    table.set(1, 1).unwrap();
    for row in 2..5 {
        table.set(2, row).unwrap();
    }
    table.set(3, 0).unwrap();
    table.remove(&3);
    table.remove(&1);
    let delta = table.delta_since(1).unwrap();
    assert_eq!((delta.set, delta.removed), (vec![(2, 4)], vec![1]));
    assert!(table.delta_since(7).unwrap().is_empty());
    assert_eq!(table.delta_since(8), None, "not yet");
}

#[test]
fn a_log_that_does_not_reach_back_makes_a_snapshot() {
    let mut table = table(8, 2);
    let at = |number| Some(Version { epoch: epoch(1), number });
    for row in 0..3 {
        table.set(1, row).unwrap();
    }
    assert!(matches!(table.update_since(at(1)), Update::Delta(_)));
    assert!(matches!(table.update_since(at(0)), Update::Snapshot(_)));
    assert!(matches!(table.update_since(None), Update::Snapshot(_)));
    let other_run = Some(Version { epoch: epoch(2), number: 3 });
    assert!(matches!(table.update_since(other_run), Update::Snapshot(_)));
}

#[test]
fn a_gap_changes_nothing() {
    let mut table = table(8, 8);
    table.set(1, 1).unwrap();
    let mut replica = copy(&table);
    table.set(2, 2).unwrap();
    table.set(3, 3).unwrap();
    let good = table.delta_since(1).unwrap();
    for bad in [
        Delta { from: 2, ..good.clone() },
        Delta { from: 0, ..good.clone() },
        Delta { epoch: epoch(2), ..good.clone() },
        Delta { to: 0, ..good.clone() },
    ] {
        assert_eq!(replica.apply_delta(bad), Err(Refused::Gap));
        assert_eq!((replica.version().unwrap().number, replica.rows().len()), (1, 1));
    }
    assert_eq!(Replica::new(8).apply_delta(good.clone()), Err(Refused::Gap), "nothing to start from");
    assert_eq!(replica.apply_delta(good.clone()).unwrap().added, [2, 3]);
    assert_eq!(replica.apply_delta(good), Err(Refused::Gap), "a second time");
}

#[test]
fn contradictions_and_too_many_rows_are_refused_whole() {
    let mut table = table(256, 8);
    table.set(1, 1).unwrap();
    let mut replica: Replica<u8, u32> = Replica::new(2);
    replica.apply_snapshot(table.snapshot()).unwrap();
    let delta =
        |set: Vec<(u8, u32)>, removed: Vec<u8>| Delta { epoch: epoch(1), from: 1, to: 2, more: false, set, removed };
    assert_eq!(replica.apply_delta(delta(vec![(2, 2)], vec![2])), Err(Refused::Inconsistent));
    assert_eq!(replica.apply_delta(delta(vec![(2, 2)], vec![3])), Err(Refused::Inconsistent));
    let full = Err(Refused::TooManyRows { max: 2 });
    assert_eq!(replica.apply_delta(delta(vec![(2, 2), (3, 3)], vec![])), full);
    assert_eq!(replica.rows(), &BTreeMap::from([(1, 1)]));
    replica.apply_delta(delta(vec![(2, 2), (3, 3)], vec![1])).unwrap();

    let version = Version { epoch: epoch(1), number: 9 };
    for more in [false, true] {
        let rows = (0..3).map(|key| (key, 0)).collect();
        assert_eq!(replica.apply_snapshot(Snapshot { version, more, rows }), full);
    }
    assert_eq!((replica.version().unwrap().number, replica.rows().len()), (2, 2));
}

#[test]
fn staged_parts_are_bounded_too() {
    let mut replica: Replica<u8, u32> = Replica::new(4);
    let version = Version { epoch: epoch(1), number: 0 };
    replica.apply_snapshot(Snapshot { version, more: false, rows: vec![(0, 0)] }).unwrap();
    let part = |keys: std::ops::Range<u8>| Delta {
        epoch: epoch(1),
        from: 0,
        to: 1,
        more: true,
        set: keys.map(|key| (key, 1)).collect(),
        removed: vec![],
    };
    assert!(replica.apply_delta(part(1..4)).unwrap().is_empty());
    assert_eq!(replica.apply_delta(part(4..9)), Err(Refused::TooManyRows { max: 4 }));
}

#[test]
fn the_rows_change_with_the_last_part_and_an_interrupted_update_begins_anew() {
    let mut table = table(256, 512);
    for key in 0..100 {
        table.set(key, 0).unwrap();
    }
    let parts = table.snapshot().parts(10);
    assert!(parts.len() > 10);
    let mut replica = Replica::new(256);
    replica.apply_snapshot(parts[0].clone()).unwrap();
    assert!(replica.version().is_none() && replica.rows().is_empty());
    table.remove(&0);
    let last = table.snapshot().parts(10);
    for part in last {
        replica.apply_snapshot(part).unwrap();
    }
    assert_eq!(replica.rows(), table.rows());

    let from = table.version().number;
    for key in 0..100 {
        table.set(key, 1).unwrap();
    }
    table.remove(&50);
    let parts = table.delta_since(from).unwrap().parts(10);
    replica.apply_delta(parts[0].clone()).unwrap();
    table.set(50, 7).unwrap();
    for part in table.delta_since(from).unwrap().parts(10) {
        replica.apply_delta(part).unwrap();
    }
    assert_eq!(replica.rows(), table.rows());
}

#[test]
fn a_snapshot_tells_what_is_different() {
    let mut table = table(8, 8);
    for (key, row) in [(1, 1), (2, 2), (3, 3)] {
        table.set(key, row).unwrap();
    }
    let mut replica = copy(&table);
    table.remove(&1);
    table.set(2, 9).unwrap();
    table.set(4, 4).unwrap();
    let changes = replica.apply_snapshot(table.snapshot()).unwrap();
    assert_eq!(changes, Changes { added: vec![4], changed: vec![2], removed: vec![(1, 1)] });
    assert_eq!(replica.clear().len(), 3);
    assert!(replica.version().is_none() && replica.rows().is_empty());
}

#[test]
fn parts_stay_within_their_size_unless_a_row_does_not() {
    let rows: Vec<(u32, PeerRow)> = (0..500).map(|n| (n, peer_row(n))).collect();
    let version = Version { epoch: epoch(1), number: 1 };
    let parts = Snapshot { version, more: false, rows: rows.clone() }.parts(1_000);
    for part in &parts {
        assert!(postcard::to_allocvec(part).unwrap().len() < 1_040);
    }
    assert!(parts.len() < 60 && parts.iter().rev().skip(1).all(|part| part.more));
    assert!(!parts.last().unwrap().more);
    let joined: Vec<_> = parts.into_iter().flat_map(|part| part.rows).collect();
    assert_eq!(joined, rows);
    assert_eq!(Snapshot { version, more: false, rows }.parts(1).len(), 500);
    assert_eq!(Snapshot::<u8, u8> { version, more: false, rows: vec![] }.parts(9).len(), 1);
}

#[test]
fn a_part_with_too_many_rows_does_not_decode() {
    let version = Version { epoch: epoch(1), number: 1 };
    let decodes = |len: usize| {
        let snapshot = Snapshot { version, more: false, rows: vec![(1u8, 1u8); len] };
        postcard::from_bytes::<Snapshot<u8, u8>>(&postcard::to_allocvec(&snapshot).unwrap()).is_ok()
    };
    assert!(decodes(MAX_PART_ROWS) && !decodes(MAX_PART_ROWS + 1));
    let rows = (0..MAX_PART_ROWS as u32 + 1).map(|n| (n, ())).collect();
    assert_eq!(Snapshot { version, more: false, rows }.parts(usize::MAX).len(), 2);
}

#[test]
fn the_newest_row_counts() {
    let row = |counter, version| {
        let mut row = peer_row(0);
        row.incarnation.counter = counter;
        row.network.version = version;
        row
    };
    let (old, moved, restarted) = (row(1, 5), row(1, 6), row(2, 0));
    assert_eq!(newest([&moved, &restarted, &old]), Some(&restarted));
    assert_eq!(newest([&old, &moved]), Some(&moved));
    assert_eq!(newest([]), None);
}

#[test]
fn rows_round_trip_and_long_lists_of_addresses_do_not_decode() {
    let row = peer_row(1);
    let bytes = postcard::to_allocvec(&row).unwrap();
    assert_eq!(postcard::from_bytes::<PeerRow>(&bytes), Ok(row.clone()));
    assert!(bytes.len() < 100, "{} bytes", bytes.len());
    for len in 0..bytes.len() {
        assert!(postcard::from_bytes::<PeerRow>(&bytes[..len]).is_err());
    }
    let server = ServerRow {
        name: row.name,
        incarnation: row.incarnation,
        version: 1,
        addresses: row.network.public,
        slot: None,
    };
    assert_eq!(postcard::from_bytes(&postcard::to_allocvec(&server).unwrap()), Ok(server));
    let address: std::net::SocketAddr = ([192, 0, 2, 1], 1).into();
    let bytes = postcard::to_allocvec(&vec![address; MAX_ADDRESSES + 1]).unwrap();
    assert!(postcard::from_bytes::<Addresses>(&bytes).is_err());
}

/// Other versions of the program read these bytes: a change here is a change of the protocol.
#[test]
fn the_wire_forms_are_golden() {
    fn hex(value: &impl serde::Serialize) -> String {
        crate::id::hex(&postcard::to_allocvec(value).unwrap())
    }
    let nats =
        [NatClass::Unknown, NatClass::None, NatClass::EndpointIndependent, NatClass::Sequential, NatClass::Random];
    assert_eq!(hex(&nats), "0001020304");
    assert_eq!(hex(&[LinkKind::Direct, LinkKind::Punched, LinkKind::Relayed]), "000102");
    let row = peer_row(1);
    assert_eq!(
        hex(&row),
        "067065657220310101010101010101010101010101010101030200c0000201a01f0120010db8000000000000000000000001a11f0001000a000001a01f00000103"
    );
    let server = ServerRow {
        name: row.name,
        incarnation: row.incarnation,
        version: 1,
        addresses: row.network.public,
        slot: Some(row.slot),
    };
    assert_eq!(
        hex(&server),
        "067065657220310101010101010101010101010101010101010200c0000201a01f0120010db8000000000000000000000001a11f010103"
    );
    let version = Version { epoch: epoch(2), number: 300 };
    let snapshot = Snapshot { version, more: true, rows: vec![(1u8, 2u8)] };
    assert_eq!(hex(&Update::Snapshot(snapshot)), "000202020202020202020202020202020202ac0201010102");
    let delta = Delta { epoch: epoch(2), from: 1, to: 300, more: false, set: vec![(1u8, 2u8)], removed: vec![3] };
    assert_eq!(hex(&Update::Delta(delta)), "01020202020202020202020202020202020201ac02000101020103");
}

proptest! {
    #[test]
    fn deltas_lead_where_a_snapshot_leads(
        steps in prop::collection::vec((0..12u8, prop::option::of(0..4u32), 0..8u8, 1..40usize), 1..200),
        max_log in 0..24usize,
    ) {
        let mut table = table(10, max_log);
        let mut replica = Replica::new(10);
        let mut history = BTreeMap::new();
        for (key, row, sync, part_bytes) in steps {
            match row {
                Some(row) => table.set(key, row).is_ok(),
                None => table.remove(&key).is_some(),
            };
            history.insert(table.version().number, table.rows().clone());
            if sync != 0 {
                continue;
            }
            let before = replica.rows().clone();
            let mut changes = Changes::default();
            for part in table.update_since(replica.version()).parts(part_bytes) {
                prop_assert!(changes.is_empty(), "changed before the last part");
                let part = postcard::from_bytes(&postcard::to_allocvec(&part).unwrap()).unwrap();
                changes = replica.apply(part).unwrap();
            }
            prop_assert_eq!(replica.rows(), table.rows());
            prop_assert_eq!(replica.version(), Some(table.version()));
            let after = replica.rows();
            prop_assert!(changes.added.iter().all(|key| !before.contains_key(key) && after.contains_key(key)));
            prop_assert!(changes.changed.iter().all(|key| before[key] != after[key]));
            prop_assert!(changes.removed.iter().all(|(key, row)| before[key] == *row && !after.contains_key(key)));
            let told = changes.added.len() + changes.changed.len() + changes.removed.len();
            let differing = (0..12).filter(|key| before.get(key) != after.get(key)).count();
            prop_assert_eq!(told, differing);
        }
        for (number, rows) in history {
            let keys: Option<Vec<u8>> = table.keys_at(number).map(|keys| keys.copied().collect());
            prop_assert_eq!(keys.is_some(), table.version().number - number <= max_log as u64);
            if let Some(keys) = keys {
                prop_assert_eq!(keys, rows.into_keys().collect::<Vec<_>>());
            }
        }
    }

    #[test]
    fn any_bytes_decode_or_not_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = postcard::from_bytes::<Update<crate::Id, PeerRow>>(&bytes);
        let _ = postcard::from_bytes::<Snapshot<crate::Id, ServerRow>>(&bytes);
        if let Ok(report) = postcard::from_bytes::<LinkReport>(&bytes) {
            let _ = report.resolve(&Publisher::new(epoch(1), 8, 8));
        }
    }
}
