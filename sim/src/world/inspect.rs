//! What a scenario may look at, by the names of the nodes.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

use p2pcore::{
    Event, Id, StartError,
    master::{Council, Kind, MasterView, MemberInfo, Token},
    node::{Guard, PathKind, PeerStatus, Status},
};

use super::{Progress, Seen, World};
use crate::check::{consensus::Reached, ledger::Counts};

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

    /// The names of the nodes that run.
    pub fn running(&self) -> Vec<String> {
        let running = self.processes.iter().filter(|process| process.run().is_some());
        running.map(|process| process.plan.name.clone()).collect()
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

    /// Who is the Master as a node shows it; `None` while it does not run or knows nothing.
    pub fn master(&self, name: &str) -> Option<MasterView> {
        self.processes[self.number(name)].machine.as_ref()?.master()
    }

    /// The right of a server to act as Master, if it holds by its own clock.
    pub fn guard(&self, name: &str) -> Option<Guard> {
        self.valid_guard(self.number(name))
    }

    /// The token of a node's view of the Master.
    pub fn token(&self, name: &str) -> Option<Token> {
        self.master(name)?.token()
    }

    /// The name of the Master, if all running nodes show one Elected one and it has a valid guard under that token.
    pub fn agreed_master(&self) -> Option<String> {
        let views =
            self.processes.iter().filter_map(|process| process.machine.as_ref()).map(|machine| machine.master());
        let views: BTreeSet<Option<Token>> = views.map(|view| view.and_then(|view| view.token())).collect();
        let token = views.first().copied().flatten().filter(|_| views.len() == 1)?;
        let name = self.name_of(token.id)?;
        (token.kind == Kind::Elected && self.guard(&name)?.token == token).then_some(name)
    }

    /// The committed members as a node knows them, from the oldest on.
    pub fn members(&self, name: &str) -> Vec<MemberInfo> {
        self.status(name).map(|status| status.members).unwrap_or_default()
    }

    /// The names of the voters among them.
    pub fn voters(&self, name: &str) -> Vec<String> {
        let members = self.members(name);
        members.iter().filter(|member| member.is_voter).filter_map(|member| self.name_of(member.id)).collect()
    }

    /// A server's part in the council, to look at.
    pub fn council(&self, name: &str) -> Option<&Council> {
        self.processes[self.number(name)].machine.as_ref()?.council()
    }

    /// What the clock of a node's host shows.
    pub fn clock(&self, name: &str) -> Instant {
        self.instant(self.number(name))
    }

    /// What the consensus came by so far.
    pub fn reached(&self) -> Reached {
        let (refused, strays) = self.resources.counts();
        Reached { refused, strays, ..self.consensus.reached() }
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
