//! A runtime and a machine for tests: a thread for each task, and a node that does what the test says.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::UdpSocket,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicIsize, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use async_io::Async;
use bytes::Bytes;
use p2pcore::{
    CommandError, Event, Id, Identity, Input, NetworkKey, Output, Reason, Role, SecretKey,
    master::{MasterView, MemberInfo},
    node::{
        Deadline, Guard, LocalNetwork, MemberCommand, Receipt, ReplyToken, RequestId, SendId, SendOptions, Sends,
        SocketId, Status, StreamKey, Transmit, Watch,
    },
};
use quinn_udp::UdpSockRef;

use crate::{
    BoxFuture, NodeHandle, Options, Runtime, Timer, UdpIo,
    clocks::{Clocks, ReadClocks},
    drive::Machine,
    endpoint::launch,
    interfaces, sockets,
    state::StateDir,
};

/// A thread for each task. Sockets take `writes` datagram runs and are blocked until there are more.
#[derive(Debug)]
pub(crate) struct TestRuntime {
    pub(crate) writes: Arc<AtomicIsize>,
}

impl TestRuntime {
    pub(crate) fn new() -> Self {
        Self { writes: Arc::new(AtomicIsize::new(isize::MAX)) }
    }
}

impl Runtime for TestRuntime {
    fn spawn(&self, task: BoxFuture) {
        // polled when it is woken and at no other time: a wake that is missing is found
        std::thread::spawn(|| futures_lite::future::block_on(task));
    }

    fn timer(&self, at: Instant) -> Pin<Box<dyn Timer>> {
        Box::pin(TestTimer(async_io::Timer::at(at)))
    }

    fn udp(&self, socket: UdpSocket) -> io::Result<Box<dyn UdpIo>> {
        Ok(Box::new(TestUdp { io: Async::new_nonblocking(socket)?, writes: self.writes.clone() }))
    }

    fn block_on(&self, task: Pin<Box<dyn Future<Output = ()> + '_>>) {
        async_io::block_on(task);
    }
}

struct TestTimer(async_io::Timer);

impl Timer for TestTimer {
    fn reset(mut self: Pin<&mut Self>, at: Instant) {
        self.0.set_at(at);
    }
}

impl Future for TestTimer {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        Pin::new(&mut self.0).poll(cx).map(|_| ())
    }
}

#[derive(Debug)]
struct TestUdp {
    io: Async<UdpSocket>,
    writes: Arc<AtomicIsize>,
}

impl UdpIo for TestUdp {
    fn socket(&self) -> UdpSockRef<'_> {
        self.io.get_ref().into()
    }

    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_readable(cx)
    }

    fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.writes.load(Ordering::Relaxed) <= 0 {
            return Poll::Pending;
        }
        self.io.poll_writable(cx)
    }

    fn try_read(&self, read: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<usize>) -> io::Result<usize> {
        read(self.io.get_ref().into())
    }

    fn try_write(&self, write: &mut dyn FnMut(UdpSockRef<'_>) -> io::Result<()>) -> io::Result<()> {
        if self.writes.fetch_sub(1, Ordering::Relaxed) <= 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        write(self.io.get_ref().into())
    }
}

