//! ArceOS: the page allocator of the crate `axallocator` 0.2.

use axallocator::{AllocError, AllocResult, BaseAllocator, PageAllocator};
use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, Gfp};

use crate::ranges::{self, address_of};

/// Pages by their addresses.
///
/// ArceOS names pages by the addresses at which its direct map shows them: physical addresses plus an
/// offset.
///
/// Differs from `BitmapPageAllocator`: no promise that the lowest free address comes first; more memory
/// can be added; a page that is freed twice, or was never allocated, is a panic where pagemill finds it
/// (see [`Config::page_owner`](pagemill::Config::page_owner)), and is not ignored.
#[derive(Clone, Copy, Debug)]
pub struct ArceosPages<S> {
    source: S,
    gfp: Gfp,
    /// Where the direct map shows physical address zero.
    offset: usize,
}

impl<S: AllocPages> ArceosPages<S> {
    /// Makes an adapter that allocates from `source` with the flags `gfp`. The direct map begins at
    /// `offset`.
    ///
    /// # Safety
    /// The interface has no unsafe calls, so this one has their obligations:
    /// 1. `dealloc_pages` is called only for pages that were allocated, and that nothing uses; it may be
    ///    called for parts of them.
    /// 2. `init` and `add_memory` are called only for frames that nothing uses. Frames that are not reserved
    ///    in the allocator's configuration are refused.
    pub const unsafe fn new(source: S, gfp: Gfp, offset: usize) -> Self {
        Self { source, gfp, offset }
    }

    /// Returns the alignment in frames.
    fn check_align(align_bytes: usize) -> AllocResult<usize> {
        if align_bytes.is_power_of_two() && align_bytes >= PAGE_SIZE {
            Ok(align_bytes / PAGE_SIZE)
        } else {
            Err(AllocError::InvalidParam)
        }
    }

    /// Returns the frame that the direct map shows at `address`, or `None` if none begins there.
    fn frame_at(&self, address: usize) -> Option<Pfn> {
        PhysAddr::new(address.checked_sub(self.offset)? as u64).frame()
    }

    fn hand_in(&self, start: usize, len_bytes: usize) -> AllocResult {
        let start = start.checked_sub(self.offset).ok_or(AllocError::InvalidParam)?;
        let (first, nr) = Pfn::within(PhysAddr::new(start as u64), len_bytes as u64);
        // SAFETY: 1. unused: obligation 2 of `new`.
        unsafe { ranges::hand_in(&self.source, first, nr) }.map_err(|_| AllocError::InvalidParam)
    }
}

impl<S: AllocPages> BaseAllocator for ArceosPages<S> {
    /// # Panics
    /// If the memory is not in the memory map of the allocator, or is not reserved there.
    fn init(&mut self, start: usize, size: usize) {
        self.hand_in(start, size).unwrap_or_else(|_| {
            panic!(
                "init: {size:#x} bytes from {start:#x} are not reserved in the allocator's memory map"
            )
        });
    }

    fn add_memory(&mut self, start: usize, size: usize) -> AllocResult {
        self.hand_in(start, size)
    }
}

impl<S: AllocPages> PageAllocator for ArceosPages<S> {
    const PAGE_SIZE: usize = PAGE_SIZE;

    fn alloc_pages(&mut self, num_pages: usize, align_pow2: usize) -> AllocResult<usize> {
        let align = Self::check_align(align_pow2)?;
        if num_pages == 0 {
            return Err(AllocError::InvalidParam);
        }
        let first = ranges::alloc(&self.source, self.gfp, num_pages, align);
        first.map(|pfn| address_of(pfn) + self.offset).map_err(|_| AllocError::NoMemory)
    }

    fn alloc_pages_at(
        &mut self,
        base: usize,
        num_pages: usize,
        align_pow2: usize,
    ) -> AllocResult<usize> {
        Self::check_align(align_pow2)?;
        if num_pages == 0 || !base.is_multiple_of(align_pow2) {
            return Err(AllocError::InvalidParam);
        }
        let first = self.frame_at(base);
        let first = first.ok_or(AllocError::InvalidParam)?;
        let first = ranges::alloc_at(&self.source, self.gfp, first, num_pages);
        first.map(|_| base).map_err(|_| AllocError::NoMemory)
    }

    /// # Panics
    /// If `pos` is no multiple of the page size, or a page is not in the memory map.
    fn dealloc_pages(&mut self, pos: usize, num_pages: usize) {
        let first = self.frame_at(pos);
        let first = first.unwrap_or_else(|| panic!("dealloc_pages: no page begins at {pos:#x}"));
        // SAFETY: 1. owned and given up: obligation 1 of `new`.
        let freed = unsafe { ranges::free(&self.source, first, num_pages) };
        freed.unwrap_or_else(|error| panic!("dealloc_pages: {error}"));
    }

    fn total_pages(&self) -> usize {
        count(self.source.allocator().zone_info().map(|zone| zone.managed).sum())
    }

    fn used_pages(&self) -> usize {
        self.total_pages() - self.available_pages()
    }

    fn available_pages(&self) -> usize {
        count(self.source.allocator().nr_free_pages())
    }
}

fn count(nr_pages: u64) -> usize {
    usize::try_from(nr_pages).expect("an allocator has at most 2^32 frames")
}
