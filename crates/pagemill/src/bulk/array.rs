//! Bulk calls on a slice of slots: fill the empty slots, and free the pages of all slots.

use core::mem::{self, ManuallyDrop};

use super::engine::{Got, Wanted};
use super::slots::{Empty, Holes, all_empty};
use crate::base::gfp::Gfp;
use crate::base::units::NodeId;
use crate::page::page::{FullSlots, Page};
use crate::page::source::PageSource;
use crate::page_alloc::allocator::Site;

/// Fills the empty slots; see [`AllocPages::alloc_pages_bulk`](crate::AllocPages).
#[inline]
pub(crate) fn alloc<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slots: &mut [Option<Page<S>>],
    site: Site,
) -> usize {
    match slots {
        [slot @ None] => fill_one(source, gfp, node, slot, site),
        [] | [Some(_)] => slots.len(),
        _ => alloc_several(source, gfp, node, slots, site),
    }
}

/// Does what [`alloc()`] does for two slots or more; separate, so that one slot needs no stack frame.
#[inline(never)]
fn alloc_several<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slots: &mut [Option<Page<S>>],
    site: Site,
) -> usize {
    if !all_empty(slots) {
        return alloc_into_holes(source, gfp, node, slots, site);
    }
    let nr = slots.len();
    let wanted = Wanted { claim: nr, new: nr };
    let mut empty = Empty { slots, source };
    source.allocator().alloc_at_least_one(gfp, node, wanted, &mut empty, site).new_pages()
}

/// Does what [`alloc()`] does where some slots may hold a page.
fn alloc_into_holes<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slots: &mut [Option<Page<S>>],
    site: Site,
) -> usize {
    let nr = slots.len();
    let Some(first_hole) = slots.iter().position(Option::is_none) else { return nr };
    let rest = &mut slots[first_hole..];
    if let [slot] = rest {
        return first_hole + fill_one(source, gfp, node, slot, site);
    }
    let new = rest.iter().filter(|slot| slot.is_none()).count();
    let mut holes = Holes { slots: rest.iter_mut(), source };
    let wanted = Wanted { claim: nr, new };
    match source.allocator().alloc_at_least_one(gfp, node, wanted, &mut holes, site) {
        Got::Bulk(filled) if filled == new => nr,
        Got::Bulk(_) => slots.iter().position(Option::is_none).unwrap_or(nr),
        Got::Single => first_hole + 1,
        Got::Nothing => first_hole,
    }
}

/// Fills one empty slot with the full effort of a single allocation; returns 1 if it holds a page.
#[inline]
fn fill_one<S: PageSource>(
    source: &S,
    gfp: Gfp,
    node: Option<NodeId>,
    slot: &mut Option<Page<S>>,
    site: Site,
) -> usize {
    match source.allocator().alloc_single(gfp, node, site) {
        Some(raw) => {
            // The slot is empty; not dropping the old value saves a check.
            let page = Some(Page::new(source.clone(), raw));
            let _empty = ManuallyDrop::new(mem::replace(slot, page));
            1
        }
        None => 0,
    }
}

/// Frees the page of every slot and returns the number of pages.
#[inline]
pub(crate) fn release<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>]) -> usize {
    if let [slot] = slots {
        return usize::from(slot.take().is_some());
    }
    release_several(source, slots)
}

/// Does what [`release`] does for two slots or more; separate, so that one slot needs no stack frame.
#[inline(never)]
fn release_several<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>]) -> usize {
    slots.chunks_mut(CHUNK).map(|chunk| release_chunk(source, chunk)).sum()
}

/// Slots that are checked together before they are freed together.
///
/// One poll budget of a network device, and small enough to stay in the L1 cache.
const CHUNK: usize = 64;

#[inline]
fn release_chunk<S: PageSource>(source: &S, slots: &mut [Option<Page<S>>]) -> usize {
    let nr = slots.len();
    let Some((class, mut full)) = FullSlots::check(source, slots) else {
        return release_one_by_one(slots);
    };
    source.allocator().free_class(class, nr, |room| full.take_into(room));
    nr
}

/// Frees pages of different lists, or with empty slots between them.
#[cold]
fn release_one_by_one<S: PageSource>(slots: &mut [Option<Page<S>>]) -> usize {
    slots.iter_mut().filter_map(Option::take).map(drop).count()
}
