//! General-purpose allocators, called for blocks with the size and alignment of a page.

use core::alloc::{GlobalAlloc, Layout};
use core::ptr::NonNull;
use std::sync::{Mutex, PoisonError};

use pagemill_host::ArenaConfig;
use pagemill_host::arena::Arena;
use talc::DefaultBinning;
use talc::base::Talc;
use talc::source::Manual;

use crate::peer::{NoBlock, Peer, Slots};

/// The layout of a page.
pub(super) const PAGE: Layout = match Layout::from_size_align(4096, 4096) {
    Ok(layout) => layout,
    Err(_) => panic!("4096 is a power of two"),
};

/// A block from an allocator, owned by its holder.
///
/// `block-owned`: each block in a batch was allocated by the batch's peer, is in no other batch,
/// and is removed from the batch when it is freed.
#[derive(Clone, Copy, Debug, Default)]
#[repr(transparent)]
pub(crate) struct Block(pub(super) Option<NonNull<u8>>);

// SAFETY:
// 1. A block is memory, which belongs to no thread; nothing here reads or writes it.
unsafe impl Send for Block {}

/// A thread-safe allocator, called through `GlobalAlloc` once per page.
#[derive(Debug)]
pub(crate) struct Malloc<A>(pub(crate) A);

/// The name of an allocator in reports.
pub(crate) trait Named: GlobalAlloc + Sync + 'static {
    /// Its name.
    const NAME: &'static str;
}

impl Named for mimalloc::MiMalloc {
    const NAME: &'static str = "mimalloc";
}

impl Named for tikv_jemallocator::Jemalloc {
    const NAME: &'static str = "jemalloc";
}

#[cfg(feature = "snmalloc")]
impl Named for snmalloc_rs::SnMalloc {
    const NAME: &'static str = "snmalloc";
}

/// A block of several pages, and its layout; `block-owned`: freed once, since it cannot be copied.
#[derive(Debug)]
pub(crate) struct SizedBlock {
    first: NonNull<u8>,
    layout: Layout,
}

// SAFETY:
// 1. A block is memory, which belongs to no thread; nothing here reads or writes it.
unsafe impl Send for SizedBlock {}

impl<A: Named> Peer for Malloc<A> {
    type Block = SizedBlock;
    type Batch<const M: usize> = Slots<Block, M>;
    type Worker = ();
    const NAME: &'static str = A::NAME;
    const NOTE: &'static str = "GlobalAlloc, 4096 bytes aligned to 4096, a loop; blocks alike";
    const HAS_BLOCKS: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc_block(&'static self, order: u8) -> Option<SizedBlock> {
        let size = PAGE.size() << order;
        let layout = Layout::from_size_align(size, size).ok()?;
        // SAFETY: 1. The layout's size is not zero.
        let first = unsafe { self.0.alloc(layout) };
        Some(SizedBlock { first: NonNull::new(first)?, layout })
    }

    #[inline]
    fn free_block(&'static self, SizedBlock { first, layout }: SizedBlock) {
        // SAFETY: 1. allocated with this layout by the one allocator of this type, and not freed yet:
        //    `block-owned`.
        unsafe { self.0.dealloc(first.as_ptr(), layout) };
    }

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>, nr: usize) -> usize {
        batch.fill(nr, || {
            // SAFETY: 1. The layout's size is not zero.
            let block = unsafe { self.0.alloc(PAGE) };
            Some(Block(Some(NonNull::new(block)?)))
        })
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>) {
        for block in batch.take().iter().filter_map(|block| block.0) {
            // SAFETY: 1. allocated here, with this layout, and not freed yet: `block-owned`.
            unsafe { self.0.dealloc(block.as_ptr(), PAGE) };
        }
    }
}

/// talc over its own memory, behind a lock.
#[derive(Debug)]
pub(crate) struct LockedTalc(Mutex<Talc<Manual, DefaultBinning>>);

impl LockedTalc {
    /// Makes an allocator with room for `nr_pages`.
    ///
    /// # Errors
    /// The error of mapping the memory.
    pub(crate) fn new(nr_pages: usize) -> anyhow::Result<Self> {
        // An aligned page and talc's metadata after it need the space of two pages.
        let len_bytes = (2 * nr_pages as u64 + NR_PAGES_SPARE) * 4096;
        let arena = Box::leak(Box::new(Arena::map(&ArenaConfig::new(len_bytes))?));
        let mut talc = Talc::new(Manual);
        // SAFETY:
        // 1. The bytes are readable and writable, nothing else uses them, and they stay mapped: the
        //    arena is leaked.
        let heap = unsafe { talc.claim(arena.base().as_ptr(), arena.len_bytes()) };
        anyhow::ensure!(heap.is_some(), "talc refuses a heap of {len_bytes} bytes");
        Ok(Self(Mutex::new(talc)))
    }
}

/// Number of pages for talc's own tables.
const NR_PAGES_SPARE: u64 = 512;

impl Peer for LockedTalc {
    type Block = NoBlock;
    type Batch<const M: usize> = Slots<Block, M>;
    type Worker = ();
    const NAME: &'static str = "talc";
    const NOTE: &'static str =
        "in a std Mutex, 4096 bytes aligned to 4096, a loop, locked once a batch";

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>, nr: usize) -> usize {
        let mut talc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batch.fill(nr, || {
            // SAFETY: 1. The layout's size is not zero.
            let block = unsafe { talc.allocate(PAGE) }?;
            Some(Block(Some(block)))
        })
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Slots<Block, M>) {
        let mut talc = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for block in batch.take().iter().filter_map(|block| block.0) {
            // SAFETY: 1. allocated here, with this layout, and not freed yet: `block-owned`.
            unsafe { talc.deallocate(block.as_ptr(), PAGE) };
        }
    }
}
