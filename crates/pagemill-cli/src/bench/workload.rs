//! The calls that are measured, in loops that hold as little else as possible.

use core::hint::black_box;

use pagemill::{AllocPages, Gfp, Page, PageList, PageSource, free_pages_bulk};

/// What every page is asked for with: the ordinary request of a kernel.
pub(crate) const GFP: Gfp = Gfp::KERNEL;

/// Batches of pages that can be allocated and freed, with the places for their handles.
///
/// The loops check nothing: whether each page was there, the allocator's own counters tell
/// afterwards. They are functions of their own, so that no figure depends on what surrounds them.
pub(crate) trait Workload {
    /// Allocates every batch, one after the other.
    fn alloc_batches(&mut self);

    /// Frees every batch, in the order of allocation.
    fn free_batches(&mut self);

    /// Allocates and frees the first batch, `times` times.
    fn ping(&mut self, times: usize);
}

/// One call for each page.
#[derive(Debug)]
pub(crate) struct Singles<S: PageSource> {
    source: S,
    slots: Vec<Option<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Singles<S> {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub(crate) fn new(source: S, n: usize, nr_batches: usize) -> Self {
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

/// One call for each array of slots.
#[derive(Debug)]
pub(crate) struct Arrays<S: PageSource> {
    source: S,
    slots: Vec<Option<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Arrays<S> {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub(crate) fn new(source: S, n: usize, nr_batches: usize) -> Self {
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

/// One call for each list.
#[derive(Debug)]
pub(crate) struct Lists<S: PageSource> {
    source: S,
    lists: Vec<PageList<Page<S>>>,
    n: usize,
}

impl<S: PageSource> Lists<S> {
    /// Makes `nr_batches` empty lists for `n` pages each.
    pub(crate) fn new(source: S, n: usize, nr_batches: usize) -> Self {
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

/// Copies between two arrays of handles: what no allocator that hands out handles can beat.
#[derive(Debug)]
pub(crate) struct Copies {
    here: Vec<u64>,
    there: Vec<u64>,
}

impl Copies {
    /// Makes two arrays of `n` handles.
    pub(crate) fn new(n: usize) -> Self {
        Self { here: (1..=n as u64).collect(), there: vec![0; n] }
    }

    /// Copies all handles to the other array and back, `times` times.
    #[inline(never)]
    pub(crate) fn there_and_back(&mut self, times: usize) {
        let (here, there) = (&mut self.here[..], &mut self.there[..]);
        for _ in 0..times {
            // For all the compiler knows, each array is read, and written, after each copy.
            there.copy_from_slice(here);
            black_box(there.as_mut_ptr());
            here.copy_from_slice(there);
            black_box(here.as_mut_ptr());
        }
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
        let mut copies = Copies::new(5);
        copies.there_and_back(2);
        assert_eq!(copies.here, [1, 2, 3, 4, 5]);
        assert_eq!(copies.there, copies.here);
    }
}
