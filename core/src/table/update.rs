//! What goes from a publisher to its replicas.

use serde::{Deserialize, Serialize};

use super::bounded::bounded;
use crate::Incarnation;

/// The most rows in one part of an update; a part with more does not decode.
pub const MAX_PART_ROWS: usize = 4_096;

/// A good size for one part of an update, in bytes: it fits any control message and holds nothing else up for long.
pub const PART_BYTES: usize = 32 * 1024;

/// Which state of a table: the publisher's run, and how many changes it has made in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Version {
    /// The run of the publisher.
    pub epoch: Incarnation,
    /// Changes since its start.
    pub number: u64,
}

/// All rows of a table, or a part of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Deserialize<'de>, V: Deserialize<'de>"))]
pub struct Snapshot<K, V> {
    /// The state it shows.
    pub version: Version,
    /// Whether further parts follow.
    pub more: bool,
    /// The rows.
    #[serde(deserialize_with = "bounded::<_, _, MAX_PART_ROWS>")]
    pub rows: Vec<(K, V)>,
}

/// What changed between two states of a table, or a part of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Deserialize<'de>, V: Deserialize<'de>"))]
pub struct Delta<K, V> {
    /// The run of the publisher.
    pub epoch: Incarnation,
    /// The state that it changes.
    pub from: u64,
    /// The state that it leads to.
    pub to: u64,
    /// Whether further parts follow.
    pub more: bool,
    /// Rows that are new or changed.
    #[serde(deserialize_with = "bounded::<_, _, MAX_PART_ROWS>")]
    pub set: Vec<(K, V)>,
    /// Keys of rows that are gone.
    #[serde(deserialize_with = "bounded::<_, _, MAX_PART_ROWS>")]
    pub removed: Vec<K>,
}

/// Either of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(bound(deserialize = "K: Deserialize<'de>, V: Deserialize<'de>"))]
pub enum Update<K, V> {
    /// The whole table.
    Snapshot(Snapshot<K, V>),
    /// What changed.
    Delta(Delta<K, V>),
}

impl<K, V> Snapshot<K, V> {
    fn part(version: Version) -> Self {
        Self { version, more: true, rows: Vec::new() }
    }
}

impl<K, V> Delta<K, V> {
    /// The state that it leads to.
    pub const fn version(&self) -> Version {
        Version { epoch: self.epoch, number: self.to }
    }

    /// Whether it changes no row.
    pub const fn is_empty(&self) -> bool {
        self.set.is_empty() && self.removed.is_empty()
    }

    fn part(&self) -> Self {
        Self { more: true, set: Vec::new(), removed: Vec::new(), ..*self }
    }
}

impl<K: Serialize, V: Serialize> Snapshot<K, V> {
    /// Cuts it into parts of about `max_bytes` on the wire (a row more than that is a part of its own).
    pub fn parts(self, max_bytes: usize) -> Vec<Self> {
        let (more, version) = (self.more, self.version);
        let mut cutter = Cutter::new(max_bytes);
        let mut parts = Vec::new();
        let mut part = Self::part(version);
        for row in self.rows {
            if cutter.is_full(&row) {
                parts.push(std::mem::replace(&mut part, Self::part(version)));
            }
            part.rows.push(row);
        }
        part.more = more;
        parts.push(part);
        parts
    }
}

impl<K: Serialize, V: Serialize> Delta<K, V> {
    /// Cuts it into parts of about `max_bytes` on the wire (a row more than that is a part of its own).
    pub fn parts(mut self, max_bytes: usize) -> Vec<Self> {
        let (set, removed) = (std::mem::take(&mut self.set), std::mem::take(&mut self.removed));
        let mut cutter = Cutter::new(max_bytes);
        let mut parts = Vec::new();
        let mut part = self.part();
        for row in set {
            if cutter.is_full(&row) {
                parts.push(std::mem::replace(&mut part, self.part()));
            }
            part.set.push(row);
        }
        for key in removed {
            if cutter.is_full(&key) {
                parts.push(std::mem::replace(&mut part, self.part()));
            }
            part.removed.push(key);
        }
        part.more = self.more;
        parts.push(part);
        parts
    }
}

impl<K: Serialize, V: Serialize> Update<K, V> {
    /// Cuts it into parts of about `max_bytes` on the wire (a row more than that is a part of its own).
    pub fn parts(self, max_bytes: usize) -> Vec<Self> {
        match self {
            Self::Snapshot(snapshot) => snapshot.parts(max_bytes).into_iter().map(Self::Snapshot).collect(),
            Self::Delta(delta) => delta.parts(max_bytes).into_iter().map(Self::Delta).collect(),
        }
    }
}

impl<K, V> Update<K, V> {
    /// The state that it leads to.
    pub const fn version(&self) -> Version {
        match self {
            Self::Snapshot(snapshot) => snapshot.version,
            Self::Delta(delta) => delta.version(),
        }
    }
}

/// Says where a part ends.
struct Cutter {
    max_bytes: usize,
    bytes: usize,
    rows: usize,
}

impl Cutter {
    fn new(max_bytes: usize) -> Self {
        Self { max_bytes, bytes: 0, rows: 0 }
    }

    /// Whether `row` has to begin another part; it is counted there or here.
    fn is_full(&mut self, row: &impl Serialize) -> bool {
        let size = postcard::serialize_with_flavor(row, postcard::ser_flavors::Size::default());
        // what cannot be sized takes a part of its own
        let size = size.unwrap_or(self.max_bytes);
        let is_full = self.rows > 0 && (self.bytes + size > self.max_bytes || self.rows == MAX_PART_ROWS);
        if is_full {
            (self.bytes, self.rows) = (0, 0);
        }
        self.bytes += size;
        self.rows += 1;
        is_full
    }
}
