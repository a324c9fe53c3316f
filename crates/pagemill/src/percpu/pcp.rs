//! One per-CPU list (`pcp`) as an array of pages: push, pop, and how many pages the next refill or drain
//! moves.
//!
//! A list is an array of page words, not a chain through the pages, so allocating or freeing a batch is
//! one copy. A list knows its length and capacity but no zones:
//! [`allocator`](crate::page_alloc::allocator) refills and drains it. Each refill in a row moves twice as
//! many pages as the one before, up to a limit; so does each drain in a row.
//!
//! Pages are written into a list in place. The closure that writes them returns the slice that it was
//! given, now as pages, which proves to the list that all entries are initialised.

use core::hint::assert_unchecked;
use core::mem::MaybeUninit;

use crate::base::raw_page::{Class, RawPage};
use crate::base::units::Pfn;
use crate::recycle::stack::{Stack, fill};
use crate::zone::frame_words::FrameWord;
use crate::zone::pageblock::WORD_NR_PAGES;

/// Free pages of one zone and kind, most recently freed last.
///
/// `pcp-init`: the first `count` entries of `pages` are initialised.
/// `pcp-room`: `count` is at most `pages.len()`.
#[derive(Debug)]
pub(crate) struct PcpList {
    pages: &'static mut [MaybeUninit<RawPage>],
    count: usize,
    batch: usize,
    /// Number of pages ever freed to the list, at the time of the last refill.
    freed_before: u64,
    /// Number of consecutive refills, or drains, without one of the other kind in between.
    refills_in_a_row: u32,
    drains_in_a_row: u32,
}

/// Up to 64 pages on the stack, for pages that bypass the per-CPU lists.
pub(crate) type Batch = Stack<RawPage, 64>;

/// How many times a batch may double.
///
/// # Source
/// `linux-6.12` `mm/page_alloc.c` `nr_pcp_alloc`, `CONFIG_PCP_BATCH_SCALE_MAX`
const BATCH_SCALE_MAX: u32 = 5;

impl PcpList {
    /// Makes an empty list that holds as many pages as `pages` has entries; with none, it stays empty.
    pub(crate) fn new(pages: &'static mut [MaybeUninit<RawPage>], batch: usize) -> Self {
        let high = pages.len();
        assert!((high.min(1)..=high).contains(&batch), "batch {batch} is not in 1..={high}");
        let (freed_before, refills_in_a_row, drains_in_a_row) = (0, 0, 0);
        Self { pages, count: 0, batch, freed_before, refills_in_a_row, drains_in_a_row }
    }

    #[inline]
    pub(crate) fn count(&self) -> usize {
        // SAFETY: 1. true by `pcp-room`. The compiler can then omit bounds checks below the count.
        unsafe { assert_unchecked(self.count <= self.pages.len()) };
        self.count
    }

    /// Returns how many pages fit.
    #[inline]
    pub(crate) fn high(&self) -> usize {
        self.pages.len()
    }

    #[inline]
    pub(crate) fn batch(&self) -> usize {
        self.batch
    }

    /// Returns how many more pages fit.
    #[inline]
    pub(crate) fn room(&self) -> usize {
        self.high() - self.count()
    }

    /// Returns how many pages the next refill takes from the zone. `freed` is the number of pages ever
    /// freed to the list.
    ///
    /// Consecutive refills double the batch, up to half of high.
    pub(crate) fn next_refill_at(&mut self, freed: u64) -> usize {
        let nr = self.scaled_batch(self.refills_in_a_row).min(self.room());
        self.freed_before = freed;
        self.refills_in_a_row += u32::from(self.refills_in_a_row < BATCH_SCALE_MAX);
        self.drains_in_a_row = 0;
        nr
    }

