//! On demand: the first packet of a dial travels with the question where its destination is, addressed by Id, and a server
//! that has it passes the packet on. So the answer costs no round trip of its own.

use std::time::Instant;

use bytes::Bytes;

use super::{
    Node, Route,
    links::{Origin, Phase},
    roles::RoleState,
};
use crate::{
    Id,
    link::LinkToken,
    noise::{self, Admitted, FirstId},
    path::PathKind,
    wire::{CloseCode, Control},
};

impl Node {
    /// Begins a link to a peer whose row is being asked for, through the nearest server that is asked.
    pub(super) fn dial_unknown(&mut self, now: Instant, id: Id) {
        let RoleState::Peer(tables) = &self.role else { return };
        if self.remotes.get(&id).is_some_and(|remote| remote.has_link_or_dial()) || !self.has_traffic(&id) {
            return;
        }
        let has_slot = |server: &Id| self.relays.get(server).is_some_and(|relay| relay.own_slot.is_some());
        // a relayed link to the server carries its control messages, so the packet needs no way of its own
        let nearest = tables.servers_on_demand().filter(has_slot).min_by_key(|server| (self.rtt_of(server), *server));
        let Some(server) = nearest else { return };
        let routes = vec![(Route::Lookup { server }, PathKind::Relayed)];
        if let Some(token) = self.dial(now, Some(id), Origin::Dialled(id), routes) {
            self.remote(id).dialling = Some(token);
        }
    }

    /// No server has the peer: what was begun on trust ends without a word.
    pub(super) fn end_unknown(&mut self, now: Instant, id: Id) {
        let Some(token) = self.remotes.get(&id).and_then(|remote| remote.dialling) else { return };
        let Some(entry) = self.links.get_mut(token).filter(|entry| entry.phase == Phase::Handshake) else { return };
        for route in std::mem::take(&mut entry.relayed) {
            entry.link.remove_candidate(now, &route);
        }
        self.close(now, token, CloseCode::Unwanted);
    }

    /// A datagram of a dial whose destination is not known yet: only a first packet can go there.
    pub(super) fn pass_by_id(&mut self, server: Id, owner: Option<LinkToken>, datagrams: &[u8], size: usize) {
        let dialled = owner.and_then(|token| match self.links.get(token)?.origin {
            Origin::Dialled(id) => Some(id),
            Origin::Introducer(_) | Origin::Inbound => None,
        });
        let (Some(to), Some(current)) = (dialled, self.remotes.get(&server).and_then(|remote| remote.current)) else {
            return;
        };
        for packet in datagrams.chunks(size.max(1)).filter(|packet| first_id(packet).is_some()) {
            let packet = Bytes::copy_from_slice(packet);
            self.tell_link(self.now, current, &Control::FirstPacket { to, packet });
        }
        if let Some(entry) = self.links.get_mut(current)
            && !std::mem::replace(&mut entry.ready, true)
        {
            self.ready.push_back(current);
        }
    }

    /// A peer does not know the slot of another one yet: its first packet goes on as if it came by the relay. Anything else
    /// than a first packet for exactly that Id does not.
    pub(super) fn on_first_packet(&mut self, from: Id, to: Id, packet: &[u8]) {
        let key = self.env.handshake.network_key();
        let checked = first_id(packet).and_then(|first_id| noise::check_first_id(key, first_id, to));
        if !checked.is_some_and(|(kind, _)| kind == FirstId::Named) {
            return self.count("dropped: no first packet");
        }
        let (Some(src), Some(dst)) = (self.slots.get(&from), self.slots.get(&to)) else {
            return self.count("first packets for nobody here");
        };
        let Some((owner, route, packet)) = self.forwarder.pass(*src, *dst, packet) else { return };
        self.count("first packets passed on");
        self.queue(route, packet[..].into(), None, 0, Some(owner));
    }
}

/// The id of a first packet.
fn first_id(packet: &[u8]) -> Option<&[u8]> {
    match noise::admit(packet) {
        Some(Admitted::Initial { destination }) if destination.len() == noise::FIRST_ID_LEN => Some(destination),
        _ => None,
    }
}
