//! The time-ordered index of deadlines: the next due key without a scan over all keys.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

/// At most one deadline for each key, found by key and by time.
#[derive(Clone, Debug)]
pub struct Deadlines<K> {
    by_key: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K> Default for Deadlines<K> {
    fn default() -> Self {
        Self { by_key: BTreeMap::new(), by_time: BTreeSet::new() }
    }
}

impl<K: Ord + Copy> Deadlines<K> {
    /// Sets, moves or (with `None`) removes the deadline of `key`.
    pub fn set(&mut self, key: K, at: Option<Instant>) {
        let old = match at {
            Some(at) => self.by_key.insert(key, at),
            None => self.by_key.remove(&key),
        };
        if old == at {
            return;
        }
        if let Some(old) = old {
            self.by_time.remove(&(old, key));
        }
        if let Some(at) = at {
            self.by_time.insert((at, key));
        }
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<(Instant, K)> {
        self.by_time.first().copied()
    }

    /// Removes and returns the earliest key whose deadline is not after `now`.
    pub fn pop_due(&mut self, now: Instant) -> Option<K> {
        let (at, key) = self.next()?;
        if at > now {
            return None;
        }
        self.set(key, None);
        Some(key)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// The deadline of `key`.
    pub fn get(&self, key: &K) -> Option<Instant> {
        self.by_key.get(key).copied()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::testing::epoch;

    #[test]
    fn due_keys_come_in_order_of_time() {
        let start = epoch();
        let at = |ms| start + Duration::from_millis(ms);
        let mut deadlines = Deadlines::default();
        deadlines.set('a', Some(at(30)));
        deadlines.set('b', Some(at(10)));
        deadlines.set('c', Some(at(20)));
        deadlines.set('a', Some(at(5)));
        deadlines.set('b', None);
        assert_eq!(deadlines.next(), Some((at(5), 'a')));
        assert_eq!(deadlines.pop_due(at(4)), None);
        assert_eq!(deadlines.pop_due(at(20)), Some('a'));
        assert_eq!(deadlines.pop_due(at(20)), Some('c'));
        assert_eq!(deadlines.pop_due(at(99)), None);
    }
}
