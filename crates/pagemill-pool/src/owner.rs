//! Pool owner: the one thread that takes pages; its cache, and refills from the ring and the allocator.

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::panic::Location;
use core::slice;

use pagemill::recycling::Stack;
use pagemill::source::PageSource;
use pagemill::units::NodeId;
use pagemill::{Gfp, Order};

use crate::block::{Block, Request};
use crate::dma::{DmaBlock, DmaMapper};
use crate::page::PoolPage;
use crate::params::{PP_ALLOC_CACHE_REFILL, PP_ALLOC_CACHE_SIZE};
use crate::pool::{Item, PagePool, Unfit};
use crate::pool_ref::PoolRef;
use crate::recycle_ring::{RESERVE, TRACKED};
use crate::returner::{self, Returner};
use crate::shutdown::Draining;
use crate::stats::{AllocStats, PoolStats};

/// The right to take pages out of a pool, held by one thread at a time: a device's poll loop.
///
/// The cache belongs to the owner alone, so allocation and direct recycling take no lock and no atomic
/// operation. The owner can be sent to another thread, but not shared:
/// ```compile_fail,E0277
/// # use pagemill::{Page, PageAllocator};
/// # use pagemill_pool::{PagePool, PoolOwner};
/// type Pool = PagePool<Page<&'static PageAllocator<pagemill_host::Host>>>;
/// fn sent<T: Send>() {}
/// fn shared<T: Sync>() {}
/// sent::<PoolOwner<&'static Pool>>();
/// shared::<PoolOwner<&'static Pool>>();
/// ```
///
/// # Children of `fork`
/// The pages of a pool remain the parent's, and a child must not take any. The fast path does not check
/// this: until the copy of the cache is empty (at most 128 pages, and the rest of a page of
/// [`PoolFrags`](crate::PoolFrags)), an owner in the child still hands pages out. Access to the bytes
/// of such a page is SIGSEGV if the arena is a memfd, and reaches a private copy otherwise.
///
/// A child may drop or return everything that it has copies of: owners, pages, fragments, pools. That
/// frees nothing, and calls neither the mapper nor the provider, whose devices are the parent's. Once
/// the cache is empty, [`alloc`](Self::alloc) returns `None`, [`PagePool::holders`] returns an empty
/// list, and [`Draining::wait`](crate::shutdown::Draining::wait) returns an error.
///
/// # Examples
/// ```
/// use pagemill_host::HostAllocator;
/// use pagemill_pool::dma::NoDma;
/// use pagemill_pool::{PagePool, PoolOwner, PoolParams};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let frames = HostAllocator::new(64 << 20)?;
/// let pool = PagePool::new(&PoolParams::new(), &frames, NoDma)?;
/// let mut owner = PoolOwner::claim(&pool).expect("the pool has no owner yet");
/// let mut page = owner.alloc().expect("there is memory");
/// page.as_bytes_mut()[0] = 0x45;
/// std::thread::scope(|scope| {
///     scope.spawn(move || drop(page)); // returns through the ring
/// });
/// let page = owner.alloc().expect("there is memory");
/// owner.put(page); // returns directly
/// assert!(owner.shutdown().is_complete());
/// # Ok(()) }
/// ```
#[must_use = "dropping this gives the pool up"]
pub struct PoolOwner<R: PoolRef> {
    cache: Stack<Item<R::Block, R::Mapper>, PP_ALLOC_CACHE_SIZE>,
    /// Whether returned pages must be checked, because some pages in use came from the reserve or may
    /// be on another node than `node`. While it is false, `check_reuse` accepts all pages: only this
    /// owner sets the pool's flags that call for a check.
    takes_slow_path: bool,
    /// Whether pages in use may be on another node than the owner wants now, because it changed its
    /// node or the allocator fell back to another one. Stays true, since a page can be in use forever.
    is_mixed: bool,
    /// Whether the allocator has several nodes.
    has_nodes: bool,
    /// The node that the last refill wanted, if there are several.
    last_node: Option<NodeId>,
    tally: Tally,
    pool: R,
    node: Option<NodeId>,
    refill: usize,
    slots: [Option<R::Block>; PP_ALLOC_CACHE_REFILL],
    _not_sync: PhantomData<Cell<()>>,
}

