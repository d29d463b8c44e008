//! What the fuzz targets do with their bytes; the corpora are replayed by `tests/fuzz_corpora.rs`.

mod build;
mod case;
mod cores;
mod forgery;
mod member;
mod reassembly;
mod round_trip;
mod state;

use std::{
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use p2pcore::{
    Config, Identity, Incarnation, Input, NetworkKey, Node, Role, SecretKey, ServerKey, Start,
    node::{Datagram, LocalNetwork, SocketId},
    noise, relay,
    wire::Control,
};

pub use cores::{peer_core, server_core};
pub use reassembly::reassembly;
pub use round_trip::round_trip;
pub use state::state;

/// Every decoder of bytes that nobody has authenticated yet, and the control messages of members.
///
/// # Panics
/// If a control message that decodes does not encode to an equal one.
pub fn decode(data: &[u8]) {
    if let Ok(message) = Control::decode(data) {
        assert_eq!(Control::decode(&message.encode()), Ok(message));
    }
    let _ = noise::admit(data);
    let _ = relay::PacketClass::of_packet(data);
    let _ = relay::Told::decode(data);
}

/// A founding server under datagrams of strangers: each piece of `data` is two bytes (source, length) and a payload.
///
/// # Panics
/// If the server answers anything.
pub fn demux(data: &[u8]) {
    let now = start_of_time();
    let mut node = server(now);
    let mut rest = data;
    let mut answer = Vec::new();
    while let [source, len, tail @ ..] = rest {
        // long datagrams in few bytes: a length byte counts eight
        let len = (usize::from(*len) * 8).min(tail.len());
        let (payload, tail) = tail.split_at(len);
        rest = tail;
        let remote = SocketAddr::from(([198, 51, 100, *source], 4433));
        let data = BytesMut::from(payload);
        let segment_size = data.len();
        let datagram = Datagram { socket: SocketId(0), remote, local_ip: None, ecn: 0, data, segment_size };
        node.handle(now, Input::Datagram(datagram));
        assert!(node.poll_transmit(now, &mut answer).is_none(), "a stranger got an answer");
    }
    node.handle(now + Duration::from_secs(30), Input::Timeout);
    assert!(node.poll_transmit(now, &mut answer).is_none(), "a stranger got a late answer");
}

fn start_of_time() -> Instant {
    static START: OnceLock<Instant> = OnceLock::new();
    *START.get_or_init(Instant::now)
}

fn server(now: Instant) -> Node {
    let identity = Identity::new(Role::Server, SecretKey::from_bytes([1; 32]));
    let mut start = start(identity);
    start.now = now;
    Node::new(Config::default(), start).expect("a founding server starts")
}

/// A founding server, or a peer that knows one address.
fn start(identity: Identity) -> Start {
    let address = SocketAddr::from(([192, 0, 2, 1], 4433));
    let is_server = identity.id().is_server();
    let mut start = Start::new(
        identity,
        NetworkKey::from_bytes([2; 32]),
        Incarnation { counter: 1, random: [4; 16] },
        LocalNetwork { sockets: vec![(SocketId(0), address)], interfaces: vec![address.ip()], advertised: Vec::new() },
        [5; 32],
        start_of_time(),
    );
    if is_server {
        start.server_key = Some(ServerKey::from_bytes([3; 32]));
        start.found = true;
    } else {
        start.introducers = vec![SocketAddr::from(([192, 0, 2, 2], 4433))];
    }
    start
}
