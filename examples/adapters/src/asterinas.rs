//! Asterinas: the frame allocator of the crate `ostd`.
//!
//! [`GlobalFrameAllocator`] is written out here, with the signatures of `ostd` 0.17. That crate's
//! licence (MPL-2.0) differs from pagemill's, and it builds only for its own kernels. In such a kernel,
//! replace this trait by `ostd::mm::frame::GlobalFrameAllocator`, and mark a static [`OstdFrames`] with
//! `#[ostd::global_frame_allocator]`.

use core::alloc::Layout;

use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, Gfp};

use crate::ranges::{self, address_of};

/// A physical address, as `ostd` has it.
pub type Paddr = usize;

/// The interface of `ostd`.
pub trait GlobalFrameAllocator: Sync {
    /// Allocates adjacent frames. The size of `layout` is a multiple of the page size.
    fn alloc(&self, layout: Layout) -> Option<Paddr>;

    /// Frees frames that [`alloc`](Self::alloc) returned: all, or any part of them.
    fn dealloc(&self, addr: Paddr, size: usize);

    /// Adds memory that nothing uses.
    fn add_free_memory(&self, addr: Paddr, size: usize);
}

/// Frames by their physical addresses.
#[derive(Clone, Copy, Debug)]
pub struct OstdFrames<S> {
    source: S,
    gfp: Gfp,
}

impl<S: AllocPages> OstdFrames<S> {
    /// Makes an adapter that allocates from `source` with the flags `gfp`. `ostd` also
    /// allocates where it must not wait: use [`Gfp::ATOMIC`] or [`Gfp::NOWAIT`], unless
    /// [`Platform::gfp_context`](pagemill::Platform::gfp_context) removes [`Gfp::DIRECT_RECLAIM`] there.
    ///
    /// # Safety
    /// The interface has no unsafe calls, so this one has their obligations:
    /// 1. `dealloc` is called only for frames that were allocated, and that nothing uses.
    /// 2. `add_free_memory` is called only for frames that nothing uses. Frames that are not reserved in the
    ///    allocator's configuration are refused.
    ///
    /// `ostd` meets both obligations.
    pub const unsafe fn new(source: S, gfp: Gfp) -> Self {
        Self { source, gfp }
    }
}

impl<S: AllocPages + Sync> GlobalFrameAllocator for OstdFrames<S> {
    fn alloc(&self, layout: Layout) -> Option<Paddr> {
        let align = layout.align().div_ceil(PAGE_SIZE);
        let nr = layout.size().div_ceil(PAGE_SIZE);
        ranges::alloc(&self.source, self.gfp, nr, align).ok().map(address_of)
    }

    /// # Panics
    /// If no frame begins at `addr`, or a frame is not in the memory map.
    fn dealloc(&self, addr: Paddr, size: usize) {
        let first = PhysAddr::new(addr as u64).frame();
        let first = first.unwrap_or_else(|| panic!("dealloc: no frame begins at {addr:#x}"));
        // SAFETY: 1. owned and given up: obligation 1 of `new`.
        let freed = unsafe { ranges::free(&self.source, first, size.div_ceil(PAGE_SIZE)) };
        freed.unwrap_or_else(|error| panic!("dealloc: {error}"));
    }

    /// # Panics
    /// If a frame is not in the memory map, or is not reserved there.
    fn add_free_memory(&self, addr: Paddr, size: usize) {
        let (first, nr) = Pfn::within(PhysAddr::new(addr as u64), size as u64);
        // SAFETY: 1. unused: obligation 2 of `new`.
        let added = unsafe { ranges::hand_in(&self.source, first, nr) };
        added.unwrap_or_else(|error| panic!("add_free_memory: {error}"));
    }
}
