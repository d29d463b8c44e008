//! A small reliable messenger: learns the receiver's incarnation, then stop-and-wait in each lane. It finds the others in
//! a shared book instead of tables.

use std::{
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    CommandError, Config, Event, Id, Input, Name, Output, Reason, Start,
    master::{self, Council, MasterView, MemberInfo, Token},
    node::{
        Deadline, Guard, LinkInfo, LocalNetwork, MemberCommand, NodeInfo, Outcome, PathKind, PeerStatus, Persist,
        PersistId, Receipt, ReplyToken, RequestId, SendId, SendOptions, Sends, ServerStatus, SocketId, Status,
        StreamKey, Transmit, Usage,
    },
};

use crate::machine::{Machine, Maker};

/// What a toy does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bug {
    None,
    TwoOutcomes,
    NoOutcome,
    DeliveredEarly,
    HandsTwice,
    HandsToItself,
    FlipsBit,
    OutOfOrder,
    FailsWhatArrives,
    AnswersStrangers,
    Spins,
    NeverDrains,
    ForgetsWhatIsQueued,
    NeverSuspends,
    NeverStops,
    WrongTables,
    EveryServerHoldsAGuard,
    ShowsNoMaster,
    Panics,
}

type Book = Rc<RefCell<BTreeMap<Id, Vec<SocketAddr>>>>;

/// Makes toys that know each other.
pub(super) fn toys(bug: Bug) -> Maker {
    let book = Book::default();
    Rc::new(move |config, start| Ok(Box::new(Toy::new(config, start, bug, book.clone()))))
}

#[derive(Debug)]
struct Toy {
    config: Config,
    start: Start,
    bug: Bug,
    book: Book,
    me: u64,
    next_send: u64,
    next_receipt: u64,
    peers: BTreeMap<Id, Remote>,
    receipts: BTreeMap<u64, Frame>,
    transmits: VecDeque<(SocketAddr, Vec<u8>)>,
    outputs: VecDeque<Output>,
    held_back: Option<Event>,
    stopped: bool,
}

#[derive(Debug, Default)]
struct Remote {
    /// Of the remote; 0 until it is known.
    incarnation: u64,
    asked: Option<Instant>,
    lanes: BTreeMap<u8, Lane>,
    /// The next number from each of the remote's incarnations and lanes.
    expected: BTreeMap<(u64, u8), u64>,
    handed: BTreeMap<(u64, u8), u64>,
}

#[derive(Debug, Default)]
struct Lane {
    next: u64,
    queue: VecDeque<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    send: SendId,
    number: u64,
    data: Bytes,
    expires: Instant,
    sent: Option<Instant>,
}

#[derive(Clone, Debug)]
struct Frame {
    kind: u8,
    from: Id,
    to: Id,
    mine: u64,
    yours: u64,
    lane: u8,
    number: u64,
    data: Bytes,
}

impl Frame {
    const TAG: usize = 8;

    fn to_bytes(&self, key: &[u8; 32]) -> Vec<u8> {
        let mut bytes = vec![self.kind, self.lane];
        bytes.extend_from_slice(&self.from.to_bytes());
        bytes.extend_from_slice(&self.to.to_bytes());
        [self.mine, self.yours, self.number].iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
        bytes.extend_from_slice(&self.data);
        let tag = blake3::keyed_hash(key, &bytes);
        bytes.extend_from_slice(&tag.as_bytes()[..Self::TAG]);
        bytes
    }

    fn from_bytes(key: &[u8; 32], bytes: &[u8]) -> Option<Self> {
        let (body, tag) = bytes.split_at_checked(bytes.len().checked_sub(Self::TAG)?)?;
        if blake3::keyed_hash(key, body).as_bytes()[..Self::TAG] != *tag {
            return None;
        }
        let (head, body) = body.split_first_chunk::<2>()?;
        let (from, body) = body.split_first_chunk()?;
        let (to, body) = body.split_first_chunk()?;
        let (words, data) = body.split_first_chunk::<24>()?;
        let word = |n: usize| u64::from_le_bytes(words[n * 8..][..8].try_into().unwrap());
        Some(Self {
            kind: head[0],
            lane: head[1],
            from: Id::from_bytes(from)?,
            to: Id::from_bytes(to)?,
            mine: word(0),
            yours: word(1),
            number: word(2),
            data: Bytes::copy_from_slice(data),
        })
    }
}

