//! The peer's workflow over the tables: C and E from each server, who is online, which links are wanted.

mod demand;
mod twins;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use crate::{
    Config, Id, Name,
    relay::Slot,
    table::{Changes, PeerRow, Refused, Replica, ServerRow, Update, newest},
    wire::Sighting,
};
use demand::{Answers, Asked};
use twins::{Runs, Twins};

/// How long a peer that a new snapshot lacks may stay away before it is down: after a server's restart the others come
/// back one by one.
const SNAPSHOT_GRACE: Duration = Duration::from_secs(3);

/// What one linked server has told.
#[derive(Clone, Debug)]
struct View {
    servers: BTreeMap<Id, ServerRow>,
    directory: Replica<Id, PeerRow>,
    /// It shows rows on demand: what it has told of those asked for. The directory is void then.
    demand: Option<Answers>,
}

impl View {
    fn get(&self, id: &Id) -> Option<&PeerRow> {
        match &self.demand {
            Some(answers) => answers.get(id),
            None => self.directory.get(id),
        }
    }

    /// Whether that server has said whether it has `id`.
    fn has_said(&self, id: &Id) -> bool {
        match &self.demand {
            Some(answers) => answers.has_answered(id),
            None => self.directory.version().is_some(),
        }
    }

    fn ids(&self) -> BTreeSet<Id> {
        match &self.demand {
            Some(answers) => answers.ids().collect(),
            None => self.directory.rows().keys().copied().collect(),
        }
    }
}

