//! Peer: an allocator of pages that is compared, and the batches in which it allocates.

/// A page allocator that threads share; it lives as long as the process.
///
/// The loops around the calls do as little else as possible, so calls should be inlined.
pub(crate) trait Peer: Sync + 'static {
    /// State of one thread, made in that thread.
    type Worker;
    /// A block of 2^order adjacent pages, aligned to its size; [`NoBlock`] if the peer has none.
    type Block: Send;
    /// Room for up to `M` pages.
    type Batch<const M: usize>: Batch;
    /// The name in options and reports.
    const NAME: &'static str;
    /// How it is called here, in a few words.
    const NOTE: &'static str;
    /// Whether a thread may free pages that another thread allocated.
    const CROSSES: bool = true;
    /// Whether the peer has blocks of more than one page.
    const HAS_BLOCKS: bool = false;
    /// Whether free pages are handles on a stack in an array, whose top may have any offset.
    const IS_STACK: bool = false;

    /// Makes the state of the calling thread.
    fn worker(&'static self) -> Self::Worker;

    /// Allocates up to `nr` pages into the empty `batch`, and returns how many.
    fn alloc<const M: usize>(
        &'static self,
        worker: &mut Self::Worker,
        batch: &mut Self::Batch<M>,
        nr: usize,
    ) -> usize;

    /// Frees all pages of `batch`.
    fn free<const M: usize>(&'static self, worker: &mut Self::Worker, batch: &mut Self::Batch<M>);

    /// Allocates a block of 2^`order` pages.
    fn alloc_block(&'static self, _order: u8) -> Option<Self::Block> {
        None
    }

    /// Frees a block.
    fn free_block(&'static self, block: Self::Block) {
        drop(block);
    }

    /// Frees the pages that the worker caches; called before and after a drain.
    fn flush(&'static self, _worker: &mut Self::Worker) {}

    /// Refills the worker at the start of a handover, and whenever it has no page. Only the limit
    /// implements it: its pages do not return from the other thread.
    fn refill(&'static self, _worker: &mut Self::Worker) {}

    /// Returns the number of free blocks of 2 MiB, if the peer has such blocks.
    fn nr_whole(&'static self) -> Option<u64> {
        None
    }
}

/// The block of a peer that has none.
pub(crate) type NoBlock = core::convert::Infallible;

/// Pages that one call allocates or frees.
pub(crate) trait Batch: Send {
    /// One page.
    type Page: Send;

    /// Makes an empty batch.
    fn new() -> Self;

    /// Removes and returns a page.
    fn pop(&mut self) -> Option<Self::Page>;

    /// Adds a page; the caller knows that there is room.
    fn push(&mut self, page: Self::Page);
}

/// An array of plain handles and their number.
///
/// The number comes first, as in `PageVec`: after 512 handles it would be 4 KiB after the first
/// handle, and some CPUs assume that loads from one depend on stores to the other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slots<T, const M: usize> {
    len: usize,
    pages: Lines<T, M>,
}

/// Values that begin on a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T, const M: usize>(pub(crate) [T; M]);

impl<T: Copy + Default, const M: usize> Slots<T, M> {
    /// Fills the array with up to `nr` values of `next`, until it returns `None`.
    #[inline]
    pub(crate) fn fill(&mut self, nr: usize, mut next: impl FnMut() -> Option<T>) -> usize {
        self.len = nr;
        for (index, slot) in self.pages.0[..nr].iter_mut().enumerate() {
            let Some(page) = next() else {
                self.len = index;
                break;
            };
            *slot = page;
        }
        self.len
    }

    /// Lets `write` fill up to `nr` entries, and returns how many it filled.
    #[inline]
    pub(crate) fn write(&mut self, nr: usize, write: impl FnOnce(&mut [T]) -> usize) -> usize {
        self.len = write(&mut self.pages.0[..nr]);
        self.len
    }

    /// Empties the array and returns its values.
    #[inline]
    pub(crate) fn take(&mut self) -> &[T] {
        let nr = core::mem::take(&mut self.len);
        &self.pages.0[..nr]
    }
}

impl<T: Copy + Default + Send, const M: usize> Batch for Slots<T, M> {
    type Page = T;

    fn new() -> Self {
        Self { len: 0, pages: Lines([T::default(); M]) }
    }

    fn pop(&mut self) -> Option<T> {
        self.len = self.len.checked_sub(1)?;
        Some(self.pages.0[self.len])
    }

    fn push(&mut self, page: T) {
        self.pages.0[self.len] = page;
        self.len += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_hold_what_was_written_until_it_is_taken() {
        let mut slots = Slots::<u64, 4>::new();
        let mut left = 3..6_u64;
        assert_eq!(slots.fill(4, || left.next()), 3);
        assert_eq!(slots.pop(), Some(5));
        slots.push(9);
        assert_eq!(slots.take(), [3, 4, 9]);
        assert_eq!(slots.pop(), None);
        assert_eq!(slots.write(2, |room| room.len()), 2);
    }
}
