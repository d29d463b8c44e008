//! The two roles' workflows joined to the links: what is told to whom when a link comes, changes or goes.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Event, LocalNetwork, Node, Relay, Route, Timer, Warning, own::OwnNetwork};
use crate::{
    Config, Id, Incarnation, Name,
    link::LinkToken,
    path::PathKind,
    peer::{PeerNews, PeerTables},
    relay::{RelayKeys, RelayLink, Slot},
    server::ServerTables,
    table::{Bounded, ServerRow},
    wire::{CloseCode, Control, Hello, MAX_CONTROL},
};

/// Routes over which relayed packets may come, all servers together.
pub(super) const MAX_RELAY_SOURCES: usize = 1_024;
/// The bounds of what a server's word about a quota does.
const MIN_REST: Duration = Duration::from_millis(500);
const MAX_REST: Duration = Duration::from_secs(10);

/// What a node does beside being a node.
#[derive(Debug)]
pub(super) enum RoleState {
    Server(ServerTables),
    Peer(PeerTables),
}

impl RoleState {
    pub(super) fn new(id: Id, name: &Name, incarnation: Incarnation, network: &OwnNetwork, config: &Config) -> Self {
        if id.is_server() {
            let row = server_row(name, incarnation, network);
            Self::Server(ServerTables::new(id, row, incarnation, config))
        } else {
            Self::Peer(PeerTables::new(id, config))
        }
    }
}

fn server_row(name: &Name, incarnation: Incarnation, network: &OwnNetwork) -> ServerRow {
    let info = network.info();
    let addresses = info.listen.iter().chain(&info.private).copied();
    ServerRow {
        name: name.clone(),
        incarnation,
        version: info.version,
        addresses: Bounded::first(addresses),
        slot: None,
    }
}

impl Node {
    /// Sends a control message to the current link of `id`.
    pub(super) fn tell(&mut self, now: Instant, id: Id, message: &Control) {
        if let Some(token) = self.remotes.get(&id).and_then(|remote| remote.current) {
            self.tell_link(now, token, message);
        }
    }

    pub(super) fn tell_link(&mut self, now: Instant, token: LinkToken, message: &Control) {
        let bytes = message.encode();
        if bytes.len() > MAX_CONTROL {
            // only what a server that lies made this node repeat is so long, and it would cost the link
            tracing::warn!(bytes = bytes.len(), "a control message is too long and is not sent");
            return self.count("control messages too long");
        }
        if message.is_of_tables() {
            self.count_many("table bytes sent", bytes.len() as u64);
        }
        let Some(entry) = self.links.get_mut(token) else { return };
        let sent = entry.link.send_control(&bytes);
        self.dirty.insert(token);
        if sent.is_err() {
            // the remote does not read: its link is of no use, and a new one starts with fresh tables
            self.close(now, token, CloseCode::Full);
        }
    }

    /// A link was admitted as the current one to `id`.
    pub(super) fn on_linked(&mut self, now: Instant, token: LinkToken, id: Id, hello: &Hello) {
        let was_suspended = self.suspended_told;
        if id.is_server() {
            self.linked_servers.insert(id);
            self.is_duplicate = false;
            let told: Vec<SocketAddr> = hello.network.listen.iter().chain(&hello.network.private).copied().collect();
            if self.remember_server(id, &hello.name, &told) {
                self.save();
            }
            self.use_as_relay(token, id);
            if !self.takes_a_place(&id) {
                self.event(Event::ServerUp { id, name: hello.name.clone() });
            }
            if was_suspended {
                self.suspended_told = false;
                self.event(Event::Resumed);
            }
        }
        if let Some(entry) = self.links.get(token)
            && let (Some(route), Some(kind)) = (entry.link.route(), entry.link.kind())
        {
            self.event(Event::Path { id, kind, via: route.via() });
            self.note_route(id, route);
        }
        self.tell_seen(now, id);
        if id.is_server() {
            self.tell_foreigners(now, id);
            self.review_servers(now);
        }
        match &mut self.role {
            RoleState::Server(_) => self.server_linked(now, token, id, hello),
            RoleState::Peer(tables) if id.is_server() => {
                tables.server_linked(id);
                self.reports.forget(&id);
                self.report_link(now, id);
            }
            RoleState::Peer(_) => self.report_link(now, id),
        }
        self.council_linked(now, token, id);
        self.forget_remotes(now);
    }

