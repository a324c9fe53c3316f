//! Frames that are known by their numbers alone: takes them over, frees them singly, in ranges and in
//! bulk, and hands in reserved ones.
//!
//! A page word says to which list a page returns and who pays for it. Of a frame that is known by its
//! number, the zone's tables say both: its pageblock's migrate type, and whether it is charged. Frames of
//! a pageblock without charged and reserved ones cost one load more than a word does.

use core::fmt;
use core::ops::Range;

use crate::base::raw_page::{AccountNumber, Class, RawPage};
use crate::base::sync::Ordering;
use crate::base::units::{MAX_ORDER, Order, PAGEBLOCK_NR_PAGES, Pfn};
use crate::page_alloc::allocator::{PageAllocator, Site};
use crate::page_alloc::hooks::NotInUse;
use crate::page_alloc::slow_path_flags::OWNERS;
use crate::percpu::pcp::{Batch, write_pages};
use crate::platform::platform::Platform;
use crate::zone::block_state::Special;
use crate::zone::contig::double_free;
use crate::zone::frame_words::words_of;
use crate::zone::located::Located;
use crate::zone::pageblock::word_in_block;
use crate::zone::span::block_base;
use crate::zone::zone::Zone;

/// A frame number or a range of frames that does not fit the allocator's memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PfnError {
    /// A frame is not in the memory map.
    NotInMap {
        /// The first such frame.
        pfn: u64,
        /// First frame of the call.
        start: Pfn,
        /// Number of frames of the call, from `start` on.
        nr_pages: usize,
    },
    /// A frame is reserved, so it is not in use.
    Reserved {
        /// The first such frame.
        pfn: Pfn,
    },
    /// A frame to hand in is not reserved: it has been handed in, or never was reserved.
    NotReserved {
        /// The first such frame.
        pfn: Pfn,
    },
    /// The first frame of a block is not a multiple of the block's size.
    Misaligned {
        /// The first frame.
        pfn: Pfn,
        /// The order of the block.
        order: Order,
    },
    /// The frames of a block are in several zones.
    CrossesZones {
        /// The first frame.
        pfn: Pfn,
        /// The order of the block.
        order: Order,
    },
}

impl fmt::Display for PfnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::NotInMap { pfn, nr_pages: 1, .. } => {
                write!(f, "frame {pfn:#x} is not in the allocator's memory map")
            }
            Self::NotInMap { pfn, start, nr_pages } => write!(
                f,
                "frame {pfn:#x}, of the {nr_pages} frames from {start}, is not in the allocator's \
                 memory map"
            ),
            Self::Reserved { pfn } => {
                write!(f, "frame {pfn} is reserved: only hand_in makes it the allocator's")
            }
            Self::NotReserved { pfn } => write!(
                f,
                "frame {pfn} is not reserved: allowed are frames of Config::reserved, each handed in \
                 once"
            ),
            Self::Misaligned { pfn, order } => write!(
                f,
                "frame {pfn} begins no block of order {order}: it is not a multiple of {} frames",
                order.nr_pages()
            ),
            Self::CrossesZones { pfn, order } => write!(
                f,
                "the {} frames from {pfn} are in several zones: allowed is a block of order {order} \
                 within one",
                order.nr_pages()
            ),
        }
    }
}

impl core::error::Error for PfnError {}

/// Ranges of fewer frames go to a CPU's list, which takes them without a lock. Larger ones return to
/// their zone by words of its bitmaps, which costs less than a list that must be drained of them.
const MIN_TO_ZONE: u64 = 16;

/// Frames that are looked up together before they are freed together.
const CHUNK: usize = Batch::CAPACITY;

impl<P: Platform> PageAllocator<P> {
    /// Returns the zone and the span of a frame.
    ///
    /// # Cost
    /// One comparison if the frame is in the largest span, else a search in each zone.
    #[inline]
    fn find(&self, pfn: u64) -> Option<Located> {
        let largest = self.largest_span();
        if largest.holds(pfn) { Some(*largest) } else { self.find_elsewhere(pfn) }
    }

    #[cold]
    #[inline(never)]
    fn find_elsewhere(&self, pfn: u64) -> Option<Located> {
        let find = |zone: &'static Zone| Some(Located::new(zone, zone.facts.spans.find(pfn)?));
        self.zones().iter().find_map(find)
    }