/// The owner's counters. The most frequent event is not counted, but computed from the others.
#[derive(Debug, Default)]
struct Tally {
    /// Pages put into the cache by their users.
    cached: u64,
    /// Pages put into the cache by refills, without those that the refills handed out.
    stocked: u64,
    /// Pages removed from the cache without being handed out.
    flushed: u64,
    cache_full: u64,
    slow: u64,
    slow_high_order: u64,
    empty: u64,
    refill: u64,
    waive: u64,
}

impl<R: PoolRef> PoolOwner<R> {
    /// Claims the ownership of a pool; `None` if the pool has, or had, an owner already.
    pub fn claim(pool: R) -> Option<Self> {
        let shared = pool.pool();
        if !shared.claim(if R::TRACKS { TRACKED } else { 0 }) {
            return None;
        }
        let params = *shared.params();
        Some(Self {
            cache: Stack::new(),
            takes_slow_path: false,
            is_mixed: false,
            has_nodes: shared.source().allocator().nr_nodes() > 1,
            last_node: None,
            tally: Tally::default(),
            pool,
            node: params.node,
            refill: params.refill,
            slots: [const { None }; PP_ALLOC_CACHE_REFILL],
            _not_sync: PhantomData,
        })
    }

    /// Takes a page: from the cache, else from the ring, else from the page allocator.
    ///
    /// # Errors
    /// `None` if the page allocator has none, or none of its pages could be mapped.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_alloc_netmem`
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped returns to the pool"]
    pub fn alloc(&mut self) -> Option<PoolPage<R>> {
        let item = match self.cache.pop() {
            Some(item) => item,
            None => self.refill()?,
        };
        if R::TRACKS {
            self.pool.pool().note_taken(&item, Location::caller());
        }
        Some(PoolPage::new(item, self.pool.clone()))
    }

    /// Takes up to `nr` pages, appends them to `pages`, and returns how many.
    ///
    /// # Errors
    /// Fewer than `nr`, for the reasons of [`alloc`](Self::alloc).
    #[track_caller]
    pub fn alloc_bulk(&mut self, nr: usize, pages: &mut impl Extend<PoolPage<R>>) -> usize {
        let site = Location::caller();
        for done in 0..nr {
            let item = match self.cache.pop() {
                Some(item) => Some(item),
                None => self.refill(),
            };
            let Some(item) = item else { return done };
            if R::TRACKS {
                self.pool.pool().note_taken(&item, site);
            }
            pages.extend(Some(PoolPage::new(item, self.pool.clone())));
        }
        nr
    }

    /// Takes a page back directly: into the cache, or into the ring if the cache is full.
    ///
    /// A page of another pool returns to its own.
    #[inline]
    pub fn put(&mut self, page: PoolPage<R>) {
        self.put_used(page, usize::MAX);
    }

    /// Does what [`put`](Self::put) does for a page of which the CPU has accessed no more than `used`
    /// bytes: the other bytes need no sync for the device.
    ///
    /// # Source
    /// `linux-6.12` `include/net/page_pool/helpers.h` `page_pool_put_page`, its `dma_sync_size`
    #[inline]
    pub fn put_used(&mut self, page: PoolPage<R>, used: usize) {
        if !self.takes_unseen(page.pool()) {
            return self.put_slowly(page, used);
        }
        self.recycle(page.into_item(), used);
    }

    /// Returns whether a page of `pool` may be reused without a call of `check_reuse`, which would
    /// accept it: see `takes_slow_path`.
    #[inline]
    fn takes_unseen(&self, pool: &R) -> bool {
        !R::TRACKS && !self.takes_slow_path && pool.is_same(&self.pool)
    }

    /// Recycles a page that is to be carved again, without moving it to the cache. Returns false if it
    /// may not be reused directly: the caller then returns it like any other page.
    ///
    /// Checks the local node, as a refill does: an owner that needs no other page never refills, and
    /// would keep a page of a node that its thread has left.
    #[inline]
    pub(crate) fn recycle_in_place(
        &mut self,
        pool: &R,
        block: DmaBlock,
        mapping: <R::Mapper as DmaMapper>::Mapping,
    ) -> bool {
        if self.has_nodes {
            self.note_node();
        }
        let may_stay = self.takes_unseen(pool);
        if may_stay {
            if R::Mapper::MAPS {
                self.pool.pool().sync_block_for_device(block, mapping, usize::MAX);
            }
            self.tally.cached = self.tally.cached.wrapping_add(1);
        }
        may_stay
    }

