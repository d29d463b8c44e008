//! F: what a peer reports of its own links, as deltas to each server.

use std::{collections::BTreeMap, time::Instant};

use super::{Node, roles::RoleState};
use crate::{
    Id, Incarnation,
    table::{LinkKind, LinkReport, Publisher, Version},
    wire::Control,
};

/// The own links, and what each server has been told of them.
#[derive(Debug)]
pub(super) struct LinkReports {
    table: Publisher<Id, LinkKind>,
    told: BTreeMap<Id, Told>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Told {
    version: Option<Version>,
    /// The server lost track: the next report names all links by Id.
    by_id: bool,
}

impl LinkReports {
    pub(super) fn new(run: Incarnation, max_links: usize, log: usize) -> Self {
        Self { table: Publisher::new(run, max_links, log), told: BTreeMap::new() }
    }

    /// The server has a new link to this node and knows nothing.
    pub(super) fn forget(&mut self, server: &Id) {
        self.told.remove(server);
    }

    /// The server could not follow.
    pub(super) fn lost(&mut self, server: &Id) {
        self.told.insert(*server, Told { version: None, by_id: true });
    }
}

impl Node {
    /// Tells each server what changed of the own links since it was last told.
    pub(super) fn report_links(&mut self, now: Instant) {
        let RoleState::Peer(tables) = &self.role else { return };
        let mut links: BTreeMap<Id, LinkKind> = BTreeMap::new();
        for (id, remote) in &self.remotes {
            let link = remote.current.and_then(|token| self.links.get(token));
            if let Some(kind) = link.and_then(|entry| entry.link.kind()) {
                links.insert(*id, kind.into());
            }
        }
        let table = &mut self.reports.table;
        let gone: Vec<Id> = table.rows().keys().filter(|id| !links.contains_key(id)).copied().collect();
        for id in gone {
            table.remove(&id);
        }
        for (id, kind) in links {
            // as many rows fit as links
            let _ = table.set(id, kind);
        }
        let version = table.version();
        let mut messages = Vec::new();
        for server in self.remotes.iter().filter(|(id, r)| id.is_server() && r.current.is_some()).map(|(id, _)| *id) {
            let told = self.reports.told.entry(server).or_default();
            if told.version == Some(version) {
                continue;
            }
            let directory = tables.directory(&server).filter(|_| !told.by_id);
            let update = self.reports.table.update_since(told.version);
            messages
                .extend(LinkReport::parts(update, directory).into_iter().map(|part| (server, Control::Links(part))));
            *told = Told { version: Some(version), by_id: false };
        }
        for (server, message) in messages {
            self.tell(now, server, &message);
        }
    }
}
