//! Ranges of adjacent frames that are known by the number of the first, as all adapters need them.

use core::fmt;

use pagemill::units::{PAGE_SIZE, Pfn, PhysAddr};
use pagemill::{AllocPages, Gfp, Order, Page};

/// Allocates `nr` adjacent frames, the first of them a multiple of `align` frames.
///
/// Returns `None` for no frames, and for an alignment that is no power of two.
pub fn alloc<S: AllocPages>(source: &S, gfp: Gfp, nr: usize, align: usize) -> Option<Pfn> {
    if nr == 0 || !align.is_power_of_two() {
        return None;
    }
    let block = nr.checked_next_power_of_two()?.max(align);
    let order = Order::new(u8::try_from(block.ilog2()).ok()?).ok()?;
    let mut pages = source.clone().alloc_pages(gfp, order)?.split();
    let first = pages.next()?;
    let pfn = first.pfn();
    // The numbers own the frames from here on. The block's tail returns to the allocator.
    let _word = first.into_raw();
    for page in pages.by_ref().take(nr - 1) {
        let _word = page.into_raw();
    }
    Some(pfn)
}

/// Allocates the frames `first` to `first + nr - 1`, if all of them are free.
pub fn alloc_at<S: AllocPages>(source: &S, gfp: Gfp, first: Pfn, nr: usize) -> Option<Pfn> {
    let _ = (source, gfp, first, nr);
    None
}

/// Frees frames, or hands reserved ones in.
///
/// # Errors
/// If the range is not in the allocator's memory map.
///
/// # Safety
/// The caller owns the frames, in ranges that [`alloc`] returned or in pieces of these, or they are
/// reserved; and it gives them up.
pub unsafe fn free<S: AllocPages>(source: &S, first: Pfn, nr: usize) -> Result<(), NotInMap> {
    for pfn in (first.value()..).take(nr).map(Pfn::new) {
        // SAFETY: 1. the caller owns the frame, or it is reserved: guaranteed by the caller.
        let page = unsafe { Page::from_pfn(source.clone(), pfn) };
        drop(page.ok_or(NotInMap { pfn, first, nr })?);
    }
    Ok(())
}

/// A range contains frames that are not in the memory map of the allocator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NotInMap {
    /// The first frame that is not in the map.
    pub pfn: Pfn,
    /// First frame of the range.
    pub first: Pfn,
    /// Number of frames of the range.
    pub nr: usize,
}

impl fmt::Display for NotInMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pfn, first, nr } = self;
        write!(f, "frame {pfn} of the {nr} frames from {first} is not in the memory map")
    }
}

impl core::error::Error for NotInMap {}

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
