//! Buddy: the free frames of one shard; picks a pageblock for a request, merges on free, steals.
//!
//! Single-threaded and without I/O; [`shard`](crate::zone::shard) adds the lock.
//!
//! Every pageblock with a free frame is on exactly one list. A partly free pageblock is filed by its
//! migrate type and the order of its largest free block. A wholly free one has no migrate type and is
//! filed alone (order 9) or with its buddy (order 10). So an order-0 request takes from the most
//! fragmented pageblock first, large blocks stay whole as long as possible, and the search visits only
//! pageblocks that can serve the request.
//!
//! Differs: Linux keeps free blocks of each order on lists and merges them one by one. Here only
//! pageblocks are on lists, and their bitmaps hold the rest. Freeing a frame costs a list operation
//! only if it changes the order of its pageblock's largest free block.

use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::units::{MAX_ORDER, Order, PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER, Pfn};
use crate::zone::block_state::{BlockState, State};
use crate::zone::frame_words::{FrameWord, FrameWords};
use crate::zone::pageblock::{
    Bitmap, HALF_PAGEBLOCK, WORD_NR_PAGES, may_make_larger, nr_ones, ones, position_in_block,
    word_in_block,
};
use crate::zone::span::{Span, Spans, block_base};

/// A pageblock's metadata besides its bitmap.
#[derive(Debug)]
pub(crate) struct Block {
    /// Neighbours on the list of `filed`; [`NONE`] at its ends.
    next: u32,
    prev: u32,
    /// Frame number of the first frame divided by 512.
    pub(super) base: u32,
    /// Number of bits set in its bitmap.
    pub(super) nr_free: u16,
    pub(super) filed: Filed,
    pub(super) migratetype: MigrateType,
}

/// The list that a pageblock is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Filed {
    /// No list: the pageblock has no free frame.
    Nowhere,
    /// The list of partly free pageblocks of its migrate type whose largest free block has this order,
    /// below 9.
    Partial(u8),
    /// The list of wholly free pageblocks whose buddy is not wholly free.
    Whole,
    /// The list of wholly free pairs, for the lower pageblock of a pair; the upper one is on no list.
    Pair,
}

const NONE: u32 = u32::MAX;
/// Number of free frames of a wholly free pageblock.
const WHOLE_NR_FREE: u16 = 1 << PAGEBLOCK_ORDER.value();
const NR_PARTIAL: usize = PAGEBLOCK_ORDER.value() as usize;
pub(crate) const WHOLE: usize = NR_PARTIAL * NR_MIGRATE_TYPES;
pub(crate) const PAIRS: usize = WHOLE + 1;
/// Stands for no list, where lists are numbered.
pub(crate) const NO_LIST: usize = PAIRS + 1;

/// The free frames of adjacent pageblocks of a zone.
///
/// `block-filed`: for every block, `nr_free` is the number of its free frames and `filed` is the
/// list on which [`Filed`] places a block with such frames; `order_mask` has a bit for each
/// non-empty partial list.
#[derive(Debug)]
pub(crate) struct Buddy {
    pub(super) blocks: &'static mut [Block],
    pub(super) bitmaps: &'static mut [Bitmap],
    /// Each pageblock's migrate type once more, for readers without the lock.
    pub(super) states: &'static [BlockState],
    spans: Spans,
    /// Index, within the zone, of the first pageblock.
    first_block: u32,
    heads: [u32; PAIRS + 1],
    order_mask: [u16; NR_MIGRATE_TYPES],
    pub(super) nr_free: u64,
    pub(super) stolen: Option<Stolen>,
}

/// Record of pages that were taken from pageblocks of another migrate type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stolen {
    /// Number of such pageblocks; the other fields are about the last of them.
    pub(crate) nr_pageblocks: u32,
    /// First frame of that pageblock.
    pub(crate) pageblock: Pfn,
    /// Order of the request.
    pub(crate) order: Order,
    /// Migrate type of the pageblock before.
    pub(crate) from: MigrateType,
    /// Whether the pageblock changed its migrate type.
    pub(crate) is_whole: bool,
}

