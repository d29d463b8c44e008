//! The node: demultiplexes, composes, and owns the ready queue and the deadlines.

mod api;

use std::time::{Duration, Instant};

use bytes::Bytes;

pub use api::*;

use crate::{CommandError, Config, Id, Reason, StartError};

/// A server or a peer: the whole protocol as one state machine without sockets, clocks, threads or randomness of its own.
#[derive(Debug)]
pub struct Node {
    start: Start,
    config: Config,
}

impl Node {
    /// Makes a node.
    ///
    /// # Errors
    /// What [`StartError`] lists; nothing was done then.
    pub fn new(config: Config, start: Start) -> Result<Self, StartError> {
        Ok(Self { start, config })
    }

    /// Takes what happened outside. Several inputs in a row are legal; nothing must be drained in between.
    pub fn handle(&mut self, _now: Instant, _input: Input) {}

    /// Appends the next run of datagrams to `buf`. Call until it returns `None` or the socket is full.
    pub fn poll_transmit(&mut self, _now: Instant, _buf: &mut Vec<u8>) -> Option<Transmit> {
        None
    }

    /// The next event or order to persist. Call until it returns `None`.
    pub fn poll(&mut self) -> Option<Output> {
        None
    }

    /// When to call [`handle`](Self::handle) with [`Input::Timeout`]; due at once while any output is queued.
    pub fn deadline(&self) -> Option<Deadline> {
        None
    }

    /// This node's Id.
    pub fn id(&self) -> Id {
        self.start.identity.id()
    }

    /// Sends `data` to each of `to`; an [`Event::Outcome`] follows for each, exactly one.
    ///
    /// # Errors
    /// Nothing was sent to anyone; `Blocked` gives the message back.
    pub fn send(
        &mut self,
        _now: Instant,
        _to: &[Id],
        _data: Bytes,
        _options: SendOptions,
    ) -> Result<SendId, CommandError> {
        Err(CommandError::Stopped)
    }

    /// The application has taken the message: its sender gets the receipt.
    pub fn handed(&mut self, _now: Instant, _receipt: Receipt) {}

    /// Asks `to` for a reply; one [`Event::Reply`] follows, after `timeout` (or `Config::request_timeout`) at the latest.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn request(
        &mut self,
        _now: Instant,
        _to: Id,
        _data: Bytes,
        _timeout: Option<Duration>,
    ) -> Result<RequestId, CommandError> {
        Err(CommandError::Stopped)
    }

    /// Answers a request; `Err` refuses it.
    ///
    /// # Errors
    /// `Gone` if it was answered before or its sender's link state is gone; `Blocked` gives the reply back.
    pub fn reply(
        &mut self,
        _now: Instant,
        _token: ReplyToken,
        _result: Result<Bytes, Reason>,
    ) -> Result<(), CommandError> {
        Err(CommandError::Stopped)
    }

    /// Sends one best-effort datagram; it may be lost on the way, which nobody is told.
    ///
    /// # Errors
    /// `TooLarge` over the path's datagram size, `Failed` without a link.
    pub fn datagram(&mut self, _now: Instant, _to: Id, _data: Bytes) -> Result<(), CommandError> {
        Err(CommandError::Stopped)
    }

    /// Opens a byte stream both ways. It ends with the link: a [`Event::StreamReset`] says so.
    ///
    /// # Errors
    /// `Failed` without a link or over `Config::max_streams`.
    pub fn open_stream(&mut self, _now: Instant, _to: Id) -> Result<StreamKey, CommandError> {
        Err(CommandError::Stopped)
    }

    /// Writes a front part of `data` and returns its length; 0 means blocked until [`Event::StreamWritable`].
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_write(&mut self, _now: Instant, _stream: StreamKey, _data: &[u8]) -> Result<usize, CommandError> {
        Err(CommandError::Gone)
    }

    /// Reads at most `max` bytes; `Ok(None)` means blocked until [`Event::StreamReadable`], an empty piece is the end.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_read(
        &mut self,
        _now: Instant,
        _stream: StreamKey,
        _max: usize,
    ) -> Result<Option<Bytes>, CommandError> {
        Err(CommandError::Gone)
    }

    /// Ends the writing side.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_finish(&mut self, _now: Instant, _stream: StreamKey) -> Result<(), CommandError> {
        Err(CommandError::Gone)
    }

    /// Gives the stream up in both directions. Unknown streams are ignored.
    pub fn stream_reset(&mut self, _now: Instant, _stream: StreamKey) {}

    /// Says goodbye to all; [`Event::Stopped`] follows.
    pub fn stop(&mut self, _now: Instant) {}

    /// The tables as of now.
    pub fn status(&self) -> Status {
        let _ = &self.config;
        Status {
            id: self.id(),
            name: self.start.name.clone(),
            listen: self.start.network.sockets.iter().map(|(_, address)| *address).collect(),
            suspended: true,
            servers: Vec::new(),
            peers: Vec::new(),
            clients: Vec::new(),
            links: Vec::new(),
            counters: std::collections::BTreeMap::new(),
        }
    }
}
