//! What moves a link: datagrams in and out, and time.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    ConnectionError, DatagramEvent, Dir, EcnCodepoint, Event, FrameStats, StreamEvent, TransportError, VarInt,
};

use super::{
    Link, MAX_CLOSE_REASON, Phase,
    events::{LinkEvent, LinkStreamId, LinkTransmit, LostReason, close_code},
    lanes::Violation,
    transport::MAX_RUN_SEGMENTS,
};
use crate::{
    noise::{HandshakeError, RemoteKey},
    path::{PathEvent, PathKind, ProbeKeys},
};

/// How long a closed link goes on answering with its reason.
const LINGER: Duration = Duration::from_secs(2);

/// When the reason is sent again unless the remote has answered, after the first time.
const CLOSE_REPEATS: [Duration; 3] =
    [Duration::from_millis(30), Duration::from_millis(100), Duration::from_millis(300)];

/// How often a packet is sent past the congestion window to learn whether a path works again.
const NUDGES: u32 = 6;
const NUDGE_MIN: Duration = Duration::from_millis(20);
const NUDGE_MAX: Duration = Duration::from_millis(300);
/// Bytes of a nudge: two datagrams.
const NUDGE_GRACE: u64 = 2 * 1500;

/// No acknowledgement for so long, and a probe that comes through then, mean that QUIC waits longer than it needs to.
const STALL: Duration = Duration::from_millis(100);

/// A link that says goodbye.
#[derive(Debug)]
pub(super) struct Closing {
    since: Instant,
    datagram: Vec<u8>,
    repeated: usize,
    answered: bool,
}

/// After a switch QUIC has a full window in flight on the old path, and would wait for its own timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nudge {
    next: Instant,
    interval: Duration,
    left: u32,
}

