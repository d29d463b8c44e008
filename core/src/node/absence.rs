//! Known servers that are down: not linked, and in no linked server's table C.

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

    /// A known server is down: what was never written to it has failed for certain.
    pub(super) fn server_is_down(&mut self, id: Id) {
        if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
            conversation.fail_unwritten(Reason::Offline);
            self.unwritten.insert(id);
        }
        self.fail_waiting_streams(id, Reason::Offline);
    }
}
