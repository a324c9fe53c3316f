//! What the tests of the pool share.

pub(crate) mod naive;
pub(crate) mod player;

use pagemill::PageAllocator;
use pagemill_testkit::{Machine, World};

/// How the tests reach an allocator.
pub(crate) type Frames<'w> = &'w PageAllocator<Machine>;

/// Returns an allocator of two nodes of 8 MiB, which checks at its end that all pages came back; of
/// 2 MiB under Miri, where tests that take all of them would run for minutes.
pub(crate) fn world() -> World {
    World::new(if cfg!(miri) { 1024 } else { 4096 }, 2)
}

/// Random numbers that a seed repeats.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(crate) fn below(&mut self, bound: usize) -> usize {
        usize::try_from((self.next() >> 33) % bound as u64).expect("below a usize")
    }
}