    /// Takes pages back directly, as many as the cache has room for; the others go through the ring, 64
    /// by one claim.
    pub fn put_bulk(&mut self, pages: impl IntoIterator<Item = PoolPage<R>>) {
        let mut pages = pages.into_iter();
        while !self.cache.is_full() {
            let Some(page) = pages.next() else { return };
            self.put(page);
        }
        let tally = &mut self.tally;
        let pages = pages.inspect(|_| tally.cache_full = tally.cache_full.wrapping_add(1));
        returner::put_bulk(&self.pool, pages);
    }

    /// Returns how the pool is reached.
    #[inline]
    pub fn pool(&self) -> &R {
        &self.pool
    }

    /// Returns a handle with which other threads can return pages.
    pub fn returner(&self) -> Returner<R> {
        Returner(self.pool.clone())
    }

    /// Returns the number of pages in the cache.
    #[must_use]
    pub fn nr_cached(&self) -> usize {
        self.cache.len()
    }

    /// Returns the number of pages in use: taken from the pool by any thread and not returned yet.
    ///
    /// # Concurrency
    /// Approximate while other threads return pages: a page that is being returned may or may not count.
    #[must_use]
    pub fn nr_out(&self) -> usize {
        let pool = self.pool.pool();
        let kept = pool.nr_in_ring() + self.cache.len();
        usize::try_from(pool.inflight()).unwrap_or(0).saturating_sub(kept)
    }

    /// Takes pages from another node from now on; `None` for the node of the requesting CPU.
    ///
    /// Releases the pages in the cache. The node of pages in the ring is checked when they are taken
    /// out, and that of pages in use when they return.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_update_nid`
    pub fn set_node(&mut self, node: Option<NodeId>) {
        if self.node != node {
            self.node = node;
            self.flush();
            self.note_node();
        }
    }

    /// Sets how many pages one call to the page allocator takes, 1 to 64.
    pub fn set_refill(&mut self, nr: usize) {
        self.refill = nr.clamp(1, PP_ALLOC_CACHE_REFILL);
    }

    /// Returns the counters.
    pub fn stats(&self) -> PoolStats {
        let tally = &self.tally;
        // Pages that went into the cache and are not there any more were taken.
        let left = self.cache.len() as u64 + tally.flushed;
        let mut stats = self.pool.pool().stats();
        stats.alloc = AllocStats {
            fast: (tally.cached + tally.stocked).wrapping_sub(left),
            slow: tally.slow,
            slow_high_order: tally.slow_high_order,
            empty: tally.empty,
            refill: tally.refill,
            waive: tally.waive,
        };
        stats.recycle.cached = tally.cached;
        stats.recycle.cache_full = tally.cache_full;
        stats
    }

    /// Ends the pool: releases the pages in the cache and the ring, and reports those still in use.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_destroy`. Differs: the caller decides how long to
    /// wait, and learns who has the pages.
    pub fn shutdown(self) -> Draining<R> {
        Draining::new(self.pool.clone())
    }

    /// Returns whether the owner wants pages of a node now.
    #[inline]
    pub(crate) fn wants(&self, node: impl FnOnce() -> NodeId) -> bool {
        !self.is_mixed || self.wanted_node().is_none_or(|wanted| wanted == node())
    }

    /// Returns the node that pages are wanted on; `None` if there is only one.
    fn wanted_node(&self) -> Option<NodeId> {
        let local = || self.pool.pool().source().allocator().local_node();
        self.has_nodes.then(|| self.node.unwrap_or_else(local))
    }

    /// Updates the node that pages are wanted on, and returns it.
    fn note_node(&mut self) -> Option<NodeId> {
        let wanted = self.wanted_node()?;
        if self.last_node.replace(wanted).is_some_and(|last| last != wanted) {
            self.mix();
        }
        Some(wanted)
    }

    /// Makes returned pages be checked from now on.
    #[cold]
    fn mix(&mut self) {
        (self.is_mixed, self.takes_slow_path) = (true, true);
    }

