//! What a node keeps of another node beyond any link to it, and the pump between its conversation and its link.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    time::Instant,
};

use bytes::Bytes;

use super::{Node, Output, Timer, messages::Correspondent, twins::Accused};
use crate::{
    Id, Name,
    link::LinkToken,
    message::{Conversation, Violation},
    wire::{CloseCode, Control},
};

/// How much of a lane is read in one piece.
const READ_PIECE: usize = 64 * 1024;

/// Another run of the same Id has been seen: the current link is asked whether it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct Challenger {
    /// Its link, if it has come so far.
    pub(super) link: Option<LinkToken>,
    /// The link that was asked, and when.
    pub(super) asked: LinkToken,
    pub(super) since: Instant,
}

/// Another node.
#[derive(Default)]
pub(super) struct Remote {
    pub(super) name: Name,
    pub(super) current: Option<LinkToken>,
    pub(super) dialling: Option<LinkToken>,
    /// The last link that it began.
    pub(super) greeting: Option<LinkToken>,
    pub(super) challenger: Option<Challenger>,
    pub(super) accused: Option<Box<Accused>>,
    pub(super) last_nonce: Option<[u8; 16]>,
    /// A server that has just heard of this one, as this one of it, and dials first.
    pub(super) is_expected: bool,
    /// Dials since the last link.
    pub(super) attempt: u32,
    pub(super) refusal: Option<CloseCode>,
    /// A known server that is not linked and that no linked server shows: since when.
    pub(super) absent_since: Option<Instant>,
    /// When something of an application last went over the link.
    pub(super) last_used: Option<Instant>,
    /// The other end was asked to close the link for want of use, and has not answered: nothing is written to it.
    pub(super) resting: bool,
    /// A datagram found no link: one is wanted until then.
    pub(super) wanted_until: Option<Instant>,
    pub(super) conversation: Option<Box<Conversation>>,
    /// It stands in the node's list of conversations that have something to say.
    is_noted: bool,
    /// Tells the messages of one conversation from those of the next.
    pub(super) conversation_number: u64,
    /// When the last link ended.
    pub(super) idle_since: Option<Instant>,
    /// Pieces that the link had no room for, by lane.
    pub(super) unwritten: BTreeMap<u8, Bytes>,
    /// Lanes with more to read than the application has taken.
    pub(super) unread: BTreeSet<u8>,
    /// Addresses that the user or a table gave for it.
    pub(super) addresses: Vec<SocketAddr>,
}

impl Remote {
    /// A link is there, or being made.
    pub(super) fn has_link_or_dial(&self) -> bool {
        self.current.or(self.dialling).is_some()
    }

    /// The conversation has something to say. Asked for every message, so the list is looked through for the first alone.
    pub(super) fn note_unwritten(&mut self, id: Id, unwritten: &mut BTreeSet<Id>) {
        if !std::mem::replace(&mut self.is_noted, true) {
            unwritten.insert(id);
        }
    }
}

impl Node {
    pub(super) fn remote(&mut self, id: Id) -> &mut Remote {
        self.remotes.entry(id).or_default()
    }

    /// The conversation with `id`, begun if there is none.
    pub(super) fn conversation(&mut self, now: Instant, id: Id) -> &mut Conversation {
        let (config, rng, count) = (&self.config, &mut self.rng, &mut self.conversations);
        let remote = self.remotes.entry(id).or_default();
        let linked = remote.current.is_some();
        let number = &mut remote.conversation_number;
        remote.conversation.get_or_insert_with(|| {
            *count = count.wrapping_add(1);
            *number = *count;
            let mut conversation = Box::new(Conversation::new(config, rng.bytes()));
            if linked {
                conversation.attach(now);
            }
            conversation
        })
    }