impl Toy {
    const AGAIN: Duration = Duration::from_millis(50);

    fn new(config: Config, start: Start, bug: Bug, book: Book) -> Self {
        let id = start.identity.id();
        book.borrow_mut().insert(id, addresses(&start.network));
        let me = u64::from_le_bytes(start.seed[..8].try_into().unwrap()).max(1);
        let mut outputs = VecDeque::new();
        outputs.push_back(Output::Persist(Persist { id: PersistId(1), state: Bytes::from_static(b"state") }));
        if bug == Bug::NeverSuspends && !id.is_server() {
            let server = book.borrow().keys().copied().find(Id::is_server).unwrap();
            outputs.push_back(Output::Event(Event::ServerUp { id: server, name: Name::default() }));
            outputs.push_back(Output::Event(Event::ServerDown { id: server, name: Name::default() }));
        }
        Self {
            config,
            start,
            bug,
            book,
            me,
            next_send: 0,
            next_receipt: 0,
            peers: BTreeMap::new(),
            receipts: BTreeMap::new(),
            transmits: VecDeque::new(),
            outputs,
            held_back: None,
            stopped: false,
        }
    }

    fn transmit(&mut self, to: Id, kind: u8, lane: u8, number: u64, data: Bytes) {
        let yours = self.peers.get(&to).map_or(0, |remote| remote.incarnation);
        self.transmit_to(to, yours, kind, lane, number, data);
    }

    fn acknowledge_to(&mut self, frame: &Frame) {
        self.transmit_to(frame.from, frame.mine, b'K', frame.lane, frame.number, Bytes::new());
    }

    fn transmit_to(&mut self, to: Id, yours: u64, kind: u8, lane: u8, number: u64, data: Bytes) {
        let address = self.book.borrow().get(&to).and_then(|addresses| addresses.first().copied());
        let frame = Frame { kind, from: self.id(), to, mine: self.me, yours, lane, number, data };
        if let Some(address) = address {
            self.transmits.push_back((address, frame.to_bytes(self.start.network_key.as_bytes())));
        }
    }

    fn outcome(&mut self, send: SendId, to: Id, outcome: Outcome) {
        let times = match self.bug {
            Bug::TwoOutcomes => 2,
            Bug::NoOutcome => 0,
            _ => 1,
        };
        for _ in 0..times {
            self.outputs.push_back(Output::Event(Event::Outcome { sends: Sends::one(send), to, outcome }));
        }
    }

    /// Sends what is due and expires what is over.
    fn work(&mut self, now: Instant) {
        let ids: Vec<Id> = self.peers.keys().copied().collect();
        for id in ids {
            let (mut hello, mut frames, mut expired) = (false, Vec::new(), Vec::new());
            let Some(remote) = self.peers.get_mut(&id) else { continue };
            for (lane, queue) in &mut remote.lanes {
                queue.queue.retain(|waiting| {
                    let over = waiting.expires <= now;
                    expired.extend(over.then_some(waiting.send));
                    !over
                });
                if let Some(first) = queue.queue.front_mut() {
                    if remote.incarnation == 0 {
                        hello = remote.asked.is_none_or(|asked| asked + Self::AGAIN <= now);
                    } else if first.sent.is_none_or(|sent| sent + Self::AGAIN <= now) {
                        first.sent = Some(now);
                        frames.push((*lane, first.number, first.data.clone()));
                    }
                }
            }
            if hello {
                remote.asked = Some(now);
                self.transmit(id, b'H', 0, 0, Bytes::new());
            }
            frames.into_iter().for_each(|(lane, number, data)| self.transmit(id, b'D', lane, number, data));
            expired.into_iter().for_each(|send| self.outcome(send, id, Outcome::Expired));
        }
    }

