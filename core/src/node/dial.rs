//! Which links are wanted, and dialling them for ever with back-off and jitter.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Event, Node, Route, Timer, Warning,
    links::{Entry, Origin},
    own::direct_candidates,
    remote::Remote,
    roles::RoleState,
};
use crate::{
    Config, Id,
    link::{Link, LinkToken},
    noise,
    path::PathKind,
};

/// The higher Id of two peers, or of two servers that have just heard of each other, waits this long for the lower one's
/// dial, unless it has something to say.
const YIELD: Duration = Duration::from_secs(2);

/// Relays that one link keeps as ways; the rest of its candidates are direct.
const MAX_RELAYS: usize = 4;

/// An address of some server.
#[derive(Clone, Debug)]
pub(super) struct Introducer {
    address: SocketAddr,
    /// Who answered there last.
    id: Option<Id>,
    dialling: Option<LinkToken>,
    attempt: u32,
    is_self: bool,
}

impl Introducer {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self { address, id: None, dialling: None, attempt: 0, is_self: false }
    }
}

impl Node {
    /// Whether this node should have a link to `id` now.
    fn wants(&self, id: &Id) -> bool {
        if self.stopping.is_some() || *id == self.id() {
            return false;
        }
        match &self.role {
            _ if id.is_server() => self.is_known_server(id),
            RoleState::Server(_) => false,
            RoleState::Peer(tables) => {
                let mesh = !tables.is_on_demand() && tables.online().len() < self.config.full_mesh_peers;
                tables.online().contains_key(id) && (mesh || self.has_traffic(id))
            }
        }
    }

    /// Remembered, or introduced by the user: not all that somebody ever named.
    fn is_known_server(&self, id: &Id) -> bool {
        self.saved.servers.contains_key(id) || self.remotes.get(id).is_some_and(|remote| !remote.addresses.is_empty())
    }

    /// Whether something waits for a link to `id`.
    pub(super) fn has_traffic(&self, id: &Id) -> bool {
        let messages = |remote: &Remote| remote.conversation.as_ref().is_some_and(|c| c.wants_link());
        let datagrams = |remote: &Remote| remote.wanted_until.is_some_and(|until| until > self.now);
        self.streams.waits_for(id) || self.remotes.get(id).is_some_and(|remote| messages(remote) || datagrams(remote))
    }

    /// Dials `id` if it is wanted, not linked, not being dialled, and not to be waited for.
    pub(super) fn consider(&mut self, now: Instant, id: Id) {
        if !self.wants(&id) {
            return;
        }
        let remote = self.remote(id);
        if remote.has_link_or_dial() {
            return;
        }
        let yields = if id.is_server() { self.remote(id).is_expected } else { id < self.id() };
        let yields = yields && !self.has_traffic(&id);
        let waited = self.remote(id).attempt > 0;
        if yields && self.timers.get(&Timer::Dial(id)).is_some() {
            return;
        }
        if yields && !waited {
            self.remote(id).attempt = 1;
            self.timers.set(Timer::Dial(id), Some(now + YIELD));
            return;
        }
        let routes = self.routes_to(&id);
        if routes.is_empty() {
            return self.retry_later(now, id);
        }
        self.remote(id).is_expected = false;
        match self.dial(now, Some(id), Origin::Dialled(id), routes) {
            Some(token) => self.remote(id).dialling = Some(token),
            None => self.retry_later(now, id),
        }
    }

    /// A message, a datagram or a stream waits for a link.
    pub(super) fn hurry(&mut self, now: Instant, id: Id) {
        if self.wants(&id) && !self.remotes.get(&id).is_some_and(|remote| remote.has_link_or_dial()) {
            // dials that nobody wanted any more were not tried again, and no timer runs for them
            let pausing = self.timers.get(&Timer::Dial(id)).is_some();
            let waiting_for_backoff = pausing && self.remotes.get(&id).is_some_and(|r| r.attempt > 1);
            if !waiting_for_backoff {
                self.timers.set(Timer::Dial(id), None);
                self.consider(now, id);
            }
        }
    }

    /// Every way to `id` that the tables know, relays first: they work at once.
    pub(super) fn routes_to(&self, id: &Id) -> Vec<(Route, PathKind)> {
        let mut routes = Vec::new();
        let mut addresses: Vec<SocketAddr> = self.remotes.get(id).map(|r| r.addresses.clone()).unwrap_or_default();
        match &self.role {
            RoleState::Server(tables) => {
                addresses.extend(tables.server(id).iter().flat_map(|row| row.addresses.iter()));
            }
            RoleState::Peer(tables) => {
                let linked = |server: &Id| self.relays.get(server).is_some_and(|relay| relay.own_slot.is_some());
                let relays = tables.relays(id).into_iter().filter(|(server, _)| server != id && linked(server));
                // a relayed link may carry one more relay packet, not two: only servers are reached through servers
                let direct = |server: &Id| self.route_of(server).is_some_and(|route| route.via().is_none());
                let usable = relays.filter(|(server, _)| !id.is_server() || direct(server));
                routes.extend(
                    usable.take(MAX_RELAYS).map(|(server, slot)| (Route::Relay { server, slot }, PathKind::Relayed)),
                );
                if id.is_server() {
                    addresses.extend(tables.servers().get(id).iter().flat_map(|row| row.addresses.iter()));
                } else if let Some(row) = tables.row(id)
                    && !self.relay_only
                    && !row.network.relay_only
                {
                    addresses.extend(direct_candidates(self.network.info(), &row.network, self.config.max_candidates));
                }
            }
        }
        if let Some(known) = self.saved.servers.get(id) {
            addresses.extend(&known.addresses);
        }
        let relays = routes.len();
        for remote in addresses {
            let Some(socket) = self.network.socket_for(&remote) else { continue };
            let route = Route::Udp { socket, remote };
            let full = routes.len() - relays >= self.config.max_candidates.saturating_sub(MAX_RELAYS);
            if !full && !self.network.is_own(&remote) && !routes.iter().any(|(known, _)| *known == route) {
                routes.push((route, PathKind::Direct));
            }
        }
        routes
    }