    /// The keys to send through that server, once its slot for this node is known.
    fn use_as_relay(&mut self, token: LinkToken, server: Id) {
        if let Some(keys) = self.relay_keys(token, false) {
            let relay = Relay { link: RelayLink::new(keys), own_slot: None, rests_until: None };
            self.relays.insert(server, Box::new(relay));
        }
    }

    /// The keys of one of the two relays that a link may serve: `relays` says whether this end is the relay.
    fn relay_keys(&self, token: LinkToken, relays: bool) -> Option<RelayKeys> {
        let link = &self.links.get(token)?.link;
        Some(RelayKeys::derive(&link.export(b"relay"), link.is_dialler(), relays))
    }

    /// The server has told this node's slot there: peers can be reached through it now.
    pub(super) fn on_own_slot(&mut self, now: Instant, server: Id, slot: Slot) {
        if let Some(relay) = self.relays.get_mut(&server) {
            relay.own_slot = Some(slot);
        }
        if let RoleState::Peer(tables) = &self.role {
            let reachable: Vec<Id> = tables.online().keys().copied().collect();
            for id in reachable {
                self.renew_candidates(now, id);
            }
        }
    }

    fn server_linked(&mut self, now: Instant, token: LinkToken, id: Id, hello: &Hello) {
        let Some(keys) = self.relay_keys(token, true) else { return };
        let Some(route) = self.route_of(&id) else { return };
        let slot = self.forwarder.link(now, token, id.is_server(), keys, route, route.prefix());
        if let Some(slot) = slot {
            self.slots.insert(id, slot);
            self.tell(now, id, &Control::Slot(slot));
        }
        let Some(slot) = slot else {
            self.count("links refused: no relay slot");
            return self.close(now, token, CloseCode::Full);
        };
        if id.is_server() {
            let worked = self.remotes.get(&id).map(|remote| remote.addresses.clone()).unwrap_or_default();
            let told = hello.network.listen.iter().chain(&hello.network.private).copied();
            let told: Vec<SocketAddr> = told.filter(|address| !worked.contains(address)).collect();
            let row = ServerRow {
                name: hello.name.clone(),
                incarnation: hello.incarnation,
                version: hello.network.version,
                addresses: Bounded::first(worked.into_iter().chain(told)),
                slot: Some(slot),
            };
            let RoleState::Server(tables) = &mut self.role else { return };
            tables.set_server(id, row);
            if hello.cluster.is_none() {
                tables.set_waiting(id);
            }
            self.broadcast_servers(now);
        } else {
            let RoleState::Server(tables) = &mut self.role else { return };
            let network = hello.network.clone();
            if !tables.set_client(id, hello.name.clone(), hello.incarnation, network, slot) {
                self.count("links refused: directory full");
                return self.close(now, token, CloseCode::Full);
            }
            let on_demand = tables.is_on_demand().then(|| tables.on_demand_message());
            self.tell_servers(now, id);
            if let Some(message) = on_demand {
                self.tell(now, id, &message);
            }
            if !self.takes_a_place(&id) {
                self.event(Event::PeerUp { id, name: hello.name.clone() });
            }
            self.directory_changed(now);
        }
    }

    /// C goes to everybody on join and leave only.
    pub(super) fn broadcast_servers(&mut self, now: Instant) {
        let linked: Vec<Id> = self.remotes.iter().filter(|(_, r)| r.current.is_some()).map(|(id, _)| *id).collect();
        for id in linked {
            self.tell_servers(now, id);
        }
    }

    fn tell_servers(&mut self, now: Instant, to: Id) {
        let RoleState::Server(tables) = &self.role else { return };
        let rows = |(id, row): (Id, &ServerRow)| (id, row.clone());
        let message = match to.is_server() {
            true => Bounded::first(tables.servers().map(rows)),
            false => Bounded::first(tables.serving().map(rows)),
        };
        self.tell(now, to, &Control::Servers(message));
    }

    /// Gathers changes of E for a moment, then sends them as deltas.
    pub(super) fn directory_changed(&mut self, now: Instant) {
        if self.timers.get(&Timer::Directory).is_none() {
            self.timers.set(Timer::Directory, Some(now + self.config.delta_interval));
        }
    }

    pub(super) fn send_directory(&mut self, now: Instant) {
        let RoleState::Server(tables) = &mut self.role else { return };
        for (id, message) in tables.updates() {
            self.tell(now, id, &message);
        }
    }

