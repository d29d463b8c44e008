//! A long file and very many short messages together, straight from peers on smol to a peer on tokio.

use std::{fs, path::Path, time::Instant};

use serde_json::json;
use tests::{Network, Program, Servers, linked_servers, long_file, peer_row, wait_for_bytes};

const COUNT: usize = 100_000;
/// Messages under way at most: well below what a queue holds, so that none is refused as `full`.
const WINDOW: usize = 8_192;
/// Commands in one write.
const BATCH: usize = 512;

fn hash(path: &Path) -> String {
    blake3::hash(&fs::read(path).unwrap()).to_hex().to_string()
}

#[test]
fn a_file_goes_straight_and_100_000_messages_meanwhile_arrive_once_each_and_in_order() {
    let network = Network::new();
    let mut servers = Servers::start(&network);
    let recv = network.node("recv", "tokio").flag("--dir", network.path("files"));
    let (mut tokio, id, _) = servers.join(recv).start_ready();
    tokio.status_until("links to all servers", |status| linked_servers(status) == 3);
    let (mut smol, smol_id, _) = servers.join(network.peer("smol").program(Program::Smol)).start_ready();
    smol.status_until("a direct path", |status| peer_row(status, &id).is_some_and(|row| row["kind"] == "direct"));

    let len = long_file();
    let file = network.file("big", len);
    let send = network.node("send", "sender").program(Program::Smol).arg(&file).flag("--to", &id);
    let sender = servers.join(send).start();
    wait_for_bytes(&network.path("files"));
    let killed = tokio.status()["servers"][0]["id"].as_str().unwrap().to_owned();
    servers.kill(&killed);

    let begun = Instant::now();
    let data = |n: usize| format!("{n:0>64}");
    let (mut sent, mut outcomes) = (0, vec![0; COUNT]);
    let mut delivered = 0;
    while delivered < COUNT {
        while sent < COUNT && sent + BATCH <= delivered + WINDOW {
            let batch = sent..COUNT.min(sent + BATCH);
            sent = batch.end;
            smol.commands(batch.map(|n| json!({"command": "send", "ref": n.to_string(), "to": [id], "data": data(n)})));
        }
        let outcome = smol.wait("an outcome", |line| line["ref"].is_string());
        assert_eq!((&outcome["event"], &outcome["to"]), (&json!("delivered"), &json!(id)), "{outcome}");
        outcomes[outcome["ref"].as_str().unwrap().parse::<usize>().unwrap()] += 1;
        delivered += 1;
    }
    println!("{COUNT} messages of 64 bytes were delivered in {} ms", begun.elapsed().as_millis());
    assert!(outcomes.iter().all(|count| *count == 1), "one outcome for each");

    let (lines, status, stderr) = sender.finish();
    assert!(status.success(), "{stderr}");
    let file_sent = lines.last().unwrap();
    println!("the server {killed} was killed meanwhile: {file_sent}");
    assert_eq!((&file_sent["kind"], &file_sent["via"]), (&json!("direct"), &json!(null)));
    assert_eq!((&file_sent["bytes"], &file_sent["blake3"]), (&json!(len), &json!(hash(&file))));
    assert_eq!(file_sent["blake3"], hash(&network.path("files").join("big")));
    assert!(file_sent["longest_stall_ms"].as_u64().unwrap() <= 1_000, "{file_sent}");

    // what the receiver has said, in its order
    let (mut next, mut before_file) = (0, None);
    while next < COUNT || before_file.is_none() {
        let line = tokio.wait("a message or the file", |line| line["event"] == "message" || line["event"] == "stored");
        if line["event"] == "stored" {
            before_file = Some(next);
        } else {
            assert_eq!((&line["from"], &line["data"]), (&json!(smol_id), &json!(data(next))), "once each, in order");
            next += 1;
        }
    }
    assert!(tokio.take("message").is_empty() && smol.take("delivered").is_empty());
    println!("{} of them arrived before the file was stored", before_file.unwrap());
    assert!(before_file > Some(0), "the file was over before the first message came");
    // the first update of the keys comes within the first thousand packets of a link
    let updates = [&mut smol, &mut tokio].map(|node| node.status()["counters"]["key updates"].as_u64().unwrap());
    println!("key updates under way: {updates:?}");
    assert!(updates.iter().all(|updates| *updates > 0));
    let status = smol.status();
    assert_eq!(peer_row(&status, &id).unwrap()["kind"], "direct", "{status}");
}
