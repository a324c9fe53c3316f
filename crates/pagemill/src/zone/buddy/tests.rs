use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::ops::Range;
use core::slice::from_ref;

use super::*;
use crate::base::book::{Book, BookError, Place};
use crate::zone::block_state::BlockStates;
use crate::zone::check::{Sums, Walk};
use crate::zone::frame_set::{FrameSet, FrameSetBlock};

const NR_ORDERS: usize = MAX_ORDER.value() as usize + 1;
type Counts = [[u64; NR_ORDERS]; NR_MIGRATE_TYPES];

/// A zone as flags: one for each frame, and a kind for each pageblock.
struct Naive {
    blocks: Vec<NaiveBlock>,
}

struct NaiveBlock {
    /// Frame number of the first frame divided by 512.
    base: u64,
    free: [bool; PAGEBLOCK_NR_PAGES],
    kind: MigrateType,
}

impl NaiveBlock {
    fn nr_free(&self) -> usize {
        self.free.iter().filter(|&&free| free).count()
    }

    fn is_whole(&self) -> bool {
        self.nr_free() == PAGEBLOCK_NR_PAGES
    }

    fn is_free(&self, at: usize, order: usize) -> bool {
        self.free[at..at + (1 << order)].iter().all(|&free| free)
    }

    /// Returns the number of free blocks of each order that are not part of larger ones.
    fn counts(&self) -> [u64; NR_ORDERS] {
        let mut counts = [0; NR_ORDERS];
        let mut at = 0;
        while at < PAGEBLOCK_NR_PAGES {
            let fits = |&order: &usize| at % (1 << order) == 0 && self.is_free(at, order);
            match (0..=9).rev().find(fits) {
                Some(order) => {
                    counts[order] += 1;
                    at += 1 << order;
                }
                None => at += 1,
            }
        }
        counts
    }

    fn largest(&self) -> Option<usize> {
        self.counts().iter().rposition(|&nr| nr > 0)
    }
}

impl Naive {
    fn block(&mut self, pfn: u64) -> &mut NaiveBlock {
        let base = pfn / PAGEBLOCK_NR_PAGES as u64;
        self.blocks.iter_mut().find(|block| block.base == base).expect("a frame of the zone")
    }

    fn is_paired(&self, block: &NaiveBlock) -> bool {
        block.is_whole() && self.blocks.iter().any(|b| b.base == block.base ^ 1 && b.is_whole())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for block in &self.blocks {
            let counts = &mut counts[block.kind.index()];
            if !self.is_paired(block) {
                counts.iter_mut().zip(block.counts()).for_each(|(sum, nr)| *sum += nr);
            } else if block.base.is_multiple_of(2) {
                counts[10] += 1;
            }
        }
        counts
    }

    /// Returns the pageblocks that a request for blocks of `order`, below 9, may be served from,
    /// and the kind that the chosen one then has, if that changes.
    fn candidates(&self, kind: MigrateType, order: usize) -> Vec<(u64, Option<MigrateType>)> {
        let partial = |kind: MigrateType, best: fn(usize, usize) -> usize| {
            let fits = |block: &&NaiveBlock| {
                block.kind == kind && !block.is_whole() && block.largest() >= Some(order)
            };
            let largest = self.blocks.iter().filter(fits).filter_map(NaiveBlock::largest);
            let wanted = largest.reduce(best);
            self.blocks
                .iter()
                .filter(fits)
                .filter(|block| block.largest() == wanted)
                .map(|block| (block.base, block.nr_free()))
                .collect::<Vec<_>>()
        };
        let own = partial(kind, core::cmp::min);
        if !own.is_empty() {
            return own.into_iter().map(|(base, _)| (base, None)).collect();
        }
        let whole = self.whole(9);
        if !whole.is_empty() {
            return whole.into_iter().map(|base| (base, Some(kind))).collect();
        }
        for other in kind.fallbacks() {
            let others = partial(other, core::cmp::max);
            if !others.is_empty() {
                let steals = |nr_free| kind != MigrateType::Movable && nr_free >= 256;
                let then = |(base, nr_free)| (base, steals(nr_free).then_some(kind));
                return others.into_iter().map(then).collect();
            }
        }
        Vec::new()
    }

