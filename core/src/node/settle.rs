//! Which of two links to one Id stays, and who of two holders of one key.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    Event, Node, Timer,
    links::{Entry, Phase},
    remote::Challenger,
};
use crate::{
    Id,
    link::LinkToken,
    table::Bounded,
    wire::{CloseCode, Control},
};

/// How long an old link has to answer before a newcomer of another run takes its place; three round trips if that is longer.
const CHALLENGE: Duration = Duration::from_millis(1000);
/// The most of that: so long a link lives at least that hears nothing.
const MAX_CHALLENGE: Duration = Duration::from_secs(5);
/// How long a refused link stays, so that it hears why.
const LINGER: Duration = Duration::from_millis(500);

impl Node {
    /// The link has greeted: it becomes the current one to its Id, or it is settled with that one.
    pub(super) fn settle_with_current(&mut self, now: Instant, token: LinkToken, id: Id) {
        let own = self.id();
        let Some(entry) = self.links.get(token) else { return };
        let Some((incarnation, last_link)) = entry.hello.as_ref().map(|hello| (hello.incarnation, hello.last_link))
        else {
            return;
        };
        let begun = |entry: &Entry| if entry.is_inbound() { id } else { own };
        let (new_by, new_dial) = (begun(entry), entry.dial);
        let Some(current) = self.remote(id).current else {
            return self.admit(now, token, id);
        };
        let Some(old) = self.links.get_mut(current) else { return self.admit(now, token, id) };
        let same_run = old.hello.as_ref().is_some_and(|hello| hello.incarnation == incarnation);
        if !same_run {
            return self.challenge(now, id, Some(token));
        }
        let named_as_lost = new_by == id && last_link == Some(old.nonce);
        let newer_stays = match begun(old) {
            old_by if old_by == new_by => new_dial > old.dial,
            _ => new_by == own.min(id),
        };
        if named_as_lost || newer_stays {
            self.replace(now, token, id);
        } else {
            self.close(now, token, CloseCode::Superseded);
        }
    }

    /// Both ends dial at once: whether this link, established just now, is to go because the other one greets already. Only the
    /// lower Id says so, before it has greeted, so the link was current nowhere and nothing was written to it.
    pub(super) fn is_late(&mut self, token: LinkToken, id: Id) -> bool {
        if id < self.id() {
            return false;
        }
        let Some(entry) = self.links.get(token) else { return false };
        let other = match (self.remotes.get(&id), entry.is_inbound()) {
            (Some(remote), true) => remote.dialling,
            (Some(remote), false) => remote.greeting,
            (None, _) => None,
        };
        let greets = |token| self.links.get(token).is_some_and(|entry| entry.phase == Phase::Greeting);
        let is_late = other.is_some_and(greets);
        if entry.is_inbound() && !is_late {
            self.remote(id).greeting = Some(token);
        }
        is_late
    }

    /// A link that the other end began was admitted: an own dial that is not established yet is established nowhere.
    pub(super) fn drop_late_dial(&mut self, now: Instant, id: Id) {
        let dialling = self.remotes.get(&id).and_then(|remote| remote.dialling);
        if let Some(token) = dialling
            && self.id() < id
            && self.links.get(token).is_some_and(|entry| entry.phase == Phase::Handshake)
        {
            self.close(now, token, CloseCode::Superseded);
        }
    }

    /// The other end has seen two holders of this node's key; once for each link.
    pub(super) fn on_duplicate(&mut self, token: LinkToken, addresses: Vec<SocketAddr>) {
        let own = self.id();
        let Some(entry) = self.links.get_mut(token) else { return };
        if !std::mem::replace(&mut entry.told_duplicate, true) {
            self.event(Event::DuplicateIdentity { id: own, addresses });
        }
    }

