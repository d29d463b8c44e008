//! Counter-based randomness: draw `n` of a stream depends on (seed, stream, n) alone, so that taking out one fault moves no
//! choice of another.

/// For hash maps: those of the standard library draw a key from the operating system.
pub(crate) type FixedState = std::hash::BuildHasherDefault<std::hash::DefaultHasher>;

/// One named stream of choices.
#[derive(Clone, Debug)]
pub struct Stream {
    key: [u64; 2],
    n: u64,
}

impl Stream {
    /// The stream named by `label` and `index` under `seed`, at its first draw.
    pub fn new(seed: u64, label: &str, index: u64) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&seed.to_le_bytes()).update(&index.to_le_bytes()).update(label.as_bytes());
        let hash = hasher.finalize();
        let mut words = hash.as_bytes().as_chunks::<8>().0.iter().map(|word| u64::from_le_bytes(*word));
        Self { key: [words.next().unwrap_or(0), words.next().unwrap_or(0)], n: 0 }
    }

    /// Draw `n`, whatever was drawn before.
    pub fn at(&self, n: u64) -> u64 {
        mix(mix(self.key[0].wrapping_add(n.wrapping_mul(0x9e37_79b9_7f4a_7c15))) ^ self.key[1])
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let value = self.at(self.n);
        self.n += 1;
        value
    }

    /// A number below `bound`; 0 if `bound` is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next_u64()) * u128::from(bound)) >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Like [`between`](Self::between), but every power of two is as likely as the next: small values are not rare.
    pub fn log_between(&mut self, low: u64, high: u64) -> u64 {
        let (low, high) = (low.max(1), high.max(low).max(1));
        let bits = self.between(u64::from(low.ilog2()), u64::from(high.ilog2()));
        let floor = (1_u64 << bits).max(low);
        let ceiling = (1_u64 << bits).saturating_mul(2).saturating_sub(1).min(high);
        self.between(floor.min(ceiling), ceiling)
    }

    /// True `ppm` times in a million.
    pub fn chance(&mut self, ppm: u32) -> bool {
        self.below(1_000_000) < u64::from(ppm)
    }

    /// One of `items`; `None` if there is none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(usize::try_from(self.below(items.len() as u64)).ok()?)
    }

    /// 32 bytes.
    pub fn bytes32(&mut self) -> [u8; 32] {
        let mut bytes = [0; 32];
        self.fill(&mut bytes);
        bytes
    }

    /// Fills `bytes`.
    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            let word = self.next_u64().to_le_bytes();
            chunk.copy_from_slice(&word[..chunk.len()]);
        }
    }
}

/// The finaliser of SplitMix64: every input bit moves every output bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draw_depends_on_seed_stream_and_number_alone() {
        let mut one = Stream::new(1, "loss", 7);
        let third = one.at(2);
        one.next_u64();
        one.next_u64();
        assert_eq!(one.next_u64(), third);
        for other in [Stream::new(2, "loss", 7), Stream::new(1, "delay", 7), Stream::new(1, "loss", 8)] {
            assert_ne!(other.at(2), third);
        }
    }

    #[test]
    fn ranges_are_kept_and_reached() {
        let mut stream = Stream::new(3, "range", 0);
        let drawn: std::collections::BTreeSet<u64> = (0..1_000).map(|_| stream.between(5, 9)).collect();
        assert_eq!(drawn.into_iter().collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
        assert!((0..1_000).all(|_| (3..=100).contains(&stream.log_between(3, 100))));
        assert_eq!(stream.below(0), 0);
        assert!(!stream.chance(0) && stream.chance(1_000_000));
    }
}
