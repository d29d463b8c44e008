//! The path set of one link: what it is told, what it says.

use std::{
    collections::VecDeque,
    fmt::Debug,
    time::{Duration, Instant},
};

use super::{
    FULL_SIZE, PathKind,
    budget::Budget,
    candidate::{Candidate, Ping, Proof, Size},
    caution::Caution,
    choice::{Doubt, Rival},
    heartbeat::Heartbeat,
    probe::{MAX_PATHS, MAX_REPORTS, MIN_PROBE, Probe, ProbeKeys, ProbeKind, ProbeWindow, Report},
};
use crate::Config;

/// Answers, and probes that a remote's probes cause, each second.
const ANSWERS_PER_SECOND: u32 = 200;
const ANSWERS_AT_ONCE: u32 = 64;
/// Routes taken from the sources of packets each second.
const LEARNED_PER_SECOND: u32 = 8;
const LEARNED_AT_ONCE: u32 = 16;
/// Answers waiting for the socket.
const MAX_PONGS: usize = 32;
/// Between two probes that a remote's probes cause on one path.
const CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// What was heard on a path is reported for so long.
const REPORTED_FOR: Duration = Duration::from_secs(60);

/// The settings, brought within the bounds that keep the machine from spinning.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) max_candidates: usize,
    pub(super) heartbeat: (Duration, Duration),
    pub(super) retry: Duration,
    pub(super) attempts: u32,
    pub(super) doubt: (Duration, Duration),
}

impl Settings {
    fn new(config: &Config) -> Self {
        let bounded = |time: Duration| time.clamp(Duration::from_millis(1), Duration::from_secs(24 * 3_600));
        let doubt = bounded(config.doubt.0);
        Self {
            max_candidates: config.max_candidates.clamp(1, usize::from(MAX_PATHS)),
            heartbeat: (bounded(config.heartbeat), bounded(config.heartbeat_max)),
            retry: bounded(config.heartbeat_retry),
            attempts: config.heartbeat_attempts.clamp(1, 1_000),
            doubt: (doubt, bounded(config.doubt.1).max(doubt)),
        }
    }
}

/// Where the next datagram goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Routes<R> {
    /// The path in use.
    pub best: R,
    /// While that is in doubt: the next best one, which gets a copy.
    pub double: Option<R>,
}

/// What a path set decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathEvent<R> {
    /// Datagrams go this way from now on.
    Switched {
        /// The way.
        route: R,
        /// Its kind.
        kind: PathKind,
    },
    /// No path answers any more: the link is lost. Nothing follows.
    Dead,
}

/// What is known of a candidate, for explanations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CandidateState {
    /// Probed, never answered.
    Trying,
    /// Our probes arrive there, the answers do not arrive here.
    OneWay,
    /// Worked once and does not now.
    Failed,
    /// Answers, but rests after a failure before it is preferred again.
    Resting,
    /// Ready to be used.
    Standby,
    /// In use and silent: being doubled.
    Doubted,
    /// In use.
    Active,
}

/// A candidate and what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CandidateInfo<R> {
    /// The way.
    pub route: R,
    /// Its kind.
    pub kind: PathKind,
    /// What is known of it.
    pub state: CandidateState,
    /// The smoothed round trip of its probes.
    pub rtt: Option<Duration>,
    /// How often it failed after it had worked; forgotten after a minute of work.
    pub failures: u32,
}

#[derive(Clone, Copy, Debug)]
struct PendingPong<R> {
    route: R,
    echo: u64,
    size: usize,
}

/// The last ping that was heard on one path of the other end's numbering.
#[derive(Clone, Copy, Debug)]
struct HeardPing {
    path: u8,
    at: Instant,
    counter: u64,
}

