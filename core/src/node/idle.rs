//! On demand: links between peers that nobody uses are ended, in agreement and with nothing under way on them.

use std::time::Instant;

use super::{Node, Timer, roles::RoleState};
use crate::{
    Id,
    link::LinkToken,
    wire::{CloseCode, Control},
};

impl Node {
    /// The link to `id` may be ended once it has been idle for long.
    pub(super) fn watch_idle(&mut self, now: Instant, id: Id) {
        if !id.is_server() && self.is_on_demand() {
            self.timers.set(Timer::Idle(id), Some(now + self.config.idle_link));
        }
    }

    /// Something of an application went over the link to `id`, or came.
    pub(super) fn note_use(&mut self, now: Instant, id: &Id) {
        if let Some(remote) = self.remotes.get_mut(id) {
            remote.last_used = Some(now);
        }
    }

    /// The link to `id` has had its time: if nobody has used it, the other end is asked to close it.
    pub(super) fn idle_due(&mut self, now: Instant, id: Id) {
        let Some(remote) = self.remotes.get(&id) else { return };
        let (Some(token), false) = (remote.current, remote.resting) else { return };
        if !self.is_on_demand() {
            return;
        }
        let due = remote.last_used.map(|used| used + self.config.idle_link);
        if let Some(due) = due.filter(|due| *due > now) {
            return self.timers.set(Timer::Idle(id), Some(due));
        }
        if !self.needs_no_link(&id, token) {
            return self.watch_idle(now, id);
        }
        // from here until the answer nothing is written, so that the close can cut off nothing
        self.remote(id).resting = true;
        self.tell(now, id, &Control::Idle);
    }

    /// The other end does not need the link and writes nothing more: it closes here, or goes on.
    pub(super) fn on_idle(&mut self, now: Instant, token: LinkToken, id: Id) {
        if !self.id().is_server() && self.is_on_demand() && self.needs_no_link(&id, token) {
            self.count("idle links closed");
            self.close(now, token, CloseCode::Idle);
        } else {
            self.tell(now, id, &Control::Busy);
        }
    }

    /// The other end needs the link: what waited here goes on.
    pub(super) fn on_busy(&mut self, now: Instant, token: LinkToken, id: Id) {
        let Some(remote) = self.remotes.get_mut(&id).filter(|remote| remote.resting) else { return };
        remote.resting = false;
        self.watch_idle(now, id);
        self.unwritten.insert(id);
        self.open_waiting_streams(now, token, id);
    }

    fn is_on_demand(&self) -> bool {
        matches!(&self.role, RoleState::Peer(tables) if tables.is_on_demand())
    }

    /// Whether nothing is queued, in flight, open, asked or owed between this node and `id`.
    fn needs_no_link(&self, id: &Id, token: LinkToken) -> bool {
        let Some(remote) = self.remotes.get(id) else { return false };
        remote.conversation.as_ref().is_none_or(|conversation| conversation.is_idle())
            && remote.unwritten.is_empty()
            && remote.unread.is_empty()
            && remote.challenger.is_none()
            && remote.wanted_until.is_none_or(|until| until <= self.now)
            && self.links.get(token).is_some_and(|entry| !entry.link.has_streams())
            && !self.streams.is_used(token)
            && !self.streams.waits_for(id)
            && !self.messages.is_pending(id)
    }
}
