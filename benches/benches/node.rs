//! Whole nodes: what a step of a server costs by the number of links, and a request and its reply.

use std::time::Duration;

use benches::Net;
use bytes::Bytes;
use criterion::{Criterion, Throughput};

/// What is measured, by its own watch.
type Step = fn(&mut Net) -> Duration;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    steps(&mut criterion);
    round_trip(&mut criterion);
    criterion.final_summary();
}

/// A wake for nothing, one datagram of one peer, and a time that has come for one link.
fn steps(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("node");
    // links by the thousand take a while to make: not where a test only wants to see that all this runs
    let is_bench = std::env::args().any(|arg| arg == "--bench");
    for links in [1, 100, 10_000].into_iter().filter(|links| is_bench || *links <= 100) {
        let mut kept = None;
        group.bench_function(format!("idle step/{links} links"), |bencher| {
            let net = kept.get_or_insert_with(|| Net::star(links));
            bencher.iter(|| assert!(!net.idle_step()));
        });
        let steps: [(&str, Step); 3] = [
            ("one-packet step, one link", |net| net.packet_step(false)),
            ("one-packet step, links in turn", |net| net.packet_step(true)),
            ("timer step", Net::timer_step),
        ];
        for (name, step) in steps {
            group.bench_function(format!("{name}/{links} links"), |bencher| {
                let net = kept.get_or_insert_with(|| Net::star(links));
                bencher.iter_custom(|times| (0..times).map(|_| step(net)).sum());
            });
        }
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
