//! Servers that show rows on demand: what is asked of them, and what they have answered.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use super::{PeerNews, PeerTables, View};
use crate::{
    Id, Name,
    table::{PeerRow, Refused},
    wire::Rows,
};

/// The Ids and names whose rows this peer wants.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    ids: BTreeSet<Id>,
    names: BTreeSet<Name>,
    max: usize,
}

impl Asked {
    pub(super) fn new(max: usize) -> Self {
        Self { ids: BTreeSet::new(), names: BTreeSet::new(), max }
    }

    fn covers(&self, id: &Id, row: Option<&PeerRow>) -> bool {
        self.ids.contains(id) || row.is_some_and(|row| self.names.contains(&row.name))
    }
}

/// What one server on demand has told.
#[derive(Clone, Debug)]
pub(super) struct Answers {
    /// What it takes of Ids and names together.
    max: usize,
    rows: BTreeMap<Id, Answer>,
    /// Names of which all rows have been told.
    names: BTreeSet<Name>,
}

#[derive(Clone, Debug)]
struct Answer {
    row: Option<PeerRow>,
    /// It has been told since it was asked for; else it is what was known before.
    is_current: bool,
}

impl Answers {
    pub(super) fn get(&self, id: &Id) -> Option<&PeerRow> {
        self.rows.get(id)?.row.as_ref()
    }

    pub(super) fn has_answered(&self, id: &Id) -> bool {
        self.rows.get(id).is_some_and(|answer| answer.is_current)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> {
        self.rows.keys().copied()
    }
}

impl PeerTables {
    /// Whether a linked server, or the last one, shows rows on demand.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.current_views().any(|view| view.demand.is_some())
    }

    /// The linked servers that show rows on demand.
    pub(crate) fn servers_on_demand(&self) -> impl Iterator<Item = Id> {
        self.views.iter().filter(|(_, view)| view.demand.is_some()).map(|(server, _)| *server)
    }

    /// That server shows rows on demand from now on: what it showed of others than those asked for is forgotten, and what is
    /// asked for is to be told to it.
    pub(crate) fn on_demand(&mut self, now: Instant, server: &Id, max: u32) -> Vec<PeerNews> {
        let Some(view) = self.views.get_mut(server) else { return Vec::new() };
        let mut before = vec![std::mem::replace(&mut view.directory, crate::table::Replica::new(self.max_peers))];
        let mut kept: BTreeMap<Id, Answer> = BTreeMap::new();
        let mut touched = BTreeSet::new();
        let old = view.demand.take();
        let stale = self.stale.take();
        if stale.is_some() {
            touched.extend(self.online.keys().copied());
        }
        let stale = stale.map(|View { directory, demand, .. }| (directory, demand));
        let (directory, demand) = stale.unzip();
        before.extend(directory);
        let answers = old.into_iter().chain(demand.flatten()).flat_map(|answers| answers.rows);
        let answered = answers.filter_map(|(id, answer)| Some((id, answer.row?)));
        let listed = before.iter().flat_map(|directory| directory.rows().iter().map(|(id, row)| (*id, row.clone())));
        for (id, row) in answered.chain(listed) {
            touched.insert(id);
            if self.asked.covers(&id, Some(&row)) {
                kept.entry(id).or_insert(Answer { row: Some(row), is_current: false });
            }
        }
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        view.demand = Some(Answers { max, rows: kept, names: BTreeSet::new() });
        let (asked, gone): (BTreeSet<Id>, BTreeSet<Id>) =
            touched.into_iter().partition(|id| self.asked.covers(id, self.row(id)));
        let mut news = self.review(now, asked, true);
        news.extend(gone.into_iter().filter_map(|id| self.let_go(now, id)));
        news
    }

