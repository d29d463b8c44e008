//! Which counters have been seen, in constant memory.

const WORD: u64 = u64::BITS as u64;

/// A sliding window over the last `WORDS` x 64 counters: each is fresh once, and none that is older; `u64::MAX` never is.
#[derive(Clone, Debug)]
pub struct ReplayWindow<const WORDS: usize> {
    /// One above the newest counter; 0 at first.
    next: u64,
    seen: [u64; WORDS],
}

impl<const WORDS: usize> Default for ReplayWindow<WORDS> {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl<const WORDS: usize> ReplayWindow<WORDS> {
    /// How far behind the newest counter one is too old to be told from a replay.
    pub const REACH: u64 = WORDS as u64 * WORD;

    /// One above the newest counter seen; 0 before the first.
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Whether `counter` was neither seen nor fell out of the window.
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return counter < u64::MAX;
        }
        self.next - counter <= Self::REACH && self.word(counter).is_some_and(|word| word & bit(counter) == 0)
    }

    /// Marks `counter` as seen. To be called for authentic packets only: it moves the window.
    pub fn insert(&mut self, counter: u64) {
        if counter >= self.next {
            self.clear(self.next, counter);
            self.next = counter.saturating_add(1);
        } else if self.next - counter > Self::REACH {
            return;
        }
        if let Some(word) = self.seen.get_mut(Self::index(counter)) {
            *word |= bit(counter);
        }
    }

    /// Forgets what the places of `first..=last` stood for one window ago.
    fn clear(&mut self, first: u64, last: u64) {
        if last - first >= Self::REACH {
            self.seen = [0; WORDS];
            return;
        }
        for counter in first..=last {
            if let Some(word) = self.seen.get_mut(Self::index(counter)) {
                *word &= !bit(counter);
            }
        }
    }

    fn word(&self, counter: u64) -> Option<u64> {
        self.seen.get(Self::index(counter)).copied()
    }

    const fn index(counter: u64) -> usize {
        (counter % Self::REACH / WORD) as usize
    }
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % WORD)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Window = ReplayWindow<8>;
    const REACH: u64 = Window::REACH;

    #[test]
    fn each_counter_is_fresh_once_until_it_is_too_old() {
        let mut window = Window::default();
        for counter in [0, 5, 3, REACH + 2] {
            assert!(window.is_fresh(counter));
            window.insert(counter);
            assert!(!window.is_fresh(counter));
        }
        assert!(!window.is_fresh(2), "out of the window");
        assert!(!window.is_fresh(3) && !window.is_fresh(5), "seen");
        assert!(window.is_fresh(4));
    }

    #[test]
    fn the_greatest_counter_overflows_nothing() {
        let mut window = Window::default();
        window.insert(u64::MAX - 1);
        assert!(![u64::MAX, u64::MAX - 1].iter().any(|counter| window.is_fresh(*counter)));
        assert!(window.is_fresh(u64::MAX - 2));
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_counters(steps in prop::collection::vec((0..3 * REACH, any::<bool>()), 1..400)) {
            let mut window = Window::default();
            let mut all = BTreeSet::new();
            let mut newest = 0;
            for (step, ahead) in steps {
                let counter: u64 = if ahead { newest + step % 700 } else { u64::saturating_sub(newest, step) };
                let old = all.last().is_some_and(|last| counter + REACH <= *last);
                prop_assert_eq!(window.is_fresh(counter), !old && !all.contains(&counter));
                window.insert(counter);
                if !old {
                    all.insert(counter);
                }
                newest = newest.max(counter);
            }
        }
    }
}
