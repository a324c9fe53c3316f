//! Bulk engine: moves many pages from lists and zones to a sink in one call; shared by all bulk calls.

use crate::account::table::Payer;
use crate::base::gfp::Gfp;
use crate::base::policy::NodeMask;
use crate::base::raw_page::{Class, RawPage};
use crate::base::shortage::Shortage;
use crate::base::stats::ZoneEvents;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::alloc_context::{AllocContext, Pinned};
use crate::page_alloc::allocator::{PAGES_PER_HOLD, PageAllocator, Site};
use crate::page_alloc::slow_path_flags::TRACE;
use crate::percpu::pcp::Batch;
use crate::percpu::slot::ListOrder;
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::frame_words::{Blocks, FrameWords};
use crate::zone::watermark::Mark;
use crate::zone::zone::Zone;

/// The destination of new pages.
///
/// The calls with Linux's contract are compiled once for each kind of sink. Requests, and all paths that
/// are marked as cold, are compiled once for all kinds (`dyn Sink`): they take a multiple of the
/// code, and an indirect call for each batch is a small part of their cost.
pub(crate) trait Sink {
    /// Takes ownership of the pages, at most as many as it asked for, also if it panics.
    fn accept(&mut self, pages: &[RawPage]);

    /// Returns whether accepting a page may take long, so that no lock may be held meanwhile.
    fn is_slow(&self) -> bool {
        false
    }
}

impl Sink for &mut (dyn Sink + '_) {
    fn accept(&mut self, pages: &[RawPage]) {
        (**self).accept(pages);
    }

    fn is_slow(&self) -> bool {
        (**self).is_slow()
    }
}

/// The numbers of pages of a bulk call.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// Pages that must be left above the low watermark for the call to proceed.
    pub(crate) claim: usize,
    /// New pages to allocate.
    pub(crate) new: usize,
}

/// What a bulk call with Linux's contract got.
#[derive(Clone, Copy)]
pub(crate) enum Got {
    /// This many pages, at least one, from the bulk attempt.
    Bulk(usize),
    /// One page, from a single allocation.
    Single,
    Nothing,
}

