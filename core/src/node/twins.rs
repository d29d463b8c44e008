//! Reports of peers that another server shows another run of an Id which is linked here. A server does not believe them: it
//! asks its own link.
//!
//! One of the two runs may be dead and not known to be so. The first report makes the own link prove its life; if it cannot,
//! the link dies of that as of any other silence. Only a second report much later, when a dead run would be gone from both
//! servers, and an own link that answers then, mean that two live. So a report, true or not, closes no link that lives.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{Event, Node, Timer};
use crate::{
    Id,
    table::Bounded,
    wire::{Control, Sighting},
};

/// A link that was asked and does not answer is dead after less.
const APART: Duration = Duration::from_secs(8);
/// A second report later than this is a first one.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How long the own link has to answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Somebody says that another run of a linked Id lives. Ends with the link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Accused {
    since: Instant,
    /// It was said again: when the link was asked, and where the other run is.
    again: Option<(Instant, Option<SocketAddr>)>,
}

impl Node {
    pub(super) fn on_seen_elsewhere(&mut self, now: Instant, sighting: &Sighting) {
        let Sighting { id, incarnation, address } = *sighting;
        if id.is_server() {
            return;
        }
        let Some(token) = self.remotes.get(&id).and_then(|remote| remote.current) else { return };
        let Some(entry) = self.links.get_mut(token) else { return };
        if entry.hello.as_ref().is_none_or(|hello| hello.incarnation == incarnation) {
            return;
        }
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let age = |accused: &Accused| now.saturating_duration_since(accused.since);
        match &mut remote.accused {
            // one alarm for each link
            Some(accused) if accused.again.is_some() || age(accused) < APART => return,
            Some(accused) if age(accused) < REMEMBERED => {
                accused.again = Some((now, address));
                self.timers.set(Timer::Accused(id), Some(now + ANSWER));
            }
            accused => *accused = Some(Box::new(Accused { since: now, again: None })),
        }
        entry.link.challenge(now);
        self.dirty.insert(token);
        self.count("reports of a second run");
    }

    /// The own link has had its time to answer the second report.
    pub(super) fn judge_accused(&mut self, now: Instant, id: Id) {
        let Some(remote) = self.remotes.get_mut(&id) else { return };
        let Some(token) = remote.current else { return };
        let Some((asked, other)) = remote.accused.as_ref().and_then(|accused| accused.again) else { return };
        let Some(entry) = self.links.get(token) else { return };
        if entry.link.last_answer().is_none_or(|at| at < asked) {
            remote.accused = None;
            return;
        }
        let own = entry.link.route().and_then(|route| route.address());
        let addresses: Vec<SocketAddr> = [own, other].into_iter().flatten().collect();
        self.count("duplicate identity");
        self.tell_link(now, token, &Control::Duplicate(Bounded::first(addresses.iter().copied())));
        self.event(Event::DuplicateIdentity { id, addresses });
    }
}
