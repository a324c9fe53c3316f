//! The free blocks before a check, which must be the same after it.

use core::fmt;

use pagemill::gfp::NR_ZONE_KINDS;
use pagemill::stats::NR_PAGE_ORDERS;

use crate::frames::allocator;
use crate::heap;

/// The free blocks of each zone, with nothing in the lists of CPUs.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Baseline {
    nr_free: u64,
    blocks: [[u64; NR_PAGE_ORDERS]; NR_ZONE_KINDS],
}

impl Baseline {
    /// Empties the heap's caches and the lists of all CPUs, and looks.
    pub(super) fn take() -> Self {
        heap::shrink();
        let frames = allocator();
        frames.drain_all_pages();
        let mut blocks = [[0; NR_PAGE_ORDERS]; NR_ZONE_KINDS];
        for zone in frames.zone_info() {
            blocks[zone.kind.index()] = zone.buddyinfo();
        }
        Self { nr_free: frames.nr_free_pages(), blocks }
    }

    /// Checks that the allocator's books agree, and that every page is back, and in one piece with those
    /// that it was in one with.
    pub(super) fn assert_back(&self, check: &str) {
        if let Err(error) = allocator().validate() {
            panic!("after {check}: {error}");
        }
        let now = Self::take();
        assert!(*self == now, "after {check}: {now:?}, before: {self:?}");
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let largest: u64 = self.blocks.iter().map(|blocks| blocks[NR_PAGE_ORDERS - 1]).sum();
        write!(f, "as before: {} free pages, {largest} blocks of order 10", self.nr_free)
    }
}