impl Got {
    /// Returns the number of new pages.
    #[inline]
    pub(crate) fn new_pages(self) -> usize {
        match self {
            Self::Bulk(nr) => nr,
            Self::Single => 1,
            Self::Nothing => 0,
        }
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Moves up to `wanted.new` pages from this CPU's list to `sink`, and returns their number.
    ///
    /// Takes only from zones of the preferred node that stay above their low watermark, and reclaims
    /// nothing. On a short count, the caller must try other means.
    ///
    /// # Concurrency
    /// Holds the CPU's lists for [`PAGES_PER_HOLD`] pages at a time, and a zone lock for one refill at
    /// a time. If the lists are in use, takes from the zone directly.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`, steps 3 to 7. Differs: where the
    /// lists are in use, Linux allocates a single page instead.
    #[inline]
    pub(crate) fn alloc_bulk(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        sink: &mut impl Sink,
    ) -> usize {
        let pinned = self.pin();
        if self.move_ready(&pinned, gfp, node, wanted, sink) {
            return wanted.new;
        }
        self.alloc_bulk_with_refill(pinned, gfp, node, wanted, sink)
    }

    /// Does what [`alloc_bulk`](Self::alloc_bulk) does, where the list does not hold all wanted pages.
    #[inline(never)]
    fn alloc_bulk_with_refill(
        &self,
        pinned: Pinned<'_, P>,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        mut sink: &mut dyn Sink,
    ) -> usize {
        let context = self.context(&pinned, gfp, node);
        drop(pinned);
        match self.bulk_zone(&context, wanted.claim) {
            Some(zone) => self.alloc_from_zone(&context, zone, wanted.new, &mut sink),
            None => 0,
        }
    }

    /// Moves `nr` pages from this CPU's list of the preferred zone to `sink`, and returns whether it did:
    /// if the request needs nothing else than a copy, the list holds that many and the zone is above its
    /// low watermark.
    #[inline]
    pub(crate) fn alloc_bulk_at_once(&self, gfp: Gfp, nr: usize, sink: &mut impl Sink) -> bool {
        self.alloc_bulk_ready(gfp, Wanted { claim: 0, new: nr }, sink)
    }

    /// Moves all wanted pages as [`alloc_bulk_at_once`](Self::alloc_bulk_at_once) does, if the zone stays
    /// above its low watermark plus what is claimed.
    #[inline(always)]
    pub(crate) fn alloc_bulk_ready(&self, gfp: Gfp, wanted: Wanted, sink: &mut impl Sink) -> bool {
        if gfp.intersects(Gfp::UNUSUAL) || self.slow_path_flags.any() {
            return false;
        }
        self.move_ready(&self.pin(), gfp, None, wanted, sink)
    }

    /// Moves all wanted pages from this CPU's list, if it holds that many.
    // Two calls of one sink use it, and a call costs 30 instructions.
    #[inline(always)]
    fn move_ready(
        &self,
        pinned: &Pinned<'_, P>,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        sink: &mut impl Sink,
    ) -> bool {
        let Some(hot_zone) = pinned.hot_zone(gfp, node) else { return false };
        let nr = wanted.new;
        if nr > PAGES_PER_HOLD || sink.is_slow() || !hot_zone.admits(wanted.claim) {
            return false;
        }
        let Some(mut lists) = pinned.lists() else { return false };
        let mut list = lists.hot_list(gfp);
        if list.count() < nr {
            return false;
        }
        sink.accept(list.take_top(nr).pages());
        list.events.alloc.add(nr as u64);
        true
    }

    /// Moves up to `nr` pages of one zone to `sink`, and returns their number.
    ///
    /// # Concurrency
    /// See [`alloc_bulk`](Self::alloc_bulk). No lock is held while a slow sink accepts pages.
    #[inline]
    fn alloc_from_zone(
        &self,
        context: &AllocContext,
        zone: &'static Zone,
        nr: usize,
        sink: &mut impl Sink,
    ) -> usize {
        let is_slow = sink.is_slow();
        let step = if is_slow { Batch::CAPACITY } else { PAGES_PER_HOLD };
        let mut done = 0;
        while done < nr {
            let wanted = (nr - done).min(step);
            let moved = if is_slow {
                self.move_pages_by_batch(context, zone, wanted, sink)
            } else {
                self.move_pages(&self.pin(), context, zone, wanted, sink)
            };
            done += moved;
            if moved < wanted {
                break;
            }
        }
        done
    }

    /// Moves up to `nr` pages, at most a batch, to a slow sink.
    #[cold]
    fn move_pages_by_batch(
        &self,
        context: &AllocContext,
        zone: &'static Zone,
        nr: usize,
        sink: &mut dyn Sink,
    ) -> usize {
        let mut batch = Batch::new();
        let moved = self.move_pages(&self.pin(), context, zone, nr, &mut batch);
        sink.accept(batch.as_slice());
        moved
    }

    /// Moves up to `nr` pages to `sink` from all zones that may serve the request, best first, as long
    /// as each stays above its low watermark, and returns their number.
    ///
    /// # Concurrency
    /// See [`alloc_bulk`](Self::alloc_bulk).
    pub(crate) fn alloc_bulk_anywhere(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        nodes: NodeMask,
        nr: usize,
        mut sink: &mut dyn Sink,
    ) -> usize {
        let context = self.context(&self.pin(), gfp, node).on(nodes);
        let mut done = 0;
        for zone in self.eligible(&context) {
            if done == nr {
                break;
            }
            if zone.marks.bulk_ok(zone.nr_free(), 0, context.highest) {
                done += self.alloc_from_zone(&context, zone, nr - done, &mut sink);
            }
        }
        done
    }

    /// Moves up to `nr` blocks of an order above zero to `sink` from all zones that may serve the request,
    /// best first, as long as each stays above its low watermark, and returns their number.
    ///
    /// # Concurrency
    /// Holds the CPU's lists and a zone lock for at most 64 blocks at a time. No lock is held while
    /// `sink` accepts blocks.
    pub(crate) fn alloc_blocks_anywhere(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        nodes: NodeMask,
        (order, nr): (Order, usize),
        sink: &mut dyn Sink,
    ) -> usize {
        let mut done = 0;
        if self.platform().is_abandoned() {
            return done;
        }
        let context = self.context(&self.pin(), gfp, node).on(nodes);
        for zone in self.eligible(&context) {
            while done < nr {
                let mut blocks = Blocks::new();
                self.take_blocks(&context, zone, (order, nr - done), &mut blocks);
                if blocks.is_empty() {
                    break;
                }
                done += blocks.len();
                sink.accept(blocks.as_slice());
            }
        }
        done
    }

    /// Takes up to `nr` blocks of one zone, as far as `blocks` has room for them: those of this CPU's
    /// list, then others under one lock.
    fn take_blocks(
        &self,
        context: &AllocContext,
        zone: &'static Zone,
        (order, nr): (Order, usize),
        blocks: &mut Blocks,
    ) {
        let nr = nr.min(Blocks::CAPACITY);
        let spare = || {
            let spare = zone.marks.spare(zone.nr_free(), Mark::Low, context.highest);
            usize::try_from(spare >> order.value()).unwrap_or(usize::MAX)
        };
        let class = Class::new(zone.list(context.migratetype), order);
        let count = |events: &ZoneEvents, nr: usize| {
            let nr = nr as u64;
            self.count_alloc(events, context, zone, nr << order.value(), nr);
        };
        if spare() == 0 {
            return;
        }
        let pinned = self.pin();
        if let Some(list_order) = ListOrder::of(order)
            && let Some(mut lists) = pinned.lists()
        {
            let mut list = lists.block_list(class.list(), list_order);
            let ready = list.count().min(nr);
            blocks.push_all(list.take_top(ready).pages().iter().copied());
            count(lists.zone_events(class.list().zone()), ready);
        }
        drop(pinned);
        let left = (nr - blocks.len()).min(spare());
        if left == 0 {
            return;
        }
        let taken = zone.rmqueue_blocks(self.platform(), context.home, class, left, blocks, count);
        self.platform().trace(zone.gave(context.migratetype, order, taken << order.value(), false));
    }

    /// Moves up to `nr` pages during one hold of the lists.
    #[inline]
    fn move_pages(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        zone: &'static Zone,
        nr: usize,
        sink: &mut impl Sink,
    ) -> usize {
        let Some(mut lists) = pinned.lists() else {
            return self.move_from_zone(context, zone, nr, sink);
        };
        let id = zone.list(context.migratetype);
        let mut left = nr;
        let mut kept = lists.list(id).leftover(nr);
        loop {
            left -= {
                let mut list = lists.list(id);
                let ready = left.min(list.count() - kept);
                sink.accept(list.take_top(ready).pages());
                ready
            };
            if left == 0 {
                break;
            }
            let marks = &zone.marks;
            let spare = marks.spare(zone.nr_free(), Mark::Low, context.highest);
            if self.refill(&mut lists, zone, context.migratetype, spare) == 0 {
                if kept == 0 {
                    break;
                }
                kept = 0;
            }
        }
        let moved = (nr - left) as u64;
        self.count_alloc(lists.zone_events(id.zone()), context, zone, moved, moved);
        nr - left
    }

    /// Moves up to `nr` pages past the lists, which are in use.
    #[cold]
    fn move_from_zone(
        &self,
        context: &AllocContext,
        zone: &Zone,
        nr: usize,
        sink: &mut dyn Sink,
    ) -> usize {
        if self.platform().is_abandoned() {
            return 0;
        }
        let class = Class::new(zone.list(context.migratetype), Order::ZERO);
        let mut done = 0;
        while done < nr {
            // Like a refill, it leaves what the request must leave.
            let marks = &zone.marks;
            let spare = marks.spare(zone.nr_free(), Mark::Low, context.highest);
            let spare = usize::try_from(spare).unwrap_or(usize::MAX);
            let wanted = (nr - done).min(Batch::CAPACITY).min(spare);
            let mut words = FrameWords::new();
            let (home, migratetype) = (context.home, context.migratetype);
            let taken = zone.rmqueue_bulk(self.platform(), home, migratetype, wanted, &mut words);
            if taken == 0 {
                break;
            }
            let mut batch = Batch::new();
            batch.push_all(words.as_slice().iter().flat_map(|word| word.pages(class)));
            sink.accept(batch.as_slice());
            done += taken;
        }
        zone.count(self.platform(), |events| {
            self.count_alloc(events, context, zone, done as u64, done as u64);
        });
        done
    }
}

/// A sink that prepares each block for its owner and passes it on.
pub(crate) struct Finish<'a, P: Platform> {
    pub(crate) allocator: &'a PageAllocator<P>,
    pub(crate) sink: &'a mut dyn Sink,
    pub(crate) payer: Payer,
    pub(crate) gfp: Gfp,
    pub(crate) site: Site,
}

