//! Who watches which rows of a server that is on demand, and what each is to be told of them.
//!
//! All indexes are flat, so that a change of a row costs its watchers and nobody else.

use std::collections::{BTreeMap, BTreeSet};

use crate::{Id, Name, wire::Wanted};

/// Ids and names by watcher and back.
#[derive(Clone, Debug, Default)]
pub(super) struct Watches {
    ids_of: BTreeSet<(Id, Id)>,
    by_id: BTreeSet<(Id, Id)>,
    names_of: BTreeSet<(Id, Name)>,
    by_name: BTreeSet<(Name, Id)>,
    /// How many Ids and names each watches.
    sizes: BTreeMap<Id, usize>,
    /// The same the other way round.
    by_size: BTreeSet<(usize, Id)>,
    /// Rows that changed, by who is to be told.
    news: BTreeSet<(Id, Id)>,
}

impl Watches {
    pub(super) fn add(&mut self, watcher: Id, wanted: &Wanted) {
        let mut added = 0;
        for id in &wanted.ids {
            if self.ids_of.insert((watcher, *id)) {
                self.by_id.insert((*id, watcher));
                added += 1;
            }
        }
        for name in &wanted.names {
            if self.names_of.insert((watcher, name.clone())) {
                self.by_name.insert((name.clone(), watcher));
                added += 1;
            }
        }
        let size = self.size(&watcher);
        self.resize(watcher, size + added);
    }

    pub(super) fn remove(&mut self, watcher: Id, wanted: &Wanted) {
        let mut removed = 0;
        for id in &wanted.ids {
            if self.ids_of.remove(&(watcher, *id)) {
                self.by_id.remove(&(*id, watcher));
                self.news.remove(&(watcher, *id));
                removed += 1;
            }
        }
        for name in &wanted.names {
            if self.names_of.remove(&(watcher, name.clone())) {
                self.by_name.remove(&(name.clone(), watcher));
                removed += 1;
            }
        }
        let size = self.size(&watcher);
        self.resize(watcher, size.saturating_sub(removed));
    }

    /// The watcher is gone.
    pub(super) fn forget(&mut self, watcher: Id) {
        let ids: Vec<Id> = from(&self.ids_of, watcher, Id::MIN).collect();
        for id in ids {
            self.ids_of.remove(&(watcher, id));
            self.by_id.remove(&(id, watcher));
        }
        let names: Vec<Name> = from(&self.names_of, watcher, Name::default()).collect();
        for name in names {
            self.by_name.remove(&(name.clone(), watcher));
            self.names_of.remove(&(watcher, name));
        }
        let news: Vec<Id> = from(&self.news, watcher, Id::MIN).collect();
        for id in news {
            self.news.remove(&(watcher, id));
        }
        self.resize(watcher, 0);
    }

    /// How many Ids and names `watcher` watches.
    pub(super) fn size(&self, watcher: &Id) -> usize {
        self.sizes.get(watcher).copied().unwrap_or(0)
    }

    /// How many all watch together.
    pub(super) fn total(&self) -> usize {
        self.ids_of.len() + self.names_of.len()
    }

    /// Who watches most.
    pub(super) fn greediest(&self) -> Option<Id> {
        self.by_size.last().map(|(_, watcher)| *watcher)
    }

    /// The row of `id`, which has or had these names, came, changed or went.
    pub(super) fn changed(&mut self, id: Id, names: [Option<&Name>; 2]) {
        let mut told: Vec<Id> = from(&self.by_id, id, Id::MIN).collect();
        for name in names.into_iter().flatten() {
            told.extend(from(&self.by_name, name.clone(), Id::MIN));
        }
        self.news.extend(told.into_iter().filter(|watcher| *watcher != id).map(|watcher| (watcher, id)));
    }

    /// What each is to be told of, in order.
    pub(super) fn take_news(&mut self) -> BTreeSet<(Id, Id)> {
        std::mem::take(&mut self.news)
    }

    fn resize(&mut self, watcher: Id, size: usize) {
        let old = match size {
            0 => self.sizes.remove(&watcher),
            _ => self.sizes.insert(watcher, size),
        };
        old.map(|old| self.by_size.remove(&(old, watcher)));
        if size > 0 {
            self.by_size.insert((size, watcher));
        }
    }
}

/// The second halves of the pairs that begin with `first`.
pub(super) fn from<A: Ord + Clone, B: Ord + Clone>(
    pairs: &BTreeSet<(A, B)>,
    first: A,
    lowest: B,
) -> impl Iterator<Item = B> {
    let begin = (first.clone(), lowest);
    pairs.range(begin..).take_while(move |(a, _)| *a == first).map(|(_, b)| b.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PublicKey, Role, table::Bounded};

    fn id(n: u8) -> Id {
        Id::from_key(Role::Peer, &PublicKey([n; 32]))
    }

    fn wanted(ids: &[u8], names: &[&str]) -> Wanted {
        let names = names.iter().map(|name| Name::new(*name).unwrap());
        Wanted { ids: Bounded::first(ids.iter().map(|n| id(*n))), names: Bounded::first(names) }
    }

    #[test]
    fn a_change_is_news_for_those_who_watch_the_id_or_a_name_and_for_nobody_else() {
        let mut watches = Watches::default();
        watches.add(id(1), &wanted(&[9], &[]));
        watches.add(id(2), &wanted(&[], &["ant"]));
        watches.add(id(3), &wanted(&[], &["bee"]));
        watches.add(id(4), &wanted(&[8], &["cat"]));
        let [ant, bee] = ["ant", "bee"].map(|name| Name::new(name).unwrap());
        watches.changed(id(9), [Some(&ant), Some(&bee)]);
        let told: BTreeSet<Id> = watches.take_news().into_iter().map(|(watcher, _)| watcher).collect();
        assert_eq!(told, BTreeSet::from([id(1), id(2), id(3)]));
        watches.remove(id(1), &wanted(&[9], &[]));
        watches.forget(id(2));
        watches.changed(id(9), [Some(&ant), None]);
        assert!(watches.news.is_empty());
    }

    #[test]
    fn what_is_asked_twice_counts_once_and_what_is_forgotten_leaves_nothing() {
        let mut watches = Watches::default();
        watches.add(id(1), &wanted(&[7, 8], &["ant"]));
        watches.add(id(1), &wanted(&[8], &["ant"]));
        watches.add(id(2), &wanted(&[8], &[]));
        assert_eq!((watches.size(&id(1)), watches.total(), watches.greediest()), (3, 4, Some(id(1))));
        watches.remove(id(1), &wanted(&[8, 6], &["bee"]));
        assert_eq!(watches.size(&id(1)), 2);
        watches.changed(id(7), [None, None]);
        watches.forget(id(1));
        watches.forget(id(2));
        assert_eq!((watches.total(), watches.greediest(), watches.news.len()), (0, None, 0));
        assert!(watches.by_id.is_empty() && watches.by_name.is_empty() && watches.sizes.is_empty());
    }
}
