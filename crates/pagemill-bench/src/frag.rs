//! Fragmentation benchmark: how many 2 MiB blocks are available after random churn.
//!
//! Fills an arena with single pages, frees half of them at random, and then runs rounds of churn, which
//! free a random tenth and allocate as many again, one at a time and in bulk. After each step it counts
//! the whole blocks of 2 MiB. The test is that of LLFree.
//!
//! One page in eight is marked to be kept, and in the end all others are freed. In one [`Life`] of the
//! arena the allocator knows the kept pages (they are unmovable, the others movable) and groups them;
//! in the other one all pages have one migrate type.
//!
//! # Source
//! `llfree` the evaluation of fragmentation. Differs: pages are freed and allocated in bulk, too.

use anyhow::ensure;
use pagemill::stats::NR_PAGE_ORDERS;
use pagemill::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use pagemill::{AllocPages, Gfp, Order, Page, PageAllocator};
use pagemill_host::Host;

use crate::rng::Rng;

/// The parameters of the benchmark.
#[derive(Clone, Copy, Debug)]
pub struct FragExperiment {
    /// Number of rounds of churn, each of them in both ways.
    pub rounds: usize,
    /// Seed of the random choices.
    pub seed: u64,
}

/// The migrate types that the allocator sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kinds {
    /// All are unmovable.
    One,
    /// Kept pages are unmovable, the others movable.
    Two,
}

/// The step before a look at the arena.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Every page was allocated.
    Filled,
    /// A random half was freed.
    Halved,
    /// In this round, pages were freed and allocated one at a time.
    Single(usize),
    /// In this round, pages were freed and allocated in bulk.
    Bulk(usize),
    /// All but one page in eight were freed.
    Kept,
    /// All pages were freed.
    Emptied,
}

impl Step {
    /// Returns the round of churn of the step, if it is one.
    pub const fn round(self) -> Option<usize> {
        match self {
            Self::Single(round) | Self::Bulk(round) => Some(round),
            _ => None,
        }
    }
}

/// The state of the arena after one step, with the per-CPU lists drained.
#[derive(Clone, Debug)]
pub struct Look {
    /// The last step.
    pub step: Step,
    /// Pages in use.
    pub nr_used: usize,
    /// Pages that are free.
    pub nr_free: u64,
    /// Free blocks by order; each frame is counted once, in its largest free block.
    pub free_blocks: [u64; NR_PAGE_ORDERS],
    /// Blocks of 2 MiB that could be allocated at the same time.
    pub nr_allocated: u64,
}

impl Look {
    /// Returns how many blocks of `order` the free blocks of that order and above hold.
    pub fn nr_blocks(&self, order: Order) -> u64 {
        let order = usize::from(order.value());
        let larger = self.free_blocks.iter().enumerate().skip(order);
        larger.map(|(larger, count)| count << (larger - order)).sum()
    }

    /// Returns how many blocks of `order` the free pages would make without fragmentation.
    pub fn nr_at_best(&self, order: Order) -> u64 {
        self.nr_free / order.nr_pages() as u64
    }
}

/// All steps of one arena.
#[derive(Clone, Debug)]
pub struct Life {
    /// The migrate types.
    pub kinds: Kinds,
    /// The state after each step.
    pub looks: Vec<Look>,
}

impl Life {
    /// Returns the last state after a step for which `is` returns true.
    pub fn last(&self, is: impl Fn(Step) -> bool) -> Option<&Look> {
        self.looks.iter().rfind(|look| is(look.step))
    }
}

/// One in this many pages is kept in the end.
pub const KEPT_ONE_IN: usize = 8;
/// One in this many pages is freed and allocated again in each step of churn.
pub const CHURNED_ONE_IN: usize = 10;
/// Pages per bulk call.
pub const BATCH: usize = 64;

