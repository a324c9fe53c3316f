//! Random numbers that cost little: xorshift.

use core::alloc::Layout;

/// Random numbers that depend on nothing but the seed.
#[derive(Debug)]
pub(crate) struct Random(u64);

/// Slots of larson.
pub(crate) const NR_SLOTS: usize = 1024;

impl Random {
    /// Starts from a seed.
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.max(1))
    }

    /// Returns one of the slots, and the layout of an object of 8 to 512 bytes.
    #[inline]
    pub(crate) fn slot(&mut self) -> (usize, Layout) {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        let high = usize::try_from(self.0 >> 40).unwrap_or(0);
        let low = usize::try_from(self.0 & 0xffff_ffff).unwrap_or(0);
        (low % NR_SLOTS, layout(8 + high % 505))
    }
}

/// Returns the layout of an object that is aligned to 8 bytes.
#[inline]
pub(crate) fn layout(size: usize) -> Layout {
    Layout::from_size_align(size, 8).expect("a small size")
}
