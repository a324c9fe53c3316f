//! Page pool: the part that all threads share, where pages return, are checked, recycled or released.

use alloc::boxed::Box;
use core::fmt;
use core::mem::{self, ManuallyDrop};
use core::ops::Range;
use core::panic::Location;

use arrayvec::ArrayVec;
use pagemill::source::PageSource;
use pagemill::units::{NodeId, PAGE_SIZE, Pfn};
use pagemill::{Folio, Page, Platform};

use crate::block::{Block, Request};
use crate::dma::{DmaBlock, DmaMapper, NoDma};
use crate::ledger::{Holder, Ledger};
use crate::params::{PoolError, PoolParams};
use crate::provider::MemoryProvider;
use crate::recycle_ring::{CLOSING, RESERVE, RecycleRing, TRACKED};
use crate::stats::{PoolStats, RecycleStats};
use crate::sync::{AtomicBool, Ordering};

/// A pool of pages between the page allocator and a device's receive ring.
///
/// Threads share this part, and return pages here. One [`PoolOwner`](crate::PoolOwner), which is
/// claimed once, hands them out.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c`
pub struct PagePool<B: Block, M: DmaMapper = NoDma> {
    params: PoolParams,
    source: B::Source,
    mapper: M,
    provider: Option<Box<dyn MemoryProvider<B> + Send + Sync>>,
    ring: RecycleRing<Item<B, M>>,
    ledger: Ledger,
    owned: AtomicBool,
}

/// A page of a pool with its mapping.
///
/// `mapped-not-freed`: dropping an item leaks the page. Only [`PagePool::unmap`] turns an item into a
/// block that can be freed, so a page that is mapped for a device never reaches the page allocator,
/// whichever call of the mapper panics. A leaked page stays in flight.
pub(crate) type Item<B, M> = (ManuallyDrop<B>, <M as DmaMapper>::Mapping);

/// Pages that return together: as many as one claim in the ring is made for.
pub(crate) type Batch<B, M> = ArrayVec<Item<B, M>, BATCH>;

/// Why a returned page is not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unfit {
    /// It came from the allocator's reserve, and is freed to it.
    Reserve,
    /// The pool has ended.
    Closing,
    /// It is on another node than the owner wants.
    OtherNode,
}

/// One poll's budget. Differs: Linux returns 16 at a time.
pub(crate) const BATCH: usize = 64;

impl<S: PageSource, M: DmaMapper> PagePool<Page<S>, M> {
    /// Makes an empty pool of single pages.
    ///
    /// # Errors
    /// The invalid parameter.
    pub fn new(params: &PoolParams, source: S, mapper: M) -> Result<Self, PoolError> {
        Self::empty(params, source, mapper)
    }
}

impl<S: PageSource, M: DmaMapper> PagePool<Folio<S>, M> {
    /// Makes an empty pool of blocks of [`PoolParams::order`].
    ///
    /// # Errors
    /// The invalid parameter.
    pub fn of_folios(params: &PoolParams, source: S, mapper: M) -> Result<Self, PoolError> {
        Self::empty(params, source, mapper)
    }
}

impl<B: Block, M: DmaMapper> PagePool<B, M> {
    /// Makes an empty pool whose pages come from `provider` instead of the page allocator.
    ///
    /// # Errors
    /// The invalid parameter. Pages must be mapped and synced, since device memory is only for devices.
    pub fn with_provider(
        params: &PoolParams,
        source: B::Source,
        mapper: M,
        provider: Box<dyn MemoryProvider<B> + Send + Sync>,
    ) -> Result<Self, PoolError> {
        if !(M::MAPS && params.dma.sync_for_device) {
            return Err(PoolError::ProviderWithoutDma);
        }
        let mut pool = Self::empty(params, source, mapper)?;
        pool.provider = Some(provider);
        Ok(pool)
    }

    /// Returns the parameters.
    pub fn params(&self) -> &PoolParams {
        &self.params
    }

    /// Returns the mapper.
    pub fn mapper(&self) -> &M {
        &self.mapper
    }