    fn receive(&mut self, frame: Frame) {
        if frame.to != self.id() {
            return;
        }
        let from = frame.from;
        let remote = self.peers.entry(from).or_default();
        match frame.kind {
            b'H' => self.transmit(from, b'A', 0, 0, Bytes::new()),
            b'A' => remote.incarnation = frame.mine,
            b'R' if frame.mine != remote.incarnation && remote.incarnation != 0 => {
                remote.incarnation = 0;
                let lost: Vec<SendId> =
                    remote.lanes.values_mut().flat_map(|lane| lane.queue.drain(..)).map(|w| w.send).collect();
                lost.into_iter().for_each(|send| self.outcome(send, from, Outcome::Failed(Reason::UnknownOutcome)));
            }
            b'D' if frame.yours != self.me => self.transmit(from, b'R', 0, 0, Bytes::new()),
            b'D' => self.data(frame),
            b'K' if frame.yours == self.me => {
                let lane = remote.lanes.entry(frame.lane).or_default();
                if lane.queue.front().is_some_and(|first| first.number == frame.number)
                    && let Some(done) = lane.queue.pop_front()
                {
                    self.outcome(done.send, from, Outcome::Delivered);
                }
            }
            b'G' => self.outputs.push_back(Output::Event(Event::Datagram { from, data: frame.data })),
            _ => {}
        }
    }

    fn data(&mut self, frame: Frame) {
        let remote = self.peers.entry(frame.from).or_default();
        let key = (frame.mine, frame.lane);
        let expected = remote.expected.entry(key).or_default();
        if frame.number < *expected && self.bug != Bug::HandsTwice {
            let handed = remote.handed.get(&key).copied();
            if handed.is_some_and(|last| frame.number <= last) {
                self.acknowledge_to(&frame);
            }
            return;
        }
        *expected = frame.number + 1;
        self.hand(frame);
    }

    fn hand(&mut self, frame: Frame) {
        self.next_receipt += 1;
        let mut data = frame.data.to_vec();
        if self.bug == Bug::FlipsBit {
            data[0] ^= 1;
        }
        let (from, lane) = (frame.from, frame.lane);
        let receipt = Receipt { from, conversation: 0, lane, seq: self.next_receipt, count: 1 };
        self.receipts.insert(self.next_receipt, frame);
        let event = Event::Messages { from, name: Name::default(), lane, data: vec![data.into()], receipt };
        if self.bug == Bug::OutOfOrder {
            // the first is told as taken and handed only behind the second
            match self.held_back.take() {
                None => {
                    self.held_back = Some(event);
                    return self.acknowledge(receipt);
                }
                Some(first) => {
                    self.outputs.push_back(Output::Event(event));
                    return self.outputs.push_back(Output::Event(first));
                }
            }
        }
        self.outputs.push_back(Output::Event(event));
    }

    fn acknowledge(&mut self, receipt: Receipt) {
        let Some(frame) = self.receipts.remove(&receipt.seq) else { return };
        let remote = self.peers.entry(frame.from).or_default();
        remote.handed.insert((frame.mine, frame.lane), frame.number);
        self.acknowledge_to(&frame);
    }
}

/// Toys elect nobody: the first one of the book is Master.
fn token(id: Id) -> Token {
    Token { generation: 1, kind: master::Kind::Elected, term: 1, id }
}

fn addresses(network: &LocalNetwork) -> Vec<SocketAddr> {
    let port = network.sockets[0].1.port();
    network.interfaces.iter().map(|ip| SocketAddr::new(*ip, port)).collect()
}

impl Drop for Toy {
    fn drop(&mut self) {
        self.book.borrow_mut().remove(&self.id());
    }
}

impl Machine for Toy {
    fn id(&self) -> Id {
        self.start.identity.id()
    }

