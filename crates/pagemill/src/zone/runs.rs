//! Runs: searches the pageblocks of a shard for adjacent free frames of any number and alignment.
//!
//! A run of n frames has at least half of them in one pageblock, as one piece or as a piece that touches
//! the pageblock's border. Such a piece contains an aligned block of at least a quarter of n frames, so
//! the list that a pageblock is on rules out most pageblocks without a look at their bitmaps.
//!
//! Single-threaded and without I/O, as [`buddy`](crate::zone::buddy) is.

use core::ops::Range;

use crate::base::migratetype::MigrateType;
use crate::base::units::{PAGEBLOCK_NR_PAGES, PAGEBLOCK_ORDER};
use crate::zone::buddy::{BlockRecord, Buddy, NO_LIST, PAIRS, WHOLE, partial_list};

/// Adjacent frames to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// The smallest number of frames that helps; not zero.
    pub(crate) min: u64,
    /// The number of frames asked for; at least `min`.
    pub(crate) max: u64,
    /// The first frame is a multiple of this power of two.
    pub(crate) align: u64,
    /// The range ends at this frame or before.
    pub(crate) end: u64,
    pub(crate) migratetype: MigrateType,
}

/// A frame number and a number of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    pub(crate) start: u64,
    pub(crate) nr: u64,
}

/// Number of frames of a pageblock, for sums of frame numbers.
const BLOCK_NR_PAGES: u64 = PAGEBLOCK_NR_PAGES as u64;
const NR_PARTIAL: usize = PAGEBLOCK_ORDER.value() as usize;

/// Maximum number of pageblocks of one list that [`best_fit`] looks at if it is not sure that they have
/// a run that is long enough.
pub(crate) const NR_CANDIDATES: usize = 8;
/// The same for pageblocks that are sure to have one, as far as alignment and limit permit.
pub(crate) const NR_SURE: usize = 4;
/// Maximum number of large enough runs of free frames that [`best_fit`] looks at, and the number after which
/// a scan releases the lock before it reads another bitmap. A bitmap has at most 256.
const MAX_NR_RUNS: usize = 128;

/// Maximum number of pageblocks that one hold of a shard's lock passes in a scan.
pub(crate) const MAX_NR_PASSED: usize = 32;
/// Maximum number of bitmaps that one hold of a shard's lock reads in a scan.
pub(crate) const MAX_NR_READ: usize = 8;

impl Wanted {
    /// Returns whether [`best_fit`] may find a place.
    pub(crate) fn is_small(&self) -> bool {
        self.max <= BLOCK_NR_PAGES && self.align <= BLOCK_NR_PAGES
    }

    /// Returns the first place in the free frames `free` for as many of the wanted frames as fit.
    #[inline]
    fn place(&self, free: &Range<u64>) -> Option<Run> {
        let start = free.start.checked_add(self.align - 1)? & !(self.align - 1);
        let nr = free.end.min(self.end).saturating_sub(start).min(self.max);
        (nr >= self.min).then_some(Run { start, nr })
    }
}

/// Returns the order of an aligned free block that a run of `nr` frames is sure to have in one of its
/// pageblocks.
#[inline]
fn least_order(nr: u64) -> usize {
    nr.div_ceil(2).ilog2().min(PAGEBLOCK_ORDER.value().into()) as usize
}

/// Returns whether a pageblock is wholly free.
#[inline]
fn is_whole(block: &BlockRecord<'_>) -> bool {
    block.list == WHOLE || block.list == PAIRS
}

/// Returns the order of the largest free block of a pageblock that is not wholly free and has free frames.
#[inline]
fn largest_order(block: &BlockRecord<'_>) -> usize {
    block.list % NR_PARTIAL
}

