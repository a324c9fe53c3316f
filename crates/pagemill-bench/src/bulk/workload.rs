//! Workloads: the measured calls, in loops with as little other code as possible.
//!
//! `examples/kernel` compiles this file too, so it needs no heap: the caller has the slots and lists.

use pagemill::handles::free_pages_bulk;
use pagemill::source::PageSource;
use pagemill::{AllocPages, Gfp, Page, PageList};

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
pub struct Singles<'a, S: PageSource> {
    source: S,
    slots: &'a mut [Option<Page<S>>],
    n: usize,
}

impl<'a, S: PageSource> Singles<'a, S> {
    /// Divides empty `slots` into batches of `n`.
    pub fn new(source: S, slots: &'a mut [Option<Page<S>>], n: usize) -> Self {
        Self { source, slots, n }
    }
}

impl<S: AllocPages + Copy> Workload for Singles<'_, S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for slot in &mut *self.slots {
            *slot = self.source.alloc_page(GFP);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for slot in &mut *self.slots {
            *slot = None;
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            for slot in &mut *batch {
                *slot = self.source.alloc_page(GFP);
            }
            for slot in &mut *batch {
                *slot = None;
            }
        }
    }
}

/// One call per array of slots.
#[derive(Debug)]
pub struct Arrays<'a, S: PageSource> {
    source: S,
    slots: &'a mut [Option<Page<S>>],
    n: usize,
}

impl<'a, S: PageSource> Arrays<'a, S> {
    /// Divides empty `slots` into batches of `n`.
    pub fn new(source: S, slots: &'a mut [Option<Page<S>>], n: usize) -> Self {
        Self { source, slots, n }
    }
}

impl<S: AllocPages + Copy> Workload for Arrays<'_, S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            self.source.alloc_pages_bulk(GFP, batch);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            self.source.release_pages(batch);
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            self.source.alloc_pages_bulk(GFP, batch);
            self.source.release_pages(batch);
        }
    }
}

/// One call per list.
#[derive(Debug)]
pub struct Lists<'a, S: PageSource> {
    source: S,
    lists: &'a mut [PageList<Page<S>>],
    n: usize,
}

impl<'a, S: PageSource> Lists<'a, S> {
    /// Takes empty `lists` for `n` pages each.
    pub fn new(source: S, lists: &'a mut [PageList<Page<S>>], n: usize) -> Self {
        Self { source, lists, n }
    }
}

impl<S: AllocPages + Copy> Workload for Lists<'_, S> {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for list in &mut *self.lists {
            self.source.alloc_pages_bulk_list(GFP, self.n, list);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for list in &mut *self.lists {
            free_pages_bulk(list);
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let list = &mut self.lists[0];
        for _ in 0..times {
            self.source.alloc_pages_bulk_list(GFP, self.n, list);
            free_pages_bulk(list);
        }
    }
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
            let mut slots: Vec<_> = (0..nr).map(|_| None).collect();
            let mut lists: Vec<_> = (0..nr_batches).map(|_| PageList::new(&frames)).collect();
            holds_all_and_returns_all(&frames, Singles::new(&frames, &mut slots, n), nr);
            holds_all_and_returns_all(&frames, Arrays::new(&frames, &mut slots, n), nr);
            holds_all_and_returns_all(&frames, Lists::new(&frames, &mut lists, n), nr);
        }
    }
}
