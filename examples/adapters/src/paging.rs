//! The crate `x86_64`: frames of all three sizes for page tables and mappings.

use pagemill::units::{PAGE_SIZE, Pfn};
use pagemill::{AllocPages, Gfp};
use x86_64::PhysAddr;
use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, PageSize, PhysFrame};

use crate::ranges;

/// Frames of 4 KiB, 2 MiB and 1 GiB.
///
/// # Examples
/// ```
/// # use pagemill::{AllocPages, Gfp};
/// # use pagemill_adapters::paging::PagingFrames;
/// # use x86_64::structures::paging::{FrameAllocator, FrameDeallocator, Size4KiB};
/// # fn example<S: AllocPages>(source: S) {
/// let mut frames = PagingFrames::new(source, Gfp::KERNEL);
/// if let Some(table) = FrameAllocator::<Size4KiB>::allocate_frame(&mut frames) {
///     // The frame was just allocated, and nothing uses it.
///     unsafe { frames.deallocate_frame(table) };
/// }
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct PagingFrames<S> {
    source: S,
    gfp: Gfp,
}

impl<S: AllocPages> PagingFrames<S> {
    /// Makes an adapter that allocates from `source` with the flags `gfp`.
    pub const fn new(source: S, gfp: Gfp) -> Self {
        Self { source, gfp }
    }
}

// SAFETY: 1. unique unused frames: a source hands out each frame once until it is freed, and `alloc`
// gives up the handles, so only the number that is returned owns them.
unsafe impl<S: AllocPages, Z: PageSize> FrameAllocator<Z> for PagingFrames<S> {
    fn allocate_frame(&mut self) -> Option<PhysFrame<Z>> {
        let nr = nr_frames::<Z>();
        let first = ranges::alloc(&self.source, self.gfp, nr, nr).ok()?;
        Some(PhysFrame::containing_address(PhysAddr::new(first.start().value())))
    }
}

impl<S: AllocPages, Z: PageSize> FrameDeallocator<Z> for PagingFrames<S> {
    /// # Panics
    /// If the frame is not in the memory map of the allocator.
    #[track_caller]
    unsafe fn deallocate_frame(&mut self, frame: PhysFrame<Z>) {
        let first = Pfn::new(frame.start_address().as_u64() / PAGE_SIZE as u64);
        // SAFETY: 1. the caller owns the frames and gives them up: an unused frame, as the trait asks.
        let freed = unsafe { ranges::free(&self.source, first, nr_frames::<Z>()) };
        freed.unwrap_or_else(|error| panic!("cannot free {frame:?}: {error}"));
    }
}

/// Returns how many frames of 4 KiB a frame of this size has.
fn nr_frames<Z: PageSize>() -> usize {
    usize::try_from(Z::SIZE).expect("1 GiB at most") / PAGE_SIZE
}
