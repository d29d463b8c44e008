//! What a member that means harm does with its links: possible in tests and with the feature `planted` only.

use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};

use super::{Node, Timer};
use crate::{
    Id,
    link::LinkToken,
    relay::{HEADER_LEN, Slot},
};

const EVERY: Duration = Duration::from_millis(1);

/// A misdeed, done without end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Misdeed {
    /// Control messages that mean nothing, on every link.
    Garbage,
    /// Probes of all paths, however often they were answered.
    Probes,
    /// Beginnings of messages of the greatest length on all lanes but the first, which never end.
    Halves,
    /// Relayed packets with nothing in them to all that each server has a slot for.
    Relayed,
    /// Takes no QUIC packet of a link that is up, but answers probes.
    Deaf,
}

/// A misdeed under way.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doing {
    pub(super) what: Misdeed,
    per_ms: u16,
    turn: u16,
}

impl Node {
    /// From now on this node does harm, so many times each millisecond.
    pub fn misbehave(&mut self, now: Instant, what: Misdeed, per_ms: u16) {
        self.misdeed = Some(Doing { what, per_ms, turn: 0 });
        self.timers.set(Timer::Misdeed, Some(now));
    }

    pub(super) fn misdeed_due(&mut self, now: Instant) {
        let Some(doing) = self.misdeed else { return };
        self.timers.set(Timer::Misdeed, Some(now + EVERY));
        let linked: Vec<(Id, LinkToken)> =
            self.remotes.iter().filter_map(|(id, remote)| Some((*id, remote.current?))).collect();
        match doing.what {
            Misdeed::Relayed => {
                for (server, _) in linked {
                    self.relay_nothing(server, doing);
                }
                let turn = doing.turn.wrapping_add(doing.per_ms);
                self.misdeed = Some(Doing { turn, ..doing });
            }
            Misdeed::Garbage | Misdeed::Probes | Misdeed::Halves => {
                for (_, token) in linked {
                    self.harm(now, token, doing);
                }
            }
            Misdeed::Deaf => {}
        }
    }

    fn harm(&mut self, now: Instant, token: LinkToken, doing: Doing) {
        let Some(entry) = self.links.get_mut(token) else { return };
        self.dirty.insert(token);
        let mut garbage = [0; 64];
        for _ in 0..doing.per_ms {
            match doing.what {
                Misdeed::Garbage => {
                    self.rng.fill(&mut garbage);
                    let _ = entry.link.send_control(garbage);
                }
                Misdeed::Probes => entry.link.probe_all(now),
                _ => {
                    // a message in parts of 16 MiB (docs/messages.md), and a first part that is nearly all of it
                    const HEAD: [u8; 10] = [0x11, 0x80, 0x80, 0x80, 0x08, 6, 0xff, 0xff, 0xff, 0x07];
                    for lane in 1..self.config.lanes {
                        let begins = self.begun_halves.insert((token, lane));
                        let data = if begins { Bytes::from_static(&HEAD) } else { Bytes::from_static(&[7; 1_024]) };
                        let _ = entry.link.write_lane(now, lane, data);
                    }
                }
            }
        }
    }

    fn relay_nothing(&mut self, server: Id, doing: Doing) {
        const SLOTS: u16 = 64;
        let Some(route) = self.route_of(&server) else { return };
        let owner = self.remotes.get(&server).and_then(|remote| remote.current);
        for n in 0..doing.per_ms {
            let Some(relay) = self.relays.get_mut(&server) else { return };
            let slot = Slot::new(doing.turn.wrapping_add(n) % SLOTS, 0);
            let (Some(own_slot), Some(slot)) = (relay.own_slot, slot) else { return };
            let mut packet = Vec::with_capacity(HEADER_LEN + 1_200);
            relay.link.seal(own_slot, slot, &[0x40; 1_200], &mut packet);
            self.queue(route, BytesMut::from(packet.as_slice()), None, 0, owner);
        }
    }

    /// Whether it does not listen to that link.
    pub(super) fn is_deaf_to(&self, token: LinkToken) -> bool {
        self.misdeed.is_some_and(|doing| doing.what == Misdeed::Deaf)
            && self.remotes.values().any(|remote| remote.current == Some(token))
    }
}