impl<P: Platform> Sink for Finish<'_, P> {
    fn accept(&mut self, pages: &[RawPage]) {
        if !self.is_slow() {
            return self.sink.accept(pages);
        }
        let account = self.payer.account();
        for pages in pages.chunks(Batch::CAPACITY) {
            let mut batch = Batch::new();
            if self.allocator.slow_path_flags.any() {
                let finish = |&page| self.allocator.finish(page, account, self.gfp, self.site);
                batch.push_all(pages.iter().map(finish));
            } else {
                if self.gfp.contains(Gfp::ZERO) {
                    self.allocator.zero_all(pages);
                }
                batch.push_all(pages.iter().map(|page| page.charged_to(account)));
            }
            if !account.is_none() {
                // Only once all of them are finished: if a hook panics, these pages are leaked, and
                // their charge must end with the payer.
                let nr_pages = |page: &RawPage| page.order().nr_pages() as u64;
                self.payer.hand_over(batch.as_slice().iter().map(nr_pages).sum());
            }
            self.sink.accept(batch.as_slice());
        }
    }

    #[inline]
    fn is_slow(&self) -> bool {
        self.gfp.contains(Gfp::ZERO)
            || !self.payer.account().is_none()
            || self.allocator.slow_path_flags.any()
            || self.sink.is_slow()
    }
}

