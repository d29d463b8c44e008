//! The bytes of a case, read from the front; what is missing is 0.

use std::time::Duration;

/// A case.
#[derive(Debug)]
pub(super) struct Case<'a>(&'a [u8]);

impl<'a> Case<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_over(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else { return 0 };
        self.0 = rest;
        *first
    }

    pub(super) fn flag(&mut self) -> bool {
        self.byte() & 1 != 0
    }

    pub(super) fn below(&mut self, bound: usize) -> usize {
        usize::from(self.byte()) % bound.max(1)
    }

    pub(super) fn word(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    pub(super) fn number(&mut self) -> u64 {
        match self.byte() {
            small @ 0..=199 => u64::from(small),
            200..=229 => u64::from(self.word()),
            230..=239 => u64::MAX - u64::from(self.byte()),
            _ => u64::from_le_bytes(std::array::from_fn(|_| self.byte())),
        }
    }

    /// So many bytes as the next one says.
    pub(super) fn bytes(&mut self) -> &'a [u8] {
        let len = usize::from(self.byte()).min(self.0.len());
        let (taken, rest) = self.0.split_at(len);
        self.0 = rest;
        taken
    }

    /// Bytes of a length that few bytes of the case say: those of the case, then one byte again and again.
    pub(super) fn stretched(&mut self, max: usize) -> Vec<u8> {
        let len = usize::from(self.word()) % (max + 1);
        let filling = self.byte();
        let mut bytes = self.bytes().to_vec();
        bytes.resize(len.max(bytes.len()).min(max), filling);
        bytes
    }

    /// From microseconds to hours.
    pub(super) fn time(&mut self) -> Duration {
        let (scale, factor) = (self.byte() % 12, u64::from(self.byte()) + 1);
        Duration::from_micros(factor * 4u64.pow(scale.into()))
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len())).copied()
    }
}
