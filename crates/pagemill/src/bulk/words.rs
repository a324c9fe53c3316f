//! Bulk calls on slots of page words, for code that has no handles: C structures, rings of devices.

use core::mem;

use super::engine::{Got, Sink, Wanted};
use crate::base::gfp::Gfp;
use crate::base::raw_page::{Class, InvalidRawPage, RawPage};
use crate::base::units::{Order, Pfn};
use crate::page::page::FullWords;
use crate::page::source::PageSource;
use crate::page_alloc::allocator::{PAGES_PER_HOLD, PageAllocator, Site};
use crate::percpu::pcp::Batch;
use crate::platform::platform::Platform;

/// Fills the empty slots; see [`AllocPages::alloc_raw_bulk`](crate::AllocPages::alloc_raw_bulk).
// Always: as `AllocPages::alloc_raw_bulk`.
#[inline(always)]
pub(crate) fn alloc<S: PageSource>(
    source: &S,
    gfp: Gfp,
    slots: &mut [Option<RawPage>],
    site: Site,
) -> usize {
    match slots {
        [slot @ None] => {
            *slot = source.allocator().alloc_single(gfp, None, site);
            usize::from(slot.is_some())
        }
        [] | [Some(_)] => slots.len(),
        _ if are_empty(slots) => {
            let nr = slots.len();
            let wanted = Wanted { claim: nr, new: nr };
            if source.allocator().alloc_bulk_ready(gfp, wanted, &mut EmptyWords { slots }) {
                return nr;
            }
            alloc_into_empty(source, gfp, slots, site)
        }
        _ => alloc_into_holes(source, gfp, slots, site),
    }
}

/// Does what [`alloc()`] does where all slots are empty, and more than a copy is necessary.
#[inline(never)]
fn alloc_into_empty<S: PageSource>(
    source: &S,
    gfp: Gfp,
    slots: &mut [Option<RawPage>],
    site: Site,
) -> usize {
    let nr = slots.len();
    let wanted = Wanted { claim: nr, new: nr };
    let mut empty = EmptyWords { slots };
    source.allocator().alloc_at_least_one(gfp, None, wanted, &mut empty, site).new_pages()
}

/// Does what [`alloc()`] does where some slots hold a page.
#[cold]
#[inline(never)]
fn alloc_into_holes<S: PageSource>(
    source: &S,
    gfp: Gfp,
    slots: &mut [Option<RawPage>],
    site: Site,
) -> usize {
    let nr = slots.len();
    let Some(first_hole) = slots.iter().position(Option::is_none) else { return nr };
    let rest = &mut slots[first_hole..];
    if let [slot] = rest {
        *slot = source.allocator().alloc_single(gfp, None, site);
        return first_hole + usize::from(slot.is_some());
    }
    let new = rest.iter().filter(|slot| slot.is_none()).count();
    let mut holes = WordHoles { slots: rest.iter_mut() };
    let wanted = Wanted { claim: nr, new };
    match source.allocator().alloc_at_least_one(gfp, None, wanted, &mut holes, site) {
        Got::Bulk(filled) if filled == new => nr,
        Got::Bulk(_) => slots.iter().position(Option::is_none).unwrap_or(nr),
        // The prefix that the call has seen, as on handles.
        Got::Single => first_hole + 1,
        Got::Nothing => first_hole,
    }
}

/// Returns whether no slot holds a page, as [`all_empty`](super::slots::all_empty) does for handles.
#[inline]
pub(super) fn are_empty(slots: &[Option<RawPage>]) -> bool {
    slots.last().is_none_or(Option::is_none)
        && slots.iter().fold(0, |sum, slot| sum | slot.map_or(0, RawPage::word)) == 0
}

/// A sink of slots that are all empty.
pub(super) struct EmptyWords<'a> {
    pub(super) slots: &'a mut [Option<RawPage>],
}

impl Sink for EmptyWords<'_> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        let (filled, rest) = mem::take(&mut self.slots).split_at_mut(pages.len());
        for (slot, &page) in filled.iter_mut().zip(pages) {
            *slot = Some(page);
        }
        self.slots = rest;
    }
}

/// A sink of slots of which some hold a page.
pub(super) struct WordHoles<'a> {
    pub(super) slots: core::slice::IterMut<'a, Option<RawPage>>,
}

impl Sink for WordHoles<'_> {
    fn accept(&mut self, pages: &[RawPage]) {
        let holes = self.slots.by_ref().filter(|slot| slot.is_none());
        for (&page, slot) in pages.iter().zip(holes) {
            *slot = Some(page);
        }
    }
}