/// The ways to the other end of one link, and the choice among them. `R` names a way; nothing else is known of it.
///
/// Several calls in a row are always legal. After each touch look at [`poll_transmit`](Self::poll_transmit),
/// [`poll_event`](Self::poll_event) and [`deadline`](Self::deadline).
#[derive(Debug)]
pub struct PathSet<R> {
    pub(super) settings: Settings,
    pub(super) candidates: Vec<Candidate<R>>,
    pub(super) now: Instant,
    pub(super) wake: Option<Instant>,
    pub(super) event: Option<PathEvent<R>>,
    pub(super) dead: bool,
    pub(super) handshake_heard: Option<(u8, Instant)>,
    pub(super) active: Option<u8>,
    pub(super) doubt: Option<Doubt>,
    /// When the other end last made us doubt.
    pub(super) alarmed: Option<Instant>,
    pub(super) rival: Option<Rival>,
    /// How long another path of the same kind must be faster.
    pub(super) dwell: Duration,
    pub(super) switched: Option<Instant>,
    pub(super) in_flight: Option<Instant>,
    pub(super) caution: Caution,
    added: u64,
    keys: Option<ProbeKeys>,
    counter: u64,
    window: ProbeWindow,
    /// One for each path that was ever heard.
    heard: Vec<HeardPing>,
    answering: Budget,
    learning: Budget,
    pongs: VecDeque<PendingPong<R>>,
}

impl<R: Copy + Ord + Debug> PathSet<R> {
    /// A set without candidates.
    pub fn new(config: &Config, now: Instant) -> Self {
        Self {
            settings: Settings::new(config),
            candidates: Vec::new(),
            now,
            wake: None,
            event: None,
            dead: false,
            handshake_heard: None,
            active: None,
            doubt: None,
            alarmed: None,
            rival: None,
            dwell: Rival::DWELL,
            switched: None,
            in_flight: None,
            caution: Caution::default(),
            added: 0,
            keys: None,
            counter: 0,
            window: ProbeWindow::default(),
            heard: Vec::new(),
            answering: Budget::new(now, ANSWERS_PER_SECOND, ANSWERS_AT_ONCE),
            learning: Budget::new(now, LEARNED_PER_SECOND, LEARNED_AT_ONCE),
            pongs: VecDeque::new(),
        }
    }

    /// Tries `route`. At most `Config::max_candidates` are kept: what only a packet's source told and what does not answer goes
    /// first, the rest stays. Returns whether the route is kept. A route known already keeps its state.
    pub fn add_candidate(&mut self, now: Instant, route: R, kind: PathKind) -> bool {
        let known = self.candidate_mut(&route).map(|candidate| {
            candidate.listed = true;
            candidate.leaving = false;
            (candidate.id, std::mem::replace(&mut candidate.kind, kind) != kind)
        });
        let kept = match known {
            Some((id, renamed)) => {
                if renamed && self.active == Some(id) {
                    self.event = Some(PathEvent::Switched { route, kind });
                }
                true
            }
            None => self.insert(now, route, kind, true),
        };
        self.advance(now);
        kept
    }

    /// A datagram came from a route that may be unknown: it becomes a candidate to which at most three times the bytes
    /// received go until it is proven. Before [`establish`](Self::establish) any datagram of the link will do, after it only
    /// authentic and new ones. (Probes need no such call.)
    pub fn learn(&mut self, now: Instant, route: R, kind: PathKind) {
        if self.candidate(&route).is_some() {
            return;
        }
        let welcome = if self.keys.is_some() { self.learning.take(now) } else { self.has_room_in_handshake() };
        if welcome {
            self.insert(now, route, kind, false);
            self.advance(now);
        }
    }

    /// Forgets `route`. The path in use goes as soon as another one lives.
    pub fn remove_candidate(&mut self, now: Instant, route: &R) {
        let active = self.active;
        self.candidates.retain(|candidate| candidate.route != *route || Some(candidate.id) == active);
        if let Some(candidate) = self.candidate_mut(route) {
            candidate.listed = false;
            candidate.leaving = true;
            self.enter_doubt(now, true);
        }
        self.advance(now);
    }

    /// The way drops some of what it is given: until then another one of the same kind is preferred if there is one. It is no
    /// failure, and a way that is the only one of its kind is used as before.
    pub fn rest(&mut self, now: Instant, route: &R, until: Instant) {
        if let Some(candidate) = self.candidate_mut(route) {
            candidate.rest(until);
            self.advance(now);
        }
    }

    /// The network changed: everything is probed again at once, and no past failure counts.
    pub fn retry_now(&mut self, now: Instant) {
        for candidate in &mut self.candidates {
            candidate.failures = 0;
            candidate.held_until = None;
            if self.keys.is_some() {
                candidate.restart(now);
            }
        }
        self.advance(now);
    }