    fn handle(&mut self, now: Instant, input: Input) {
        if let Input::NetworkChanged(network) = &input {
            self.book.borrow_mut().insert(self.id(), addresses(network));
            // whoever is not being talked to may be another one by now
            let idle = |remote: &&mut Remote| remote.lanes.values().all(|lane| lane.queue.is_empty());
            self.peers.values_mut().filter(idle).for_each(|remote| remote.incarnation = 0);
        }
        if let Input::Datagram(datagram) = input {
            for piece in datagram.data.chunks(datagram.segment_size.max(1)) {
                match Frame::from_bytes(self.start.network_key.as_bytes(), piece) {
                    Some(frame) => self.receive(frame),
                    None if self.bug == Bug::AnswersStrangers => {
                        self.transmits.push_back((datagram.remote, b"who are you?".to_vec()));
                    }
                    None => {}
                }
            }
        }
        assert!(self.bug != Bug::Panics, "planted");
        self.work(now);
    }

    fn poll_transmit(&mut self, _now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let (destination, bytes) = self.transmits.pop_front()?;
        buf.extend_from_slice(&bytes);
        let socket = SocketId(u8::from(destination.is_ipv6()));
        Some(Transmit { socket, destination, source: None, ecn: 0, size: bytes.len(), segment_size: None })
    }

    fn poll(&mut self) -> Option<Output> {
        if self.bug == Bug::NeverDrains {
            return Some(Output::Persist(Persist { id: PersistId(2), state: Bytes::new() }));
        }
        self.outputs.pop_front()
    }

    fn deadline(&self) -> Option<Deadline> {
        let waiting = self.peers.values().flat_map(|remote| {
            let asked = remote.asked;
            remote.lanes.values().filter_map(move |lane| {
                let first = lane.queue.front()?;
                let sent = if remote.incarnation == 0 { asked } else { first.sent };
                let expires = lane.queue.iter().map(|waiting| waiting.expires).min();
                expires.min(Some(sent.map_or(self.start.now, |sent| sent + Self::AGAIN)))
            })
        });
        let queued = !self.transmits.is_empty() || !self.outputs.is_empty() || self.bug == Bug::Spins;
        let queued = queued && self.bug != Bug::ForgetsWhatIsQueued;
        let at = if queued { Some(self.start.now) } else { waiting.min() };
        at.map(|at| Deadline { at, why: "toy" })
    }

    fn usage(&self) -> Vec<Usage> {
        Vec::new()
    }

    fn status(&self) -> Status {
        let book = self.book.borrow();
        let me = self.id();
        let info = |id: Id| NodeInfo { id, name: Name::default(), public: vec![], private: vec![], listen: vec![] };
        let (servers, peers): (Vec<Id>, Vec<Id>) = book.keys().copied().partition(Id::is_server);
        let kind = PathKind::Direct;
        let linked = |id: &Id| PeerStatus { info: info(*id), linked: true, kind: Some(kind), via: None, rtt: None };
        let others = peers.iter().filter(|peer| **peer != me);
        let pairs = peers.iter().flat_map(|from| book.keys().map(|to| (*from, *to)));
        let links = pairs.filter(|(from, to)| from != to).map(|(from, to)| LinkInfo { from, to, kind });
        let up = |id: &Id| ServerStatus {
            id: *id,
            name: Name::default(),
            addresses: vec![],
            linked: self.bug != Bug::WrongTables,
            rtt: None,
        };
        Status {
            id: me,
            name: self.start.name.clone(),
            listen: vec![],
            suspended: false,
            master: servers.iter().find(|_| self.bug != Bug::ShowsNoMaster).map(|id| MasterView::Master(token(*id))),
            members: servers
                .iter()
                .map(|id| MemberInfo { id: *id, is_voter: servers.len() > 2 || Some(id) == servers.first() })
                .collect(),
            on_demand: false,
            watches: Vec::new(),
            servers: servers.iter().filter(|server| **server != me).map(up).collect(),
            peers: others.map(linked).collect(),
            clients: if me.is_server() { peers.iter().copied().map(info).collect() } else { vec![] },
            links: if me.is_server() { links.collect() } else { vec![] },
            counters: BTreeMap::new(),
        }
    }

    fn council(&self) -> Option<&Council> {
        None
    }