/// What is recorded about a pageblock, for checks.
pub(crate) struct BlockRecord<'a> {
    pub(crate) bitmap: &'a Bitmap,
    pub(crate) first: Pfn,
    pub(crate) base: u32,
    /// Index, within the zone, of the pageblock.
    pub(crate) number: u32,
    pub(crate) nr_free: u64,
    pub(crate) migratetype: MigrateType,
    /// What readers without the lock see.
    pub(crate) state: State,
    /// The number of its list, or [`NO_LIST`].
    pub(crate) list: usize,
    /// Local indexes of its neighbours on the list.
    pub(crate) prev: Option<usize>,
    pub(crate) next: Option<usize>,
}

impl BlockRecord<'_> {
    /// Returns whether the pageblock is the lower half of a block of the largest order.
    pub(crate) fn is_lower(&self) -> bool {
        self.base.is_multiple_of(2)
    }

    /// Returns whether its neighbours are on its list: the upper pageblock of a pair is on none.
    pub(crate) fn is_linked(&self) -> bool {
        self.list < PAIRS || self.list == PAIRS && self.is_lower()
    }
}

impl Block {
    pub(crate) const fn new() -> Self {
        Self {
            next: NONE,
            prev: NONE,
            base: 0,
            nr_free: 0,
            filed: Filed::Nowhere,
            migratetype: MigrateType::Movable,
        }
    }
}

impl Buddy {
    /// Creates the metadata of adjacent pageblocks whose frames are all in use.
    ///
    /// # Shape
    /// One block, one bitmap and one state for each pageblock, fresh from [`Block::new`],
    /// [`Bitmap::EMPTY`] and [`BlockState::new`].
    /// The first pageblock is number `first_block` of those that `spans`, the zone's spans, touch.
    pub(crate) fn new(
        blocks: &'static mut [Block],
        bitmaps: &'static mut [Bitmap],
        states: &'static [BlockState],
        spans: Spans,
        first_block: u32,
    ) -> Self {
        assert_eq!([blocks.len(); 2], [bitmaps.len(), states.len()]);
        let own = first_block..first_block + as_number(blocks.len());
        for span in spans.iter() {
            let pfns = span.pfns_within(own.clone());
            let mut pfn = pfns.start;
            while pfn < pfns.end {
                let base = block_base(pfn);
                blocks[(span.block(pfn) - first_block) as usize].base =
                    u32::try_from(base).expect("40 bits less 9 fit in 32");
                pfn = (base + 1) << PAGEBLOCK_ORDER.value();
            }
        }
        Self {
            blocks,
            bitmaps,
            states,
            spans,
            first_block,
            heads: [NONE; PAIRS + 1],
            order_mask: [0; NR_MIGRATE_TYPES],
            nr_free: 0,
            stolen: None,
        }
    }

    /// Frees every frame except those of `reserved`, at setup.
    pub(crate) fn free_all_except(
        &mut self,
        reserved: impl Iterator<Item = core::ops::Range<u64>>,
    ) {
        let spans = self.spans;
        let blocks = self.first_block..self.first_block + as_number(self.blocks.len());
        for span in spans.iter() {
            self.for_each_word(span, span.pfns_within(blocks.clone()), |word, mask| word | mask);
        }
        for range in reserved {
            for span in spans.iter() {
                let own = span.pfns_within(blocks.clone());
                let part = range.start.max(own.start)..range.end.min(own.end);
                self.for_each_word(span, part, |word, mask| word & !mask);
            }
        }
        // Downwards, so that the lowest pageblocks end up at the heads of their lists.
        for block in (0..self.blocks.len()).rev() {
            let nr_free = self.bitmaps[block].nr_free();
            self.blocks[block].nr_free = u16::try_from(nr_free).expect("at most 512");
            self.nr_free += u64::from(nr_free);
            self.file(block);
        }
    }

    /// Returns the number of free frames.
    #[inline]
    pub(crate) fn nr_free(&self) -> u64 {
        self.nr_free
    }

