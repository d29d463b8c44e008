//! Randomness from one seed: every component has a named stream of its own, so that what one draws moves no other.

use rand_chacha::{
    ChaCha12Rng,
    rand_core::{Rng as _, SeedableRng},
};

/// A deterministic stream of random numbers (ChaCha12).
#[derive(Clone, Debug)]
pub struct Rng {
    seed: [u8; 32],
    stream: ChaCha12Rng,
}

impl Rng {
    /// A stream that follows from `seed` alone.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self { seed, stream: ChaCha12Rng::from_seed(seed) }
    }

    /// An independent stream, named by `label` and `index`; what was drawn from `self` does not matter.
    pub fn fork(&self, label: &str, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new_keyed(&self.seed);
        hasher.update(label.as_bytes()).update(&[0]).update(&index.to_le_bytes());
        Self::from_seed(*hasher.finalize().as_bytes())
    }

    /// `N` random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.fill(&mut bytes);
        bytes
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        self.stream.fill_bytes(bytes);
    }

    /// 64 random bits.
    pub fn next_u64(&mut self) -> u64 {
        self.stream.next_u64()
    }

    /// A number below `bound`; 0 if `bound` is 0. The bias is below `bound` / 2^64.
    pub fn below(&mut self, bound: u64) -> u64 {
        let product = u128::from(self.next_u64()) * u128::from(bound);
        (product >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forks_depend_on_seed_label_and_index_alone() {
        let root = Rng::from_seed([1; 32]);
        let mut drawn = root.clone();
        drawn.next_u64();
        assert_eq!(root.fork("a", 1).next_u64(), drawn.fork("a", 1).next_u64());
        let values = [("a", 1), ("a", 2), ("b", 1)].map(|(label, index)| root.fork(label, index).next_u64());
        assert!(values[0] != values[1] && values[0] != values[2] && values[1] != values[2]);
    }

    #[test]
    fn below_stays_below() {
        let mut rng = Rng::from_seed([2; 32]);
        assert!((0..1000).all(|_| rng.below(7) < 7));
        assert_eq!(rng.below(0), 0);
    }
}