    fn master(&self) -> Option<MasterView> {
        self.status().master
    }

    fn guard(&self) -> Option<Guard> {
        let all_day = Duration::from_secs(24 * 3_600);
        let holds = self.bug == Bug::EveryServerHoldsAGuard && self.id().is_server();
        holds.then(|| Guard { token: token(self.id()), until: self.start.now + all_day })
    }

    fn resign(&mut self, _now: Instant) -> Result<(), CommandError> {
        Ok(())
    }

    fn change_members(&mut self, _now: Instant, _command: MemberCommand) -> Result<(), CommandError> {
        Ok(())
    }

    fn send_to_master(&mut self, _: Instant, _: Bytes, _: SendOptions) -> Result<(SendId, Id), CommandError> {
        Err(CommandError::Failed(Reason::NoMaster))
    }

    fn request_to_master(
        &mut self,
        _: Instant,
        _: Bytes,
        _: Option<Duration>,
    ) -> Result<(RequestId, Id), CommandError> {
        Err(CommandError::Failed(Reason::NoMaster))
    }

    fn stop(&mut self, _now: Instant) {
        self.stopped = true;
        if self.bug != Bug::NeverStops {
            self.outputs.push_back(Output::Event(Event::Stopped));
        }
    }

    fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId, CommandError> {
        if self.stopped {
            return Err(CommandError::Stopped);
        }
        self.next_send += 1;
        let send = SendId(self.next_send);
        let expires = now + options.ttl.unwrap_or(self.config.message_ttl);
        for id in to {
            if !self.book.borrow().contains_key(id) && !self.peers.contains_key(id) {
                self.outcome(send, *id, Outcome::Failed(Reason::UnknownId));
                continue;
            }
            let lane = self.peers.entry(*id).or_default().lanes.entry(options.lane).or_default();
            lane.next += 1;
            let (number, data) = (lane.next, data.clone());
            lane.queue.push_back(Waiting { send, number, data: data.clone(), expires, sent: None });
            match self.bug {
                Bug::DeliveredEarly => self.outcome(send, *id, Outcome::Delivered),
                Bug::FailsWhatArrives => self.outcome(send, *id, Outcome::Failed(Reason::Offline)),
                Bug::HandsToItself => {
                    let receipt = Receipt { from: self.id(), conversation: 0, lane: 0, seq: u64::MAX, count: 1 };
                    let event = Event::Messages {
                        from: self.id(),
                        name: Name::default(),
                        lane: options.lane,
                        data: vec![data],
                        receipt,
                    };
                    self.outputs.push_back(Output::Event(event));
                }
                _ => {}
            }
        }
        self.work(now);
        Ok(send)
    }

    fn handed(&mut self, _now: Instant, receipt: Receipt) {
        self.acknowledge(receipt);
    }

    fn request(&mut self, _: Instant, _: Id, _: Bytes, _: Option<Duration>) -> Result<RequestId, CommandError> {
        Err(CommandError::Failed(Reason::Offline))
    }

    fn reply(&mut self, _: Instant, _: ReplyToken, _: Result<Bytes, Reason>) -> Result<(), CommandError> {
        Err(CommandError::Gone)
    }

    fn datagram(&mut self, _now: Instant, to: Id, data: Bytes) -> Result<(), CommandError> {
        self.transmit(to, b'G', 0, 0, data);
        Ok(())
    }

    fn open_stream(&mut self, _: Instant, _: Id) -> Result<StreamKey, CommandError> {
        Err(CommandError::Gone)
    }

    fn stream_write(&mut self, _: Instant, _: StreamKey, _: &[u8]) -> Result<usize, CommandError> {
        Err(CommandError::Gone)
    }

    fn stream_read(&mut self, _: Instant, _: StreamKey, _: usize) -> Result<Option<Bytes>, CommandError> {
        Err(CommandError::Gone)
    }

    fn stream_finish(&mut self, _: Instant, _: StreamKey) -> Result<(), CommandError> {
        Err(CommandError::Gone)
    }
}
