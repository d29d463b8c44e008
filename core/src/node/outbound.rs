//! What leaves: links take turns, relayed packets are sealed for their relay, runs stay whole for the kernel to cut.

use std::time::Instant;

use bytes::BytesMut;

use super::{Node, Route, Timer, Transmit};
use crate::{
    Id,
    link::{LinkToken, LinkTransmit},
    relay::HEADER_LEN,
};

/// Bytes of one run: what an IP packet can say, less the headers of relays.
const MAX_RUN: usize = 64_000;
/// Datagrams of one run: more the kernel refuses.
const MAX_RUN_SEGMENTS: usize = 64;

/// Datagrams that are already whole: forwarded ones, copies for a second path.
pub(super) struct Outgoing {
    route: Route,
    data: BytesMut,
    segment_size: Option<usize>,
    ecn: u8,
    owner: Option<LinkToken>,
}

impl Outgoing {
    fn is_run_with(&self, next: &Self, may_be_shorter: bool) -> bool {
        let one_each = self.segment_size.is_none() && next.segment_size.is_none();
        let same_way = (self.route, self.owner, self.ecn) == (next.route, next.owner, next.ecn);
        let fits = next.data.len() == self.data.len() || may_be_shorter && next.data.len() < self.data.len();
        one_each && same_way && fits
    }
}

/// The real address at the end of a route, and the link whose packets go there.
struct Resolved {
    route: Route,
    segment_size: Option<usize>,
    owner: Option<LinkToken>,
}

impl Node {
    pub(super) fn queue(
        &mut self,
        route: Route,
        data: BytesMut,
        segment_size: Option<usize>,
        ecn: u8,
        owner: Option<LinkToken>,
    ) {
        if self.outgoing.len() >= self.config.max_outgoing {
            return self.count("dropped: outgoing queue full");
        }
        self.outgoing.push_back(Outgoing { route, data, segment_size, ecn, owner });
    }

    pub(super) fn next_transmit(&mut self, now: Instant, buf: &mut Vec<u8>) -> Option<Transmit> {
        while let Some(outgoing) = self.outgoing.pop_front() {
            let start = buf.len();
            buf.extend_from_slice(&outgoing.data);
            let joined = self.join(&outgoing, buf);
            let Outgoing { route, segment_size, ecn, owner, .. } = outgoing;
            let segment_size = segment_size.or(joined);
            if let Some(transmit) = self.finish(route, start, segment_size, ecn, owner, buf) {
                return Some(transmit);
            }
        }
        while let Some(token) = self.ready.pop_front() {
            let Some(entry) = self.links.get_mut(token) else { continue };
            let start = buf.len();
            let Some(transmit) = entry.link.poll_transmit(now, self.config.max_segments, buf) else {
                entry.ready = false;
                let deadline = entry.link.deadline().map(|(at, _)| at);
                self.timers.set(Timer::Link(token), deadline);
                continue;
            };
            self.ready.push_back(token);
            let LinkTransmit { route, double, segment_size, ecn, .. } = transmit;
            if let Some(double) = double {
                let copy = BytesMut::from(buf.get(start..).unwrap_or_default());
                self.queue(double, copy, segment_size, ecn, Some(token));
            }
            if let Some(transmit) = self.finish(route, start, segment_size, ecn, Some(token), buf) {
                return Some(transmit);
            }
        }
        None
    }

    /// Appends the datagrams that follow on the same way, so that the kernel cuts one run: all have one size, and only the
    /// last may be shorter. A first one of its own size may be a probe that is too long for the way: nothing follows it.
    /// Returns that size if there are any.
    fn join(&mut self, first: &Outgoing, buf: &mut Vec<u8>) -> Option<usize> {
        let size = first.data.len();
        let most = self.config.max_segments.min(MAX_RUN_SEGMENTS).min(MAX_RUN / size.max(1));
        let (mut count, mut last) = (1, size);
        while count < most
            && last == size
            && self.outgoing.front().is_some_and(|next| first.is_run_with(next, count > 1))
            && let Some(next) = self.outgoing.pop_front()
        {
            buf.extend_from_slice(&next.data);
            (count, last) = (count + 1, next.data.len());
        }
        (count > 1).then_some(size)
    }

    /// Turns the bytes from `start` into datagrams for a real address; `None` if the route has gone.
    fn finish(
        &mut self,
        route: Route,
        start: usize,
        segment_size: Option<usize>,
        ecn: u8,
        owner: Option<LinkToken>,
        buf: &mut Vec<u8>,
    ) -> Option<Transmit> {
        if let Route::Lookup { server } = route {
            let datagrams = buf.split_off(start);
            self.pass_by_id(server, owner, &datagrams, segment_size.unwrap_or(datagrams.len()));
            return None;
        }
        let resolved = self.seal(Resolved { route, segment_size, owner }, start, buf);
        let Some(Resolved { route: Route::Udp { socket, remote }, segment_size, owner }) = resolved else {
            buf.truncate(start);
            self.count("dropped: no way to the relay");
            return None;
        };
        let source = owner.and_then(|token| self.links.get(token)?.source(&remote));
        Some(Transmit { socket, destination: remote, source, ecn, size: buf.len() - start, segment_size })
    }

    /// Wraps the datagrams from `start` for their relay, at most twice.
    fn seal(&mut self, mut to: Resolved, start: usize, buf: &mut Vec<u8>) -> Option<Resolved> {
        for _ in 0..=2 {
            let Route::Relay { server, slot } = to.route else { return Some(to) };
            let outer = self.route_of(&server)?;
            let relay = self.relays.get_mut(&server)?;
            let own_slot = relay.own_slot?;
            let size = to.segment_size.unwrap_or(buf.len() - start);
            relay.link.seal_run(own_slot, slot, size, start, buf);
            to = Resolved {
                route: outer,
                segment_size: to.segment_size.map(|size| size + HEADER_LEN),
                owner: self.remotes.get(&server)?.current,
            };
        }
        None
    }

    /// The best route of the current link to `id`.
    pub(super) fn route_of(&self, id: &Id) -> Option<Route> {
        let token = self.remotes.get(id)?.current?;
        self.links.get(token)?.link.route()
    }
}
