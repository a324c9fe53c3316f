//! Allocators of block numbers, and a trace of requests for them.
//!
//! A request is for 20 to 100 blocks, as services for language models make them for blocks of a
//! key-value cache. All allocators get the same trace.

use buddy_system_allocator::FrameAllocator;
use offset_allocator::{Allocation, Allocator};
use pagemill_bench::rng::Rng;
use pagemill_host::IndexAllocator;
use pagemill_host::index::Extent;

/// Number of blocks: 2^19.
pub(crate) const NR_BLOCKS: u32 = 524_288;
/// Numbers of blocks of one request.
const NR_MIN: u32 = 20;
const NR_MAX: u32 = 100;

/// An allocator of block numbers.
pub(crate) trait Blocks {
    /// What a request got.
    type Held;
    /// The name in reports.
    const NAME: &'static str;
    /// How it is called.
    const NOTE: &'static str;

    fn new() -> Self;

    /// Allocates `nr` blocks, or none.
    fn alloc(&mut self, nr: u32) -> Option<Self::Held>;

    fn free(&mut self, held: Self::Held);

    /// Returns the number of runs of adjacent blocks that a request got.
    fn nr_runs(_held: &Self::Held) -> usize {
        1
    }
}

impl Blocks for IndexAllocator {
    type Held = Vec<Extent>;
    const NAME: &'static str = "pagemill-index";
    const NOTE: &'static str = "IndexAllocator::alloc, several runs if it must; shared by threads";

    fn new() -> Self {
        Self::new(NR_BLOCKS.into()).expect("a valid number of blocks, and memory for its metadata")
    }

    fn alloc(&mut self, nr: u32) -> Option<Vec<Extent>> {
        Self::alloc(self, nr.into()).ok()
    }

    fn free(&mut self, held: Vec<Extent>) {
        drop(held);
    }

    fn nr_runs(held: &Vec<Extent>) -> usize {
        held.len()
    }
}

/// The crate `offset-allocator`.
impl Blocks for Allocator {
    type Held = Allocation;
    const NAME: &'static str = "offset-allocator";
    const NOTE: &'static str = "offset-allocator 0.2, one run; of one thread";

    fn new() -> Self {
        Self::new(NR_BLOCKS)
    }

    fn alloc(&mut self, nr: u32) -> Option<Allocation> {
        self.allocate(nr)
    }

    fn free(&mut self, held: Allocation) {
        Self::free(self, held);
    }
}

/// The crate `buddy_system_allocator`, which takes the next power of two.
impl Blocks for FrameAllocator {
    type Held = (usize, usize);
    const NAME: &'static str = "buddy-system";
    const NOTE: &'static str = "FrameAllocator, one run of the next power of two; of one thread";

    fn new() -> Self {
        let mut frames = Self::new();
        frames.insert(0..NR_BLOCKS as usize);
        frames
    }

    fn alloc(&mut self, nr: u32) -> Option<(usize, usize)> {
        let nr = nr as usize;
        Some((Self::alloc(self, nr)?, nr))
    }

    fn free(&mut self, (first, nr): (usize, usize)) {
        self.dealloc(first, nr);
    }
}

/// A step of a trace; requests are numbered from zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// A request for so many blocks.
    Alloc(u32),
    /// A request is over.
    Free(u32),
}

/// Requests with random lifetimes, of which ever more are alive at a time: up to 99.9 % of all blocks.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) steps: Vec<Step>,
    /// Blocks of each request.
    pub(crate) sizes: Vec<u32>,
}

impl Trace {
    /// Makes a trace in which `turnover` times all blocks are requested for each hundredth by which the
    /// blocks in use grow, from one half on.
    pub(crate) fn new(seed: u64, turnover: f64) -> Self {
        let total = f64::from(NR_BLOCKS);
        let mut rng = Rng::new(seed);
        let (mut steps, mut sizes, mut alive) = (Vec::new(), Vec::<u32>::new(), Vec::<u32>::new());
        let (mut used, mut freed) = (0_u32, 0.0);
        loop {
            let more = rng.below((NR_MAX - NR_MIN + 1) as usize);
            let nr = NR_MIN + u32::try_from(more).unwrap_or(0);
            let limit = |freed: f64| 0.5 + 0.01 * freed / (turnover * total);
            while f64::from(used + nr) > total * limit(freed) {
                let ended = alive.swap_remove(rng.below(alive.len()));
                let size = sizes[ended as usize];
                used -= size;
                freed += f64::from(size);
                steps.push(Step::Free(ended));
                if limit(freed) >= 0.999 {
                    return Self { steps, sizes };
                }
            }
            alive.push(u32::try_from(sizes.len()).expect("no trace has as many requests"));
            sizes.push(nr);
            used += nr;
            steps.push(Step::Alloc(nr));
        }
    }
}