    /// Whether the link that is being admitted takes the place of another one to `id`.
    fn takes_a_place(&self, id: &Id) -> bool {
        self.replacing.is_some_and(|(replaced, _)| replaced == *id)
    }

    /// The current link of `id` is gone; `replaced` says that the next one is there.
    pub(super) fn on_unlinked(&mut self, now: Instant, id: Id, replaced: bool) {
        self.relays.remove(&id);
        self.linked_servers.remove(&id);
        self.relay_sources.retain(|_, server| *server != id);
        let name = self.remotes.get(&id).map(|remote| remote.name.clone()).unwrap_or_default();
        if id.is_server() {
            if !replaced {
                self.event(Event::ServerDown { id, name: name.clone() });
            }
            self.drop_relay_routes(now, id);
        }
        let own_network_changed = id.is_server() && self.network.forget(&id);
        match &mut self.role {
            RoleState::Server(tables) => {
                if let Some(slot) = self.slots.remove(&id) {
                    self.forwarder.unlink(now, slot);
                }
                if id.is_server() {
                    if tables.remove_server(&id) && !replaced {
                        self.broadcast_servers(now);
                    }
                } else {
                    tables.remove_client(&id);
                    if !replaced {
                        self.event(Event::PeerDown { id, name });
                    }
                    self.directory_changed(now);
                }
            }
            RoleState::Peer(tables) => {
                if id.is_server() {
                    let news = tables.server_lost(now, &id);
                    self.take_news(now, news);
                    let lost = !replaced && self.stopping.is_none();
                    if lost && self.is_suspended() && !self.suspended_told {
                        self.suspended_told = true;
                        self.event(Event::Suspended);
                    }
                }
                self.report_link(now, id);
            }
        }
        if id.is_server() {
            self.review_servers(now);
        } else if !replaced && self.is_peer_down(now, &id) {
            self.give_up_on(id);
        } else if !replaced && self.has_traffic(&id) {
            self.want_link(now, id);
        }
        if !replaced {
            self.council_unlinked(now, id);
        }
        if own_network_changed {
            self.own_network_changed(now);
        }
    }

    /// Nothing goes through a server that is not linked.
    fn drop_relay_routes(&mut self, now: Instant, server: Id) {
        let tokens: Vec<LinkToken> = self.links.iter().map(|(token, _)| *token).collect();
        for token in tokens {
            let Some(entry) = self.links.get_mut(token) else { continue };
            let gone: Vec<Route> = entry.relayed.iter().filter(|route| route.via() == Some(server)).copied().collect();
            for route in gone {
                entry.relayed.remove(&route);
                entry.link.remove_candidate(now, &route);
                self.dirty.insert(token);
            }
        }
    }

    /// The server relays no more for this node than it does: links that have another way as good take that for a while. It is
    /// heeded once in a pause, so that a server that tells at line rate costs nothing.
    pub(super) fn rest_relay(&mut self, now: Instant, server: Id, pause: Duration) {
        let until = now + pause.clamp(MIN_REST, MAX_REST);
        let Some(relay) = self.relays.get_mut(&server) else { return };
        if relay.rests_until.is_some_and(|until| until > now) {
            return;
        }
        let is_news = relay.rests_until.replace(until).is_none();
        if is_news {
            self.event(Event::Warning(Warning::OverQuota { by: server }));
        }
        for (token, entry) in self.links.iter_mut() {
            for route in entry.relayed.iter().filter(|route| route.via() == Some(server)) {
                entry.link.rest(now, route, until);
                self.dirty.insert(*token);
            }
        }
    }

    /// What the peer's tables say is new: events for the application, candidates for the links, dials.
    pub(super) fn take_news(&mut self, now: Instant, news: Vec<PeerNews>) {
        for news in news {
            match news {
                PeerNews::Up(id, name) => {
                    // not a place for each that some server names: who is linked says its name itself
                    if let Some(remote) = self.remotes.get_mut(&id) {
                        remote.name = name.clone();
                    }
                    self.event(Event::PeerUp { id, name });
                }
                PeerNews::Down(id, name) => {
                    self.watching.touch(id);
                    self.event(Event::PeerDown { id, name });
                    self.peer_is_down(now, id);
                }
                PeerNews::Changed(id) => self.renew_candidates(now, id),
                PeerNews::SeenElsewhere(server, sighting) => self.tell(now, server, &Control::SeenElsewhere(sighting)),
            }
        }
        if let RoleState::Peer(tables) = &self.role {
            self.timers.set(Timer::Leaving, tables.deadline());
        }
        self.settle_awaited(now);
        self.forget_remotes(now);
    }