    /// Returns how many pages have come from the page allocator and were not freed to it: those in use,
    /// in the ring and in the owner's cache, and those that were leaked because a [`DmaMapper`]
    /// panicked. Negative if more pages were released than taken.
    pub fn inflight(&self) -> i32 {
        self.ring.inflight()
    }

    /// Returns how many pages are in the ring; a snapshot.
    pub(crate) fn nr_in_ring(&self) -> usize {
        self.ring.nr_in_ring()
    }

    /// Returns the counters of returned pages; [`PoolOwner::stats`](crate::PoolOwner::stats) has the
    /// others.
    pub fn stats(&self) -> PoolStats {
        let (ring, ring_full, released_refcnt) = self.ring.counts();
        let recycle = RecycleStats { ring, ring_full, released_refcnt, ..RecycleStats::default() };
        PoolStats { recycle, ..PoolStats::default() }
    }

    /// Returns the holders of pages, if the pool is [`Tracked`](crate::sources::Tracked).
    pub fn holders(&self) -> alloc::vec::Vec<Holder> {
        self.ledger.holders(self.platform())
    }

    fn empty(params: &PoolParams, source: B::Source, mapper: M) -> Result<Self, PoolError> {
        params.check::<B, M>()?;
        Ok(Self {
            params: *params,
            source,
            mapper,
            provider: None,
            ring: RecycleRing::new(params.ring_size()),
            ledger: Ledger::default(),
            owned: AtomicBool::new(false),
        })
    }

    /// Returns whether pages come from a provider instead of the page allocator.
    pub(crate) fn has_provider(&self) -> bool {
        self.provider.is_some()
    }

    pub(crate) fn source(&self) -> &B::Source {
        &self.source
    }

    /// Returns the platform, which disables interrupts for the ledger.
    fn platform(&self) -> &<B::Source as PageSource>::Platform {
        self.source.allocator().platform()
    }

    /// Returns whether this is the copy of the pool in a child of `fork`, whose pages are the parent's.
    /// Called off the fast paths, and before the mapper is called.
    #[inline]
    pub(crate) fn is_abandoned(&self) -> bool {
        self.platform().is_abandoned()
    }

    pub(crate) fn ring(&self) -> &RecycleRing<Item<B, M>> {
        &self.ring
    }

    /// Claims the ownership, if there never was an owner; `tracked` is the flag for recording holders.
    pub(crate) fn claim(&self, tracked: u32) -> bool {
        // Relaxed: the owner itself brings all data that it writes.
        let is_free = !self.owned.swap(true, Ordering::Relaxed);
        if is_free {
            self.ring.set_special(tracked);
        }
        is_free
    }

    /// Takes blocks from the provider or the page allocator and puts them into the slots.
    pub(crate) fn obtain(&self, request: &Request<'_, B>, slots: &mut [Option<B>]) -> usize {
        let Some(provider) = &self.provider else { return B::alloc_bulk(request, slots) };
        let nr = slots.len();
        let mut lent = Lent { pool: self, slots, filled: 0 };
        provider.alloc(nr, &mut |block| match lent.slots.get_mut(lent.filled) {
            Some(slot) => {
                *slot = Some(block);
                lent.filled += 1;
            }
            // The provider passed more than it was asked for: released at once.
            None => drop(provider.release(block)),
        });
        lent.keep()
    }

    /// Maps a block that is counted as in flight; releases it and returns `None` if the mapper refuses.
    #[inline]
    pub(crate) fn map(&self, block: B) -> Option<Item<B, M>> {
        // Leaked if the mapper panics: the device may have access to the page already.
        let block = ManuallyDrop::new(block);
        let Some(mapping) = self.mapper.map(block.dma_block(), self.params.dma.direction) else {
            self.free(ManuallyDrop::into_inner(block));
            return None;
        };
        let item = (block, mapping);
        self.sync_for_device(&item, usize::MAX);
        Some(item)
    }

    /// Syncs up to `used` bytes of a page for the device.
    #[inline]
    pub(crate) fn sync_for_device(&self, item: &Item<B, M>, used: usize) {
        if M::MAPS {
            self.sync_block_for_device(item.0.dma_block(), item.1, used);
        }
    }

