//! The server's workflow over the tables: A and E of its own peers, B of the links that they report, C of the servers.

mod demand;
mod watches;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use crate::{
    Config, Id, Incarnation, Name,
    path::PathKind,
    relay::Slot,
    table::{LinkKind, LinkReport, NetworkInfo, PART_BYTES, PeerRow, Publisher, Replica, ServerRow, Version},
    wire::Control,
};
pub(crate) use demand::TooMany;
use watches::Watches;

/// What a remote told does not fit what is known here: it is to tell all anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// How many peers there are in the full mesh, and what they may watch beyond it.
#[derive(Clone, Copy, Debug)]
struct Limits {
    full_mesh: usize,
    full_mesh_again: usize,
    max_watches: usize,
    max_watches_together: usize,
    max_same_name: usize,
}

/// The tables of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerTables {
    own: Id,
    row: ServerRow,
    directory: Publisher<Id, PeerRow>,
    /// The version of E that each client has; `None` before its first snapshot. Empty on demand.
    told: BTreeMap<Id, Option<Version>>,
    on_demand: bool,
    watches: Watches,
    by_name: BTreeSet<(Name, Id)>,
    limits: Limits,
    links: BTreeMap<Id, Replica<Id, LinkKind>>,
    max_peers: usize,
    /// The other servers linked to this one.
    servers: BTreeMap<Id, ServerRow>,
    /// Those of them that no cluster has admitted: they serve no peers.
    waiting: BTreeSet<Id>,
    /// Which servers each of them shows, in order: as a rule all show the same.
    heard_of: BTreeMap<Id, Arc<[Id]>>,
}

impl ServerTables {
    pub(crate) fn new(own: Id, row: ServerRow, epoch: Incarnation, config: &Config) -> Self {
        Self {
            own,
            row,
            directory: Publisher::new(epoch, config.max_peers, config.directory_log),
            told: BTreeMap::new(),
            on_demand: false,
            watches: Watches::default(),
            by_name: BTreeSet::new(),
            limits: Limits {
                full_mesh: config.full_mesh_peers,
                full_mesh_again: config.full_mesh_again.min(config.full_mesh_peers),
                max_watches: config.max_watches,
                max_watches_together: config.max_watches_together,
                max_same_name: config.max_same_name,
            },
            links: BTreeMap::new(),
            max_peers: config.max_peers,
            servers: BTreeMap::new(),
            waiting: BTreeSet::new(),
            heard_of: BTreeMap::new(),
        }
    }

    /// A peer is linked, or its network info changed. Returns whether there was room for its row.
    pub(crate) fn set_client(
        &mut self,
        id: Id,
        name: Name,
        incarnation: Incarnation,
        network: NetworkInfo,
        slot: Slot,
    ) -> bool {
        let old = self.directory.get(&id).map(|row| row.name.clone());
        let before = self.directory.version();
        if self.directory.set(id, PeerRow { name: name.clone(), incarnation, network, slot }).is_err() {
            return false;
        }
        if self.directory.version() != before {
            self.watches.changed(id, [Some(&name), old.as_ref()]);
        }
        if let Some(old) = old.filter(|old| *old != name) {
            self.by_name.remove(&(old, id));
        }
        self.by_name.insert((name, id));
        if !self.on_demand {
            self.told.entry(id).or_insert(None);
        }
        true
    }

    pub(crate) fn client(&self, id: &Id) -> Option<&PeerRow> {
        self.directory.get(id)
    }

    /// The link to a peer is lost.
    pub(crate) fn remove_client(&mut self, id: &Id) {
        if let Some(row) = self.directory.remove(id) {
            self.watches.changed(*id, [Some(&row.name), None]);
            self.by_name.remove(&(row.name, *id));
        }
        self.watches.forget(*id);
        self.told.remove(id);
        self.links.remove(id);
    }

    /// The client's deltas did not fit.
    pub(crate) fn directory_lost(&mut self, client: &Id) {
        if let Some(told) = self.told.get_mut(client) {
            *told = None;
        }
    }

