//! A new link between two nodes, both ends in one thread.

use benches::Dialling;
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("handshake");
    let mut dialling = Dialling::new();
    group.throughput(Throughput::Elements(1));
    group.bench_function("both ends", |bencher| bencher.iter(|| dialling.handshake()));
    group.finish();
    criterion.final_summary();
}
