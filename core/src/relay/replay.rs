//! Which counters have been seen, in constant memory.

/// How far behind the newest counter a packet may come, in packets.
pub const WINDOW: u64 = 2048;

const WORD: u64 = u64::BITS as u64;
const WORDS: usize = (WINDOW / WORD) as usize;
const LOW_BITS: u32 = 24;

/// A sliding window over counters: each is fresh once, and none that is [`WINDOW`] or more behind the newest is.
#[derive(Clone, Debug)]
pub struct ReplayWindow {
    /// One above the newest counter; 0 at first.
    next: u64,
    seen: [u64; WORDS],
}

impl Default for ReplayWindow {
    fn default() -> Self {
        Self { next: 0, seen: [0; WORDS] }
    }
}

impl ReplayWindow {
    /// The counter closest to the next one expected that has these low 24 bits.
    pub const fn reconstruct(&self, low: u32) -> u64 {
        const SPAN: u64 = 1 << LOW_BITS;
        let candidate = (self.next & !(SPAN - 1)) | (low as u64 & (SPAN - 1));
        if candidate + SPAN / 2 <= self.next {
            candidate + SPAN
        } else if candidate >= self.next + SPAN / 2 && candidate >= SPAN {
            candidate - SPAN
        } else {
            candidate
        }
    }

    /// Whether `counter` was neither seen nor fell out of the window.
    pub fn is_fresh(&self, counter: u64) -> bool {
        if counter >= self.next {
            return true;
        }
        self.next - counter <= WINDOW && self.word(counter).is_some_and(|word| word & bit(counter) == 0)
    }

    /// Marks `counter` as seen. To be called for authentic packets only: it moves the window.
    pub fn insert(&mut self, counter: u64) {
        if counter >= self.next {
            self.clear(self.next, counter);
            self.next = counter.saturating_add(1);
        } else if self.next - counter > WINDOW {
            return;
        }
        if let Some(word) = self.seen.get_mut(index(counter)) {
            *word |= bit(counter);
        }
    }

    /// Forgets what the places of `first..=last` stood for one window ago.
    fn clear(&mut self, first: u64, last: u64) {
        if last - first >= WINDOW {
            self.seen = [0; WORDS];
            return;
        }
        for counter in first..=last {
            if let Some(word) = self.seen.get_mut(index(counter)) {
                *word &= !bit(counter);
            }
        }
    }

    fn word(&self, counter: u64) -> Option<u64> {
        self.seen.get(index(counter)).copied()
    }
}

const fn index(counter: u64) -> usize {
    (counter % WINDOW / WORD) as usize
}

const fn bit(counter: u64) -> u64 {
    1 << (counter % WORD)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_counter_is_fresh_once_until_it_is_too_old() {
        let mut window = ReplayWindow::default();
        for counter in [0, 5, 3, WINDOW + 2] {
            assert!(window.is_fresh(counter));
            window.insert(counter);
            assert!(!window.is_fresh(counter));
        }
        assert!(!window.is_fresh(2), "out of the window");
        assert!(!window.is_fresh(3) && !window.is_fresh(5), "seen");
        assert!(window.is_fresh(4));
    }

    #[test]
    fn counters_are_reconstructed_over_the_wrap_of_their_low_bits() {
        let mut window = ReplayWindow::default();
        assert_eq!(window.reconstruct(0), 0);
        assert_eq!(window.reconstruct(0xff_ffff), 0xff_ffff, "there is nothing below zero");
        window.insert(0x1ff_fffe);
        assert_eq!(window.reconstruct(0xff_ffff), 0x1ff_ffff);
        assert_eq!(window.reconstruct(3), 0x200_0003);
        window.insert(0x200_0003);
        assert_eq!(window.reconstruct(0xff_fffd), 0x1ff_fffd, "late");
    }

    proptest! {
        #[test]
        fn agrees_with_a_set_of_all_counters(steps in prop::collection::vec((0..3 * WINDOW, any::<bool>()), 1..400)) {
            let mut window = ReplayWindow::default();
            let mut all = BTreeSet::new();
            let mut newest = 0;
            for (step, ahead) in steps {
                let counter: u64 = if ahead { newest + step % 700 } else { u64::saturating_sub(newest, step) };
                let old = all.last().is_some_and(|last| counter + WINDOW <= *last);
                prop_assert_eq!(window.is_fresh(counter), !old && !all.contains(&counter));
                window.insert(counter);
                if !old {
                    all.insert(counter);
                }
                newest = newest.max(counter);
            }
        }

        #[test]
        fn reconstruction_finds_counters_within_half_the_span(newest in 0..1u64 << 50, behind in any::<bool>(), by in 0..1u64 << 22) {
            let mut window = ReplayWindow::default();
            window.insert(newest);
            let counter = if behind { newest.saturating_sub(by) } else { newest + by };
            prop_assert_eq!(window.reconstruct((counter & 0xff_ffff) as u32), counter);
        }
    }
}
