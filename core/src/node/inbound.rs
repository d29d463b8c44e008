//! What arrives: told apart by the first byte, led to its link by connection id, strangers met with silence.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use bytes::BytesMut;

use super::{
    Datagram, Node, Route,
    links::{Entry, Origin},
};
use crate::{
    Config, Id,
    link::{Link, LinkToken},
    noise::{self, Admitted, FIRST_ID_LEN, FirstId},
    path::PathKind,
    prefix::Prefix,
    relay::{DropReason, PacketClass, Slot, Told, Verdict},
};

/// The length of our connection ids, and of the address in a probe.
const LOCAL_ID_LEN: usize = 8;
/// Set in long headers (RFC 9000 section 17.2).
const LONG_HEADER: u8 = 0x80;
/// A relay packet carries a probe, a QUIC packet, or one more relay packet: nothing deeper.
const MAX_DEPTH: u8 = 2;

/// First packets accepted in the current second, by source prefix.
#[derive(Debug, Default)]
pub(super) struct FirstPackets {
    second: Option<Instant>,
    /// `None` are the prefixes that there was no room for.
    accepted: BTreeMap<Option<Prefix>, u32>,
}

/// Prefixes counted in one second; further ones share the last place.
const MAX_PREFIXES: usize = 4_096;

impl FirstPackets {
    fn admit(&mut self, now: Instant, route: &Route, config: &Config) -> bool {
        if self.second.is_none_or(|since| now.saturating_duration_since(since) >= Duration::from_secs(1)) {
            self.second = Some(now);
            self.accepted.clear();
        }
        let mut prefix = Some(route.prefix());
        if self.accepted.len() >= MAX_PREFIXES && !self.accepted.contains_key(&prefix) {
            prefix = None;
        }
        let accepted = self.accepted.entry(prefix).or_default();
        *accepted = accepted.saturating_add(1);
        *accepted <= config.first_packets_per_second
    }
}

fn token_of(id: &[u8; LOCAL_ID_LEN]) -> LinkToken {
    let [a, b, c, d, ..] = *id;
    LinkToken(u32::from_be_bytes([a, b, c, d]))
}

impl Node {
    pub(super) fn receive(&mut self, now: Instant, datagram: Datagram) {
        let Datagram { socket, remote, local_ip, ecn, mut data, segment_size } = datagram;
        if !self.network.local().sockets.iter().any(|(known, _)| *known == socket) {
            return self.count("dropped: from a socket that was never named");
        }
        let route = Route::Udp { socket, remote };
        while !data.is_empty() {
            let len = if segment_size == 0 { data.len() } else { segment_size.min(data.len()) };
            let segment = data.split_to(len);
            self.receive_one(now, route, local_ip, ecn, segment, 0);
        }
    }

    fn receive_one(
        &mut self,
        now: Instant,
        route: Route,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
        depth: u8,
    ) {
        let Some(&first) = data.first() else { return };
        match PacketClass::of(first) {
            PacketClass::Quic => self.receive_quic(now, route, local_ip, ecn, data),
            PacketClass::Probe => self.receive_probe(now, route, local_ip, &data),
            PacketClass::Relay if depth < MAX_DEPTH => self.receive_relay(now, route, data, depth),
            PacketClass::Relay => self.count("dropped: nested too deep"),
        }
    }

    fn kind(&self, route: &Route) -> PathKind {
        if route.via().is_some() { PathKind::Relayed } else { PathKind::Direct }
    }

    fn receive_quic(&mut self, now: Instant, route: Route, local_ip: Option<IpAddr>, ecn: u8, data: BytesMut) {
        let id = match noise::admit(&data) {
            Some(Admitted::Short { rest }) => rest,
            Some(Admitted::Initial { destination } | Admitted::Handshake { destination }) => destination,
            None => return self.count("dropped: not of this protocol"),
        };
        let token = if let Ok(first_id) = <[u8; FIRST_ID_LEN]>::try_from(id)
            && data.first().is_some_and(|first| first & LONG_HEADER != 0)
        {
            match self.links.by_first_id(&first_id) {
                Some(token) => token,
                None => return self.receive_first(now, route, local_ip, ecn, data, first_id),
            }
        } else if let Some(id) = id.first_chunk() {
            token_of(id)
        } else {
            return self.count("dropped: not of this protocol");
        };
        #[cfg(any(test, feature = "planted"))]
        if self.is_deaf_to(token) {
            return;
        }
        let kind = self.kind(&route);
        let allowed = self.may_use(token, &route);
        let Some(entry) = self.links.get_mut(token) else { return self.count("dropped: unknown connection id") };
        if !allowed {
            return self.count("dropped: direct packet, relay only");
        }
        entry.note_relayed(route);
        let fresh = entry.link.handle_datagram(now, route, kind, ecn, data);
        entry.learn_source(&route, local_ip, fresh);
        self.dirty.insert(token);
    }

