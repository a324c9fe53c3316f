//! All of memory is taken, down to each reserve in turn, and all of it comes back.

use pagemill::gfp::ZoneKind;
use pagemill::handles::free_pages_bulk;
use pagemill::stats::ZoneInfo;
use pagemill::{AllocPages, Gfp, PageList};

use crate::frames::{FRAMES, Frame, allocator};
use crate::tenant::{self, Tally};
use crate::{content, reentry};

/// Pages of which the content is checked: the first 256 MiB, so that a large machine's memory need
/// not be there in full.
const NR_MARKED: u64 = 65_536;
/// Pages asked for at once.
const NR_AT_ONCE: usize = 4096;

/// Whom the marks in the pages of this check name.
const OWNER: u64 = 5;

/// Takes everything and gives it back, interrupted by allocations wherever a zone is to be locked.
pub(super) fn check() {
    let free = allocator().nr_free_pages();
    let before = Tally::now();
    let mut taken = PageList::new(FRAMES);
    let nr_marked = NR_MARKED.min(free / 2);
    reentry::set(true);
    take_marked(&mut taken, nr_marked);
    while FRAMES.alloc_pages_bulk_list(Gfp::KERNEL, NR_AT_ONCE, &mut taken) > 0 {}
    reentry::set(false);
    tenant::evict();
    take_until_none(&mut taken, Gfp::KERNEL);
    let to_all = nr_taken(&taken);
    at_the_limit_of_ordinary_requests();

    let to_atomic = take_until_none(&mut taken, Gfp::ATOMIC);
    below_half_of_min();
    let to_memalloc = take_until_none(&mut taken, Gfp::KERNEL | Gfp::MEMALLOC);
    with_nothing_left();
    assert!(nr_taken(&taken) == free, "{} of {free} pages were taken", nr_taken(&taken));

    reentry::set(true);
    for _ in 0..nr_marked {
        let page = taken.pop().expect("taken above");
        content::check(&page, OWNER);
    }
    free_pages_bulk(&mut taken);
    reentry::set(false);
    tenant::evict();
    let Tally { inside, interrupts, .. } = before.since();
    println!(
        "{to_all} pages to all, {to_atomic} more to ATOMIC, {to_memalloc} more to MEMALLOC; \
         {interrupts} interrupts, {inside} inside the lists"
    );
}

/// Takes `nr` pages one by one, and marks them.
fn take_marked(taken: &mut PageList<Frame>, nr: u64) {
    for _ in 0..nr {
        let page = FRAMES.alloc_page(Gfp::KERNEL);
        let mut page = page.expect("half of memory is above the reserves");
        content::mark(&mut page, OWNER);
        taken.push(page);
    }
}

fn take_until_none(taken: &mut PageList<Frame>, gfp: Gfp) -> u64 {
    let before = nr_taken(taken);
    taken.extend(core::iter::from_fn(|| FRAMES.alloc_page(gfp)));
    nr_taken(taken) - before
}

fn nr_taken(taken: &PageList<Frame>) -> u64 {
    taken.len() as u64
}

/// Every zone is at its limit exactly, and handlers still get pages.
fn at_the_limit_of_ordinary_requests() {
    for zone in allocator().zone_info() {
        let limit = zone.watermarks.min + reserve(&zone);
        let left = zone.nr_free_pages;
        assert!(left == limit.min(zone.managed), "{left} pages left: {zone:?}");
    }
    let before = Tally::now();
    for _ in 0..tenant::NR_HELD {
        reentry::interrupt();
    }
    let tally = before.since();
    assert!(tally.denied == 0 && tally.allocated > 0, "a handler got nothing: {tally:?}");
    tenant::evict();
}

/// No zone can give more to who cannot wait. The last refill may have gone below the limit.
fn below_half_of_min() {
    for zone in allocator().zone_info() {
        let min = zone.watermarks.min;
        let limit = min - min / 2 + reserve(&zone);
        assert!(zone.nr_free_pages <= limit.min(zone.managed), "more to give: {zone:?}");
    }
}

/// Handlers get nothing, and nothing breaks.
fn with_nothing_left() {
    assert!(allocator().nr_free_pages() == 0, "nothing is left");
    let before = Tally::now();
    for _ in 0..tenant::NR_HELD {
        reentry::interrupt();
    }
    let tally = before.since();
    assert!(tally.denied == tally.interrupts && tally.allocated == 0, "{tally:?}");
}

/// Returns what a zone keeps from requests that could use any zone.
fn reserve(zone: &ZoneInfo) -> u64 {
    zone.watermarks.lowmem_reserve[ZoneKind::Normal.index()]
}
