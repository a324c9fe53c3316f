//! What is compared: something that gives pages and takes them back.

/// A source of pages that threads share; it lives as long as the process.
///
/// Calls are made in loops that hold as little else as possible, so each is inlined where it can be.
pub(crate) trait Peer: Sync + 'static {
    /// What one thread keeps for itself; made in that thread.
    type Worker;
    /// Places for up to `M` pages.
    type Batch<const M: usize>: Batch;
    /// The name by which it is chosen and told.
    const NAME: &'static str;
    /// How it is used here, in a few words.
    const NOTE: &'static str;
    /// Whether a thread may give back what another one took.
    const CROSSES: bool = true;
    /// Whether pages lie ready as handles in an array, whose top may be anywhere in it.
    const IS_STOCK: bool = false;

    /// Makes what the calling thread needs.
    fn worker(&'static self) -> Self::Worker;

    /// Makes an empty batch.
    fn batch<const M: usize>(&'static self) -> Self::Batch<M>;

    /// Puts `nr` pages into the empty `batch`, or as many as there are, and returns their number.
    fn alloc<const M: usize>(
        &'static self,
        worker: &mut Self::Worker,
        batch: &mut Self::Batch<M>,
        nr: usize,
    ) -> usize;

    /// Gives all pages of `batch` back.
    fn free<const M: usize>(&'static self, worker: &mut Self::Worker, batch: &mut Self::Batch<M>);

    /// Gives back what the worker keeps in stock, before and after a drain.
    fn rest(&'static self, _worker: &mut Self::Worker) {}

    /// Called where a handover begins, and where it finds no page: only the limit, whose pages do
    /// not come back, does something.
    fn restock(&'static self, _worker: &mut Self::Worker) {}

    /// Counts the blocks of 2 MiB that are whole, if it knows of such.
    fn nr_whole(&'static self) -> Option<u64> {
        None
    }
}

/// Places for pages, some of them filled.
pub(crate) trait Batch: Send {
    /// One page.
    type Page: Send;

    /// Takes some page out.
    fn pop(&mut self) -> Option<Self::Page>;

    /// Adds a page; there is room.
    fn push(&mut self, page: Self::Page);
}

/// An array of plain handles and their number.
///
/// The number stands before them, as in `PageVec`: behind 512 it would be at the place of the first, but for
/// 4 KiB, and some CPUs take loads from one to depend on stores to the other.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Slots<T, const M: usize> {
    len: usize,
    pages: Lines<T, M>,
}

/// Values that begin a cache line.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct Lines<T, const M: usize>(pub(crate) [T; M]);

impl<T: Copy + Default, const M: usize> Slots<T, M> {
    /// Makes an empty one.
    pub(crate) fn new() -> Self {
        Self { len: 0, pages: Lines([T::default(); M]) }
    }

    /// Fills it with what `next` returns, until that is nothing or there are `nr`.
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

    /// Lets `write` fill the first `nr` places and say how many it did.
    #[inline]
    pub(crate) fn write(&mut self, nr: usize, write: impl FnOnce(&mut [T]) -> usize) -> usize {
        self.len = write(&mut self.pages.0[..nr]);
        self.len
    }

    /// Empties it and returns what was there.
    #[inline]
    pub(crate) fn take(&mut self) -> &[T] {
        let nr = core::mem::take(&mut self.len);
        &self.pages.0[..nr]
    }
}

impl<T: Copy + Default + Send, const M: usize> Batch for Slots<T, M> {
    type Page = T;

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