    /// Returns the first frames of a range that are in one span, and the span; `None` if the range is empty
    /// or its first frame is outside of the map.
    #[inline(never)]
    fn first_part(&self, pfns: Range<u64>) -> Option<(Located, Range<u64>)> {
        if pfns.is_empty() {
            return None;
        }
        let found = self.find(pfns.start)?;
        let end = found.span.end.min(pfns.end);
        Some((found, pfns.start..end))
    }

    /// Yields the parts of a range that are in one span each, and ends at a frame outside of the map.
    fn parts(&self, mut pfns: Range<u64>) -> impl Iterator<Item = (Located, Range<u64>)> {
        core::iter::from_fn(move || {
            let (found, part) = self.first_part(pfns.clone())?;
            pfns.start = part.end;
            Some((found, part))
        })
    }

    /// Checks that frames are in the map, and returns their range.
    fn check_map(&self, start: Pfn, nr_pages: usize) -> Result<Range<u64>, PfnError> {
        let first = start.value();
        let pfns = first..first.saturating_add(nr_pages as u64);
        let end = self.parts(pfns.clone()).last().map_or(first, |(_, part)| part.end);
        if end == pfns.end { Ok(pfns) } else { Err(not_in_map(end, start, nr_pages)) }
    }

    /// Checks that frames of one span are not reserved and, if owners are recorded, have an owner.
    ///
    /// # Errors
    /// If one of them is reserved.
    ///
    /// # Panics
    /// If one of them has no owner, with its last one.
    #[track_caller]
    fn check_in_use(&self, found: &Located, pfns: Range<u64>) -> Result<(), PfnError> {
        let Located { zone, span, .. } = *found;
        let reserved = zone.states.set(Special::Reserved);
        let mut parts = blocks_of(pfns.clone())
            .filter(|part| found.state(part.start).count(Special::Reserved) > 0);
        if let Some(pfn) = parts.find_map(|mut part| part.find(|&pfn| reserved.holds(span, pfn))) {
            return Err(PfnError::Reserved { pfn: Pfn::new(pfn) });
        }
        if !self.slow_path_flags.has(OWNERS) {
            return Ok(());
        }
        let is_held = |pfn: &u64| self.owners().holder(span.frame(*pfn)).is_some();
        if let Some(pfn) = pfns.clone().find(|pfn| !is_held(pfn)) {
            let frame = NotInUse::new(Pfn::new(pfn), self.owners(), span.frame(pfn));
            not_in_use(&frame, &pfns);
        }
        Ok(())
    }

    /// Hands in reserved frames: frees them and counts them as managed from now on.
    ///
    /// # Errors
    /// If one of them is not in the map or not reserved; nothing has changed then.
    #[track_caller]
    pub(crate) fn hand_in(&self, start: Pfn, nr_pages: usize, site: Site) -> Result<(), PfnError> {
        let pfns = self.check_map(start, nr_pages)?;
        for (found, mut part) in self.parts(pfns.clone()) {
            let reserved = found.zone.states.set(Special::Reserved);
            if let Some(pfn) = part.find(|&pfn| !reserved.holds(found.span, pfn)) {
                return Err(PfnError::NotReserved { pfn: Pfn::new(pfn) });
            }
        }
        // In the child of a fork, a lock may be held for ever.
        if self.platform().is_abandoned() {
            return Ok(());
        }
        for (found, part) in self.parts(pfns) {
            for (pfn, mask) in words_of(part.clone()) {
                let (block, index) = (found.span.block(pfn), word_in_block(pfn));
                found.zone.states.remove(Special::Reserved, block, index, mask);
            }
            if self.slow_path_flags.has(OWNERS) {
                let frames = part.clone().map(|pfn| found.span.frame(pfn));
                frames.for_each(|frame| self.owners().hold_handed_in(frame, site));
            }
            self.add_managed(found.zone, part.end - part.start);
            self.free_part(&found, part);
        }
        Ok(())
    }

    /// Records the words of charged frames, which the caller owns and of which only the numbers will be
    /// known. `class` is that of single pages.
    pub(crate) fn keep_charges(&self, class: Class, pfns: Range<u64>) {
        let zone = self.zone(class.list().zone());
        for (pfn, mask) in words_of(pfns) {
            for pfn in pfn..pfn + u64::from(mask.count_ones()) {
                let page = class.at(Pfn::new(pfn));
                // Relaxed: a page that is on no list has no link, and its owner writes the entry.
                self.frames().link(self.frame_of(page)).store(page.word(), Ordering::Relaxed);
            }
            let block = self.span_of(class.at(Pfn::new(pfn))).block(pfn);
            zone.states.add_charged(block, word_in_block(pfn), mask);
        }
    }

