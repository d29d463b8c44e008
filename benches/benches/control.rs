//! Control messages to bytes and back.

use std::hint::black_box;

use benches::{peer_id, peer_row};
use criterion::{Criterion, Throughput};
use p2pcore::{
    ClusterId, Id, Incarnation,
    message::{Receipt, SessionMessage},
    table::{Delta, PART_BYTES, PeerRow, Publisher, Update},
    wire::{Control, Hello},
};

const RUN: Incarnation = Incarnation { counter: 300, random: [7; 16] };

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for (name, message) in [("receipt", receipt()), ("hello", hello()), ("delta of 1", delta()), ("part", part())] {
        let bytes = message.encode();
        let mut group = criterion.benchmark_group(format!("control/{name}"));
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function("encode", |bencher| bencher.iter(|| black_box(&message).encode()));
        group.bench_function("decode", |bencher| bencher.iter(|| Control::decode(black_box(&bytes))));
        group.finish();
    }
    criterion.final_summary();
}

/// The most frequent of all.
fn receipt() -> Control {
    Control::Session(SessionMessage::Receipt(Receipt { lane: 0, below: 1_000_000, also: Vec::new() }))
}

fn hello() -> Control {
    let PeerRow { name, network, .. } = peer_row(1, 1);
    Control::Hello(Box::new(Hello {
        name,
        incarnation: RUN,
        cluster: Some(ClusterId([5; 16])),
        server_proof: Some([6; 32]),
        last_link: Some([6; 16]),
        dial: 1,
        network,
    }))
}

fn delta() -> Control {
    let set = vec![(peer_id(1), peer_row(1, 2))];
    Control::Directory(Update::Delta(Delta { epoch: RUN, from: 9, to: 10, more: false, set, removed: Vec::new() }))
}

/// A full part of a large directory.
fn part() -> Control {
    let mut directory: Publisher<Id, PeerRow> = Publisher::new(RUN, 1_000, 0);
    for index in 0..1_000 {
        directory.set(peer_id(index), peer_row(index, 1)).expect("room for all rows");
    }
    Control::Directory(Update::Snapshot(directory.snapshot().parts(PART_BYTES).swap_remove(0)))
}
