//! The links of a node, from the first packet to the last: what each is, admission, loss.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{Event, Node, Route, Timer, Warning, sources::Sources};
use crate::{
    Config, Id,
    link::{Link, LinkEvent, LinkStreamId, LinkToken, LostReason},
    prefix::Prefix,
    rng::Rng,
    wire::{CloseCode, Control, Hello},
};

/// A link that lasted so long clears what dials before it cost.
const STEADY: Duration = Duration::from_secs(5);
/// Relayed ways remembered for one link.
pub(super) const MAX_RELAYED: usize = 64;

/// Why this node has a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Origin {
    Dialled(Id),
    Introducer(usize),
    Inbound,
}

/// How far a link has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    Handshake,
    /// The handshake has proven the remote Id; its Hello is awaited.
    Greeting,
    /// Another run of the same Id is linked and asked whether it lives.
    Challenging,
    /// Told why it is not wanted; closed a moment later.
    Refused,
    /// The current link to its Id.
    Admitted,
    Closing,
}

/// A link and what the node knows of it.
pub(super) struct Entry {
    pub(super) link: Link<Route>,
    pub(super) origin: Origin,
    pub(super) phase: Phase,
    pub(super) remote: Option<Id>,
    pub(super) nonce: [u8; 16],
    pub(super) hello: Option<Box<Hello>>,
    pub(super) dial: u64,
    pub(super) first_id: [u8; 20],
    pub(super) ready: bool,
    /// Relayed ways that it was given or has used.
    pub(super) relayed: BTreeSet<Route>,
    /// Control messages of a newcomer that is not admitted yet.
    pub(super) parked: Vec<Control>,
    /// Streams that the remote opened before it was admitted.
    pub(super) parked_streams: Vec<LinkStreamId>,
    pub(super) told_duplicate: bool,
    /// Whose share an inbound link counts for.
    pub(super) prefix: Option<Prefix>,
    admitted: Option<Instant>,
    sources: Sources,
}

impl Entry {
    pub(super) fn new(link: Link<Route>, origin: Origin, dial: u64, first_id: [u8; 20]) -> Self {
        Self {
            link,
            origin,
            phase: Phase::Handshake,
            remote: None,
            nonce: [0; 16],
            hello: None,
            dial,
            first_id,
            ready: false,
            relayed: BTreeSet::new(),
            parked: Vec::new(),
            parked_streams: Vec::new(),
            told_duplicate: false,
            prefix: None,
            admitted: None,
            sources: Sources::default(),
        }
    }

    /// A packet came by `route` to the local address `ip`, which answers leave from if it was authentic and new. During the
    /// handshake any packet will do for a remote of which nothing is known yet.
    pub(super) fn learn_source(&mut self, route: &Route, ip: Option<IpAddr>, fresh: bool) {
        if let (Some(remote), Some(ip)) = (route.address(), ip)
            && (fresh || self.phase == Phase::Handshake)
        {
            self.sources.learn(remote, ip, fresh);
        }
    }

    pub(super) fn source(&self, remote: &SocketAddr) -> Option<IpAddr> {
        self.sources.get(remote)
    }

    /// Remembers a relayed way, so that it can be given up with its relay.
    pub(super) fn note_relayed(&mut self, route: Route) {
        if route.via().is_some() && self.relayed.len() < MAX_RELAYED {
            self.relayed.insert(route);
        }
    }

    pub(super) fn is_inbound(&self) -> bool {
        self.origin == Origin::Inbound
    }
}

/// What one source prefix has of the links that others began.
#[derive(Clone, Copy, Debug, Default)]
struct Inbound {
    links: usize,
    handshakes: usize,
}

/// All links by token, and the first ids of those whose handshake may still bring first packets.
pub(super) struct Links {
    // boxed: a node of the tree has room for eleven, however few there are
    entries: BTreeMap<LinkToken, Box<Entry>>,
    by_first_id: BTreeMap<[u8; 20], LinkToken>,
    by_prefix: BTreeMap<Prefix, Inbound>,
    next: u32,
    rng: Rng,
    dials: u64,
}