    /// Returns the wholly free pageblocks, or lower halves of pairs, that are taken first.
    fn whole(&self, order: u8) -> Vec<u64> {
        let bases = |paired: bool| {
            self.blocks
                .iter()
                .filter(|block| block.is_whole() && self.is_paired(block) == paired)
                .map(|block| block.base)
                .filter(|base| !paired || base.is_multiple_of(2))
                .collect::<Vec<_>>()
        };
        let alone = bases(false);
        if order == 9 && !alone.is_empty() { alone } else { bases(true) }
    }

    fn set(&mut self, pfns: Range<u64>, free: bool) {
        for pfn in pfns {
            let at = position_in_block(pfn);
            let block = self.block(pfn);
            assert_ne!(block.free[at], free, "frame {pfn:#x}");
            block.free[at] = free;
        }
    }
}

struct Pair {
    buddy: Buddy,
    special: BlockStates,
    naive: Naive,
    seed: u64,
    /// What was taken, by first frame.
    taken: Vec<(u64, Order)>,
}

impl Pair {
    fn new(regions: &[Range<u64>], reserved: &[Range<u64>], seed: u64) -> Self {
        let mut spans = Vec::new();
        let mut bases = Vec::new();
        let mut first_frame = 0;
        for region in regions {
            let Range { start, end } = *region;
            bases.extend(block_base(start)..=block_base(end - 1));
            bases.dedup();
            let first_block = bases.iter().position(|&base| base == block_base(start)).unwrap();
            let first_block = u32::try_from(first_block).unwrap();
            spans.push(Span { start, end, first_block, first_frame });
            first_frame += u32::try_from(end - start).unwrap();
        }
        let blocks: Vec<_> = bases.iter().map(|_| Block::new()).collect();
        let nr_reserved = |&base: &u64| {
            let pfns = base << PAGEBLOCK_ORDER.value()..(base + 1) << PAGEBLOCK_ORDER.value();
            let is_reserved = |pfn: &u64| {
                let mut regions = regions.iter();
                regions.any(|range| range.contains(pfn)) && reserved.iter().any(|r| r.contains(pfn))
            };
            u32::try_from(pfns.filter(is_reserved).count()).unwrap()
        };
        let states: Vec<_> = bases.iter().map(nr_reserved).map(BlockState::new).collect();
        let states: &'static [BlockState] = Box::leak(states.into_boxed_slice());
        let mut buddy = Buddy::new(
            Box::leak(blocks.into_boxed_slice()),
            Box::leak(vec![Bitmap::EMPTY; bases.len()].into_boxed_slice()),
            states,
            Spans::new(Box::leak(spans.into_boxed_slice())),
            0,
        );
        buddy.free_all_except(reserved.iter().cloned());
        let table: Vec<_> = bases.iter().map(|_| FrameSetBlock::new()).collect();
        let table = Box::leak(table.into_boxed_slice());
        let reserved_frames = FrameSet::new(table, buddy.spans, reserved.iter().cloned());
        let no_frames = FrameSet::new(&[], buddy.spans, core::iter::empty());
        let special = BlockStates::new(states, buddy.spans, reserved_frames, no_frames);
        let is_free = |pfn| {
            regions.iter().any(|region| region.contains(&pfn))
                && !reserved.iter().any(|range| range.contains(&pfn))
        };
        let block = |base| NaiveBlock {
            base,
            free: core::array::from_fn(|at| is_free((base << PAGEBLOCK_ORDER.value()) + at as u64)),
            kind: MigrateType::Movable,
        };
        let naive = Naive { blocks: bases.into_iter().map(block).collect() };
        Self { buddy, special, naive, seed, taken: Vec::new() }
    }

    fn below(&mut self, end: usize) -> usize {
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        usize::try_from(self.seed >> 16).unwrap() % end
    }

