//! The message layer alone: queued, written, read, handed over, receipted; both ends in one thread.

use benches::ConversationPair;
use bytes::Bytes;
use criterion::{Criterion, Throughput};

const BATCH: usize = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group(format!("messages, {BATCH} at once"));
    group.throughput(Throughput::Elements(BATCH as u64));
    for len in [64, 1_024] {
        let mut pair = ConversationPair::new();
        let data = Bytes::from(vec![7; len]);
        group.bench_function(format!("{len} B"), |bencher| bencher.iter(|| pair.exchange(BATCH, &data)));
    }
    group.finish();
    criterion.final_summary();
}
