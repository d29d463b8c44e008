//! The peer's workflow over the tables: C and E from each server, who is online, which links are wanted.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    Config, Id, Name,
    relay::Slot,
    table::{Changes, Delta, PeerRow, Replica, Snapshot},
    wire::{DirectoryPart, ServerEntry},
};

/// How long a peer that a new snapshot lacks may stay away before it is down: after a server's restart the others come
/// back one by one.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(3);

/// What one linked server has told.
#[derive(Clone, Debug, Default)]
struct View {
    slot: Option<Slot>,
    servers: BTreeMap<Id, ServerEntry>,
    directory: Option<Replica<Id, PeerRow>>,
    partial: Vec<DirectoryPart>,
}

/// News from the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerNews {
    Up(Id, Name),
    Down(Id, Name),
    /// Rows of these changed: their candidates may have.
    Changed(Id),
}

/// The deltas of a server do not fit what it told before: ask for a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lost;

/// The tables of a peer.
#[derive(Clone, Debug)]
pub(crate) struct PeerTables {
    own: Id,
    max_peers: usize,
    remember: Duration,
    views: BTreeMap<Id, View>,
    /// The rows of the last server, kept while there is none.
    stale: Option<View>,
    online: BTreeMap<Id, Name>,
    leaving: BTreeMap<Id, Instant>,
    seen: BTreeMap<Id, Instant>,
}

impl PeerTables {
    pub(crate) fn new(own: Id, config: &Config) -> Self {
        Self {
            own,
            max_peers: config.max_peers,
            remember: config.remember_offline,
            views: BTreeMap::new(),
            stale: None,
            online: BTreeMap::new(),
            leaving: BTreeMap::new(),
            seen: BTreeMap::new(),
        }
    }

    /// A link to `server` is up.
    pub(crate) fn server_linked(&mut self, server: Id) {
        self.views.entry(server).or_default();
    }

    /// The link to `server` is lost.
    pub(crate) fn server_lost(&mut self, now: Instant, server: &Id) -> Vec<PeerNews> {
        let Some(view) = self.views.remove(server) else { return Vec::new() };
        let touched = ids_of(&view);
        if self.views.is_empty() {
            self.stale = Some(view);
            return touched.into_iter().map(PeerNews::Changed).collect();
        }
        self.review(now, touched, true)
    }

    pub(crate) fn set_slot(&mut self, server: &Id, slot: Slot) {
        if let Some(view) = self.views.get_mut(server) {
            view.slot = Some(slot);
        }
    }

    /// This node's own slot at a linked server.
    pub(crate) fn own_slot(&self, server: &Id) -> Option<Slot> {
        self.views.get(server)?.slot
    }

    pub(crate) fn set_servers(&mut self, server: &Id, entries: Vec<ServerEntry>) {
        if let Some(view) = self.views.get_mut(server) {
            view.servers = entries.into_iter().map(|entry| (entry.id, entry)).collect();
        }
    }

    /// Table C: the union of what the linked servers told, or the last known while there is none.
    pub(crate) fn servers(&self) -> BTreeMap<Id, &ServerEntry> {
        self.current_views().flat_map(|(_, view)| &view.servers).map(|(id, entry)| (*id, entry)).collect()
    }

