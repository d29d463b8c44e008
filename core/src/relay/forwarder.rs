//! The server's side: who holds which slot, and what becomes of a packet.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    HEADER_LEN, MAX_OVERHEAD, PacketClass, RelayError, RelayKeys, RelayLink, Slot, Slots, Told, header::Header,
};

/// The least time between two tells to the same sender.
pub const TELL_INTERVAL: Duration = Duration::from_millis(100);

/// Passes packets on between the nodes that are linked to this server. `T` names a node's link, `R` is its route.
#[derive(Debug)]
pub struct Forwarder<T, R> {
    slots: Slots<Holder<T, R>>,
    counters: ForwarderCounters,
}

#[derive(Debug)]
struct Holder<T, R> {
    owner: T,
    route: R,
    is_server: bool,
    link: RelayLink,
    told_at: Option<Instant>,
}

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict<T, R> {
    /// Send the packet, whose header has been rewritten, to this node.
    Forward {
        /// The destination slot's holder.
        to: T,
        /// The route last given to [`Forwarder::follow`] for it.
        route: R,
        /// The payload is a relayed packet itself: not to be wrapped once more.
        nested: bool,
    },
    /// It is for this server.
    Local {
        /// The sender.
        from: T,
        /// Its slot.
        src: Slot,
        /// Where in the packet the payload stands.
        payload: Range<usize>,
    },
    /// Dropped; send this packet to the sender.
    Tell {
        /// The sender.
        to: T,
        /// The route last given to [`Forwarder::follow`] for it.
        route: R,
        /// A whole relayed packet with a [`Told`] in it.
        packet: Vec<u8>,
    },
    /// Dropped without an answer.
    Drop(DropReason),
}

/// Why a packet was dropped without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DropReason {
    /// No relayed packet, or one without a payload.
    Malformed,
    /// Nobody holds the source slot: there is no key to answer with.
    UnknownSource,
    /// Seen before, or too old.
    Replayed,
    /// Forged, or changed on the way.
    BadTag,
    /// Nested more than once, or nested though neither end is a server.
    Nested,
    /// Nobody holds the destination slot, and the sender was told a moment ago.
    UnknownDestination,
}

/// How often what became of packets, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ForwarderCounters {
    /// Packets passed on.
    pub forwarded: u64,
    /// Their bytes, headers included.
    pub forwarded_bytes: u64,
    /// Packets for the server itself.
    pub local: u64,
    /// Senders told of a dropped packet.
    pub told: u64,
    /// Authentic packets that came over another route than the sender's proven one. They do not move it.
    pub strayed: u64,
    /// [`DropReason::Malformed`].
    pub malformed: u64,
    /// [`DropReason::UnknownSource`].
    pub unknown_source: u64,
    /// [`DropReason::Replayed`].
    pub replayed: u64,
    /// [`DropReason::BadTag`].
    pub bad_tag: u64,
    /// [`DropReason::Nested`].
    pub nested: u64,
    /// Packets to slots that nobody holds, told or not.
    pub unknown_destination: u64,
}

impl<T: Copy, R: Copy + PartialEq> Forwarder<T, R> {
    /// At most `capacity` slots, which rest for `rest` before they are used again.
    pub fn new(rest: Duration, capacity: usize) -> Self {
        Self { slots: Slots::new(rest, capacity), counters: ForwarderCounters::default() }
    }

    /// Gives a slot to a node that has just been linked; `None` if all are held or resting. Packets to it go over
    /// `route` at first. Nested packets may come from and go to servers only.
    pub fn link(&mut self, now: Instant, owner: T, is_server: bool, keys: &RelayKeys, route: R) -> Option<Slot> {
        self.slots.allocate(now, Holder { owner, route, is_server, link: RelayLink::new(keys), told_at: None })
    }

    /// Takes a slot back whose link ended; `None` if nobody held it.
    pub fn unlink(&mut self, now: Instant, slot: Slot) -> Option<T> {
        self.slots.release(now, slot).map(|holder| holder.owner)
    }

    /// Packets to the slot's holder go over `route` from now on: its path set has proven it by a probe.
    pub fn follow(&mut self, slot: Slot, route: R) {
        if let Some(holder) = self.slots.get_mut(slot) {
            holder.route = route;
        }
    }

    /// Who holds the slot.
    pub fn owner(&self, slot: Slot) -> Option<T> {
        self.slots.get(slot).map(|holder| holder.owner)
    }

    /// How often what became of packets.
    pub const fn counters(&self) -> &ForwarderCounters {
        &self.counters
    }

