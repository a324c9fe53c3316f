//! One measurement: runs of a workload, and the figures that come of them.

use core::fmt;

use pagemill::Order;

use super::workload::Workload;
use crate::frames::allocator;
use crate::ticks::Clock;

/// Runs of which the median is taken.
pub(super) const RUNS: usize = 5;

/// In which order pages are allocated and freed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// N allocated and N freed, again and again.
    Ping,
    /// Very many allocated, in batches of N, then all of them freed.
    Burst,
}

/// A cost per block in hundredths of a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Hundredths(pub(super) u64);

/// What a block costs.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Figures {
    /// Its allocation.
    pub(super) alloc: Hundredths,
    /// Its release.
    pub(super) free: Hundredths,
    /// Both together.
    pub(super) both: Hundredths,
    /// How far the slowest run was from the fastest, for both together, against the median.
    pub(super) spread_percent: u64,
}

/// The blocks of a workload: `nr_batches` batches of `n`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Blocks {
    pub(super) n: usize,
    pub(super) nr_batches: usize,
    pub(super) order: Order,
}

/// Measures a workload; the costs are those of a block.
pub(super) fn figures(
    clock: Clock,
    shape: Shape,
    blocks: Blocks,
    work: &mut impl Workload,
) -> Figures {
    let Blocks { n, nr_batches, order } = blocks;
    let nr_blocks = (n * nr_batches) as u64;
    let nr_pages = nr_blocks * order.nr_pages() as u64;
    let per_block = |ticks: u64| Hundredths(ticks * 100 / nr_blocks);
    let (mut alloc, mut free, mut both) = ([0; RUNS], [0; RUNS], [0; RUNS]);
    // Loads code and metadata into the caches, and fills the CPU's list with the pages of `ping`.
    work.alloc_batches();
    work.free_batches();
    let before = allocator().vmstat().pgfree;
    for run in 0..RUNS {
        alloc[run] = clock.ticks(|| work.alloc_batches());
        free[run] = clock.ticks(|| work.free_batches());
        both[run] = match shape {
            Shape::Ping => clock.ticks(|| work.ping(nr_batches)),
            Shape::Burst => alloc[run] + free[run],
        };
    }
    let rounds = if shape == Shape::Ping { 2 } else { 1 };
    let freed = allocator().vmstat().pgfree - before;
    assert!(freed == rounds * RUNS as u64 * nr_pages, "{freed} pages were measured");
    let [alloc, free, both] = [alloc, free, both].map(|mut ticks| {
        ticks.sort_unstable();
        ticks
    });
    let median = both[RUNS / 2];
    Figures {
        alloc: per_block(alloc[RUNS / 2]),
        free: per_block(free[RUNS / 2]),
        both: per_block(median),
        spread_percent: (both[RUNS - 1] - both[0]) * 100 / median.max(1),
    }
}

impl fmt::Display for Hundredths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = f.width().unwrap_or(0).saturating_sub(3);
        write!(f, "{:width$}.{:02}", self.0 / 100, self.0 % 100)
    }
}