impl FragExperiment {
    /// Runs all steps on a new allocator.
    ///
    /// # Errors
    /// If pages are lost, or blocks that were whole at the start are not whole in the end.
    pub fn run(&self, frames: &PageAllocator<Host>, kinds: Kinds) -> anyhow::Result<Life> {
        let at_first = Arena::new(frames, kinds, self.seed).look(Step::Emptied);
        let mut arena = Arena::new(frames, kinds, self.seed);
        let mut looks = Vec::new();
        arena.fill();
        looks.push(arena.look(Step::Filled));
        arena.free_singly(arena.nr_used() / 2);
        looks.push(arena.look(Step::Halved));
        for round in 1..=self.rounds {
            arena.churn_singly()?;
            looks.push(arena.look(Step::Single(round)));
            arena.churn_in_bulk()?;
            looks.push(arena.look(Step::Bulk(round)));
        }
        arena.free_passing();
        looks.push(arena.look(Step::Kept));
        arena.free_singly(arena.nr_used());
        let last = arena.look(Step::Emptied);
        let (whole, whole_again) = (at_first.nr_allocated, last.nr_allocated);
        ensure!(
            (last.nr_free, whole_again) == (at_first.nr_free, whole),
            "{} pages were free at first and {} are in the end; {whole} blocks of 2 MiB and \
             {whole_again}",
            at_first.nr_free,
            last.nr_free,
        );
        looks.push(last);
        Ok(Life { kinds, looks })
    }
}

type FramePage<'a> = Page<&'a PageAllocator<Host>>;

/// Whether a page is kept in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Kept,
    Passing,
}

/// An arena and all its pages in use.
struct Arena<'a> {
    frames: &'a PageAllocator<Host>,
    kinds: Kinds,
    rng: Rng,
    kept: Vec<FramePage<'a>>,
    passing: Vec<FramePage<'a>>,
}

impl<'a> Arena<'a> {
    fn new(frames: &'a PageAllocator<Host>, kinds: Kinds, seed: u64) -> Self {
        Self { frames, kinds, rng: Rng::new(seed), kept: Vec::new(), passing: Vec::new() }
    }

    fn nr_used(&self) -> usize {
        self.kept.len() + self.passing.len()
    }

    /// Returns the flags of allocations: down to the last page, so that watermarks have no effect.
    fn gfp(&self, fate: Fate) -> Gfp {
        let kind = match (self.kinds, fate) {
            (Kinds::Two, Fate::Passing) => Gfp::HIGHUSER_MOVABLE,
            _ => Gfp::KERNEL,
        };
        kind | Gfp::MEMALLOC
    }

    fn pages(&mut self, fate: Fate) -> &mut Vec<FramePage<'a>> {
        match fate {
            Fate::Kept => &mut self.kept,
            Fate::Passing => &mut self.passing,
        }
    }

    fn fill(&mut self) {
        loop {
            let kept = self.rng.below(KEPT_ONE_IN) == 0;
            let fate = if kept { Fate::Kept } else { Fate::Passing };
            let Some(page) = self.frames.alloc_page(self.gfp(fate)) else { return };
            self.pages(fate).push(page);
        }
    }

    /// Removes one page at random.
    fn pick(&mut self) -> Option<(Fate, FramePage<'a>)> {
        if self.nr_used() == 0 {
            return None;
        }
        let index = self.rng.below(self.nr_used());
        match index.checked_sub(self.kept.len()) {
            None => Some((Fate::Kept, self.kept.swap_remove(index))),
            Some(index) => Some((Fate::Passing, self.passing.swap_remove(index))),
        }
    }

    /// Frees `nr` pages at random, one at a time, and returns their fates.
    fn free_singly(&mut self, nr: usize) -> Vec<Fate> {
        (0..nr).map_while(|_| self.pick()).map(|(fate, _freed)| fate).collect()
    }

    /// Frees all pages that are not kept, in random order.
    fn free_passing(&mut self) {
        while !self.passing.is_empty() {
            let index = self.rng.below(self.passing.len());
            drop(self.passing.swap_remove(index));
        }
    }

    fn churn_singly(&mut self) -> anyhow::Result<()> {
        for fate in self.free_singly(self.nr_used() / CHURNED_ONE_IN) {
            let page = self.frames.alloc_page(self.gfp(fate));
            let Some(page) = page else { anyhow::bail!("a page was freed and cannot be had") };
            self.pages(fate).push(page);
        }
        Ok(())
    }

    fn churn_in_bulk(&mut self) -> anyhow::Result<()> {
        let mut slots = [const { None }; BATCH];
        let mut fates = Vec::new();
        let nr = self.nr_used() / CHURNED_ONE_IN;
        while fates.len() < nr {
            let slots = &mut slots[..BATCH.min(nr - fates.len())];
            for slot in &mut *slots {
                *slot = self.pick().map(|(fate, page)| {
                    fates.push(fate);
                    page
                });
            }
            self.frames.release_pages(slots);
        }
        for batch in fates.chunks(BATCH) {
            let nr_kept = batch.iter().filter(|&&fate| fate == Fate::Kept).count();
            for (fate, nr) in [(Fate::Kept, nr_kept), (Fate::Passing, batch.len() - nr_kept)] {
                let slots = &mut slots[..nr];
                let got = self.frames.alloc_pages_bulk(self.gfp(fate), slots);
                ensure!(got == nr, "{nr} pages were freed and {got} of them can be had");
                self.pages(fate).extend(slots.iter_mut().filter_map(Option::take));
            }
        }
        Ok(())
    }

    /// Reads the free block counts and then allocates these blocks; leaves all pages as they are.
    fn look(&self, step: Step) -> Look {
        self.frames.drain_all_pages();
        let mut free_blocks = [0; NR_PAGE_ORDERS];
        for zone in self.frames.zone_info() {
            for (sum, count) in free_blocks.iter_mut().zip(zone.buddyinfo()) {
                *sum += count;
            }
        }
        // The migrate type of most pages: a block that is taken gets the type of its request.
        let gfp = self.gfp(Fate::Passing);
        let folios: Vec<_> =
            core::iter::from_fn(|| self.frames.alloc_pages(gfp, PAGEBLOCK_ORDER)).collect();
        let nr_allocated = folios.len() as u64;
        drop(folios);
        let nr_free = self.frames.nr_free_pages();
        Look { step, nr_used: self.nr_used(), nr_free, free_blocks, nr_allocated }
    }
}

