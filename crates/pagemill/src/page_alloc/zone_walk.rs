//! Walk over zones: takes blocks from a zone or from this CPU's lists, and refills the lists.

use crate::base::migratetype::MigrateType;
use crate::base::raw_page::{Class, RawPage};
use crate::base::stats::ZoneEvents;
use crate::base::units::Order;
use crate::page_alloc::alloc_context::{AllocContext, Pinned};
use crate::page_alloc::allocator::PageAllocator;
use crate::percpu::percpu::Lists;
use crate::percpu::slot::ListOrder;
use crate::platform::platform::Platform;
use crate::zone::frame_words::{Blocks, FrameWords};
use crate::zone::watermark::Mark;
use crate::zone::zone::Zone;

impl<P: Platform> PageAllocator<P> {
    /// Takes a block from the first zone that has one above `mark`.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `get_page_from_freelist`
    pub(crate) fn take_from_zones(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        order: Order,
        mark: Mark,
    ) -> Option<RawPage> {
        for zone in self.eligible(context) {
            let marks = &zone.marks;
            if !marks.ok(zone.nr_free(), order, mark, context.highest) {
                continue;
            }
            let ready = ListOrder::of(order).and_then(|order| {
                // A request that may use the reserve takes no more than it needs: any request may take
                // pages that are in a list.
                let spare = marks.spare(zone.nr_free(), mark.at_least_min(), context.highest);
                self.take_from_lists(pinned, context, zone, order, spare)
            });
            let page = ready.or_else(|| self.take_from_zone(context, zone, order));
            if page.is_some() {
                return page;
            }
        }
        None
    }

    /// Takes a block from this CPU's list for `zone`, refilling an empty list with up to `spare` pages.
    /// Returns `None` if the zone has none or the lists are in use.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `rmqueue_pcplist`
    #[inline]
    fn take_from_lists(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        zone: &'static Zone,
        order: ListOrder,
        spare: u64,
    ) -> Option<RawPage> {
        let mut lists = pinned.lists()?;
        let id = zone.list(context.migratetype);
        let mut block = lists.block_list(id, order).pop();
        if block.is_none() && spare > 0 {
            if order == ListOrder::PAGES {
                self.refill(&mut lists, zone, context.migratetype, spare);
            } else {
                self.refill_blocks(&mut lists, zone, context.migratetype, order, spare);
            }
            block = lists.block_list(id, order).pop();
        }
        if let Some(block) = block {
            let nr_pages = block.order().nr_pages() as u64;
            self.count_alloc(lists.zone_events(id.zone()), context, zone, nr_pages, 1);
        }
        block
    }

    /// Takes a block from `zone`, bypassing the lists.
    fn take_from_zone(&self, context: &AllocContext, zone: &Zone, order: Order) -> Option<RawPage> {
        if self.platform().is_abandoned() {
            return None;
        }
        let AllocContext { home, migratetype, .. } = *context;
        let count = |events: &_| self.count_alloc(events, context, zone, 0, 1);
        let page = zone.rmqueue(self.platform(), home, migratetype, order, count)?;
        self.platform().trace(zone.gave(context.migratetype, order, order.nr_pages(), false));
        Some(page)
    }

    /// Takes a block from this CPU's lists, without a refill.
    ///
    /// Differs: Linux leaves such pages alone once their zone is at its watermark, although taking them
    /// does not lower the zone's free count. Here they are the last resort of a request that cannot
    /// wait.
    pub(crate) fn take_from_own_lists(
        &self,
        pinned: &Pinned<'_, P>,
        context: &AllocContext,
        order: ListOrder,
    ) -> Option<RawPage> {
        let mut lists = pinned.lists()?;
        self.eligible(context).find_map(|zone| {
            // The reserve that a zone keeps from requests that could use a higher zone applies here
            // too.
            if zone.nr_free() < zone.marks.reserve(context.highest) {
                return None;
            }
            let id = zone.list(context.migratetype);
            let block = lists.block_list(id, order).pop()?;
            let nr_pages = block.order().nr_pages() as u64;
            self.count_alloc(lists.zone_events(id.zone()), context, zone, nr_pages, 1);
            Some(block)
        })
    }

