//! Fast path: allocates one block from the per-CPU list of the preferred zone, or from that zone if there
//! is no list for the order.

use crate::base::gfp::Gfp;
use crate::base::raw_page::RawPage;
use crate::base::units::{NodeId, Order};
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::slow::BlockRequest;
use crate::percpu::hot_zone::HotZone;
use crate::percpu::slot::ListOrder;
use crate::platform::platform::Platform;
use crate::zone::watermark::Mark;

impl<P: Platform> PageAllocator<P> {
    /// Allocates one page: from this CPU's list of the preferred zone if no slow-path flag is set and
    /// the list has one, else on the slow path.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__alloc_frozen_pages_noprof`
    #[inline]
    pub(crate) fn alloc_single(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        site: Site,
    ) -> Option<RawPage> {
        match self.alloc_hot(gfp, node) {
            Some(page) => Some(page),
            None => self.alloc_block(&BlockRequest::new(gfp, node, Order::ZERO, site)).ok(),
        }
    }

    /// Takes a page from this CPU's list of the preferred zone, if the list has one and the zone is
    /// above its low watermark.
    #[inline]
    fn alloc_hot(&self, gfp: Gfp, node: Option<NodeId>) -> Option<RawPage> {
        if gfp.intersects(Gfp::UNUSUAL) || self.slow_path_flags.any() {
            return None;
        }
        let pinned = self.pin();
        let hot_zone = pinned.hot_zone(gfp, node)?;
        if !hot_zone.admits(0) {
            return None;
        }
        let mut lists = pinned.lists()?;
        let mut list = lists.hot_list(gfp);
        let page = list.pop()?;
        list.events.alloc.add(1);
        Some(page)
    }

    /// Allocates one block of any order, as [`alloc_single`](Self::alloc_single) does.
    #[inline]
    pub(crate) fn alloc_folio(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        order: Order,
        site: Site,
    ) -> Option<RawPage> {
        if let Some(list_order) = ListOrder::of(order)
            && let Some(block) = self.alloc_hot_block(gfp, node, list_order)
        {
            return Some(block);
        }
        // A tail call with its arguments in registers, so that the fast path needs no stack frame.
        self.alloc_folio_slowly(gfp, node, order, site)
    }

    /// Takes a block from this CPU's list of the preferred zone, if the list has one and the CPU's own shard
    /// alone has more free frames than the low watermark.
    #[inline]
    fn alloc_hot_block(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        list_order: ListOrder,
    ) -> Option<RawPage> {
        if gfp.intersects(Gfp::UNUSUAL) || self.slow_path_flags.any() {
            return None;
        }
        let pinned = self.pin();
        let hot_zone = pinned.hot_zone(gfp, node)?;
        // As `lists_at_once`, makes no call that returns.
        if !hot_zone.own_admits(list_order.order().nr_pages() - 1) {
            return None;
        }
        let mut lists = pinned.lists_at_once()?;
        lists.hot_block_list(gfp, list_order).pop_counted()
    }

    /// Allocates a block that no list has: from the preferred zone, if nothing is unusual about the
    /// request, else with all the effort that the request allows.
    #[inline(never)]
    fn alloc_folio_slowly(
        &self,
        gfp: Gfp,
        node: Option<NodeId>,
        order: Order,
        site: Site,
    ) -> Option<RawPage> {
        match self.alloc_from_hot_zone(gfp, node, order) {
            Some(block) => Some(block),
            None => self.alloc_block(&BlockRequest::new(gfp, node, order, site)).ok(),
        }
    }

    /// Takes a block from the preferred zone if its order has no lists there. Else takes it from this CPU's
    /// list, which is refilled if it is empty. The zone stays above its low watermark.
    fn alloc_from_hot_zone(&self, gfp: Gfp, node: Option<NodeId>, order: Order) -> Option<RawPage> {
        if gfp.intersects(Gfp::UNUSUAL) || self.slow_path_flags.any() {
            return None;
        }
        let pinned = self.pin();
        let hot_zone = pinned.hot_zone(gfp, node)?;
        if !hot_zone.admits(order.nr_pages() - 1) {
            return None;
        }
        let Some(list_order) = ListOrder::of(order) else {
            return self.take_from_hot_zone(hot_zone, gfp, order);
        };
        let mut lists = pinned.lists()?;
        if lists.hot_block_list(gfp, list_order).high() == 0 {
            drop(lists);
            return self.take_from_hot_zone(hot_zone, gfp, order);
        }
        if let Some(block) = lists.hot_block_list(gfp, list_order).pop_counted() {
            return Some(block);
        }
        let (zone, _) = hot_zone.own();
        let spare = zone.marks.spare(zone.nr_free(), Mark::Low, gfp.highest_zone());
        if list_order == ListOrder::PAGES {
            self.refill(&mut lists, zone, gfp.migratetype(), spare);
        } else {
            self.refill_blocks(&mut lists, zone, gfp.migratetype(), list_order, spare);
        }
        lists.hot_block_list(gfp, list_order).pop_counted()
    }

    /// Takes a block of an order without lists from the CPU's own shard of the preferred zone, which is on
    /// the CPU's node; not from pageblocks of another migrate type.
    #[inline(never)]
    fn take_from_hot_zone(&self, hot_zone: &HotZone, gfp: Gfp, order: Order) -> Option<RawPage> {
        if self.platform().is_abandoned() {
            return None;
        }
        let (zone, shard) = hot_zone.own();
        let class = hot_zone.class.with_order(order);
        let block = zone.take_from(self.platform(), shard, false, class, |events| {
            events.numa_hit.add(1);
            events.numa_local.add(1);
        })?;
        self.platform().trace(zone.gave(gfp.migratetype(), order, order.nr_pages(), false));
        Some(block)
    }
}
