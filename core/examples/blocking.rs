//! A node in a plain blocking loop over `std::net::UdpSocket`: no runtime, and a thread for each node.
//!
//! A server and a peer start; the peer says hello to the server, gets the receipt, and both stop:
//! `cargo run -p p2pcore --example blocking`.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::BytesMut;
use p2pcore::{
    Config, Event, Identity, Incarnation, Input, Name, NetworkKey, Node, Output, Role, SecretKey, ServerKey, Start,
    node::{Datagram, LocalNetwork, SendOptions, SocketId},
};

type Failure = Box<dyn Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let sockets = [UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?, UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?];
    let [server_socket, peer_socket] = sockets;
    let address = server_socket.local_addr()?;
    let mut founder = start(Role::Server, &server_socket)?;
    founder.found = true;
    let server = Node::new(Config::default(), founder)?;
    let mut join = start(Role::Peer, &peer_socket)?;
    join.introducers = vec![address];
    let peer = Node::new(Config::default(), join)?;

    let server = thread::spawn(move || {
        drive(server, &server_socket, |node, now, event| {
            if let Event::Messages { from, data, receipt, .. } = event {
                for message in data {
                    println!("the server hears from {from}: {}", String::from_utf8_lossy(&message));
                }
                // the sender learns that the application has them
                node.handed(now, receipt);
            } else if let Event::PeerDown { .. } = event {
                node.stop(now);
            }
        })
    });
    drive(peer, &peer_socket, |node, now, event| match event {
        Event::ServerUp { id, .. } => {
            if let Err(error) = node.send(now, &[id], "hello".into(), SendOptions::default()) {
                println!("the peer cannot send: {error}");
            }
        }
        Event::Outcome { to, outcome, .. } => {
            println!("the peer's message to {to} was {outcome:?}");
            node.stop(now);
        }
        _ => {}
    })?;
    server.join().map_err(|_| "the server panicked")??;
    Ok(())
}

/// What a node needs to know to begin: here without a file for its state.
fn start(role: Role, socket: &UdpSocket) -> Result<Start, Failure> {
    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map(|()| bytes)
    };
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH)?;
    let address = socket.local_addr()?;
    let identity = Identity::new(role, SecretKey::from_bytes(random()?));
    let network_key = NetworkKey::from_bytes([1; 32]);
    let incarnation = Incarnation { counter: wall_time.as_secs(), random: wall_time.as_nanos().to_be_bytes() };
    let network =
        LocalNetwork { sockets: vec![(SocketId(0), address)], interfaces: vec![address.ip()], advertised: Vec::new() };
    let mut start = Start::new(identity, network_key, incarnation, network, random()?, Instant::now());
    start.name = Name::new(role.to_string())?;
    start.server_key = (role == Role::Server).then(|| ServerKey::from_bytes([2; 32]));
    Ok(start)
}

/// The loop: everything out, then wait for a datagram or the deadline, then that in.
fn drive(
    mut node: Node,
    socket: &UdpSocket,
    mut on_event: impl FnMut(&mut Node, Instant, Event),
) -> Result<(), Failure> {
    let (mut inbox, mut outbox) = (vec![0; 65_536], Vec::new());
    loop {
        while let Some(output) = node.poll() {
            match output {
                // there is no disk: what is not to outlive the process is saved at once
                Output::Persist(persist) => node.handle(Instant::now(), Input::Persisted(persist.id)),
                Output::Event(Event::Stopped) => return Ok(()),
                Output::Event(event) => on_event(&mut node, Instant::now(), event),
            }
        }
        while let Some(transmit) = node.poll_transmit(Instant::now(), &mut outbox) {
            for datagram in outbox.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                // a datagram that cannot be sent is lost, as any other may be
                let _ = socket.send_to(datagram, transmit.destination);
            }
            outbox.clear();
        }
        match receive(socket, node.deadline().map(|deadline| deadline.at), &mut inbox)? {
            Some((len, remote)) => {
                let datagram = Datagram {
                    socket: SocketId(0),
                    remote,
                    local_ip: None,
                    ecn: 0,
                    data: BytesMut::from(&inbox[..len]),
                    segment_size: len,
                };
                node.handle(Instant::now(), Input::Datagram(datagram));
            }
            None => node.handle(Instant::now(), Input::Timeout),
        }
    }
}

/// Waits for a datagram, until `deadline` at the latest.
fn receive(socket: &UdpSocket, deadline: Option<Instant>, inbox: &mut [u8]) -> io::Result<Option<(usize, SocketAddr)>> {
    // no time at all would mean without end
    let wait = deadline.map(|at| at.saturating_duration_since(Instant::now()).max(Duration::from_micros(1)));
    socket.set_read_timeout(wait)?;
    match socket.recv_from(inbox) {
        Ok(received) => Ok(Some(received)),
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(None),
        Err(error) => Err(error),
    }
}
