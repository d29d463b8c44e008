//! Lanes without the programs' lines: what a short message waits for is the link and nothing else.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, mpsc},
    thread,
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    Identity, NetworkKey, Role, SecretKey, ServerKey,
    node::{Outcome, PathKind, SendOptions},
};
use p2pcore_driver::{Delivery, Endpoint, NodeHandle, Options, Runtime};
use p2pcore_smol::SmolRuntime;
use p2pcore_tokio::TokioRuntime;

/// How long anything may take before the test fails.
const LIMIT: Duration = Duration::from_secs(40);

fn options(role: Role, seed: u8) -> Options {
    let identity = Identity::new(role, SecretKey::from_bytes([seed; 32]));
    let mut options = Options::new(identity, NetworkKey::from_bytes([7; 32]));
    options.listen = vec![SocketAddr::from(([127, 0, 0, 1], 0))];
    options
}

/// Takes messages until `count` have come; gives back the lengths of those in lane 1 and the numbers in lane 0. The node
/// comes back too: it has receipts to send, and would end without its handle.
async fn receive(node: NodeHandle, count: usize) -> (Vec<usize>, Vec<usize>, NodeHandle) {
    let (mut long, mut small) = (Vec::new(), Vec::new());
    while long.len() + small.len() < count {
        let Some(Delivery::Message(message)) = node.recv().await else { panic!("want a message") };
        if message.lane == 1 {
            long.push(message.data.len());
        } else {
            small.push(std::str::from_utf8(&message.data).unwrap().parse().unwrap());
        }
        message.accept();
    }
    (long, small, node)
}

#[test]
fn small_messages_pass_the_largest_one_of_another_lane() {
    const LONG: usize = 16 * 1024 * 1024;
    const ROUNDS: usize = 8;
    const SMALL: usize = 50;
    const PACE: Duration = Duration::from_millis(1);
    let tokio: Arc<dyn Runtime> = Arc::new(TokioRuntime::new().unwrap());
    let smol: Arc<dyn Runtime> = Arc::new(SmolRuntime::new().unwrap());
    let mut server = options(Role::Server, 1);
    server.server_key = Some(ServerKey::from_bytes([8; 32]));
    server.found = true;
    let server = Endpoint::start(tokio.clone(), server).unwrap();
    let peer = |seed| {
        let mut options = options(Role::Peer, seed);
        options.join = server.listen_addresses().to_vec();
        options
    };
    let receiver = Endpoint::start(tokio.clone(), peer(2)).unwrap();
    let sender = Endpoint::start(smol.clone(), peer(3)).unwrap();
    let to = receiver.id();

    let (done, received) = mpsc::channel();
    // the runtime must outlive the thread: its nodes end with it
    let runtime = tokio.clone();
    thread::spawn(move || done.send(runtime.run(receive(receiver, ROUNDS * (1 + SMALL)))));
    let end = Instant::now() + LIMIT;
    let times = Arc::new(Mutex::new(Vec::new()));
    let passed = smol.run(async {
        let is_direct = async || {
            let status = sender.status().await.unwrap();
            status.peers.iter().any(|peer| peer.info.id == to && peer.kind == Some(PathKind::Direct))
        };
        while !is_direct().await {
            assert!(Instant::now() < end, "no direct path");
            smol.sleep_until(Instant::now() + Duration::from_millis(10)).await;
        }
        let long = Bytes::from(vec![b'x'; LONG]);
        let (mut sent, mut passed) = (0, 0);
        for _ in 0..ROUNDS {
            let mut outcomes = sender.send(&[to], long.clone(), SendOptions::default().lane(1)).await.unwrap();
            let begun = times.lock().unwrap().len();
            let mut due = Instant::now();
            for _ in 0..SMALL {
                smol.sleep_until(due).await;
                due += PACE;
                let (at, data) = (Instant::now(), format!("{sent:0>64}"));
                let mut small = sender.send(&[to], data, SendOptions::default()).await.unwrap();
                sent += 1;
                let times = times.clone();
                smol.spawn(Box::pin(async move {
                    assert_eq!(small.next().await, Some((to, Outcome::Delivered)));
                    times.lock().unwrap().push(at.elapsed());
                }));
            }
            assert_eq!(outcomes.next().await, Some((to, Outcome::Delivered)));
            passed += times.lock().unwrap().len() - begun;
            while times.lock().unwrap().len() < sent {
                assert!(Instant::now() < end, "a small message has no outcome");
                smol.sleep_until(Instant::now() + PACE).await;
            }
        }
        passed
    });

    let mut times = times.lock().unwrap().clone();
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{} messages of 64 bytes beside 16 MiB: p50 {:?}, p99 {:?}, max {:?}",
        times.len(),
        at(50),
        at(99),
        at(100)
    );
    println!("{passed} of them were delivered before the long one");
    assert!(2 * passed > times.len(), "small messages waited for the long one");
    let (long, small, _receiver) = received.recv_timeout(LIMIT).expect("all messages");
    assert_eq!(long, [LONG; ROUNDS]);
    assert!(small.iter().copied().eq(0..ROUNDS * SMALL), "once each, in order");
}
