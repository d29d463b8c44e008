//! The server's side: who holds which slot, and what becomes of a packet.

use std::{
    ops::Range,
    time::{Duration, Instant},
};

use super::{
    HEADER_LEN, MAX_OVERHEAD, PacketClass, QuotaLimits, RelayError, RelayKeys, RelayLink, Slot, Slots, Told,
    header::Header,
    quota::{Account, Quotas},
};
use crate::prefix::Prefix;

/// The least time between two tells to the same sender.
pub const TELL_INTERVAL: Duration = Duration::from_millis(100);
/// For how long a sender that is over its quota is asked to use other ways, and the least time until it is told again.
pub const QUOTA_PAUSE: Duration = Duration::from_secs(1);

/// Passes packets on between the nodes that are linked to this server. `T` names a node's link, `R` is its route.
#[derive(Debug)]
pub struct Forwarder<T, R> {
    slots: Slots<Holder<T, R>>,
    quotas: Quotas,
    counters: ForwarderCounters,
}

#[derive(Debug)]
struct Holder<T, R> {
    owner: T,
    route: R,
    is_server: bool,
    link: RelayLink,
    account: Account,
    told_at: Option<Instant>,
    told_over_quota_at: Option<Instant>,
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
    /// Over a quota of the sender's, and it was told a moment ago.
    OverQuota,
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
    /// Packets over a quota, told or not. Their tags were not checked.
    pub over_quota: u64,
}

impl<T: Copy, R: Copy + PartialEq> Forwarder<T, R> {
    /// At most `capacity` slots, which rest for `rest` before they are used again.
    pub fn new(rest: Duration, capacity: usize, limits: &QuotaLimits) -> Self {
        Self { slots: Slots::new(rest, capacity), quotas: Quotas::new(limits), counters: ForwarderCounters::default() }
    }

    /// Gives a slot to a node that has just been linked; `None` if all are held. Packets to it go over
    /// `route` at first, and what it sends counts for the source `prefix`. Nested packets may come from and go to servers
    /// only.
    pub fn link(
        &mut self,
        now: Instant,
        owner: T,
        is_server: bool,
        keys: RelayKeys,
        route: R,
        prefix: Prefix,
    ) -> Option<Slot> {
        let account = self.quotas.join(prefix, is_server);
        let link = RelayLink::new(keys);
        let holder = Holder { owner, route, is_server, link, account, told_at: None, told_over_quota_at: None };
        let slot = self.slots.allocate(now, holder);
        if slot.is_none() {
            self.quotas.leave(&account);
        }
        slot
    }

    /// Takes a slot back whose link ended; `None` if nobody held it.
    pub fn unlink(&mut self, now: Instant, slot: Slot) -> Option<T> {
        let holder = self.slots.release(now, slot)?;
        self.quotas.leave(&holder.account);
        Some(holder.owner)
    }

    /// Packets to the slot's holder go over `route` from now on, and what it sends counts for `prefix`: its path set has
    /// proven that route by a probe.
    pub fn follow(&mut self, slot: Slot, route: R, prefix: Prefix) {
        if let Some(holder) = self.slots.get_mut(slot) {
            holder.route = route;
            self.quotas.follow(&mut holder.account, prefix);
        }
    }

    /// Who holds the slot.
    pub fn owner(&self, slot: Slot) -> Option<T> {
        self.slots.get(slot).map(|holder| holder.owner)
    }

    /// How many slots are held.
    pub fn held(&self) -> usize {
        self.slots.len()
    }

    /// Source prefixes whose quotas are told apart, those that nobody sends from any more included.
    pub fn prefixes(&self) -> usize {
        self.quotas.prefixes()
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
        // before the tag, which costs most: that a forgery is told to the slot's holder, once in a while, harms nobody
        if !self.quotas.allows(now, &sender.account, packet.len()) {
            return self.tell_over_quota(now, src, dst);
        }
        let opened = match sender.link.open(packet) {
            Ok(opened) => opened,
            Err(RelayError::NotRelayed) => return Verdict::Drop(DropReason::Malformed),
            Err(RelayError::Replayed) => return Verdict::Drop(DropReason::Replayed),
            Err(RelayError::BadTag) => return Verdict::Drop(DropReason::BadTag),
        };
        self.quotas.pay(now, &mut sender.account, packet.len());
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
        match self.slots.get_mut(to).filter(|sender| is_due(now, sender.told_at, TELL_INTERVAL)) {
            Some(sender) => {
                sender.told_at = Some(now);
                sender.tell(to, told)
            }
            None => Verdict::Drop(DropReason::UnknownDestination),
        }
    }

    fn tell_over_quota(&mut self, now: Instant, to: Slot, slot: Slot) -> Verdict<T, R> {
        self.counters.over_quota += 1;
        match self.slots.get_mut(to).filter(|sender| is_due(now, sender.told_over_quota_at, QUOTA_PAUSE)) {
            // a tell names no slot of the server itself
            Some(sender) if !slot.is_server() => {
                sender.told_over_quota_at = Some(now);
                let pause_ms = u32::try_from(QUOTA_PAUSE.as_millis()).unwrap_or(u32::MAX);
                sender.tell(to, Told::OverQuota { slot, pause_ms })
            }
            _ => Verdict::Drop(DropReason::OverQuota),
        }
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
                DropReason::UnknownDestination | DropReason::OverQuota => {}
            },
        }
    }
}

impl<T: Copy, R: Copy> Holder<T, R> {
    fn tell(&mut self, own_slot: Slot, told: Told) -> Verdict<T, R> {
        let mut payload = Vec::with_capacity(Told::MAX_LEN);
        told.encode(&mut payload);
        let mut packet = Vec::with_capacity(HEADER_LEN + Told::MAX_LEN);
        self.link.seal(Slot::SERVER, own_slot, &payload, &mut packet);
        Verdict::Tell { to: self.owner, route: self.route, packet }
    }
}

fn is_due(now: Instant, last: Option<Instant>, interval: Duration) -> bool {
    last.is_none_or(|at| now.saturating_duration_since(at) >= interval)
}

/// Whether a packet with a relayed packet in it has a further one inside, or none at all.
fn is_nested_twice(packet: &[u8]) -> bool {
    packet.get(MAX_OVERHEAD).is_none_or(|first| PacketClass::of(*first) == PacketClass::Relay)
}

#[cfg(test)]
mod tests;
