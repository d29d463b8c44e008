//! A server with many peers shows its rows on demand: each peer has only those that it watches.

use std::collections::BTreeSet;

use super::{ServerTables, watches::from};
use crate::{
    Id, Name,
    table::{Bounded, Delta, PART_BYTES, PeerRow},
    wire::{Control, Rows, Wanted},
};

/// The peer watches more than it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TooMany;

impl ServerTables {
    /// Whether rows are shown on demand, as its peers have been told.
    pub(crate) fn is_on_demand(&self) -> bool {
        self.on_demand
    }

    /// What a peer is told that is linked to a server on demand.
    pub(crate) fn on_demand_message(&self) -> Control {
        Control::OnDemand { max_watches: u32::try_from(self.limits.max_watches).unwrap_or(u32::MAX) }
    }

    /// Takes a peer's watches. Returns the answers: in the full mesh too, to one who has not heard of it yet.
    ///
    /// # Errors
    /// `TooMany` over `Config::max_watches`.
    pub(crate) fn watch(&mut self, watcher: Id, wanted: &Wanted) -> Result<Vec<Control>, TooMany> {
        if self.directory.get(&watcher).is_none() {
            return Ok(Vec::new());
        }
        if self.on_demand {
            self.watches.add(watcher, wanted);
            if self.watches.size(&watcher) > self.limits.max_watches {
                return Err(TooMany);
            }
        }
        let mut ids: BTreeSet<Id> = wanted.ids.iter().copied().collect();
        for name in &wanted.names {
            ids.extend(from(&self.by_name, name.clone(), Id::MIN).take(self.limits.max_same_name));
        }
        Ok(self.rows(ids, wanted.names.iter().cloned()))
    }

    pub(crate) fn unwatch(&mut self, watcher: Id, wanted: &Wanted) {
        self.watches.remove(watcher, wanted);
    }

    /// Who watches most, while all together watch more than `Config::max_watches_together`.
    pub(crate) fn too_greedy(&self) -> Option<Id> {
        self.watches.greediest().filter(|_| self.watches.total() > self.limits.max_watches_together)
    }

    /// Goes on demand or back to the full mesh, as the number of peers says; between the two limits nothing changes. Returns
    /// what the peers are told of it: the snapshot that ends being on demand is among the updates.
    pub(super) fn review_mode(&mut self) -> Vec<(Id, Control)> {
        let (peers, limits) = (self.directory.rows().len(), self.limits);
        if !self.on_demand && peers > limits.full_mesh {
            self.on_demand = true;
            self.told.clear();
            let message = self.on_demand_message();
            return self.directory.rows().keys().map(|id| (*id, message.clone())).collect();
        }
        if self.on_demand && peers < limits.full_mesh_again {
            self.on_demand = false;
            self.watches = Default::default();
            self.told = self.directory.rows().keys().map(|id| (*id, None)).collect();
        }
        Vec::new()
    }

    /// What changed of the rows that are watched, for each watcher.
    pub(super) fn news(&mut self) -> Vec<(Id, Control)> {
        let mut updates = Vec::new();
        let mut news = self.watches.take_news().into_iter().peekable();
        while let Some((watcher, id)) = news.next() {
            let mut ids = BTreeSet::from([id]);
            while let Some((_, id)) = news.next_if(|(next, _)| *next == watcher) {
                ids.insert(id);
            }
            updates.extend(self.rows(ids, []).into_iter().map(|message| (watcher, message)));
        }
        updates
    }

    /// The rows of `ids` as they are, in messages fit to be sent; the last one says that all of `names` are told.
    fn rows(&self, ids: impl IntoIterator<Item = Id>, names: impl IntoIterator<Item = Name>) -> Vec<Control> {
        let (mut set, mut removed): (Vec<(Id, PeerRow)>, Vec<Id>) = (Vec::new(), Vec::new());
        for id in ids {
            match self.directory.get(&id) {
                Some(row) => set.push((id, row.clone())),
                None => removed.push(id),
            }
        }
        let epoch = self.directory.version().epoch;
        let whole = Delta { epoch, from: 0, to: 0, more: false, set, removed };
        let parts = whole.parts(PART_BYTES).into_iter();
        let part = |part: Delta<Id, PeerRow>| Rows {
            set: Bounded::first(part.set),
            absent: Bounded::first(part.removed),
            names: Bounded::default(),
        };
        let mut messages: Vec<Rows> = parts.map(part).collect();
        if let Some(last) = messages.last_mut() {
            last.names = Bounded::first(names);
        }
        messages.into_iter().map(Control::Rows).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Config, Incarnation, PublicKey, Role,
        relay::Slot,
        table::{NetworkInfo, ServerRow},
    };

