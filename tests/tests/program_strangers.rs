//! Who lacks the network key gets no byte from a real server, whatever it sends.

use std::{
    io::ErrorKind,
    net::{SocketAddr, UdpSocket},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use tests::{Network, Running, free_address};

/// The protected client Initial of RFC 9001, appendix A.2: what a real QUIC v1 client sends first.
const QUIC_V1_INITIAL: &[u8] = include_bytes!("../data/rfc9001_a2_initial");
const OWN_VERSION: u32 = 0x7032_7001;
/// What the server may take in before it is asked how far it is, so that no socket buffer overflows.
const BATCH: usize = 64;

struct Stranger {
    socket: UdpSocket,
    server: SocketAddr,
    sent: u64,
}

impl Stranger {
    fn new(server: &str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(1))).unwrap();
        Self { socket, server: server.parse().unwrap(), sent: 0 }
    }

    /// Sends them all; fails at the first byte that comes back.
    fn send(&mut self, what: &str, running: &mut Running, datagrams: impl IntoIterator<Item = Vec<u8>>) {
        let mut count = 0_usize;
        for datagram in datagrams {
            self.socket.send_to(&datagram, self.server).unwrap();
            count += 1;
            if count.is_multiple_of(BATCH) {
                running.status();
                self.expect_silence(what);
            }
        }
        self.sent += count as u64;
        running.status();
        self.expect_silence(what);
        println!("{what}: {count} datagrams, no byte answered");
    }

    fn expect_silence(&self, what: &str) {
        let mut buffer = [0; 65_536];
        match self.socket.recv_from(&mut buffer) {
            Ok((len, from)) => panic!("{what}: {from} answered {len} bytes: {:02x?}", &buffer[..len.min(64)]),
            Err(error) => assert!(matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut), "{error}"),
        }
    }

    /// For as long as a server could still repeat an answer.
    fn expect_long_silence(&self) {
        self.socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
        self.expect_silence("late answers");
    }
}

/// Bytes that look random and are the same in each run.
fn noise(seed: &str, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    blake3::Hasher::new().update(seed.as_bytes()).finalize_xof().fill(&mut bytes);
    bytes
}

fn counted(running: &mut Running) -> u64 {
    let status = running.status();
    let counters = status["counters"].as_object().unwrap();
    counters.iter().filter(|(name, _)| name.starts_with("dropped")).filter_map(|(_, value)| value.as_u64()).sum()
}

/// A client Initial of `version` that is well-formed as far as one without keys can see.
fn initial(version: u32, destination: &[u8], source: &[u8], seed: &str) -> Vec<u8> {
    let mut packet = vec![0xc3];
    packet.extend(version.to_be_bytes());
    packet.push(destination.len() as u8);
    packet.extend(destination);
    packet.push(source.len() as u8);
    packet.extend(source);
    packet.push(0); // no token
    let rest = 1_200 - packet.len() - 2;
    packet.extend((0x4000 | rest as u16).to_be_bytes());
    packet.extend(noise(seed, rest));
    packet
}

/// Sits between one peer and the server and keeps what the peer sends.
struct Tap {
    address: String,
    recorded: Arc<Mutex<Vec<Vec<u8>>>>,
}

impl Tap {
    fn new(server: &str) -> Self {
        let near = UdpSocket::bind("127.0.0.1:0").unwrap();
        let far = UdpSocket::bind("127.0.0.1:0").unwrap();
        far.connect(server).unwrap();
        let address = near.local_addr().unwrap().to_string();
        let recorded = Arc::new(Mutex::new(Vec::new()));
        let peer = Arc::new(Mutex::new(None));
        let (kept, seen, to_server, from_peer) =
            (recorded.clone(), peer.clone(), far.try_clone().unwrap(), near.try_clone().unwrap());
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((len, from)) = from_peer.recv_from(&mut buffer) {
                *seen.lock().unwrap() = Some(from);
                kept.lock().unwrap().push(buffer[..len].to_vec());
                let _ = to_server.send(&buffer[..len]);
            }
        });
        thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok(len) = far.recv(&mut buffer) {
                if let Some(peer) = *peer.lock().unwrap() {
                    let _ = near.send_to(&buffer[..len], peer);
                }
            }
        });
        Self { address, recorded }
    }

    fn recorded(&self) -> Vec<Vec<u8>> {
        self.recorded.lock().unwrap().clone()
    }
}