    /// With the relay forced, nothing of another peer is taken from a direct path.
    fn may_use(&self, token: LinkToken, route: &Route) -> bool {
        if !self.relay_only || self.id().is_server() || route.via().is_some() {
            return true;
        }
        self.links.get(token).is_none_or(|entry| match (entry.remote, entry.origin) {
            (Some(id), _) | (None, Origin::Dialled(id)) => id.is_server(),
            (None, Origin::Introducer(_)) => true,
            (None, Origin::Inbound) => false,
        })
    }

    /// Who lacks the network key gets no byte, and costs one keyed hash.
    fn receive_first(
        &mut self,
        now: Instant,
        route: Route,
        local_ip: Option<IpAddr>,
        ecn: u8,
        data: BytesMut,
        first_id: [u8; FIRST_ID_LEN],
    ) {
        let own = self.id();
        let Some((kind, nonce)) = noise::check_first_id(self.env.handshake.network_key(), &first_id, own) else {
            return self.count("dropped: stranger");
        };
        if kind == FirstId::Unnamed && !own.is_server() {
            return self.count("dropped: stranger");
        }
        if self.stopping.is_some() || (self.relay_only && !own.is_server() && route.via().is_none()) {
            return self.count("dropped: first packet not wanted");
        }
        if self.nonces.contains(&nonce) {
            return self.count("dropped: first packet replayed");
        }
        if !self.first_packets.admit(now, &route, &self.config)
            || self.links.inbound_handshakes() >= self.config.max_handshakes
            || self.links.len() >= self.config.max_links
        {
            return self.count("dropped: first packet over budget");
        }
        if !self.links.has_room_for(&route.prefix(), &self.config) {
            return self.count("dropped: first packet over the share of its prefix");
        }
        let (token, seed) = self.links.fresh();
        let path_kind = self.kind(&route);
        let Some(link) = Link::accept(&self.env, now, token, seed, route, path_kind, ecn, data) else {
            return self.count("dropped: first packet not authentic");
        };
        self.nonces.insert(nonce);
        let mut entry = Entry::new(link, Origin::Inbound, 0, first_id);
        entry.prefix = Some(route.prefix());
        entry.note_relayed(route);
        entry.learn_source(&route, local_ip, true);
        self.links.insert(token, entry);
        self.dirty.insert(token);
        self.count("links accepted");
    }

    fn receive_probe(&mut self, now: Instant, route: Route, local_ip: Option<IpAddr>, data: &[u8]) {
        let Some(id) = data.get(1..).and_then(|rest| rest.first_chunk::<LOCAL_ID_LEN>()) else {
            return self.count("dropped: not of this protocol");
        };
        let token = token_of(id);
        let kind = self.kind(&route);
        let allowed = self.may_use(token, &route);
        let Some(entry) = self.links.get_mut(token).filter(|_| allowed) else {
            return self.count("dropped: unknown probe");
        };
        let authentic = entry.link.handle_probe(now, route, kind, data);
        let remote = entry.remote;
        if authentic {
            entry.learn_source(&route, local_ip, true);
            if let Some(server) = remote.filter(|id| self.relays.contains_key(id)) {
                self.note_route(server, route);
            }
            self.dirty.insert(token);
        } else {
            self.count("dropped: probe not authentic");
        }
    }

    /// A packet of the forwarding plane: delivered by a relay, or to be forwarded by this one.
    fn receive_relay(&mut self, now: Instant, route: Route, mut data: BytesMut, depth: u8) {
        if let Some(server) = self.relay_sources.get(&route).copied()
            && let Some(relay) = self.relays.get_mut(&server)
            && let Ok(opened) = relay.link.open(&data)
            && Some(opened.dst) == relay.own_slot
        {
            if opened.src == Slot::SERVER {
                return self.on_told(now, server, data.get(opened.payload).and_then(Told::decode));
            }
            let payload = data.split_off(opened.payload.start.min(data.len()));
            return self.receive_one(now, Route::Relay { server, slot: opened.src }, None, 0, payload, depth + 1);
        }
        if !self.id().is_server() {
            return self.count("dropped: relay packet not authentic");
        }
        match self.forwarder.receive(now, route, &mut data) {
            Verdict::Forward { route, nested: true, .. } if route.via().is_some() => {
                self.count("dropped: nested too deep");
            }
            Verdict::Forward { to, route, .. } => {
                self.count("relayed");
                self.queue(route, data, None, 0, Some(to));
            }
            Verdict::Tell { to, route, packet } => {
                self.count("relay: told a sender");
                self.queue(route, BytesMut::from(packet.as_slice()), None, 0, Some(to));
            }
            Verdict::Drop(DropReason::OverQuota) => self.count("dropped: over the relay quota"),
            Verdict::Local { .. } | Verdict::Drop(_) => self.count("dropped: relay packet"),
        }
    }

    /// A relay did not pass a packet on.
    fn on_told(&mut self, now: Instant, server: Id, told: Option<Told>) {
        match told {
            Some(Told::OverQuota { pause_ms, .. }) => {
                self.count("relay: told of a quota");
                self.rest_relay(now, server, Duration::from_millis(pause_ms.into()));
            }
            Some(Told::UnknownSlot(_)) => self.count("relay: told of a stale slot"),
            None => self.count("relay: told of something unknown"),
        }
    }
}
