//! Each counter works once.

const WORDS: u64 = 8;
const WORD: u64 = 64;

/// Remembers which of the last counters were seen; older ones count as seen. Counters start at 1.
#[derive(Clone, Debug, Default)]
pub(super) struct ReplayWindow {
    highest: u64,
    seen: [u64; WORDS as usize],
}

impl ReplayWindow {
    /// How far behind the highest counter seen one may be and still be told from a replay.
    pub(super) const REACH: u64 = (WORDS - 1) * WORD;

    pub(super) fn is_fresh(&self, counter: u64) -> bool {
        if counter > self.highest {
            return true;
        }
        counter > 0 && self.highest - counter < Self::REACH && self.word(counter) & Self::bit(counter) == 0
    }

    /// Call only with what [`is_fresh`](Self::is_fresh) let pass and a key vouched for.
    pub(super) fn insert(&mut self, counter: u64) {
        let (top, word) = (self.highest / WORD, counter / WORD);
        for step in 1..=word.saturating_sub(top).min(WORDS) {
            if let Some(stale) = self.seen.get_mut(((top + step) % WORDS) as usize) {
                *stale = 0;
            }
        }
        self.highest = self.highest.max(counter);
        if let Some(word) = self.seen.get_mut((word % WORDS) as usize) {
            *word |= Self::bit(counter);
        }
    }

    fn word(&self, counter: u64) -> u64 {
        self.seen.get((counter / WORD % WORDS) as usize).copied().unwrap_or(u64::MAX)
    }

    const fn bit(counter: u64) -> u64 {
        1 << (counter % WORD)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn accept(window: &mut ReplayWindow, counter: u64) -> bool {
        let fresh = window.is_fresh(counter);
        if fresh {
            window.insert(counter);
        }
        fresh
    }

    #[test]
    fn a_counter_works_once_in_any_order() {
        let mut window = ReplayWindow::default();
        assert!([3, 1, 2, 100, 64, 63, 65].iter().all(|&counter| accept(&mut window, counter)));
        assert!(![3, 1, 2, 100, 64, 63, 65, 0].iter().any(|&counter| accept(&mut window, counter)));
    }

    #[test]
    fn what_fell_out_of_the_window_counts_as_seen() {
        let mut window = ReplayWindow::default();
        assert!(accept(&mut window, 10_000));
        assert!(!accept(&mut window, 10_000 - ReplayWindow::REACH));
        assert!(accept(&mut window, 10_001 - ReplayWindow::REACH));
    }

    #[test]
    fn the_greatest_counter_overflows_nothing() {
        let mut window = ReplayWindow::default();
        assert!(accept(&mut window, u64::MAX));
        assert!(!accept(&mut window, u64::MAX));
        assert!(accept(&mut window, u64::MAX - 1));
    }

    proptest! {
        #[test]
        fn nothing_is_accepted_twice(counters in proptest::collection::vec(0u64..2_000, 0..300)) {
            let (mut window, mut seen) = (ReplayWindow::default(), BTreeSet::new());
            for counter in counters {
                let near = seen.last().is_none_or(|&top: &u64| top < counter + ReplayWindow::REACH);
                let accepted = accept(&mut window, counter);
                prop_assert_eq!(accepted, counter > 0 && near && !seen.contains(&counter));
                if accepted {
                    seen.insert(counter);
                }
            }
        }
    }
}
