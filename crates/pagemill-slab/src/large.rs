//! Large objects: folios up to 4 MiB, contiguous ranges above.

use core::alloc::Layout;
use core::ptr::NonNull;

use pagemill::accounts::AccountId;
use pagemill::contig::ContigRequest;
use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::{MAX_ORDER, PAGE_SIZE, Pfn};
use pagemill::{AllocPages, BulkRequest, Folio, Gfp, Order, Platform};

use crate::slabs::{Frame, Slabs};
use crate::tag::Tag;

/// A request for a large object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LargeRequest {
    pub(crate) gfp: Gfp,
    pub(crate) layout: Layout,
    pub(crate) account: Option<AccountId>,
}

/// Allocates a large object.
pub(crate) fn alloc<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    request: &LargeRequest,
) -> Option<NonNull<u8>> {
    let layout = request.layout;
    let nr_pages = layout.size().div_ceil(PAGE_SIZE).max(1);
    let align_pages = layout.align().div_ceil(PAGE_SIZE);
    let least = nr_pages.max(align_pages).checked_next_power_of_two()?;
    let (first, nr_pages) = if least <= MAX_ORDER.nr_pages() {
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_ORDER")]
        let order = Order::new(least.ilog2() as u8).ok()?;
        (block(slabs, request, order)?, least)
    } else {
        (range(slabs, request, nr_pages, align_pages)?, nr_pages)
    };
    let frame = slabs.frame(first);
    let start = slabs.start(frame);
    if !start.addr().get().is_multiple_of(layout.align()) {
        // The direct map does not keep the alignment of frame numbers.
        free_pages(slabs, first, nr_pages);
        return None;
    }
    slabs.set_links(frame, nr_pages as u64);
    slabs.set_tag(frame, Tag::LARGE);
    Some(start)
}

fn block<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    request: &LargeRequest,
    order: Order,
) -> Option<Pfn> {
    let source = slabs.source().clone();
    let &LargeRequest { gfp, account, .. } = request;
    if account.is_none() {
        return source.alloc_pages(gfp, order).map(Folio::into_pfn);
    }
    let mut pfn = [Pfn::new(0)];
    let request = BulkRequest { order, account, ..BulkRequest::new(gfp) };
    (source.bulk_pfns(&request, &mut pfn).new == 1).then_some(pfn[0])
}

fn range<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    request: &LargeRequest,
    nr_pages: usize,
    align_pages: usize,
) -> Option<Pfn> {
    let contig = ContigRequest {
        align: align_pages,
        account: request.account,
        ..ContigRequest::new(request.gfp, nr_pages)
    };
    Some(slabs.source().clone().alloc_contig_with(&contig).ok()?.into_pfn().0)
}

/// Frees a large object. In a child of `fork`, it stays where it is.
///
/// # Panics
/// If the address is not that of a large object.
///
/// # Safety
/// An object at the address of a large object is given up.
#[inline(never)]
#[track_caller]
pub(crate) unsafe fn free<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    object: NonNull<u8>,
) {
    if slabs.platform().is_abandoned() {
        return;
    }
    let frame = find(slabs, object);
    slabs.set_tag(frame, Tag::NONE);
    free_pages(slabs, slabs.pfn(frame), nr_pages(slabs, frame));
}

/// Returns the number of bytes of a large object.
#[track_caller]
pub(crate) fn size<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    object: NonNull<u8>,
) -> usize {
    nr_pages(slabs, find(slabs, object)) * PAGE_SIZE
}

/// Returns whether a large object can have `new_size` bytes where it is, and would use more than half of its
/// pages.
#[track_caller]
pub(crate) fn fits<S: PageSource<Platform: DirectMap>>(
    slabs: &Slabs<S>,
    object: NonNull<u8>,
    new_size: usize,
) -> bool {
    let (has, needs) = (size(slabs, object) / PAGE_SIZE, new_size.div_ceil(PAGE_SIZE));
    (has / 2 + 1..=has).contains(&needs)
}

fn nr_pages<S: PageSource<Platform: DirectMap>>(slabs: &Slabs<S>, frame: Frame) -> usize {
    usize::try_from(slabs.links(frame)).unwrap_or(usize::MAX)
}

fn free_pages<S: PageSource<Platform: DirectMap>>(slabs: &Slabs<S>, first: Pfn, nr_pages: usize) {
    let source = slabs.source().clone();
    // SAFETY: 1. owned by their number, and given up: the caller has just allocated them, or has removed the
    // tag of the large object that they were.
    let is_freed = unsafe { source.free_pfn_range(first, nr_pages) }.is_ok();
    assert!(is_freed, "pages of a large object are frames of the memory map");
}

/// Returns the first frame of the large object at an address.
#[track_caller]
fn find<S: PageSource<Platform: DirectMap>>(slabs: &Slabs<S>, object: NonNull<u8>) -> Frame {
    let address = object.addr().get();
    let frame = slabs.frame_of(address).filter(|&frame| slabs.tag(frame) == Tag::LARGE);
    match frame.filter(|_| address.is_multiple_of(PAGE_SIZE)) {
        Some(frame) => frame,
        None => refuse(object),
    }
}

#[cold]
#[inline(never)]
#[track_caller]
fn refuse(object: NonNull<u8>) -> ! {
    panic!(
        "heap: {object:p} cannot be freed or measured: it is not the start of an object of this heap, was \
         freed before, or was allocated with another layout"
    )
}
