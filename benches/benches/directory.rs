//! One peer's copy of a directory of 1,000 peers brought up to date: made, encoded, decoded, applied.

use benches::DirectoryPair;
use criterion::{Criterion, Throughput};

const ROWS: u16 = 1_000;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group(format!("directory of {ROWS}"));
    for changed in [1, 100] {
        let mut pair = DirectoryPair::new(ROWS);
        pair.change(changed);
        group.throughput(Throughput::Bytes(pair.update() as u64));
        group.bench_function(format!("delta of {changed}"), |bencher| {
            bencher.iter(|| {
                pair.change(changed);
                pair.update()
            });
        });
    }
    let mut pair = DirectoryPair::new(ROWS);
    group.throughput(Throughput::Bytes(pair.snapshot() as u64));
    group.bench_function("snapshot", |bencher| {
        bencher.iter(|| {
            pair.change(1);
            pair.snapshot()
        });
    });
    group.finish();
    criterion.final_summary();
}