/// What a [`Fake`] does and has seen.
#[derive(Default)]
pub(crate) struct Script {
    pub(crate) outputs: VecDeque<Output>,
    pub(crate) transmits: VecDeque<(Transmit, Vec<u8>)>,
    pub(crate) inputs: Vec<Input>,
    pub(crate) deadline: Option<Instant>,
    /// So long the machine takes whenever it is asked for outputs.
    pub(crate) nap: Option<Duration>,
    pub(crate) naps: usize,
    /// When the last nap ended.
    woke: Option<Instant>,
    /// Inputs with a time before that.
    pub(crate) backdated: usize,
    /// To these, `send`, `request` and `reply` give the message back.
    pub(crate) full: Vec<Id>,
    /// Numbers that are left out after each message.
    pub(crate) gap: u64,
    /// What is never taken.
    pub(crate) spurned: Option<Bytes>,
    pub(crate) sent: Vec<(Vec<Id>, Bytes)>,
    pub(crate) replies: Vec<(ReplyToken, Result<Bytes, Reason>)>,
    pub(crate) handed: Vec<Receipt>,
    pub(crate) echo: BTreeMap<StreamKey, (VecDeque<u8>, bool)>,
    pub(crate) stream_resets: Vec<StreamKey>,
    pub(crate) master: Option<MasterView>,
    pub(crate) guard: Option<Guard>,
    /// With the next datagrams the guard ends.
    pub(crate) abdicates: bool,
    pub(crate) member_commands: Vec<MemberCommand>,
    pub(crate) unwatched: Vec<Watch>,
    pub(crate) resigned: usize,
    pub(crate) stops: usize,
    /// Says goodbye at once when told to stop.
    pub(crate) polite: bool,
}

impl Script {
    /// Takes what is for the Master.
    fn seat(&mut self, data: Bytes) -> Result<(u64, Id), CommandError> {
        let to = self.master.and_then(|view| view.master()).ok_or(CommandError::Failed(Reason::NoMaster))?;
        Fake::refuse(self, &[to], &data)?;
        self.sent.push((vec![to], data));
        Ok((self.sent.len() as u64, to))
    }
}

