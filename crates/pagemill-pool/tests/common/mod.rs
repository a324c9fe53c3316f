//! What the tests of the pool share.

pub(crate) mod naive;
pub(crate) mod player;

use core::fmt;
use core::ops::Deref;

use pagemill::{FaultConfig, PageAllocator};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

/// An allocator of two nodes, which checks at its end that all pages came back.
pub(crate) struct World {
    frames: PageAllocator<Host>,
    nr_free: u64,
}

impl World {
    pub(crate) fn new() -> Self {
        Self::of(16 << 20)
    }

    /// As [`new`](Self::new), with an arena of `len_bytes`.
    pub(crate) fn of(len_bytes: u64) -> Self {
        let arena = ArenaConfig::new(len_bytes);
        let config = AllocatorConfig { nr_nodes: 2, ..AllocatorConfig::new(arena) };
        let frames = allocator(&config).expect("there is memory");
        let nr_free = frames.nr_free_pages();
        Self { frames, nr_free }
    }

    /// Returns how many pages are out.
    pub(crate) fn nr_out(&self) -> u64 {
        self.frames.drain_all_pages();
        self.nr_free - self.frames.nr_free_pages()
    }

    pub(crate) fn fail_all(&self, fail: bool) {
        let config = if fail { FaultConfig::EVERY } else { FaultConfig::NEVER };
        self.frames.inject_faults(&config);
    }
}

impl Deref for World {
    type Target = PageAllocator<Host>;

    fn deref(&self) -> &PageAllocator<Host> {
        &self.frames
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.nr_out(), 0, "pages were lost");
        }
    }
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("World")
    }
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