    /// Asks all paths for a sign of life; see [`last_answer`](Self::last_answer). Half a dozen probes each go out in the first two
    /// seconds, or until the path in use answers.
    pub fn challenge(&mut self, now: Instant) {
        if self.keys.is_some() {
            self.enter_doubt(now, true);
            self.advance(now);
        }
    }

    /// Wants a probe on each path at once.
    #[cfg(any(test, feature = "planted"))]
    pub fn probe_all(&mut self) {
        self.candidates.iter_mut().for_each(|candidate| candidate.want(Size::Full));
    }

    /// When the newest probe that the other end answered had been sent.
    pub fn last_answer(&self) -> Option<Instant> {
        self.candidates.iter().filter_map(|candidate| candidate.answered).max()
    }

    /// The handshake is done and its last packets came over `route`, which is used until a better one is proven. Probes begin;
    /// no [`PathEvent::Switched`] is given for this first choice.
    pub fn establish(&mut self, now: Instant, keys: ProbeKeys, route: R) {
        if self.candidate(&route).is_none() {
            self.insert(now, route, PathKind::Direct, false);
        }
        self.keys = Some(keys);
        self.switched = Some(now);
        for candidate in &mut self.candidates {
            candidate.restart(now);
            if candidate.route == route {
                candidate.established(now);
                self.active = Some(candidate.id);
            }
        }
        self.advance(now);
    }

    /// Takes a probe (a datagram whose first byte has bit 0x80 set and 0x40 clear). Returns whether it was authentic and new;
    /// nothing changes otherwise. An unknown route becomes a candidate of `kind`.
    pub fn receive_probe(&mut self, now: Instant, route: R, kind: PathKind, packet: &[u8]) -> bool {
        let Some(keys) = self.keys.as_ref().filter(|_| !self.dead) else { return false };
        let Some(probe) = Probe::open(keys, &mut self.window, packet) else { return false };
        self.learn(now, route, kind);
        if let Some(candidate) = self.candidate_mut(&route) {
            candidate.note_received(packet.len());
            candidate.heard = Some(now);
        }
        self.take_reports(now, &probe.reports);
        match probe.kind {
            ProbeKind::Ping => self.take_ping(now, route, &probe, packet.len()),
            ProbeKind::Pong(echo) => self.take_pong(now, route, echo, packet.len() >= FULL_SIZE),
        }
        self.advance(now);
        true
    }

    fn take_reports(&mut self, now: Instant, reports: &[Report]) {
        for report in reports {
            if let Some(candidate) = self.candidates.iter_mut().find(|candidate| candidate.id == report.path)
                && let Some(at) =
                    candidate.pings.iter().find_map(|ping| (ping.counter == report.counter).then_some(ping.at))
            {
                candidate.reported = candidate.reported.max(Some(at));
                candidate.confirm(now, at);
            }
        }
    }

    fn take_ping(&mut self, now: Instant, route: R, probe: &Probe, size: usize) {
        self.note_heard(HeardPing { path: probe.path, at: now, counter: probe.counter });
        if self.pongs.len() < MAX_PONGS && self.answering.take(now) {
            self.pongs.push_back(PendingPong { route, echo: probe.counter, size: size.min(FULL_SIZE) });
        }
        let unproven = self.candidates.iter_mut().find(|candidate| {
            let asked = candidate.pings.back().is_some_and(|ping| now < ping.at + CHECK_INTERVAL);
            candidate.route == route && !candidate.is_proven() && !asked
        });
        if let Some(candidate) = unproven
            && self.answering.take(now)
        {
            candidate.want(Size::Full);
        }
        if probe.doubt {
            self.be_alarmed(now);
        }
    }

    fn note_heard(&mut self, ping: HeardPing) {
        match self.heard.iter_mut().find(|known| known.path == ping.path) {
            Some(known) if known.counter < ping.counter => *known = ping,
            Some(_) => (),
            None => {
                // most links have one path
                if self.heard.is_empty() {
                    self.heard.reserve_exact(1);
                }
                self.heard.push(ping);
            }
        }
    }

    fn take_pong(&mut self, now: Instant, route: R, echo: u64, full: bool) {
        for candidate in &mut self.candidates {
            let Some(ping) = candidate.take_ping(echo) else { continue };
            if candidate.route == route {
                if candidate.left.take_if(|left| ping.at < *left).is_some() {
                    self.caution.mistaken(now);
                }
                candidate.pong(now, ping, full && ping.size >= FULL_SIZE);
                let (id, kind) = (candidate.id, candidate.kind);
                self.refresh_active_sample(now, id, kind);
            } else {
                candidate.confirm(now, ping.at);
            }
            return;
        }
    }

