//! Nodes in a program's own poll loop: one thread, sockets that never block, and work of the program's own beside them.
//!
//! A server and a peer live in one loop with a clock that ticks; each tick asks the server for the time of its answer, and
//! after three answers all stop: `cargo run -p p2pcore --example poll_loop`.

use std::{
    error::Error,
    io,
    net::{Ipv4Addr, SocketAddr, UdpSocket},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::{Bytes, BytesMut};
use p2pcore::{
    Config, Event, Id, Identity, Incarnation, Input, Name, NetworkKey, Node, Output, Role, SecretKey, ServerKey, Start,
    node::{Datagram, LocalNetwork, SocketId, Transmit},
};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

type Failure = Box<dyn Error + Send + Sync>;

const TICK: Duration = Duration::from_millis(50);
const ANSWERS: usize = 3;

fn main() -> Result<(), Failure> {
    let mut program = Program { server: None, answers: 0, tick_at: Instant::now() + TICK };
    let server = Place::new(Role::Server, |start| start.found = true)?;
    let address = server.socket.local_addr()?;
    let peer = Place::new(Role::Peer, |start| start.introducers = vec![address])?;
    let mut places = [server, peer];

    while places.iter().any(|place| !place.is_stopped) {
        for place in &mut places {
            place.drain(&mut program);
        }
        program.tick(&mut places);
        // one wait for all that may come: datagrams, room in a socket, deadlines, the program's own clock
        let deadlines = places.iter().filter_map(Place::deadline).chain([program.tick_at]);
        let wait = deadlines.min().map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.map(Timespec::try_from).transpose()?;
        let mut sockets = places.each_ref().map(|place| PollFd::new(&place.socket, place.interest()));
        poll(&mut sockets, wait.as_ref())?;
        for place in &mut places {
            place.receive()?;
        }
    }
    Ok(())
}

/// What the program is about.
struct Program {
    server: Option<Id>,
    answers: usize,
    tick_at: Instant,
}

impl Program {
    fn tick(&mut self, [_, peer]: &mut [Place; 2]) {
        let now = Instant::now();
        if now < self.tick_at {
            return;
        }
        self.tick_at = now + TICK;
        if let Some(server) = self.server.filter(|_| self.answers < ANSWERS)
            && let Err(error) = peer.node.request(now, server, "what time is it?".into(), None)
        {
            println!("not asked: {error}");
        }
    }

    fn on_event(&mut self, node: &mut Node, now: Instant, event: Event) {
        match event {
            Event::ServerUp { id, .. } => self.server = Some(id),
            Event::Request { token, receipt, .. } => {
                node.handed(now, receipt);
                let time = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                if let Err(error) = node.reply(now, token, Ok(Bytes::from(format!("{} s since 1970", time.as_secs()))))
                {
                    println!("not answered: {error}");
                }
            }
            Event::Reply { result: Ok(data), .. } => {
                self.answers += 1;
                println!("answer {}: {}", self.answers, String::from_utf8_lossy(&data));
                if self.answers == ANSWERS {
                    node.stop(now);
                }
            }
            Event::PeerDown { .. } => node.stop(now),
            _ => {}
        }
    }
}

/// A node and its socket.
struct Place {
    node: Node,
    socket: UdpSocket,
    /// What the socket did not take yet.
    blocked: Option<(Transmit, Vec<u8>)>,
    is_stopped: bool,
}

impl Place {
    fn new(role: Role, change: impl FnOnce(&mut Start)) -> Result<Self, Failure> {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
        socket.set_nonblocking(true)?;
        let mut start = start(role, socket.local_addr()?)?;
        change(&mut start);
        let node = Node::new(Config::default(), start)?;
        Ok(Self { node, socket, blocked: None, is_stopped: false })
    }

    fn interest(&self) -> PollFlags {
        if self.blocked.is_some() { PollFlags::IN | PollFlags::OUT } else { PollFlags::IN }
    }

    fn deadline(&self) -> Option<Instant> {
        // while the socket is full its own readiness is waited for: the node is due all the time
        let is_waiting = self.blocked.is_some() || self.is_stopped;
        self.node.deadline().map(|deadline| deadline.at).filter(|_| !is_waiting)
    }

    /// Takes out all that the node has, as far as the socket takes it.
    fn drain(&mut self, program: &mut Program) {
        let now = Instant::now();
        self.node.handle(now, Input::Timeout);
        while let Some(output) = self.node.poll() {
            match output {
                Output::Persist(persist) => self.node.handle(now, Input::Persisted(persist.id)),
                Output::Event(Event::Stopped) => self.is_stopped = true,
                Output::Event(event) => program.on_event(&mut self.node, now, event),
            }
        }
        loop {
            let mut buffer = Vec::new();
            let next = self.blocked.take().or_else(|| {
                let transmit = self.node.poll_transmit(now, &mut buffer)?;
                Some((transmit, std::mem::take(&mut buffer)))
            });
            let Some((transmit, mut bytes)) = next else { return };
            while !bytes.is_empty() {
                let len = transmit.segment_size.unwrap_or(bytes.len()).min(bytes.len());
                match self.socket.send_to(&bytes[..len], transmit.destination) {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.blocked = Some((transmit, bytes));
                        return;
                    }
                    // a datagram that cannot be sent is lost, as any other may be
                    _ => drop(bytes.drain(..len)),
                }
            }
        }
    }

    /// Takes in what has come.
    fn receive(&mut self) -> io::Result<()> {
        let mut buffer = vec![0; 65_536];
        loop {
            let (len, remote) = match self.socket.recv_from(&mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            };
            let data = BytesMut::from(&buffer[..len]);
            let datagram = Datagram { socket: SocketId(0), remote, local_ip: None, ecn: 0, data, segment_size: len };
            self.node.handle(Instant::now(), Input::Datagram(datagram));
        }
    }
}

/// What a node needs to know to begin: here without a file for its state.
fn start(role: Role, address: SocketAddr) -> Result<Start, Failure> {
    let random = || {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).map(|()| bytes)
    };
    let wall_time = SystemTime::now().duration_since(UNIX_EPOCH)?;
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