impl Links {
    pub(super) fn new(mut rng: Rng) -> Self {
        let next = rng.next_u64() as u32;
        Self { entries: BTreeMap::new(), by_first_id: BTreeMap::new(), by_prefix: BTreeMap::new(), next, rng, dials: 0 }
    }

    pub(super) fn get(&self, token: LinkToken) -> Option<&Entry> {
        self.entries.get(&token).map(|entry| &**entry)
    }

    pub(super) fn get_mut(&mut self, token: LinkToken) -> Option<&mut Entry> {
        self.entries.get_mut(&token).map(|entry| &mut **entry)
    }

    pub(super) fn by_first_id(&self, first_id: &[u8; 20]) -> Option<LinkToken> {
        self.by_first_id.get(first_id).copied()
    }

    /// An unused token and a seed for its link.
    pub(super) fn fresh(&mut self) -> (LinkToken, [u8; 32]) {
        while self.entries.contains_key(&LinkToken(self.next)) {
            self.next = self.next.wrapping_add(1);
        }
        let token = LinkToken(self.next);
        self.next = self.next.wrapping_add(1);
        (token, self.rng.bytes())
    }

    /// The number of the next dial.
    pub(super) fn next_dial(&mut self) -> u64 {
        self.dials = self.dials.saturating_add(1);
        self.dials
    }

    pub(super) fn insert(&mut self, token: LinkToken, entry: Entry) {
        if entry.is_inbound() {
            self.by_first_id.insert(entry.first_id, token);
        }
        if let Some(prefix) = entry.prefix {
            let inbound = self.by_prefix.entry(prefix).or_default();
            (inbound.links, inbound.handshakes) = (inbound.links + 1, inbound.handshakes + 1);
        }
        self.entries.insert(token, Box::new(entry));
    }

    pub(super) fn remove(&mut self, token: LinkToken) -> Option<Box<Entry>> {
        self.handshake_done(token);
        let entry = self.entries.remove(&token)?;
        if let Some(prefix) = entry.prefix
            && let Some(inbound) = self.by_prefix.get_mut(&prefix)
        {
            inbound.links = inbound.links.saturating_sub(1);
            if inbound.links == 0 {
                self.by_prefix.remove(&prefix);
            }
        }
        Some(entry)
    }

    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = (&LinkToken, &mut Entry)> {
        self.entries.iter_mut().map(|(token, entry)| (token, &mut **entry))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&LinkToken, &Entry)> {
        self.entries.iter().map(|(token, entry)| (token, &**entry))
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Inbound links whose handshake is not done.
    pub(super) fn inbound_handshakes(&self) -> usize {
        self.by_first_id.len()
    }

    /// The most links and handshakes that one source prefix has.
    pub(super) fn fullest_prefix(&self) -> (usize, usize) {
        let most = |of: fn(&Inbound) -> usize| self.by_prefix.values().map(of).max().unwrap_or_default();
        (most(|inbound| inbound.links), most(|inbound| inbound.handshakes))
    }

    pub(super) fn handshake_done(&mut self, token: LinkToken) {
        if let Some(entry) = self.entries.get(&token)
            && self.by_first_id.get(&entry.first_id) == Some(&token)
        {
            self.by_first_id.remove(&entry.first_id);
            if let Some(inbound) = entry.prefix.and_then(|prefix| self.by_prefix.get_mut(&prefix)) {
                inbound.handshakes = inbound.handshakes.saturating_sub(1);
            }
        }
    }

    /// Whether that source prefix may begin another link.
    pub(super) fn has_room_for(&self, prefix: &Prefix, config: &Config) -> bool {
        let Inbound { links, handshakes } = self.by_prefix.get(prefix).copied().unwrap_or_default();
        links < config.max_links_per_prefix && handshakes < config.max_handshakes_per_prefix
    }
}

impl Node {
    /// Takes all events of a link, then indexes its deadline.
    pub(super) fn drain_link(&mut self, now: Instant, token: LinkToken) {
        while let Some(entry) = self.links.get_mut(token) {
            match entry.link.poll() {
                Some(event) => self.on_link_event(now, token, event),
                None => break,
            }
        }
        self.schedule(now, token);
    }