    /// Takes up to `nr` single frames for pages of `migratetype` and returns their number; with
    /// `fallback`, also from pageblocks of another migrate type.
    ///
    /// For requests of at least one bitmap word (64 pages), stops early rather than splitting a word
    /// once half the request is filled. Whole words can later be freed as whole words, which is several
    /// times cheaper.
    ///
    /// # Cost
    /// Per pageblock visited and per word of 64 frames, not per frame. Stops early when `words` is full.
    pub(crate) fn take_pages(
        &mut self,
        migratetype: MigrateType,
        fallback: bool,
        nr: usize,
        words: &mut FrameWords,
    ) -> usize {
        let enough = if nr < WORD_NR_PAGES { nr } else { nr.div_ceil(2) };
        let mut taken = 0;
        while taken < nr && !words.is_full() {
            if taken >= enough && nr - taken < WORD_NR_PAGES {
                break;
            }
            let Some(block) = self.pick(migratetype, fallback, Order::ZERO) else {
                break;
            };
            taken += self.take_words(block, nr - taken, enough.saturating_sub(taken), words);
            self.file(block);
        }
        taken
    }

    /// Takes a block of `order` for pages of `migratetype`; with `fallback`, also from pageblocks of
    /// another migrate type.
    pub(crate) fn take_block(
        &mut self,
        migratetype: MigrateType,
        fallback: bool,
        order: Order,
    ) -> Option<Pfn> {
        if order >= PAGEBLOCK_ORDER {
            return self.take_whole(migratetype, order);
        }
        if let Some(largest) = self.smallest_fit(migratetype, order) {
            let block = self.heads[partial_list(migratetype, largest)] as usize;
            return Some(self.take_from_first(block, largest, order));
        }
        if let Some(block) = self.pick_whole(PAGEBLOCK_ORDER) {
            self.set_migratetype(block, migratetype);
            self.bitmaps[block].clear(0, order);
            self.count_taken(block, order.nr_pages());
            // The upper half is still free, whatever the lower half has left.
            self.file_partial(block, HALF_PAGEBLOCK);
            return Some(self.first_pfn(block));
        }
        let block = if fallback { self.pick_fallback(migratetype, order) } else { None }?;
        let (at, _) = self.take_at(block, order);
        self.file(block);
        Some(at)
    }

    /// Takes a block of `order` from the first pageblock of a list, whose largest free block has the
    /// order `largest`.
    #[inline]
    fn take_from_first(&mut self, block: usize, largest: usize, order: Order) -> Pfn {
        let (pfn, from) = self.take_at(block, order);
        // Any other block leaves the largest as it is.
        if usize::from(from.value()) == largest {
            let now = self.bitmaps[block].largest_order();
            if now.is_none_or(|now| usize::from(now.value()) != largest) {
                self.unlink_from(block, partial_list(self.blocks[block].migratetype, largest));
                self.file_largest(block, now);
            }
        }
        pfn
    }

    /// Takes a block of `order` from a pageblock that has one. Returns its first frame and the order of
    /// the free block that it was part of.
    #[inline]
    fn take_at(&mut self, block: usize, order: Order) -> (Pfn, Order) {
        let found = self.bitmaps[block].find(order);
        let (at, from) = found.expect("block-filed: it has a block this large");
        self.bitmaps[block].clear(at, order);
        self.count_taken(block, order.nr_pages());
        (self.first_pfn(block).offset(at as u64), from)
    }

    /// Returns the smallest order, from `order` on, for which pageblocks of a migrate type are filed.
    #[inline]
    fn smallest_fit(&self, migratetype: MigrateType, order: Order) -> Option<usize> {
        let fits = self.order_mask[migratetype.index()] >> order.value() << order.value();
        (fits != 0).then(|| fits.trailing_zeros() as usize)
    }

    /// Frees frames that are in use.
    ///
    /// # Panics
    /// If one of them is already free or not in these pageblocks.
    #[inline]
    #[track_caller]
    pub(crate) fn put_all(&mut self, words: impl Iterator<Item = FrameWord>) {
        let mut nr_pages = 0_u64;
        let mut twice = None;
        for word in words {
            if self.put(word).is_err() {
                twice = Some(word);
                break;
            }
            // No overflow, as in all sums of frames here: no frame is free twice.
            nr_pages = nr_pages.wrapping_add(u64::from(word.nr_pages()));
        }
        self.nr_free += nr_pages;
        if let Some(word) = twice {
            self.double_free(word);
        }
    }