    /// Does what [`sync_for_device`](Self::sync_for_device) does for a page whose block is carved.
    #[inline]
    pub(crate) fn sync_block_for_device(&self, block: DmaBlock, mapping: M::Mapping, used: usize) {
        let dma = &self.params.dma;
        if dma.sync_for_device && !self.is_abandoned() {
            let len = used.min(dma.max_len);
            self.mapper.sync_for_device(block, mapping, dma.offset..dma.offset + len);
        }
    }

    /// Syncs some bytes of a page for the CPU.
    #[track_caller]
    pub(crate) fn sync_for_cpu(&self, item: &Item<B, M>, bytes: Range<usize>) {
        let Range { start, end } = bytes;
        let (block, offset) = (item.0.dma_block(), self.params.dma.offset);
        let available = block.len_bytes.saturating_sub(offset);
        assert!(
            start <= end && end <= available,
            "cannot hand bytes {start}..{end} to the CPU: the device has 0..{available} of a page"
        );
        if M::MAPS && !self.is_abandoned() {
            self.mapper.sync_for_cpu(block, item.1, offset + start..offset + end);
        }
    }

    /// Decides whether a returned page may be reused. Called for every way of return (through the ring,
    /// directly to the owner, with the last fragment of a page), and by the owner for pages that it
    /// takes out of the ring.
    ///
    /// `node` is the node that the owner wants, if there are several. Only the owner knows it, so it is
    /// checked when a page is taken out of the ring, not when the page returns there.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `__page_pool_page_can_be_recycled`,
    /// `page_pool_refill_alloc_cache`. Differs: the node of a page that returns directly is checked
    /// too.
    #[inline]
    pub(crate) fn check_reuse(&self, block: &B, node: Option<NodeId>) -> Result<(), Unfit> {
        if self.ring.slow_path_flags() != 0 {
            self.note_return(block.first())?;
        }
        match node {
            Some(node) if block.its_node() != node => Err(Unfit::OtherNode),
            _ => Ok(()),
        }
    }

    /// Puts a returned page into the ring, or releases it if it cannot be recycled.
    #[inline]
    pub(crate) fn put(&self, item: Item<B, M>) {
        // Out of line, because it is rare.
        if self.ring.slow_path_flags() != 0 {
            return self.put_slowly(item);
        }
        self.put_fit(item);
    }

    #[cold]
    #[inline(never)]
    fn put_slowly(&self, item: Item<B, M>) {
        match self.check_reuse(&item.0, None) {
            Ok(()) => self.put_fit(item),
            Err(_) => self.release(item),
        }
    }

    /// Puts a page that may be reused into the ring.
    #[inline]
    fn put_fit(&self, item: Item<B, M>) {
        self.sync_for_device(&item, usize::MAX);
        match self.ring.push(item) {
            Ok(()) => self.look_again(),
            Err(item) => self.release(item),
        }
    }

    /// Puts pages into the ring by one claim, and releases those that do not fit.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_put_page_bulk`
    pub(crate) fn put_batch(&self, batch: &mut Batch<B, M>) {
        if self.ring.slow_path_flags() != 0 {
            let mut kept = Batch::<B, M>::new();
            for item in batch.drain(..) {
                match self.check_reuse(&item.0, None) {
                    Ok(()) => kept.push(item),
                    Err(_) => self.release(item),
                }
            }
            *batch = kept;
        }
        batch.iter().for_each(|item| self.sync_for_device(item, usize::MAX));
        let nr = batch.len();
        let mut items = batch.drain(..);
        if nr > 0 && self.ring.push_bulk(nr, &mut items) < nr {
            self.ring.count_ring_full();
            self.release_all(items);
        }
        self.look_again();
    }