    pub(super) fn leaving_due(&mut self, now: Instant) {
        if let RoleState::Peer(tables) = &mut self.role {
            let news = tables.handle_timeout(now);
            self.take_news(now, news);
        }
    }

    /// The ways to `id` changed: its link tries the new ones and leaves those through slots that are gone.
    pub(super) fn renew_candidates(&mut self, now: Instant, id: Id) {
        if self.has_restarted(&id) {
            self.challenge(now, id, None);
        }
        let routes = self.routes_to(&id);
        let remote = self.remotes.get(&id);
        let tokens: Vec<LinkToken> =
            remote.into_iter().flat_map(|remote| [remote.current, remote.dialling]).flatten().collect();
        if tokens.is_empty() {
            self.consider(now, id);
            return;
        }
        for token in tokens {
            let Some(entry) = self.links.get_mut(token) else { continue };
            let stale = |route: &&Route| !routes.iter().any(|(known, _)| known == *route);
            let gone: Vec<Route> = entry.relayed.iter().filter(stale).copied().collect();
            for route in gone {
                entry.relayed.remove(&route);
                entry.link.remove_candidate(now, &route);
            }
            for (route, kind) in &routes {
                entry.link.add_candidate(now, *route, *kind);
                if route.via().is_some() {
                    entry.relayed.insert(*route);
                }
            }
            self.dirty.insert(token);
        }
    }

    /// Whether a directory shows a newer run of `id` than the one that is linked.
    fn has_restarted(&self, id: &Id) -> bool {
        let RoleState::Peer(tables) = &self.role else { return false };
        let linked = self.remotes.get(id).and_then(|remote| self.links.get(remote.current?)?.hello.as_ref());
        match (linked, tables.row(id)) {
            (Some(linked), Some(row)) => row.incarnation > linked.incarnation,
            _ => false,
        }
    }

    pub(super) fn network_changed(&mut self, now: Instant, local: LocalNetwork) {
        if self.network.set_local(local) {
            self.own_network_changed(now);
        }
        let tokens: Vec<LinkToken> = self.links.iter().map(|(token, _)| *token).collect();
        for token in tokens {
            if let Some(entry) = self.links.get_mut(token) {
                entry.link.retry_paths(now);
                self.dirty.insert(token);
            }
        }
    }

    /// D goes to all servers, on change; a server's own row goes to everybody.
    pub(super) fn own_network_changed(&mut self, now: Instant) {
        let row = server_row(&self.name, self.incarnation, &self.network);
        match &mut self.role {
            RoleState::Server(tables) => {
                // a change of what servers see is no change of the row
                if tables.row().addresses != row.addresses {
                    tables.set_row(row);
                    self.broadcast_servers(now);
                }
            }
            RoleState::Peer(tables) => {
                let online: Vec<Id> = tables.online().keys().copied().collect();
                let message = Control::Network(self.network.info().clone());
                let servers: Vec<Id> = self.linked_servers.iter().copied().collect();
                for server in servers {
                    self.tell(now, server, &message);
                }
                for id in online {
                    self.renew_candidates(now, id);
                }
            }
        }
    }

    /// Tells a linked node where its packets come from, if they come straight.
    pub(super) fn tell_seen(&mut self, now: Instant, id: Id) {
        if !self.id().is_server() {
            return;
        }
        if let Some(Route::Udp { remote, .. }) = self.route_of(&id) {
            self.tell(now, id, &Control::Seen(remote));
        }
    }

    pub(super) fn on_path_changed(&mut self, token: LinkToken, route: Route, kind: PathKind) {
        let Some((id, phase)) = self.links.get(token).and_then(|entry| Some((entry.remote?, entry.phase))) else {
            return;
        };
        self.count("path changes");
        if phase == super::links::Phase::Admitted {
            self.note_route(id, route);
            if let Some(slot) = self.slots.get(&id) {
                self.forwarder.follow(*slot, route, route.prefix());
            }
            self.event(Event::Path { id, kind, via: route.via() });
            let now = self.now;
            self.tell_seen(now, id);
            self.report_link(now, id);
        }
    }

    /// Packets of a server that come over a route of its link may be relayed ones.
    pub(super) fn note_route(&mut self, id: Id, route: Route) {
        if self.relays.contains_key(&id) && self.relay_sources.len() < MAX_RELAY_SOURCES {
            self.relay_sources.insert(route, id);
        }
    }
}
