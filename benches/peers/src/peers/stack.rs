//! Stacks of page handles: the limit, one per thread, one behind a lock; and a lock-free queue.

use std::sync::{Mutex, PoisonError};

use crossbeam_queue::ArrayQueue;

use crate::peer::{NoBlock, Peer, Slots};

/// A page handle, of the same size as pagemill's.
type Handle = u64;
type Handles<const M: usize> = Slots<Handle, M>;

/// Returns the handles of an arena's pages.
///
/// The capacity has half a page of handles to spare. Otherwise a batch of 512 that is allocated
/// directly after the stack would have the same offset within 4 KiB as the top of the stack, and a
/// copy between the two takes ten times as long on some CPUs.
fn handles(nr_pages: usize) -> Vec<Handle> {
    let mut handles = Vec::with_capacity(nr_pages + 256);
    handles.extend(0..nr_pages as u64);
    handles
}

/// The limit: copies handles from an array to the caller's array and back, and does nothing else.
#[derive(Debug)]
pub(crate) struct Limit {
    /// Pages in the arena.
    pub(crate) nr_pages: usize,
}

/// An array whose handles from `bottom` to `top` are free.
#[derive(Debug)]
pub(crate) struct Stack {
    handles: Vec<Handle>,
    /// The beginning of a cache line.
    bottom: usize,
    top: usize,
    /// Limit of `top`.
    end: usize,
}

impl Limit {
    /// Number of handles that stay in every cache.
    const RESIDENT: usize = 512;
    /// Handles in a cache line.
    const LINE: usize = 8;
}

impl Peer for Limit {
    type Block = NoBlock;
    type Batch<const M: usize> = Handles<M>;
    type Worker = Stack;
    const NAME: &'static str = "limit";
    const NOTE: &'static str = "no allocator: handles copied between two resident stacks";
    const IS_STACK: bool = true;

    fn worker(&'static self) -> Stack {
        let handles = handles(self.nr_pages + Self::LINE);
        let bottom = handles.as_ptr().align_offset(64);
        let end = bottom + self.nr_pages;
        Stack { handles, bottom, top: end, end }
    }

    #[inline]
    fn alloc<const M: usize>(&self, stack: &mut Stack, batch: &mut Handles<M>, nr: usize) -> usize {
        let nr = nr.min(stack.top - stack.bottom);
        stack.top -= nr;
        let top = &stack.handles[stack.top..][..nr];
        batch.write(nr, |slots| {
            slots.copy_from_slice(top);
            nr
        })
    }

    #[inline]
    fn free<const M: usize>(&self, stack: &mut Stack, batch: &mut Handles<M>) {
        let pages = batch.take();
        if stack.end - stack.top < pages.len() {
            // Happens only if another thread allocated the pages.
            stack.top = stack.bottom;
        }
        stack.handles[stack.top..][..pages.len()].copy_from_slice(pages);
        stack.top += pages.len();
    }

    fn flush(&self, stack: &mut Stack) {
        stack.end = stack.bottom + self.nr_pages;
        stack.top = stack.end;
    }

    fn refill(&self, stack: &mut Stack) {
        stack.end = stack.bottom + 2 * Self::RESIDENT;
        stack.top = stack.bottom + Self::RESIDENT;
    }
}

/// A vector of handles per thread; pages cannot return from another thread.
#[derive(Debug)]
pub(crate) struct ThreadVec {
    /// Pages in the arena of each thread.
    pub(crate) nr_pages: usize,
}

impl Peer for ThreadVec {
    type Block = NoBlock;
    type Batch<const M: usize> = Handles<M>;
    type Worker = Vec<Handle>;
    const CROSSES: bool = false;
    const NAME: &'static str = "thread-vec";
    const NOTE: &'static str =
        "a Vec of pages for each thread, copied in bulk; no frees from other threads";
    const IS_STACK: bool = true;

    fn worker(&'static self) -> Vec<Handle> {
        handles(self.nr_pages)
    }

    #[inline]
    fn alloc<const M: usize>(
        &self,
        vec: &mut Vec<Handle>,
        batch: &mut Handles<M>,
        nr: usize,
    ) -> usize {
        batch.write(nr, |slots| pop_bulk(vec, slots))
    }

    #[inline]
    fn free<const M: usize>(&self, vec: &mut Vec<Handle>, batch: &mut Handles<M>) {
        vec.extend_from_slice(batch.take());
    }
}

/// One vector of handles behind a lock, which is held for a batch.
#[derive(Debug)]
pub(crate) struct LockedVec(Mutex<Vec<Handle>>);

impl LockedVec {
    /// Makes the peer for an arena.
    pub(crate) fn new(nr_pages: usize) -> Self {
        Self(Mutex::new(handles(nr_pages)))
    }
}

impl Peer for LockedVec {
    type Block = NoBlock;
    type Batch<const M: usize> = Handles<M>;
    type Worker = ();
    const NAME: &'static str = "mutex-vec";
    const NOTE: &'static str = "Mutex<Vec> of pages, copied in bulk, locked once a batch";
    const IS_STACK: bool = true;

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Handles<M>, nr: usize) -> usize {
        let mut vec = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        batch.write(nr, |slots| pop_bulk(&mut vec, slots))
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Handles<M>) {
        let mut vec = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        vec.extend_from_slice(batch.take());
    }
}

#[inline]
fn pop_bulk(vec: &mut Vec<Handle>, slots: &mut [Handle]) -> usize {
    let nr = slots.len().min(vec.len());
    let start = vec.len() - nr;
    slots[..nr].copy_from_slice(&vec[start..]);
    vec.truncate(start);
    nr
}

/// crossbeam's bounded queue for many threads, page by page.
#[derive(Debug)]
pub(crate) struct Queue(ArrayQueue<Handle>);

impl Queue {
    /// Makes the peer for an arena.
    pub(crate) fn new(nr_pages: usize) -> Self {
        let queue = ArrayQueue::new(nr_pages);
        for handle in handles(nr_pages) {
            queue.push(handle).expect("the queue has room for the arena");
        }
        Self(queue)
    }
}

impl Peer for Queue {
    type Block = NoBlock;
    type Batch<const M: usize> = Handles<M>;
    type Worker = ();
    const NAME: &'static str = "array-queue";
    const NOTE: &'static str = "crossbeam_queue::ArrayQueue, a loop of pop and push";

    fn worker(&'static self) {}

    #[inline]
    fn alloc<const M: usize>(&self, (): &mut (), batch: &mut Handles<M>, nr: usize) -> usize {
        batch.fill(nr, || self.0.pop())
    }

    #[inline]
    fn free<const M: usize>(&self, (): &mut (), batch: &mut Handles<M>) {
        for &handle in batch.take() {
            self.0.push(handle).expect("at most all pages are free");
        }
    }
}