    /// Records the charge of a block that is given up by its number.
    #[cold]
    #[inline(never)]
    pub(crate) fn keep_charge(&self, block: RawPage) {
        let class = Class::new(block.list(), Order::ZERO).charged_to(block.class().account());
        let start = block.pfn().value();
        self.keep_charges(class, start..start + block.order().nr_pages() as u64);
    }

    /// Returns `page`, a single page that is not charged, as charged as its frame is.
    fn with_charge(&self, found: &Located, page: RawPage) -> RawPage {
        let Located { zone, span, .. } = *found;
        let pfn = page.pfn().value();
        let (block, index, bit) = (span.block(pfn), word_in_block(pfn), 1 << (pfn % 64));
        if zone.states.remove(Special::Charged, block, index, bit) == 0 {
            return page;
        }
        // Relaxed: written by the previous owner.
        let word = self.frames().link(span.frame(pfn)).load(Ordering::Relaxed);
        RawPage::from_word(word).expect("a charged frame has a word")
    }

    /// Takes over a frame of which only the number is known.
    ///
    /// # Errors
    /// If it is not in the map, or is reserved.
    ///
    /// # Panics
    /// If owners are recorded and the frame is free.
    #[inline]
    #[track_caller]
    pub(crate) fn take_over(&self, pfn: Pfn) -> Result<RawPage, PfnError> {
        // By reference: a copy of the largest span would be made on the stack.
        let largest = self.largest_span();
        if largest.holds(pfn.value()) {
            return self.take_over_from(largest, pfn);
        }
        self.take_over_elsewhere(pfn)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take_over_elsewhere(&self, pfn: Pfn) -> Result<RawPage, PfnError> {
        match self.find_elsewhere(pfn.value()) {
            Some(found) => self.take_over_from(&found, pfn),
            None => Err(not_in_map(pfn.value(), pfn, 1)),
        }
    }

    /// Takes over a frame of a span.
    #[inline]
    #[track_caller]
    fn take_over_from(&self, found: &Located, pfn: Pfn) -> Result<RawPage, PfnError> {
        let state = found.state(pfn.value());
        let page = found.class(state, Order::ZERO).maker()(pfn);
        if state.is_plain() && !self.slow_path_flags.has(OWNERS) {
            return Ok(page);
        }
        self.take_over_unusual(found, page)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take_over_unusual(&self, found: &Located, page: RawPage) -> Result<RawPage, PfnError> {
        let pfn = page.pfn().value();
        self.check_in_use(found, pfn..pfn + 1)?;
        Ok(self.with_charge(found, page))
    }

    /// Takes over a block of which only the first frame's number is known.
    ///
    /// If all frames are charged to one account, so is the block. If not, charges for its frames end.
    ///
    /// # Panics
    /// If owners are recorded and one of the frames is free.
    #[inline]
    #[track_caller]
    pub(crate) fn take_over_block(&self, pfn: Pfn, order: Order) -> Result<RawPage, PfnError> {
        if !pfn.is_aligned(order) {
            return Err(PfnError::Misaligned { pfn, order });
        }
        if !self.slow_path_flags.has(OWNERS)
            && let Some(block) = self.plain_block(pfn, order)
        {
            return Ok(block);
        }
        self.take_over_parts(pfn, order)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn take_over_parts(&self, pfn: Pfn, order: Order) -> Result<RawPage, PfnError> {
        let pfns = self.check_map(pfn, order.nr_pages())?;
        let parts = || self.parts(pfns.clone());
        let zone = |found: &Located| found.zone.facts.index;
        let Some((first, _)) = parts().next() else { return Err(not_in_map(pfn.value(), pfn, 1)) };
        if parts().any(|(found, _)| zone(&found) != zone(&first)) {
            return Err(PfnError::CrossesZones { pfn, order });
        }
        for (found, part) in parts() {
            self.check_in_use(&found, part)?;
        }
        let block = first.class(first.state(pfn.value()), order).at(pfn);
        let page = first.class(first.state(pfn.value()), Order::ZERO);
        if self.platform().is_abandoned() {
            return Ok(block);
        }
        let (mut account, mut nr_of_account) = (None, 0);
        for (found, part) in parts() {
            for pfn in part {
                let of_frame = self.with_charge(&found, page.at(Pfn::new(pfn))).class().account();
                if *account.get_or_insert(of_frame) == of_frame {
                    nr_of_account += 1;
                } else {
                    self.accounts().uncharge(of_frame, 1);
                }
            }
        }
        let account = account.unwrap_or(AccountNumber::NONE);
        if nr_of_account == order.nr_pages() as u64 {
            return Ok(block.charged_to(account));
        }
        self.accounts().uncharge(account, nr_of_account);
        Ok(block)
    }

    /// Returns the block of `order` at `pfn`, which is aligned, if its pageblocks are whole and in the
    /// largest span, and no frame of them needs attention.
    #[inline]
    fn plain_block(&self, pfn: Pfn, order: Order) -> Option<RawPage> {
        let first = pfn.value();
        let found = self.largest_span();
        // A frame outside of the span has no state, or that of a pageblock that is not whole.
        let state = found.find_state(first)?;
        if !state.is_plain_and_whole() {
            return None;
        }
        if order == MAX_ORDER {
            // Each pageblock has a state; this block is two.
            let upper = found.find_state(first + PAGEBLOCK_NR_PAGES as u64)?;
            if !upper.is_plain_and_whole() {
                return None;
            }
        }
        Some(found.class(state, order).maker()(pfn))
    }

    /// Frees frames of which only the numbers are known, whatever they were allocated as.
    ///
    /// # Errors
    /// If one of them is not in the map, or is reserved; nothing has changed then.
    ///
    /// # Panics
    /// If one of them is known to be free.
    #[inline]
    #[track_caller]
    pub(crate) fn free_pfn_range(&self, start: Pfn, nr_pages: usize) -> Result<(), PfnError> {
        if nr_pages == 1 {
            self.free_single(self.take_over(start)?);
            return Ok(());
        }
        if let Some(order) = order_of(start, nr_pages)
            && let Some(block) = self.plain_block(start, order)
        {
            self.free_folio(block);
            return Ok(());
        }
        self.free_parts(start, nr_pages)
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn free_parts(&self, start: Pfn, nr_pages: usize) -> Result<(), PfnError> {
        let pfns = self.check_map(start, nr_pages)?;
        for (found, part) in self.parts(pfns.clone()) {
            self.check_in_use(&found, part)?;
        }
        if self.platform().is_abandoned() {
            return Ok(());
        }
        for (found, part) in self.parts(pfns) {
            self.free_part(&found, part);
        }
        Ok(())
    }

    /// Frees frames of one span: those of pageblocks without charged frames together, the others one by
    /// one.
    #[track_caller]
    fn free_part(&self, found: &Located, pfns: Range<u64>) {
        let mut plain = pfns.start..pfns.start;
        for part in blocks_of(pfns.clone()) {
            if found.state(part.start).is_plain() {
                plain.end = part.end;
                continue;
            }
            self.free_plain(found, plain);
            plain = part.end..part.end;
            self.free_to_lists(found, part);
        }
        self.free_plain(found, plain);
    }

    /// Frees frames of one span of which none is charged.
    #[track_caller]
    fn free_plain(&self, found: &Located, pfns: Range<u64>) {
        if pfns.end - pfns.start >= MIN_TO_ZONE && !self.slow_path_flags.any() {
            // Checked before the first is freed, so that a wrong free changes nothing. Those of the first
            // pageblock are checked when they are freed, which they are at once.
            let behind = (block_base(pfns.start) + 1) * PAGEBLOCK_NR_PAGES as u64;
            if behind < pfns.end
                && let Some(pfn) = found.zone.first_free(self.platform(), behind..pfns.end)
            {
                double_free(pfn, &pfns);
            }
            found.zone.put_range(self.platform(), pfns);
            // A request may have begun to wait since the flags were read.
            return self.tell_waiters();
        }
        blocks_of(pfns).for_each(|part| self.free_to_lists(found, part));
    }

    /// Frees frames of one pageblock, some of which may be charged, to this CPU's lists.
    #[inline(never)]
    fn free_to_lists(&self, found: &Located, pfns: Range<u64>) {
        let class = found.class(found.state(pfns.start), Order::ZERO);
        let mut pages = pfns.map(|pfn| self.with_charge(found, class.at(Pfn::new(pfn)))).peekable();
        while pages.peek().is_some() {
            let mut batch = Batch::new();
            batch.push_all(pages.by_ref().take(Batch::CAPACITY));
            self.free_pages(batch.as_slice());
        }
    }

    /// Frees single frames of which only the numbers are known, in any order.
    ///
    /// # Errors
    /// If one of them is not in the map, or is reserved; nothing has changed then.
    ///
    /// # Panics
    /// If one of them is known to be free.
    #[inline]
    #[track_caller]
    pub(crate) fn free_pfns(&self, pfns: &[Pfn]) -> Result<(), PfnError> {
        match *pfns {
            [] => return Ok(()),
            [pfn] => return self.free_pfn_range(pfn, 1),
            _ => {}
        }
        if pfns.len() <= CHUNK && self.free_near(pfns) {
            return Ok(());
        }
        self.free_chunks(pfns)
    }

    /// Frees frames if all of them are in one span of the largest zone and in plain pageblocks of one
    /// migrate type, and returns whether it did.
    #[inline]
    fn free_near(&self, pfns: &[Pfn]) -> bool {
        let Some(first) = pfns.first().map(|pfn| pfn.value()) else { return true };
        let Some(found) = self.find(first) else { return false };
        let first = found.state(first);
        if !first.is_plain_and_whole() || self.slow_path_flags.has(OWNERS) {
            return false;
        }
        let mut difference = 0;
        for &pfn in pfns {
            // A frame outside of the span has no state, or that of a pageblock that is not whole.
            let Some(state) = found.find_state(pfn.value()) else { return false };
            difference |= first.difference(state);
        }
        if difference != 0 {
            return false;
        }
        let class = found.class(first, Order::ZERO);
        let page = class.maker();
        let mut rest = pfns;
        self.free_class(class, pfns.len(), |room| {
            let (now, later) = rest.split_at(room.len());
            rest = later;
            write_pages(room, now.iter().map(|&pfn| page(pfn)))
        });
        true
    }

    #[inline(never)]
    #[track_caller]
    fn free_chunks(&self, pfns: &[Pfn]) -> Result<(), PfnError> {
        for &pfn in pfns {
            let Some(found) = self.find(pfn.value()) else {
                return Err(not_in_map(pfn.value(), pfn, 1));
            };
            self.check_in_use(&found, pfn.value()..pfn.value() + 1)?;
        }
        for pfns in pfns.chunks(CHUNK) {
            if !self.free_near(pfns) {
                self.free_mixed(pfns);
            }
        }
        Ok(())
    }

    /// Frees up to [`CHUNK`] frames of any zones, migrate types and accounts, class by class.
    #[track_caller]
    fn free_mixed(&self, pfns: &[Pfn]) {
        let mut pages = Batch::new();
        for &pfn in pfns {
            let Some(found) = self.find(pfn.value()) else { continue };
            let page = found.class(found.state(pfn.value()), Order::ZERO).at(pfn);
            pages.push_all([self.with_charge(&found, page)]);
        }
        while let Some(first) = pages.as_slice().first() {
            let class = first.class();
            let (mut same, mut others) = (Batch::new(), Batch::new());
            for &page in pages.as_slice() {
                let of = if page.class() == class { &mut same } else { &mut others };
                of.push_all([page]);
            }
            if self.slow_path_flags.any() {
                self.free_pages_unusual(class, same.as_slice());
            } else {
                self.free_pages_of(class, same.as_slice());
            }
            pages = others;
        }
    }
}

/// Yields the parts of a range of frames that are in one pageblock each.
fn blocks_of(pfns: Range<u64>) -> impl Iterator<Item = Range<u64>> {
    let mut next = pfns.start;
    core::iter::from_fn(move || {
        let start = next;
        next = ((block_base(start) + 1) * PAGEBLOCK_NR_PAGES as u64).min(pfns.end);
        (start < pfns.end).then_some(start..next)
    })
}

/// Returns the order of the block of `nr_pages` frames at `start`, if there can be such a block.
#[inline]
fn order_of(start: Pfn, nr_pages: usize) -> Option<Order> {
    let nr_pages = nr_pages as u64;
    let below = nr_pages.wrapping_sub(1);
    // A power of two, of which `start` is a multiple; also zero.
    if (nr_pages | start.value()) & below != 0 {
        return None;
    }
    #[expect(clippy::cast_possible_truncation, reason = "at most 64")]
    Order::new(nr_pages.trailing_zeros() as u8).ok()
}

#[cold]
fn not_in_map(pfn: u64, start: Pfn, nr_pages: usize) -> PfnError {
    PfnError::NotInMap { pfn, start, nr_pages }
}

#[cold]
#[inline(never)]
#[track_caller]
fn not_in_use(frame: &NotInUse, pfns: &Range<u64>) -> ! {
    match pfns.end - pfns.start {
        1 => panic!("double free by frame number: {frame}"),
        nr => panic!(
            "double free by frame number, of the {nr} frames from {:#x}: {frame}",
            pfns.start
        ),
    }
}