    /// Frees the frames of one word, without adding them to the total of free frames.
    ///
    /// # Errors
    /// If one of them is already free; nothing has changed then.
    #[inline]
    fn put(&mut self, freed: FrameWord) -> Result<(), ()> {
        let number = self.own(freed.block);
        let (index, mask) = (freed.index(), freed.mask);
        let (bitmap, block) = (&mut self.bitmaps[number], &mut self.blocks[number]);
        let word = bitmap.put_into_word(index, mask)?;
        block.nr_free = block.nr_free.wrapping_add(freed.nr_pages());
        // Most frees create no larger block than the pageblock has, and cost this one test.
        match block.filed {
            Filed::Partial(largest) if !may_make_larger(word, mask, largest) => {}
            _ => self.file_after_put(number, index),
        }
        Ok(())
    }

    #[cold]
    #[inline(never)]
    #[track_caller]
    fn double_free(&self, freed: FrameWord) -> ! {
        let twice = self.bitmaps[self.own(freed.block)].word(freed.index()) & freed.mask;
        let frame = Pfn::new(freed.base + u64::from(twice.trailing_zeros()));
        panic!("double free of frame {frame}: it is free in its zone already");
    }

    /// Frees the block of `order` at `pfn`, in the zone's pageblock `block`, which is in use.
    ///
    /// # Panics
    /// If one of its frames is already free or not in this zone, or if the block is misaligned; nothing
    /// has changed then.
    #[track_caller]
    pub(crate) fn put_block(&mut self, pfn: Pfn, block: u32, order: Order) {
        assert!(pfn.is_aligned(order), "free of frame {pfn}: not aligned to order {order}");
        let number = self.own(block);
        if order == MAX_ORDER {
            return self.put_pair(pfn, number);
        }
        let at = position_in_block(pfn.value());
        let (bitmap, block) = (&mut self.bitmaps[number], &mut self.blocks[number]);
        let Ok((word, mask)) = bitmap.put(at, order) else {
            self.double_free_of_block(pfn, self.first_block + as_number(number), order)
        };
        // No overflow: no frame is free twice.
        block.nr_free = block.nr_free.wrapping_add(1 << order.value());
        self.nr_free = self.nr_free.wrapping_add(1 << order.value());
        match block.filed {
            Filed::Partial(largest) if !may_make_larger(word, mask, largest) => {}
            _ => self.file_after_put(number, at / WORD_NR_PAGES),
        }
    }

    /// Frees two pageblocks that are a block of the largest order, of which `lower` is the first.
    #[inline]
    #[track_caller]
    fn put_pair(&mut self, pfn: Pfn, lower: usize) {
        let of_pair = lower..lower + 2;
        for block in of_pair.clone() {
            if self.bitmaps[block].put(0, PAGEBLOCK_ORDER).is_err() {
                // Nothing has changed then.
                self.bitmaps[lower..block].fill(Bitmap::EMPTY);
                self.double_free_of_block(pfn, self.first_block + as_number(lower), MAX_ORDER);
            }
        }
        for block in &mut self.blocks[of_pair] {
            (block.nr_free, block.filed) = (WHOLE_NR_FREE, Filed::Pair);
        }
        self.nr_free = self.nr_free.wrapping_add(MAX_ORDER.nr_pages() as u64);
        self.link_first(lower, PAIRS, Filed::Pair);
    }

    /// Adds the free blocks of pageblocks `range` to `counts`, by migrate type and order.
    ///
    /// Each frame is counted once, in its largest free block.
    pub(crate) fn count_blocks(
        &self,
        range: core::ops::Range<usize>,
        counts: &mut [[u64; MAX_ORDER.value() as usize + 1]; NR_MIGRATE_TYPES],
    ) {
        for index in range {
            let block = &self.blocks[index];
            let counts = &mut counts[block.migratetype.index()];
            match block.filed {
                Filed::Nowhere => {}
                Filed::Whole => counts[usize::from(PAGEBLOCK_ORDER.value())] += 1,
                Filed::Pair if block.base.is_multiple_of(2) => {
                    counts[usize::from(MAX_ORDER.value())] += 1;
                }
                Filed::Pair => {}
                Filed::Partial(_) => self.bitmaps[index].count_blocks(counts),
            }
        }
    }

    /// Adds the pageblocks of each migrate type in `range` to `counts`.
    pub(crate) fn count_pageblocks(
        &self,
        range: core::ops::Range<usize>,
        counts: &mut [u64; NR_MIGRATE_TYPES],
    ) {
        for block in &self.blocks[range] {
            counts[block.migratetype.index()] += 1;
        }
    }

