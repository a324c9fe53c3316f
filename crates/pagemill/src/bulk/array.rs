//! Bulk allocation into a slice of slots, and the release of one.

use core::mem::ManuallyDrop;

use super::engine::{Sink, Wanted};
use crate::gfp::Gfp;
use crate::handle::RawPage;
use crate::page::Page;
use crate::source::PageSource;
use crate::units::{NodeId, Order};

/// Fills the empty slots; see [`AllocPages::alloc_pages_bulk`](crate::AllocPages).
#[inline]
pub(crate) fn alloc<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slots: &mut [Option<Page<S>>],
) -> usize {
    let nr = slots.len();
    let leading = slots.iter().take_while(|slot| slot.is_some()).count();
    if leading == nr {
        return nr;
    }
    let empty = slots[leading..].iter().filter(|slot| slot.is_none()).count();
    let contiguous = leading + empty == nr;
    if nr - leading > 1 {
        let wanted = Wanted { claim: nr, new: empty };
        let rest = &mut slots[leading..];
        let allocator = source.allocator();
        let filled = if contiguous {
            leading + allocator.alloc_bulk(gfp, node, wanted, &mut Empty { slots: rest, source })
        } else {
            let mut holes = Holes { slots: rest.iter_mut(), source };
            match allocator.alloc_bulk(gfp, node, wanted, &mut holes) {
                0 => leading,
                _ => slots.iter().position(Option::is_none).unwrap_or(nr),
            }
        };
        if filled > leading {
            return filled;
        }
    }
    fill_one(source, gfp, node, &mut slots[leading]).map_or(leading, |()| leading + 1)
}

/// Fills one empty slot with all the effort of a single allocation.
fn fill_one<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slot: &mut Option<Page<S>>,
) -> Option<()> {
    let raw = source.allocator().alloc_block(gfp, node, Order::ZERO)?;
    *slot = Some(Page::new(source.clone(), raw));
    Some(())
}

/// Frees the page of every slot and returns the number of pages.
#[inline]
pub(crate) fn release<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>]) -> usize {
    let mut freed = 0;
    for chunk in slots.chunks_mut(CHUNK) {
        let Some(first) = chunk.first().and_then(Option::as_ref) else {
            freed += release_one_by_one(chunk);
            continue;
        };
        let class = first.raw().class();
        let difference = |slot: &Option<Page<S>>| match slot {
            Some(page) => class.difference(page.raw()),
            None => 1,
        };
        let differs = chunk.iter().fold(0, |sum, slot| sum | difference(slot));
        let same_allocator = |slot: &Option<Page<S>>| match slot {
            Some(page) => core::ptr::eq(page.source().allocator(), source.allocator()),
            None => false,
        };
        if differs != 0 || !chunk.iter().all(same_allocator) {
            freed += release_one_by_one(chunk);
            continue;
        }
        let nr = chunk.len();
        let pages = chunk.iter_mut().filter_map(|slot| slot.take().map(Page::into_raw));
        source.allocator().free_class(class, nr, pages);
        freed += nr;
    }
    freed
}

/// Slots that are tested together before they are freed together.
const CHUNK: usize = 64;

#[cold]
fn release_one_by_one<S: PageSource>(slots: &mut [Option<Page<S>>]) -> usize {
    slots.iter_mut().filter_map(Option::take).map(drop).count()
}

/// Slots that are all empty: pages are copied.
struct Empty<'a, S: PageSource> {
    slots: &'a mut [Option<Page<S>>],
    source: &'a S,
}

impl<S: PageSource> Sink for Empty<'_, S> {
    #[inline]
    fn accept(&mut self, pages: &[RawPage]) {
        let (filled, rest) = core::mem::take(&mut self.slots).split_at_mut(pages.len());
        for (slot, &raw) in filled.iter_mut().zip(pages) {
            let page = Some(Page::new(self.source.clone(), raw));
            // The slot is empty; not dropping what it held keeps the loop a copy.
            let _empty = ManuallyDrop::new(core::mem::replace(slot, page));
        }
        self.slots = rest;
    }
}

/// Slots of which some are full: each is looked at.
struct Holes<'a, S: PageSource> {
    slots: core::slice::IterMut<'a, Option<Page<S>>>,
    source: &'a S,
}

impl<S: PageSource> Sink for Holes<'_, S> {
    fn accept(&mut self, pages: &[RawPage]) {
        let holes = self.slots.by_ref().filter(|slot| slot.is_none());
        for (&raw, slot) in pages.iter().zip(holes) {
            *slot = Some(Page::new(self.source.clone(), raw));
        }
    }
}