/// The smallest arena that has a block of 2 MiB.
pub const MIN_NR_PAGES: u64 = PAGEBLOCK_NR_PAGES as u64;

#[cfg(test)]
mod tests {
    use pagemill_host::{AllocatorConfig, ArenaConfig, allocator};

    use super::*;

    fn live(kinds: Kinds, seed: u64) -> Life {
        let config = AllocatorConfig {
            nr_cpus: Some(1),
            ..AllocatorConfig::new(ArenaConfig::new(16 << 20))
        };
        let frames = allocator(&config).unwrap();
        FragExperiment { rounds: 2, seed }.run(&frames, kinds).unwrap()
    }

    #[test]
    fn every_step_is_looked_at_and_no_page_gets_lost() {
        let life = live(Kinds::One, 1);
        let steps: Vec<Step> = life.looks.iter().map(|look| look.step).collect();
        let (single, bulk) = (Step::Single, Step::Bulk);
        let churn = [single(1), bulk(1), single(2), bulk(2)];
        assert_eq!(steps[..2], [Step::Filled, Step::Halved]);
        assert_eq!(steps[2..6], churn);
        assert_eq!(steps[6..], [Step::Kept, Step::Emptied]);
        for look in &life.looks {
            assert_eq!(look.nr_used as u64 + look.nr_free, 4096, "{look:?}");
            assert_eq!(look.nr_blocks(Order::ZERO), look.nr_free, "{look:?}");
            assert_eq!(look.nr_blocks(PAGEBLOCK_ORDER), look.nr_allocated, "{look:?}");
        }
        assert_eq!((life.looks[0].nr_free, life.looks[1].nr_free), (0, 2048));
        assert_eq!(life.looks[1].nr_at_best(PAGEBLOCK_ORDER), 4);
        assert_eq!(life.looks[7].nr_allocated, 8);
    }

    #[test]
    fn one_seed_is_one_life() {
        let blocks = |seed| {
            live(Kinds::Two, seed).looks.iter().map(|look| look.free_blocks).collect::<Vec<_>>()
        };
        assert_eq!(blocks(7), blocks(7));
        assert_ne!(blocks(7), blocks(8));
    }

    #[test]
    fn pages_that_are_told_apart_leave_more_blocks_whole() {
        let whole = |kinds| live(kinds, 1).last(|step| step == Step::Kept).unwrap().nr_allocated;
        assert_eq!(whole(Kinds::One), 0);
        assert!(whole(Kinds::Two) > 0);
    }
}
