//! pagemill by each of its calls: single pages, arrays, vectors, lists, and an owned reserve.
//!
//! All calls use one allocator in a static, so a page is a handle of 8 bytes.

use pagemill::handles::free_pages_bulk;
use pagemill::reserves::LocalPages;
use pagemill::stats::ZoneInfo;
use pagemill::units::PAGEBLOCK_ORDER;
use pagemill::{AllocPages, Folio, Gfp, Order, Page, PageList, PageVec};
use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

use crate::peer::{Batch, Lines, NoBlock, Peer};

/// Flags of every request: an ordinary kernel allocation.
const GFP: Gfp = Gfp::KERNEL;
/// Capacity of the owned reserve, in pages: that of a per-CPU cache of DPDK.
const RESERVE: usize = 512;

pagemill::static_allocator! {
    pub(crate) static ALLOCATOR: Host;
    pub(crate) type Source;
}
type FramePage = Page<Source>;
type Pages<const M: usize> = PageVec<Source, M>;

/// Maps an arena and builds the allocator; later calls do nothing.
///
/// # Errors
/// The error of mapping the arena.
pub(crate) fn install(arena_bytes: u64) -> anyhow::Result<()> {
    if ALLOCATOR.get().is_none() {
        let frames = allocator(&AllocatorConfig::new(ArenaConfig::new(arena_bytes)))?;
        // No race: only the leading thread calls this.
        drop(ALLOCATOR.set(frames));
    }
    Ok(())
}

/// Returns the number of free blocks of 2 MiB, after draining the per-CPU lists.
fn nr_whole() -> Option<u64> {
    let frames = ALLOCATOR.get()?;
    frames.drain_all_pages();
    let order = usize::from(PAGEBLOCK_ORDER.value());
    let of_zone = |zone: ZoneInfo| -> u64 {
        let blocks = zone.buddyinfo().into_iter().enumerate().skip(order);
        blocks.map(|(larger, count)| count << (larger - order)).sum()
    };
    Some(frames.zone_info().map(of_zone).sum())
}

/// A call for each page.
#[derive(Debug)]
pub(crate) struct Single;

/// One call for an array of slots.
#[derive(Debug)]
pub(crate) struct Array;

/// One call for a vector.
#[derive(Debug)]
pub(crate) struct Vector;

/// One call for a list.
#[derive(Debug)]
pub(crate) struct List;

/// A reserve of pages that one thread owns.
#[derive(Debug)]
pub(crate) struct Local;

/// Slots for pages, the first `len` of them filled.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct PageSlots<const M: usize> {
    len: usize,
    slots: Lines<Option<FramePage>, M>,
}

impl<const M: usize> Batch for PageSlots<M> {
    type Page = FramePage;

    fn new() -> Self {
        Self { len: 0, slots: Lines([const { None }; M]) }
    }

    fn pop(&mut self) -> Option<FramePage> {
        self.len = self.len.checked_sub(1)?;
        self.slots.0[self.len].take()
    }

    fn push(&mut self, page: FramePage) {
        self.slots.0[self.len] = Some(page);
        self.len += 1;
    }
}

impl<const M: usize> Batch for Pages<M> {
    type Page = FramePage;

    fn new() -> Self {
        Self::new(Source::new())
    }

    fn pop(&mut self) -> Option<FramePage> {
        Self::pop(self)
    }

    fn push(&mut self, page: FramePage) {
        // A full vector would return the page, which is dropped here.
        drop(Self::push(self, page));
    }
}

impl Batch for PageList<FramePage> {
    type Page = FramePage;

    fn new() -> Self {
        Self::new(Source::new())
    }

    fn pop(&mut self) -> Option<FramePage> {
        Self::pop(self)
    }

    fn push(&mut self, page: FramePage) {
        Self::push(self, page);
    }
}