    /// QUIC received a datagram of `bytes` on `route`; `fresh` says that it was authentic and new.
    pub fn note_received(&mut self, now: Instant, route: R, bytes: usize, fresh: bool) {
        let handshaking = self.keys.is_none();
        let Some(candidate) = self.candidate_mut(&route) else { return };
        if fresh || handshaking {
            candidate.note_received(bytes);
        }
        if fresh {
            candidate.heard = Some(now);
            if handshaking {
                self.handshake_heard = Some((candidate.id, now));
            }
        }
    }

    /// QUIC sent a datagram of `bytes` on `route`.
    pub fn note_sent(&mut self, _now: Instant, route: R, bytes: usize) {
        if let Some(candidate) = self.candidate_mut(&route) {
            candidate.note_sent(bytes);
        }
    }

    /// QUIC saw data acknowledged: the sending direction of the path in use works, unless that data may have gone the way used
    /// before. A doubt needs a better proof, since copies went another way.
    pub fn note_acknowledged(&mut self, now: Instant) {
        let switched = self.switched;
        if let Some(active) = self.active_mut()
            && switched.is_none_or(|at| now >= at + active.rtt.unwrap_or_default())
        {
            active.confirm(now, now);
        }
    }

    /// Whether QUIC waits for acknowledgements.
    pub fn set_in_flight(&mut self, now: Instant, in_flight: bool) {
        if !in_flight {
            self.in_flight = None;
        } else if self.in_flight.is_none() {
            self.in_flight = Some(now);
            if let Some(due) = self.silence_due() {
                self.wake = Some(self.wake.map_or(due, |wake| wake.min(due)));
            }
        }
    }

    /// Whether `bytes` may go to `route`: three times what came from there until it is proven, unless the caller named it or
    /// a server relays it.
    pub fn may_send(&self, route: R, bytes: usize) -> bool {
        self.candidate(&route).is_some_and(|candidate| candidate.may_send(bytes))
    }

    /// Where datagrams go; `None` before [`establish`](Self::establish).
    pub fn routes(&self, _now: Instant) -> Option<Routes<R>> {
        Some(Routes { best: self.active()?.route, double: self.double() })
    }

    /// The kind of the path in use.
    pub fn kind(&self) -> Option<PathKind> {
        Some(self.active()?.kind)
    }

    /// The smoothed round trip of the path in use, by its probes.
    pub fn rtt(&self) -> Option<Duration> {
        self.active()?.rtt
    }

    /// All candidates.
    pub fn candidates(&self) -> impl Iterator<Item = CandidateInfo<R>> {
        self.candidates.iter().map(|candidate| CandidateInfo {
            route: candidate.route,
            kind: candidate.kind,
            state: self.state(candidate),
            rtt: candidate.rtt,
            failures: candidate.failures,
        })
    }

    fn state(&self, candidate: &Candidate<R>) -> CandidateState {
        match candidate.proof {
            _ if self.active == Some(candidate.id) && self.doubt.is_some() => CandidateState::Doubted,
            _ if self.active == Some(candidate.id) => CandidateState::Active,
            Proof::None if candidate.reported > candidate.answered => CandidateState::OneWay,
            Proof::None if candidate.failures > 0 => CandidateState::Failed,
            Proof::None => CandidateState::Trying,
            _ if candidate.held_until.is_some() => CandidateState::Resting,
            _ => CandidateState::Standby,
        }
    }

