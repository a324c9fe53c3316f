//! Ranges of adjacent frames that are known by the number of the first, as all adapters need them.

use pagemill::contig::{ContigError, FrameRange};
use pagemill::handles::PfnError;
use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, Gfp, Shortage};

/// Allocates `nr` adjacent frames, the first of them a multiple of `align` frames.
///
/// # Errors
/// Why not: no frames, an alignment that is no power of two, more frames than a zone has, or no room.
pub fn alloc<S: AllocPages>(
    source: &S,
    gfp: Gfp,
    nr: usize,
    align: usize,
) -> Result<Pfn, ContigError> {
    if nr == 1 && align == 1 {
        // From the list of this CPU, where the flags allow it.
        let page = source.clone().alloc_page(gfp);
        let page = page.ok_or(ContigError::Short { nr, short: Shortage::Memory })?;
        return Ok(given_up(page.into()));
    }
    source.clone().alloc_contig(gfp, nr, align, None).map(given_up)
}

/// Allocates the frames `first` to `first + nr - 1`.
///
/// # Errors
/// Why not: no frames, frames that are not in the memory map, or one that is not free.
pub fn alloc_at<S: AllocPages>(
    source: &S,
    gfp: Gfp,
    first: Pfn,
    nr: usize,
) -> Result<Pfn, ContigError> {
    source.clone().alloc_contig_range(gfp, first, nr).map(given_up)
}

/// Returns the first frame of a range, whose number owns all of its frames from now on.
fn given_up<S: AllocPages>(range: FrameRange<S>) -> Pfn {
    let (first, _nr) = range.into_pfn();
    first
}

/// Frees frames.
///
/// # Errors
/// If a frame is not in the allocator's memory map, or is reserved.
///
/// # Safety
/// The caller owns the frames, in ranges that [`alloc`] returned or in pieces of these, and it gives
/// them up.
pub unsafe fn free<S: AllocPages>(source: &S, first: Pfn, nr: usize) -> Result<(), PfnError> {
    // SAFETY: 1. the caller owns the frames: guaranteed by the caller.
    unsafe { source.clone().free_pfn_range(first, nr) }
}

/// Hands in reserved frames.
///
/// # Errors
/// If a frame is not in the allocator's memory map, or is not reserved.
///
/// # Safety
/// Nothing uses the frames.
pub unsafe fn hand_in<S: AllocPages>(source: &S, first: Pfn, nr: usize) -> Result<(), PfnError> {
    // SAFETY: 1. unused: guaranteed by the caller.
    unsafe { source.clone().hand_in(first, nr) }
}

/// Returns the whole frames within `len_bytes` bytes from `start` on: the first, and how many.
pub(crate) fn whole_frames(start: usize, len_bytes: usize) -> (Pfn, usize) {
    let first = start.div_ceil(PAGE_SIZE);
    let end = (start + len_bytes) / PAGE_SIZE;
    (Pfn::new(first as u64), end.saturating_sub(first))
}

/// Returns the frame that begins at `address`, or `None` if none does.
pub(crate) fn frame_at(address: usize) -> Option<Pfn> {
    let pages = address.is_multiple_of(PAGE_SIZE);
    pages.then(|| PhysAddr::new(address as u64).pfn())
}

/// Returns the address of a frame.
pub(crate) fn address_of(pfn: Pfn) -> usize {
    usize::try_from(pfn.start().value()).expect("pagemill needs 64-bit pointers")
}