/// Frees slots; see [`AllocPages::try_release_raw`](crate::AllocPages::try_release_raw).
#[inline]
pub(crate) fn try_release<P: Platform>(
    allocator: &PageAllocator<P>,
    slots: &mut [Option<RawPage>],
) -> bool {
    let (class, nr) = (class_of(slots), slots.len());
    if let Some(words) = allocator.plain_words(class)
        && let Some(mut full) = FullWords::check(words, slots)
    {
        return allocator.free_class_ready(class, nr, |room| full.take_into(room));
    }
    false
}

/// Returns the class of the page in the first slot.
#[inline]
fn class_of(slots: &[Option<RawPage>]) -> Class {
    slots.first().and_then(|&slot| slot).map_or(Class::NONE, RawPage::class)
}

/// Slots that are freed together if they hold pages of one class.
///
/// 2 KiB: C libraries clear more by a string instruction, which is slower to start.
const GROUP: usize = 256;

/// Slots of different classes that are checked together before they are freed together.
const CHUNK: usize = Batch::CAPACITY;

const _: () = assert!(GROUP <= PAGES_PER_HOLD);

/// Frees the blocks of all slots; see [`AllocPages::release_raw`](crate::AllocPages::release_raw).
#[inline]
#[track_caller]
pub(crate) fn release<P: Platform>(
    allocator: &PageAllocator<P>,
    slots: &mut [Option<RawPage>],
) -> Result<usize, InvalidRawPage> {
    if let [slot] = slots {
        let Some(page) = *slot else { return Ok(0) };
        allocator.check_raw(page)?;
        *slot = None;
        if page.order() == Order::ZERO {
            allocator.free_single(page);
        } else {
            allocator.free_folio(page);
        }
        return Ok(1);
    }
    let nr = slots.len();
    if nr <= GROUP && release_alike(allocator, slots) {
        return Ok(nr);
    }
    release_parts(allocator, slots, if nr <= GROUP { CHUNK } else { GROUP })
}

/// Frees single pages of one class, and returns whether all slots hold such pages. If not, nothing changes.
// Always: two functions use it, and a call costs 20 instructions.
#[inline(always)]
fn release_alike<P: Platform>(allocator: &PageAllocator<P>, slots: &mut [Option<RawPage>]) -> bool {
    let (class, nr) = (class_of(slots), slots.len());
    if let Some(words) = allocator.plain_words(class)
        && let Some(mut full) = FullWords::check(words, slots)
    {
        allocator.free_class(class, nr, |room| full.take_into(room));
        return true;
    }
    false
}

/// Does what [`release`] does for slots of different classes, or for many: `step` slots at a time.
///
/// A group with slots of different classes is freed in chunks, so that only the chunks that have them are
/// slow.
#[inline(never)]
#[track_caller]
fn release_parts<P: Platform>(
    allocator: &PageAllocator<P>,
    slots: &mut [Option<RawPage>],
    step: usize,
) -> Result<usize, InvalidRawPage> {
    let mut nr = 0;
    for part in slots.chunks_mut(step) {
        nr += if release_alike(allocator, part) || release_across_holes(allocator, part) {
            part.len()
        } else if part.len() > CHUNK {
            release_parts(allocator, part, CHUNK)?
        } else {
            release_mixed(allocator, part)?
        };
    }
    Ok(nr)
}

/// Does what [`release_alike`] does for pages in several spans of one zone.
#[inline(never)]
#[track_caller]
fn release_across_holes<P: Platform>(
    allocator: &PageAllocator<P>,
    slots: &mut [Option<RawPage>],
) -> bool {
    let (class, nr) = (class_of(slots), slots.len());
    let Some(zone) = allocator.zones().get(class.list().zone()) else { return false };
    let mut spans = zone.facts.spans.iter();
    // The search begins in the first span, whichever that is.
    let Some(mut near) = spans.next() else { return false };
    if class != Class::new(class.list(), Order::ZERO) || spans.next().is_none() {
        return false;
    }
    let is_in_zone = |pfn: Pfn| zone.facts.spans.find_near(&mut near, pfn.value()).is_some();
    if let Some(mut full) = FullWords::check_each(class, slots, is_in_zone) {
        allocator.free_class(class, nr, |room| full.take_into(room));
        return true;
    }
    false
}

/// Frees blocks of any kind, after a check of each.
#[cold]
#[inline(never)]
#[track_caller]
fn release_mixed<P: Platform>(
    allocator: &PageAllocator<P>,
    slots: &mut [Option<RawPage>],
) -> Result<usize, InvalidRawPage> {
    for &page in slots.iter().flatten() {
        allocator.check_raw(page)?;
    }
    let mut batch = Batch::new();
    batch.push_all(slots.iter_mut().filter_map(Option::take));
    allocator.free_pages(batch.as_slice());
    Ok(batch.as_slice().len())
}
