//! The log in memory: what was dropped is a snapshot, the rest has no gap.

use std::collections::VecDeque;

use super::{Command, Configuration, Entry, NodeId, Payload, Snapshot, message::are_consecutive};

/// Entries from the one after the snapshot on, each with the index of its place.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Log<N, D> {
    snapshot: Snapshot<N>,
    entries: VecDeque<Entry<N, D>>,
}

impl<N: NodeId, D: Command> Log<N, D> {
    /// `None` if `entries` do not follow `snapshot` without a gap, or are of a later term than `last_term`.
    pub(super) fn new(snapshot: Snapshot<N>, entries: Vec<Entry<N, D>>, last_term: u64) -> Option<Self> {
        (snapshot.is_sound() && are_consecutive(snapshot.index, snapshot.term, &entries, last_term))
            .then(|| Self { snapshot, entries: entries.into() })
    }

    pub(super) fn snapshot(&self) -> &Snapshot<N> {
        &self.snapshot
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The index after the last one; `None` at the end of numbers. The greatest number is never an index, so that there
    /// is one after each.
    pub(super) fn next_index(&self) -> Option<u64> {
        self.last_index().checked_add(1).filter(|index| *index < u64::MAX)
    }

    pub(super) fn last_index(&self) -> u64 {
        self.entries.back().map_or(self.snapshot.index, |entry| entry.index)
    }

    pub(super) fn last_term(&self) -> u64 {
        self.entries.back().map_or(self.snapshot.term, |entry| entry.term)
    }

    /// The term at `index`; `None` if that is dropped or not there yet.
    pub(super) fn term(&self, index: u64) -> Option<u64> {
        if index == self.snapshot.index {
            return Some(self.snapshot.term);
        }
        self.entry(index).map(|entry| entry.term)
    }

    /// Whether a log that ends so is at least as complete as this one (Raft paper, section 5.4.1).
    pub(super) fn is_up_to_date(&self, last_index: u64, last_term: u64) -> bool {
        (last_term, last_index) >= (self.last_term(), self.last_index())
    }

    /// The entries after `after`, up to and including `until`.
    pub(super) fn range(&self, after: u64, until: u64) -> impl Iterator<Item = &Entry<N, D>> {
        let skip = after.saturating_sub(self.snapshot.index);
        let take = until.saturating_sub(after.max(self.snapshot.index));
        // indexes beyond what a machine can address are beyond the log too
        let [skip, take] = [skip, take].map(|count| usize::try_from(count).unwrap_or(usize::MAX));
        self.entries.iter().skip(skip).take(take)
    }

    /// The entries after `after`, so many and so long at most; the first one is always among them.
    pub(super) fn batch(&self, after: u64, max_entries: usize, max_bytes: usize) -> Vec<Entry<N, D>> {
        let mut bytes = 0usize;
        let fits = |(place, entry): &(usize, &Entry<N, D>)| {
            bytes = bytes.saturating_add(entry.size());
            *place == 0 || bytes <= max_bytes
        };
        let entries = self.range(after, self.last_index()).take(max_entries.max(1));
        entries.enumerate().take_while(fits).map(|(_, entry)| entry.clone()).collect()
    }

    /// The greatest index, `index` at most, whose term is not above `term`, and the term there. Where the log is dropped
    /// before one is found, the term is 0 (etcd: findConflictByTerm).
    pub(super) fn conflict_by_term(&self, index: u64, term: u64) -> (u64, u64) {
        let mut index = index.min(self.last_index());
        loop {
            match self.term(index) {
                Some(own) if own > term && index > 0 => index -= 1,
                Some(own) => return (index, own),
                None => return (index, 0),
            }
        }
    }

    /// The first of `entries` that is not in the log.
    pub(super) fn first_new(&self, entries: &[Entry<N, D>]) -> Option<u64> {
        entries.iter().find(|entry| self.term(entry.index) != Some(entry.term)).map(|entry| entry.index)
    }

    /// Drops the entries from `index` on.
    pub(super) fn truncate(&mut self, index: u64) {
        while self.entries.back().is_some_and(|entry| entry.index >= index) {
            self.entries.pop_back();
        }
    }

    /// Adds an entry; one that leaves a gap is not added.
    pub(super) fn push(&mut self, entry: Entry<N, D>) {
        if self.next_index() == Some(entry.index) {
            self.entries.push_back(entry);
        }
    }

    /// Drops the entries up to `index`. `false` if that entry is not there.
    pub(super) fn compact(&mut self, index: u64) -> bool {
        let Some(term) = self.entry(index).map(|entry| entry.term) else { return false };
        let config = self.config_at(index).clone();
        self.snapshot = Snapshot { index, term, config };
        while self.entries.front().is_some_and(|entry| entry.index <= index) {
            self.entries.pop_front();
        }
        true
    }

    /// The index of the newest command up to `index`.
    pub(super) fn last_command(&self, index: u64) -> Option<u64> {
        self.back_from(index).find(|entry| matches!(entry.payload, Payload::Command(_))).map(|entry| entry.index)
    }

    /// Forgets everything in favour of `snapshot`.
    pub(super) fn restore(&mut self, snapshot: Snapshot<N>) {
        self.snapshot = snapshot;
        self.entries.clear();
    }

    /// The configuration of the last configuration entry up to `index`.
    pub(super) fn config_at(&self, index: u64) -> &Configuration<N> {
        self.back_from(index).find_map(Entry::config).unwrap_or(&self.snapshot.config)
    }

    /// Whether there is a configuration entry after `index`.
    pub(super) fn has_config_after(&self, index: u64) -> bool {
        self.entries.iter().rev().take_while(|entry| entry.index > index).any(|entry| entry.config().is_some())
    }

    /// The entries up to `index`, the newest first.
    fn back_from(&self, index: u64) -> impl Iterator<Item = &Entry<N, D>> {
        self.entries.iter().rev().skip_while(move |entry| entry.index > index)
    }

    fn entry(&self, index: u64) -> Option<&Entry<N, D>> {
        let place = index.checked_sub(self.snapshot.index)?.checked_sub(1)?;
        self.entries.get(usize::try_from(place).ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A log whose entries have these terms, after a snapshot at `index`.
    fn log(index: u64, terms: &[u64]) -> Log<u8, u64> {
        let snapshot = Snapshot { index, term: u64::from(index > 0), config: Configuration::new([1], [], 1) };
        let entries = (index + 1..).zip(terms).map(|(index, &term)| Entry { term, index, payload: Payload::Noop });
        Log::new(snapshot, entries.collect(), 99).unwrap()
    }

    #[test]
    fn terms_are_known_from_the_snapshot_on() {
        let log = log(3, &[2, 2, 4]);
        assert_eq!(
            [2, 3, 4, 6, 7, u64::MAX].map(|index| log.term(index)),
            [None, Some(1), Some(2), Some(4), None, None]
        );
        assert_eq!((log.last_index(), log.last_term(), log.next_index()), (6, 4, Some(7)));
        assert!(
            log.is_up_to_date(6, 4) && log.is_up_to_date(1, 5) && !log.is_up_to_date(5, 4) && !log.is_up_to_date(9, 3)
        );
    }

    #[test]
    fn a_conflict_is_skipped_by_whole_terms() {
        let log = log(0, &[1, 1, 3, 3, 5]);
        assert_eq!(log.conflict_by_term(9, 4), (4, 3));
        assert_eq!(log.conflict_by_term(4, 2), (2, 1));
        assert_eq!(log.conflict_by_term(2, 0), (0, 0));
        let compacted = super::tests::log(3, &[4, 4]);
        assert_eq!(compacted.conflict_by_term(5, 2), (3, 1));
        assert_eq!(compacted.conflict_by_term(5, 0), (2, 0), "what is dropped has no term");
    }

    #[test]
    fn a_batch_is_bounded_by_entries_and_bytes() {
        let mut log = log(3, &[]);
        for index in 4..10 {
            log.push(Entry { term: 1, index, payload: Payload::Command(index.into()) });
        }
        let indexes = |after, entries, bytes| -> Vec<u64> {
            log.batch(after, entries, bytes).iter().map(|entry| entry.index).collect()
        };
        assert_eq!(indexes(3, 3, 999), [4, 5, 6]);
        assert_eq!(indexes(3, 9, 17), [4, 5]);
        assert_eq!(indexes(5, 9, 0), [6], "one entry always goes");
        assert_eq!(indexes(9, 9, 999), [0; 0]);
        assert_eq!(indexes(u64::MAX, 9, 999), [0; 0]);
    }

    #[test]
    fn what_is_dropped_leaves_its_configuration() {
        let mut log = log(1, &[1, 1]);
        let config = Configuration::new([1, 2], [], 4);
        log.push(Entry { term: 2, index: 4, payload: Payload::Config(config.clone().into()) });
        log.push(Entry { term: 2, index: 5, payload: Payload::Noop });
        assert!(log.has_config_after(3) && !log.has_config_after(4));
        assert!(log.compact(3));
        assert_eq!(log.snapshot().config, Configuration::new([1], [], 1));
        assert!(log.compact(4) && !log.compact(4) && !log.compact(9));
        assert_eq!(log.snapshot(), &Snapshot { index: 4, term: 2, config });
        assert_eq!((log.len(), log.last_index()), (1, 5));
    }

    #[test]
    fn the_newest_command_up_to_an_index_is_found() {
        let mut log = log(3, &[1]);
        for index in [5, 7] {
            log.push(Entry { term: 1, index, payload: Payload::Command(index.into()) });
            log.push(Entry { term: 1, index: index + 1, payload: Payload::Noop });
        }
        assert_eq!(
            [3, 4, 5, 6, 7, 99].map(|until| log.last_command(until)),
            [None, None, Some(5), Some(5), Some(7), Some(7)]
        );
    }

    #[test]
    fn an_unsound_log_is_refused() {
        let entry = |term, index| Entry::<u8, u64> { term, index, payload: Payload::Noop };
        let read = |entries: Vec<_>| Log::new(Snapshot::default(), entries, 5).is_some();
        assert!(read(vec![]) && read(vec![entry(1, 1), entry(5, 2)]));
        assert!(!read(vec![entry(1, 2)]) && !read(vec![entry(2, 1), entry(1, 2)]) && !read(vec![entry(6, 1)]));
        let before = |index, entries| {
            let snapshot = Snapshot { index, term: 1, config: Configuration::new([1], [], 1) };
            Log::new(snapshot, entries, 5).is_some()
        };
        assert!(before(u64::MAX - 2, vec![entry(1, u64::MAX - 1)]));
        assert!(!before(u64::MAX - 1, vec![entry(1, u64::MAX)]) && !before(u64::MAX, vec![]));
    }
}
