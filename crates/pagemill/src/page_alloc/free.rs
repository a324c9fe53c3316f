//! Free path: pages go to the lists of the CPU that frees them, and from full lists to their zones.

use core::mem::MaybeUninit;

use crate::base::raw_page::{AccountNumber, Class, ListId, RawPage};
use crate::base::stats::ZoneEvents;
use crate::base::units::Order;
use crate::page_alloc::alloc_context::Pinned;
use crate::page_alloc::allocator::{PAGES_PER_HOLD, PageAllocator};
use crate::page_alloc::slow_path_flags::{TRACE, WAITERS};
use crate::percpu::pcp::{Batch, write_pages};
use crate::percpu::percpu::{Lists, PerCpu};
use crate::percpu::slot::{ListMut, ListOrder};
use crate::platform::platform::Platform;
use crate::platform::trace::Event;

/// Writes the next pages to free into the room that it is given, and returns them.
///
/// The paths behind a full list are compiled once, for all that pages are freed from: a call of this
/// is a small part of their cost.
type NextPages<'a> = dyn FnMut(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage] + 'a;

impl<P: Platform> PageAllocator<P> {
    /// Frees one page.
    #[inline]
    pub(crate) fn free_single(&self, page: RawPage) {
        if self.slow_path_flags.any() {
            return self.free_unusual(page);
        }
        let pinned = self.pin();
        // One comparison checks both: not charged, and of this CPU's usual list.
        if !pinned.cpu().is_usual(page) {
            drop(pinned);
            return self.free_other(page);
        }
        let Some(mut lists) = pinned.lists_at_once() else {
            drop(pinned);
            return self.free_to_list(page);
        };
        let is_added = {
            let mut list = lists.usual_list();
            let is_added = list.try_push(page);
            if is_added {
                list.events.free.add(1);
            }
            is_added
        };
        if !is_added {
            // Released here, so that the guard stays in registers and is not passed through memory.
            drop(lists);
            self.free_to_list(page);
        }
    }

    /// Frees one block of any order.
    #[inline]
    #[track_caller]
    pub(crate) fn free_folio(&self, folio: RawPage) {
        if self.slow_path_flags.any() {
            return self.free_unusual(folio);
        }
        let pinned = self.pin();
        let Some(order) = pinned.cpu().usual_order(folio) else {
            drop(pinned);
            return self.free_other(folio);
        };
        let Some(mut lists) = pinned.lists_at_once() else {
            drop(pinned);
            return self.free_to_list(folio);
        };
        let is_added = {
            let mut list = lists.usual_block_list(order);
            let is_added = list.try_push(folio);
            if is_added {
                list.events.free.add(1);
            }
            is_added
        };
        if !is_added {
            // Released here: as in `free_single`.
            drop(lists);
            self.free_to_list(folio);
        }
    }

    /// Frees one block that is charged or does not belong to a usual list.
    #[cold]
    #[inline(never)]
    #[track_caller]
    fn free_other(&self, block: RawPage) {
        if block.is_charged() {
            self.free_unusual(block);
        } else if ListOrder::of(block.order()).is_some() {
            self.free_to_list(block);
        } else {
            self.free_block(block);
        }
    }

    /// Frees one block that is not charged: to its list, if there is one.
    #[track_caller]
    fn free_to_list(&self, block: RawPage) {
        let Some(order) = ListOrder::of(block.order()) else { return self.free_block(block) };
        let pinned = self.pin();
        let id = block.list();
        let Some(mut lists) = pinned.lists() else { return self.free_block(block) };
        if lists.block_list(id, order).room() == 0 {
            let nr = next_drain(&mut lists.block_list(id, order), order);
            if nr == 0 {
                // The zone is too small for such a list.
                drop(lists);
                return self.free_block(block);
            }
            self.drain_list(&mut lists, id, order, nr);
        }
        lists.block_list(id, order).push(block);
        lists.block_list(id, order).events.free.add(1);
    }

    /// Frees one block past the per-CPU lists.
    ///
    /// # Panics
    /// If one of its frames is already free in its zone.
    #[inline]
    #[track_caller]
    fn free_block(&self, page: RawPage) {
        if self.platform().is_abandoned() {
            return;
        }
        self.zone(page.list().zone()).free(self.platform(), page.pfn(), page.order());
    }

