//! Numbers that look random and can be repeated.

/// A generator: xorshift, 64 bits.
#[derive(Debug)]
pub(crate) struct Random(u64);

impl Random {
    /// Makes the generator of a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// Returns a number below `end`, which is small against 2^64.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) % end
    }

    /// As [`below`](Self::below), for lengths.
    pub(crate) fn length_below(&mut self, end: usize) -> usize {
        usize::try_from(self.below(end as u64)).expect("below a usize")
    }
}
