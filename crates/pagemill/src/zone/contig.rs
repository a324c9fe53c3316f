//! Contiguous ranges of a zone: found, taken and freed across pageblocks and shards, under short holds.

use core::ops::Range;

use crate::base::migratetype::MigrateType;
use crate::base::stats::ZoneEvents;
use crate::base::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::platform::platform::Platform;
use crate::zone::buddy::Buddy;
use crate::zone::pageblock::position_in_block;
use crate::zone::runs::{Run, Scan, Wanted, best_fit};
use crate::zone::shard::Shard;
use crate::zone::span::Span;
use crate::zone::zone::{ShardHint, Zone};

/// Maximum number of pageblocks of which frames are taken or freed under one hold of a shard's lock.
const MAX_NR_BLOCKS: usize = 16;

/// How often the longest run of a zone is searched for again because other threads took frames of the
/// one that was found.
const MAX_NR_SEARCHES: usize = 8;

impl Zone {
    /// Takes adjacent free frames, counts them and returns them: `wanted.max`, or else the longest run
    /// of at least `wanted.min`. Returns `None` if the zone has no such run.
    ///
    /// First looks for a tight place in a few pageblocks of each shard, then at all pageblocks in the
    /// order of their addresses: those of the request's migrate type and wholly free ones first, all
    /// others then.
    ///
    /// # Concurrency
    /// Locks one shard at a time, for at most [`MAX_NR_READ`](crate::zone::runs::MAX_NR_READ) bitmaps of
    /// a scan or as many pageblocks as [`best_fit`] looks at, and for at most [`MAX_NR_BLOCKS`]
    /// pageblocks of a range that is taken. Frames of a range that cannot be taken in full are in use for
    /// a moment, and other threads may fail to find them; `has_put_back` is set then, and the caller wakes
    /// the requests that wait. Two threads cannot block each other forever, because both take frames in
    /// ascending order.
    pub(crate) fn take_contig(
        &self,
        platform: &impl Platform,
        home: ShardHint,
        wanted: &Wanted,
        has_put_back: &mut bool,
        count: impl FnOnce(&ZoneEvents, u64),
    ) -> Option<Run> {
        let is_enough = |shard: &&Shard| wanted.is_small() && shard.nr_free() >= wanted.max;
        for shard in self.shards_from(home).filter(is_enough) {
            let mut held = shard.hold(platform);
            let Some(run) = best_fit(held.buddy(), wanted) else { continue };
            let pfns = run.start..run.start + run.nr;
            let mut last = &Span::EMPTY;
            for (pfn, part) in parts(pfns) {
                let (_, block) = self.locate_near(&mut last, pfn);
                let taken = held.buddy().take_part(block, part, wanted.migratetype);
                taken.expect("the frames of a run are free");
            }
            count(held.events(), run.nr);
            return Some(run);
        }
        let mut found = self.search(platform, wanted, false, has_put_back);
        if let Err(NoRun { has_passed_over: true }) = found {
            found = self.search(platform, wanted, true, has_put_back);
        }
        let run = found.ok()?;
        self.count(platform, |events| count(events, run.nr));
        Some(run)
    }

    /// Scans all pageblocks, again if other threads took frames of the longest run.
    fn search(
        &self,
        platform: &impl Platform,
        wanted: &Wanted,
        fallback: bool,
        has_put_back: &mut bool,
    ) -> Result<Run, NoRun> {
        for _ in 0..MAX_NR_SEARCHES {
            if let Some(run) = self.scan(platform, wanted, fallback, has_put_back)? {
                return Ok(run);
            }
        }
        Err(NoRun { has_passed_over: false })
    }

    /// Looks at all pageblocks once, and takes the first place for all wanted frames, or else the longest
    /// run unless pageblocks were passed over because of their migrate type. Returns `Ok(None)` if other
    /// threads took frames of the longest run.
    ///
    /// # Errors
    /// If no such run was found.
    fn scan(
        &self,
        platform: &impl Platform,
        wanted: &Wanted,
        fallback: bool,
        has_put_back: &mut bool,
    ) -> Result<Option<Run>, NoRun> {
        let mut scan = Scan::new(*wanted, fallback);
        let (mut number, mut next) = (0, 0);
        while let Some(shard) = self.shards.get(number) {
            if shard.nr_free() == 0 {
                scan.pass();
                (number, next) = (number + 1, 0);
                continue;
            }
            let (found, is_end) = {
                let mut held = shard.hold(platform);
                let found = scan.step(held.buddy(), &mut next);
                (found, next >= held.buddy().nr_pageblocks())
            };
            if is_end {
                (number, next) = (number + 1, 0);
            }
            let Some(run) = found else { continue };
            let pfns = run.start..run.start + run.nr;
            let taken = self.take_range(platform, pfns, wanted.migratetype, has_put_back);
            let Err(used) = taken else {
                return Ok(Some(run));
            };
            // Continues behind the frame that another thread has taken meanwhile.
            scan.skip_to(used + 1);
            let (shard, block) = self.locate(used);
            number = shard.into();
            next = self.shards[number].hold(platform).buddy().own(block);
        }
        let has_passed_over = scan.has_passed_over();
        let longest = if has_passed_over { None } else { scan.longest() };
        let run = longest.ok_or(NoRun { has_passed_over })?;
        let pfns = run.start..run.start + run.nr;
        let taken = self.take_range(platform, pfns, wanted.migratetype, has_put_back);
        let is_taken = taken.is_ok();
        Ok(is_taken.then_some(run))
    }

