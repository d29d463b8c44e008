//! What a scenario may look at, by the names of the nodes.

use std::time::Duration;

use p2pcore::{
    Event, Id, StartError,
    node::{PathKind, PeerStatus, Status},
};

use super::{Progress, Seen, World};
use crate::check::ledger::Counts;

impl World {
    /// The Id of a node, whether it runs or not.
    #[track_caller]
    pub fn id(&self, name: &str) -> Id {
        self.id_of(self.number(name))
    }

    /// The tables of a node; `None` while it does not run.
    pub fn status(&self, name: &str) -> Option<Status> {
        self.processes[self.number(name)].machine.as_ref().map(|machine| machine.status())
    }

    /// Whether a node runs.
    pub fn is_running(&self, name: &str) -> bool {
        self.current(name).is_some()
    }

    /// Why a node's last start failed.
    pub fn start_error(&self, name: &str) -> Option<&StartError> {
        self.processes[self.number(name)].start_error.as_ref()
    }

    /// Whether `one` says that it has a link to `other`.
    pub fn linked(&self, one: &str, other: &str) -> bool {
        let other = self.id(other);
        self.status(one).is_some_and(|status| {
            status.peers.iter().any(|peer| peer.info.id == other && peer.linked)
                || status.servers.iter().any(|server| server.id == other && server.linked)
        })
    }

    /// How many links `name` has to peers and servers.
    pub fn links(&self, name: &str) -> usize {
        self.status(name).map_or(0, |status| {
            status.peers.iter().filter(|peer| peer.linked).count()
                + status.servers.iter().filter(|server| server.linked).count()
        })
    }

    /// The kind of path from one peer to another.
    pub fn kind(&self, one: &str, other: &str) -> Option<PathKind> {
        self.peer(one, other)?.kind
    }

    /// The name of the server that relays between two peers, as `one` sees it.
    pub fn via(&self, one: &str, other: &str) -> Option<String> {
        let via = self.peer(one, other)?.via?;
        self.processes.iter().find(|process| process.id() == via).map(|process| process.plan.name.clone())
    }

    /// Whether a peer is linked to no server, as it says itself.
    pub fn suspended(&self, name: &str) -> bool {
        self.status(name).is_some_and(|status| status.suspended)
    }

    /// Whether every node has been started, all running ones are linked, and every table is the truth.
    pub fn converged(&self) -> bool {
        self.processes.iter().all(|process| process.was_started())
            && crate::check::convergence::differences(&self.statuses()).is_empty()
    }

    /// What a node told its application, apart from messages and outcomes; over all its runs.
    pub fn seen(&self, name: &str) -> &[Seen] {
        &self.processes[self.number(name)].seen
    }

    /// When a node first told its application something like this at or after `since`.
    pub fn seen_at(&self, name: &str, since: Duration, mut like: impl FnMut(&Event) -> bool) -> Option<Duration> {
        self.seen(name).iter().find(|seen| seen.at >= since && like(&seen.event)).map(|seen| seen.at)
    }

    /// A counter of a node; 0 if there is none of that name.
    pub fn counter(&self, name: &str, counter: &str) -> u64 {
        self.status(name).and_then(|status| status.counters.get(counter).copied()).unwrap_or(0)
    }

    /// How far a stream has come.
    pub fn progress(&self, stream: u64) -> Progress {
        self.streams.progress(stream).cloned().unwrap_or_default()
    }

    /// The messages of all nodes so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    /// How many bytes went to hosts without the key.
    pub fn answered_to_strangers(&self) -> u64 {
        self.strangers.answered()
    }

    fn peer(&self, one: &str, other: &str) -> Option<PeerStatus> {
        let other = self.id(other);
        self.status(one)?.peers.into_iter().find(|peer| peer.info.id == other)
    }
}
