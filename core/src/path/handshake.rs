//! Before the link is up: which routes are raced, and who is kept when there are too many.

use std::{cmp::Reverse, fmt::Debug, time::Instant};

use super::{PathKind, PathSet};

/// Routes that get a copy of each handshake datagram.
const MAX_RACED: usize = 8;
/// So many relayed candidates always find a place among the others: they carry the first message.
const RELAYED_PLACES: usize = 2;

impl<R: Copy + Ord + Debug> PathSet<R> {
    /// Where each handshake datagram goes, at most 8 routes: all of them, or the one on which an authentic packet came within
    /// the longest silence of `Config::doubt`. Ask [`may_send`](Self::may_send) for each.
    pub fn handshake_routes(&self, now: Instant) -> Vec<R> {
        let heard = self.handshake_heard.filter(|(_, at)| now <= *at + self.settings.doubt.1);
        if let Some(candidate) = heard.and_then(|(id, _)| self.candidates.iter().find(|candidate| candidate.id == id)) {
            return vec![candidate.route];
        }
        let mut order: Vec<_> = self.candidates.iter().collect();
        order.sort_unstable_by_key(|candidate| {
            let heard = self.handshake_heard.is_some_and(|(id, _)| id == candidate.id);
            (!heard, candidate.heard.is_none(), candidate.kind, candidate.added)
        });
        let relayed = order.iter().filter(|candidate| candidate.kind == PathKind::Relayed).count();
        let mut places = MAX_RACED.saturating_sub(relayed.min(RELAYED_PLACES));
        order.retain(|candidate| {
            let relayed = candidate.kind == PathKind::Relayed;
            let place = relayed || places > 0;
            places = places.saturating_sub(usize::from(!relayed));
            place
        });
        order.truncate(MAX_RACED);
        order.into_iter().map(|candidate| candidate.route).collect()
    }

    /// Anybody can make up the source of a datagram: during the handshake such routes push nothing out.
    pub(super) fn has_room_in_handshake(&self) -> bool {
        let learned = self.candidates.iter().filter(|candidate| !candidate.listed).count();
        learned < MAX_RACED && self.candidates.len() < self.settings.max_candidates
    }

    /// Drops a candidate that is worse than a newcomer, if there is no place; `false` if there is no such one.
    pub(super) fn make_room(&mut self, kind: PathKind, listed: bool) -> bool {
        if self.candidates.len() < self.settings.max_candidates {
            return true;
        }
        let relayed = self.candidates.iter().filter(|candidate| candidate.kind == PathKind::Relayed).count();
        let wanted = kind == PathKind::Relayed && relayed < RELAYED_PLACES;
        let in_use = |id| self.active == Some(id) || self.handshake_heard.is_some_and(|(heard, _)| heard == id);
        let victim = self
            .candidates
            .iter()
            .filter(|candidate| !in_use(candidate.id) && !candidate.is_proven())
            .filter(|candidate| candidate.kind != PathKind::Relayed || relayed > RELAYED_PLACES)
            .filter(|candidate| {
                !candidate.listed || candidate.is_tired() || listed && (wanted || candidate.kind > kind)
            })
            .max_by_key(|candidate| (!candidate.listed, candidate.is_tired(), candidate.kind, Reverse(candidate.added)))
            .map(|candidate| candidate.id);
        self.candidates.retain(|candidate| Some(candidate.id) != victim);
        victim.is_some()
    }
}