impl<R: Copy + Ord + Debug> Link<R> {
    /// Takes a QUIC datagram that came by `route`.
    pub fn handle_datagram(&mut self, now: Instant, route: R, kind: PathKind, ecn: u8, data: BytesMut) {
        self.touch(now);
        let len = data.len();
        // quinn-proto has answers for what belongs to no connection; they end here
        let mut unsent = Vec::new();
        let address = self.token.made_up_address();
        match self.endpoint.handle(now, address, None, EcnCodepoint::from_bits(ecn), data, &mut unsent) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.conn.handle_event(event),
            Some(DatagramEvent::NewConnection(incoming)) => self.endpoint.ignore(incoming),
            Some(DatagramEvent::Response(_)) | None => {}
        }
        self.note_received(now, route, kind, len);
        self.pump(now);
    }

    /// Takes a probe that came by `route`; whether it was authentic and new.
    pub fn handle_probe(&mut self, now: Instant, route: R, kind: PathKind, packet: &[u8]) -> bool {
        self.touch(now);
        if !self.paths.receive_probe(now, route, kind, packet) {
            return false;
        }
        if self.phase == Phase::Over {
            self.repeat_close(route);
            return true;
        }
        self.pump(now);
        let stalled = now.saturating_duration_since(self.last_acknowledged) > STALL.max(3 * self.path_rtt());
        if stalled && self.nudge.is_none() {
            self.start_nudge(now);
        }
        true
    }

    /// Appends the next run of datagrams for one route (or two) to `buf`: QUIC packets, at most `max_segments`, or a
    /// probe. Call until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant, max_segments: usize, buf: &mut Vec<u8>) -> Option<LinkTransmit<R>> {
        self.touch(now);
        if let Some(transmit) = self.poll_copy(now, buf) {
            return Some(transmit);
        }
        let start = buf.len();
        if self.phase != Phase::Over
            && let Some(route) = self.paths.poll_transmit(now, buf)
        {
            return Some(LinkTransmit { route, double: None, size: buf.len() - start, segment_size: None, ecn: 0 });
        }
        if self.silent {
            self.transmit_due = false;
            return None;
        }
        let transmit = if start == 0 {
            self.poll_quic(now, max_segments, buf)
        } else {
            // quinn-proto wants the buffer for itself
            let mut run = Vec::new();
            let transmit = self.poll_quic(now, max_segments, &mut run);
            buf.extend_from_slice(&run);
            transmit
        };
        if transmit.is_none() {
            self.transmit_due = false;
            self.quic_deadline = self.conn.poll_timeout();
        }
        transmit
    }

    /// When to call [`handle_timeout`](Self::handle_timeout) and why; due now while output is queued.
    pub fn deadline(&self) -> Option<(Instant, &'static str)> {
        if self.transmit_due || !self.copies.routes.is_empty() {
            return Some((self.now, "link transmit"));
        }
        if self.has_events() {
            return Some((self.now, "link event"));
        }
        let over = self.phase == Phase::Over;
        let quic = self.quic_deadline.filter(|_| !self.silent).map(|at| match &self.closing {
            Some(closing) => at.max(closing.since + LINGER),
            None => at,
        });
        let paths = self.paths.deadline().filter(|_| !over);
        let handshake = matches!(self.phase, Phase::Handshake | Phase::Preface).then_some(self.handshake_deadline);
        let nudge = self.nudge.map(|nudge| nudge.next).filter(|_| !over);
        let close = self.closing.as_ref().and_then(Closing::next_repeat);
        [(quic, "quic"), (paths, "paths"), (handshake, "handshake"), (nudge, "nudge"), (close, "close")]
            .into_iter()
            .filter_map(|(at, why)| Some((at?, why)))
            .min_by_key(|(at, _)| *at)
    }

    /// The deadline may have passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.touch(now);
        if self.phase != Phase::Over {
            self.paths.handle_timeout(now);
        }
        if matches!(self.phase, Phase::Handshake | Phase::Preface) && self.handshake_deadline <= now {
            self.end_handshake(now);
        }
        if self.closing.as_ref().is_none_or(|closing| closing.since + LINGER <= now) {
            self.conn.handle_timeout(now);
        }
        if self.closing.as_mut().is_some_and(|closing| closing.repeat_due(now))
            && let Some(route) = self.any_route()
        {
            self.repeat_close(route);
        }
        self.continue_nudge(now);
        self.pump(now);
    }

    pub(super) fn touch(&mut self, now: Instant) {
        self.now = now;
        self.transmit_due = true;
    }

    /// Draws the conclusions from a datagram that QUIC has taken: was it authentic and new?
    pub(super) fn note_received(&mut self, now: Instant, route: R, kind: PathKind, len: usize) {
        let received = self.conn.stats().frame_rx;
        let frames = total(&received);
        let fresh = frames != self.frames;
        self.frames = frames;
        if fresh {
            self.last_route = Some(route);
            self.stats.datagrams_received += 1;
            self.stats.bytes_received += len as u64;
        } else {
            self.stats.datagrams_refused += 1;
        }
        if let Some(closing) = &mut self.closing {
            closing.answered |= received.connection_close > 0;
        }
        if self.phase == Phase::Over {
            return;
        }
        if fresh || !self.was_established {
            self.paths.learn(now, route, kind);
        }
        self.paths.note_received(now, route, len, fresh);
        if let Some(sent) = self.signals.take_acknowledged() {
            self.nudge = None;
            self.last_acknowledged = now;
            if sent > self.ambiguous_until {
                self.paths.note_acknowledged(now);
            }
        }
        self.paths.set_in_flight(now, self.signals.in_flight());
    }

    /// Lets what happened in one part take effect in the others.
    pub(super) fn pump(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.conn.poll_endpoint_events() {
                if let Some(event) = self.endpoint.handle_event(self.handle, event) {
                    self.conn.handle_event(event);
                }
            }
            let Some(event) = self.conn.poll() else { break };
            self.on_quic_event(now, event);
        }
        if self.phase == Phase::Preface && self.lanes.reader.preface().is_some() {
            self.establish(now);
        }
        while self.phase == Phase::Established {
            let Some(event) = self.paths.poll_event() else { break };
            self.on_path_event(now, event);
        }
        if self.phase == Phase::Established {
            let doubled = self.paths.routes(now).is_some_and(|routes| routes.double.is_some());
            if doubled && !self.was_doubled {
                self.start_nudge(now);
            }
            self.was_doubled = doubled;
        }
    }

    /// A broken rule ends the link.
    pub(super) fn check<T>(&mut self, result: Result<T, Violation>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(Violation(text)) => {
                self.fail(self.now, close_code::VIOLATION, LostReason::Violation(text));
                None
            }
        }
    }

    /// Gives the link up and tells both sides why.
    pub(super) fn fail(&mut self, now: Instant, code: u32, reason: LostReason) {
        if self.phase == Phase::Over {
            return;
        }
        let text = match &reason {
            LostReason::Violation(text) => text.clone(),
            reason => reason.to_string(),
        };
        self.begin_closing(now, code, &text);
        self.news.lost = Some(reason);
    }

    pub(super) fn begin_closing(&mut self, now: Instant, code: u32, reason: &str) {
        let reason = Bytes::copy_from_slice(cut(reason).as_bytes());
        self.conn.close(now, VarInt::from_u32(code), reason);
        self.closing = Some(Closing { since: now, datagram: Vec::new(), repeated: 0, answered: false });
        self.phase = Phase::Over;
        self.transmit_due = true;
    }

    fn poll_quic(&mut self, now: Instant, max_segments: usize, buf: &mut Vec<u8>) -> Option<LinkTransmit<R>> {
        self.lanes.flush(&mut self.conn);
        if self.was_established && self.phase == Phase::Established {
            self.poll_run(now, max_segments, buf)
        } else {
            self.poll_single(now, buf)
        }
    }

    /// A run on the best path, and on the next best too if that one is in doubt.
    fn poll_run(&mut self, now: Instant, max_segments: usize, buf: &mut Vec<u8>) -> Option<LinkTransmit<R>> {
        let segments = max_segments.min(self.env.config.max_segments).clamp(1, MAX_RUN_SEGMENTS);
        let asking = asking(&self.conn.stats().frame_tx);
        let transmit = self.conn.poll_transmit(now, segments, buf);
        self.signals.set_grace(0);
        let transmit = transmit?;
        let routes = self.paths.routes(now)?;
        if routes.double.is_some() {
            self.ambiguous_until = now;
            self.stats.doubled += 1;
        }
        if asking != self::asking(&self.conn.stats().frame_tx) {
            self.signals.note_sent();
            self.paths.set_in_flight(now, true);
        }
        for route in std::iter::once(routes.best).chain(routes.double) {
            self.paths.note_sent(now, route, transmit.size);
        }
        let segment_size = transmit.segment_size.filter(|size| *size < transmit.size);
        self.stats.datagrams_sent += segment_size.map_or(1, |size| transmit.size.div_ceil(size)) as u64;
        self.stats.bytes_sent += transmit.size as u64;
        Some(LinkTransmit {
            route: routes.best,
            double: routes.double,
            size: transmit.size,
            segment_size,
            ecn: transmit.ecn.map_or(0, |ecn| ecn as u8),
        })
    }

    /// One datagram of the handshake or of the goodbye, to all ways that may lead there.
    fn poll_single(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<LinkTransmit<R>> {
        loop {
            let transmit = self.conn.poll_transmit(now, 1, buf)?;
            if let Some(closing) = &mut self.closing {
                closing.datagram.clone_from(buf);
            } else {
                self.signals.note_sent();
            }
            self.stats.datagrams_sent += 1;
            self.stats.bytes_sent += transmit.size as u64;
            let routes = self.spread(now);
            self.copies.bytes.clone_from(buf);
            self.copies.ecn = transmit.ecn.map_or(0, |ecn| ecn as u8);
            self.copies.routes.extend(routes);
            buf.clear();
            if let Some(transmit) = self.poll_copy(now, buf) {
                return Some(transmit);
            }
        }
    }

    fn poll_copy(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<LinkTransmit<R>> {
        while let Some(route) = self.copies.routes.pop_front() {
            let size = self.copies.bytes.len();
            if !self.paths.may_send(route, size) {
                continue;
            }
            self.paths.note_sent(now, route, size);
            buf.extend_from_slice(&self.copies.bytes);
            return Some(LinkTransmit { route, double: None, size, segment_size: None, ecn: self.copies.ecn });
        }
        None
    }

    /// Where a datagram goes that must not depend on one path.
    fn spread(&self, now: Instant) -> Vec<R> {
        match self.paths.routes(now) {
            Some(routes) => std::iter::once(routes.best).chain(routes.double).collect(),
            None => self.paths.handshake_routes(now),
        }
    }

    fn any_route(&self) -> Option<R> {
        self.spread(self.now).first().copied()
    }

    fn repeat_close(&mut self, route: R) {
        if let Some(closing) = &self.closing
            && !closing.datagram.is_empty()
        {
            self.copies.bytes.clone_from(&closing.datagram);
            self.copies.ecn = 0;
            self.copies.routes.clear();
            self.copies.routes.push_back(route);
        }
    }

    fn on_quic_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::HandshakeDataReady => {}
            Event::Connected => self.on_connected(),
            Event::ConnectionLost { reason } => self.on_connection_lost(now, reason),
            Event::DatagramReceived => self.news.datagrams = true,
            Event::DatagramsUnblocked => self.news.datagrams_unblocked = true,
            Event::Stream(event) => {
                let result = self.on_stream_event(event);
                self.check(result);
            }
        }
    }

    fn on_connected(&mut self) {
        let exported = self.conn.crypto_session().export_keying_material(&mut self.exporter, b"p2pcore link", b"");
        if exported.is_err() {
            self.fail(self.now, close_code::VIOLATION, LostReason::Handshake("no keys to export".into()));
            return;
        }
        self.phase = Phase::Preface;
        let started = self.lanes.start(&mut self.conn, self.probe_token);
        self.check(started);
    }

    fn establish(&mut self, now: Instant) {
        let identity = self.conn.crypto_session().peer_identity().and_then(|id| id.downcast::<RemoteKey>().ok());
        let (Some(remote), Some(send_token), Some(route)) = (identity, self.lanes.reader.preface(), self.last_route)
        else {
            self.fail(now, close_code::VIOLATION, LostReason::Handshake("no identity".into()));
            return;
        };
        self.phase = Phase::Established;
        self.was_established = true;
        let (to_server, to_client) = (self.export(b"probes to the server"), self.export(b"probes to the client"));
        let (send, receive) = if self.is_dialler() { (to_server, to_client) } else { (to_client, to_server) };
        let keys = ProbeKeys { send, receive, send_token, receive_token: self.probe_token };
        self.paths.establish(now, keys, route);
        self.used_route = Some(route);
        self.paths.set_in_flight(now, self.signals.in_flight());
        let [nonce @ .., _, _, _, _, _, _, _, _, _, _, _, _, _, _, _, _] = self.export(b"nonce");
        self.news.established = Some(LinkEvent::Established { remote: remote.id, key: remote.public, nonce });
        let accepted = self.streams.accept(&mut self.conn);
        self.check(accepted);
    }

    fn on_stream_event(&mut self, event: StreamEvent) -> Result<(), Violation> {
        let conn = &mut self.conn;
        match event {
            StreamEvent::Opened { dir: Dir::Uni } => self.lanes.accept(conn),
            // a remote can pile up nothing before it is established
            StreamEvent::Opened { dir: Dir::Bi } if !self.was_established => Ok(()),
            StreamEvent::Opened { dir: Dir::Bi } => self.streams.accept(conn),
            StreamEvent::Readable { id } if id.dir() == Dir::Uni => self.lanes.on_readable(conn, id),
            StreamEvent::Readable { id } => self.streams.on_readable(conn, LinkStreamId(id.into())),
            StreamEvent::Writable { id } if id.dir() == Dir::Uni => {
                self.lanes.on_writable(id);
                Ok(())
            }
            StreamEvent::Writable { id } => {
                self.streams.on_writable(conn, LinkStreamId(id.into()));
                Ok(())
            }
            StreamEvent::Finished { id } => {
                self.streams.on_finished(LinkStreamId(id.into()));
                Ok(())
            }
            StreamEvent::Stopped { id, .. } if id.dir() == Dir::Uni => {
                Err(Violation(format!("one-way stream {} refused", id.index())))
            }
            StreamEvent::Stopped { id, .. } => {
                self.streams.on_reset(conn, LinkStreamId(id.into()));
                Ok(())
            }
            StreamEvent::Available { dir: Dir::Bi } => {
                self.streams.open_asked(conn);
                Ok(())
            }
            StreamEvent::Available { dir: Dir::Uni } => Ok(()),
        }
    }

    fn on_path_event(&mut self, now: Instant, event: PathEvent<R>) {
        match event {
            PathEvent::Switched { route, kind } => {
                self.news.path = Some((route, kind));
                if self.used_route.replace(route) != Some(route) {
                    self.conn.path_changed(now);
                    self.conn.ping();
                    self.ambiguous_until = now;
                    self.stats.switches += 1;
                    self.start_nudge(now);
                }
            }
            PathEvent::Dead => self.fail(now, close_code::TIMED_OUT, LostReason::TimedOut),
        }
    }

    fn on_connection_lost(&mut self, now: Instant, reason: ConnectionError) {
        if self.phase == Phase::Over {
            return;
        }
        let handshaking = self.phase == Phase::Handshake;
        let reason = match reason {
            ConnectionError::ApplicationClosed(close) => LostReason::Closed {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                reason: printable(&String::from_utf8_lossy(&close.reason)),
            },
            ConnectionError::ConnectionClosed(close) => {
                LostReason::Closed { code: close_code::TRANSPORT, reason: printable(&close.to_string()) }
            }
            ConnectionError::TransportError(error) if is_wrong_id(&error) => LostReason::WrongId,
            error if handshaking => LostReason::Handshake(printable(&error.to_string())),
            error => LostReason::Violation(printable(&error.to_string())),
        };
        let answered = matches!(reason, LostReason::Closed { .. });
        self.closing = Some(Closing { since: now, datagram: Vec::new(), repeated: 0, answered });
        self.phase = Phase::Over;
        self.news.lost = Some(reason);
    }

    /// A dialler says that it gives up; who was dialled by somebody that fell silent says nothing.
    fn end_handshake(&mut self, now: Instant) {
        self.fail(now, close_code::HANDSHAKE_TIMEOUT, LostReason::HandshakeTimeout);
        if !self.is_dialler() {
            self.silent = true;
            self.closing = None;
            self.copies.routes.clear();
        }
    }

    fn start_nudge(&mut self, now: Instant) {
        if self.signals.in_flight() {
            let interval = (2 * self.path_rtt()).clamp(NUDGE_MIN, NUDGE_MAX);
            self.nudge = Some(Nudge { next: now, interval, left: NUDGES });
            self.continue_nudge(now);
        }
    }

    fn continue_nudge(&mut self, now: Instant) {
        let Some(nudge) = &mut self.nudge else { return };
        if nudge.next > now {
            return;
        }
        if nudge.left == 0 || !self.signals.in_flight() || self.phase != Phase::Established {
            self.nudge = None;
            return;
        }
        nudge.left -= 1;
        nudge.next = now + nudge.interval;
        nudge.interval = (2 * nudge.interval).min(NUDGE_MAX);
        self.signals.set_grace(NUDGE_GRACE);
        self.conn.ping();
        self.transmit_due = true;
    }

    fn path_rtt(&self) -> Duration {
        self.paths.rtt().unwrap_or_default()
    }
}