/// Requests that got blocks, their blocks and their runs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Sums {
    pub(crate) nr_blocks: u64,
    pub(crate) nr_runs: u64,
}

impl Sums {
    /// Returns the mean number of blocks of a run.
    pub(crate) fn mean_run(self) -> f64 {
        self.nr_blocks as f64 / self.nr_runs as f64
    }

    /// Returns what was added since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            nr_blocks: self.nr_blocks - earlier.nr_blocks,
            nr_runs: self.nr_runs - earlier.nr_runs,
        }
    }
}

/// An allocator in the middle of a trace.
pub(crate) struct Player<'t, B: Blocks> {
    blocks: B,
    trace: &'t Trace,
    held: Vec<Option<B::Held>>,
    /// Number of the next step.
    pub(crate) next: usize,
    /// Blocks in use.
    pub(crate) used: u32,
    pub(crate) sums: Sums,
}

impl<'t, B: Blocks> Player<'t, B> {
    pub(crate) fn new(trace: &'t Trace) -> Self {
        let held = Vec::with_capacity(trace.sizes.len());
        Self { blocks: B::new(), trace, held, next: 0, used: 0, sums: Sums::default() }
    }

    /// Takes steps up to step `end`, until a request fails or `used` blocks are in use. Returns false if
    /// a request failed.
    pub(crate) fn play(&mut self, end: usize, used: u32) -> bool {
        while self.next < end && self.used < used {
            match self.trace.steps[self.next] {
                Step::Alloc(nr) => {
                    let Some(held) = self.blocks.alloc(nr) else { return false };
                    self.used += nr;
                    self.sums.nr_blocks += u64::from(nr);
                    self.sums.nr_runs += B::nr_runs(&held) as u64;
                    self.held.push(Some(held));
                }
                Step::Free(number) => {
                    if let Some(held) = self.held[number as usize].take() {
                        self.blocks.free(held);
                        self.used -= self.trace.sizes[number as usize];
                    }
                }
            }
            self.next += 1;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_the_same_for_one_seed_and_fills_all_blocks() {
        let trace = Trace::new(1, 0.02);
        assert_eq!(trace.steps, Trace::new(1, 0.02).steps);
        assert_ne!(trace.steps, Trace::new(2, 0.02).steps);
        let (mut used, mut most) = (0_u32, 0);
        let mut sizes = trace.sizes.iter();
        for &step in &trace.steps {
            match step {
                Step::Alloc(nr) => {
                    assert_eq!(sizes.next(), Some(&nr));
                    used += nr;
                }
                Step::Free(number) => used -= trace.sizes[number as usize],
            }
            most = most.max(used);
        }
        assert!((NR_BLOCKS / 100 * 99..=NR_BLOCKS).contains(&most), "{most}");
        let mean =
            trace.sizes.iter().map(|&nr| f64::from(nr)).sum::<f64>() / trace.sizes.len() as f64;
        assert!((59.0..61.0).contains(&mean), "{mean}");
    }

    /// The promise of the documentation: runs as long as those of the offset allocator, as long as that
    /// one serves all requests; and all blocks afterwards.
    #[test]
    fn runs_are_as_long_as_those_of_the_offset_allocator() {
        let trace = Trace::new(1, 0.05);
        let mut other = Player::<Allocator>::new(&trace);
        assert!(!other.play(trace.steps.len(), u32::MAX));
        let mut own = Player::<IndexAllocator>::new(&trace);
        assert!(own.play(other.next, u32::MAX));
        let (own_run, other_run) = (own.sums.mean_run(), other.sums.mean_run());
        assert!(own_run >= 0.95 * other_run, "{own_run} and {other_run} blocks");
        assert!(own.play(trace.steps.len(), u32::MAX), "a request failed with {} in use", own.used);
    }
}
