//! Checks of a shard's books: counts and lists of its pageblocks against their bitmaps.

use core::ops::Range;

use crate::base::book::{Book, BookError, Place};
use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::zone::block_state::{BlockStates, Special};
use crate::zone::buddy::{BlockRecord, Buddy, NO_LIST, PAIRS, WHOLE, partial_list};
use crate::zone::pageblock::{Bitmap, WORD_NR_PAGES};
use crate::zone::span::Spans;

/// Number of lists of pageblocks.
const NR_LISTS: usize = PAIRS + 1;

/// Sums over the pageblocks of one shard that were checked.
pub(crate) struct Sums {
    nr_free: u64,
    /// Pageblocks that record each list.
    filed: [u64; NR_LISTS],
}

/// How far a list has been followed.
pub(crate) struct Walk {
    list: usize,
    next: Option<usize>,
    nr_blocks: u64,
}

impl Sums {
    pub(crate) fn new() -> Self {
        Self { nr_free: 0, filed: [0; NR_LISTS] }
    }

    /// Checks pageblocks `range` of `buddy`, and adds them.
    pub(crate) fn add(
        &mut self,
        buddy: &Buddy,
        range: Range<usize>,
        spans: Spans,
        states: &BlockStates,
    ) -> Result<(), BookError> {
        for index in range {
            let Some(block) = buddy.record(index) else { break };
            let place = Place::Pageblock(block.first);
            let nr_free = u64::from(block.bitmap.nr_free());
            place.expect(Book::BlockFree, block.nr_free, nr_free)?;
            check_state(&block, states)?;
            check_frames(&block, spans, states)?;
            let list = expected_list(buddy, index, &block);
            place.expect(Book::BlockList, block.list as u64, list as u64)?;
            self.nr_free += nr_free;
            if block.is_linked() {
                check_links(buddy, index, &block)?;
                self.filed[list] += 1;
            }
        }
        Ok(())
    }

    /// Checks the shard's own books, once all pageblocks were added and all lists followed.
    pub(crate) fn check(&self, buddy: &Buddy, place: Place) -> Result<(), BookError> {
        place.expect(Book::ShardFree, buddy.nr_free(), self.nr_free)?;
        for migratetype in MigrateType::ALL {
            let has_blocks =
                |&order: &u8| buddy.head(partial_list(migratetype, usize::from(order))).is_some();
            let orders = (0..PAGEBLOCK_ORDER.value()).filter(has_blocks);
            let mask = orders.fold(0, |mask, order| mask | 1_u64 << order);
            place.expect(Book::OrderMask, buddy.order_mask(migratetype).into(), mask)?;
        }
        Ok(())
    }
}

impl Walk {
    /// Yields a walk along each list.
    pub(crate) fn all() -> impl Iterator<Item = Self> {
        (0..NR_LISTS).map(|list| Self { list, next: None, nr_blocks: 0 })
    }

    /// Follows the list for a few pageblocks, and returns whether there are more.
    ///
    /// Ends even where links lead in a circle: after as many pageblocks as record the list.
    pub(crate) fn step(&mut self, buddy: &Buddy, sums: &Sums) -> bool {
        for _ in 0..WORD_NR_PAGES {
            self.next = match self.next {
                None if self.nr_blocks == 0 => buddy.head(self.list),
                None => None,
                Some(block) => buddy.record(block).and_then(|block| block.next),
            };
            if self.next.is_none() || self.nr_blocks > sums.filed[self.list] {
                return false;
            }
            self.nr_blocks += 1;
        }
        true
    }

    /// Checks that the list has all pageblocks that record it.
    pub(crate) fn check(&self, sums: &Sums, place: Place) -> Result<(), BookError> {
        place.expect(Book::ListLength, self.nr_blocks, sums.filed[self.list])
    }
}

/// Returns the number of the list that a pageblock belongs on.
fn expected_list(buddy: &Buddy, index: usize, block: &BlockRecord<'_>) -> usize {
    let is_whole = |block: &BlockRecord<'_>| block.bitmap.nr_free() as usize == PAGEBLOCK_NR_PAGES;
    if is_whole(block) {
        let other = if block.is_lower() { index + 1 } else { index.wrapping_sub(1) };
        let is_buddy = |other: BlockRecord<'_>| other.base == block.base ^ 1 && is_whole(&other);
        return if buddy.record(other).is_some_and(is_buddy) { PAIRS } else { WHOLE };
    }
    match block.bitmap.largest_order() {
        Some(order) => partial_list(block.migratetype, usize::from(order.value())),
        None => NO_LIST,
    }
}

/// Checks that each neighbour on the list, or the list's head, leads back.
fn check_links(buddy: &Buddy, index: usize, block: &BlockRecord<'_>) -> Result<(), BookError> {
    let place = Place::Pageblock(block.first);
    let number = |index: Option<usize>| index.map_or(u64::MAX, |index| index as u64);
    let back = match block.prev {
        None => buddy.head(block.list),
        Some(prev) => buddy.record(prev).and_then(|prev| prev.next),
    };
    place.expect(Book::BlockLink, number(back), index as u64)?;
    let Some(next) = block.next else { return Ok(()) };
    let back = buddy.record(next).and_then(|next| next.prev);
    place.expect(Book::BlockLink, number(back), index as u64)
}

/// Returns the book that a free frame of a kind violates.
fn book_of_free(special: Special) -> Book {
    match special {
        Special::Reserved => Book::FrameReserved,
        Special::Charged => Book::FrameCharged,
    }
}

/// Checks what readers without the lock see of a pageblock.
fn check_state(block: &BlockRecord<'_>, states: &BlockStates) -> Result<(), BookError> {
    let place = Place::Pageblock(block.first);
    let found = block.state.migratetype_index();
    place.expect(Book::StateType, found.into(), block.migratetype.index() as u64)?;
    [Special::Reserved, Special::Charged].into_iter().try_for_each(|special| {
        let nr_frames = states.set(special).count_in(block.number);
        place.expect(Book::StateCount, block.state.count(special).into(), nr_frames.into())
    })
}

/// Checks that the free frames are frames of the zone, not reserved, and not charged.
fn check_frames(
    block: &BlockRecord<'_>,
    spans: Spans,
    states: &BlockStates,
) -> Result<(), BookError> {
    for index in Bitmap::word_indexes() {
        let word = block.bitmap.word(index);
        if word == 0 {
            continue;
        }
        let frame = |bit: u32| block.first.offset((index * WORD_NR_PAGES) as u64 + u64::from(bit));
        let (first, last) = (word.trailing_zeros(), u64::BITS - 1 - word.leading_zeros());
        let span = spans.find(frame(first).value());
        if !span.is_some_and(|span| span.holds(frame(last).value())) {
            // In several spans, or outside of one.
            for bit in (0..u64::BITS).filter(|bit| word >> bit & 1 != 0) {
                let is_outside = spans.find(frame(bit).value()).is_none();
                Place::Frame(frame(bit)).expect(Book::FrameOutside, is_outside.into(), 0)?;
            }
        }
        for special in [Special::Reserved, Special::Charged] {
            if block.state.count(special) == 0 {
                continue;
            }
            let both = word & states.set(special).word(block.number, index);
            if both != 0 {
                let place = Place::Frame(frame(both.trailing_zeros()));
                return place.expect(book_of_free(special), 1, 0);
            }
        }
    }
    Ok(())
}

const _: () = assert!(NO_LIST == NR_LISTS && WHOLE == NR_MIGRATE_TYPES * 9);
