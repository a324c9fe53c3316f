//! Workloads: the measured calls, in loops with as little other code as possible.

use core::hint::black_box;

use pagemill::{AllocPages, Gfp, Page, PageList, PageSource, free_pages_bulk};

/// Flags of every allocation: the usual request of a kernel.
pub const GFP: Gfp = Gfp::KERNEL;

/// Batches of pages that can be allocated and freed, with the slots for their handles.
///
/// The loops check nothing: the allocator's counters show afterwards whether all pages were allocated.
/// They are separate functions, so that no result depends on the surrounding code.
pub trait Workload {
    /// Allocates every batch in turn.
    fn alloc_batches(&mut self);

    /// Frees every batch, in the order of allocation.
    fn free_batches(&mut self);

    /// Allocates and frees the first batch, `times` times.
    fn ping(&mut self, times: usize);
}

/// One call per page.
#[derive(Debug)]
pub struct Singles<S: PageSource> {
    source: S,
    slots: Vec<Option<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Singles<S> {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub fn new(source: S, n: usize, nr_batches: usize) -> Self {
        Self { source, slots: slots(n * nr_batches), n }
    }
}

impl<S: AllocPages> Workload for Singles<S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for slot in &mut self.slots {
            *slot = self.source.clone().alloc_page(GFP);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for slot in &mut self.slots {
            *slot = None;
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            for slot in &mut *batch {
                *slot = self.source.clone().alloc_page(GFP);
            }
            for slot in &mut *batch {
                *slot = None;
            }
        }
    }
}

/// One call per array of slots.
#[derive(Debug)]
pub struct Arrays<S: PageSource> {
    source: S,
    slots: Vec<Option<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Arrays<S> {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub fn new(source: S, n: usize, nr_batches: usize) -> Self {
        Self { source, slots: slots(n * nr_batches), n }
    }
}

impl<S: AllocPages> Workload for Arrays<S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            self.source.clone().alloc_pages_bulk(GFP, batch);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            self.source.clone().release_pages(batch);
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            self.source.clone().alloc_pages_bulk(GFP, batch);
            self.source.clone().release_pages(batch);
        }
    }
}

/// One call per list.
#[derive(Debug)]
pub struct Lists<S: PageSource> {
    source: S,
    lists: Vec<PageList<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Lists<S> {
    /// Makes `nr_batches` empty lists for `n` pages each.
    pub fn new(source: S, n: usize, nr_batches: usize) -> Self {
        let lists = (0..nr_batches).map(|_| PageList::new(source.clone())).collect();
        Self { source, lists, n }
    }
}

impl<S: AllocPages> Workload for Lists<S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for list in &mut self.lists {
            self.source.clone().alloc_pages_bulk_list(GFP, self.n, list);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for list in &mut self.lists {
            free_pages_bulk(list);
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let list = &mut self.lists[0];
        for _ in 0..times {
            self.source.clone().alloc_pages_bulk_list(GFP, self.n, list);
            free_pages_bulk(list);
        }
    }
}

/// Copies between two arrays of handles: a lower limit for any allocator that returns handles.
#[derive(Debug)]
pub struct Copies {
    /// Both arrays, and the words before and between them.
    words: Vec<u64>,
    /// Index of the first array, at the start of a cache line.
    start: usize,
    /// Distance from the start of one array to that of the other.
    distance: usize,
    n: usize,
}

/// Handles in a cache line of 64 bytes.
const LINE_WORDS: usize = 8;
/// Handles in 4 KiB: a CPU may take a load at a multiple of this distance from a store for one of the
/// same address, and delay it.
const ALIASING_WORDS: usize = 512;

impl Copies {
    /// Makes two arrays of `n` handles, placed so that copying is as fast as possible.
    pub fn new(n: usize) -> Self {
        let distance = n.next_multiple_of(ALIASING_WORDS) + ALIASING_WORDS / 2 + LINE_WORDS;
        let words: Vec<u64> = (0..).take(LINE_WORDS + distance + n).collect();
        let past_line = words.as_ptr().addr() / size_of::<u64>() % LINE_WORDS;
        Self { words, start: (LINE_WORDS - past_line) % LINE_WORDS, distance, n }
    }

    /// Copies all handles to the other array and back, `times` times.
    #[inline(never)]
    pub fn there_and_back(&mut self, times: usize) {
        let (here, there) = self.arrays();
        for _ in 0..times {
            // The compiler must assume that each array is read, and written, after each copy.
            there.copy_from_slice(here);
            black_box(there.as_mut_ptr());
            here.copy_from_slice(there);
            black_box(here.as_mut_ptr());
        }
    }

    fn arrays(&mut self) -> (&mut [u64], &mut [u64]) {
        let (here, there) = self.words[self.start..].split_at_mut(self.distance);
        (&mut here[..self.n], &mut there[..self.n])
    }
}

fn slots<S: PageSource>(nr: usize) -> Vec<Option<Page<S>>> {
    core::iter::repeat_with(|| None).take(nr).collect()
}

#[cfg(test)]
mod tests {
    use pagemill::PageAllocator;
    use pagemill_host::{AllocatorConfig, ArenaConfig, Host, allocator};

    use super::*;

    fn frames() -> PageAllocator<Host> {
        allocator(&AllocatorConfig::new(ArenaConfig::new(16 << 20))).unwrap()
    }

    fn pages_out(frames: &PageAllocator<Host>, at_first: u64) -> u64 {
        at_first - frames.nr_free_pages()
    }

    fn holds_all_and_returns_all(frames: &PageAllocator<Host>, mut work: impl Workload, nr: u64) {
        let at_first = frames.nr_free_pages();
        work.alloc_batches();
        assert_eq!(pages_out(frames, at_first), nr);
        work.free_batches();
        assert_eq!(pages_out(frames, at_first), 0);
        work.ping(3);
        assert_eq!(pages_out(frames, at_first), 0);
    }

    #[test]
    fn every_workload_holds_its_pages_and_returns_them() {
        let frames = frames();
        for (n, nr_batches) in [(1, 1), (1, 40), (3, 20), (64, 4), (512, 2)] {
            let nr = (n * nr_batches) as u64;
            holds_all_and_returns_all(&frames, Singles::new(&frames, n, nr_batches), nr);
            holds_all_and_returns_all(&frames, Arrays::new(&frames, n, nr_batches), nr);
            holds_all_and_returns_all(&frames, Lists::new(&frames, n, nr_batches), nr);
        }
    }

    #[test]
    fn copies_arrive_and_return() {
        for n in [1, 5, 512] {
            let mut copies = Copies::new(n);
            copies.there_and_back(2);
            let (here, there) = copies.arrays();
            assert_eq!(here.len(), n);
            assert_eq!(here, there);
            assert!(here.as_ptr().addr().is_multiple_of(64));
        }
    }
}