    /// Asks the current link to `id` whether it lives: another run of that Id has been seen, perhaps by a link of its own.
    pub(super) fn challenge(&mut self, now: Instant, id: Id, newcomer: Option<LinkToken>) {
        let Some(current) = self.remotes.get(&id).and_then(|remote| remote.current) else { return };
        let Some(old) = self.links.get_mut(current) else { return };
        old.link.challenge(now);
        let patience = old.link.rtt().unwrap_or_default().saturating_mul(3).clamp(CHALLENGE, MAX_CHALLENGE);
        self.dirty.insert(current);
        let running = self.remote(id).challenger;
        if let (Some(running), None) = (running, newcomer) {
            tracing::trace!(?running, "challenged already");
            return;
        }
        if let Some(rival) = running.and_then(|running| running.link) {
            self.close(now, rival, CloseCode::Superseded);
        }
        self.remote(id).challenger = Some(Challenger { link: newcomer, asked: current, since: now });
        if let Some(entry) = newcomer.and_then(|token| self.links.get_mut(token)) {
            entry.phase = Phase::Challenging;
        }
        self.timers.set(Timer::Challenge(id), Some(now + patience));
    }

    /// The old link has had its time: if it answered, the newcomer is a duplicate; else it takes the place.
    pub(super) fn judge_challenge(&mut self, now: Instant, id: Id) {
        let challenger = self.remotes.get_mut(&id).and_then(|remote| remote.challenger.take());
        let Some(Challenger { link: newcomer, asked, since }) = challenger else { return };
        let newcomer = newcomer.filter(|token| self.is_challenging(*token));
        let current = self.remotes.get(&id).and_then(|remote| remote.current);
        if newcomer.is_some() && current.is_some_and(|current| current != asked) {
            // another link took the place meanwhile: it is asked in its turn
            return self.challenge(now, id, newcomer);
        }
        let answered = |entry: &Entry| entry.link.last_answer().is_some_and(|at| at >= since);
        let old = current.and_then(|token| Some((token, answered(self.links.get(token)?))));
        match (old, newcomer) {
            (Some((old, true)), Some(newcomer)) => self.refuse_duplicate(now, id, old, newcomer),
            (Some((_, true)), None) | (None, None) => {}
            (Some((_, false)), Some(newcomer)) => self.replace(now, newcomer, id),
            (Some((old, false)), None) => self.close(now, old, CloseCode::Superseded),
            (None, Some(newcomer)) => self.admit(now, newcomer, id),
        }
    }

    pub(super) fn is_challenging(&self, token: LinkToken) -> bool {
        self.links.get(token).is_some_and(|entry| entry.phase == Phase::Challenging)
    }

    /// Both runs live: both are told, and the newcomer has to go.
    fn refuse_duplicate(&mut self, now: Instant, id: Id, old: LinkToken, newcomer: LinkToken) {
        let address = |token| self.links.get(token).and_then(|entry| entry.link.route()?.address());
        let addresses: Vec<SocketAddr> = [address(old), address(newcomer)].into_iter().flatten().collect();
        self.count("duplicate identity");
        let told = Control::Duplicate(Bounded::first(addresses.iter().copied()));
        // the word of a peer counts for nothing
        if self.id().is_server() {
            self.tell_link(now, old, &told);
            self.tell_link(now, newcomer, &told);
        }
        // a close would overtake what was just said
        if let Some(entry) = self.links.get_mut(newcomer) {
            entry.phase = Phase::Refused;
        }
        self.timers.set(Timer::Refused(newcomer), Some(now + LINGER));
        self.event(Event::DuplicateIdentity { id, addresses });
    }

    /// The newcomer takes the place of the current link.
    fn replace(&mut self, now: Instant, token: LinkToken, id: Id) {
        if let Some(old) = self.remote(id).current {
            self.replacing = Some((id, old));
            self.unlink(now, old, id);
            self.close(now, old, CloseCode::Superseded);
        }
        self.admit(now, token, id);
        self.replacing = None;
        self.settle_awaited(now);
    }
}