    /// Calls `visit` for each free frame of a pageblock.
    pub(crate) fn for_each_free(&self, block: usize, mut visit: impl FnMut(Pfn)) {
        let base = self.first_pfn(block);
        for index in Bitmap::word_indexes() {
            for position in ones(self.bitmaps[block].word(index)) {
                visit(base.offset((index * WORD_NR_PAGES + position) as u64));
            }
        }
    }

    /// Returns and clears the record of pages taken from pageblocks of another migrate type.
    #[inline]
    pub(crate) fn take_stolen(&mut self) -> Option<Stolen> {
        self.stolen.take()
    }

    /// Returns what is recorded about a pageblock, by its local index.
    #[inline]
    pub(crate) fn record(&self, index: usize) -> Option<BlockRecord<'_>> {
        let Block { next, prev, base, nr_free, filed, migratetype } = *self.blocks.get(index)?;
        let list = match filed {
            Filed::Nowhere => NO_LIST,
            Filed::Partial(order) => partial_list(migratetype, usize::from(order)),
            Filed::Whole => WHOLE,
            Filed::Pair => PAIRS,
        };
        Some(BlockRecord {
            bitmap: &self.bitmaps[index],
            first: self.first_pfn(index),
            base,
            number: self.first_block + as_number(index),
            nr_free: u64::from(nr_free),
            migratetype,
            state: self.states[index].get(),
            list,
            prev: local(prev),
            next: local(next),
        })
    }

    /// Returns the local index of the first pageblock of a list.
    pub(crate) fn head(&self, list: usize) -> Option<usize> {
        local(self.heads[list])
    }

    /// Returns the orders of a migrate type's lists that are not empty, as bits.
    pub(crate) fn order_mask(&self, migratetype: MigrateType) -> u16 {
        self.order_mask[migratetype.index()]
    }

    /// Returns whether a frame of the zone's pageblock `block` is free.
    pub(crate) fn is_free(&self, block: u32, pfn: u64) -> bool {
        let word = self.bitmaps[self.own(block)].word(word_in_block(pfn));
        word >> (pfn % u64::from(u64::BITS)) & 1 != 0
    }

    /// Returns the number of pageblocks, partial ones included.
    pub(crate) fn nr_pageblocks(&self) -> usize {
        self.blocks.len()
    }

    /// Takes `nr` frames from an unfiled pageblock, word by word; after `enough` frames, whole words
    /// only.
    fn take_words(
        &mut self,
        block: usize,
        nr: usize,
        enough: usize,
        words: &mut FrameWords,
    ) -> usize {
        let (base, number) = (self.first_pfn(block).value(), self.first_block + as_number(block));
        let mut taken = 0;
        for index in Bitmap::word_indexes() {
            let left = nr - taken;
            // A closure, so that the bits are counted only where the result matters.
            let would_cut = || nr_ones(self.bitmaps[block].word(index)) as usize > left;
            if left == 0 || words.is_full() || taken >= enough && would_cut() {
                break;
            }
            let wanted = u32::try_from(left).unwrap_or(u32::MAX);
            let mask = self.bitmaps[block].take_from_word(index, wanted);
            if mask != 0 {
                let (pfn, nr) = (base + (index * WORD_NR_PAGES) as u64, nr_ones(mask) as usize);
                taken += nr;
                words.push(FrameWord::new(number, pfn, mask, nr)).expect("it is not full");
            }
        }
        self.count_taken(block, taken);
        taken
    }

    /// Takes one whole pageblock or a pair of them.
    fn take_whole(&mut self, migratetype: MigrateType, order: Order) -> Option<Pfn> {
        let first = self.pick_whole(order)?;
        let nr_blocks = order.nr_pages() / PAGEBLOCK_NR_PAGES;
        for block in first..first + nr_blocks {
            self.set_migratetype(block, migratetype);
            self.bitmaps[block] = Bitmap::EMPTY;
            self.count_taken(block, PAGEBLOCK_NR_PAGES);
        }
        Some(self.first_pfn(first))
    }

    /// Returns a pageblock with a free block of `order`, removed from its list.
    ///
    /// Tries the most fragmented pageblock of the migrate type, then a wholly free one, then, with
    /// `fallback`, the least fragmented one of another type. The latter changes its type if at least
    /// half of it is free and its pages would otherwise be mixed with movable ones permanently.
    ///
    /// # Source
    /// `linux-6.12` `mm/page_alloc.c` `__rmqueue`, `steal_suitable_fallback`. Differs: wholly free
    /// pageblocks have no migrate type here, so a request of any type takes them before it falls back.
    #[inline]
    fn pick(&mut self, migratetype: MigrateType, fallback: bool, order: Order) -> Option<usize> {
        if let Some(largest) = self.smallest_fit(migratetype, order) {
            return Some(self.unlink_first(partial_list(migratetype, largest)));
        }
        if let Some(block) = self.pick_whole(PAGEBLOCK_ORDER) {
            self.set_migratetype(block, migratetype);
            return Some(block);
        }
        if fallback { self.pick_fallback(migratetype, order) } else { None }
    }

    #[cold]
    fn pick_fallback(&mut self, migratetype: MigrateType, order: Order) -> Option<usize> {
        for other in migratetype.fallbacks() {
            let fits = self.order_mask[other.index()] >> order.value() << order.value();
            if fits == 0 {
                continue;
            }
            let largest = (u16::BITS - 1 - fits.leading_zeros()) as usize;
            let block = self.unlink_first(partial_list(other, largest));
            self.steal(block, migratetype, order);
            return Some(block);
        }
        None
    }

    /// Returns a wholly free pageblock (or, for order 10, the lower one of a pair), unfiled.
    fn pick_whole(&mut self, order: Order) -> Option<usize> {
        if order == PAGEBLOCK_ORDER && self.heads[WHOLE] != NONE {
            let block = self.unlink_first(WHOLE);
            self.blocks[block].filed = Filed::Nowhere;
            return Some(block);
        }
        if self.heads[PAIRS] == NONE {
            return None;
        }
        let lower = self.unlink_first(PAIRS);
        self.blocks[lower].filed = Filed::Nowhere;
        if order == PAGEBLOCK_ORDER {
            self.link_first(lower + 1, WHOLE, Filed::Whole);
        } else {
            self.blocks[lower + 1].filed = Filed::Nowhere;
        }
        Some(lower)
    }

    /// Files an unfiled pageblock by its free frames.
    #[inline]
    pub(super) fn file(&mut self, block: usize) {
        if usize::from(self.blocks[block].nr_free) == PAGEBLOCK_NR_PAGES {
            return self.file_whole(block);
        }
        self.file_largest(block, self.bitmaps[block].largest_order());
    }

    /// Files an unfiled pageblock that is not wholly free by the order of its largest free block.
    #[inline]
    fn file_largest(&mut self, block: usize, largest: Option<Order>) {
        match largest {
            None => self.blocks[block].filed = Filed::Nowhere,
            Some(order) => self.file_partial(block, order),
        }
    }

    /// Refiles a pageblock if frames freed in word `index` enlarged its largest free block.
    #[inline(never)]
    fn file_after_put(&mut self, block: usize, index: usize) {
        let filed = self.blocks[block].filed;
        if usize::from(self.blocks[block].nr_free) == PAGEBLOCK_NR_PAGES {
            if let Filed::Partial(_) = filed {
                self.unlink(block);
            }
            return self.file_whole(block);
        }
        let order = self.bitmaps[block].largest_order_at(index).expect("a frame was put there");
        match filed {
            Filed::Partial(largest) if order.value() <= largest => return,
            Filed::Partial(_) => self.unlink(block),
            Filed::Nowhere => {}
            Filed::Whole | Filed::Pair => unreachable!("a free frame was put"),
        }
        self.file_partial(block, order);
    }

    #[inline]
    fn file_partial(&mut self, block: usize, order: Order) {
        let migratetype = self.blocks[block].migratetype;
        let list = partial_list(migratetype, usize::from(order.value()));
        self.order_mask[migratetype.index()] |= 1 << order.value();
        self.link_first(block, list, Filed::Partial(order.value()));
    }

    /// Files a wholly free, unfiled pageblock, with its buddy if that is wholly free too.
    fn file_whole(&mut self, block: usize) {
        let base = self.blocks[block].base;
        let is_lower = base.is_multiple_of(2);
        let buddy = if is_lower { block + 1 } else { block.wrapping_sub(1) };
        let pairs = self
            .blocks
            .get(buddy)
            .is_some_and(|buddy| buddy.base == base ^ 1 && buddy.filed == Filed::Whole);
        if pairs {
            self.unlink(buddy);
            self.blocks[block.max(buddy)].filed = Filed::Pair;
            self.link_first(block.min(buddy), PAIRS, Filed::Pair);
        } else {
            self.link_first(block, WHOLE, Filed::Whole);
        }
    }

    #[inline]
    pub(super) fn link_first(&mut self, block: usize, list: usize, filed: Filed) {
        let number = as_number(block);
        let next = self.heads[list];
        if next != NONE {
            self.blocks[next as usize].prev = number;
        }
        let entry = &mut self.blocks[block];
        entry.next = next;
        entry.prev = NONE;
        entry.filed = filed;
        self.heads[list] = number;
    }

    /// Removes the first pageblock from a list that is not empty.
    #[inline]
    fn unlink_first(&mut self, list: usize) -> usize {
        let block = self.heads[list] as usize;
        self.unlink_from(block, list);
        block
    }

    /// Removes a filed pageblock from its list.
    #[inline]
    pub(super) fn unlink(&mut self, block: usize) {
        let list = match self.blocks[block].filed {
            Filed::Partial(order) => {
                partial_list(self.blocks[block].migratetype, usize::from(order))
            }
            Filed::Whole => WHOLE,
            Filed::Pair | Filed::Nowhere => unreachable!("only singly filed blocks are unlinked"),
        };
        self.unlink_from(block, list);
    }

    #[inline]
    pub(super) fn unlink_from(&mut self, block: usize, list: usize) {
        let Block { next, prev, .. } = self.blocks[block];
        if next != NONE {
            self.blocks[next as usize].prev = prev;
        }
        if prev != NONE {
            self.blocks[prev as usize].next = next;
            return;
        }
        self.heads[list] = next;
        if next == NONE && list < WHOLE {
            self.order_mask[list / NR_PARTIAL] &= !(1 << (list % NR_PARTIAL));
        }
    }

    #[inline]
    pub(super) fn count_taken(&mut self, block: usize, nr_pages: usize) {
        #[expect(clippy::cast_possible_truncation, reason = "at most 512")]
        let nr_pages_short = nr_pages as u16;
        let nr_free = &mut self.blocks[block].nr_free;
        // No overflow: the frames were free.
        *nr_free = nr_free.wrapping_sub(nr_pages_short);
        self.nr_free = self.nr_free.wrapping_sub(nr_pages as u64);
    }

    /// Returns the local index of the zone's pageblock `block`.
    #[inline]
    pub(super) fn own(&self, block: u32) -> usize {
        // For a pageblock of another shard it wraps to an index out of bounds.
        block.wrapping_sub(self.first_block) as usize
    }

    #[inline]
    pub(super) fn first_pfn(&self, block: usize) -> Pfn {
        Pfn::new(u64::from(self.blocks[block].base) << PAGEBLOCK_ORDER.value())
    }

    /// Changes the bits of the frames of `pfns`, which are in `span`.
    fn for_each_word(
        &mut self,
        span: &Span,
        pfns: core::ops::Range<u64>,
        change: impl Fn(u64, u64) -> u64,
    ) {
        let mut pfn = pfns.start;
        while pfn < pfns.end {
            let end = pfns.end.min((pfn / WORD_NR_PAGES as u64 + 1) * WORD_NR_PAGES as u64);
            let mask =
                u64::MAX >> (WORD_NR_PAGES as u64 - (end - pfn)) << (pfn % u64::from(u64::BITS));
            let block = self.own(span.block(pfn));
            self.bitmaps[block].change_word(word_in_block(pfn), |word| change(word, mask));
            pfn = end;
        }
    }
}

#[inline]
pub(crate) const fn partial_list(migratetype: MigrateType, order: usize) -> usize {
    migratetype.index() * NR_PARTIAL + order
}

/// Returns the local index in a link; `None` at the end of a list.
fn local(link: u32) -> Option<usize> {
    (link != NONE).then_some(link as usize)
}

#[inline]
fn as_number(block: usize) -> u32 {
    u32::try_from(block).expect("pageblocks are numbered in 32 bits")
}

// Two of these and two bitmaps: 160 bytes for 1024 frames.
const _: () = assert!(size_of::<Block>() == 20);

#[cfg(test)]
mod tests;