fn is_initial(datagram: &[u8]) -> bool {
    datagram.len() >= 1_200 && datagram[0] & 0xf0 == 0xc0 && datagram[1..5] == OWN_VERSION.to_be_bytes()
}

/// The destination connection id of a long header.
fn destination(datagram: &[u8]) -> &[u8] {
    &datagram[6..6 + usize::from(datagram[5])]
}

fn flipped(datagram: &[u8], index: usize) -> Vec<u8> {
    let mut datagram = datagram.to_vec();
    datagram[index] ^= 0x10;
    datagram
}

#[test]
fn every_first_byte_and_many_lengths_get_no_answer() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let mut stranger = Stranger::new(&address);
    let before = counted(&mut server);
    for len in [0, 1, 2, 5, 9, 16, 17, 21, 22, 27, 28, 64, 100, 600, 1_199, 1_200, 1_201, 1_452, 4_096, 65_507] {
        let datagrams = (0..=255_u8).map(|first| {
            let mut datagram = noise(&format!("{first} {len}"), len);
            if let Some(byte) = datagram.first_mut() {
                *byte = first;
            }
            datagram
        });
        stranger.send(&format!("random bytes, length {len}"), &mut server, datagrams);
    }
    for (what, version) in
        [("version 0", 0), ("version 1", 1), ("an unknown version", 0x1a2a_3a4a), ("our version", OWN_VERSION)]
    {
        let datagrams = (0..=255_u8).flat_map(|first| {
            [8, 20].map(|len| {
                let mut datagram = initial(version, &noise("id", len), &noise("source", 8), what);
                datagram[0] = first;
                datagram
            })
        });
        stranger.send(what, &mut server, datagrams);
    }
    stranger.expect_long_silence();
    assert!(counted(&mut server) > before, "they were counted: {}", server.status()["counters"]);
}

#[test]
fn a_real_quic_v1_client_gets_no_answer() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let mut stranger = Stranger::new(&address);
    stranger.send("the Initial of RFC 9001", &mut server, vec![QUIC_V1_INITIAL.to_vec(); 8]);
    let cut = (0..QUIC_V1_INITIAL.len()).step_by(25).map(|len| QUIC_V1_INITIAL[..len].to_vec());
    stranger.send("cut", &mut server, cut);
    let twice = [QUIC_V1_INITIAL, QUIC_V1_INITIAL].concat();
    let longer = [QUIC_V1_INITIAL, &noise("tail", 252)].concat();
    stranger.send("twice in one datagram, and with a tail", &mut server, [twice, longer]);
    let mut ours = QUIC_V1_INITIAL.to_vec();
    ours[1..5].copy_from_slice(&OWN_VERSION.to_be_bytes());
    stranger.send("with our version", &mut server, [ours]);
    stranger.expect_long_silence();
}

#[test]
fn initials_of_our_version_with_short_wrong_and_recorded_ids_get_no_answer() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let tap = Tap::new(&address);
    let (mut peer, id, _) = network.peer("p").join(&tap.address).start_ready();
    server.event_of("peer_up", &id);
    assert_eq!(server.deliver(&id, "through the tap")["event"], "delivered");
    peer.event("message");
    let recorded = tap.recorded();
    let initials = recorded.iter().filter(|datagram| is_initial(datagram)).cloned().collect::<Vec<_>>();
    let first = initials.first().expect("a first packet").clone();
    let recorded_id = destination(&first).to_vec();
    assert_eq!(recorded_id.len(), 20);
    let mut stranger = Stranger::new(&address);

    let source = noise("source", 8);
    let short = (0..20).map(|len| initial(OWN_VERSION, &recorded_id[..len], &source, "short"));
    stranger.send("short ids", &mut server, short);
    let random = (0..256).map(|n| initial(OWN_VERSION, &noise(&format!("id {n}"), 20), &source, "random"));
    stranger.send("random ids", &mut server, random);
    let wrong =
        (0..recorded_id.len()).map(|index| initial(OWN_VERSION, &flipped(&recorded_id, index), &source, "wrong"));
    stranger.send("recorded ids with a bit flipped", &mut server, wrong);
    let other = (0..16).map(|n| initial(OWN_VERSION, &recorded_id, &source, &format!("other {n}")));
    stranger.send("recorded ids before other bytes", &mut server, other);
    let new_source = (0..16).map(|n| initial(OWN_VERSION, &recorded_id, &noise(&format!("s {n}"), 8), "source"));
    stranger.send("recorded ids with another source id", &mut server, new_source);
    stranger.send("recorded Initials", &mut server, initials.iter().cycle().take(64).cloned());
    let bits = (0..first.len()).step_by(7).map(|index| flipped(&first, index));
    stranger.send("recorded Initials with a bit flipped", &mut server, bits);
    let cut = (0..first.len()).step_by(9).map(|len| first[..len].to_vec());
    stranger.send("recorded Initials cut", &mut server, cut);
    stranger.send("all that was recorded", &mut server, tap.recorded());
    stranger.expect_long_silence();

    assert_eq!(server.deliver(&id, "the link is as it was")["event"], "delivered");
    assert!(peer.quit().1.success());
    server.event_of("peer_down", &id);
    let mut stranger = Stranger::new(&address);
    stranger.send("all that was recorded, after the peer has gone", &mut server, tap.recorded());
    stranger.expect_long_silence();
}