impl Closing {
    fn next_repeat(&self) -> Option<Instant> {
        let after = CLOSE_REPEATS.get(self.repeated).filter(|_| !self.answered)?;
        Some(self.since + *after)
    }

    fn repeat_due(&mut self, now: Instant) -> bool {
        let due = self.next_repeat().is_some_and(|at| at <= now);
        self.repeated += usize::from(due);
        due
    }
}

fn is_wrong_id(error: &TransportError) -> bool {
    HandshakeError::from_code(error.code) == Some(HandshakeError::WrongId)
}

/// At most [`MAX_CLOSE_REASON`] bytes that cannot move a reader's cursor.
fn printable(text: &str) -> String {
    cut(text).chars().filter(|char| !char.is_control()).collect()
}

fn cut(text: &str) -> &str {
    (0..=MAX_CLOSE_REASON).rev().find_map(|end| text.get(..end.min(text.len()))).unwrap_or_default()
}

/// All frames but padding; a datagram that leaves this as it was told us nothing.
fn total(frames: &FrameStats) -> u64 {
    asking(frames) + frames.acks + frames.connection_close
}

/// The frames that ask for an acknowledgement (RFC 9002, section 2).
fn asking(frames: &FrameStats) -> u64 {
    let FrameStats {
        ack_frequency,
        crypto,
        data_blocked,
        datagram,
        handshake_done,
        immediate_ack,
        max_data,
        max_stream_data,
        max_streams_bidi,
        max_streams_uni,
        new_connection_id,
        new_token,
        path_challenge,
        path_response,
        ping,
        reset_stream,
        retire_connection_id,
        stream_data_blocked,
        streams_blocked_bidi,
        streams_blocked_uni,
        stop_sending,
        stream,
        ..
    } = *frames;
    [
        ack_frequency,
        crypto,
        data_blocked,
        datagram,
        handshake_done.into(),
        immediate_ack,
        max_data,
        max_stream_data,
        max_streams_bidi,
        max_streams_uni,
        new_connection_id,
        new_token,
        path_challenge,
        path_response,
        ping,
        reset_stream,
        retire_connection_id,
        stream_data_blocked,
        streams_blocked_bidi,
        streams_blocked_uni,
        stop_sending,
        stream,
    ]
    .into_iter()
    .sum()
}