/// Finds a place for all of the wanted frames, if they [are few](Wanted::is_small), in a short run.
///
/// Looks at pageblocks of the request's migrate type, those with the smallest large enough blocks first,
/// and then at wholly free ones. There it begins in the free frames in front of the pageblock, so that
/// no frames are lost at the ends of pageblocks.
///
/// # Cost
/// Looks at [`NR_CANDIDATES`] pageblocks of at most two lists and at [`NR_SURE`] of each other list, and
/// at the borders of their neighbours, so it may find nothing although there is a place. Without alignment
/// and limit, the first of the other lists that has a pageblock is the last one.
pub(crate) fn best_fit(buddy: &Buddy, wanted: &Wanted) -> Option<Run> {
    if !wanted.is_small() {
        return None;
    }
    let exact = Wanted { min: wanted.max, ..*wanted };
    let mut nr_runs = 0;
    let least = least_order(exact.max);
    let fits = u32::from(buddy.order_mask(wanted.migratetype)) >> least << least;
    for order in (least..NR_PARTIAL).filter(|order| fits >> order & 1 != 0) {
        let mut best: Option<(u64, Run)> = None;
        let is_sure = 1 << order >= exact.max;
        let nr = if is_sure { NR_SURE } else { NR_CANDIDATES };
        for block in list(buddy, partial_list(wanted.migratetype, order)).take(nr) {
            if let Some((length, run)) = tightest(buddy, block, &exact, &mut nr_runs)
                && best.is_none_or(|(shortest, _)| length < shortest)
            {
                best = Some((length, run));
                if length == exact.max {
                    break;
                }
            }
        }
        if let Some((_, run)) = best {
            return Some(run);
        }
    }
    [WHOLE, PAIRS].into_iter().find_map(|number| {
        list(buddy, number).take(NR_SURE).find_map(|block| {
            let first = buddy.record(block)?.first.value();
            let before = block.checked_sub(1).and_then(|before| buddy.record(before));
            let tail = before.map_or(0, |before| tail_for(&before, first, &exact));
            exact.place(&(first - tail..first + BLOCK_NR_PAGES))
        })
    })
}

/// Yields the pageblocks of a list.
fn list(buddy: &Buddy, number: usize) -> impl Iterator<Item = usize> {
    let next = |&block: &usize| buddy.record(block).and_then(|block| block.next);
    core::iter::successors(buddy.head(number), next)
}

/// Returns the place in the shortest sufficient run of free frames that is in a pageblock or touches it,
/// and the length of that run. Adds the runs that it looked at to `nr_runs`.
fn tightest(
    buddy: &Buddy,
    index: usize,
    wanted: &Wanted,
    nr_runs: &mut usize,
) -> Option<(u64, Run)> {
    let block = buddy.record(index)?;
    let first = block.first.value();
    let mut best: Option<(u64, Run)> = None;
    let (head, tail) = (block.bitmap.free_head(), block.bitmap.free_tail());
    let wanted_nr = usize::try_from(wanted.max).unwrap_or(usize::MAX);
    let (runs, shorter) = block.bitmap.long_runs(wanted_nr);
    let long = runs.runs().map(|run| run.start..run.end + shorter);
    // Runs at the borders may be long enough together with their neighbours' frames.
    let at_borders = [0..head, PAGEBLOCK_NR_PAGES - tail..PAGEBLOCK_NR_PAGES];
    let at_borders = at_borders.into_iter().filter(|run| !run.is_empty());
    for run in at_borders.chain(long).take(MAX_NR_RUNS.saturating_sub(*nr_runs)) {
        *nr_runs += 1;
        let mut free = first + run.start as u64..first + run.end as u64;
        if run.start == 0
            && let Some(before) = index.checked_sub(1).and_then(|before| buddy.record(before))
        {
            free.start -= tail_for(&before, first, wanted);
        }
        if run.end == PAGEBLOCK_NR_PAGES
            && let Some(after) = buddy.record(index + 1)
        {
            free.end += head_for(&after, free.end, wanted);
        }
        let length = free.end - free.start;
        if length < wanted.max || best.is_some_and(|(shortest, _)| shortest <= length) {
            continue;
        }
        if let Some(run) = wanted.place(&free) {
            best = Some((length, run));
        }
    }
    best
}

/// Returns whether the free frames of a pageblock are for the request's migrate type.
#[inline]
fn is_own(block: &BlockRecord<'_>, wanted: &Wanted) -> bool {
    is_whole(block) || block.list != NO_LIST && block.migratetype == wanted.migratetype
}

/// Returns how many free frames a pageblock has right before frame `end`, if it may serve the request.
fn tail_for(block: &BlockRecord<'_>, end: u64, wanted: &Wanted) -> u64 {
    let is_adjacent = block.first.value() + BLOCK_NR_PAGES == end;
    if is_adjacent && is_own(block, wanted) { block.bitmap.free_tail() as u64 } else { 0 }
}

/// Returns how many free frames a pageblock has from frame `start` on, if it may serve the request.
fn head_for(block: &BlockRecord<'_>, start: u64, wanted: &Wanted) -> u64 {
    let is_adjacent = block.first.value() == start;
    if is_adjacent && is_own(block, wanted) { block.bitmap.free_head() as u64 } else { 0 }
}

