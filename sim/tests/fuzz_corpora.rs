//! Replays the corpora of the fuzz targets.

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
