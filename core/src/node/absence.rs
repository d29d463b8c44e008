//! Who is down: servers that are not linked and in no linked server's table C, peers in no directory.

use std::time::Instant;

use super::{Node, Timer, roles::RoleState};
use crate::{Id, Reason};

impl Node {
    /// A link to a server came or went, or a server told of C: notes since when nobody has shown each known server.
    pub(super) fn review_servers(&mut self, now: Instant) {
        let known: Vec<Id> = self.saved.servers.keys().copied().collect();
        for id in known {
            // a suspended node can know nothing of others
            let shown = self.is_suspended() || self.is_linked(&id) || self.is_shown(&id);
            let since = if shown { None } else { Some(self.remote(id).absent_since.unwrap_or(now)) };
            self.remote(id).absent_since = since;
            self.timers
                .set(Timer::Absent(id), since.map(|since| since + self.config.server_grace).filter(|at| *at > now));
        }
    }

    fn is_shown(&self, id: &Id) -> bool {
        match &self.role {
            RoleState::Server(tables) => tables.is_heard_of(id),
            RoleState::Peer(tables) => tables.is_shown(id),
        }
    }

    /// Whether a known server has been away for longer than a restart takes.
    pub(super) fn is_down(&self, now: Instant, id: &Id) -> bool {
        let since = self.remotes.get(id).and_then(|remote| remote.absent_since);
        since.is_some_and(|since| now.saturating_duration_since(since) >= self.config.server_grace)
    }

    /// No directory has that peer any more. A link that seems to live may only not know yet: it is asked.
    pub(super) fn peer_is_down(&mut self, now: Instant, id: Id) {
        if self.is_linked(&id) {
            self.challenge(now, id, None);
        } else {
            self.give_up_on(id);
        }
    }

    /// Whether that peer was there once and is in no directory any more, and not linked.
    pub(super) fn is_peer_down(&self, now: Instant, id: &Id) -> bool {
        matches!(self.role, RoleState::Peer(_)) && self.reachable(now, id) == Err(Reason::Offline)
    }

    /// That Id is down: what was never written to it has failed for certain.
    pub(super) fn give_up_on(&mut self, id: Id) {
        if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
            conversation.fail_unwritten(Reason::Offline);
            self.unwritten.insert(id);
        }
        self.fail_waiting_streams(id, Reason::Offline);
    }
}
