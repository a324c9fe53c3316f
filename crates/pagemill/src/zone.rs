//! One zone: its free frames behind a lock, its limits, its counters.

use crate::buddy::Buddy;
use crate::gfp::ZoneKind;
use crate::handle::{Class, ListId, RawPage};
use crate::migratetype::{MigrateType, NR_MIGRATE_TYPES};
use crate::pageblock::{Runs, WORD_NR_PAGES, WordRun};
use crate::platform::Platform;
use crate::span::Spans;
use crate::stats::ZoneEvents;
use crate::sync::{Counter, Lock, LockGuard};
use crate::units::{MAX_ORDER, NodeId, Order, Pfn};
use crate::watermark::Watermarks;

/// A range of a node's memory with one purpose.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Zone {
    /// Guards the free frames and, for writing, `nr_free` and `events`.
    buddy: Lock<Buddy>,
    /// The number of free frames, for those who do not hold the lock.
    nr_free: Counter,
    /// What was taken and given back past the per-CPU lists.
    events: ZoneEvents,
    pub(crate) facts: ZoneFacts,
}

/// What does not change about a zone.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ZoneFacts {
    pub(crate) index: u16,
    pub(crate) kind: ZoneKind,
    pub(crate) node: NodeId,
    pub(crate) spans: Spans,
    /// Frames that were free at the start.
    pub(crate) managed: u64,
    /// Frames of the memory map, reserved ones included.
    pub(crate) present: u64,
    pub(crate) watermarks: Watermarks,
}

/// The zone lock, held with interrupts off.
struct Held<'a, P: Platform> {
    zone: &'a Zone,
    /// Taken out only by `drop`, which must unlock before it lets interrupts in.
    buddy: Option<LockGuard<'a, Buddy>>,
    platform: &'a P,
    irq_state: usize,
}

impl Zone {
    pub(crate) fn new(buddy: Buddy, facts: ZoneFacts) -> Self {
        let nr_free = Counter::new();
        nr_free.set(buddy.nr_free());
        Self { buddy: Lock::new(buddy), nr_free, events: ZoneEvents::new(), facts }
    }

    /// Returns the number of free frames, without the lock and so a moment old.
    #[inline]
    pub(crate) fn nr_free(&self) -> u64 {
        self.nr_free.get()
    }

    #[inline]
    pub(crate) fn list(&self, migratetype: MigrateType) -> ListId {
        ListId::new(self.facts.index, migratetype)
    }

    /// Takes up to `nr` single pages of a kind, as words of the frames' bitmap.
    ///
    /// # Concurrency
    /// Holds the zone lock once, for at most [`Runs::CAPACITY`] words.
    #[inline]
    pub(crate) fn rmqueue_bulk(
        &self,
        platform: &impl Platform,
        migratetype: MigrateType,
        nr: usize,
        runs: &mut Runs,
    ) -> usize {
        self.hold(platform).buddy().take_pages(migratetype, nr, runs)
    }

    /// Gives back single pages as words of the frames' bitmap.
    ///
    /// # Panics
    /// If a frame is free already or not of this zone.
    ///
    /// # Concurrency
    /// Holds the zone lock once, for at most [`Runs::CAPACITY`] words.
    #[inline]
    pub(crate) fn free_bulk(&self, platform: &impl Platform, runs: &Runs) {
        let mut held = self.hold(platform);
        for &run in runs.as_slice() {
            held.buddy().put_run(run);
        }
    }

    /// Takes one block and counts it.
    pub(crate) fn rmqueue(
        &self,
        platform: &impl Platform,
        migratetype: MigrateType,
        order: Order,
        count: impl FnOnce(&ZoneEvents),
    ) -> Option<RawPage> {
        let mut held = self.hold(platform);
        let pfn = held.buddy().take_block(migratetype, order)?;
        self.events.pgalloc.add(order.nr_pages() as u64);
        count(&self.events);
        Some(Class::new(self.list(migratetype), order).at(pfn))
    }

    /// Gives back one block and counts it.
    ///
    /// # Panics
    /// If a frame is free already or not of this zone.
    pub(crate) fn free(&self, platform: &impl Platform, pfn: Pfn, order: Order) {
        let mut held = self.hold(platform);
        held.buddy().put_block(pfn, order);
        self.events.pgfree.add(order.nr_pages() as u64);
    }