impl Peer for Single {
    type Block = Folio<Source>;
    type Batch<const M: usize> = PageSlots<M>;
    type Worker = ();
    const NAME: &'static str = "pagemill-single";
    const NOTE: &'static str = "shared allocator, alloc_page and drop; alloc_pages for blocks";
    const HAS_BLOCKS: bool = true;
    const IS_STACK: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc_block(&'static self, order: u8) -> Option<Folio<Source>> {
        Source::new().alloc_pages(GFP, Order::new(order).ok()?)
    }

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut PageSlots<M>, nr: usize) -> usize {
        batch.len = nr;
        for (index, slot) in batch.slots.0[..nr].iter_mut().enumerate() {
            *slot = Source::new().alloc_page(GFP);
            if slot.is_none() {
                batch.len = index;
                break;
            }
        }
        batch.len
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut PageSlots<M>) {
        let nr = core::mem::take(&mut batch.len);
        for slot in &mut batch.slots.0[..nr] {
            *slot = None;
        }
    }

    fn nr_whole(&self) -> Option<u64> {
        nr_whole()
    }
}

impl Peer for Array {
    type Block = NoBlock;
    type Batch<const M: usize> = PageSlots<M>;
    type Worker = ();
    const NAME: &'static str = "pagemill-array";
    const NOTE: &'static str = "shared allocator, alloc_pages_bulk and release_pages";
    const IS_STACK: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut PageSlots<M>, nr: usize) -> usize {
        batch.len = Source::new().alloc_pages_bulk(GFP, &mut batch.slots.0[..nr]);
        batch.len
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut PageSlots<M>) {
        let nr = core::mem::take(&mut batch.len);
        Source::new().release_pages(&mut batch.slots.0[..nr]);
    }

    fn nr_whole(&self) -> Option<u64> {
        nr_whole()
    }
}

impl Peer for Vector {
    type Block = NoBlock;
    type Batch<const M: usize> = Pages<M>;
    type Worker = ();
    const NAME: &'static str = "pagemill-vec";
    const NOTE: &'static str = "shared allocator, alloc_pages_bulk_vec and PageVec::clear";
    const IS_STACK: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Pages<M>, nr: usize) -> usize {
        Source::new().alloc_pages_bulk_vec(GFP, nr, batch)
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Pages<M>) {
        batch.clear();
    }

    fn nr_whole(&self) -> Option<u64> {
        nr_whole()
    }
}

impl Peer for List {
    type Block = NoBlock;
    type Batch<const M: usize> = PageList<FramePage>;
    type Worker = ();
    const NAME: &'static str = "pagemill-list";
    const NOTE: &'static str = "shared allocator, alloc_pages_bulk_list and free_pages_bulk";
    const IS_STACK: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(
        &self,
        (): &mut (),
        batch: &mut PageList<FramePage>,
        nr: usize,
    ) -> usize {
        Source::new().alloc_pages_bulk_list(GFP, nr, batch)
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut PageList<FramePage>) {
        free_pages_bulk(batch);
    }

    fn nr_whole(&self) -> Option<u64> {
        nr_whole()
    }
}

impl Peer for Local {
    type Block = NoBlock;
    type Batch<const M: usize> = Pages<M>;
    type Worker = LocalPages<Source, RESERVE>;
    const NAME: &'static str = "pagemill-local";
    const NOTE: &'static str = "owned handle of 512 pages: LocalPages::alloc_bulk and free_bulk";
    const IS_STACK: bool = true;

    fn worker(&'static self) -> Self::Worker {
        LocalPages::new(Source::new())
    }

    #[inline]
    fn alloc<const M: usize>(
        &self,
        worker: &mut Self::Worker,
        batch: &mut Pages<M>,
        nr: usize,
    ) -> usize {
        worker.alloc_bulk(GFP, nr, batch)
    }

    #[inline]
    fn free<const M: usize>(&self, worker: &mut Self::Worker, batch: &mut Pages<M>) {
        worker.free_bulk(batch);
    }

    fn flush(&self, worker: &mut Self::Worker) {
        worker.drain();
    }

    fn nr_whole(&self) -> Option<u64> {
        nr_whole()
    }
}
