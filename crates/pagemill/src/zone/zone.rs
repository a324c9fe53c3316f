//! One zone: allocates from and frees to its shards in batches of bitmap words; watermarks and
//! counters.

use crate::base::book::{Book, BookError, Place};
use crate::base::gfp::ZoneKind;
use crate::base::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::base::raw_page::{Class, ListId, RawPage};
use crate::base::stats::ZoneEvents;
use crate::base::sync::Counter;
use crate::base::units::{MAX_ORDER, NodeId, Order, PAGEBLOCK_ORDER, Pfn};
use crate::platform::platform::Platform;
use crate::platform::trace::Event;
use crate::zone::block_state::{BlockStates, Special};
use crate::zone::buddy::Stolen;
use crate::zone::frame_words::{
    Blocks, FrameWord, FrameWords, FreedWords, MAX_NR_WORDS, split_word,
};
use crate::zone::pageblock::WORD_NR_PAGES;
use crate::zone::shard::Shard;
use crate::zone::shard_map::ShardMap;
use crate::zone::span::{Span, Spans};
use crate::zone::watermark::Marks;

/// A range of a node's memory with one purpose.
///
/// Its free frames are in shards. A CPU takes from its own shard as long as that has free frames.
#[derive(Debug)]
pub(crate) struct Zone {
    /// The shards; their number is a power of two.
    pub(super) shards: &'static [Shard],
    pub(crate) facts: ZoneFacts,
    /// Frames that were free at setup or have been handed in; written together with the watermarks.
    pub(crate) managed: Counter,
    pub(crate) marks: Marks,
    /// What calls by frame number read of the pageblocks.
    pub(crate) states: BlockStates,
}

/// The immutable facts about a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneFacts {
    pub(crate) index: u16,
    /// The class of single pages of the first migrate type.
    pub(crate) first_class: Class,
    pub(crate) kind: ZoneKind,
    pub(crate) node: NodeId,
    pub(crate) spans: Spans,
    /// Frames of the memory map, reserved ones included.
    pub(crate) present: u64,
    /// First pageblock of each shard.
    pub(crate) shard_map: ShardMap,
}

/// A CPU's index on its node, which selects the shard of each zone that it takes from first.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ShardHint(pub(crate) u32);

impl Zone {
    /// # Panics
    /// If the number of shards is not a power of two.
    pub(crate) fn new(shards: &'static [Shard], facts: ZoneFacts, states: BlockStates) -> Self {
        assert!(shards.len().is_power_of_two(), "{} shards", shards.len());
        let (managed, marks) = (Counter::new(), Marks::new());
        let zone = Self { shards, facts, managed, marks, states };
        zone.managed.set(zone.nr_free());
        zone
    }

    /// Returns the number of free frames.
    ///
    /// # Concurrency
    /// Lock-free and approximate: reads each shard's counter once. Frames that move between shards
    /// during the call may be counted twice or not at all.
    #[inline]
    pub(crate) fn nr_free(&self) -> u64 {
        match self.shards {
            [shard] => shard.nr_free(),
            shards => shards.iter().map(Shard::nr_free).sum(),
        }
    }

    /// Yields the number of free frames of each shard, each read once.
    pub(crate) fn shard_free(&self) -> impl Iterator<Item = u64> + use<> {
        self.shards.iter().map(Shard::nr_free)
    }

    /// Returns whether more than `nr` frames are free. Reads shards from `home` on, until they have
    /// enough.
    #[inline(never)]
    pub(crate) fn has_more_than(&self, nr: u64, home: ShardHint) -> bool {
        let mut sum = 0;
        self.shards_from(home).any(|shard| {
            sum += shard.nr_free();
            sum > nr
        })
    }

    #[inline]
    pub(crate) fn list(&self, migratetype: MigrateType) -> ListId {
        ListId::new(self.facts.index, migratetype)
    }

    /// Takes up to `nr` single pages of a migrate type, as words of the frames' bitmap.
    ///
    /// Goes to other shards until it has half of `nr`, and to pageblocks of another migrate type only
    /// if it has nothing.
    ///
    /// # Concurrency
    /// Locks one shard after the other, each once or twice, for at most
    /// [`MAX_NR_WORDS`] words together.
    #[inline]
    pub(crate) fn rmqueue_bulk(
        &self,
        platform: &impl Platform,
        home: ShardHint,
        migratetype: MigrateType,
        nr: usize,
        words: &mut FrameWords,
    ) -> usize {
        let mut taken = 0;
        for (shard, fallback) in self.ways(home, Order::ZERO) {
            if taken * 2 >= nr.max(1) || fallback && taken > 0 || words.is_full() {
                break;
            }
            let mut held = shard.hold(platform);
            taken += held.buddy().take_pages(migratetype, fallback, nr - taken, words);
            let stolen = held.buddy().take_stolen();
            drop(held);
            self.trace_stolen(platform, migratetype, stolen);
        }
        taken
    }

