//! The side of a table that makes its versions.

use std::collections::{BTreeMap, VecDeque};

use super::{Delta, Snapshot, Update, Version};
use crate::Incarnation;

/// A versioned map with a log of its latest changes.
#[derive(Clone, Debug)]
pub struct Publisher<K, V> {
    version: Version,
    rows: BTreeMap<K, V>,
    /// The latest changes, one for each version up to this one.
    log: VecDeque<Change<K>>,
    max_log: usize,
    max_rows: usize,
}

#[derive(Clone, Debug)]
struct Change<K> {
    key: K,
    /// Whether there was a row before.
    was: bool,
}

/// The table has no room for another row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the table has {max} rows already: raise its limit")]
pub struct TableFull {
    /// The limit.
    pub max: usize,
}

impl<K: Ord + Clone, V: PartialEq + Clone> Publisher<K, V> {
    /// An empty table of at most `max_rows` rows that remembers its latest `max_log` changes.
    pub fn new(epoch: Incarnation, max_rows: usize, max_log: usize) -> Self {
        let version = Version { epoch, number: 0 };
        Self { version, rows: BTreeMap::new(), log: VecDeque::new(), max_log, max_rows }
    }

    /// Adds or replaces a row. One that is equal already makes no version.
    ///
    /// # Errors
    /// The row would be one too many; nothing was changed.
    pub fn set(&mut self, key: K, row: V) -> Result<(), TableFull> {
        let is_full = self.rows.len() >= self.max_rows;
        match self.rows.get_mut(&key) {
            Some(old) if *old == row => {}
            Some(old) => {
                *old = row;
                self.record(key, true);
            }
            None if is_full => return Err(TableFull { max: self.max_rows }),
            None => {
                self.rows.insert(key.clone(), row);
                self.record(key, false);
            }
        }
        Ok(())
    }

    /// Removes and returns a row.
    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (key, row) = self.rows.remove_entry(key)?;
        self.record(key, true);
        Some(row)
    }

    /// The present version.
    pub const fn version(&self) -> Version {
        self.version
    }

    /// The rows.
    pub const fn rows(&self) -> &BTreeMap<K, V> {
        &self.rows
    }

    /// The row of `key`.
    pub fn get(&self, key: &K) -> Option<&V> {
        self.rows.get(key)
    }

    /// The whole table. To be cut into [`parts`](Snapshot::parts) before it is sent.
    pub fn snapshot(&self) -> Snapshot<K, V> {
        let rows = self.rows.iter().map(|(key, row)| (key.clone(), row.clone())).collect();
        Snapshot { version: self.version, more: false, rows }
    }

    /// What changed since version `number` of this epoch, each row once; `None` if that version is not in the log any
    /// more (or not yet). To be cut into [`parts`](Delta::parts) before it is sent.
    pub fn delta_since(&self, number: u64) -> Option<Delta<K, V>> {
        let touched = self.touched_since(number)?;
        let Version { epoch, number: to } = self.version;
        let mut delta = Delta { epoch, from: number, to, more: false, set: Vec::new(), removed: Vec::new() };
        for (key, was) in touched {
            match self.rows.get(key) {
                Some(row) => delta.set.push((key.clone(), row.clone())),
                None if was => delta.removed.push(key.clone()),
                None => {}
            }
        }
        Some(delta)
    }

    /// What brings a replica at `version` up to date: a delta if the log reaches back, else a snapshot.
    pub fn update_since(&self, version: Option<Version>) -> Update<K, V> {
        let version = version.filter(|version| version.epoch == self.version.epoch);
        let delta = version.and_then(|version| self.delta_since(version.number));
        delta.map_or_else(|| Update::Snapshot(self.snapshot()), Update::Delta)
    }

    /// The keys at version `number` of this epoch, in order; `None` if it is not in the log any more (or not yet).
    pub fn keys_at(&self, number: u64) -> Option<impl Iterator<Item = &K>> {
        let touched = self.touched_since(number)?;
        let gone: Vec<&K> =
            touched.iter().filter(|(key, was)| **was && !self.rows.contains_key(key)).map(|(key, _)| *key).collect();
        let mut gone = gone.into_iter().peekable();
        let mut here = self.rows.keys().filter(move |key| touched.get(key) != Some(&false)).peekable();
        Some(std::iter::from_fn(move || match (here.peek(), gone.peek()) {
            (Some(here), Some(first)) if first < here => gone.next(),
            (None, _) => gone.next(),
            (Some(_), _) => here.next(),
        }))
    }

    fn record(&mut self, key: K, was: bool) {
        self.version.number += 1;
        self.log.push_back(Change { key, was });
        if self.log.len() > self.max_log {
            self.log.pop_front();
        }
    }

    /// The keys that changed since version `number`, and whether they had a row then.
    fn touched_since(&self, number: u64) -> Option<BTreeMap<&K, bool>> {
        let behind = usize::try_from(self.version.number.checked_sub(number)?).ok()?;
        let skip = self.log.len().checked_sub(behind)?;
        let mut touched = BTreeMap::new();
        for change in self.log.range(skip..) {
            // the first change says what there was at `number`
            touched.entry(&change.key).or_insert(change.was);
        }
        Some(touched)
    }
}