    /// Frees one block that was never handed to its requester.
    #[track_caller]
    pub(crate) fn free_unfinished(&self, page: RawPage) {
        self.free_to_list(page);
        self.tell_waiters();
    }

    /// Frees one block, with the hooks that the slow-path flags ask for.
    #[cold]
    #[track_caller]
    fn free_unusual(&self, page: RawPage) {
        if self.platform().is_abandoned() {
            return;
        }
        // First: a call of the platform that panics below leaves nothing charged.
        self.accounts().uncharge(page.class().account(), page.order().nr_pages() as u64);
        self.note_freed(page);
        self.free_unfinished(page.charged_to(AccountNumber::NONE));
    }

    /// Drains this CPU's lists to the zones and wakes the waiting requests, if there are any and no
    /// thread has woken them since they last checked. When they check again, they drain all lists.
    pub(super) fn tell_waiters(&self) {
        if self.slow_path_flags.take(WAITERS) {
            let pinned = self.pin();
            self.drain(pinned.cpu());
            drop(pinned);
            self.queue.notify(self.platform());
        }
    }

    /// Frees blocks of any class; consecutive blocks of one class go together.
    #[inline]
    pub(crate) fn free_pages(&self, pages: &[RawPage]) {
        let mut rest = pages;
        while let Some(&first) = rest.first() {
            let class = first.class();
            if let [_] = rest {
                return if class.order() == Order::ZERO {
                    self.free_single(first);
                } else {
                    self.free_folio(first);
                };
            }
            let same = |page: &&RawPage| class.difference(Some(**page)).is_none();
            let nr = rest.iter().take_while(same).count();
            let (pages, others) = rest.split_at(nr);
            if class.order() == Order::ZERO {
                self.free_pages_of(class, pages);
            } else {
                self.free_blocks(class, pages);
            }
            rest = others;
        }
    }

    /// Frees single pages of one class.
    #[inline]
    pub(crate) fn free_pages_of(&self, class: Class, pages: &[RawPage]) {
        let mut rest = pages;
        self.free_class(class, pages.len(), |room| {
            let (now, later) = rest.split_at(room.len());
            rest = later;
            room.write_copy_of_slice(now)
        });
    }

    /// Frees single pages of one class as [`free_pages_of`](Self::free_pages_of) does, with the hooks of the
    /// slow-path flags. A panic of theirs names the caller, which costs the fast path too much.
    #[cold]
    #[track_caller]
    pub(crate) fn free_pages_unusual(&self, class: Class, pages: &[RawPage]) {
        let mut next = pages.iter().copied();
        self.free_class_unusual(class, pages.len(), &mut |room| write_pages(room, &mut next));
    }

    /// Frees `nr` single pages of one class. `next` writes them in order, as for
    /// [`fill`](crate::recycle::stack::fill), until `nr` are written. They are all of `class`, and
    /// owned by the caller, who gives them up.
    ///
    /// # Concurrency
    /// Releases the lists after every [`PAGES_PER_HOLD`] pages.
    #[inline]
    pub(crate) fn free_class(
        &self,
        class: Class,
        nr: usize,
        mut next: impl FnMut(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage],
    ) {
        if !class.account().is_none() || self.slow_path_flags.any() {
            return self.free_class_unusual(class, nr, &mut next);
        }
        if !self.free_class_at_once(class, nr, &mut next) {
            self.free_class_to_list(class, nr, &mut next);
        }
    }

    /// Frees pages as [`free_class`](Self::free_class) does, and returns whether it did: if that is a copy to
    /// this CPU's list, and nothing else.
    #[inline]
    pub(crate) fn free_class_ready(
        &self,
        class: Class,
        nr: usize,
        next: impl FnOnce(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage],
    ) -> bool {
        class.account().is_none()
            && !self.slow_path_flags.any()
            && self.free_class_at_once(class, nr, next)
    }

    /// Frees pages of one class that is not charged, if this CPU's list has room for all of them, and
    /// returns whether it did. If not, the lists are released.
    #[inline]
    fn free_class_at_once(
        &self,
        class: Class,
        nr: usize,
        next: impl FnOnce(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage],
    ) -> bool {
        if nr > PAGES_PER_HOLD {
            return false;
        }
        let pinned = self.pin();
        let Some(mut lists) = pinned.lists() else { return false };
        let mut list = lists.list_for(class);
        let is_added = list.try_push_with(nr, next);
        if is_added {
            list.events.free.add(nr as u64);
        }
        is_added
    }

