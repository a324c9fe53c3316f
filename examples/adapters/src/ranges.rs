//! Adjacent frames that are known by the number of the first: allocation and free, for all adapters.

use pagemill::contig::{ContigError, FrameRange};
use pagemill::handles::PfnError;
use pagemill::units::Pfn;
use pagemill::{AllocPages, Gfp, Order};

/// Allocates `nr` adjacent frames, the first of them a multiple of `align` frames.
///
/// If `nr` is a power of two up to 1024 and `align` is not larger, first tries to allocate a block: 2 MiB
/// pages, for instance, come from the lists of this CPU.
///
/// # Errors
/// Why not: no frames, an alignment that is no power of two, more frames than a zone has, or no room.
pub fn alloc<S: AllocPages>(
    source: &S,
    gfp: Gfp,
    nr: usize,
    align: usize,
) -> Result<Pfn, ContigError> {
    if let Some(order) = order_of(nr)
        && align.is_power_of_two()
        && align <= nr
    {
        // A block of an order that the lists of this CPU have costs a few nanoseconds. Reclaim and
        // waiting are left to the request below, which also finds frames that are not aligned.
        let gfp = gfp.difference(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL);
        if let Some(block) = source.clone().alloc_pages(gfp, order) {
            return Ok(block.into_pfn());
        }
    }
    source.clone().alloc_contig(gfp, nr, align, None).map(given_up)
}

/// Returns the order of a block of `nr` frames, if there are such blocks.
fn order_of(nr: usize) -> Option<Order> {
    let order = u8::try_from(nr.checked_ilog2()?).ok()?;
    Order::new(order).ok().filter(|_| nr.is_power_of_two())
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

/// Returns the address of a frame.
pub(crate) fn address_of(pfn: Pfn) -> usize {
    usize::try_from(pfn.start().value()).expect("pagemill needs 64-bit pointers")
}