    /// Takes frames `pfns` for pages of `migratetype`, without counting them.
    ///
    /// # Errors
    /// The first of them that is not free; none is taken then. Sets `has_put_back` if frames before it
    /// were in use for a moment; their pageblocks may have changed their migrate type.
    ///
    /// # Panics
    /// If one of them is not in this zone.
    pub(crate) fn take_range(
        &self,
        platform: &impl Platform,
        pfns: Range<u64>,
        migratetype: MigrateType,
        has_put_back: &mut bool,
    ) -> Result<(), u64> {
        let take = |buddy: &mut Buddy, block, part| buddy.take_part(block, part, migratetype);
        let (taken, result) = self.for_each_part(platform, pfns.clone(), Some(migratetype), take);
        if result.is_err() && taken > pfns.start {
            self.put_parts(platform, pfns.start..taken);
            *has_put_back = true;
        }
        result
    }

    /// Returns the first of frames `pfns` that is not free in the zone.
    ///
    /// # Panics
    /// If one of them is not in this zone.
    ///
    /// # Concurrency
    /// Locks as [`put_range`](Self::put_range) does.
    pub(crate) fn first_used(&self, platform: &impl Platform, pfns: Range<u64>) -> Option<u64> {
        let check = |buddy: &mut Buddy, block, part| buddy.check_free(block, part);
        self.for_each_part(platform, pfns, None, check).1.err()
    }

    /// Frees frames `pfns` and counts them.
    ///
    /// # Panics
    /// If one of them is already free or not in this zone. Frames before it may have been freed then.
    ///
    /// # Concurrency
    /// Locks each shard that has some of them, repeatedly, for at most [`MAX_NR_BLOCKS`] pageblocks each
    /// time.
    #[track_caller]
    pub(crate) fn put_range(&self, platform: &impl Platform, pfns: Range<u64>) {
        let nr = pfns.end - pfns.start;
        self.put_parts(platform, pfns);
        self.count(platform, |events| events.pgfree.add(nr));
    }

    /// Returns the first of frames `pfns` that is free in the zone.
    ///
    /// # Panics
    /// If one of them is not in this zone.
    ///
    /// # Concurrency
    /// Locks as [`put_range`](Self::put_range) does.
    pub(crate) fn first_free(&self, platform: &impl Platform, pfns: Range<u64>) -> Option<u64> {
        let check = |buddy: &mut Buddy, block, part| buddy.check_part(block, part);
        self.for_each_part(platform, pfns, None, check).1.err()
    }

    /// Frees frames `pfns` without counting them, as [`put_range`](Self::put_range) does otherwise.
    #[track_caller]
    pub(crate) fn put_parts(&self, platform: &impl Platform, pfns: Range<u64>) {
        let put = |buddy: &mut Buddy, block, part| buddy.put_part(block, part);
        if let (_, Err(free)) = self.for_each_part(platform, pfns.clone(), None, put) {
            double_free(free, &pfns);
        }
    }

    /// Calls `change` for the frames of each pageblock, in ascending order, until it returns the position
    /// of a frame that it cannot change. Returns the first frame of that pageblock's part (or the end of
    /// `pfns`), and that frame as an error.
    fn for_each_part(
        &self,
        platform: &impl Platform,
        pfns: Range<u64>,
        for_type: Option<MigrateType>,
        change: impl Fn(&mut Buddy, u32, Range<usize>) -> Result<(), usize>,
    ) -> (u64, Result<(), u64>) {
        let mut parts = parts(pfns.clone()).peekable();
        let mut last = &Span::EMPTY;
        let end = pfns.end;
        while let Some(&(pfn, _)) = parts.peek() {
            let (shard, _) = self.locate_near(&mut last, pfn);
            let mut held = self.shards[usize::from(shard)].hold(platform);
            let mut result = (end, Ok(()));
            for _ in 0..MAX_NR_BLOCKS {
                let Some((pfn, part)) =
                    parts.next_if(|&(pfn, _)| self.locate_near(&mut last, pfn).0 == shard)
                else {
                    break;
                };
                let (_, block) = self.locate_near(&mut last, pfn);
                let first = pfn - part.start as u64;
                if let Err(position) = change(held.buddy(), block, part) {
                    result = (pfn, Err(first + position as u64));
                    break;
                }
            }
            let stolen = held.buddy().take_stolen();
            drop(held);
            if let Some(migratetype) = for_type {
                self.trace_stolen(platform, migratetype, stolen);
            }
            if result.1.is_err() {
                return result;
            }
        }
        (end, Ok(()))
    }
}

/// A scan found no run.
#[derive(Debug)]
struct NoRun {
    /// Whether pageblocks with free frames were passed over because of their migrate type.
    has_passed_over: bool,
}

/// Yields the first frame and the positions of each pageblock's part of `pfns`.
fn parts(pfns: Range<u64>) -> impl Iterator<Item = (u64, Range<usize>)> {
    let mut pfn = pfns.start;
    core::iter::from_fn(move || {
        if pfn >= pfns.end {
            return None;
        }
        let first = pfn;
        let next_block = ((pfn >> PAGEBLOCK_ORDER.value()) + 1) << PAGEBLOCK_ORDER.value();
        pfn = next_block.min(pfns.end);
        let start = position_in_block(first);
        let len = usize::try_from(pfn - first).unwrap_or(PAGEBLOCK_NR_PAGES);
        Some((first, start..start + len))
    })
}

/// Panics because of frame `pfn`, of those that are freed, which is free already.
#[cold]
#[inline(never)]
#[track_caller]
pub(crate) fn double_free(pfn: u64, pfns: &Range<u64>) -> ! {
    let (start, nr) = (pfns.start, pfns.end - pfns.start);
    panic!(
        "double free of frame {pfn:#x}, of the {nr} frames from {start:#x}: it is free in its zone \
         already"
    )
}
