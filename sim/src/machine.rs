//! The verbs of a node, so that the engine runs [`p2pcore::Node`] and, in its own tests, something smaller.

use std::{
    collections::VecDeque,
    rc::Rc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use p2pcore::{
    CommandError, Config, Id, Input, Node, Output, Reason, Start, StartError,
    master::{Council, MasterView},
    node::{
        Deadline, Guard, MemberCommand, Receipt, ReplyToken, RequestId, SendId, SendOptions, Status, StreamKey,
        Transmit, Usage,
    },
};

/// How a process gets its machine.
pub type Maker = Rc<dyn Fn(Config, Start) -> Result<Box<dyn Machine>, StartError>>;

/// Makes [`p2pcore::Node`]s.
pub fn nodes() -> Maker {
    Rc::new(|config, start| Ok(Box::new(Node::new(config, start)?)))
}

type Result<T, E = CommandError> = std::result::Result<T, E>;

/// What the simulator asks of a node; the contracts are those of [`p2pcore::Node`].
#[allow(missing_docs)] // documented at `p2pcore::Node`
pub trait Machine {
    fn id(&self) -> Id;
    fn handle(&mut self, now: Instant, input: Input);
    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit>;
    fn poll(&mut self) -> Option<Output>;
    fn deadline(&self) -> Option<Deadline>;
    fn status(&self) -> Status;
    fn usage(&self) -> Vec<Usage>;
    fn council(&self) -> Option<&Council>;
    fn master(&self) -> Option<MasterView>;
    fn guard(&self) -> Option<Guard>;
    fn resign(&mut self, now: Instant) -> Result<()>;
    fn change_members(&mut self, now: Instant, command: MemberCommand) -> Result<()>;
    fn stop(&mut self, now: Instant);
    fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId>;
    fn send_to_master(&mut self, now: Instant, data: Bytes, options: SendOptions) -> Result<(SendId, Id)>;
    fn request_to_master(&mut self, now: Instant, data: Bytes, timeout: Option<Duration>) -> Result<(RequestId, Id)>;
    fn handed(&mut self, now: Instant, receipt: Receipt);
    fn request(&mut self, now: Instant, to: Id, data: Bytes, timeout: Option<Duration>) -> Result<RequestId>;
    fn reply(&mut self, now: Instant, token: ReplyToken, result: Result<Bytes, Reason>) -> Result<()>;
    fn datagram(&mut self, now: Instant, to: Id, data: Bytes) -> Result<()>;
    fn open_stream(&mut self, now: Instant, to: Id) -> Result<StreamKey>;
    fn stream_write(&mut self, now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize>;
    fn stream_read(&mut self, now: Instant, stream: StreamKey, max: usize) -> Result<Option<Bytes>>;
    fn stream_finish(&mut self, now: Instant, stream: StreamKey) -> Result<()>;
}

impl Machine for Node {
    fn id(&self) -> Id {
        self.id()
    }

    fn handle(&mut self, now: Instant, input: Input) {
        self.handle(now, input);
    }

    fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        self.poll_transmit(now, buf)
    }

    fn poll(&mut self) -> Option<Output> {
        self.poll()
    }

    fn deadline(&self) -> Option<Deadline> {
        self.deadline()
    }

    fn status(&self) -> Status {
        self.status()
    }

    fn usage(&self) -> Vec<Usage> {
        self.usage()
    }

    fn council(&self) -> Option<&Council> {
        self.council()
    }

    fn master(&self) -> Option<MasterView> {
        self.master()
    }

    fn guard(&self) -> Option<Guard> {
        self.guard()
    }

    fn resign(&mut self, now: Instant) -> Result<()> {
        self.resign(now)
    }

    fn change_members(&mut self, now: Instant, command: MemberCommand) -> Result<()> {
        self.change_members(now, command)
    }

    fn stop(&mut self, now: Instant) {
        self.stop(now);
    }

    /// Half of what goes to one destination goes as a batch: nobody may notice.
    fn send(&mut self, now: Instant, to: &[Id], data: Bytes, options: SendOptions) -> Result<SendId> {
        match to {
            [one] if data.len().is_multiple_of(2) => {
                self.send_batch(now, *one, &mut VecDeque::from([data]), options).map(|sends| sends.first)
            }
            _ => self.send(now, to, data, options),
        }
    }

    fn send_to_master(&mut self, now: Instant, data: Bytes, options: SendOptions) -> Result<(SendId, Id)> {
        self.send_to_master(now, data, options)
    }

    fn request_to_master(&mut self, now: Instant, data: Bytes, timeout: Option<Duration>) -> Result<(RequestId, Id)> {
        self.request_to_master(now, data, timeout)
    }

    fn handed(&mut self, now: Instant, receipt: Receipt) {
        self.handed(now, receipt);
    }

    fn request(&mut self, now: Instant, to: Id, data: Bytes, timeout: Option<Duration>) -> Result<RequestId> {
        self.request(now, to, data, timeout)
    }

    fn reply(&mut self, now: Instant, token: ReplyToken, result: Result<Bytes, Reason>) -> Result<()> {
        self.reply(now, token, result)
    }

    fn datagram(&mut self, now: Instant, to: Id, data: Bytes) -> Result<()> {
        self.datagram(now, to, data)
    }

    fn open_stream(&mut self, now: Instant, to: Id) -> Result<StreamKey> {
        self.open_stream(now, to)
    }

    fn stream_write(&mut self, now: Instant, stream: StreamKey, data: &[u8]) -> Result<usize> {
        self.stream_write(now, stream, data)
    }

    fn stream_read(&mut self, now: Instant, stream: StreamKey, max: usize) -> Result<Option<Bytes>> {
        self.stream_read(now, stream, max)
    }

    fn stream_finish(&mut self, now: Instant, stream: StreamKey) -> Result<()> {
        self.stream_finish(now, stream)
    }
}