    /// Appends the next probe to `buf` and says where it goes. Call until it returns `None`.
    pub fn poll_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<R> {
        if !self.has_probes() && self.wake.is_none_or(|at| at > now) {
            return None;
        }
        self.advance(now);
        while let Some(pong) = self.pongs.pop_front() {
            // a link at rest keeps no room for answers
            if self.pongs.is_empty() {
                self.pongs = VecDeque::new();
            }
            if let Some(path) = self.pay(pong.route, pong.size) {
                self.send(path, ProbeKind::Pong(pong.echo), pong.size, buf);
                return Some(pong.route);
            }
        }
        let patience = |rtt: Option<Duration>| self.settings.retry.max(rtt.unwrap_or_default() * 2);
        let counter = self.counter + 1;
        let small = Probe::size(self.heard.len().min(MAX_REPORTS));
        for candidate in &mut self.candidates {
            let size = candidate.ping_size(small);
            candidate.want = None;
            if let Some(size) = size {
                candidate.note_sent(size);
                candidate.pinged(Ping { counter, at: now, size }, patience(candidate.rtt));
                let (path, route) = (candidate.id, candidate.route);
                self.send(path, ProbeKind::Ping, size, buf);
                self.wake = self.next_wake(now);
                return Some(route);
            }
        }
        self.wake = self.next_wake(now);
        None
    }

    fn pay(&mut self, route: R, size: usize) -> Option<u8> {
        let candidate = self.candidate_mut(&route).filter(|candidate| candidate.may_send(size))?;
        candidate.note_sent(size);
        Some(candidate.id)
    }

    fn send(&mut self, path: u8, kind: ProbeKind, size: usize, buf: &mut Vec<u8>) {
        let reports = self.reports();
        self.counter += 1;
        let doubt = kind == ProbeKind::Ping && self.doubt.is_some_and(|doubt| doubt.own);
        if let Some(keys) = &self.keys {
            Probe { counter: self.counter, path, kind, doubt, reports }.seal(keys, size.max(MIN_PROBE), buf);
        }
    }

    fn reports(&self) -> Vec<Report> {
        let recent = self.heard.iter().filter(|ping| self.now < ping.at + REPORTED_FOR);
        let mut reports: Vec<_> = recent.map(|&HeardPing { path, counter, .. }| Report { path, counter }).collect();
        reports.sort_unstable_by_key(|report| std::cmp::Reverse(report.counter));
        reports.truncate(MAX_REPORTS);
        reports
    }

    /// The next event. Call until it returns `None`.
    pub fn poll_event(&mut self) -> Option<PathEvent<R>> {
        self.event.take()
    }

    /// When to call [`handle_timeout`](Self::handle_timeout); not after the time of the last call while output is queued.
    pub fn deadline(&self) -> Option<Instant> {
        let queued = self.event.is_some() || self.has_probes();
        if queued { Some(self.now) } else { self.wake }
    }

    fn has_probes(&self) -> bool {
        !self.pongs.is_empty() || self.candidates.iter().any(|candidate| candidate.want.is_some())
    }

    /// Does what is due. Calling too early is harmless.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.advance(now);
    }

    /// Stops everything.
    pub(super) fn die(&mut self) {
        self.dead = true;
        self.event = Some(PathEvent::Dead);
        self.wake = None;
        self.pongs.clear();
        self.candidates.iter_mut().for_each(|candidate| candidate.want = None);
    }

    pub(super) fn is_established(&self) -> bool {
        self.keys.is_some()
    }

    pub(super) fn candidate(&self, route: &R) -> Option<&Candidate<R>> {
        self.candidates.iter().find(|candidate| candidate.route == *route)
    }

    pub(super) fn candidate_mut(&mut self, route: &R) -> Option<&mut Candidate<R>> {
        self.candidates.iter_mut().find(|candidate| candidate.route == *route)
    }

    pub(super) fn active(&self) -> Option<&Candidate<R>> {
        self.candidates.iter().find(|candidate| Some(candidate.id) == self.active)
    }

    pub(super) fn active_mut(&mut self) -> Option<&mut Candidate<R>> {
        self.candidates.iter_mut().find(|candidate| Some(candidate.id) == self.active)
    }

    fn insert(&mut self, now: Instant, route: R, kind: PathKind, listed: bool) -> bool {
        if !self.make_room(kind, listed) {
            return false;
        }
        let free = (0..MAX_PATHS).find(|&id| self.candidates.iter().all(|candidate| candidate.id != id));
        let Some(id) = free else { return false };
        self.added += 1;
        let heartbeat = Heartbeat::new(self.settings.heartbeat.0, self.settings.heartbeat.1);
        let mut candidate = Candidate::new(route, kind, id, self.added, listed, heartbeat);
        if self.keys.is_some() {
            candidate.restart(now);
        }
        // most links have one
        if self.candidates.is_empty() {
            self.candidates.reserve_exact(1);
        }
        self.candidates.push(candidate);
        true
    }
}