    /// Frees as [`free_class`](Self::free_class) does, with the hooks of the slow-path flags: accounts
    /// are uncharged once per batch, the other hooks run once per page.
    #[cold]
    #[track_caller]
    fn free_class_unusual(&self, class: Class, nr: usize, mut next: &mut NextPages<'_>) {
        if self.platform().is_abandoned() {
            return self.free_to_zone(class, nr, next);
        }
        // First: a call of the platform that panics below leaves nothing charged.
        self.accounts().uncharge(class.account(), nr as u64);
        let uncharged = class.charged_to(AccountNumber::NONE);
        let mut left = nr;
        while left > 0 {
            let nr = left.min(Batch::CAPACITY);
            left -= nr;
            let mut batch = Batch::new();
            batch.push_with(nr, &mut next);
            for &page in batch.as_slice() {
                self.note_freed(page);
            }
            let mut pages = batch.as_slice().iter().map(|page| uncharged.at(page.pfn()));
            self.free_class_to_list(uncharged, nr, &mut |room| write_pages(room, &mut pages));
        }
        if self.slow_path_flags.has(TRACE) {
            self.platform().trace(Event::PageFreeBatched { nr_pages: nr });
        }
        self.tell_waiters();
    }

    /// Frees pages of one class that is not charged.
    #[inline(never)]
    fn free_class_to_list(&self, class: Class, nr: usize, mut next: &mut NextPages<'_>) {
        let id = class.list();
        let mut left = nr;
        while left > 0 {
            let held = left.min(PAGES_PER_HOLD);
            left -= held;
            let pinned = self.pin();
            let Some(mut lists) = pinned.lists() else {
                self.free_to_zone(class, held, &mut next);
                continue;
            };
            lists.list(id).events.free.add(held as u64);
            let mut held_left = held;
            loop {
                held_left -= {
                    let mut list = lists.list(id);
                    let nr = list.room().min(held_left);
                    list.push_with(nr, &mut next);
                    nr
                };
                if held_left == 0 {
                    break;
                }
                let nr = lists.list(id).next_drain();
                self.drain_list(&mut lists, id, ListOrder::PAGES, nr);
            }
        }
    }

    /// Frees `nr` single pages of one class past the lists, a batch at a time.
    #[cold]
    fn free_to_zone(&self, class: Class, nr: usize, next: &mut NextPages<'_>) {
        let zone = self.zone(class.list().zone());
        let mut left = nr;
        while left > 0 {
            let mut batch = Batch::new();
            let nr = left.min(Batch::CAPACITY);
            batch.push_with(nr, &mut *next);
            left -= nr;
            if self.platform().is_abandoned() {
                // The pages were copied out of the caller's memory; they are not dropped there.
                continue;
            }
            zone.free_pages(self.platform(), batch.as_slice());
            zone.count(self.platform(), |events| events.pgfree.add(nr as u64));
        }
    }

    /// Frees blocks of one class, of an order above zero.
    ///
    /// # Concurrency
    /// Releases the lists after every 64 blocks.
    #[cold]
    fn free_blocks(&self, class: Class, blocks: &[RawPage]) {
        if !class.account().is_none() || self.slow_path_flags.any() {
            return self.free_blocks_unusual(class, blocks);
        }
        for blocks in blocks.chunks(Batch::CAPACITY) {
            let left = match ListOrder::of(class.order()) {
                Some(order) => self.free_blocks_to_list(class.list(), order, blocks),
                None => blocks,
            };
            self.free_blocks_to_zone(class, left);
        }
    }

    /// Frees blocks as [`free_blocks`](Self::free_blocks) does, with the hooks of the slow-path flags.
    fn free_blocks_unusual(&self, class: Class, blocks: &[RawPage]) {
        if self.platform().is_abandoned() {
            return;
        }
        // First: as in `free_unusual`.
        let nr_pages = (blocks.len() as u64) << class.order().value();
        self.accounts().uncharge(class.account(), nr_pages);
        for &block in blocks {
            self.free_unusual(block.charged_to(AccountNumber::NONE));
        }
    }