    /// Adds up to `max` pages from `zone` to a list that has room, and returns the number added.
    ///
    /// Differs: Linux refills a whole batch once its test has passed, and so moves pages of the reserve
    /// to where any request may take them. Here `max` is what the watermark test leaves.
    #[cold]
    pub(crate) fn refill(
        &self,
        lists: &mut Lists<'_, P>,
        zone: &Zone,
        migratetype: MigrateType,
        max: u64,
    ) -> usize {
        if max == 0 {
            return 0;
        }
        let id = zone.list(migratetype);
        let home = lists.home();
        let mut list = lists.list(id);
        let mut words = FrameWords::new();
        let nr = list.next_refill().min(usize::try_from(max).unwrap_or(usize::MAX));
        let taken = zone.rmqueue_bulk(self.platform(), home, migratetype, nr, &mut words);
        let class = Class::new(id, Order::ZERO);
        for &word in words.as_slice() {
            list.push_word(class, word);
        }
        self.look_for_tracers();
        self.platform().trace(zone.gave(migratetype, Order::ZERO, taken, true));
        taken
    }

    /// Adds blocks from `zone`, up to `max` pages, to a list that has room, and returns the number added.
    ///
    /// Takes a batch, however many refills came before: a request for many blocks at once takes those
    /// that the list lacks from the zone directly.
    #[cold]
    pub(crate) fn refill_blocks(
        &self,
        lists: &mut Lists<'_, P>,
        zone: &Zone,
        migratetype: MigrateType,
        order: ListOrder,
        max: u64,
    ) -> usize {
        let id = zone.list(migratetype);
        let home = lists.home();
        let mut list = lists.block_list(id, order);
        let (order, max) = (order.order(), usize::try_from(max).unwrap_or(usize::MAX));
        let nr = list.batch().min(list.room()).min(max >> order.value());
        let mut blocks = Blocks::new();
        let class = Class::new(id, order);
        let taken = match nr {
            0 => 0,
            nr => zone.rmqueue_blocks(self.platform(), home, class, nr, &mut blocks, |_, _| {}),
        };
        // The lowest leaves the list first.
        blocks.as_slice().iter().rev().for_each(|&block| list.push(block));
        self.look_for_tracers();
        self.platform().trace(zone.gave(migratetype, order, taken << order.value(), true));
        taken
    }

    /// Counts an allocation of `pages` pages as `events` allocations in the NUMA counters.
    #[inline]
    pub(crate) fn count_alloc(
        &self,
        counters: &ZoneEvents,
        context: &AllocContext,
        zone: &Zone,
        pages: u64,
        events: u64,
    ) {
        counters.pgalloc.add(pages);
        let node = zone.facts.node;
        if self.preferred(context) == Some(node) {
            counters.numa_hit.add(events);
        } else {
            counters.numa_miss.add(events);
            counters.numa_foreign.add(events);
        }
        if node == context.local {
            counters.numa_local.add(events);
        } else {
            counters.numa_other.add(events);
        }
    }

    /// Returns a zone that can give `nr_pages` single pages and stay above its low watermark.
    ///
    /// Checks only zones of the preferred node.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `alloc_pages_bulk_noprof`
    #[inline]
    pub(crate) fn bulk_zone(
        &self,
        context: &AllocContext,
        nr_pages: usize,
    ) -> Option<&'static Zone> {
        let mut zones = self.eligible(context).peekable();
        let node = zones.peek()?.facts.node;
        zones.take_while(|zone| zone.facts.node == node).find(|zone| {
            let limit = zone.marks.bulk_limit(context.highest);
            zone.has_more_than(limit.saturating_add(nr_pages as u64), context.home)
        })
    }
}