    /// Returns how many pages to keep when `nr` are taken: all, if they are fewer than `nr` and than
    /// one bitmap word (64 pages) and none was freed since the last refill (by `freed`); else zero.
    ///
    /// Such pages are mostly part of a bitmap word. Handed out with part of another word, they would
    /// make each later batch straddle two words, and be freed that way. They are not cache-warm, so
    /// nothing is lost if they stay below the pages of the next refill.
    #[inline]
    pub(crate) fn leftover_at(&self, nr: usize, freed: u64) -> usize {
        let count = self.count();
        let is_leftover = count < nr.min(WORD_NR_PAGES) && self.freed_before == freed;
        // The next refill must still fit.
        if is_leftover && count + self.batch <= self.high() { count } else { 0 }
    }

    /// Returns how many pages the next drain of a full list moves to the zone.
    ///
    /// Consecutive drains double the batch, up to half of high. A drain of at least 64 pages that would
    /// end inside a row of pages of one bitmap word ends before that row, or after it if the row is
    /// most of the drain.
    pub(crate) fn next_drain(&mut self) -> usize {
        let nr = self.scaled_batch(self.drains_in_a_row);
        self.drains_in_a_row += u32::from(self.drains_in_a_row < BATCH_SCALE_MAX);
        self.refills_in_a_row = 0;
        let Some((out, rest)) = self.pages().split_at_checked(nr) else { return nr };
        if nr < WORD_NR_PAGES {
            return nr;
        }
        let word = |page: &RawPage| page.pfn().value() / WORD_NR_PAGES as u64;
        let last = out.last().map(word);
        let is_in_row = |page: &&RawPage| Some(word(page)) == last;
        match rest.iter().take_while(is_in_row).count() {
            0 => nr,
            behind => match out.iter().rev().take_while(is_in_row).count() {
                before if before <= nr / 2 => nr - before,
                _ => nr + behind,
            },
        }
    }

    /// Removes and returns the page that was freed last.
    #[inline]
    pub(crate) fn pop(&mut self) -> Option<RawPage> {
        let (&page, rest) = self.pages().split_last()?;
        self.count = rest.len();
        Some(page)
    }

    /// Adds a page; the caller has checked that there is room.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub(crate) fn push(&mut self, page: RawPage) {
        assert!(self.try_push(page), "a list that is full");
    }

    /// Adds a page if there is room, and returns whether it did.
    #[inline]
    pub(crate) fn try_push(&mut self, page: RawPage) -> bool {
        let count = self.count();
        let Some(entry) = self.pages.get_mut(count) else { return false };
        entry.write(page);
        self.count = count + 1;
        true
    }

    /// Adds `nr` pages, which `write` writes as for [`fill`], if all of them fit, and returns whether
    /// it did.
    #[inline]
    pub(crate) fn try_push_with(
        &mut self,
        nr: usize,
        write: impl FnOnce(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage],
    ) -> bool {
        let count = self.count();
        if nr > self.high() - count {
            return false;
        }
        fill(&mut self.pages[count..][..nr], write);
        self.count = count + nr;
        true
    }

    /// Adds `nr` pages, which `write` writes as for [`fill`]; the caller has checked that there is room.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub(crate) fn push_with(
        &mut self,
        nr: usize,
        write: impl FnOnce(&mut [MaybeUninit<RawPage>]) -> &mut [RawPage],
    ) {
        assert!(self.try_push_with(nr, write), "{nr} more than fit");
    }

    /// Adds the pages of one word of a pageblock's bitmap; the caller has checked that there is room.
    #[inline]
    pub(crate) fn push_word(&mut self, class: Class, word: FrameWord) {
        if word.mask == u64::MAX {
            let first = class.at(Pfn::new(word.base));
            let pages = (0..WORD_NR_PAGES as u64).map(|position| first.with_low_bits(position));
            return self.push_with(WORD_NR_PAGES, |room| write_pages(room, pages));
        }
        word.pages(class).for_each(|page| self.push(page));
    }

    /// Returns the `nr` pages that were freed last, oldest first.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    fn top(&self, nr: usize) -> &[RawPage] {
        let pages = self.pages();
        &pages[pages.len() - nr..]
    }

    /// Returns the `nr` pages that were freed first, oldest first.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    fn bottom(&self, nr: usize) -> &[RawPage] {
        &self.pages()[..nr]
    }

    /// Returns all pages, oldest first.
    #[inline]
    fn pages(&self) -> &[RawPage] {
        // SAFETY: 1. initialised: `pcp-init`.
        unsafe { self.pages[..self.count()].assume_init_ref() }
    }

    /// Returns all pages, oldest first; if the count is above the capacity, both of these.
    pub(crate) fn checked_pages(&self) -> Result<&[RawPage], (usize, usize)> {
        if self.count > self.pages.len() {
            return Err((self.count, self.pages.len()));
        }
        Ok(self.pages())
    }

    /// Takes the `nr` pages that were freed last. They leave the list when the result is dropped, also
    /// if their receiver panics.
    ///
    /// # Panics
    /// If there are fewer.
    #[inline]
    pub(crate) fn take_top(&mut self, nr: usize) -> TakenTop<'_> {
        assert!(nr <= self.count(), "{nr} of {} pages", self.count);
        TakenTop { list: self, nr }
    }

    /// Takes the `nr` pages that were freed first; they leave the list when the result is dropped.
    ///
    /// # Panics
    /// If there are fewer.
    pub(crate) fn take_bottom(&mut self, nr: usize) -> TakenBottom<'_> {
        assert!(nr <= self.count(), "{nr} of {} pages", self.count);
        TakenBottom { list: self, nr }
    }

    #[inline]
    fn scaled_batch(&self, doublings: u32) -> usize {
        (self.batch << doublings).min(self.high() / 2).max(self.batch)
    }
}

