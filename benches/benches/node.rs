//! Whole nodes: what a wake for nothing costs by the number of links, and a request and its reply.

use benches::{Net, wake};
use bytes::Bytes;
use criterion::{Criterion, Throughput};

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    idle(&mut criterion);
    round_trip(&mut criterion);
    criterion.final_summary();
}

fn idle(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node/idle wake");
    for links in [1, 100, 1_000] {
        let mut server = None;
        group.bench_function(format!("{links} links"), |bencher| {
            let (node, now) = server.get_or_insert_with(|| Net::star(links).into_server());
            let mut buf = Vec::new();
            bencher.iter(|| wake(node, *now, &mut buf));
        });
    }
    group.finish();
}

fn round_trip(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node/round trip, both ends");
    group.throughput(Throughput::Elements(1));
    for len in [64, 1_024] {
        let mut net = None;
        let data = Bytes::from(vec![7; len]);
        group.bench_function(format!("{len} B"), |bencher| {
            let net = net.get_or_insert_with(|| Net::star(1));
            bencher.iter(|| net.round_trip(&data));
        });
    }
    group.finish();
}
