//! Allocators of frame numbers behind a lock: a buddy allocator, and a tree of bitmaps.

use std::sync::{Mutex, PoisonError};

use bitmap_allocator::{BitAlloc, BitAlloc1M};
use buddy_system_allocator::FrameAllocator;

use crate::peer::{NoBlock, Peer, Slots};

/// The frame allocator of `buddy_system_allocator`.
pub(crate) struct Buddy(Mutex<FrameAllocator>);

impl Buddy {
    /// Makes an allocator for an arena.
    pub(crate) fn new(nr_pages: usize) -> Self {
        let mut frames = FrameAllocator::new();
        frames.insert(0..nr_pages);
        Self(Mutex::new(frames))
    }
}

/// The first frame of a block, and the number of its frames.
pub(crate) struct FrameBlock(usize, usize);

impl Peer for Buddy {
    type Block = FrameBlock;
    type Batch<const M: usize> = Slots<usize, M>;
    type Worker = ();
    const NAME: &'static str = "buddy-system";
    const NOTE: &'static str =
        "FrameAllocator in a std Mutex, a loop, locked once a batch or block";
    const HAS_BLOCKS: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc_block(&'static self, order: u8) -> Option<FrameBlock> {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nr = 1 << order;
        Some(FrameBlock(frames.alloc(nr)?, nr))
    }

    #[inline]
    fn free_block(&'static self, FrameBlock(first, nr): FrameBlock) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        frames.dealloc(first, nr);
    }

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<usize, M>, nr: usize) -> usize {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batch.fill(nr, || frames.alloc(1))
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<usize, M>) {
        let mut frames = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &frame in batch.take() {
            frames.dealloc(frame, 1);
        }
    }
}

/// The tree of `bitmap-allocator` for up to 2^20 frames.
pub(crate) struct Bitmap(Mutex<Box<BitAlloc1M>>);

impl Bitmap {
    /// Number of frames that the tree can manage.
    pub(crate) const NR_PAGES_MAX: usize = BitAlloc1M::CAP;

    /// Makes an allocator for an arena of at most [`NR_PAGES_MAX`](Self::NR_PAGES_MAX) pages.
    pub(crate) fn new(nr_pages: usize) -> Self {
        let mut bits = Box::new(BitAlloc1M::DEFAULT);
        bits.insert(0..nr_pages);
        Self(Mutex::new(bits))
    }
}

impl Peer for Bitmap {
    type Block = NoBlock;
    type Batch<const M: usize> = Slots<usize, M>;
    type Worker = ();
    const NAME: &'static str = "bitmap";
    const NOTE: &'static str = "bitmap-allocator in a std Mutex, a loop, locked once a batch";

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<usize, M>, nr: usize) -> usize {
        let mut bits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batch.fill(nr, || bits.alloc())
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<usize, M>) {
        let mut bits = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for &frame in batch.take() {
            bits.dealloc(frame);
        }
    }
}