    /// Takes a part of E.
    ///
    /// # Errors
    /// `Lost` if it does not continue what that server told before; nothing changed then.
    pub(crate) fn apply(&mut self, now: Instant, server: &Id, part: DirectoryPart) -> Result<Vec<PeerNews>, Lost> {
        let Some(view) = self.views.get_mut(server) else { return Ok(Vec::new()) };
        let max_peers = self.max_peers;
        if part.more {
            let held: usize = view.partial.iter().map(|part| part.set.len()).sum();
            if held > max_peers {
                view.partial.clear();
                return Err(Lost);
            }
            view.partial.push(part);
            return Ok(Vec::new());
        }
        let (epoch, from, to) = (part.epoch, part.from, part.to);
        let mut set = Vec::new();
        let mut removed = Vec::new();
        for piece in std::mem::take(&mut view.partial).into_iter().chain([part]) {
            if (piece.epoch, piece.from, piece.to) != (epoch, from, to) {
                return Err(Lost);
            }
            set.extend(piece.set);
            removed.extend(piece.removed);
        }
        let (changes, whole) = match from {
            None => {
                let replica = view.directory.get_or_insert_with(|| Replica::new(max_peers));
                (replica.apply_snapshot(Snapshot { epoch, version: to, rows: set }).map_err(|_| Lost)?, true)
            }
            Some(from) => {
                let replica = view.directory.as_mut().ok_or(Lost)?;
                (replica.apply_delta(Delta { epoch, from, to, set, removed }).map_err(|_| Lost)?, false)
            }
        };
        let Changes { added, removed, changed } = changes;
        let mut touched: BTreeSet<Id> = added.into_iter().chain(removed).chain(changed).collect();
        if let Some(stale) = self.stale.take() {
            touched.extend(ids_of(&stale));
        }
        Ok(self.review(now, touched, whole))
    }

    /// Recomputes who is online among `touched`; with `grace` an absence counts only after a while.
    fn review(&mut self, now: Instant, touched: BTreeSet<Id>, grace: bool) -> Vec<PeerNews> {
        let mut news = Vec::new();
        for id in touched {
            if id == self.own {
                continue;
            }
            let name = self.row(&id).map(|row| row.name.clone());
            match name {
                Some(name) => {
                    self.leaving.remove(&id);
                    if self.online.insert(id, name.clone()).is_none() {
                        news.push(PeerNews::Up(id, name));
                    }
                    news.push(PeerNews::Changed(id));
                }
                None if !self.online.contains_key(&id) => {}
                None if grace => {
                    self.leaving.entry(id).or_insert(now + SNAPSHOT_GRACE);
                    news.push(PeerNews::Changed(id));
                }
                None => news.extend(self.take_offline(now, id)),
            }
        }
        news
    }

    fn take_offline(&mut self, now: Instant, id: Id) -> Option<PeerNews> {
        self.leaving.remove(&id);
        let name = self.online.remove(&id)?;
        self.seen.insert(id, now);
        if self.seen.len() > self.max_peers {
            let oldest = self.seen.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id);
            oldest.map(|oldest| self.seen.remove(&oldest));
        }
        Some(PeerNews::Down(id, name))
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.leaving.values().min().copied()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<PeerNews> {
        let due: Vec<Id> = self.leaving.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        due.into_iter().filter_map(|id| self.take_offline(now, id)).collect()
    }

    /// The newest row of a peer over all servers' directories.
    pub(crate) fn row(&self, id: &Id) -> Option<&PeerRow> {
        self.current_views().filter_map(|(_, view)| view.directory.as_ref()?.get(id)).max_by_key(|row| row.rank())
    }

    /// The relays that reach a peer: each linked server that has it, and its slot there.
    pub(crate) fn relays(&self, id: &Id) -> Vec<(Id, Slot)> {
        let slot = |view: &View| match id.is_server() {
            true => view.servers.get(id)?.slot,
            false => Some(view.directory.as_ref()?.get(id)?.slot),
        };
        self.views.iter().filter(|(_, view)| view.slot.is_some()).filter_map(|(s, view)| Some((*s, slot(view)?))).collect()
    }

    pub(crate) fn online(&self) -> &BTreeMap<Id, Name> {
        &self.online
    }

    /// Whether an Id that is not online was so not long ago.
    pub(crate) fn was_seen(&self, now: Instant, id: &Id) -> bool {
        self.seen.get(id).is_some_and(|at| now.saturating_duration_since(*at) < self.remember)
    }

    fn current_views(&self) -> impl Iterator<Item = (Option<&Id>, &View)> {
        self.views.iter().map(|(id, view)| (Some(id), view)).chain(self.stale.iter().map(|view| (None, view)))
    }
}

fn ids_of(view: &View) -> BTreeSet<Id> {
    view.directory.iter().flat_map(|directory| directory.iter()).map(|(id, _)| *id).collect()
}