    fn take_pages(&mut self, kind: MigrateType, nr: usize) {
        let mut words = FrameWords::new();
        let taken = self.buddy.take_pages(kind, true, nr, &mut words);
        let mut left = nr;
        let mut rest = words.as_slice();
        while let Some(first) = rest.first() {
            let base = block_base(first.base);
            let candidates = self.naive.candidates(kind, 0);
            let chosen = candidates.iter().find(|(candidate, _)| *candidate == base);
            let &(_, kind) = chosen.expect("the right pageblock is taken from");
            let same = rest.iter().take_while(|word| block_base(word.base) == base).count();
            let (here, others) = rest.split_at(same);
            let lowest: Vec<u64> = self.naive.lowest(base, nr, nr - left);
            let pfns: Vec<u64> = here.iter().flat_map(|&word| pfns_of(word)).collect();
            let all = others.is_empty() && words.is_full();
            assert!(if all { lowest.starts_with(&pfns) } else { lowest == pfns });
            left -= pfns.len();
            for pfn in pfns {
                self.naive.set(pfn..pfn + 1, false);
                self.taken.push((pfn, Order::ZERO));
            }
            self.naive.change_kind(base, kind);
            rest = others;
        }
        assert_eq!(taken, nr - left);
        let is_enough = taken >= nr.div_ceil(2) && left < WORD_NR_PAGES && nr >= WORD_NR_PAGES;
        let is_all = words.is_full() || self.naive.candidates(kind, 0).is_empty();
        assert!(left == 0 || is_enough || is_all, "{taken} of {nr}");
    }

    fn take_block(&mut self, kind: MigrateType, order: Order) {
        let got = self.buddy.take_block(kind, true, order);
        let exponent = usize::from(order.value());
        let candidates = if order < PAGEBLOCK_ORDER {
            self.naive.candidates(kind, exponent)
        } else {
            self.naive.whole(order.value()).into_iter().map(|base| (base, Some(kind))).collect()
        };
        let Some(pfn) = got else {
            assert!(candidates.is_empty(), "there was a block of order {order}");
            return;
        };
        assert!(pfn.is_aligned(order));
        let base = block_base(pfn.value());
        let chosen = candidates.iter().find(|(candidate, _)| *candidate == base);
        let &(_, kind) = chosen.expect("the right pageblock is taken from");
        self.naive.set(pfn.value()..pfn.value() + order.nr_pages() as u64, false);
        for base in base..=block_base(pfn.value() + order.nr_pages() as u64 - 1) {
            self.naive.change_kind(base, kind);
        }
        self.taken.push((pfn.value(), order));
    }

    fn block_of(&self, pfn: u64) -> u32 {
        self.buddy.spans.find(pfn).expect("a frame of the zone").block(pfn)
    }

    fn put(&mut self, which: usize) {
        let (pfn, order) = self.taken.swap_remove(which);
        if order == Order::ZERO && self.below(2) == 0 {
            let word = FrameWord::new(self.block_of(pfn), pfn, 1 << (pfn % 64), 1);
            self.buddy.put_all([word].into_iter());
        } else {
            self.buddy.put_block(Pfn::new(pfn), self.block_of(pfn), order);
        }
        self.naive.set(pfn..pfn + order.nr_pages() as u64, true);
    }

    fn check(&self) {
        let mut counts = Counts::default();
        let mut pageblocks = [0; NR_MIGRATE_TYPES];
        let all = 0..self.buddy.nr_pageblocks();
        self.buddy.count_blocks(all.clone(), &mut counts);
        self.buddy.count_pageblocks(all, &mut pageblocks);
        assert_eq!(counts, self.naive.counts());
        for kind in MigrateType::ALL {
            let nr = self.naive.blocks.iter().filter(|block| block.kind == kind).count();
            assert_eq!(pageblocks[kind.index()], nr as u64);
        }
        let nr_free: usize = self.naive.blocks.iter().map(NaiveBlock::nr_free).sum();
        assert_eq!(self.buddy.nr_free(), nr_free as u64);
        assert_eq!(self.check_books(), Ok(()));
    }