    /// Puts a page that may be reused into the cache, or into the ring.
    #[inline]
    fn recycle(&mut self, item: Item<R::Block, R::Mapper>, used: usize) {
        // A pool without a device needs no sync.
        if R::Mapper::MAPS {
            self.pool.pool().sync_for_device(&item, used);
        }
        match self.cache.push(item) {
            // Wraps after 2^64 pages.
            Ok(()) => self.tally.cached = self.tally.cached.wrapping_add(1),
            Err(item) => self.recycle_to_ring(item),
        }
    }

    #[cold]
    #[inline(never)]
    fn recycle_to_ring(&mut self, item: Item<R::Block, R::Mapper>) {
        let pool = self.pool.pool();
        self.tally.cache_full += 1;
        if let Err(item) = pool.ring().push(item) {
            pool.release(item);
        }
        // The pool has not ended, because its owner exists.
    }

    /// Takes back a page that must be checked.
    #[cold]
    #[inline(never)]
    fn put_slowly(&mut self, page: PoolPage<R>, used: usize) {
        if !page.pool().is_same(&self.pool) {
            return drop(page);
        }
        let item = page.into_item();
        let node = if self.is_mixed { self.wanted_node() } else { None };
        let pool = self.pool.pool();
        let check = pool.check_reuse(&item.0, node);
        self.takes_slow_path = self.is_mixed || pool.ring().slow_path_flags() & RESERVE != 0;
        match check {
            Ok(()) => self.recycle(item, used),
            Err(unfit) => self.give_up(item, unfit),
        }
    }

    /// Releases a page that is not reused.
    #[cold]
    fn give_up(&mut self, item: Item<R::Block, R::Mapper>, unfit: Unfit) {
        if unfit == Unfit::OtherNode {
            self.tally.waive += 1;
        }
        self.pool.pool().release(item);
    }

    /// Refills the empty cache and takes a page.
    #[cold]
    #[inline(never)]
    fn refill(&mut self) -> Option<Item<R::Block, R::Mapper>> {
        if self.pool.pool().is_abandoned() {
            return None;
        }
        self.refill_from_ring().or_else(|| self.refill_from_allocator())
    }

    /// Moves pages from the ring into the empty cache, up to the first one on another node.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `page_pool_refill_alloc_cache`
    fn refill_from_ring(&mut self) -> Option<Item<R::Block, R::Mapper>> {
        debug_assert!(self.cache.is_empty(), "a cache that is not empty is not refilled");
        let pool = self.pool.pool();
        // Checked without becoming the ring's consumer, which costs an atomic operation.
        if pool.ring().is_empty() {
            self.tally.empty += 1;
            return None;
        }
        let node = self.note_node();
        let pool = self.pool.pool();
        let mut stranger = None;
        if let Some(mut drain) = pool.ring().drain() {
            match node {
                // With one node, the check when they returned is sufficient.
                None => _ = drain.pop_into(PP_ALLOC_CACHE_REFILL, &mut self.cache),
                Some(_) => {
                    for item in drain.take(PP_ALLOC_CACHE_REFILL) {
                        if let Err(unfit) = pool.check_reuse(&item.0, node) {
                            stranger = Some((item, unfit));
                            break;
                        }
                        fill_cache(&mut self.cache, item);
                    }
                }
            }
        }
        if let Some((item, unfit)) = stranger {
            self.give_up(item, unfit);
        } else if self.cache.is_empty() {
            self.tally.empty += 1;
        }
        let item = self.cache.pop()?;
        self.tally.stocked += self.cache.len() as u64;
        self.tally.refill += 1;
        Some(item)
    }

    /// Moves pages from the page allocator into the empty cache.
    ///
    /// # Source
    /// `linux-6.12` `net/core/page_pool.c` `__page_pool_alloc_pages_slow`
    fn refill_from_allocator(&mut self) -> Option<Item<R::Block, R::Mapper>> {
        let node = self.note_node();
        let pool = self.pool.pool();
        let params = pool.params();
        let is_high = params.order > Order::ZERO;
        let nr = if is_high { 1 } else { self.refill };
        let request = Request {
            source: pool.source(),
            node: self.node,
            gfp: params.gfp | Gfp::NOWARN | Gfp::NOMEMALLOC,
            order: params.order,
        };
        let filled = pool.obtain(&request, &mut self.slots[..nr]);
        if filled == 0 {
            return self.alloc_from_reserve(request.gfp);
        }
        // Counted before they are mapped: a block that is leaked because the mapper panics stays in
        // flight. At most 64.
        pool.ring().hold(u32::try_from(filled).unwrap_or(u32::MAX));
        let mut is_mixed = false;
        let mut obtained = Obtained { pool, slots: self.slots[..filled].iter_mut() };
        for block in obtained.by_ref() {
            is_mixed |= node.is_some_and(|node| block.its_node() != node);
            if let Some(item) = pool.map(block) {
                fill_cache(&mut self.cache, item);
            }
        }
        drop(obtained);
        if is_mixed {
            self.mix();
        }
        let item = self.cache.pop()?;
        self.tally.stocked += self.cache.len() as u64;
        if is_high {
            self.tally.slow_high_order += 1;
        } else {
            self.tally.slow += 1;
        }
        Some(item)
    }