    fn schedule(&mut self, now: Instant, token: LinkToken) {
        let Some(entry) = self.links.get_mut(token) else { return };
        if entry.link.is_drained() {
            self.remove_link(now, token);
            return;
        }
        if !entry.ready {
            entry.ready = true;
            self.ready.push_back(token);
        }
    }

    fn on_link_event(&mut self, now: Instant, token: LinkToken, event: LinkEvent<Route>) {
        match event {
            LinkEvent::Established { remote, nonce, .. } => self.on_established(now, token, remote, nonce),
            LinkEvent::Control(bytes) => match Control::decode(&bytes) {
                Ok(message) => self.on_control(now, token, message),
                Err(crate::wire::WireError::UnknownVersion(_)) => self.close(now, token, CloseCode::UnknownVersion),
                Err(_) => self.violation(now, token),
            },
            LinkEvent::LaneReadable(lane) => self.on_lane_readable(now, token, lane),
            LinkEvent::LaneWritable(lane) => self.on_lane_writable(token, lane),
            LinkEvent::Datagram(data) => self.on_datagram(token, data),
            LinkEvent::PathChanged { route, kind } => self.on_path_changed(token, route, kind),
            LinkEvent::Lost(reason) => self.on_lost(now, token, reason),
            stream => self.on_stream_event(token, stream),
        }
    }

    /// The link is now the current one to its Id.
    pub(super) fn admit(&mut self, now: Instant, token: LinkToken, id: Id) {
        let Some(entry) = self.links.get_mut(token) else { return };
        let Some(hello) = entry.hello.clone() else { return };
        entry.phase = Phase::Admitted;
        let (nonce, inbound) = (entry.nonce, entry.is_inbound());
        entry.admitted = Some(now);
        let parked = std::mem::take(&mut entry.parked);
        let streams = std::mem::take(&mut entry.parked_streams);
        if let Origin::Introducer(index) = entry.origin
            && let Some(address) = entry.link.route().and_then(|route| route.address())
        {
            self.introducer_is(index, id, address);
        }
        let remote = self.remote(id);
        remote.current = Some(token);
        if remote.dialling == Some(token) {
            remote.dialling = None;
        }
        remote.last_nonce = Some(nonce);
        remote.idle_since = None;
        remote.is_expected = false;
        remote.name = hello.name.clone();
        if remote.challenger.is_some_and(|challenger| challenger.link == Some(token)) {
            remote.challenger = None;
        }
        if let Some(conversation) = &mut remote.conversation {
            conversation.attach(now);
        }
        self.timers.set(Timer::Dial(id), None);
        self.remote(id).last_used = Some(now);
        self.watching.touch(id);
        self.watch_idle(now, id);
        if inbound {
            self.drop_late_dial(now, id);
        }
        self.unwritten.insert(id);
        self.on_linked(now, token, id, &hello);
        for message in parked {
            self.on_admitted_control(now, token, id, message);
        }
        for stream in streams {
            self.on_stream_event(token, LinkEvent::StreamOpened(stream));
            // what came meanwhile was told to nobody
            self.on_stream_event(token, LinkEvent::StreamReadable(stream));
        }
        self.open_waiting_streams(now, token, id);
    }

    /// Takes the current link out of its place, and all that hangs on it.
    pub(super) fn unlink(&mut self, now: Instant, token: LinkToken, id: Id) {
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.current == Some(token)) else { return };
        remote.current = None;
        remote.resting = false;
        remote.accused = None;
        let admitted = self.links.get(token).and_then(|entry| entry.admitted);
        if admitted.is_some_and(|since| now.saturating_duration_since(since) >= STEADY) {
            remote.attempt = 0;
        }
        remote.idle_since = Some(now);
        remote.unwritten.clear();
        remote.unread.clear();
        if let Some(conversation) = &mut remote.conversation {
            conversation.detach(now);
        }
        self.unwritten.insert(id);
        self.watching.touch(id);
        self.timers.set(Timer::Idle(id), None);
        self.reset_streams(token);
        let replaced = self.replacing == Some((id, token));
        self.on_unlinked(now, id, replaced);
    }