/// Writes pages into all of `room`, and returns it.
///
/// # Panics
/// If there are too few pages.
#[inline]
pub(crate) fn write_pages(
    room: &mut [MaybeUninit<RawPage>],
    pages: impl Iterator<Item = RawPage>,
) -> &mut [RawPage] {
    let mut nr = 0;
    for (entry, page) in room.iter_mut().zip(pages) {
        entry.write(page);
        nr += 1;
    }
    assert!(nr == room.len(), "{nr} of {} pages", room.len());
    // SAFETY: 1. initialised: every entry was just written.
    unsafe { room.assume_init_mut() }
}

/// The pages that were freed last, which leave their list when this is dropped.
// Two types instead of one with two cases: the compiler does not inline the drop of that one.
#[derive(Debug)]
pub(crate) struct TakenTop<'a> {
    list: &'a mut PcpList,
    nr: usize,
}

/// The pages that were freed first, which leave their list when this is dropped.
#[derive(Debug)]
pub(crate) struct TakenBottom<'a> {
    list: &'a mut PcpList,
    nr: usize,
}

impl TakenTop<'_> {
    /// Returns the pages, oldest first.
    #[inline]
    pub(crate) fn pages(&self) -> &[RawPage] {
        self.list.top(self.nr)
    }
}

impl TakenBottom<'_> {
    /// Returns the pages, oldest first.
    pub(crate) fn pages(&self) -> &[RawPage] {
        self.list.bottom(self.nr)
    }
}

impl Drop for TakenTop<'_> {
    #[inline]
    fn drop(&mut self) {
        self.list.count -= self.nr;
    }
}

