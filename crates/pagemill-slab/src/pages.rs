//! Pages of slabs: how a cache takes them from the allocator and frees them.

use pagemill::accounts::AccountId;
use pagemill::machine::DirectMap;
use pagemill::request::Effort;
use pagemill::source::PageSource;
use pagemill::units::{MAX_ORDER, Pfn};
use pagemill::{AllocPages, BulkRequest, Folio, Gfp, Order};

use crate::config::{CacheConfig, Refill};
use crate::slabs::Slabs;

/// Most slabs that move between a cache and the allocator at a time.
pub(crate) const MAX_BATCH: usize = 16;

/// Flags of a call that a cache, whose objects share pages, cannot follow: which pages, and their contents.
const NOT_PER_CALL: Gfp = Gfp::DMA
    .union(Gfp::HIGHMEM)
    .union(Gfp::DMA32)
    .union(Gfp::MOVABLE)
    .union(Gfp::RECLAIMABLE)
    .union(Gfp::THISNODE)
    .union(Gfp::ACCOUNT)
    .union(Gfp::ZERO);

/// How a cache takes pages.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PagePolicy {
    refill: Refill,
    gfp: Gfp,
    account: Option<AccountId>,
}

/// Blocks of one order, which the holder owns by their numbers.
#[derive(Debug)]
pub(crate) struct Batch {
    pfns: [Pfn; MAX_BATCH],
    nr: usize,
    pub(crate) order: Order,
}

impl Batch {
    pub(crate) fn new(order: Order) -> Self {
        Self { pfns: [Pfn::new(0); MAX_BATCH], nr: 0, order }
    }

    pub(crate) fn pfns(&self) -> &[Pfn] {
        &self.pfns[..self.nr]
    }

    /// Adds a block if it has the order of the others and there is room.
    pub(crate) fn try_push(&mut self, pfn: Pfn, order: Order) -> bool {
        if self.nr == 0 {
            self.order = order;
        }
        if self.nr == MAX_BATCH || order != self.order {
            return false;
        }
        self.pfns[self.nr] = pfn;
        self.nr += 1;
        true
    }

    pub(crate) fn nr_pages(&self) -> usize {
        self.nr << self.order.value()
    }

    /// Frees the blocks.
    pub(crate) fn free<S: PageSource<Platform: DirectMap>>(self, slabs: &Slabs<S>) {
        let source = slabs.source();
        let is_freed = if self.order == Order::ZERO {
            // SAFETY: 1. owned and given up, each once: the batch is its blocks' owner, and ends here.
            unsafe { source.clone().free_pfns(self.pfns()) }.is_ok()
        } else {
            let nr_pages = self.order.nr_pages();
            let free = |pfn| {
                // SAFETY: 1. as above: the block at `pfn` has these frames.
                unsafe { source.clone().free_pfn_range(pfn, nr_pages) }
            };
            self.pfns().iter().all(|&pfn| free(pfn).is_ok())
        };
        assert!(is_freed, "pages of a slab are frames of the memory map");
    }
}

impl PagePolicy {
    pub(crate) fn new(config: &CacheConfig) -> Self {
        Self { refill: config.refill, gfp: config.gfp, account: config.account }
    }

    /// Takes up to `nr` blocks of `order`; if there is none, up to as many pages in blocks of `fallback`; if
    /// there is none either, one such block with all the effort that `gfp` allows. Returns an empty batch if
    /// that fails, too.
    pub(crate) fn take<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        nr: usize,
        (order, fallback): (Order, Order),
    ) -> Batch {
        let gfp = gfp.difference(NOT_PER_CALL) | self.gfp;
        let smaller = nr << (order.value() - fallback.value());
        for (order, nr) in [(order, nr), (fallback, smaller)] {
            let is_easy = nr > 1 || order != fallback;
            if is_easy {
                let mut batch = Batch::new(order);
                self.take_easily(slabs, gfp, nr.min(MAX_BATCH), &mut batch);
                if batch.nr > 0 {
                    return batch;
                }
            }
        }
        let mut batch = Batch::new(fallback);
        self.take_one(slabs, gfp, &mut batch);
        batch
    }

    /// Takes blocks without reclaim and without the reserves.
    fn take_easily<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        nr: usize,
        batch: &mut Batch,
    ) {
        let easy = gfp.difference(Gfp::DIRECT_RECLAIM | Gfp::NOFAIL | Gfp::HIGH) | Gfp::NOWARN;
        match self.refill {
            Refill::Bulk => self.take_in_bulk(slabs, easy, nr, batch),
            Refill::Split if self.take_split(slabs, easy, nr, batch) => {}
            Refill::Single | Refill::Split => {
                let is_taken = |_: &usize| self.take_one(slabs, easy, batch);
                let _taken = (0..nr).take_while(is_taken).count();
            }
        }
    }

    fn take_in_bulk<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        nr: usize,
        batch: &mut Batch,
    ) {
        let request = BulkRequest {
            order: batch.order,
            effort: Effort::Fast,
            account: self.account,
            ..BulkRequest::new(gfp)
        };
        let room = &mut batch.pfns[..nr];
        batch.nr = slabs.source().clone().bulk_pfns(&request, room).new;
    }

    /// Takes one block and splits it into `nr` of the batch's order, rounded up to a power of two.
    fn take_split<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        nr: usize,
        batch: &mut Batch,
    ) -> bool {
        let nr = nr.next_power_of_two().min(MAX_BATCH);
        #[expect(clippy::cast_possible_truncation, reason = "at most MAX_BATCH")]
        let order = batch.order.value() + nr.ilog2() as u8;
        let Ok(order) = Order::new(order.min(MAX_ORDER.value())) else { return false };
        let Some(first) = self.one(slabs, gfp, order) else { return false };
        for position in 0..nr {
            batch.pfns[position] = first.offset((position << batch.order.value()) as u64);
        }
        batch.nr = nr;
        true
    }

    fn take_one<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        batch: &mut Batch,
    ) -> bool {
        let Some(pfn) = self.one(slabs, gfp, batch.order) else { return false };
        batch.try_push(pfn, batch.order)
    }

    fn one<S: PageSource<Platform: DirectMap>>(
        &self,
        slabs: &Slabs<S>,
        gfp: Gfp,
        order: Order,
    ) -> Option<Pfn> {
        let source = slabs.source().clone();
        if self.account.is_none() {
            return source.alloc_pages(gfp, order).map(Folio::into_pfn);
        }
        let mut pfn = [Pfn::new(0)];
        let request = BulkRequest { order, account: self.account, ..BulkRequest::new(gfp) };
        (source.bulk_pfns(&request, &mut pfn).new == 1).then_some(pfn[0])
    }
}