    /// A relayed packet with `payload` for the holder of `dst`, as if the holder of `src` had sent it, and the holder's link and
    /// route; `None` if nobody holds one of the slots.
    pub fn pass(&mut self, src: Slot, dst: Slot, payload: &[u8]) -> Option<(T, R, Vec<u8>)> {
        self.slots.get(src)?;
        let receiver = self.slots.get_mut(dst)?;
        let mut packet = Vec::with_capacity(HEADER_LEN + payload.len());
        receiver.link.seal(src, dst, payload, &mut packet);
        self.counters.forwarded += 1;
        self.counters.forwarded_bytes += packet.len() as u64;
        Some((receiver.owner, receiver.route, packet))
    }

    /// Judges a packet that came over `route`, and rewrites its header if it is to be passed on.
    pub fn receive(&mut self, now: Instant, route: R, packet: &mut [u8]) -> Verdict<T, R> {
        let verdict = self.judge(now, route, packet);
        self.count(&verdict, packet.len());
        verdict
    }

    fn judge(&mut self, now: Instant, route: R, packet: &mut [u8]) -> Verdict<T, R> {
        let Some((Header { src, dst, .. }, payload)) = Header::decode(packet) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let Some(class) = PacketClass::of_packet(payload) else {
            return Verdict::Drop(DropReason::Malformed);
        };
        let Some(sender) = self.slots.get_mut(src) else {
            return Verdict::Drop(DropReason::UnknownSource);
        };
        let opened = match sender.link.open(packet) {
            Ok(opened) => opened,
            Err(RelayError::NotRelayed) => return Verdict::Drop(DropReason::Malformed),
            Err(RelayError::Replayed) => return Verdict::Drop(DropReason::Replayed),
            Err(RelayError::BadTag) => return Verdict::Drop(DropReason::BadTag),
        };
        if sender.route != route {
            self.counters.strayed += 1;
        }
        let (from, from_server) = (sender.owner, sender.is_server);
        if dst.is_server() {
            return Verdict::Local { from, src, payload: opened.payload };
        }
        let Some(receiver) = self.slots.get_mut(dst) else {
            return self.tell(now, src, Told::UnknownSlot(dst));
        };
        let nested = class == PacketClass::Relay;
        if nested && (is_nested_twice(packet) || !(from_server || receiver.is_server)) {
            return Verdict::Drop(DropReason::Nested);
        }
        match receiver.link.seal_in_place(src, dst, packet) {
            Ok(()) => Verdict::Forward { to: receiver.owner, route: receiver.route, nested },
            Err(_) => Verdict::Drop(DropReason::Malformed),
        }
    }

    fn tell(&mut self, now: Instant, to: Slot, told: Told) -> Verdict<T, R> {
        self.counters.unknown_destination += 1;
        let due = |at: Instant| now.saturating_duration_since(at) >= TELL_INTERVAL;
        let Some(sender) = self.slots.get_mut(to).filter(|sender| sender.told_at.is_none_or(due)) else {
            return Verdict::Drop(DropReason::UnknownDestination);
        };
        sender.told_at = Some(now);
        let mut payload = Vec::with_capacity(Told::MAX_LEN);
        told.encode(&mut payload);
        let mut packet = Vec::with_capacity(HEADER_LEN + Told::MAX_LEN);
        sender.link.seal(Slot::SERVER, to, &payload, &mut packet);
        Verdict::Tell { to: sender.owner, route: sender.route, packet }
    }

    fn count(&mut self, verdict: &Verdict<T, R>, len: usize) {
        let counters = &mut self.counters;
        match verdict {
            Verdict::Forward { .. } => {
                counters.forwarded += 1;
                counters.forwarded_bytes += len as u64;
            }
            Verdict::Local { .. } => counters.local += 1,
            Verdict::Tell { .. } => counters.told += 1,
            Verdict::Drop(reason) => match reason {
                DropReason::Malformed => counters.malformed += 1,
                DropReason::UnknownSource => counters.unknown_source += 1,
                DropReason::Replayed => counters.replayed += 1,
                DropReason::BadTag => counters.bad_tag += 1,
                DropReason::Nested => counters.nested += 1,
                // counted where it is decided whether to tell
                DropReason::UnknownDestination => {}
            },
        }
    }
}

/// Whether a packet with a relayed packet in it has a further one inside, or none at all.
fn is_nested_twice(packet: &[u8]) -> bool {
    packet.get(MAX_OVERHEAD).is_none_or(|first| PacketClass::of(*first) == PacketClass::Relay)
}

#[cfg(test)]
mod tests;