/// News from the tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PeerNews {
    Up(Id, Name),
    Down(Id, Name),
    /// Rows of these changed: their candidates may have.
    Changed(Id),
    /// To be told to a server: another one shows another run of a peer than it does.
    SeenElsewhere(Id, Sighting),
}

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
    /// What servers on demand are asked for.
    asked: Asked,
    seen: BTreeMap<Id, Instant>,
    twins: Twins,
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
            asked: Asked::new(config.max_watches),
            seen: BTreeMap::new(),
            twins: Twins::default(),
        }
    }

    /// A link to `server` is up.
    pub(crate) fn server_linked(&mut self, server: Id) {
        let max_peers = self.max_peers;
        let fresh = || View { servers: BTreeMap::new(), directory: Replica::new(max_peers), demand: None };
        self.views.entry(server).or_insert_with(fresh);
    }

    /// The link to `server` is lost.
    pub(crate) fn server_lost(&mut self, now: Instant, server: &Id) -> Vec<PeerNews> {
        let Some(view) = self.views.remove(server) else { return Vec::new() };
        let touched = view.ids();
        if self.views.is_empty() {
            // a view that never told anything knows less than the one before it
            if view.directory.version().is_some() || view.demand.is_some() || self.stale.is_none() {
                self.stale = Some(view);
            }
            touched.iter().for_each(|id| self.twins.see(now, *id, None));
            return touched.into_iter().map(PeerNews::Changed).collect();
        }
        self.review(now, touched, true)
    }

    pub(crate) fn set_servers(&mut self, server: &Id, rows: impl IntoIterator<Item = (Id, ServerRow)>) {
        if let Some(view) = self.views.get_mut(server) {
            view.servers = rows.into_iter().collect();
        }
    }

    /// Table C: the union of what the linked servers told, or the last known while there is none.
    pub(crate) fn servers(&self) -> BTreeMap<Id, &ServerRow> {
        self.current_views().flat_map(|view| &view.servers).map(|(id, row)| (*id, row)).collect()
    }

    /// Whether any linked server shows the server `id`.
    pub(crate) fn is_shown(&self, id: &Id) -> bool {
        self.views.values().any(|view| view.servers.contains_key(id))
    }

    /// Takes a part of E.
    ///
    /// # Errors
    /// Nothing changed then: as [`Replica::apply`].
    pub(crate) fn apply(
        &mut self,
        now: Instant,
        server: &Id,
        update: Update<Id, PeerRow>,
    ) -> Result<Vec<PeerNews>, Refused> {
        let Some(view) = self.views.get_mut(server) else { return Ok(Vec::new()) };
        let whole = matches!(&update, Update::Snapshot(snapshot) if !snapshot.more);
        let Changes { added, removed, changed } = view.directory.apply(update)?;
        let gone = removed.into_iter().map(|(id, _)| id);
        let mut touched: BTreeSet<Id> = added.into_iter().chain(gone).chain(changed).collect();
        if whole && let Some(answers) = view.demand.take() {
            touched.extend(answers.ids());
        }
        if whole && let Some(stale) = self.stale.take() {
            touched.extend(stale.ids());
            touched.extend(self.online.keys());
        }
        Ok(self.review(now, touched, whole))
    }

    /// The directory of a linked server that shows all of it.
    pub(crate) fn directory(&self, server: &Id) -> Option<&Replica<Id, PeerRow>> {
        self.views.get(server).filter(|view| view.demand.is_none()).map(|view| &view.directory)
    }

    /// Whether a linked server has not said yet whether it has `id`, or was not asked.
    pub(crate) fn awaits(&self, id: &Id) -> bool {
        self.views.values().any(|view| !view.has_said(id))
    }

    /// Recomputes who is online among `touched`; with `grace` an absence counts only after a while.
    fn review(&mut self, now: Instant, touched: BTreeSet<Id>, grace: bool) -> Vec<PeerNews> {
        let mut news = Vec::new();
        for id in touched {
            if id == self.own {
                continue;
            }
            self.twins.see(now, id, self.runs(&id));
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
        let name = self.lose_sight(now, id)?;
        Some(PeerNews::Down(id, name))
    }

    /// Nothing is shown of `id` any more. Returns its name if it was online.
    fn lose_sight(&mut self, now: Instant, id: Id) -> Option<Name> {
        self.leaving.remove(&id);
        self.twins.forget(&id);
        let name = self.online.remove(&id)?;
        self.seen.insert(id, now);
        if self.seen.len() > self.max_peers {
            let oldest = self.seen.iter().min_by_key(|(_, at)| **at).map(|(id, _)| *id);
            oldest.map(|oldest| self.seen.remove(&oldest));
        }
        Some(name)
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.leaving.values().min().copied().into_iter().chain(self.twins.deadline()).min()
    }

    pub(crate) fn handle_timeout(&mut self, now: Instant) -> Vec<PeerNews> {
        let due: Vec<Id> = self.leaving.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        let mut news: Vec<PeerNews> = due.into_iter().filter_map(|id| self.take_offline(now, id)).collect();
        while let Some(id) = self.twins.pop_due(now) {
            news.extend(self.sightings(&id));
        }
        news
    }

    /// The newest two runs of `id` that the linked servers show, if there are two.
    fn runs(&self, id: &Id) -> Option<Runs> {
        let shown = || self.views.values().filter_map(|view| Some(view.get(id)?.incarnation));
        let newest = shown().max()?;
        Some((shown().filter(|run| *run != newest).max()?, newest))
    }

    /// What each server that shows one of the two runs of `id` is to be told of the other.
    fn sightings(&self, id: &Id) -> Vec<PeerNews> {
        let Some((older, newer)) = self.runs(id) else { return Vec::new() };
        let rows = || self.views.iter().filter_map(|(server, view)| Some((server, view.get(id)?)));
        let other = |run| {
            let incarnation = if run == newer { older } else { newer };
            let row = rows().find(|(_, row)| row.incarnation == incarnation)?.1;
            Some(Sighting { id: *id, incarnation, address: row.network.any_address() })
        };
        rows().filter_map(|(server, row)| Some(PeerNews::SeenElsewhere(*server, other(row.incarnation)?))).collect()
    }

    /// The newest row of a peer over all servers' directories.
    pub(crate) fn row(&self, id: &Id) -> Option<&PeerRow> {
        newest(self.current_views().filter_map(|view| view.get(id)))
    }

    /// The relays that reach a node: each linked server that has it, and its slot there.
    pub(crate) fn relays(&self, id: &Id) -> Vec<(Id, Slot)> {
        let slot = |view: &View| match id.is_server() {
            true => view.servers.get(id)?.slot,
            false => Some(view.get(id)?.slot),
        };
        self.views.iter().filter_map(|(server, view)| Some((*server, slot(view)?))).collect()
    }

    pub(crate) fn online(&self) -> &BTreeMap<Id, Name> {
        &self.online
    }

    /// Whether an Id that is not online was so not long ago.
    pub(crate) fn was_seen(&self, now: Instant, id: &Id) -> bool {
        self.seen.get(id).is_some_and(|at| now.saturating_duration_since(*at) < self.remember)
    }

    fn current_views(&self) -> impl Iterator<Item = &View> {
        self.views.values().chain(&self.stale)
    }
}