    /// Takes one page from the reserve, if the pool may use it; it will not be recycled.
    #[cold]
    fn alloc_from_reserve(&mut self, gfp: Gfp) -> Option<Item<R::Block, R::Mapper>> {
        let pool = self.pool.pool();
        let params = pool.params();
        // A provider has no reserve; its refusal is final.
        if !params.gfp.may_use_all_reserves() || pool.has_provider() {
            return None;
        }
        let gfp = gfp.difference(Gfp::NOMEMALLOC);
        let (source, order) = (pool.source(), params.order);
        let request = Request { source, node: self.node, gfp, order };
        if pool.obtain(&request, &mut self.slots[..1]) == 0 {
            return None;
        }
        let block = self.slots[0].take()?;
        pool.ring().hold(1);
        // Mapped before it is recorded: nothing stays in the ledger if the mapper refuses or panics.
        let item = pool.map(block)?;
        if !pool.note_reserve(&item.0) {
            pool.release(item);
            return None;
        }
        self.takes_slow_path = true;
        if order > Order::ZERO {
            self.tally.slow_high_order += 1;
        } else {
            self.tally.slow += 1;
        }
        Some(item)
    }

    /// Releases the pages in the cache.
    fn flush(&mut self) {
        let flushed = &mut self.tally.flushed;
        self.pool.pool().release_all(self.cache.by_ref().inspect(|_| *flushed += 1));
    }
}

/// Puts an item into a cache that was empty and receives at most 64 of them (`refill-empty`).
#[inline]
fn fill_cache<T>(cache: &mut Stack<T, PP_ALLOC_CACHE_SIZE>, item: T) {
    let stocked = cache.push(item).is_ok();
    debug_assert!(stocked, "a cache that is refilled has room");
}

/// Blocks that were allocated and are mapped one by one; blocks left on drop are freed.
struct Obtained<'a, B: Block, M: DmaMapper> {
    pool: &'a PagePool<B, M>,
    slots: slice::IterMut<'a, Option<B>>,
}

impl<B: Block, M: DmaMapper> Iterator for Obtained<'_, B, M> {
    type Item = B;

    #[inline]
    fn next(&mut self) -> Option<B> {
        self.slots.find_map(Option::take)
    }
}

impl<B: Block, M: DmaMapper> Drop for Obtained<'_, B, M> {
    #[inline]
    fn drop(&mut self) {
        let pool = self.pool;
        self.for_each(|block| pool.free(block));
    }
}

impl<R: PoolRef> Drop for PoolOwner<R> {
    /// Ends the pool without waiting for pages in use.
    ///
    /// If the mapper panics for one page of cache or ring, the others are still released.
    fn drop(&mut self) {
        /// Releases pages of cache and ring on drop.
        struct Scrub<'a, B: Block, M: DmaMapper> {
            pool: &'a PagePool<B, M>,
            cache: &'a mut Stack<Item<B, M>, PP_ALLOC_CACHE_SIZE>,
        }
        impl<B: Block, M: DmaMapper> Drop for Scrub<'_, B, M> {
            fn drop(&mut self) {
                self.pool.release_all(&mut *self.cache);
                self.pool.scrub();
            }
        }
        let pool = self.pool.pool();
        pool.ring().close();
        let scrub = Scrub { pool, cache: &mut self.cache };
        pool.release_all(&mut *scrub.cache);
    }
}

impl<R: PoolRef> fmt::Debug for PoolOwner<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolOwner")
            .field("nr_cached", &self.cache.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}
