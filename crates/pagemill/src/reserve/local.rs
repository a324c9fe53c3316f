//! Local reserve ([`LocalPages`]): pages that one thread or queue keeps for itself, without a lock or
//! a CPU number.

use crate::alloc_pages::AllocPages;
use crate::base::gfp::Gfp;
use crate::page::page::Page;
use crate::page::page_vec::{PageVec, PageVecIter};

/// Flags that choose the zone, migrate type, node or account of a page.
const CHOOSES: Gfp = Gfp::HOT_ZONE.union(Gfp::THISNODE).union(Gfp::ACCOUNT);

/// Flags that the reserve cannot serve by moving pages alone.
const SPECIAL: Gfp = CHOOSES.union(Gfp::ZERO);

/// Up to `N` pages for one owner, who needs neither a lock nor a CPU number to take one.
///
/// For one worker thread, or one receive queue of a device. An empty reserve is refilled to half from
/// the allocator, and a full one returns half of its pages; in between, pages move by copies alone. The
/// allocator and its counters treat the pages as in use. Dropping the reserve frees them.
///
/// The reserve holds only pages that any plain request may get: unmovable and charged to no account. A
/// request for pages of a certain zone, migrate type, node or account goes to the allocator, and such
/// pages are freed to it at once. [`Gfp::ZERO`] zeroes pages on their way out. The other flags matter
/// only when the reserve is refilled.
///
/// It cannot be shared: every method takes `&mut self`.
///
/// # Examples
/// ```
/// # use pagemill::reserves::LocalPages;
/// # use pagemill::{AllocPages, Gfp, PageVec};
/// # fn example<S: AllocPages>(frames: S) {
/// let mut local = LocalPages::<S, 256>::new(frames.clone());
/// let mut batch = PageVec::<S, 64>::new(frames);
/// let got = local.alloc_bulk(Gfp::KERNEL, 64, &mut batch);
/// assert_eq!(local.free_bulk(&mut batch), got);
/// # }
/// ```
#[derive(Debug)]
pub struct LocalPages<S: AllocPages, const N: usize> {
    reserve: PageVec<S, N>,
}

impl<S: AllocPages, const N: usize> LocalPages<S, N> {
    /// Makes an empty reserve.
    #[must_use]
    pub const fn new(source: S) -> Self {
        const { assert!(N >= 2, "a reserve holds two pages at least") };
        Self { reserve: PageVec::new(source) }
    }