    /// Checks the books as a shard does.
    fn check_books(&self) -> Result<(), BookError> {
        let buddy = &self.buddy;
        let mut sums = Sums::new();
        sums.add(buddy, 0..buddy.nr_pageblocks(), buddy.spans, &self.special)?;
        for mut walk in Walk::all() {
            while walk.step(buddy, &sums) {}
            walk.check(&sums, Place::Zone(0))?;
        }
        sums.check(buddy, Place::Zone(0))
    }

    fn totals(&self) -> [u64; NR_ORDERS] {
        let counts = self.naive.counts();
        core::array::from_fn(|order| counts.iter().map(|counts| counts[order]).sum())
    }
}

impl Naive {
    /// Returns what a request for `nr` frames, which has `taken` some, takes of a pageblock: the lowest, but
    /// no part of a word once it has half, if it is for a word or more.
    fn lowest(&mut self, base: u64, nr: usize, mut taken: usize) -> Vec<u64> {
        let first = base << PAGEBLOCK_ORDER.value();
        let free = self.block(first).free;
        let free: Vec<u64> =
            (first..).zip(free).filter_map(|(pfn, free)| free.then_some(pfn)).collect();
        let mut lowest = Vec::new();
        for word in free.chunk_by(|one, other| one / 64 == other / 64) {
            if taken + word.len() > nr && taken >= nr.div_ceil(2) && nr >= WORD_NR_PAGES {
                break;
            }
            let part = &word[..word.len().min(nr - taken)];
            lowest.extend(part);
            taken += part.len();
        }
        lowest
    }

    fn change_kind(&mut self, base: u64, kind: Option<MigrateType>) {
        let block = self.block(base << PAGEBLOCK_ORDER.value());
        block.kind = kind.unwrap_or(block.kind);
    }
}

fn pfns_of(word: FrameWord) -> impl Iterator<Item = u64> {
    (0..64).filter(move |at| word.mask >> at & 1 == 1).map(move |at| word.base + at)
}

/// Takes and puts at random, then puts everything and checks that it is as at the start.
fn play(regions: &[Range<u64>], reserved: &[Range<u64>], seed: u64) {
    let mut pair = Pair::new(regions, reserved, seed);
    pair.check();
    let start = pair.totals();
    // More is taken than put for a while, then less.
    for step in 0..if cfg!(miri) { 4 } else { 1_500 } {
        let filling = step / 100 % 2 == 0;
        let kind = MigrateType::ALL[pair.below(NR_MIGRATE_TYPES)];
        match pair.below(10) {
            0 => {
                let nr = pair.below(700);
                pair.take_pages(kind, nr);
            }
            1..3 => {
                let nr = pair.below(20);
                pair.take_pages(kind, nr);
            }
            3..6 if filling => {
                let order = Order::new(u8::try_from(pair.below(11)).unwrap()).unwrap();
                pair.take_block(kind, order);
            }
            _ => {
                let nr = pair.below(if filling { 30 } else { 200 }).min(pair.taken.len());
                for _ in 0..nr {
                    let which = pair.below(pair.taken.len());
                    pair.put(which);
                }
            }
        }
        pair.check();
    }
    while !pair.taken.is_empty() {
        let which = pair.below(pair.taken.len());
        pair.put(which);
    }
    pair.check();
    assert_eq!(pair.totals(), start, "all memory is in one piece again");
}

const NR_SEEDS: u64 = if cfg!(miri) { 1 } else { 6 };

#[test]
fn random_requests_agree_with_flags() {
    for seed in 1..=NR_SEEDS {
        play(from_ref(&(0..4096)), &[], seed);
    }
}

#[test]
fn random_requests_agree_with_flags_where_memory_has_holes() {
    // An odd first pageblock, one pageblock in two regions, and a hole without metadata.
    let regions = [512..1700, 1800..2100, 9000..11_264];
    for seed in 1..=NR_SEEDS {
        play(&regions, &[600..601, 1690..1810, 10_000..10_100], 0x1234 + seed);
    }
}