impl<P: Platform> PageAllocator<P> {
    /// Does what [`alloc_bulk`](Self::alloc_bulk) does, plus the hooks of the slow-path flags, charging
    /// and zeroing.
    ///
    /// The account is charged once, for as many pages as fit under its limit.
    #[cold]
    fn alloc_bulk_unusual(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        sink: &mut dyn Sink,
        site: Site,
    ) -> Result<usize, Shortage> {
        self.check_usable()?;
        let told = |got, short| self.trace_bulk(gfp, Order::ZERO, wanted.new, got, Some(short));
        if self.is_faulted(gfp, Order::ZERO) {
            told(0, Shortage::Fault);
            return Err(Shortage::Fault);
        }
        let Some(mut payer) = self.payer(None, gfp) else {
            told(0, Shortage::Account);
            return Err(Shortage::Account);
        };
        // Limits cut the call short; the caller still tries for one page, with full effort.
        let without = gfp.difference(Gfp::NOFAIL);
        let charged = self.charge(&mut payer, wanted.new as u64, 1, without);
        let new = usize::try_from(charged).unwrap_or(wanted.new);
        let mut finish = Finish { allocator: self, sink, payer, gfp, site };
        let mut sink: &mut dyn Sink = &mut finish;
        let affordable = Wanted { new, ..wanted };
        let done = self.alloc_bulk(gfp, node, affordable, &mut sink);
        told(done, if done < new { Shortage::Memory } else { Shortage::Account });
        Ok(done)
    }

    /// Makes the attempt of a bulk call with Linux's contract: does what
    /// [`alloc_bulk`](Self::alloc_bulk) does, from any node, with the hooks that the request or the
    /// flags ask for.
    #[inline]
    fn try_bulk(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        sink: &mut impl Sink,
        site: Site,
    ) -> Result<usize, Shortage> {
        if gfp.intersects(Gfp::ZERO.union(Gfp::ACCOUNT)) || self.slow_path_flags.any() {
            return self.alloc_bulk_unusual(gfp, node, wanted, sink, site);
        }
        let done = self.alloc_bulk(gfp, node, wanted, sink);
        if done < wanted.new {
            self.trace_bulk(gfp, Order::ZERO, wanted.new, done, Some(Shortage::Memory));
        }
        Ok(done)
    }

    /// Makes a bulk call with Linux's contract: at least one page if a single allocation can get one.
    ///
    /// `wanted.new` is above zero. A call that wants only one page makes no bulk attempt.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`, the label `failed`
    #[inline]
    pub(crate) fn alloc_at_least_one(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        wanted: Wanted,
        sink: &mut impl Sink,
        site: Site,
    ) -> Got {
        if wanted.claim > 1 {
            match self.try_bulk(gfp, node, wanted, sink, site) {
                Ok(0) => {}
                Ok(new) => return Got::Bulk(new),
                Err(_) => return Got::Nothing,
            }
        }
        let Some(page) = self.alloc_single(gfp, node, site) else { return Got::Nothing };
        sink.accept(&[page]);
        Got::Single
    }

    /// Traces a bulk call that fell short for the reason `short`, or any bulk call while pages are
    /// traced.
    #[inline]
    pub(crate) fn trace_bulk(
        &self,
        gfp: Gfp,
        order: Order,
        wanted: usize,
        got: usize,
        short: Option<Shortage>,
    ) {
        if got < wanted || self.slow_path_flags.has(TRACE) {
            let short = short.filter(|_| got < wanted);
            self.platform().trace(Event::BulkAlloc { gfp, order, wanted, got, short });
        }
    }
}

impl Sink for Batch {
    fn accept(&mut self, pages: &[RawPage]) {
        self.push_all(pages.iter().copied());
    }
}
