//! A pool as one would write it down first: lists, and a counter for each thing that happens.

use alloc::collections::VecDeque;

/// A page as the model knows it: its frame if it was ever out, and its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(crate) pfn: Option<u64>,
    pub(crate) node: u8,
}

/// What the pool should say of itself, in the order of `PoolStats::counters`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) fast: u64,
    pub(crate) slow: u64,
    pub(crate) empty: u64,
    pub(crate) refill: u64,
    pub(crate) waive: u64,
    pub(crate) cached: u64,
    pub(crate) cache_full: u64,
    pub(crate) ring: u64,
    pub(crate) ring_full: u64,
    pub(crate) released_refcnt: u64,
}

impl Counts {
    pub(crate) fn in_order(&self) -> [u64; 11] {
        [
            self.fast,
            self.slow,
            0,
            self.empty,
            self.refill,
            self.waive,
            self.cached,
            self.cache_full,
            self.ring,
            self.ring_full,
            self.released_refcnt,
        ]
    }
}

/// The model.
#[derive(Debug)]
pub(crate) struct Naive {
    pub(crate) cache: Vec<Known>,
    pub(crate) ring: VecDeque<Known>,
    pub(crate) ring_size: usize,
    pub(crate) inflight: i32,
    pub(crate) counts: Counts,
    pub(crate) node: u8,
    pub(crate) refill: usize,
    /// Bit n: mapping n from now on fails.
    pub(crate) map_failures: u64,
    pub(crate) alloc_fails: bool,
}

const CACHE: usize = 128;
const REFILL: usize = 64;
const BATCH: usize = 64;

impl Naive {
    pub(crate) fn new(ring_size: usize, node: u8) -> Self {
        Self {
            cache: Vec::new(),
            ring: VecDeque::new(),
            ring_size,
            inflight: 0,
            counts: Counts::default(),
            node,
            refill: REFILL,
            map_failures: 0,
            alloc_fails: false,
        }
    }

    pub(crate) fn alloc(&mut self) -> Option<Known> {
        if let Some(page) = self.cache.pop() {
            self.counts.fast += 1;
            return Some(page);
        }
        if self.ring.is_empty() {
            self.counts.empty += 1;
        }
        while self.cache.len() < REFILL {
            let Some(page) = self.ring.pop_front() else { break };
            if page.node != self.node {
                self.counts.waive += 1;
                self.inflight -= 1;
                break;
            }
            self.cache.push(page);
        }
        if let Some(page) = self.cache.pop() {
            self.counts.refill += 1;
            return Some(page);
        }
        if self.alloc_fails {
            return None;
        }
        for _ in 0..self.refill {
            let fails = self.map_failures & 1 != 0;
            self.map_failures >>= 1;
            if !fails {
                self.cache.push(Known { pfn: None, node: self.node });
                self.inflight += 1;
            }
        }
        let page = self.cache.pop()?;
        self.counts.slow += 1;
        Some(page)
    }

    pub(crate) fn put(&mut self, page: Known) {
        if page.node != self.node {
            self.counts.waive += 1;
            self.release(1);
        } else if self.cache.len() < CACHE {
            self.cache.push(page);
            self.counts.cached += 1;
        } else {
            self.counts.cache_full += 1;
            self.put_ring(page);
        }
    }

    pub(crate) fn put_ring(&mut self, page: Known) {
        if self.ring.len() < self.ring_size {
            self.ring.push_back(page);
            self.counts.ring += 1;
        } else {
            self.counts.ring_full += 1;
            self.inflight -= 1;
        }
    }

    pub(crate) fn put_ring_bulk(&mut self, pages: &[Known]) {
        for batch in pages.chunks(BATCH) {
            let fits = batch.len().min(self.ring_size - self.ring.len());
            self.ring.extend(&batch[..fits]);
            self.counts.ring += fits as u64;
            if fits < batch.len() {
                self.counts.ring_full += 1;
                self.release(batch.len() - fits);
            }
        }
    }

    pub(crate) fn put_bulk(&mut self, pages: &[Known]) {
        let mut pages = pages;
        while self.cache.len() < CACHE
            && let Some((&page, rest)) = pages.split_first()
        {
            self.put(page);
            pages = rest;
        }
        self.counts.cache_full += pages.len() as u64;
        self.put_ring_bulk(pages);
    }

    /// Pages go to the page allocator.
    pub(crate) fn release(&mut self, nr: usize) {
        self.inflight -= i32::try_from(nr).expect("few pages");
    }

    pub(crate) fn set_node(&mut self, node: u8) {
        if self.node != node {
            self.node = node;
            self.release(self.cache.len());
            self.cache.clear();
        }
    }
}
