//! What QUIC and the path set report, and what follows for the other and for the node.

use std::{
    collections::VecDeque,
    fmt::Debug,
    time::{Duration, Instant},
};

use quinn_proto::{Dir, Event, StreamEvent};

use super::{
    Link, Phase,
    events::{LinkEvent, LinkStreamId, LostReason, close_code},
    lanes::Violation,
    width::Width,
};
use crate::{
    noise::RemoteKey,
    path::{PathEvent, ProbeKeys},
};

/// How often a packet is sent past the congestion window to learn whether a path works again.
const NUDGES: u32 = 6;
const NUDGE_MIN: Duration = Duration::from_millis(20);
const NUDGE_MAX: Duration = Duration::from_millis(300);

/// After a switch QUIC has a full window in flight on the old path, and would wait for its own timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nudge {
    since: Instant,
    next: Instant,
    interval: Duration,
    left: u32,
}

impl<R: Copy + Ord + Debug> Link<R> {
    pub(super) fn on_quic_event(&mut self, now: Instant, event: Event) {
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

    pub(super) fn on_connected(&mut self) {
        let exported = self.conn.crypto_session().export_keying_material(&mut self.exporter, b"p2pcore link", b"");
        if exported.is_err() {
            self.fail(self.now, close_code::VIOLATION, LostReason::Handshake("no keys to export".into()));
            return;
        }
        self.phase = Phase::Preface;
        let started = self.lanes.start(&mut self.conn, self.probe_token);
        self.check(started);
    }

    pub(super) fn establish(&mut self, now: Instant) {
        let identity = self.conn.crypto_session().peer_identity().and_then(|id| id.downcast::<RemoteKey>().ok());
        let (Some(remote), Some(send_token), Some(route)) = (identity, self.lanes.reader.preface(), self.last_route)
        else {
            self.fail(now, close_code::VIOLATION, LostReason::Handshake("no identity".into()));
            return;
        };
        self.phase = Phase::Established;
        self.was_established = true;
        self.raced = VecDeque::new();
        let (to_server, to_client) = (self.export(b"probes to the server"), self.export(b"probes to the client"));
        let (send, receive) = if self.is_dialler() { (to_server, to_client) } else { (to_client, to_server) };
        let keys = ProbeKeys { send, receive, send_token, receive_token: self.probe_token };
        self.paths.establish(now, keys, route);
        self.used_route = Some(route);
        self.paths.set_in_flight(now, self.signals.in_flight());
        let nonce = self.export(b"nonce").first_chunk().copied().unwrap_or_default();
        self.news.established = Some(Box::new(LinkEvent::Established { remote: remote.id, key: remote.public, nonce }));
        let accepted = self.streams.accept(&mut self.conn);
        self.check(accepted);
    }

    pub(super) fn on_stream_event(&mut self, event: StreamEvent) -> Result<(), Violation> {
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

    pub(super) fn on_path_event(&mut self, now: Instant, event: PathEvent<R>) {
        match event {
            PathEvent::Switched { route, kind } => {
                self.news.path = Some((route, kind));
                if self.used_route.replace(route) != Some(route) {
                    self.conn.path_changed(now);
                    self.conn.ping();
                    self.ambiguous_until = now;
                    self.width = Width::default();
                    self.stats.switches += 1;
                    self.start_nudge(now);
                }
            }
            PathEvent::Dead => self.fail(now, close_code::TIMED_OUT, LostReason::TimedOut),
        }
    }

    pub(super) fn start_nudge(&mut self, now: Instant) {
        if self.signals.in_flight() {
            let interval = (2 * self.path_rtt()).clamp(NUDGE_MIN, NUDGE_MAX);
            self.nudge = Some(Nudge { since: now, next: now, interval, left: NUDGES });
            self.continue_nudge(now);
        }
    }

    pub(super) fn continue_nudge(&mut self, now: Instant) {
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
        self.knocks = true;
        self.conn.ping();
        self.transmit_due = true;
    }

    pub(super) fn path_rtt(&self) -> Duration {
        self.paths.rtt().unwrap_or_default()
    }
}

impl Nudge {
    pub(super) fn due(self) -> Instant {
        self.next
    }

    /// Whether the acknowledgement of something sent at `sent` is what it waits for.
    pub(super) fn is_answered(self, sent: Instant) -> bool {
        sent >= self.since
    }
}
