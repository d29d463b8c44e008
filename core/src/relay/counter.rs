//! The counter of a relay packet, of which the header carries the low bits only.

const LOW_BITS: u32 = 24;

/// The counter closest to `next`, the next one expected, that has these low 24 bits.
pub(super) const fn reconstruct(next: u64, low: u32) -> u64 {
    const SPAN: u64 = 1 << LOW_BITS;
    let candidate = (next & !(SPAN - 1)) | (low as u64 & (SPAN - 1));
    if candidate + SPAN / 2 <= next {
        candidate + SPAN
    } else if candidate >= next + SPAN / 2 && candidate >= SPAN {
        candidate - SPAN
    } else {
        candidate
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn counters_are_reconstructed_over_the_wrap_of_their_low_bits() {
        assert_eq!(reconstruct(0, 0), 0);
        assert_eq!(reconstruct(0, 0xff_ffff), 0xff_ffff, "there is nothing below zero");
        assert_eq!(reconstruct(0x1ff_ffff, 0xff_ffff), 0x1ff_ffff);
        assert_eq!(reconstruct(0x1ff_ffff, 3), 0x200_0003);
        assert_eq!(reconstruct(0x200_0004, 0xff_fffd), 0x1ff_fffd, "late");
    }

    proptest! {
        #[test]
        fn reconstruction_finds_counters_within_half_the_span(newest in 0..1u64 << 50, behind in any::<bool>(), by in 0..1u64 << 22) {
            let counter = if behind { newest.saturating_sub(by) } else { newest + by };
            prop_assert_eq!(reconstruct(newest + 1, (counter & 0xff_ffff) as u32), counter);
        }
    }
}