    fn on_lost(&mut self, now: Instant, token: LinkToken, reason: LostReason) {
        let Some(entry) = self.links.get_mut(token) else { return };
        let (origin, phase, remote) = (entry.origin, entry.phase, entry.remote);
        entry.phase = Phase::Closing;
        self.links.handshake_done(token);
        tracing::debug!(?remote, ?reason, ?phase, "link lost");
        self.count("links lost");
        if let (Some(id), LostReason::Closed { code, .. }) = (remote, &reason)
            && let Some(code) = CloseCode::from_code(u64::from(*code))
        {
            self.explain_close(id, code, origin != Origin::Inbound);
            match code {
                CloseCode::ForeignCluster => self.met_foreigner(now, id, None),
                CloseCode::DuplicateIdentity if id.is_server() => self.is_duplicate = true,
                _ => {}
            }
        }
        if let (Phase::Admitted, Some(id)) = (phase, remote) {
            self.unlink(now, token, id);
            let challenger = self.remote(id).challenger.take();
            let newcomer = challenger.and_then(|challenger| challenger.link);
            let was_idle = matches!(&reason, LostReason::Closed { code, .. } if *code == CloseCode::Idle as u32);
            match newcomer.filter(|token| self.is_challenging(*token)) {
                Some(newcomer) => self.admit(now, newcomer, id),
                // what waited for the answer goes on
                None if was_idle => self.hurry(now, id),
                None => self.retry_later(now, id),
            }
        }
        self.end_dial(now, origin, phase);
    }

    /// A link has ended that was in `phase`: the dial that it came from may be tried again.
    fn end_dial(&mut self, now: Instant, origin: Origin, phase: Phase) {
        match origin {
            Origin::Dialled(id) if phase != Phase::Admitted => {
                self.remote(id).dialling = None;
                self.watching.touch(id);
                self.retry_later(now, id);
            }
            Origin::Introducer(index) => self.introducer_failed(now, index),
            Origin::Dialled(_) | Origin::Inbound => {}
        }
    }

    /// Tells the operator of refusals that only an operator can mend.
    pub(super) fn explain_close(&mut self, by: Id, code: CloseCode, dialled: bool) {
        match code {
            CloseCode::ForeignCluster | CloseCode::BadServerKey | CloseCode::UnknownVersion => {
                self.warn_refused(by, code, dialled);
            }
            CloseCode::NotAdmitted if !self.id().is_server() => self.warn_refused(by, code, dialled),
            _ => {}
        }
    }

    /// Once per remote and reason.
    fn warn_refused(&mut self, by: Id, code: CloseCode, dialled: bool) {
        if self.is_news(by, code, dialled) {
            self.event(Event::Warning(Warning::Refused { by, why: code.text() }));
        }
    }

    /// Closes a link with a reason for the other end.
    pub(super) fn close(&mut self, now: Instant, token: LinkToken, code: CloseCode) {
        let Some(entry) = self.links.get_mut(token) else { return };
        if entry.phase == Phase::Closing {
            return;
        }
        let (phase, remote, origin) = (entry.phase, entry.remote, entry.origin);
        entry.phase = Phase::Closing;
        entry.link.close(now, code as u32, code.text());
        self.dirty.insert(token);
        if let (Phase::Admitted, Some(id)) = (phase, remote) {
            self.unlink(now, token, id);
            self.retry_later(now, id);
        }
        self.end_dial(now, origin, phase);
    }

    /// The remote broke the protocol: it loses its link, and no one else notices.
    pub(super) fn violation(&mut self, now: Instant, token: LinkToken) {
        self.count("violations");
        self.close(now, token, CloseCode::Violation);
    }

    fn remove_link(&mut self, now: Instant, token: LinkToken) {
        if let Some(id) = self.links.get(token).and_then(|entry| entry.remote) {
            self.unlink(now, token, id);
        }
        let Some(entry) = self.links.remove(token) else { return };
        self.reset_streams(token);
        self.timers.set(Timer::Greeting(token), None);
        self.timers.set(Timer::Link(token), None);
        if let Origin::Dialled(id) = entry.origin
            && let Some(remote) = self.remotes.get_mut(&id)
            && remote.dialling == Some(token)
        {
            remote.dialling = None;
            self.watching.touch(id);
            self.retry_later(now, id);
        }
        self.forget_remotes(now);
        self.go_on_stopping(now);
    }
}