    /// Takes rows that a server on demand shows.
    ///
    /// # Errors
    /// `TooManyRows`; nothing changed then.
    pub(crate) fn apply_rows(&mut self, now: Instant, server: &Id, rows: Rows) -> Result<Vec<PeerNews>, Refused> {
        let (asked, max) = (&self.asked, self.max_peers);
        let Some(answers) = self.views.get_mut(server).and_then(|view| view.demand.as_mut()) else {
            return Ok(Vec::new());
        };
        if answers.rows.len().saturating_add(rows.set.len()).saturating_add(rows.absent.len()) > max {
            return Err(Refused::TooManyRows { max });
        }
        let (mut answered, mut changed, mut gone) = (BTreeSet::new(), BTreeSet::new(), Vec::new());
        let set = rows.set.into_iter().map(|(id, row)| (id, Some(row)));
        for (id, row) in set.chain(rows.absent.into_iter().map(|id| (id, None))) {
            if id.is_server() {
                continue;
            }
            if !asked.covers(&id, row.as_ref()) {
                if answers.rows.remove(&id).is_some() {
                    gone.push((id, row.is_none()));
                }
                continue;
            }
            let known = answers.rows.insert(id, Answer { row, is_current: true });
            match known.is_some_and(|known| known.is_current) {
                true => changed.insert(id),
                false => answered.insert(id),
            };
        }
        answers.names.extend(rows.names.into_iter().filter(|name| asked.names.contains(name)));
        for (id, is_absent) in gone {
            match is_absent {
                true => changed.insert(id),
                false => self.let_go(now, id).is_some(),
            };
        }
        let mut news = self.review(now, changed, false);
        news.extend(self.review(now, answered, true));
        Ok(news)
    }

    /// Whether one more Id or name may be asked for.
    pub(crate) fn may_ask(&self) -> bool {
        let limits = self.views.values().filter_map(|view| Some(view.demand.as_ref()?.max));
        self.asked.ids.len() + self.asked.names.len() < limits.min().unwrap_or(usize::MAX).min(self.asked.max)
    }

    pub(crate) fn is_asked(&self, id: &Id) -> bool {
        self.asked.ids.contains(id)
    }

    /// The row of `id` is wanted. Returns whether that is new.
    pub(crate) fn ask(&mut self, id: Id) -> bool {
        self.asked.ids.insert(id)
    }

    /// All rows with that name are wanted. Returns whether that is new.
    pub(crate) fn ask_name(&mut self, name: Name) -> bool {
        self.asked.names.insert(name)
    }

    /// The row of `id` is wanted no more. Returns whether it was.
    pub(crate) fn unask(&mut self, now: Instant, id: Id) -> bool {
        let was = self.asked.ids.remove(&id);
        if was && !self.asked.covers(&id, self.row(&id)) {
            self.let_go(now, id);
        }
        was
    }

    /// The rows with that name are wanted no more. Returns whether they were.
    pub(crate) fn unask_name(&mut self, now: Instant, name: &Name) -> bool {
        let was = self.asked.names.remove(name);
        if was {
            let demands = || self.views.values().filter_map(|view| view.demand.as_ref());
            let named: BTreeSet<Id> =
                demands().flat_map(Answers::ids).filter(|id| !self.asked.ids.contains(id)).collect();
            let gone: Vec<Id> = named.into_iter().filter(|id| !self.asked.covers(id, self.row(id))).collect();
            gone.into_iter().for_each(|id| drop(self.let_go(now, id)));
            let demands = self.views.values_mut().filter_map(|view| view.demand.as_mut());
            for answers in demands {
                answers.names.remove(name);
            }
        }
        was
    }

    /// All that is wanted.
    pub(crate) fn asked(&self) -> (&BTreeSet<Id>, &BTreeSet<Name>) {
        (&self.asked.ids, &self.asked.names)
    }

    /// Whether a linked server has not told yet who has that name.
    pub(crate) fn awaits_name(&self, name: &Name) -> bool {
        self.views.values().any(|view| match &view.demand {
            Some(answers) => !answers.names.contains(name),
            None => view.directory.version().is_none(),
        })
    }

    /// Those who have that name, as far as their rows are here.
    pub(crate) fn named(&self, name: &Name) -> Vec<Id> {
        self.online.iter().filter(|(_, known)| *known == name).map(|(id, _)| *id).collect()
    }

    /// Nobody watches `id` any more: its rows at servers on demand are dropped, and nobody is told. If a server without demand
    /// shows it, it stays.
    fn let_go(&mut self, now: Instant, id: Id) -> Option<PeerNews> {
        let demands = self.views.values_mut().chain(&mut self.stale).filter_map(|view| view.demand.as_mut());
        demands.for_each(|answers| drop(answers.rows.remove(&id)));
        if self.row(&id).is_some() {
            return Some(PeerNews::Changed(id));
        }
        if self.is_on_demand() {
            self.lose_sight(now, id);
        }
        None
    }
}