    /// Frees single pages.
    ///
    /// # Panics
    /// If a frame is already free or not in this zone.
    ///
    /// # Concurrency
    /// Locks each shard that owns some of the pages, repeatedly, for at most
    /// [`MAX_NR_WORDS`] words each time.
    #[track_caller]
    pub(crate) fn free_pages(&self, platform: &impl Platform, pages: &[RawPage]) {
        let mut rest = pages;
        while !rest.is_empty() {
            let mut freed_words = FreedWords::new();
            rest = self.gather(rest, &mut freed_words);
            for (shard, number) in self.shards.iter().zip(0..) {
                if let Some(freed_words) = freed_words.of(number) {
                    shard.hold(platform).buddy().put_all(freed_words);
                }
            }
        }
    }

    /// Groups pages into words of the frames' bitmap, by shard, and returns the pages that did not fit.
    ///
    /// # Panics
    /// If a page is not in this zone, or occurs twice.
    #[inline]
    fn gather<'a>(&self, pages: &'a [RawPage], freed_words: &mut FreedWords) -> &'a [RawPage] {
        let mut rest = pages;
        let mut last = &Span::EMPTY;
        freed_words.fill(|| {
            let pfn = rest.first()?.pfn().value();
            let (shard, block) = self.locate_near(&mut last, pfn);
            let (mask, nr, others) = split_word(rest, pfn);
            rest = others;
            Some((shard, FrameWord::new(block, pfn, mask, nr)))
        });
        rest
    }

    /// Takes one block and counts it.
    pub(crate) fn rmqueue(
        &self,
        platform: &impl Platform,
        home: ShardHint,
        migratetype: MigrateType,
        order: Order,
        count: impl Fn(&ZoneEvents),
    ) -> Option<RawPage> {
        for (shard, fallback) in self.ways(home, order) {
            let class = Class::new(self.list(migratetype), order);
            if let Some(block) = self.take_from(platform, shard, fallback, class, &count) {
                return Some(block);
            }
        }
        None
    }

    /// Takes one block from one shard and counts it; with `fallback`, also from pageblocks of another
    /// migrate type.
    #[inline]
    pub(crate) fn take_from(
        &self,
        platform: &impl Platform,
        shard: &Shard,
        fallback: bool,
        class: Class,
        count: impl FnOnce(&ZoneEvents),
    ) -> Option<RawPage> {
        let (migratetype, order) = (class.list().migratetype(), class.order());
        let mut held = shard.hold(platform);
        let pfn = held.buddy().take_block(migratetype, fallback, order)?;
        held.events().pgalloc.add(order.nr_pages() as u64);
        count(held.events());
        let stolen = held.buddy().take_stolen();
        drop(held);
        self.trace_stolen(platform, migratetype, stolen);
        Some(class.at(pfn))
    }

    /// Takes up to `nr` blocks of a migrate type and order into `blocks`, which has room for them, and
    /// returns their number.
    ///
    /// Goes to other shards until it has `nr`, and to pageblocks of another migrate type only if it has
    /// nothing. Calls `count` with the number that each shard gave, under its lock.
    ///
    /// # Concurrency
    /// Locks one shard after the other, for at most 16 blocks and
    /// [`MAX_NR_WORDS`] words each. So the result may be short
    /// although there are more.
    pub(crate) fn rmqueue_blocks(
        &self,
        platform: &impl Platform,
        home: ShardHint,
        class: Class,
        nr: usize,
        blocks: &mut Blocks,
        count: impl Fn(&ZoneEvents, usize),
    ) -> usize {
        let (migratetype, order) = (class.list().migratetype(), class.order());
        let mut left = nr;
        for (shard, fallback) in self.ways(home, order) {
            if left == 0 || fallback && left < nr && order < PAGEBLOCK_ORDER {
                break;
            }
            let most = left.min(blocks_per_hold(order));
            let mut held = shard.hold(platform);
            let mut taken = 0;
            while taken < most {
                let fallback = fallback && taken == 0 && left == nr;
                let Some(pfn) = held.buddy().take_block(migratetype, fallback, order) else {
                    break;
                };
                blocks.push_all([class.at(pfn)]);
                taken += 1;
            }
            if taken > 0 {
                count(held.events(), taken);
            }
            let stolen = held.buddy().take_stolen();
            drop(held);
            self.trace_stolen(platform, migratetype, stolen);
            left -= taken;
        }
        nr - left
    }

    /// Frees blocks of one order. Calls `count` with the number that each shard got, under its lock.
    ///
    /// # Panics
    /// If a frame is already free or not in this zone.
    ///
    /// # Concurrency
    /// Locks the shard of each block, once for consecutive blocks of one shard, for at most 16 blocks and
    /// [`MAX_NR_WORDS`] words each time.
    #[track_caller]
    pub(crate) fn free_blocks(
        &self,
        platform: &impl Platform,
        order: Order,
        blocks: &[RawPage],
        count: impl Fn(&ZoneEvents, usize),
    ) {
        let mut rest = blocks;
        while let Some(first) = rest.first() {
            let (number, mut number_in_zone) = self.locate_block(first.pfn().value(), order);
            let mut held = self.shards[usize::from(number)].hold(platform);
            let mut nr = 0;
            loop {
                held.buddy().put_block(rest[nr].pfn(), number_in_zone, order);
                nr += 1;
                if nr == rest.len().min(blocks_per_hold(order)) {
                    break;
                }
                let (other, next) = self.locate_block(rest[nr].pfn().value(), order);
                if other != number {
                    break;
                }
                number_in_zone = next;
            }
            count(held.events(), nr);
            drop(held);
            rest = &rest[nr..];
        }
    }

    /// Frees one block and counts it.
    ///
    /// # Panics
    /// If a frame is already free or not in this zone.
    #[track_caller]
    pub(crate) fn free(&self, platform: &impl Platform, pfn: Pfn, order: Order) {
        let (shard, block) = self.locate_block(pfn.value(), order);
        let mut held = self.shards[usize::from(shard)].hold(platform);
        held.buddy().put_block(pfn, block, order);
        held.events().pgfree.add(order.nr_pages() as u64);
    }

    /// Counts, under a shard's lock, pages that bypassed the per-CPU lists.
    pub(crate) fn count(&self, platform: &impl Platform, count: impl FnOnce(&ZoneEvents)) {
        count(self.shards[0].hold(platform).events());
    }

    /// Yields the counters of each shard, for reading.
    pub(crate) fn events(&self) -> impl Iterator<Item = &ZoneEvents> {
        self.shards.iter().map(Shard::events)
    }

    /// Counts the free blocks of each order and the pageblocks, by migrate type.
    ///
    /// # Concurrency
    /// Holds a shard's lock for [`Self::VIEW_STEP`] pageblocks at a time, so the result is not a
    /// snapshot of a zone in use.
    pub(crate) fn view(&self, platform: &impl Platform) -> ZoneView {
        let mut view = ZoneView::default();
        for shard in self.shards {
            let nr_pageblocks = shard.hold(platform).buddy().nr_pageblocks();
            for start in (0..nr_pageblocks).step_by(Self::VIEW_STEP) {
                let range = start..nr_pageblocks.min(start + Self::VIEW_STEP);
                let mut held = shard.hold(platform);
                held.buddy().count_blocks(range.clone(), &mut view.free_blocks);
                held.buddy().count_pageblocks(range, &mut view.pageblocks);
            }
        }
        view
    }

    /// Checks the zone's books.
    pub(crate) fn check(&self, platform: &impl Platform) -> Result<(), BookError> {
        for shard in self.shards {
            shard.check(platform, self.facts.spans, &self.states)?;
        }
        let nr_reserved = self.states.set(Special::Reserved).count();
        let expected = self.facts.present.saturating_sub(nr_reserved);
        self.place().expect(Book::ZoneManaged, self.managed.get(), expected)
    }

    /// Returns the zone as the place of a wrong value.
    pub(crate) fn place(&self) -> Place {
        Place::Zone(self.facts.index.into())
    }

    /// Returns whether a frame of the zone is free in it.
    pub(crate) fn is_free(&self, platform: &impl Platform, pfn: Pfn) -> bool {
        let (shard, block) = self.locate(pfn.value());
        self.shards[usize::from(shard)].hold(platform).buddy().is_free(block, pfn.value())
    }

    /// Calls `visit` for each free frame, a few pageblocks at a time.
    pub(crate) fn for_each_free(&self, platform: &impl Platform, mut visit: impl FnMut(Pfn)) {
        for shard in self.shards {
            let nr_pageblocks = shard.hold(platform).buddy().nr_pageblocks();
            for block in 0..nr_pageblocks {
                shard.hold(platform).buddy().for_each_free(block, &mut visit);
            }
        }
    }

    /// Traces that the zone gave pages to a list.
    #[inline]
    pub(crate) fn gave(
        &self,
        migratetype: MigrateType,
        order: Order,
        nr_pages: usize,
        percpu_refill: bool,
    ) -> Event {
        let ZoneFacts { node, index: zone, .. } = self.facts;
        Event::PageAllocZoneLocked { node, zone, migratetype, order, nr_pages, percpu_refill }
    }

    /// Traces that the zone got pages back from a list.
    pub(crate) fn got_back(&self, migratetype: MigrateType, nr_pages: usize) -> Event {
        let ZoneFacts { node, index: zone, .. } = self.facts;
        Event::PagePcpuDrain { node, zone, migratetype, nr_pages }
    }

    /// Traces what was taken from pageblocks of another migrate type, after the lock is released.
    #[inline]
    pub(super) fn trace_stolen(
        &self,
        platform: &impl Platform,
        migratetype: MigrateType,
        stolen: Option<Stolen>,
    ) {
        let Some(stolen) = stolen else { return };
        platform.trace(Event::PageAllocExtfrag {
            pfn: stolen.pageblock,
            order: stolen.order,
            migratetype,
            fallback_migratetype: stolen.from,
            change_ownership: stolen.is_whole,
            nr_pageblocks: stolen.nr_pageblocks,
        });
    }

    const VIEW_STEP: usize = 4;

    /// Returns the shard that a CPU takes from first.
    pub(crate) fn home(&self, ShardHint(home): ShardHint) -> &'static Shard {
        &self.shards[home as usize & (self.shards.len() - 1)]
    }

    /// Yields all shards, from `home` on.
    #[inline]
    pub(super) fn shards_from(
        &self,
        ShardHint(home): ShardHint,
    ) -> impl Iterator<Item = &'static Shard> + use<> {
        let shards = self.shards;
        (0..shards.len()).map(move |step| &shards[(home as usize + step) & (shards.len() - 1)])
    }

    /// Yields where to look for a block of `order`, and whether to take it from pageblocks of other
    /// migrate types: first not, in each shard that appears to have enough frames, then so, in all
    /// shards.
    ///
    /// Whole pageblocks have no migrate type, so for these there is no second round.
    #[inline]
    fn ways(
        &self,
        home: ShardHint,
        order: Order,
    ) -> impl Iterator<Item = (&'static Shard, bool)> + use<> {
        let nr_pages = order.nr_pages() as u64;
        let once = self.shards.len() == 1 || order >= PAGEBLOCK_ORDER;
        let own = self.shards_from(home).filter(move |shard| !once && shard.nr_free() >= nr_pages);
        own.map(|shard| (shard, false)).chain(self.shards_from(home).map(|shard| (shard, true)))
    }

    /// Returns the indexes of the shard and of the first pageblock of a block.
    ///
    /// # Panics
    /// If one of its frames is not in this zone.
    #[inline]
    fn locate_block(&self, pfn: u64, order: Order) -> (u8, u32) {
        let Some(span) = self.facts.spans.find(pfn) else { not_here(pfn) };
        // No overflow: a frame number has 40 bits.
        let last = pfn.wrapping_add(order.nr_pages() as u64 - 1);
        if !span.holds(last) {
            // Adjacent spans share a pageblock, or follow each other: then so do the frames in between.
            self.locate(last);
        }
        let block = span.block(pfn);
        (self.facts.shard_map.shard(block), block)
    }

    /// Returns the indexes of a frame's shard and of its pageblock in the zone.
    ///
    /// # Panics
    /// If the frame is not in this zone.
    pub(super) fn locate(&self, pfn: u64) -> (u8, u32) {
        self.locate_near(&mut &Span::EMPTY, pfn)
    }

    /// Like [`locate`](Self::locate), for walks over many pages; see [`Spans::find_near`].
    #[inline]
    pub(super) fn locate_near(&self, last: &mut &'static Span, pfn: u64) -> (u8, u32) {
        let Some(span) = self.facts.spans.find_near(last, pfn) else { not_here(pfn) };
        let block = span.block(pfn);
        (self.facts.shard_map.shard(block), block)
    }
}

/// The state of a zone's frames, by migrate type and order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ZoneView {
    pub(crate) free_blocks: [[u64; MAX_ORDER.value() as usize + 1]; NR_MIGRATE_TYPES],
    pub(crate) pageblocks: [u64; NR_MIGRATE_TYPES],
}

/// Returns how many blocks of `order` are taken or freed under one hold of a shard's lock: at most 16,
/// which takes as long as 64 words of single pages, and at most 64 words.
fn blocks_per_hold(order: Order) -> usize {
    (MAX_NR_WORDS * WORD_NR_PAGES / order.nr_pages()).min(16)
}

#[cold]
#[inline(never)]
fn not_here(pfn: u64) -> ! {
    panic!("free of frame {pfn:#x}: it is not in this zone")
}