    fn id(n: u8) -> Id {
        Id::from_key(Role::Peer, &PublicKey([n; 32]))
    }

    fn tables(full: usize, again: usize) -> ServerTables {
        let own = Id::from_key(Role::Server, &PublicKey([200; 32]));
        let run = Incarnation { counter: 1, random: [0; 16] };
        let addresses = Bounded::default();
        let row = ServerRow { name: Name::default(), incarnation: run, version: 1, addresses, slot: None };
        let config = Config { full_mesh_peers: full, full_mesh_again: again, max_watches: 3, ..Config::default() };
        ServerTables::new(own, row, run, &config)
    }

    fn come(tables: &mut ServerTables, n: u8, name: &str) {
        let run = Incarnation { counter: 1, random: [n; 16] };
        let slot = Slot::new(u16::from(n), 0).unwrap();
        assert!(tables.set_client(id(n), Name::new(name).unwrap(), run, NetworkInfo::default(), slot));
    }

    fn wanted(ids: &[u8], names: &[&str]) -> Wanted {
        let names = names.iter().map(|name| Name::new(*name).unwrap());
        Wanted { ids: Bounded::first(ids.iter().map(|n| id(*n))), names: Bounded::first(names) }
    }

    fn rows(messages: &[Control]) -> (Vec<Id>, Vec<Id>, usize) {
        let [Control::Rows(rows)] = messages else { panic!("{messages:?}") };
        (rows.set.iter().map(|(id, _)| *id).collect(), rows.absent.to_vec(), rows.names.len())
    }

    #[test]
    fn the_mode_changes_above_the_one_limit_and_below_the_other() {
        let mut tables = tables(4, 3);
        for n in 1..=4 {
            come(&mut tables, n, "ant");
        }
        assert!(tables.updates().iter().all(|(_, message)| matches!(message, Control::Directory(_))));
        come(&mut tables, 5, "ant");
        let updates = tables.updates();
        assert_eq!(updates.len(), 5);
        assert!(updates.iter().all(|(_, message)| *message == Control::OnDemand { max_watches: 3 }));
        for n in 3..=5 {
            assert!(tables.is_on_demand());
            tables.remove_client(&id(n));
            assert_eq!(tables.updates().len(), if n == 5 { 2 } else { 0 });
        }
        assert!(!tables.is_on_demand());
        for n in 3..=4 {
            come(&mut tables, n, "ant");
        }
        tables.updates();
        assert!(!tables.is_on_demand());
    }

    #[test]
    fn only_watchers_hear_of_a_row_and_a_name_shows_all_who_have_it() {
        let mut tables = tables(0, 0);
        for (n, name) in [(1, "ant"), (2, "bee"), (3, "bee")] {
            come(&mut tables, n, name);
        }
        tables.updates();
        let answer = tables.watch(id(1), &wanted(&[2, 9], &[])).unwrap();
        assert_eq!(rows(&answer), (vec![id(2)], vec![id(9)], 0));
        let (mut found, absent, names) = rows(&tables.watch(id(1), &wanted(&[], &["bee"])).unwrap());
        found.sort_unstable();
        let mut bees = vec![id(2), id(3)];
        bees.sort_unstable();
        assert_eq!((found, absent, names), (bees, vec![], 1));
        come(&mut tables, 9, "cat");
        tables.remove_client(&id(3));
        let updates = tables.updates();
        let [(watcher, message)] = &updates[..] else { panic!("{updates:?}") };
        assert_eq!((*watcher, rows(std::slice::from_ref(message))), (id(1), (vec![id(9)], vec![id(3)], 0)));
        tables.unwatch(id(1), &wanted(&[9], &["bee"]));
        tables.remove_client(&id(9));
        come(&mut tables, 3, "bee");
        assert_eq!(tables.updates(), []);
    }

    #[test]
    fn one_peer_watches_so_much_and_the_greediest_pays_for_all() {
        let mut tables = tables(0, 0);
        tables.limits.max_watches_together = 4;
        come(&mut tables, 1, "ant");
        come(&mut tables, 2, "bee");
        tables.updates();
        tables.watch(id(1), &wanted(&[2, 3, 4], &[])).unwrap();
        tables.watch(id(2), &wanted(&[1], &[])).unwrap();
        assert_eq!(tables.too_greedy(), None);
        tables.watch(id(2), &wanted(&[3], &[])).unwrap();
        assert_eq!(tables.too_greedy(), Some(id(1)));
        assert_eq!(tables.watch(id(1), &wanted(&[5], &[])), Err(TooMany));
        tables.remove_client(&id(1));
        assert_eq!(tables.too_greedy(), None);
    }
}
