//! The forwarding plane: packets of 1,216 bytes, 16 of them the header.

use std::hint::black_box;

use benches::RelayStar;
use criterion::{BatchSize, Criterion, Throughput};
use p2pcore::relay::{HEADER_LEN, RelayKeys, RelayLink, Slot};

const LEN: usize = 1_216;
/// So many packets wait for each other at once: they stay in the second-level cache.
const BATCH: BatchSize = BatchSize::NumIterations(128);

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("relay");
    group.throughput(Throughput::Bytes(LEN as u64));
    for nodes in [2, 1_000] {
        // packets are made while others are passed on, but never at the same time
        let star = std::cell::RefCell::new(RelayStar::new(nodes, LEN));
        group.bench_function(format!("forward among {nodes}"), |bencher| {
            bencher.iter_batched_ref(
                || star.borrow_mut().packet(),
                |(route, packet)| assert!(star.borrow_mut().forward(*route, packet)),
                BATCH,
            );
        });
    }

    let (mut here, mut there) = ends();
    let (src, dst) = (slot(1), slot(2));
    let mut packet = vec![0x40; LEN];
    group.bench_function("seal", |bencher| {
        bencher.iter(|| here.seal_in_place(src, dst, black_box(&mut packet)));
    });
    let (mut sender, _) = ends();
    group.bench_function("open", |bencher| {
        let payload = [0x40; LEN - HEADER_LEN];
        bencher.iter_batched_ref(
            || {
                let mut packet = Vec::with_capacity(LEN);
                sender.seal(src, dst, &payload, &mut packet);
                packet
            },
            |packet| assert!(there.open(packet).is_ok()),
            BATCH,
        );
    });
    group.finish();
    criterion.final_summary();
}

fn ends() -> (RelayLink, RelayLink) {
    let end = |began, relays| RelayLink::new(RelayKeys::derive(&[9; 32], began, relays));
    (end(true, false), end(false, true))
}

fn slot(index: u16) -> Slot {
    Slot::new(index, 0).expect("an index of a node")
}