    /// Counts, under the zone lock, what went past the per-CPU lists.
    pub(crate) fn count(&self, platform: &impl Platform, count: impl FnOnce(&ZoneEvents)) {
        let _held = self.hold(platform);
        count(&self.events);
    }

    pub(crate) fn events(&self) -> &ZoneEvents {
        &self.events
    }

    /// Counts the free blocks of each order and the pageblocks, by kind of page.
    ///
    /// # Concurrency
    /// Takes the zone lock for [`Self::VIEW_STEP`] pageblocks at a time, so the sum of a zone in
    /// use is of no single moment.
    pub(crate) fn view(&self, platform: &impl Platform) -> ZoneView {
        let mut view = ZoneView::default();
        let nr_pageblocks = self.hold(platform).buddy().nr_pageblocks();
        for start in (0..nr_pageblocks).step_by(Self::VIEW_STEP) {
            let range = start..nr_pageblocks.min(start + Self::VIEW_STEP);
            let mut held = self.hold(platform);
            held.buddy().count_blocks(range.clone(), &mut view.free_blocks);
            held.buddy().count_pageblocks(range, &mut view.pageblocks);
        }
        view
    }

    /// Calls `visit` for each free frame, a few pageblocks at a time.
    pub(crate) fn for_each_free(&self, platform: &impl Platform, mut visit: impl FnMut(Pfn)) {
        let nr_pageblocks = self.hold(platform).buddy().nr_pageblocks();
        for block in 0..nr_pageblocks {
            self.hold(platform).buddy().for_each_free(block, &mut visit);
        }
    }

    const VIEW_STEP: usize = 16;

    #[inline]
    fn hold<'a, P: Platform>(&'a self, platform: &'a P) -> Held<'a, P> {
        let irq_state = platform.irq_save();
        let buddy = self.buddy.lock(|spins| platform.relax(spins));
        Held { zone: self, buddy: Some(buddy), platform, irq_state }
    }
}

impl<P: Platform> Held<'_, P> {
    #[inline]
    fn buddy(&mut self) -> &mut Buddy {
        self.buddy.as_mut().expect("taken out only by drop")
    }
}

impl<P: Platform> Drop for Held<'_, P> {
    #[inline]
    fn drop(&mut self) {
        if let Some(buddy) = self.buddy.take() {
            self.zone.nr_free.set(buddy.nr_free());
        }
        self.platform.irq_restore(self.irq_state);
    }
}

/// The state of a zone's frames, by kind of page and order.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct ZoneView {
    pub(crate) free_blocks: [[u64; MAX_ORDER.value() as usize + 1]; NR_MIGRATE_TYPES],
    pub(crate) pageblocks: [u64; NR_MIGRATE_TYPES],
}

/// Gathers pages of one zone into words, and returns how many of them fitted into `runs`.
///
/// # Panics
/// If a page occurs twice in a row of pages of one word: a double free.
#[inline]
pub(crate) fn gather(pages: &[RawPage], runs: &mut Runs) -> usize {
    const IN_WORD: u64 = WORD_NR_PAGES as u64 - 1;
    let mut gathered = 0;
    while let Some(first) = pages.get(gathered) {
        if runs.is_full() {
            break;
        }
        let base = first.pfn().value() & !IN_WORD;
        if let Some(word) = pages[gathered..].first_chunk()
            && is_whole_word(word)
        {
            runs.push(WordRun { base, mask: u64::MAX });
            gathered += WORD_NR_PAGES;
            continue;
        }
        let mut mask = 0_u64;
        for page in &pages[gathered..] {
            let in_word = page.pfn().value() ^ base;
            if in_word > IN_WORD {
                break;
            }
            let bit = 1 << in_word;
            assert!(mask & bit == 0, "double free of frame {}", page.pfn());
            mask |= bit;
            gathered += 1;
        }
        runs.push(WordRun { base, mask });
    }
    gathered
}

/// Tells whether the pages are an aligned group in ascending order, as a refill leaves them.
#[inline]
fn is_whole_word(pages: &[RawPage; WORD_NR_PAGES]) -> bool {
    let first = pages[0].word();
    let in_order = |sum, (page, position): (&RawPage, u64)| sum | page.word() ^ (first + position);
    pages[0].pfn().value().is_multiple_of(WORD_NR_PAGES as u64)
        && pages.iter().zip(0..).fold(0, in_order) == 0
}
