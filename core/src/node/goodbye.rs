//! The end of a node: a Master hands its office over, then goodbye to all, first through the servers that relay for it, then to
//! all others.

use std::time::{Duration, Instant};

use super::{Event, Node, Timer, links::Entry, remote::Remote};
use crate::{Id, Reason, deadline::Deadlines, link::LinkToken, wire::CloseCode};

/// How long each round of goodbyes may take: a link repeats its own within this time.
const ROUND: Duration = Duration::from_millis(350);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// The office of Master, to whoever takes it; and what the application has said before leaves.
    HandingOver,
    /// Links that go through servers, which must not be left before.
    LeavingRelayed,
    LeavingAll,
    Stopped,
}

impl Node {
    /// Says goodbye to all; [`Event::Stopped`] follows, within about a second: go on driving the node until then. What was
    /// handed, replied and sent before still leaves, as far as congestion control lets it at once; nobody waits for an
    /// acknowledgement. To be sure of a message wait for its outcome. Each message and request that has none by then fails
    /// before [`Event::Stopped`].
    pub fn stop(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        self.now = now;
        self.stopping = Some(Stopping::HandingOver);
        self.timers.set(Timer::NoServer, None);
        self.timers.set(Timer::Stop, Some(now + ROUND));
        // links that stay for the goodbyes of others bring the application nothing more
        self.reset_all_streams();
        self.settle(now);
        self.give_up_office(now);
        self.go_on_stopping(now);
    }

    /// There will be nothing more for a receipt to go with. Says whether there are any.
    fn flush_receipts(&mut self) -> bool {
        let are_owed = |remote: &mut Remote| {
            remote.conversation.as_mut().is_some_and(|conversation| conversation.flush_receipts())
        };
        let owing = self.remotes.iter_mut().filter_map(|(id, remote)| are_owed(remote).then_some(*id));
        let before = self.unwritten.len();
        self.unwritten.extend(owing);
        self.unwritten.len() > before
    }

    /// Nothing of what was said before waits for [`poll_transmit`](Self::poll_transmit).
    fn has_left(&self) -> bool {
        self.ready.is_empty() && self.outgoing.is_empty() && self.unwritten.is_empty() && self.dirty.is_empty()
    }

    /// The office, a link or the last datagram is gone: that may have been the last thing of a round.
    pub(super) fn go_on_stopping(&mut self, now: Instant) {
        let is_done = self.stopping == Some(Stopping::HandingOver) && !self.is_handing_over() && self.has_left();
        // receipts leave with the next datagrams, and this is asked again after those
        if is_done && !self.flush_receipts() {
            return self.goodbye_due(now);
        }
        match self.stopping {
            Some(Stopping::LeavingRelayed) if !self.links.iter().any(|(_, entry)| is_relayed(entry)) => {
                self.goodbye_due(now)
            }
            Some(Stopping::LeavingAll) if self.links.is_empty() => self.goodbye_due(now),
            _ => {}
        }
    }

    /// A round of goodbyes is over.
    pub(super) fn goodbye_due(&mut self, now: Instant) {
        match self.stopping {
            Some(Stopping::HandingOver) => self.leave_links(now, Stopping::LeavingRelayed, is_relayed),
            Some(Stopping::LeavingRelayed) => self.leave_links(now, Stopping::LeavingAll, |_| true),
            Some(Stopping::LeavingAll) => {
                self.stopping = Some(Stopping::Stopped);
                self.fail_all(now);
                self.timers = Deadlines::default();
                self.event(Event::Stopped);
            }
            Some(Stopping::Stopped) | None => {}
        }
    }

    /// Nothing more comes of what is still under way.
    fn fail_all(&mut self, now: Instant) {
        let ids: Vec<Id> = self.remotes.keys().copied().collect();
        for id in ids {
            if let Some(conversation) = self.remotes.get_mut(&id).and_then(|remote| remote.conversation.as_mut()) {
                conversation.fail_all(Reason::Reset);
            }
            self.conversation_events(now, id);
        }
        self.fail_requests();
    }

    fn leave_links(&mut self, now: Instant, round: Stopping, which: impl Fn(&Entry) -> bool) {
        self.stopping = Some(round);
        self.timers.set(Timer::Stop, Some(now + ROUND));
        let tokens: Vec<LinkToken> =
            self.links.iter().filter(|(_, entry)| which(entry)).map(|(token, _)| *token).collect();
        for token in tokens {
            self.close(now, token, CloseCode::Goodbye);
        }
        self.settle(now);
        self.go_on_stopping(now);
    }
}

fn is_relayed(entry: &Entry) -> bool {
    entry.link.route().is_some_and(|route| route.via().is_some())
}