    /// Returns the number of pages in the reserve.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.reserve.len()
    }

    /// Returns whether the reserve is empty.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.reserve.is_empty()
    }

    /// Takes one page: from the allocator if `gfp` chooses the zone, migrate type, node or account
    /// (`DMA`, `DMA32`, `HIGHMEM`, `MOVABLE`, `RECLAIMABLE`, `THISNODE`, `ACCOUNT`), else from the
    /// reserve.
    ///
    /// # Errors
    /// `None` if the allocator has no page for `gfp` and the reserve is empty or may not serve it.
    #[inline]
    #[track_caller]
    #[must_use = "a page that is dropped is freed"]
    pub fn alloc(&mut self, gfp: Gfp) -> Option<Page<S>> {
        if gfp.intersects(SPECIAL) {
            return self.alloc_special(gfp);
        }
        if self.reserve.is_empty() {
            self.refill(gfp, 1);
        }
        self.reserve.pop()
    }

    /// Appends up to `nr` pages to `pages`, and returns their number. They come from the reserve or the
    /// allocator, as for [`alloc`](Self::alloc).
    ///
    /// At least one page is added if a single allocation would succeed and there is room.
    ///
    /// # Panics
    /// If `pages` belongs to another allocator.
    #[inline]
    #[track_caller]
    pub fn alloc_bulk<const M: usize>(
        &mut self,
        gfp: Gfp,
        nr: usize,
        pages: &mut PageVec<S, M>,
    ) -> usize {
        if gfp.intersects(SPECIAL) {
            return self.alloc_bulk_special(gfp, nr, pages);
        }
        let got = pages.append(&mut self.reserve, nr);
        if got == nr { got } else { self.alloc_rest(gfp, nr, got, pages) }
    }

    /// Fills the empty slots of `slots` in order, and returns the number of pages that it added. They come
    /// from the reserve or the allocator, as for [`alloc`](Self::alloc).
    ///
    /// At least one page is added if a single allocation would succeed and a slot is empty. Slots that hold
    /// a page are left alone.
    #[track_caller]
    pub fn alloc_into(&mut self, gfp: Gfp, slots: &mut [Option<Page<S>>]) -> usize {
        if gfp.intersects(SPECIAL) {
            return self.alloc_special_into(gfp, slots);
        }
        let wanted = slots.iter().filter(|slot| slot.is_none()).count();
        let mut got = self.reserve.drain_into(slots);
        while got < wanted {
            self.refill(gfp, wanted - got);
            match self.reserve.drain_into(slots) {
                0 => break,
                now => got += now,
            }
        }
        got
    }

    /// Empties the slots, puts their pages into the reserve as [`free`](Self::free) does, and returns the
    /// number of pages.
    ///
    /// # Panics
    /// If a page belongs to another allocator.
    #[track_caller]
    pub fn free_from(&mut self, slots: &mut [Option<Page<S>>]) -> usize {
        let mut nr = 0;
        for page in slots.iter_mut().filter_map(Option::take) {
            self.free(page);
            nr += 1;
        }
        nr
    }

    /// Puts one page into the reserve, or frees it to the allocator if it is movable, reclaimable or
    /// charged.
    ///
    /// # Panics
    /// If the page belongs to another allocator.
    #[inline]
    #[track_caller]
    pub fn free(&mut self, page: Page<S>) {
        if !page.raw().class().is_plain() {
            self.reserve.check_allocator(page.source());
            return drop(page);
        }
        if self.reserve.is_full() {
            self.spill(N / 2);
        }
        // There is room: at most N / 2 pages are left.
        drop(self.reserve.push(page));
    }

    /// Puts all of `pages` into the reserve, and returns their number. Frees those to the allocator that
    /// are movable, reclaimable or charged.
    ///
    /// # Panics
    /// If `pages` belongs to another allocator.
    #[inline]
    #[track_caller]
    pub fn free_bulk<const M: usize>(&mut self, pages: &mut PageVec<S, M>) -> usize {
        let nr = pages.len();
        // The reserve's own class is plain; comparing with it is cheaper than taking one apart.
        if !pages.are_of_class_of(&self.reserve) && !pages.are_plain() {
            return self.free_special(pages);
        }
        self.reserve.append(pages, nr);
        if !pages.is_empty() {
            self.free_rest(pages);
        }
        nr
    }

    /// Frees all pages to the allocator, and returns their number.
    pub fn drain(&mut self) -> usize {
        self.reserve.clear()
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
            match pages.append(&mut self.reserve, nr - got) {
                0 => break,
                now => got += now,
            }
        }
        got
    }

    /// Refills the empty reserve to half, or with `nr` pages if that is more.
    #[track_caller]
    fn refill(&mut self, gfp: Gfp, nr: usize) {
        let wanted = nr.max(N / 2).min(N);
        let source = self.reserve.source().clone();
        source.alloc_pages_bulk_vec(gfp, wanted, &mut self.reserve);
    }

    /// Takes one page for a request with flags of [`SPECIAL`].
    #[cold]
    #[track_caller]
    fn alloc_special(&mut self, gfp: Gfp) -> Option<Page<S>> {
        if gfp.intersects(CHOOSES) {
            return self.reserve.source().clone().alloc_page(gfp);
        }
        let page = self.alloc(gfp.difference(Gfp::ZERO))?;
        page.source().allocator().zero(page.pfn(), 1);
        Some(page)
    }

    /// Takes pages for a request with flags of [`SPECIAL`].
    #[cold]
    #[track_caller]
    fn alloc_bulk_special<const M: usize>(
        &mut self,
        gfp: Gfp,
        nr: usize,
        pages: &mut PageVec<S, M>,
    ) -> usize {
        let source = self.reserve.source().clone();
        pages.check_allocator(&source);
        let before = pages.len();
        if gfp.intersects(CHOOSES) {
            source.alloc_pages_bulk_vec(gfp, nr, pages);
        } else {
            self.alloc_bulk(gfp.difference(Gfp::ZERO), nr, pages);
            source.allocator().zero_all(&pages.as_raw()[before..]);
        }
        pages.len() - before
    }

    /// Fills slots for a request with flags of [`SPECIAL`].
    #[cold]
    #[track_caller]
    fn alloc_special_into(&mut self, gfp: Gfp, slots: &mut [Option<Page<S>>]) -> usize {
        let nr_full = |slots: &[Option<Page<S>>]| slots.iter().flatten().count();
        let before = nr_full(slots);
        if gfp.intersects(CHOOSES) {
            self.reserve.source().clone().alloc_pages_bulk(gfp, slots);
        } else {
            for slot in slots.iter_mut().filter(|slot| slot.is_none()) {
                *slot = self.alloc(gfp);
            }
        }
        nr_full(slots) - before
    }

    /// Frees pages of which some must not enter the reserve.
    #[cold]
    #[track_caller]
    fn free_special<const M: usize>(&mut self, pages: &mut PageVec<S, M>) -> usize {
        self.reserve.check_allocator(pages.source());
        let nr = pages.len();
        core::iter::from_fn(|| pages.pop()).for_each(|page| self.free(page));
        nr
    }

    #[cold]
    fn free_rest<const M: usize>(&mut self, pages: &mut PageVec<S, M>) {
        // The pages that came last are the warmest in the cache, and stay.
        self.spill(N / 2);
        let nr = pages.len();
        self.reserve.append(pages, nr);
        pages.clear();
    }

    /// Frees `nr` pages of the reserve to the allocator.
    #[cold]
    fn spill(&mut self, nr: usize) {
        let mut out = PageVec::<S, N>::new(self.reserve.source().clone());
        out.append(&mut self.reserve, nr);
    }
}

impl<S: AllocPages, const N: usize> IntoIterator for LocalPages<S, N> {
    type Item = Page<S>;
    type IntoIter = PageVecIter<S, N>;

    /// Yields the pages of the reserve, first to last. Those that are not taken are freed.
    fn into_iter(self) -> PageVecIter<S, N> {
        self.reserve.into_iter()
    }
}