    /// Puts up to `nr` pages into the ring by one claim, and returns how many: fewer if there is no
    /// room, none while one of the flags in `slow_path_flags` is set.
    #[inline]
    pub(crate) fn put_run(&self, nr: usize, items: &mut impl Iterator<Item = Item<B, M>>) -> usize {
        /// Runs also if the iterator panics: other threads may have put pages behind the places it
        /// claimed.
        struct LookAgain<'p, B: Block, M: DmaMapper>(&'p PagePool<B, M>);
        impl<B: Block, M: DmaMapper> Drop for LookAgain<'_, B, M> {
            #[inline]
            fn drop(&mut self) {
                self.0.look_again();
            }
        }
        if self.ring.slow_path_flags() != 0 {
            return 0;
        }
        let _look = LookAgain(self);
        let mut synced = items.inspect(|item| self.sync_for_device(item, usize::MAX));
        self.ring.push_bulk(nr, &mut synced)
    }

    /// Empties the ring if the pool ended while the caller put a page into it: `ring-emptied`.
    #[inline]
    pub(crate) fn look_again(&self) {
        if self.ring.has_closed() {
            self.scrub();
        }
    }

    /// Releases pages to the allocator or provider, although they might be recycled.
    pub(crate) fn release_batch(&self, batch: &mut Batch<B, M>) {
        if self.ring.slow_path_flags() != 0 {
            batch.iter().for_each(|item| _ = self.forget(item.0.first()));
        }
        self.release_all(batch.drain(..));
    }

    /// Checks a returned page against the flags in `slow_path_flags`, and removes it from the ledger.
    #[cold]
    #[inline(never)]
    fn note_return(&self, pfn: Pfn) -> Result<(), Unfit> {
        let slow_path_flags = self.ring.slow_path_flags();
        if slow_path_flags & (TRACKED | RESERVE) != 0 && self.forget(pfn) {
            self.ring.count_refcnt();
            return Err(Unfit::Reserve);
        }
        if slow_path_flags & CLOSING != 0 { Err(Unfit::Closing) } else { Ok(()) }
    }

    /// Records the call site that takes a page.
    pub(crate) fn note_taken(&self, item: &Item<B, M>, site: &'static Location<'static>) {
        self.ledger.note_holder(self.platform(), item.0.first(), site);
    }

    /// Records that a page came from the reserve; returns false if too many such pages are in use.
    #[cold]
    pub(crate) fn note_reserve(&self, block: &B) -> bool {
        let then = || self.ring.set_special(RESERVE);
        self.ledger.note_reserve(self.platform(), block.first(), then)
    }

    /// Removes the record of a page that leaves the pool, and returns whether it came from the reserve.
    #[cold]
    pub(crate) fn forget(&self, pfn: Pfn) -> bool {
        self.ledger.forget(self.platform(), pfn, || self.ring.clear_special(RESERVE))
    }

    /// Removes a page from the pool; its holder then owns it alone.
    pub(crate) fn detach(&self, item: Item<B, M>) -> B {
        if self.ring.slow_path_flags() != 0 {
            self.forget(item.0.first());
        }
        if M::MAPS && self.is_abandoned() {
            return ManuallyDrop::into_inner(item.0);
        }
        let block = self.unmap(item);
        self.ring.release(1);
        block
    }

    /// Releases a page of one frame that has other owners.
    #[cold]
    pub(crate) fn forget_shared(&self, pfn: Pfn, mapping: M::Mapping) {
        if self.ring.slow_path_flags() != 0 {
            self.forget(pfn);
        }
        if self.is_abandoned() {
            return;
        }
        let block = DmaBlock { pfn, len_bytes: PAGE_SIZE };
        self.mapper.unmap(block, mapping, self.params.dma.direction);
        self.ring.count_refcnt();
        self.ring.release(1);
    }

    /// Unmaps a page; the page is leaked if the mapper panics (`mapped-not-freed`).
    #[inline]
    fn unmap(&self, (block, mapping): Item<B, M>) -> B {
        self.mapper.unmap(block.dma_block(), mapping, self.params.dma.direction);
        ManuallyDrop::into_inner(block)
    }

    /// Unmaps a page and frees it; does nothing in a child of `fork`, where the page is the parent's.
    #[cold]
    pub(crate) fn release(&self, item: Item<B, M>) {
        if !self.is_abandoned() {
            self.free(self.unmap(item));
        }
    }

    /// Unmaps pages and frees them, in batches if there is no provider; does nothing in a child of
    /// `fork`, where the pages are the parent's.
    ///
    /// If the mapper panics for one page, the pages before it are freed. Those after it stay in the
    /// collection if `items` borrows them, and are leaked otherwise.
    #[cold]
    pub(crate) fn release_all(&self, items: impl IntoIterator<Item = Item<B, M>>) {
        let mut items = items.into_iter();
        if self.is_abandoned() {
            return items.for_each(|_left| ());
        }
        if self.provider.is_some() {
            return items.for_each(|item| self.release(item));
        }
        loop {
            let mut unmapped = Unmapped { pool: self, slots: ArrayVec::new() };
            unmapped.slots.extend(items.by_ref().take(BATCH).map(|item| Some(self.unmap(item))));
            if unmapped.slots.is_empty() {
                return;
            }
        }
    }

    /// Frees a block, and counts it as released also if the provider panics.
    pub(crate) fn free(&self, block: B) {
        let _released = Released { pool: self, nr: 1 };
        self.take_back(block);
    }

    /// Returns a block to where it came from.
    fn take_back(&self, block: B) {
        match &self.provider {
            None => drop(block),
            Some(provider) => drop(provider.release(block)),
        }
    }

    /// Empties the ring of a pool that has ended.
    ///
    /// If the mapper panics for one page, up to 63 others are leaked with it. The remaining pages of
    /// the ring are still released, because no thread may do it later (`ring-emptied`).
    #[cold]
    #[inline(never)]
    pub(crate) fn scrub(&self) {
        /// Continues to empty the ring on drop, which finds pages there only after a panic.
        struct Rest<'p, B: Block, M: DmaMapper>(&'p PagePool<B, M>);
        impl<B: Block, M: DmaMapper> Drop for Rest<'_, B, M> {
            fn drop(&mut self) {
                self.0.ring.scrub(|batch: Batch<B, M>| self.0.release_all(batch));
            }
        }
        let _rest = Rest(self);
        self.ring.scrub(|batch: Batch<B, M>| self.release_all(batch));
    }
}

