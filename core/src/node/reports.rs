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
    /// The own link to `id` came, changed or went.
    pub(super) fn report_link(&mut self, now: Instant, id: Id) {
        if self.id().is_server() || self.stopping.is_some() {
            return;
        }
        let link = self.remotes.get(&id).and_then(|remote| self.links.get(remote.current?));
        match link.and_then(|entry| entry.link.kind()) {
            Some(kind) => {
                // as many rows fit as links
                let _ = self.reports.table.set(id, kind.into());
            }
            None => {
                self.reports.table.remove(&id);
            }
        }
        self.send_reports(now);
    }

    /// Tells each server what changed of the own links since it was last told.
    pub(super) fn send_reports(&mut self, now: Instant) {
        let RoleState::Peer(tables) = &self.role else { return };
        let LinkReports { table, told } = &mut self.reports;
        let mut messages = Vec::new();
        for server in &self.linked_servers {
            let told = told.entry(*server).or_default();
            if told.version == Some(table.version()) {
                continue;
            }
            let directory = tables.directory(server).filter(|_| !told.by_id);
            let parts = LinkReport::parts(table.update_since(told.version), directory);
            messages.extend(parts.into_iter().map(|part| (*server, Control::Links(part))));
            *told = Told { version: Some(table.version()), by_id: false };
        }
        for (server, message) in messages {
            self.tell(now, server, &message);
        }
    }
}
