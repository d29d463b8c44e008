//! Packet protection: one packet of 1,200 bytes, and runs as long as the kernel takes them.

use benches::{CIPHERS, Packets};
use bytes::BytesMut;
use criterion::{BatchSize, Criterion, Throughput};

const LEN: usize = 1_200;

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for cipher in CIPHERS {
        let mut group = criterion.benchmark_group(format!("packets/{cipher:?}"));
        for count in [1, 10, 44] {
            group.throughput(Throughput::Bytes((count * LEN) as u64));
            let mut packets = Packets::new(cipher);
            let mut run = Packets::run(count, LEN);
            group.bench_function(format!("seal {count}"), |bencher| bencher.iter(|| packets.seal(&mut run, LEN)));
            let mut sealed = Packets::run(count, LEN);
            let first = packets.seal(&mut sealed, LEN);
            group.bench_function(format!("open {count}"), |bencher| {
                bencher.iter_batched(
                    || BytesMut::from(&sealed[..]),
                    |run| assert_eq!(packets.open(run, LEN, first), count),
                    BatchSize::SmallInput,
                );
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