/// Blocks that a provider has passed so far. Dropped only if it panics: the blocks then return to it,
/// and are not counted as in flight.
struct Lent<'a, B: Block, M: DmaMapper> {
    pool: &'a PagePool<B, M>,
    slots: &'a mut [Option<B>],
    /// Number of slots at the front that hold a block.
    filled: usize,
}

impl<B: Block, M: DmaMapper> Lent<'_, B, M> {
    /// Leaves the blocks in the slots, and returns their number.
    fn keep(mut self) -> usize {
        mem::take(&mut self.filled)
    }
}

impl<B: Block, M: DmaMapper> Drop for Lent<'_, B, M> {
    fn drop(&mut self) {
        let lent = self.slots[..self.filled].iter_mut().filter_map(Option::take);
        lent.for_each(|block| self.pool.take_back(block));
    }
}

/// Unmapped blocks, which are freed together on drop.
struct Unmapped<'p, B: Block, M: DmaMapper> {
    pool: &'p PagePool<B, M>,
    slots: ArrayVec<Option<B>, BATCH>,
}

impl<B: Block, M: DmaMapper> Drop for Unmapped<'_, B, M> {
    #[inline]
    fn drop(&mut self) {
        if !self.slots.is_empty() {
            // At most 64.
            let nr = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
            let _released = Released { pool: self.pool, nr };
            B::free_bulk(&self.pool.source, &mut self.slots);
        }
    }
}

/// Counts pages as released on drop: after they were freed, and also if freeing panics.
struct Released<'p, B: Block, M: DmaMapper> {
    pool: &'p PagePool<B, M>,
    nr: u32,
}

impl<B: Block, M: DmaMapper> Drop for Released<'_, B, M> {
    #[inline]
    fn drop(&mut self) {
        self.pool.ring.release(self.nr);
    }
}

impl<B: Block, M: DmaMapper> Drop for PagePool<B, M> {
    fn drop(&mut self) {
        // A pool that never had an owner has an empty ring; otherwise `ring-emptied` holds, unless the
        // owner was leaked.
        self.scrub();
    }
}

impl<B: Block, M: DmaMapper> fmt::Debug for PagePool<B, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PagePool")
            .field("inflight", &self.inflight())
            .field("params", &self.params)
            .finish_non_exhaustive()
    }
}
