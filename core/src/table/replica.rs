//! The side of a table that follows the versions of a publisher.

use std::collections::{BTreeMap, BTreeSet};

use super::{Delta, Snapshot, Update, Version};

/// A copy of a publisher's table as of one version, and the parts of the next one.
#[derive(Clone, Debug)]
pub struct Replica<K, V> {
    version: Option<Version>,
    rows: BTreeMap<K, V>,
    staged: Option<Staged<K, V>>,
    max_rows: usize,
}

#[derive(Clone, Debug)]
enum Staged<K, V> {
    Snapshot { version: Version, rows: BTreeMap<K, V> },
    Delta { from: Version, to: u64, set: BTreeMap<K, V>, removed: BTreeSet<K> },
}

/// How an update changed the rows. Empty while further parts of it are to come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Changes<K, V> {
    /// Rows that were not there before.
    pub added: Vec<K>,
    /// Rows that are different now.
    pub changed: Vec<K>,
    /// Rows that are gone, as they were last.
    pub removed: Vec<(K, V)>,
}

/// Why an update was not applied. The rows are as before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// It does not start from the version that is here: ask for a snapshot.
    #[error("a table update does not follow the version that is here: ask for a snapshot")]
    Gap,
    /// The table would grow over the limit.
    #[error("a table update leads to more than {max} rows: raise the limit or end the link")]
    TooManyRows {
        /// The limit.
        max: usize,
    },
    /// It contradicts itself or the rows that are here.
    #[error("a table update contradicts itself or the rows that are here: end the link")]
    Inconsistent,
}

impl<K, V> Default for Changes<K, V> {
    fn default() -> Self {
        Self { added: Vec::new(), changed: Vec::new(), removed: Vec::new() }
    }
}

impl<K, V> Changes<K, V> {
    /// Whether nothing changed.
    pub const fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

impl<K: Ord + Clone, V: PartialEq> Replica<K, V> {
    /// An empty copy, of no version, of at most `max_rows` rows.
    pub fn new(max_rows: usize) -> Self {
        Self { version: None, rows: BTreeMap::new(), staged: None, max_rows }
    }

    /// The version that the rows show; `None` before the first snapshot.
    pub const fn version(&self) -> Option<Version> {
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

    /// Applies a snapshot or a delta.
    ///
    /// # Errors
    /// As [`apply_snapshot`](Self::apply_snapshot) and [`apply_delta`](Self::apply_delta).
    pub fn apply(&mut self, update: Update<K, V>) -> Result<Changes<K, V>, Refused> {
        match update {
            Update::Snapshot(snapshot) => self.apply_snapshot(snapshot),
            Update::Delta(delta) => self.apply_delta(delta),
        }
    }

    /// Takes a snapshot or a part of one; the rows change with the last part, all at once.
    ///
    /// # Errors
    /// `TooManyRows`; the parts so far are forgotten.
    pub fn apply_snapshot(&mut self, part: Snapshot<K, V>) -> Result<Changes<K, V>, Refused> {
        let mut rows = match self.staged.take() {
            Some(Staged::Snapshot { version, rows }) if version == part.version => rows,
            _ => BTreeMap::new(),
        };
        rows.extend(part.rows);
        if rows.len() > self.max_rows {
            return Err(Refused::TooManyRows { max: self.max_rows });
        }
        if part.more {
            self.staged = Some(Staged::Snapshot { version: part.version, rows });
            return Ok(Changes::default());
        }
        self.version = Some(part.version);
        Ok(self.replace(rows))
    }

    /// Takes a delta or a part of one; the rows change with the last part, all at once.
    ///
    /// # Errors
    /// `Gap` if it does not start from [`version`](Self::version), `TooManyRows`, `Inconsistent`; the parts so far are
    /// forgotten.
    pub fn apply_delta(&mut self, part: Delta<K, V>) -> Result<Changes<K, V>, Refused> {
        let staged = self.staged.take();
        let start = Version { epoch: part.epoch, number: part.from };
        if self.version != Some(start) || part.to < part.from {
            return Err(Refused::Gap);
        }
        let (mut set, mut removed) = match staged {
            Some(Staged::Delta { from, to, set, removed }) if (from, to) == (start, part.to) => (set, removed),
            _ => Default::default(),
        };
        if part.removed.iter().any(|key| !self.rows.contains_key(key)) {
            return Err(Refused::Inconsistent);
        }
        set.extend(part.set);
        removed.extend(part.removed);
        if set.len() > self.max_rows {
            return Err(Refused::TooManyRows { max: self.max_rows });
        }
        if part.more {
            self.staged = Some(Staged::Delta { from: start, to: part.to, set, removed });
            return Ok(Changes::default());
        }
        if removed.iter().any(|key| set.contains_key(key)) {
            return Err(Refused::Inconsistent);
        }
        let added = set.keys().filter(|key| !self.rows.contains_key(key)).count();
        if self.rows.len() + added - removed.len() > self.max_rows {
            return Err(Refused::TooManyRows { max: self.max_rows });
        }
        self.version = Some(Version { number: part.to, ..start });
        Ok(self.change(set, removed))
    }

    /// Forgets everything, the version too, and returns the rows: the publisher is gone.
    pub fn clear(&mut self) -> BTreeMap<K, V> {
        (self.version, self.staged) = (None, None);
        std::mem::take(&mut self.rows)
    }

    fn replace(&mut self, rows: BTreeMap<K, V>) -> Changes<K, V> {
        let mut changes = Changes::default();
        let old = std::mem::replace(&mut self.rows, rows);
        for (key, row) in &self.rows {
            match old.get(key) {
                None => changes.added.push(key.clone()),
                Some(old) if old != row => changes.changed.push(key.clone()),
                Some(_) => {}
            }
        }
        changes.removed = old.into_iter().filter(|(key, _)| !self.rows.contains_key(key)).collect();
        changes
    }

    fn change(&mut self, set: BTreeMap<K, V>, removed: BTreeSet<K>) -> Changes<K, V> {
        let removed = removed.into_iter().filter_map(|key| self.rows.remove_entry(&key)).collect();
        let mut changes = Changes { removed, ..Changes::default() };
        for (key, row) in set {
            match self.rows.get_mut(&key) {
                Some(old) if *old == row => {}
                Some(old) => {
                    *old = row;
                    changes.changed.push(key);
                }
                None => {
                    self.rows.insert(key.clone(), row);
                    changes.added.push(key);
                }
            }
        }
        changes
    }
}
