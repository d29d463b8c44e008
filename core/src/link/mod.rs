//! Links: one QUIC connection per remote Id, with all its paths underneath.
//!
//! QUIC sees one made-up address; where a datagram really goes is up to the [`PathSet`]. The remote's packets count as
//! life of a path only if they are authentic and new.

mod byte_streams;
mod congestion;
mod control;
mod drive;
mod ending;
mod events;
mod ids;
mod lanes;
mod translate;
mod transport;
mod width;

#[cfg(feature = "fuzzing")]
pub mod window;

#[cfg(test)]
mod tests;

use std::{
    collections::VecDeque,
    fmt::{self, Debug},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use quinn_proto::{
    Connection, ConnectionHandle, ConnectionIdGenerator, DatagramEvent, EcnCodepoint, Endpoint, SendDatagramError,
};

pub use control::{MAX_CONTROL_MESSAGE, MAX_CONTROL_QUEUE};
pub use events::{
    DatagramError, LinkEvent, LinkStats, LinkStreamId, LinkTransmit, LostReason, Overrun, StreamError, close_code,
};
pub use ids::LinkToken;
pub use transport::MAX_LANES;

use crate::{
    Config, Id, noise,
    path::{CandidateInfo, PathKind, PathSet},
    rng::Rng,
};
use byte_streams::ByteStreams;
use congestion::Signals;
use drive::Arrived;
use ending::Closing;
use ids::Ids;
use lanes::Lanes;
use translate::Nudge;
use width::Width;

/// The longest close reason that travels, in bytes.
pub const MAX_CLOSE_REASON: usize = 256;

/// What all links of a node share.
#[derive(Debug)]
pub struct LinkEnv {
    /// The limits.
    pub config: Arc<Config>,
    /// The node's identity and network key.
    pub handshake: Arc<noise::Handshake>,
}

/// One connection to one remote. `R` names a way there: what the node needs to send and to recognise a datagram.
pub struct Link<R> {
    env: Arc<LinkEnv>,
    token: LinkToken,
    endpoint: Endpoint,
    handle: ConnectionHandle,
    conn: Connection,
    paths: PathSet<R>,
    signals: Arc<Signals>,
    phase: Phase,
    was_established: bool,
    /// Over, and nothing is to be sent any more.
    silent: bool,
    handshake_deadline: Instant,
    /// Where this side receives probes; the control stream's preface.
    probe_token: [u8; 8],
    /// From the handshake when that is done; random before, so that no key made of it can be guessed.
    exporter: [u8; 32],
    lanes: Lanes,
    streams: ByteStreams,
    news: News<R>,
    closing: Option<Box<Closing>>,
    nudge: Option<Nudge>,
    /// The next datagram leaves whatever the congestion window says.
    knocks: bool,
    copies: Copies<R>,
    /// What the last time was that the caller gave.
    now: Instant,
    /// QUIC may have something to send.
    transmit_due: bool,
    quic_deadline: Option<Instant>,
    /// Frames received in authentic and new packets, as of the last datagram.
    frames: u64,
    /// The way that the last authentic packet came by.
    last_route: Option<R>,
    /// Authentic datagrams of the handshake, newest first.
    raced: VecDeque<[u8; 16]>,
    /// What QUIC's estimates are about.
    used_route: Option<R>,
    last_acknowledged: Instant,
    /// Packets sent up to then do not tell which path an acknowledgement speaks for.
    ambiguous_until: Instant,
    was_doubled: bool,
    width: Width,
    stats: LinkStats,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Handshake,
    /// The handshake is done, the remote's preface is missing.
    Preface,
    Established,
    Over,
}

/// Events that are not kept elsewhere.
struct News<R> {
    established: Option<Box<LinkEvent<R>>>,
    path: Option<(R, PathKind)>,
    datagrams: bool,
    datagrams_unblocked: bool,
    lost: Option<LostReason>,
}

impl<R> Default for News<R> {
    fn default() -> Self {
        Self { established: None, path: None, datagrams: false, datagrams_unblocked: false, lost: None }
    }
}

/// One datagram that goes several ways.
struct Copies<R> {
    bytes: Vec<u8>,
    ecn: u8,
    routes: VecDeque<R>,
}

impl<R> Default for Copies<R> {
    fn default() -> Self {
        Self { bytes: Vec::new(), ecn: 0, routes: VecDeque::new() }
    }
}

impl<R: Copy + Ord + Debug> Link<R> {
    /// Begins a connection to `expected`, or to whoever answers if that is `None`. `first_id` is from
    /// [`noise::first_id`], `seed` random and used for nothing else; all `routes` are tried at once.
    pub fn dial(
        env: &Arc<LinkEnv>,
        now: Instant,
        token: LinkToken,
        seed: [u8; 32],
        expected: Option<Id>,
        first_id: [u8; 20],
        routes: impl IntoIterator<Item = (R, PathKind)>,
    ) -> Self {
        let rng = Rng::from_seed(seed);
        let signals = Signals::new(now);
        let mut endpoint = endpoint(&rng, token);
        let crypto = noise::client(&env.handshake, expected, first_id, rng.fork("handshake", 0).bytes());
        let mut client = noise::client_config(crypto, first_id);
        client.transport_config(transport::transport_config(&env.config, signals.clone()));
        let (handle, conn) = endpoint
            .connect(now, client, token.made_up_address(), "p2pcore")
            .expect("quinn-proto takes this version, address and id");
        let mut paths = PathSet::new(&env.config, now);
        for (route, kind) in routes {
            paths.add_candidate(now, route, kind);
        }
        Self::new(env, now, token, &rng, Parts { endpoint, handle, conn, paths, signals })
    }

    /// Answers a first packet that the demultiplexer let through. `None`: it was not authentic, and nothing is sent.
    #[allow(clippy::too_many_arguments)] // a datagram and where it came from
    pub fn accept(
        env: &Arc<LinkEnv>,
        now: Instant,
        token: LinkToken,
        seed: [u8; 32],
        route: R,
        kind: PathKind,
        ecn: u8,
        data: BytesMut,
    ) -> Option<Self> {
        let rng = Rng::from_seed(seed);
        let signals = Signals::new(now);
        let mut endpoint = endpoint(&rng, token);
        let crypto = noise::server(&env.handshake, rng.fork("handshake", 0).bytes());
        let mut server = noise::server_config(crypto, rng.fork("server config", 0).bytes());
        server.transport_config(transport::transport_config(&env.config, signals.clone()));
        endpoint.set_server_config(Some(Arc::new(server)));

        // quinn-proto has answers for strangers; they end here
        let mut unsent = Vec::new();
        let arrived = Arrived::first(&data);
        let ecn = EcnCodepoint::from_bits(ecn);
        let event = endpoint.handle(now, token.made_up_address(), None, ecn, data, &mut unsent)?;
        let DatagramEvent::NewConnection(incoming) = event else { return None };
        let (handle, conn) = endpoint.accept(incoming, now, &mut unsent, None).ok()?;
        endpoint.set_server_config(None);

        let mut paths = PathSet::new(&env.config, now);
        // not a candidate of ours: until the remote has proven that address, little goes there
        paths.learn(now, route, kind);
        let mut link = Self::new(env, now, token, &rng, Parts { endpoint, handle, conn, paths, signals });
        link.note_received(now, route, kind, arrived);
        link.pump(now);
        Some(link)
    }

    fn new(env: &Arc<LinkEnv>, now: Instant, token: LinkToken, rng: &Rng, parts: Parts<R>) -> Self {
        let Parts { endpoint, handle, conn, paths, signals } = parts;
        let side = conn.side();
        Self {
            env: env.clone(),
            token,
            endpoint,
            handle,
            conn,
            paths,
            signals,
            phase: Phase::Handshake,
            was_established: false,
            silent: false,
            handshake_deadline: now + env.config.handshake_timeout,
            probe_token: token.draw_id(&mut rng.fork("probe token", 0)),
            exporter: rng.fork("exporter", 0).bytes(),
            lanes: Lanes::new(env.config.lane_priority),
            streams: ByteStreams::new(side, env.config.max_streams, env.config.stream_priority),
            news: News::default(),
            closing: None,
            nudge: None,
            knocks: false,
            copies: Copies::default(),
            now,
            transmit_due: true,
            quic_deadline: None,
            frames: 0,
            last_route: None,
            raced: VecDeque::new(),
            used_route: None,
            last_acknowledged: now,
            ambiguous_until: now,
            was_doubled: false,
            width: Width::default(),
            stats: LinkStats::default(),
        }
    }

    /// The next event.
    pub fn poll(&mut self) -> Option<LinkEvent<R>> {
        if let Some(event) = self.news.established.take() {
            return Some(*event);
        }
        if self.was_established
            && let Some(event) = self.poll_established()
        {
            return Some(event);
        }
        self.news.lost.take().map(LinkEvent::Lost)
    }

    fn poll_established(&mut self) -> Option<LinkEvent<R>> {
        if let Some(message) = self.lanes.reader.pop() {
            let more = self.lanes.read_control(&mut self.conn);
            self.check(more);
            return Some(LinkEvent::Control(message));
        }
        if let Some((route, kind)) = self.news.path.take() {
            return Some(LinkEvent::PathChanged { route, kind });
        }
        if self.news.datagrams {
            if let Some(datagram) = self.conn.datagrams().recv() {
                return Some(LinkEvent::Datagram(datagram));
            }
            self.news.datagrams = false;
        }
        if std::mem::take(&mut self.news.datagrams_unblocked) {
            return Some(LinkEvent::DatagramsUnblocked);
        }
        if let Some(lane) = self.lanes.readable.pop() {
            return Some(LinkEvent::LaneReadable(lane));
        }
        if let Some(lane) = self.lanes.writable.pop() {
            return Some(LinkEvent::LaneWritable(lane));
        }
        self.streams.pop_news()
    }

    fn has_events(&self) -> bool {
        let kept = self.lanes.reader.has_message()
            || self.news.path.is_some()
            || self.news.datagrams
            || self.news.datagrams_unblocked
            || !self.lanes.readable.is_empty()
            || !self.lanes.writable.is_empty()
            || self.streams.has_news();
        self.news.established.is_some() || self.news.lost.is_some() || (self.was_established && kept)
    }

    /// Queues a control message; messages arrive whole and in order.
    ///
    /// # Errors
    /// The message is over [`MAX_CONTROL_MESSAGE`] or more than [`MAX_CONTROL_QUEUE`] bytes wait: the link is lost.
    pub fn send_control(&mut self, message: impl AsRef<[u8]>) -> Result<(), Overrun> {
        self.transmit_due = true;
        if self.lanes.writer.push(message.as_ref()) {
            return Ok(());
        }
        self.fail(self.now, close_code::OVERRUN, LostReason::Overrun);
        Err(Overrun)
    }

    /// Writes to the stream of a lane (below [`MAX_LANES`]) and returns the rest that does not fit now; a
    /// [`LinkEvent::LaneWritable`] follows then.
    pub fn write_lane(&mut self, now: Instant, lane: u8, data: Bytes) -> Option<Bytes> {
        self.touch(now);
        if self.phase != Phase::Established || data.is_empty() {
            return Some(data).filter(|data| !data.is_empty());
        }
        self.lanes.write(&mut self.conn, lane, data)
    }

    /// At most `max` bytes of the remote's stream of a lane; `None` if there are none now.
    pub fn read_lane(&mut self, now: Instant, lane: u8, max: usize) -> Option<Bytes> {
        self.touch(now);
        let read = self.lanes.read(&mut self.conn, lane, max);
        self.check(read).flatten()
    }

    /// Queues a datagram: best effort, at most [`max_datagram_size`](Self::max_datagram_size) bytes.
    ///
    /// # Errors
    /// Nothing was queued.
    pub fn datagram(&mut self, now: Instant, data: Bytes) -> Result<(), DatagramError> {
        self.touch(now);
        if self.phase != Phase::Established {
            return Err(DatagramError::Down);
        }
        let max = self.max_datagram_size();
        self.conn.datagrams().send(data, false).map_err(|error| match error {
            SendDatagramError::Blocked(data) => DatagramError::Blocked(data),
            SendDatagramError::TooLarge => DatagramError::TooLarge { max },
            SendDatagramError::Disabled | SendDatagramError::UnsupportedByPeer => DatagramError::Down,
        })
    }

    /// The largest datagram in bytes that the present path is known to carry; at least 1,100 on an established link.
    pub fn max_datagram_size(&mut self) -> usize {
        self.conn.datagrams().max_size().unwrap_or(0)
    }

    /// Opens a byte stream; the remote hears of it at once.
    ///
    /// # Errors
    /// `TooMany` over `Config::max_streams`, `Gone` if the link is not up.
    pub fn open_stream(&mut self, now: Instant) -> Result<LinkStreamId, StreamError> {
        self.touch(now);
        if self.phase != Phase::Established {
            return Err(StreamError::Gone);
        }
        self.streams.open(&mut self.conn)
    }

    /// Writes a front part of `data` and returns its length; a [`LinkEvent::StreamWritable`] follows if that is not all.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_write(&mut self, now: Instant, id: LinkStreamId, data: &[u8]) -> Result<usize, StreamError> {
        self.touch(now);
        self.streams.write(&mut self.conn, id, data)
    }

    /// At most `max` bytes; `Ok(None)` if there are none now, an empty piece at the end.
    ///
    /// # Errors
    /// `Gone` after its end in both directions, or if the remote gave it up.
    pub fn stream_read(&mut self, now: Instant, id: LinkStreamId, max: usize) -> Result<Option<Bytes>, StreamError> {
        self.touch(now);
        self.streams.read(&mut self.conn, id, max)
    }

    /// Ends the writing side; a [`LinkEvent::StreamFinished`] follows when the remote has everything.
    ///
    /// # Errors
    /// `Gone` after its end.
    pub fn stream_finish(&mut self, now: Instant, id: LinkStreamId) -> Result<(), StreamError> {
        self.touch(now);
        self.streams.finish(&mut self.conn, id)
    }

    /// Gives a stream up in both directions; an unknown one is ignored.
    pub fn stream_reset(&mut self, now: Instant, id: LinkStreamId) {
        self.touch(now);
        self.streams.reset(&mut self.conn, id);
    }

    /// Whether any byte stream is open, or has bytes that the remote has not acknowledged.
    pub fn has_streams(&self) -> bool {
        !self.streams.is_empty()
    }

    /// Says goodbye with a code below [`close_code::FIRST`] and a text (cut at [`MAX_CLOSE_REASON`]). No event follows;
    /// poll for transmissions and timeouts until [`is_drained`](Self::is_drained).
    pub fn close(&mut self, now: Instant, code: u32, reason: &str) {
        self.touch(now);
        if self.phase != Phase::Over {
            self.begin_closing(now, code, reason);
        }
    }

    /// 32 bytes that only both ends of this link know, for `label`. Random until the link is established.
    pub fn export(&self, label: &[u8]) -> [u8; 32] {
        *blake3::Hasher::new_keyed(&self.exporter).update(label).finalize().as_bytes()
    }

    /// Another way to the remote, to be probed.
    pub fn add_candidate(&mut self, now: Instant, route: R, kind: PathKind) {
        self.touch(now);
        self.paths.add_candidate(now, route, kind);
        if self.phase == Phase::Handshake
            && !self.copies.bytes.is_empty()
            && self.paths.handshake_routes(now).contains(&route)
        {
            // QUIC's own repetition would come much later
            self.copies.routes.push_back(route);
        }
        self.pump(now);
    }

    /// Forgets a way.
    pub fn remove_candidate(&mut self, now: Instant, route: &R) {
        self.touch(now);
        self.paths.remove_candidate(now, route);
        self.pump(now);
    }

    /// Another way as good is preferred to this one until then.
    pub fn rest(&mut self, now: Instant, route: &R, until: Instant) {
        self.touch(now);
        self.paths.rest(now, route, until);
        self.pump(now);
    }

    /// What is known of each way, for explanations.
    pub fn candidates(&self) -> impl Iterator<Item = CandidateInfo<R>> {
        self.paths.candidates()
    }

    /// Sends a probe on each way, for a member that means harm.
    #[cfg(any(test, feature = "planted"))]
    pub fn probe_all(&mut self, now: Instant) {
        self.touch(now);
        self.paths.probe_all();
    }

    /// Asks all ways for a sign of life, to learn by [`last_answer`](Self::last_answer) whether the remote is still there.
    pub fn challenge(&mut self, now: Instant) {
        self.touch(now);
        self.paths.challenge(now);
        self.pump(now);
    }

    /// When the newest probe that the remote answered had been sent.
    pub fn last_answer(&self) -> Option<Instant> {
        self.paths.last_answer()
    }

    /// Probes all ways at once: the network changed.
    pub fn retry_paths(&mut self, now: Instant) {
        self.touch(now);
        self.paths.retry_now(now);
    }

    /// Takes new keys into use for packets (RFC 9001, section 6); it also happens by itself after many packets.
    pub fn update_keys(&mut self, now: Instant) {
        self.touch(now);
        self.conn.force_key_update();
    }

    /// The round-trip time of the way in use.
    pub fn rtt(&self) -> Option<Duration> {
        self.paths.rtt()
    }

    /// The kind of the way in use.
    pub fn kind(&self) -> Option<PathKind> {
        self.paths.kind()
    }

    /// The way in use; before the link is established, the last one that an authentic packet came by.
    pub fn route(&self) -> Option<R> {
        self.paths.routes(self.now).map(|routes| routes.best).or(self.last_route)
    }

    /// Names this link within its node.
    pub fn token(&self) -> LinkToken {
        self.token
    }

    /// Whether this side dialled.
    pub fn is_dialler(&self) -> bool {
        self.conn.side().is_client()
    }

    /// Whether `Established` came and nothing ended the link since.
    pub fn is_established(&self) -> bool {
        self.phase == Phase::Established
    }

    /// Whether the link is over. It may have things to send yet.
    pub fn is_closed(&self) -> bool {
        self.phase == Phase::Over
    }

    /// Whether the link can be dropped.
    pub fn is_drained(&self) -> bool {
        self.phase == Phase::Over && (self.silent || self.conn.is_drained())
    }

    /// The counters.
    pub fn stats(&self) -> LinkStats {
        let quic = self.conn.stats();
        LinkStats {
            packets_lost: quic.path.lost_packets,
            window: quic.path.cwnd,
            mtu: quic.path.current_mtu,
            rtt: quic.path.rtt,
            ..self.stats
        }
    }
}

/// What differs between dialling and accepting.
struct Parts<R> {
    endpoint: Endpoint,
    handle: ConnectionHandle,
    conn: Connection,
    paths: PathSet<R>,
    signals: Arc<Signals>,
}

/// An endpoint for one connection: only so can its ids lead to the link.
fn endpoint(rng: &Rng, token: LinkToken) -> Endpoint {
    let seed = rng.fork("connection ids", 0).bytes();
    let generator = move || -> Box<dyn ConnectionIdGenerator> { Box::new(Ids { token, seed, issued: 0 }) };
    let config = noise::endpoint_config(generator, rng.fork("endpoint", 0).bytes());
    Endpoint::new(Arc::new(config), None, true, None)
}

impl<R: Debug> Debug for Link<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("token", &self.token).field("phase", &self.phase).finish_non_exhaustive()
    }
}