/// A machine that follows a script; clones share it.
#[derive(Clone)]
pub(crate) struct Fake {
    script: Arc<Mutex<Script>>,
    pub(crate) timeouts: Arc<AtomicUsize>,
    pub(crate) members: Vec<MemberInfo>,
    /// How long its machine slept so far, in milliseconds.
    pub(crate) slept: Arc<AtomicU64>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        let script = Script { polite: true, ..Script::default() };
        let script = Arc::new(Mutex::new(script));
        Self { script, timeouts: Arc::default(), members: Vec::new(), slept: Arc::default() }
    }

    pub(crate) fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// Runs it on one loopback socket.
    pub(crate) fn launch(&self, runtime: &TestRuntime, change: impl FnOnce(&mut Options)) -> NodeHandle {
        let mut options = Options::new(identity(1), NetworkKey::from_bytes([0; 32]));
        options.listen = vec!["127.0.0.1:0".parse().unwrap()];
        change(&mut options);
        let sockets = sockets::bind(runtime, &options.listen).unwrap();
        let network = LocalNetwork {
            sockets: sockets.iter().map(|socket| (socket.id, socket.local)).collect(),
            // a change of them would wake the driver
            interfaces: interfaces::list().unwrap(),
            ..LocalNetwork::default()
        };
        let state = options.state.as_ref().map(|path| StateDir::open(path, options.identity.id()).unwrap());
        launch(runtime, self.clone(), options, sockets, state, network, self.clocks()).unwrap()
    }

    fn clocks(&self) -> ReadClocks {
        let slept = self.slept.clone();
        Arc::new(move || {
            let Clocks { monotonic, wall } = Clocks::now();
            Clocks { monotonic, wall: wall + Duration::from_millis(slept.load(Ordering::Relaxed)) }
        })
    }

    /// Waits until `done` holds; the driver has to be woken by something else.
    pub(crate) fn until(&self, what: &str, mut done: impl FnMut(&Script) -> bool) {
        for _ in 0..10_000 {
            if done(&self.script()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        panic!("it never came to: {what}");
    }

    fn refuse(script: &Script, to: &[Id], data: &Bytes) -> Result<(), CommandError> {
        match to.iter().find(|id| script.full.contains(id)) {
            Some(to) => Err(CommandError::Blocked { to: *to, data: data.clone() }),
            None => Ok(()),
        }
    }
}

/// A peer's identity that follows from a number.
pub(crate) fn identity(seed: u8) -> Identity {
    Identity::new(Role::Peer, SecretKey::from_bytes([seed; 32]))
}

impl Machine for Fake {
    fn handle(&mut self, now: Instant, input: Input) {
        let mut script = self.script();
        script.backdated += usize::from(script.woke.is_some_and(|woke| now < woke));
        match input {
            Input::Timeout => {
                self.timeouts.fetch_add(1, Ordering::Relaxed);
            }
            input => script.inputs.push(input),
        }
    }

    fn poll_transmit(&mut self, _now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        let mut script = self.script();
        let (transmit, bytes) = script.transmits.pop_front()?;
        if script.abdicates {
            script.guard = None;
        }
        buf.extend_from_slice(&bytes);
        Some(transmit)
    }

    fn poll(&mut self) -> Option<Output> {
        let nap = self.script().nap;
        if let Some(nap) = nap {
            std::thread::sleep(nap);
            let mut script = self.script();
            script.naps += 1;
            script.woke = Some(Instant::now());
        }
        self.script().outputs.pop_front()
    }

    fn deadline(&mut self) -> Option<Deadline> {
        let at = self.script().deadline?;
        Some(Deadline { at, why: "the test" })
    }

    fn send(&mut self, _now: Instant, to: &[Id], data: Bytes, _options: SendOptions) -> Result<SendId, CommandError> {
        let mut script = self.script();
        Self::refuse(&script, to, &data)?;
        if script.spurned.as_ref() == Some(&data) {
            return Err(CommandError::Failed(Reason::Refused));
        }
        script.sent.push((to.to_vec(), data));
        Ok(SendId(script.sent.len() as u64 * (1 + script.gap)))
    }

    fn send_batch(
        &mut self,
        now: Instant,
        to: Id,
        messages: &mut VecDeque<Bytes>,
        options: SendOptions,
    ) -> Result<Sends, CommandError> {
        let most = if self.script().gap > 0 { 1 } else { messages.len() as u64 };
        let mut sends: Option<Sends> = None;
        while sends.is_none_or(|sends| sends.count < most)
            && let Some(data) = messages.front()
        {
            match (self.send(now, &[to], data.clone(), options), &mut sends) {
                (Ok(_), Some(sends)) => sends.count += 1,
                (Ok(first), None) => sends = Some(Sends::one(first)),
                (Err(_), Some(_)) => break,
                (Err(error), None) => return Err(error),
            }
            messages.pop_front();
        }
        Ok(sends.expect("a batch is not empty"))
    }

    fn handed(&mut self, _now: Instant, receipt: Receipt) {
        self.script().handed.push(receipt);
    }

    fn request(
        &mut self,
        _now: Instant,
        to: Id,
        data: Bytes,
        _timeout: Option<Duration>,
    ) -> Result<RequestId, CommandError> {
        let mut script = self.script();
        Self::refuse(&script, &[to], &data)?;
        script.sent.push((vec![to], data));
        Ok(RequestId(script.sent.len() as u64))
    }

    fn reply(&mut self, _now: Instant, token: ReplyToken, result: Result<Bytes, Reason>) -> Result<(), CommandError> {
        self.script().replies.push((token, result));
        Ok(())
    }

    fn datagram(&mut self, _now: Instant, from: Id, data: Bytes) -> Result<(), CommandError> {
        self.script().outputs.push_back(Output::Event(Event::Datagram { from, data }));
        Ok(())
    }

    fn open_stream(&mut self, _now: Instant, _to: Id) -> Result<StreamKey, CommandError> {
        let mut script = self.script();
        let key = StreamKey(script.echo.len() as u64);
        script.echo.insert(key, (VecDeque::new(), false));
        Ok(key)
    }

    fn stream_write(&mut self, _now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize, CommandError> {
        let mut script = self.script();
        let (bytes, _) = script.echo.get_mut(&stream).ok_or(CommandError::Gone)?;
        let len = data.len().min(100_000 - bytes.len());
        bytes.extend(&data[..len]);
        if len > 0 {
            script.outputs.push_back(Output::Event(Event::StreamReadable(stream)));
        }
        Ok(len)
    }

    fn stream_read(&mut self, _now: Instant, stream: StreamKey, max: usize) -> Result<Option<Bytes>, CommandError> {
        let mut script = self.script();
        let (bytes, end) = script.echo.get_mut(&stream).ok_or(CommandError::Gone)?;
        if bytes.is_empty() {
            return Ok(end.then(Bytes::new));
        }
        let len = bytes.len().min(max);
        let piece = bytes.drain(..len).collect();
        script.outputs.push_back(Output::Event(Event::StreamWritable(stream)));
        Ok(Some(piece))
    }

    fn stream_finish(&mut self, _now: Instant, stream: StreamKey) -> Result<(), CommandError> {
        let mut script = self.script();
        script.echo.get_mut(&stream).ok_or(CommandError::Gone)?.1 = true;
        script.outputs.push_back(Output::Event(Event::StreamReadable(stream)));
        Ok(())
    }

    fn stream_reset(&mut self, _now: Instant, stream: StreamKey) {
        self.script().stream_resets.push(stream);
    }

    fn master(&mut self) -> Option<MasterView> {
        self.script().master
    }

    fn guard(&mut self) -> Option<Guard> {
        self.script().guard
    }

    fn send_to_master(
        &mut self,
        _now: Instant,
        data: Bytes,
        _options: SendOptions,
    ) -> Result<(SendId, Id), CommandError> {
        let (number, to) = self.script().seat(data)?;
        Ok((SendId(number), to))
    }

    fn request_to_master(
        &mut self,
        _now: Instant,
        data: Bytes,
        _timeout: Option<Duration>,
    ) -> Result<(RequestId, Id), CommandError> {
        let (number, to) = self.script().seat(data)?;
        Ok((RequestId(number), to))
    }

    fn members(&mut self) -> &[MemberInfo] {
        &self.members
    }

    fn change_members(&mut self, _now: Instant, command: MemberCommand) -> Result<(), CommandError> {
        let mut script = self.script();
        script.guard.take_if(|_| matches!(command, MemberCommand::Transfer(_)));
        script.member_commands.push(command);
        Ok(())
    }

    fn resign(&mut self, _now: Instant) -> Result<(), CommandError> {
        let mut script = self.script();
        script.guard = None;
        script.resigned += 1;
        Ok(())
    }

    fn watch(&mut self, _now: Instant, what: Watch) -> Result<(), CommandError> {
        let found = Event::Found { what, ids: vec![identity(2).id()] };
        self.script().outputs.push_back(Output::Event(found));
        Ok(())
    }

    fn unwatch(&mut self, _now: Instant, what: &Watch) {
        self.script().unwatched.push(what.clone());
    }

    fn stop(&mut self, _now: Instant) {
        let mut script = self.script();
        script.stops += 1;
        if script.polite {
            script.outputs.push_back(Output::Event(Event::Stopped));
        }
    }

    fn status(&mut self) -> Status {
        Status {
            id: identity(1).id(),
            name: p2pcore::Name::default(),
            listen: Vec::new(),
            suspended: true,
            master: None,
            members: Vec::new(),
            on_demand: false,
            watches: Vec::new(),
            servers: Vec::new(),
            peers: Vec::new(),
            clients: Vec::new(),
            links: Vec::new(),
            counters: BTreeMap::new(),
        }
    }
}

/// A run of datagrams from the only socket.
pub(crate) fn run(destination: std::net::SocketAddr, bytes: Vec<u8>, segment: Option<usize>) -> (Transmit, Vec<u8>) {
    let transmit =
        Transmit { socket: SocketId(0), destination, source: None, ecn: 0, size: bytes.len(), segment_size: segment };
    (transmit, bytes)
}
