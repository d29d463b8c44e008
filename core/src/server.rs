//! The server's workflow over the tables: A and E of its own peers, B of the links that they report, C of the servers.

use std::collections::BTreeMap;

use crate::{
    Config, Id, Incarnation, Name,
    path::PathKind,
    relay::Slot,
    table::{LinkReport, LinkTable, NetworkInfo, PeerRow, Publisher, ServerRow},
    wire::{Control, DirectoryPart, MAX_ROWS, ServerEntry},
};

/// A server linked to this one.
#[derive(Clone, Debug)]
struct OtherServer {
    row: ServerRow,
    slot: Option<Slot>,
}

/// The tables of a server.
#[derive(Clone, Debug)]
pub(crate) struct ServerTables {
    own: Id,
    row: ServerRow,
    directory: Publisher<Id, PeerRow>,
    /// The version of E that each client has; `None` before its first snapshot.
    told: BTreeMap<Id, Option<u64>>,
    links: LinkTable,
    servers: BTreeMap<Id, OtherServer>,
}

impl ServerTables {
    pub(crate) fn new(own: Id, row: ServerRow, epoch: Incarnation, config: &Config) -> Self {
        Self {
            own,
            row,
            directory: Publisher::new(epoch, config.max_peers, config.directory_log),
            told: BTreeMap::new(),
            links: LinkTable::new(config.max_peers),
            servers: BTreeMap::new(),
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
        let stored = self.directory.set(id, PeerRow { name, incarnation, network, slot });
        if stored {
            self.told.entry(id).or_insert(None);
        }
        stored
    }

    pub(crate) fn client(&self, id: &Id) -> Option<&PeerRow> {
        self.directory.get(id)
    }

    /// The link to a peer is lost.
    pub(crate) fn remove_client(&mut self, id: &Id) {
        self.directory.remove(id);
        self.told.remove(id);
        self.links.forget(id);
    }

    /// The client's deltas did not fit.
    pub(crate) fn directory_lost(&mut self, client: &Id) {
        if let Some(told) = self.told.get_mut(client) {
            *told = None;
        }
    }

    /// Takes a client's F.
    pub(crate) fn report(&mut self, client: Id, report: LinkReport) {
        self.links.apply(client, report, &self.directory);
    }

    /// Whether some client lacks the newest version of E.
    pub(crate) fn is_behind(&self) -> bool {
        let version = self.directory.version();
        self.told.values().any(|told| *told != Some(version))
    }

    /// What each client lacks of E: a delta where the log reaches back, else a snapshot.
    pub(crate) fn updates(&mut self) -> Vec<(Id, Control)> {
        let version = self.directory.version();
        let behind: Vec<(Id, Option<u64>)> =
            self.told.iter().filter(|(_, told)| **told != Some(version)).map(|(id, told)| (*id, *told)).collect();
        let mut by_version: BTreeMap<Option<u64>, Vec<Control>> = BTreeMap::new();
        let mut updates = Vec::new();
        for (id, told) in behind {
            let parts = by_version.entry(told).or_insert_with(|| directory_parts(&self.directory, told));
            updates.extend(parts.iter().map(|part| (id, part.clone())));
            self.told.insert(id, Some(version));
        }
        updates
    }

    /// Another server is linked, or its row changed. Returns whether C changed.
    pub(crate) fn set_server(&mut self, id: Id, row: ServerRow, slot: Option<Slot>) -> bool {
        let changed = self.servers.get(&id).is_none_or(|known| known.row != row || known.slot != slot);
        self.servers.insert(id, OtherServer { row, slot });
        changed
    }

    /// The link to another server is lost. Returns whether C changed.
    pub(crate) fn remove_server(&mut self, id: &Id) -> bool {
        self.servers.remove(id).is_some()
    }

    /// The own row changed.
    pub(crate) fn set_row(&mut self, row: ServerRow) {
        self.row = row;
    }

    pub(crate) fn row(&self) -> &ServerRow {
        &self.row
    }

    pub(crate) fn server(&self, id: &Id) -> Option<&ServerRow> {
        self.servers.get(id).map(|server| &server.row)
    }

    /// C as told to others.
    pub(crate) fn entries(&self) -> Vec<ServerEntry> {
        let own = ServerEntry { id: self.own, row: self.row.clone(), slot: None };
        let others =
            self.servers.iter().map(|(id, server)| ServerEntry { id: *id, row: server.row.clone(), slot: server.slot });
        [own].into_iter().chain(others).collect()
    }

    /// Table A.
    pub(crate) fn clients(&self) -> impl Iterator<Item = (&Id, &PeerRow)> {
        self.directory.iter()
    }

    /// Table B.
    pub(crate) fn reported_links(&self) -> Vec<(Id, Id, PathKind)> {
        self.links.iter().collect()
    }
}

/// E for a client that has version `told` of it, cut into messages of at most [`MAX_ROWS`] rows.
fn directory_parts(directory: &Publisher<Id, PeerRow>, told: Option<u64>) -> Vec<Control> {
    let epoch = directory.epoch();
    let (from, to, set, removed) = match told.and_then(|version| directory.delta_since(version)) {
        Some(delta) => (Some(delta.from), delta.to, delta.set, delta.removed),
        None => {
            let snapshot = directory.snapshot();
            (None, snapshot.version, snapshot.rows, Vec::new())
        }
    };
    let count = set.len().max(removed.len()).div_ceil(PART_ROWS).max(1);
    let piece = |part: usize| DirectoryPart {
        epoch,
        from,
        to,
        more: part + 1 < count,
        set: set.iter().skip(part * PART_ROWS).take(PART_ROWS).cloned().collect(),
        removed: removed.iter().skip(part * PART_ROWS).take(PART_ROWS).copied().collect(),
    };
    (0..count).map(piece).map(Control::Directory).collect()
}

/// Rows may have many addresses: this many always fit a control message.
const PART_ROWS: usize = MAX_ROWS / 16;