impl Drop for TakenBottom<'_> {
    fn drop(&mut self) {
        self.list.pages.copy_within(self.nr..self.list.count, 0);
        self.list.count -= self.nr;
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use alloc::vec::Vec;

    use super::*;
    use crate::base::migratetype::MigrateType;
    use crate::base::raw_page::ListId;
    use crate::base::units::Order;

    fn list(high: usize, batch: usize) -> PcpList {
        let pages = Box::leak(alloc::vec![MaybeUninit::uninit(); high].into_boxed_slice());
        PcpList::new(pages, batch)
    }

    fn pages(pfns: core::ops::Range<u64>) -> Vec<RawPage> {
        let class = Class::new(ListId::new(0, MigrateType::Movable), Order::ZERO);
        pfns.map(|pfn| class.at(Pfn::new(pfn))).collect()
    }

    #[test]
    fn the_page_freed_last_comes_first_and_the_oldest_leaves_first() {
        let mut list = list(8, 2);
        pages(0..6).into_iter().for_each(|page| list.push(page));
        list.push(pages(6..7)[0]);
        assert_eq!(list.pop(), Some(pages(6..7)[0]));
        assert_eq!(list.take_bottom(2).pages(), pages(0..2));
        assert_eq!(list.take_top(4).pages(), pages(2..6));
        assert_eq!((list.pop(), list.count(), list.room()), (None, 0, 8));
    }

    #[test]
    fn a_receiver_that_panics_gets_pages_once_and_leaves_none_twice() {
        let mut list = list(8, 2);
        pages(0..6).into_iter().for_each(|page| list.push(page));
        let receive = core::panic::AssertUnwindSafe(|| {
            let taken = list.take_top(2);
            assert!(taken.pages().is_empty(), "the receiver panics");
        });
        assert!(std::panic::catch_unwind(receive).is_err());
        assert_eq!(list.count(), 4);
        assert_eq!(list.pop(), Some(pages(3..4)[0]));
    }

    #[test]
    fn moves_in_one_direction_grow_and_turning_back_resets_them() {
        let mut list = list(64, 4);
        let refills: Vec<_> = (0..5).map(|_| list.next_refill_at(0)).collect();
        assert_eq!(refills, [4, 8, 16, 32, 32]);
        assert_eq!((list.next_drain(), list.next_drain()), (4, 8));
        assert_eq!(list.next_refill_at(0), 4);
    }

    #[test]
    fn a_drain_ends_where_a_word_does_but_takes_lone_pages_as_they_come() {
        let alone = |position: u64| pages(position * 64..position * 64 + 1)[0];
        let rows = |first: u64| [pages(first..64), pages(256..448)].concat();
        let cases = [
            (rows(0), 64),
            // 20 pages of the second row would go: they stay, since 44 are enough.
            (rows(20), 44),
            // 54 would: the other 10 go along.
            (rows(54), 74),
            ((0..128).map(alone).collect(), 64),
            (rows(0)[..64].to_vec(), 64),
        ];
        for (pages, nr) in cases {
            let mut list = list(256, 64);
            pages.iter().for_each(|&page| list.push(page));
            assert_eq!(list.next_drain(), nr);
            assert_eq!(list.take_bottom(nr).pages(), &pages[..nr]);
        }
    }

    #[test]
    fn what_a_refill_left_stays_unless_it_is_warm_or_in_the_way() {
        let (mut list, mut small) = (list(128, 32), list(32, 31));
        list.next_refill_at(7);
        pages(0..20).into_iter().for_each(|page| list.push(page));
        let leftovers = |list: &PcpList| {
            [(64, 7), (20, 7), (21, 7), (64, 8)].map(|(nr, freed)| list.leftover_at(nr, freed))
        };
        assert_eq!(leftovers(&list), [20, 0, 20, 0]);
        pages(20..64).into_iter().for_each(|page| list.push(page));
        assert_eq!(list.leftover_at(128, 7), 0, "a word or more");
        small.next_refill_at(0);
        pages(0..2).into_iter().for_each(|page| small.push(page));
        assert_eq!(small.leftover_at(8, 0), 0, "no room for a refill besides");
    }

    #[test]
    fn a_count_above_the_capacity_is_found() {
        let mut list = list(2, 1);
        pages(0..2).into_iter().for_each(|page| list.push(page));
        assert_eq!(list.checked_pages(), Ok(&pages(0..2)[..]));
        list.count = 3;
        assert_eq!(list.checked_pages(), Err((3, 2)));
    }

    #[test]
    #[should_panic(expected = "full")]
    fn a_full_list_takes_no_more() {
        let mut list = list(2, 1);
        pages(0..3).into_iter().for_each(|page| list.push(page));
    }
}
