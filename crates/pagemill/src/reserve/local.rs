//! Pages that one owner keeps at hand, in front of the per-CPU lists.

use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::page::page::Page;
use crate::page::page_vec::PageVec;

/// A stock of up to `N` pages with one owner, who needs no lock and no CPU's number to use it.
///
/// For one worker thread, or one receive queue of a device. It is filled from the
/// allocator, half of it at a time, when it is empty, and gives half of what it holds back when it is
/// full; in between, pages move by copies alone. For the allocator and its counters, pages in it are
/// in use. Dropping it gives them back.
///
/// It cannot be shared: everything takes `&mut self`.
///
/// # Examples
/// ```
/// # use pagemill::*;
/// # fn example<S: AllocPages>(frames: S) {
/// let mut local = LocalPages::<S, 256>::new(frames.clone());
/// let mut batch = PageVec::<S, 64>::new(frames);
/// let got = local.alloc_bulk(Gfp::KERNEL, 64, &mut batch);
/// assert_eq!(local.free_bulk(&mut batch), got);
/// # }
/// ```
#[derive(Debug)]
pub struct LocalPages<S: AllocPages, const N: usize> {
    stock: PageVec<S, N>,
}

impl<S: AllocPages, const N: usize> LocalPages<S, N> {
    /// Makes an empty stock.
    #[must_use]
    pub const fn new(source: S) -> Self {
        const { assert!(N >= 2, "a stock holds two pages at least") };
        Self { stock: PageVec::new(source) }
    }

    /// Returns the number of pages in stock.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.stock.len()
    }

    /// Tells whether nothing is in stock.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.stock.is_empty()
    }

    /// Takes one page.
    ///
    /// # Errors
    /// `None` if the stock is empty and the allocator has none for `gfp`.
    #[inline]
    #[track_caller]
    pub fn alloc(&mut self, gfp: Gfp) -> Option<Page<S>> {
        if self.stock.is_empty() {
            self.refill(gfp, 1);
        }
        self.stock.pop()
    }

    /// Puts up to `nr` pages behind the last one of `pages`, and returns their number.
    ///
    /// At least one page comes if `gfp` lets one be had at all and there is room.
    ///
    /// # Panics
    /// If `pages` is for another allocator.
    #[inline]
    #[track_caller]
    pub fn alloc_bulk<const M: usize>(
        &mut self,
        gfp: Gfp,
        nr: usize,
        pages: &mut PageVec<S, M>,
    ) -> usize {
        let got = pages.append(&mut self.stock, nr);
        if got == nr { got } else { self.alloc_rest(gfp, nr, got, pages) }
    }

    /// Takes back one page.
    #[inline]
    pub fn free(&mut self, page: Page<S>) {
        if self.stock.is_full() {
            self.spill(N / 2);
        }
        // It has room: at most N / 2 are left.
        drop(self.stock.push(page));
    }

    /// Takes back all of `pages`, and returns their number.
    ///
    /// # Panics
    /// If `pages` is for another allocator.
    #[inline]
    pub fn free_bulk<const M: usize>(&mut self, pages: &mut PageVec<S, M>) -> usize {
        let nr = pages.len();
        self.stock.append(pages, nr);
        if !pages.is_empty() {
            self.free_rest(pages);
        }
        nr
    }

    /// Gives all pages back to the allocator, and returns their number.
    pub fn drain(&mut self) -> usize {
        self.stock.clear()
    }

    #[cold]
    #[track_caller]
    fn alloc_rest<const M: usize>(
        &mut self,
        gfp: Gfp,
        nr: usize,
        got: usize,
        pages: &mut PageVec<S, M>,
    ) -> usize {
        let mut got = got;
        while got < nr && !pages.is_full() {
            self.refill(gfp, nr - got);
            match pages.append(&mut self.stock, nr - got) {
                0 => break,
                now => got += now,
            }
        }
        got
    }

    /// Fills the empty stock to the half, or with `nr` pages if these are fewer than it could be had.
    #[track_caller]
    fn refill(&mut self, gfp: Gfp, nr: usize) {
        let wanted = nr.max(N / 2).min(N);
        let source = self.stock.source().clone();
        source.alloc_pages_bulk_vec(gfp, wanted, &mut self.stock);
    }

    #[cold]
    fn free_rest<const M: usize>(&mut self, pages: &mut PageVec<S, M>) {
        // Those that came last are the warmest: they stay.
        self.spill(N / 2);
        let nr = pages.len();
        self.stock.append(pages, nr);
        pages.clear();
    }

    /// Gives `nr` pages of the stock back.
    #[cold]
    fn spill(&mut self, nr: usize) {
        let mut out = PageVec::<S, N>::new(self.stock.source().clone());
        out.append(&mut self.stock, nr);
    }
}
