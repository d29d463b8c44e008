//! What moves a link: datagrams in and out, and time.

use std::{
    fmt::Debug,
    time::{Duration, Instant},
};

use bytes::BytesMut;
use quinn_proto::{DatagramEvent, EcnCodepoint, FrameStats};

use super::{Copies, Link, Phase, events::LinkTransmit, translate::Nudge, transport::MAX_RUN_SEGMENTS, width::Width};
use crate::path::{FULL_SIZE, PathKind};

/// No acknowledgement for so long, and a probe that comes through then, mean that QUIC waits longer than it needs to.
const STALL: Duration = Duration::from_millis(100);

/// No acknowledgement for so long while probes come through: packets of more than the least size may not fit.
const NARROWED: Duration = Duration::from_secs(1);

/// Authentic datagrams of a handshake remembered, to know their copies.
const MAX_RACED: usize = 16;

/// A QUIC datagram that came.
#[derive(Clone, Copy)]
pub(super) struct Arrived {
    len: usize,
    /// Of its bytes, until the link is established.
    print: Option<[u8; 16]>,
}

impl Arrived {
    /// The one that opens a link.
    pub(super) fn first(data: &[u8]) -> Self {
        Self { len: data.len(), print: Some(fingerprint(data)) }
    }
}

fn fingerprint(data: &[u8]) -> [u8; 16] {
    let mut print = [0; 16];
    blake3::Hasher::new().update(data).finalize_xof().fill(&mut print);
    print
}

impl<R: Copy + Ord + Debug> Link<R> {
    /// Takes a QUIC datagram that came by `route`; whether it was authentic and new.
    pub fn handle_datagram(&mut self, now: Instant, route: R, kind: PathKind, ecn: u8, data: BytesMut) -> bool {
        self.touch(now);
        let arrived = self.arrived(&data);
        // quinn-proto has answers for what belongs to no connection; they end here
        let mut unsent = Vec::new();
        let address = self.token.made_up_address();
        match self.endpoint.handle(now, address, None, EcnCodepoint::from_bits(ecn), data, &mut unsent) {
            Some(DatagramEvent::ConnectionEvent(_, event)) => self.conn.handle_event(event),
            Some(DatagramEvent::NewConnection(incoming)) => self.endpoint.ignore(incoming),
            Some(DatagramEvent::Response(_)) | None => {}
        }
        let fresh = self.note_received(now, route, kind, arrived);
        self.pump(now);
        fresh
    }

    fn arrived(&self, data: &[u8]) -> Arrived {
        Arrived { len: data.len(), print: (!self.was_established).then(|| fingerprint(data)) }
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
        self.doubt_size(now);
        true
    }

    /// Probes come through and no data does: behind a relay the way may have become too narrow for what fitted before,
    /// and quinn-proto notices that only by acknowledgements of smaller packets, which it does not send.
    fn doubt_size(&mut self, now: Instant) {
        let silence = now.saturating_duration_since(self.last_acknowledged);
        let stuck = self.signals.in_flight() && silence > NARROWED.max(6 * self.path_rtt());
        if stuck {
            self.narrow(now);
        }
    }

    /// Packets are of the least size again, until larger ones have been tried anew.
    fn narrow(&mut self, now: Instant) {
        self.width = Width::default();
        if usize::from(self.conn.current_mtu()) > FULL_SIZE {
            self.conn.path_changed(now);
        }
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
            Some(closing) => at.max(closing.answers_until()),
            None => at,
        });
        let paths = self.paths.deadline().filter(|_| !over);
        let handshake = matches!(self.phase, Phase::Handshake | Phase::Preface).then_some(self.handshake_deadline);
        let nudge = self.nudge.map(Nudge::due).filter(|_| !over);
        let close = self.closing.as_ref().and_then(|closing| closing.next_repeat());
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
        if self.closing.as_ref().is_none_or(|closing| closing.answers_until() <= now) {
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
    pub(super) fn note_received(&mut self, now: Instant, route: R, kind: PathKind, arrived: Arrived) -> bool {
        let Arrived { len, print } = arrived;
        let received = self.conn.stats().frame_rx;
        let frames = total(&received);
        let fresh = frames != self.frames;
        self.frames = frames;
        if fresh {
            self.last_route = Some(route);
            self.stats.datagrams_received += 1;
            self.stats.bytes_received += len as u64;
            // quinn-proto holds acknowledgements back while data waits for the window: two ends would wait for each other
            self.knocks |= self.nudge.is_some();
        } else {
            self.stats.datagrams_refused += 1;
        }
        if let Some(closing) = &mut self.closing {
            closing.note_answered(received.connection_close > 0);
        }
        if self.phase == Phase::Over {
            return fresh;
        }
        // a handshake is raced over several routes: the copy of an authentic datagram speaks for its route too
        let is_copy = print.is_some_and(|print| self.raced.contains(&print));
        if fresh || is_copy {
            self.paths.learn(now, route, kind);
        }
        if let Some(print) = print.filter(|_| fresh) {
            self.raced.truncate(MAX_RACED - 1);
            self.raced.push_front(print);
        }
        self.paths.note_received(now, route, len, fresh);
        if self.signals.take_large() {
            self.width.note_answered();
        }
        if let Some(sent) = self.signals.take_acknowledged() {
            self.nudge = self.nudge.filter(|nudge| !nudge.is_answered(sent));
            self.last_acknowledged = now;
            if sent > self.ambiguous_until {
                self.paths.note_acknowledged(now);
            }
        }
        self.paths.set_in_flight(now, self.signals.in_flight());
        fresh
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
            if self.was_doubled && !doubled && self.width.is_missed() {
                self.narrow(now);
            }
            self.was_doubled = doubled;
        }
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
        let knocks = std::mem::take(&mut self.knocks);
        self.signals.set_open(knocks);
        let transmit = self.conn.poll_transmit(now, if knocks { 1 } else { segments }, buf);
        self.signals.set_open(false);
        let transmit = transmit?;
        let mut routes = self.paths.routes(now)?;
        let size = transmit.segment_size.unwrap_or(transmit.size);
        // what asks how much the path in use takes must not be answered for by another one
        let asks_size = size > usize::from(self.conn.current_mtu());
        routes.double = routes.double.filter(|_| !asks_size);
        if routes.double.is_some() {
            self.ambiguous_until = now;
            self.signals.note_doubled(now, !self.width.is_doubled);
            self.stats.doubled += 1;
        } else if size > FULL_SIZE && !asks_size {
            self.width.note_sent();
        }
        self.width.is_doubled = routes.double.is_some();
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
                closing.remember(buf);
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
        if self.phase == Phase::Established {
            self.copies = Copies::default();
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