#[test]
fn unknown_short_headers_probes_and_relay_packets_get_no_answer() {
    let network = Network::new();
    let (mut server, address) = network.founder();
    let tap = Tap::new(&address);
    let (mut peer, id, _) = network.peer("p").join(&tap.address).arg("--relay-only").start_ready();
    let (mut other, other_id, _) = network.peer("q").join(&address).arg("--relay-only").start_ready();
    peer.event_of("peer_up", &other_id);
    assert_eq!(peer.deliver(&other_id, "by relay")["event"], "delivered");
    assert_eq!(other.deliver(&id, "by relay")["event"], "delivered");
    let recorded = tap.recorded();
    for (what, mask, bits) in [("short headers", 0xc0, 0x40), ("path probes", 0xc0, 0x80), ("relay packets", 0xc0, 0)] {
        let kind = recorded.iter().filter(|datagram| datagram[0] & mask == bits).cloned().collect::<Vec<_>>();
        println!("{} {what} were recorded", kind.len());
        if what != "path probes" {
            assert!(!kind.is_empty(), "{what}");
        }
        let mut stranger = Stranger::new(&address);
        stranger.send(&format!("recorded {what}"), &mut server, kind.iter().take(256).cloned());
        let strange = kind.iter().take(32).flat_map(|datagram| {
            (0..datagram.len().min(24)).map(move |index| flipped(datagram, index)).filter(|flipped| !flipped.is_empty())
        });
        stranger.send(&format!("{what} with a bit flipped"), &mut server, strange);
        let random = (0..256).map(|n| {
            let mut datagram = noise(&format!("{what} {n}"), 21 + n * 5);
            datagram[0] = bits | (n as u8 & 0x3f);
            datagram
        });
        stranger.send(&format!("random {what}"), &mut server, random);
        stranger.expect_long_silence();
    }
    assert_eq!(peer.deliver(&other_id, "still")["event"], "delivered");
    let clients = |status: &Value| status["clients"].as_array().unwrap().len();
    assert_eq!(clients(&server.status()), 2);
}

/// The one exception of the threat model; and the proof that the other tests would see an answer.
#[test]
fn a_recorded_first_packet_draws_little_from_a_server_that_was_restarted() {
    let network = Network::new();
    let command = network.server("s").replace("--listen", free_address()).arg("--found");
    let (server, _, address) = command.start_ready();
    let tap = Tap::new(&address);
    let (mut peer, ..) = network.peer("p").join(&tap.address).start_ready();
    peer.event("server_up");
    assert!(peer.quit().1.success());
    server.kill();
    let (mut server, ..) = command.start_ready();
    let first = tap.recorded().into_iter().find(|datagram| is_initial(datagram)).expect("a first packet");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(3))).unwrap();
    socket.send_to(&first, &address).unwrap();
    let mut answered = 0;
    let mut buffer = [0; 65_536];
    while let Ok((len, _)) = socket.recv_from(&mut buffer) {
        answered += len;
    }
    println!("{} bytes drew {answered}", first.len());
    assert!((1..=3 * first.len()).contains(&answered), "{answered} bytes for {}", first.len());
    assert!(server.status()["clients"].as_array().unwrap().is_empty(), "it opens nothing");
}