    /// Frees blocks to their list of this CPU, and returns those that it cannot hold: all of them, if
    /// the lists are in use or there is no such list.
    fn free_blocks_to_list<'a>(
        &self,
        id: ListId,
        order: ListOrder,
        blocks: &'a [RawPage],
    ) -> &'a [RawPage] {
        let pinned = self.pin();
        let Some(mut lists) = pinned.lists() else { return blocks };
        let mut rest = blocks;
        while !rest.is_empty() {
            let mut list = lists.block_list(id, order);
            let nr = list.room().min(rest.len());
            let (now, later) = rest.split_at(nr);
            now.iter().for_each(|&block| list.push(block));
            list.events.free.add(nr as u64);
            rest = later;
            if nr == 0 {
                let nr = next_drain(&mut list, order);
                if nr == 0 {
                    break;
                }
                self.drain_list(&mut lists, id, order, nr);
            }
        }
        rest
    }

    /// Frees blocks of one class past the lists.
    fn free_blocks_to_zone(&self, class: Class, blocks: &[RawPage]) {
        if blocks.is_empty() || self.platform().is_abandoned() {
            return;
        }
        let order = class.order();
        let count =
            |events: &ZoneEvents, nr: usize| events.pgfree.add((nr as u64) << order.value());
        self.zone(class.list().zone()).free_blocks(self.platform(), order, blocks, count);
    }

    /// Moves the `nr` oldest blocks of a list to their zone.
    #[cold]
    #[track_caller]
    fn drain_list(&self, lists: &mut Lists<'_, P>, id: ListId, order: ListOrder, nr: usize) {
        let mut list = lists.block_list(id, order);
        let oldest = list.take_bottom(nr);
        if nr > 0 {
            let zone = self.zone(id.zone());
            if order == ListOrder::PAGES {
                zone.free_pages(self.platform(), oldest.pages());
            } else {
                // The list has counted them.
                zone.free_blocks(self.platform(), order.order(), oldest.pages(), |_, _| {});
            }
            let nr_pages = nr << order.order().value();
            self.platform().trace(zone.got_back(id.migratetype(), nr_pages));
        }
        self.look_for_tracers();
    }

    /// Drains one CPU's lists to the zones, unless they are in use.
    ///
    /// # Concurrency
    /// Releases the lists after every [`PAGES_PER_HOLD`] pages.
    #[track_caller]
    pub(crate) fn drain(&self, cpu: &PerCpu) -> usize {
        let mut drained = 0;
        for (id, order) in cpu.list_ids() {
            // Bounded by the pages in the list now: a thread that keeps refilling it does not prolong
            // the drain.
            let mut left = usize::MAX;
            while left > 0 {
                let Some(mut lists) = cpu.try_visit(self.platform()) else { return drained };
                let count = lists.block_list(id, order).count().min(left);
                let nr = count.min(PAGES_PER_HOLD);
                if nr > 0 {
                    self.drain_list(&mut lists, id, order, nr);
                }
                drained += nr << order.order().value();
                left = count - nr;
            }
        }
        drained
    }

    /// Drains the lists of blocks of more than one page of the pinned CPU, unless they are in use, and
    /// returns the number of blocks.
    ///
    /// # Concurrency
    /// Releases the lists after each of them, at most 64 blocks.
    pub(crate) fn drain_own_blocks(&self, pinned: &Pinned<'_, P>) -> usize {
        let mut drained = 0;
        for (id, order) in pinned.cpu().list_ids() {
            let Some(mut lists) = pinned.lists() else { break };
            let nr = lists.block_list(id, order).count();
            if nr > 0 && order != ListOrder::PAGES {
                self.drain_list(&mut lists, id, order, nr);
                drained += nr;
            }
        }
        drained
    }
}

/// Returns how many blocks the next drain of a full list moves to the zone: half of larger blocks, and of
/// single pages what [`PcpList::next_drain`](crate::percpu::pcp::PcpList::next_drain) says. Zero for a
/// list that can hold none.
fn next_drain(list: &mut ListMut<'_>, order: ListOrder) -> usize {
    if order == ListOrder::PAGES { list.next_drain() } else { list.high().div_ceil(2) }
}