/// A scan of pageblocks in the order of their addresses, which may pause between any two.
#[derive(Debug)]
pub(crate) struct Scan {
    wanted: Wanted,
    /// Whether pageblocks of other migrate types may serve the request, too.
    fallback: bool,
    /// The free frames right before the next pageblock.
    open: Range<u64>,
    /// The longest place found so far for less than all wanted frames.
    best: Option<Run>,
    /// Frames before this one are not taken.
    from: u64,
    /// Whether a pageblock was passed over because of its migrate type.
    has_passed_over: bool,
}

impl Scan {
    pub(crate) fn new(wanted: Wanted, fallback: bool) -> Self {
        Self { wanted, fallback, open: 0..0, best: None, from: 0, has_passed_over: false }
    }

    /// Returns the longest place found, once all pageblocks were passed.
    pub(crate) fn longest(&self) -> Option<Run> {
        self.best
    }

    /// Returns whether a pageblock with free frames was passed over because of its migrate type.
    pub(crate) fn has_passed_over(&self) -> bool {
        self.has_passed_over
    }

    /// Continues with frames from `pfn` on. The scan must be at its pageblock, or before it.
    pub(crate) fn skip_to(&mut self, pfn: u64) {
        self.from = pfn;
        self.open = 0..0;
    }

    /// Notes that the next pageblocks have no free frames.
    pub(crate) fn pass(&mut self) {
        self.open = 0..0;
    }

    /// Looks at pageblocks from `next` on and advances it, until it finds a place for all wanted frames,
    /// comes to the end of `buddy`, or has looked at enough for one hold of the lock.
    pub(crate) fn step(&mut self, buddy: &Buddy, next: &mut usize) -> Option<Run> {
        let (mut nr_read, mut nr_runs) = (0, 0);
        for _ in 0..MAX_NR_PASSED {
            let block = buddy.record(*next)?;
            let is_read = self.needs_runs(&block);
            if is_read && (nr_read == MAX_NR_READ || nr_runs >= MAX_NR_RUNS) {
                return None;
            }
            nr_read += usize::from(is_read);
            *next += 1;
            if let Some(run) = self.look(&block, is_read, &mut nr_runs) {
                return Some(run);
            }
        }
        None
    }

    /// Returns the smallest number of frames that serves the request better than what was found so far.
    #[inline]
    fn least(&self) -> u64 {
        self.best.map_or(self.wanted.min, |best| best.nr + 1)
    }

    /// Returns whether a pageblock may hold a run of its own that serves the request better than what was
    /// found so far.
    #[inline]
    fn needs_runs(&self, block: &BlockRecord<'_>) -> bool {
        let least = self.least();
        block.list < WHOLE
            && largest_order(block) >= least_order(least)
            && (self.fallback || is_own(block, &self.wanted))
    }

    /// Looks at one pageblock. Adds the runs that it looked at to `nr_runs`.
    fn look(&mut self, block: &BlockRecord<'_>, is_read: bool, nr_runs: &mut usize) -> Option<Run> {
        let first = block.first.value();
        if self.open.end != first {
            self.open = first..first;
        }
        let is_usable = self.fallback || is_own(block, &self.wanted);
        let is_within = block.list != NO_LIST && first < self.wanted.end;
        self.has_passed_over |= is_within && !is_usable;
        if !is_within || !is_usable {
            self.open = 0..0;
            return None;
        }
        if is_whole(block) {
            self.open.end += BLOCK_NR_PAGES;
            return self.consider(self.open.clone());
        }
        // Free frames at the beginning of a pageblock that follow none are a run like all others of the
        // pageblock.
        if !self.open.is_empty() && block.bitmap.word(0) & 1 != 0 {
            let head = block.bitmap.free_head() as u64;
            let run = self.consider(self.open.start..first + head);
            if run.is_some() {
                return run;
            }
        }
        if is_read {
            let least = self.least();
            let least = usize::try_from(least).unwrap_or(usize::MAX);
            let (runs, shorter) = block.bitmap.long_runs(least);
            for run in runs.runs() {
                *nr_runs += 1;
                let end = first + (run.end + shorter) as u64;
                let run = self.consider(first + run.start as u64..end);
                if run.is_some() {
                    return run;
                }
            }
        }
        let end = first + BLOCK_NR_PAGES;
        self.open = end - block.bitmap.free_tail() as u64..end;
        None
    }

    /// Returns the place in a run of free frames if all wanted frames fit; notes it otherwise, if it is
    /// the longest so far.
    #[inline]
    fn consider(&mut self, free: Range<u64>) -> Option<Run> {
        let least = self.least();
        if free.end - free.start < least {
            return None;
        }
        let run = self.wanted.place(&(free.start.max(self.from)..free.end))?;
        if run.nr == self.wanted.max {
            return Some(run);
        }
        if run.nr >= least {
            self.best = Some(run);
        }
        None
    }
}
