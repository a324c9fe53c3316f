//! The calls that are measured, in loops that hold as little else as possible.

use alloc::vec::Vec;

use pagemill::{AllocPages, Gfp, PageList, free_pages_bulk};

use crate::frames::{FRAMES, Frame};

/// What every page is asked for with: the ordinary request of a kernel.
const GFP: Gfp = Gfp::KERNEL;

/// Batches of pages that can be allocated and freed.
pub(super) trait Workload {
    /// Allocates every batch, one after the other.
    fn alloc_batches(&mut self);

    /// Frees every batch, in the order of allocation.
    fn free_batches(&mut self);

    /// Allocates and frees the first batch, `times` times.
    fn ping(&mut self, times: usize);

    /// Returns the number of pages in a batch, and the number of batches.
    fn dimensions(&self) -> (usize, usize);
}

/// One call for each page.
pub(super) struct Singles {
    slots: Vec<Option<Frame>>,
    n: usize,
}

impl Singles {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub(super) fn new(n: usize, nr_batches: usize) -> Self {
        Self { slots: slots(n * nr_batches), n }
    }
}

impl Workload for Singles {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for slot in &mut self.slots {
            *slot = FRAMES.alloc_page(GFP);
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
                *slot = FRAMES.alloc_page(GFP);
            }
            for slot in &mut *batch {
                *slot = None;
            }
        }
    }

    fn dimensions(&self) -> (usize, usize) {
        (self.n, self.slots.len() / self.n)
    }
}

/// One call for each array of slots.
pub(super) struct Arrays {
    slots: Vec<Option<Frame>>,
    n: usize,
}

impl Arrays {
    /// Makes `nr_batches` empty batches of `n` slots.
    pub(super) fn new(n: usize, nr_batches: usize) -> Self {
        Self { slots: slots(n * nr_batches), n }
    }
}

impl Workload for Arrays {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            FRAMES.alloc_pages_bulk(GFP, batch);
        }
    }

    #[inline(never)]
    fn free_batches(&mut self) {
        for batch in self.slots.chunks_exact_mut(self.n) {
            FRAMES.release_pages(batch);
        }
    }

    #[inline(never)]
    fn ping(&mut self, times: usize) {
        let batch = &mut self.slots[..self.n];
        for _ in 0..times {
            FRAMES.alloc_pages_bulk(GFP, batch);
            FRAMES.release_pages(batch);
        }
    }

    fn dimensions(&self) -> (usize, usize) {
        (self.n, self.slots.len() / self.n)
    }
}

/// One call for each list.
pub(super) struct Lists {
    lists: Vec<PageList<Frame>>,
    n: usize,
}

impl Lists {
    /// Makes `nr_batches` empty lists for `n` pages each.
    pub(super) fn new(n: usize, nr_batches: usize) -> Self {
        Self { lists: (0..nr_batches).map(|_| PageList::new(FRAMES)).collect(), n }
    }
}

impl Workload for Lists {
    #[inline(never)]
    fn alloc_batches(&mut self) {
        for list in &mut self.lists {
            FRAMES.alloc_pages_bulk_list(GFP, self.n, list);
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
            FRAMES.alloc_pages_bulk_list(GFP, self.n, list);
            free_pages_bulk(list);
        }
    }

    fn dimensions(&self) -> (usize, usize) {
        (self.n, self.lists.len())
    }
}

fn slots(nr: usize) -> Vec<Option<Frame>> {
    core::iter::repeat_with(|| None).take(nr).collect()
}