    pub(super) fn dial(
        &mut self,
        now: Instant,
        expected: Option<Id>,
        origin: Origin,
        routes: Vec<(Route, PathKind)>,
    ) -> Option<LinkToken> {
        if self.links.len() >= self.config.max_links {
            self.count("links refused: full");
            return None;
        }
        let (token, seed) = self.links.fresh();
        let first_id = noise::first_id(self.env.handshake.network_key(), self.rng.bytes(), expected);
        let relayed = routes.iter().map(|(route, _)| *route).filter(|route| route.via().is_some()).collect();
        let link = Link::dial(&self.env, now, token, seed, expected, first_id, routes);
        let dial = self.links.next_dial();
        let mut entry = Entry::new(link, origin, dial, first_id);
        entry.relayed = relayed;
        self.links.insert(token, entry);
        self.dirty.insert(token);
        self.count("dials");
        Some(token)
    }

    /// Dials again after a pause, if the link is still wanted then.
    pub(super) fn retry_later(&mut self, now: Instant, id: Id) {
        if !self.wants(&id) {
            return;
        }
        let remote = self.remote(id);
        if remote.has_link_or_dial() {
            return;
        }
        remote.attempt = remote.attempt.saturating_add(1);
        let attempt = remote.attempt;
        let pause = self.pause(attempt);
        self.timers.set(Timer::Dial(id), Some(now + pause));
    }

    /// Doubles with each attempt up to the longest; the upper half of it is random, so that nobody marches in step.
    fn pause(&mut self, attempt: u32) -> Duration {
        let Config { reconnect_min, reconnect_max, .. } = *self.config;
        let full = reconnect_min.saturating_mul(1 << attempt.saturating_sub(1).min(16)).min(reconnect_max);
        full / 2 + Duration::from_nanos(self.rng.below(u64::try_from(full.as_nanos() / 2).unwrap_or(0)))
    }

    /// Introducers are asked while no server is linked, and by a server until it has found its cluster.
    pub(super) fn dial_introducer(&mut self, now: Instant, index: usize) {
        if self.stopping.is_some() {
            return;
        }
        let needed = self.linked_servers.is_empty() || (self.id().is_server() && self.cluster.is_none());
        let Some(introducer) = self.introducers.get_mut(index) else { return };
        if introducer.is_self || introducer.dialling.is_some() {
            return;
        }
        let (address, known) = (introducer.address, introducer.id);
        let linked = known.is_some_and(|id| self.is_linked(&id));
        if needed
            && !linked
            && !self.network.is_own(&address)
            && let Some(socket) = self.network.socket_for(&address)
        {
            let route = Route::Udp { socket, remote: address };
            let token = self.dial(now, None, Origin::Introducer(index), vec![(route, PathKind::Direct)]);
            if let Some(introducer) = self.introducers.get_mut(index) {
                introducer.dialling = token;
            }
            if token.is_some() {
                return;
            }
        }
        let pause = self.pause(u32::MAX);
        self.timers.set(Timer::Introducer(index), Some(now + pause));
    }

    pub(super) fn introducer_is(&mut self, index: usize, id: Id, address: SocketAddr) {
        if let Some(introducer) = self.introducers.get_mut(index) {
            introducer.attempt = 0;
        }
        let remote = self.remote(id);
        if !remote.addresses.contains(&address) {
            remote.addresses.push(address);
        }
    }

    /// Who answers at an introducer's address; whether it will have this node is another question.
    pub(super) fn introducer_answers(&mut self, index: usize, id: Id) {
        if let Some(introducer) = self.introducers.get_mut(index) {
            introducer.id = Some(id);
        }
    }

    pub(super) fn introducer_is_self(&mut self, index: usize) {
        if let Some(introducer) = self.introducers.get_mut(index) {
            introducer.is_self = true;
        }
    }

    /// That dial is over, whether it served or not.
    pub(super) fn introducer_failed(&mut self, now: Instant, index: usize) {
        let Some(introducer) = self.introducers.get_mut(index) else { return };
        introducer.dialling = None;
        introducer.attempt = introducer.attempt.saturating_add(1);
        let attempt = introducer.attempt;
        let pause = self.pause(attempt);
        self.timers.set(Timer::Introducer(index), Some(now + pause));
    }

    pub(super) fn no_server_due(&mut self) {
        if !self.linked_servers.is_empty() {
            if self.id().is_server() && self.cluster.is_none() && !self.expects {
                self.event(Event::Warning(Warning::NotAdmitted));
            }
            return;
        }
        let introducers = self.introducers.iter().filter(|i| !i.is_self).map(|i| i.address);
        let known = self.saved.servers.values().flat_map(|server| server.addresses.iter().copied());
        let mut addresses: Vec<SocketAddr> = introducers.chain(known).collect();
        addresses.sort_unstable();
        addresses.dedup();
        if !addresses.is_empty() {
            self.event(Event::Warning(Warning::NoServerAnswered(addresses)));
        }
    }
}
