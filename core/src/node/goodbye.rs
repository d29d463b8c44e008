//! The end of a node: goodbye to all, first through the servers that relay for it, then to all others.

use std::time::{Duration, Instant};

use super::{Event, Node, Timer, links::Entry};
use crate::{deadline::Deadlines, link::LinkToken, wire::CloseCode};

/// How long each round of goodbyes may take: a link repeats its own within this time.
const ROUND: Duration = Duration::from_millis(350);

/// How far the end has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stopping {
    /// Links that go through servers, which must not be left before.
    LeavingRelayed,
    LeavingAll,
    Stopped,
}

impl Node {
    /// Says goodbye to all; [`Event::Stopped`] follows.
    pub fn stop(&mut self, now: Instant) {
        if self.stopping.is_some() {
            return;
        }
        self.now = now;
        self.stopping = Some(Stopping::LeavingRelayed);
        self.timers.set(Timer::NoServer, None);
        self.timers.set(Timer::Stop, Some(now + ROUND));
        // links that stay for the goodbyes of others bring the application nothing more
        self.reset_all_streams();
        self.close_links(now, is_relayed);
        self.settle(now);
        self.go_on_stopping(now);
    }

    /// A link is gone: that may have been the last one of a round.
    pub(super) fn go_on_stopping(&mut self, now: Instant) {
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
            Some(Stopping::LeavingRelayed) => {
                self.stopping = Some(Stopping::LeavingAll);
                self.timers.set(Timer::Stop, Some(now + ROUND));
                self.close_links(now, |_| true);
                self.settle(now);
                self.go_on_stopping(now);
            }
            Some(Stopping::LeavingAll) => {
                self.stopping = Some(Stopping::Stopped);
                self.timers = Deadlines::default();
                self.event(Event::Stopped);
            }
            Some(Stopping::Stopped) | None => {}
        }
    }

    fn close_links(&mut self, now: Instant, which: impl Fn(&Entry) -> bool) {
        let tokens: Vec<LinkToken> =
            self.links.iter().filter(|(_, entry)| which(entry)).map(|(token, _)| *token).collect();
        for token in tokens {
            self.close(now, token, CloseCode::Goodbye);
        }
    }
}

fn is_relayed(entry: &Entry) -> bool {
    entry.link.route().is_some_and(|route| route.via().is_some())
}