    /// Moves what the conversation wants said to the link, and its events to the application.
    pub(super) fn pump(&mut self, now: Instant, id: Id) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        remote.is_noted = false;
        let Some(conversation) = &mut remote.conversation else { return };
        if remote.current.is_none() {
            self.watching.touch(id);
        }
        if let Some(token) = remote.current.filter(|_| !remote.resting)
            && let Some(entry) = self.links.get_mut(token)
        {
            self.dirty.insert(token);
            while let Some(message) = conversation.poll_control() {
                if entry.link.send_control(Control::Session(message).encode()).is_err() {
                    break;
                }
            }
            for lane in 0..self.config.lanes {
                if let Some(rest) = remote.unwritten.remove(&lane)
                    && let Some(rest) = entry.link.write_lane(now, lane, rest)
                {
                    remote.unwritten.insert(lane, rest);
                    continue;
                }
                while let Some(chunk) = conversation.poll_chunk(now, lane) {
                    remote.last_used = Some(now);
                    if let Some(rest) = entry.link.write_lane(now, lane, chunk) {
                        remote.unwritten.insert(lane, rest);
                        break;
                    }
                }
            }
        }
        self.conversation_events(now, id);
    }

    pub(super) fn conversation_events(&mut self, now: Instant, id: Id) {
        while let Some(remote) = self.remotes.get_mut(&id)
            && let Some(conversation) = remote.conversation.as_mut()
        {
            let Some(mut event) = conversation.poll_event() else {
                self.timers.set(Timer::Conversation(id), conversation.deadline());
                return;
            };
            let from = Correspondent { id, name: remote.name.clone(), conversation: remote.conversation_number };
            // many at once: they are not worth a lookup each
            let rest = loop {
                match from.news(event) {
                    Ok(news) => self.outputs.push_back(Output::Event(news)),
                    Err(rest) => break Some(rest),
                }
                match conversation.poll_event() {
                    Some(next) => event = next,
                    None => break None,
                }
            };
            if let Some(rest) = rest {
                self.on_conversation_event(now, &from, rest);
            }
        }
    }

    pub(super) fn on_lane_writable(&mut self, token: LinkToken, _lane: u8) {
        if let Some(id) = self.links.get(token).and_then(|entry| entry.remote) {
            self.unwritten.insert(id);
        }
    }

    /// Reads a lane as far as the application's backlog allows.
    pub(super) fn on_lane_readable(&mut self, now: Instant, token: LinkToken, lane: u8) {
        let Some(id) = self.links.get(token).and_then(|entry| entry.remote) else { return };
        if self.remotes.get(&id).is_none_or(|remote| remote.current != Some(token)) {
            return;
        }
        if lane >= self.config.lanes {
            return self.violation(now, token);
        }
        self.conversation(now, id);
        self.remote(id).unread.insert(lane);
        self.read_on(now, id);
    }

    /// Reads the lanes that have something, until none may be read: what one brings can make room for another.
    pub(super) fn read_on(&mut self, now: Instant, id: Id) {
        if self.stopping.is_some() {
            return;
        }
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let (Some(token), Some(conversation)) = (remote.current, &mut remote.conversation) else { return };
        let Some(entry) = self.links.get_mut(token) else { return };
        let mut verdict = Ok(());
        while let Some(lane) = remote.unread.iter().find(|lane| conversation.can_receive(**lane)).copied() {
            match entry.link.read_lane(now, lane, READ_PIECE) {
                Some(bytes) => {
                    remote.last_used = Some(now);
                    verdict = conversation.receive(now, lane, bytes);
                }
                None => {
                    remote.unread.remove(&lane);
                }
            }
            if verdict.is_err() {
                break;
            }
        }
        self.dirty.insert(token);
        self.unwritten.insert(id);
        if let Err(violation) = verdict {
            self.broken(now, token, violation);
        }
    }

    pub(super) fn broken(&mut self, now: Instant, token: LinkToken, violation: Violation) {
        tracing::debug!(%violation, "message layer");
        self.violation(now, token);
    }

    /// Past `Config::max_sessions` remotes without a link those idle for longest are forgotten with an eighth more, delivery
    /// state and all; first those with whom nothing was exchanged: Ids are free, and who comes and goes with many is to push
    /// nobody's delivery state out. They are looked for only when the remotes have become an eighth more since the last time.
    pub(super) fn forget_remotes(&mut self, now: Instant) {
        let max = self.config.max_sessions;
        if self.remotes.len() <= max.max(self.remotes_kept + max / 8) {
            return;
        }
        let idle = |id: &Id, remote: &Remote| {
            !remote.has_link_or_dial()
                && remote.challenger.is_none()
                && !self.streams.waits_for(id)
                && remote.conversation.as_ref().is_none_or(|conversation| !conversation.wants_link())
                && !self.saved.servers.contains_key(id)
        };
        let mut by_age: Vec<(bool, Option<Instant>, Id)> = self
            .remotes
            .iter()
            .filter(|(id, remote)| idle(id, remote))
            .map(|(id, remote)| (remote.conversation.is_some(), remote.idle_since, *id))
            .collect();
        by_age.sort_unstable();
        let gone = if by_age.len() > max { by_age.len() - max + max / 8 } else { 0 };
        for (.., id) in by_age.into_iter().take(gone) {
            if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
                conversation.fail_all(crate::Reason::UnknownOutcome);
            }
            self.conversation_events(now, id);
            self.timers.set(Timer::Conversation(id), None);
            self.timers.set(Timer::Dial(id), None);
            self.timers.set(Timer::Idle(id), None);
            self.timers.set(Timer::Interest(id), None);
            self.watching.touch(id);
            self.remotes.remove(&id);
        }
        self.remotes_kept = self.remotes.len();
    }
}