    /// Takes a part of a client's F.
    ///
    /// # Errors
    /// `Lost` if it does not fit what is known here.
    pub(crate) fn report(&mut self, client: Id, report: LinkReport) -> Result<(), Lost> {
        if self.directory.get(&client).is_none() {
            return Ok(());
        }
        let update = report.resolve(&self.directory).map_err(|_| Lost)?;
        let max_peers = self.max_peers;
        let replica = self.links.entry(client).or_insert_with(|| Replica::new(max_peers));
        replica.apply(update).map(drop).map_err(|_| Lost)
    }

    /// What each client lacks of E: a delta where the log reaches back, else a snapshot; on demand the rows that it watches.
    pub(crate) fn updates(&mut self) -> Vec<(Id, Control)> {
        let mut updates = self.review_mode();
        if self.on_demand {
            updates.extend(self.news());
            return updates;
        }
        let version = self.directory.version();
        let mut by_version: BTreeMap<Option<Version>, Vec<Control>> = BTreeMap::new();
        for (id, told) in self.told.iter_mut().filter(|(_, told)| **told != Some(version)) {
            let parts = by_version.entry(*told).or_insert_with(|| {
                self.directory.update_since(*told).parts(PART_BYTES).into_iter().map(Control::Directory).collect()
            });
            updates.extend(parts.iter().map(|part| (*id, part.clone())));
            *told = Some(version);
        }
        updates
    }

    /// Another server is linked, or its row changed. Returns whether C changed.
    pub(crate) fn set_server(&mut self, id: Id, row: ServerRow) -> bool {
        self.servers.insert(id, row.clone()) != Some(row)
    }

    /// A linked server belongs to no cluster yet.
    pub(crate) fn set_waiting(&mut self, id: Id) {
        self.waiting.insert(id);
    }

    /// A linked server belongs to the cluster. Returns whether that is news.
    pub(crate) fn admit_server(&mut self, id: &Id) -> bool {
        self.waiting.remove(id)
    }

    /// The link to another server is lost. Returns whether C changed.
    pub(crate) fn remove_server(&mut self, id: &Id) -> bool {
        self.heard_of.remove(id);
        self.waiting.remove(id);
        self.servers.remove(id).is_some()
    }

    /// What a linked server's own C shows.
    pub(crate) fn hear(&mut self, from: Id, servers: impl Iterator<Item = Id>) {
        let mut shown: Vec<Id> = servers.collect();
        shown.sort_unstable();
        shown.dedup();
        let known = self.heard_of.values().find(|known| known[..] == shown[..]).cloned();
        self.heard_of.insert(from, known.unwrap_or_else(|| shown.into()));
    }

    /// Whether any linked server shows `id`.
    pub(crate) fn is_heard_of(&self, id: &Id) -> bool {
        self.heard_of.values().any(|shown| shown.binary_search(id).is_ok())
    }

    /// The own row changed.
    pub(crate) fn set_row(&mut self, row: ServerRow) {
        self.row = row;
    }

    pub(crate) fn row(&self) -> &ServerRow {
        &self.row
    }

    pub(crate) fn server(&self, id: &Id) -> Option<&ServerRow> {
        self.servers.get(id)
    }

    /// C as told to servers.
    pub(crate) fn servers(&self) -> impl Iterator<Item = (Id, &ServerRow)> {
        [(self.own, &self.row)].into_iter().chain(self.servers.iter().map(|(id, row)| (*id, row)))
    }

    /// C as told to peers.
    pub(crate) fn serving(&self) -> impl Iterator<Item = (Id, &ServerRow)> {
        self.servers().filter(|(id, _)| !self.waiting.contains(id))
    }

    /// Table A.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (&Id, &PeerRow)> {
        self.directory.rows().iter()
    }

    /// The servers to which clients report links.
    pub(crate) fn witnessed_servers(&self) -> BTreeSet<Id> {
        // servers sort behind peers
        let servers = self.links.values().flat_map(|links| links.rows().keys().rev().take_while(|id| id.is_server()));
        servers.copied().collect()
    }

    /// Table B.
    pub(crate) fn reported_links(&self) -> Vec<(Id, Id, PathKind)> {
        let rows =
            self.links.iter().flat_map(|(from, links)| links.rows().iter().map(|(to, kind)| (*from, *to, *kind)));
        rows.map(|(from, to, kind)| (from, to, kind.into())).collect()
    }
}
