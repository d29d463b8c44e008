//! Replays the corpora of the fuzz targets whose bodies are here; the driver replays those of its own.

use std::path::Path;

fn replay(target: &str, body: fn(&[u8])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut files = 0;
    for entry in std::fs::read_dir(&folder).expect("the corpus is in the tree") {
        body(&std::fs::read(entry.expect("a readable folder").path()).expect("a readable file"));
        files += 1;
    }
    assert!(files > 0, "no file in {}", folder.display());
}

#[test]
fn decode_corpus() {
    replay("decode", sim::fuzz::decode);
}

#[test]
fn demux_corpus() {
    replay("demux", sim::fuzz::demux);
}

#[test]
fn peer_core_corpus() {
    replay("peer_core", sim::fuzz::peer_core);
}

#[test]
fn reassembly_corpus() {
    replay("reassembly", sim::fuzz::reassembly);
}

#[test]
fn round_trip_corpus() {
    replay("round_trip", sim::fuzz::round_trip);
}

#[test]
fn server_core_corpus() {
    replay("server_core", sim::fuzz::server_core);
}

#[test]
fn state_corpus() {
    replay("state", sim::fuzz::state);
}