#[test]
fn a_request_that_cannot_move_takes_over_a_pageblock_that_is_half_free() {
    let [unmovable, movable, reclaimable] = MigrateType::ALL;
    let kinds = |pair: &Pair| {
        let mut kinds = [0; NR_MIGRATE_TYPES];
        pair.buddy.count_pageblocks(0..1, &mut kinds);
        kinds
    };
    for (kind, nr_used, then) in [
        (unmovable, 256, [1, 0, 0]),
        (unmovable, 257, [0, 1, 0]),
        (reclaimable, 256, [0, 0, 1]),
        (reclaimable, 257, [0, 1, 0]),
    ] {
        let mut pair = Pair::new(&[0..512, 512..513], from_ref(&(512..513)), 1);
        pair.take_pages(movable, 256);
        pair.take_pages(movable, nr_used - 256);
        pair.take_pages(kind, 1);
        assert_eq!(kinds(&pair), then, "{kind:?} with {nr_used} frames in use");
    }
}

#[test]
fn a_movable_request_leaves_other_pageblocks_their_kind() {
    let [unmovable, movable, _] = MigrateType::ALL;
    let mut pair = Pair::new(from_ref(&(0..512)), &[], 1);
    pair.take_pages(unmovable, 1);
    pair.take_pages(movable, 1);
    pair.check();
    let mut kinds = [0; NR_MIGRATE_TYPES];
    pair.buddy.count_pageblocks(0..1, &mut kinds);
    assert_eq!(kinds, [1, 0, 0]);
}

#[test]
#[should_panic(expected = "not aligned to order 2")]
fn a_misaligned_block_is_refused() {
    let mut pair = Pair::new(from_ref(&(0..512)), &[], 1);
    pair.take_pages(MigrateType::Movable, 512);
    pair.buddy.put_block(Pfn::new(2), 0, Order::new(2).unwrap());
}

/// Makes one book wrong.
type Spoil = fn(&mut Buddy);

#[test]
fn each_book_that_is_wrong_is_found() {
    // A whole pair, and two pageblocks on the list of order 6: pageblock 2 is its head, 3 its end.
    const LIST: usize = partial_list(MigrateType::Movable, 6);
    let spoils: [(Book, Spoil); 14] = [
        (Book::BlockFree, |buddy| buddy.blocks[0].nr_free -= 1),
        (Book::BlockFree, |buddy| buddy.bitmaps[3].change_word(1, |word| word & !1)),
        (Book::FrameOutside, |buddy| {
            buddy.bitmaps[3].change_word(7, |word| word | 1 << 63);
            buddy.blocks[3].nr_free += 1;
        }),
        (Book::FrameReserved, |buddy| {
            buddy.bitmaps[2].change_word(0, |word| word | 1 << 2);
            buddy.blocks[2].nr_free += 1;
        }),
        (Book::BlockList, |buddy| buddy.blocks[2].filed = Filed::Partial(5)),
        (Book::BlockList, |buddy| buddy.blocks[1].filed = Filed::Whole),
        (Book::BlockList, |buddy| buddy.blocks[3].filed = Filed::Nowhere),
        (Book::BlockLink, |buddy| buddy.blocks[2].next = 0),
        (Book::BlockLink, |buddy| buddy.blocks[3].prev = NONE),
        (Book::BlockLink, |buddy| buddy.heads[LIST] = NONE),
        (Book::ListLength, |buddy| {
            // A circle that does not begin at the head.
            buddy.heads[LIST] = NONE;
            (buddy.blocks[2].prev, buddy.blocks[3].next) = (3, 2);
        }),
        (Book::ListLength, |buddy| buddy.heads[PAIRS - 1] = 2),
        (Book::OrderMask, |buddy| buddy.order_mask[MigrateType::Movable.index()] ^= 1),
        (Book::ShardFree, |buddy| buddy.nr_free += 1),
    ];
    let regions = [0..1024, 2048..2248, 3072..3272];
    for (number, (book, spoil)) in spoils.into_iter().enumerate() {
        let mut pair = Pair::new(&regions, &[2050..2051, 3074..3075], 1);
        pair.check();
        spoil(&mut pair.buddy);
        let error = pair.check_books().unwrap_err();
        assert_eq!(error.book, book, "number {number}: {error}");
    }
}
