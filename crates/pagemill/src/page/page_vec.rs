//! Page vectors: up to N pages that are allocated and freed as one batch, without scanning slots.

use core::fmt;
use core::hint::assert_unchecked;
use core::iter::FusedIterator;
use core::mem::MaybeUninit;
use core::ops::{Bound, Range, RangeBounds};

use crate::base::raw_page::{Class, Difference, RawPage};
use crate::page::page::Page;
use crate::page::source::PageSource;

/// Up to `N` single pages and their number; dropping it frees them together.
///
/// An array of slots must be scanned and cleared. A vector knows its length, and records as pages come
/// whether all of them return to the same list. So moving a batch between it and the allocator is one
/// copy.
///
/// `vec-init`: `len` is at most `N`, and the first `len` entries of `pages` are initialised: pages
/// of this source that the vector alone owns. `vec-class`: if `difference` is none, they are all of
/// `class`.
///
/// # Examples
/// ```
/// # use pagemill::{AllocPages, Gfp, PageVec};
/// # fn example<S: AllocPages + Copy>(frames: S) {
/// let mut pages = PageVec::<S, 64>::new(frames);
/// while !pages.is_full() && frames.alloc_pages_bulk_vec(Gfp::KERNEL, 64, &mut pages) > 0 {}
/// let one = pages.pop(); // the page that came last
/// pages.clear(); // frees the others at once
/// # drop(one);
/// # }
/// ```
///
/// # Source
/// `linux-6.12` `include/linux/pagevec.h` `struct folio_batch`. Differs: it owns its pages.
// Field order matters: behind 512 pages, the other fields would be 4 KiB after the first page, and some
// CPUs then assume that loads from the one depend on stores to the other.
#[repr(C)]
pub struct PageVec<S: PageSource, const N: usize> {
    len: usize,
    class: Class,
    /// How the class of later pages differs from `class`; none while the vector is empty.
    difference: Difference,
    source: S,
    pages: Lines<N>,
}

/// Words that begin on a cache line, so that a copy of a batch touches no line twice.
#[repr(C, align(64))]
struct Lines<const N: usize>([MaybeUninit<RawPage>; N]);

impl<S: PageSource, const N: usize> PageVec<S, N> {
    /// Makes an empty vector for pages of one allocator.
    #[must_use]
    pub const fn new(source: S) -> Self {
        let pages = Lines([MaybeUninit::uninit(); N]);
        Self { len: 0, class: Class::NONE, difference: Difference::NONE, source, pages }
    }

    /// Returns the number of pages.
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        // SAFETY: 1. true by `vec-init`. The compiler can then omit bounds checks below the length.
        unsafe { assert_unchecked(self.len <= N) };
        self.len
    }

    /// Returns whether there is no page.
    #[inline]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Returns whether there is no room.
    #[inline]
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.len() == N
    }

    /// Returns how many more pages fit.
    #[inline]
    #[must_use]
    pub fn room(&self) -> usize {
        N - self.len()
    }

    /// Appends a page.
    ///
    /// # Errors
    /// Returns the page if there is no room.
    ///
    /// # Panics
    /// If the page belongs to another allocator.
    #[inline]
    #[track_caller]
    pub fn push(&mut self, page: Page<S>) -> Result<(), Page<S>> {
        if self.is_full() {
            return Err(page);
        }
        self.check_allocator(page.source());
        self.push_one(page.into_raw());
        Ok(())
    }

    /// Removes and returns the last page.
    #[inline]
    pub fn pop(&mut self) -> Option<Page<S>> {
        let (&raw, rest) = self.as_raw().split_last()?;
        let len = rest.len();
        // First: a clone that panics leaves the page to the vector.
        let source = self.source.clone();
        self.len = len;
        Some(Page::new(source, raw))
    }

    /// Moves up to `nr` pages from the end of `other` to the end of this vector, as far as there is
    /// room, and returns their number.
    ///
    /// # Panics
    /// If the two belong to different allocators.
    ///
    /// # Cost
    /// One copy.
    #[inline]
    #[track_caller]
    pub fn append<const M: usize>(&mut self, other: &mut PageVec<S, M>, nr: usize) -> usize {
        self.check_allocator(&other.source);
        let end = other.len();
        let nr = nr.min(end).min(self.room());
        let start = end - nr;
        // Shortened first: what follows does not panic, and if it did, pages would leak rather than
        // exist twice.
        other.len = start;
        // SAFETY: 1. initialised: the entries were among the first `len` (`vec-init`).
        let moved = unsafe { other.pages.0[start..end].assume_init_ref() };
        if let &[page] = moved {
            // Without the copy of a slice, which is a call.
            self.pages.0[self.len()].write(page);
            self.note_class(other.class, other.difference);
            self.len += 1;
        } else {
            self.push_class(other.class, other.difference, moved);
        }
        nr
    }

    /// Moves pages from the end of the vector into the empty slots of `slots`, as many as there are of
    /// both, and returns their number. The pages keep their order; slots that hold a page are left alone.
    ///
    /// # Examples
    /// ```
    /// # use pagemill::{AllocPages, Gfp, Page, PageVec};
    /// # fn example<S: AllocPages + Copy>(mut pages: PageVec<S, 64>) {
    /// let mut slots: [Option<Page<S>>; 16] = [const { None }; 16];
    /// let moved = pages.drain_into(&mut slots);
    /// assert!(moved == 16 || pages.is_empty());
    /// # }
    /// ```
    pub fn drain_into(&mut self, slots: &mut [Option<Page<S>>]) -> usize {
        let nr = slots.iter().filter(|slot| slot.is_none()).count().min(self.len());
        let start = self.len() - nr;
        // Shortened first, as in `append`.
        self.len = start;
        // SAFETY: 1. initialised: the entries were among the first `len` (`vec-init`).
        let moved = unsafe { self.pages.0[start..start + nr].assume_init_ref() };
        let empty = slots.iter_mut().filter(|slot| slot.is_none());
        for (slot, &raw) in empty.zip(moved) {
            *slot = Some(Page::new(self.source.clone(), raw));
        }
        nr
    }

    /// Removes the pages of `range` and yields them, first to last. The pages behind it move up.
    ///
    /// The pages leave the vector at once. Those that are not taken are freed when the iterator is
    /// dropped, also if the code between panics; if it is leaked, so are they.
    ///
    /// # Panics
    /// If `range` is not within the vector.
    ///
    /// # Cost
    /// Two copies: the pages into the iterator, and those behind them to their new places.
    #[track_caller]
    pub fn drain(&mut self, range: impl RangeBounds<usize>) -> PageVecIter<S, N> {
        let len = self.len();
        let Range { start, end } = resolve(&range, len);
        let mut pages = Self::new(self.source.clone());
        pages.push_class(self.class, self.difference, &self.as_raw()[start..end]);
        self.len = start + (len - end);
        self.pages.0.copy_within(end..len, start);
        pages.into_iter()
    }

    /// Frees all pages, and returns their number.
    ///
    /// # Cost
    /// One copy if all of them belong to one zone and migrate type; else one per run of pages that do.
    #[inline]
    pub fn clear(&mut self) -> usize {
        let nr = self.len();
        self.len = 0;
        // SAFETY: 1. initialised: the entries were among the first `len` (`vec-init`).
        let pages = unsafe { self.pages.0[..nr].assume_init_ref() };
        let allocator = self.source.allocator();
        if let &[page] = pages {
            allocator.free_single(page);
        } else if !self.difference.is_none() {
            self.difference = Difference::NONE;
            allocator.free_pages(pages);
        } else if nr > 0 {
            allocator.free_pages_of(self.class, pages);
        }
        nr
    }

    /// Returns how the allocator is reached.
    #[inline]
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Adds pages, all of one class, that the allocator hands out.
    #[inline]
    pub(crate) fn push_raw(&mut self, pages: &[RawPage]) {
        if let Some(first) = pages.first() {
            self.push_class(first.class(), Difference::NONE, pages);
        }
    }

    /// Adds one page; the caller has checked that there is room.
    #[inline]
    pub(crate) fn push_one(&mut self, page: RawPage) {
        let (class, len) = (page.class(), self.len());
        self.pages.0[len].write(page);
        self.note_class(class, Difference::NONE);
        self.len = len + 1;
    }

    /// Returns whether all pages are known to be of the class that the first page of `other` had, or
    /// its last first page if it is empty.
    #[inline]
    pub(crate) fn are_of_class_of<const M: usize>(&self, other: &PageVec<S, M>) -> bool {
        self.difference.is_none() && self.class == other.class
    }

    /// Returns whether all pages are known to be unmovable and charged to no account.
    #[cold]
    pub(crate) fn are_plain(&self) -> bool {
        self.difference.is_none() && self.class.is_plain()
    }

    #[inline]
    #[track_caller]
    pub(crate) fn check_allocator(&self, source: &S) {
        assert!(
            self.source.is_same(source),
            "the pages and the vector belong to different allocators"
        );
    }

    /// Adds pages that differ from `class` by `difference`; none if all are of that class.
    #[inline]
    fn push_class(&mut self, class: Class, difference: Difference, pages: &[RawPage]) {
        let len = self.len();
        self.pages.0[len..][..pages.len()].write_copy_of_slice(pages);
        if !pages.is_empty() {
            self.note_class(class, difference);
        }
        self.len = len + pages.len();
    }

    /// Records the class of the pages that are about to be added.
    #[inline]
    fn note_class(&mut self, class: Class, difference: Difference) {
        let difference = if self.len == 0 {
            self.class = class;
            difference
        } else {
            self.difference.or(difference).or(self.class.difference_to(class))
        };
        // Mostly it is equal; skipping the store then spares the next call from waiting for it.
        if difference != self.difference {
            self.difference = difference;
        }
    }

    #[inline]
    pub(crate) fn as_raw(&self) -> &[RawPage] {
        // SAFETY: 1. initialised: `vec-init`.
        unsafe { self.pages.0[..self.len()].assume_init_ref() }
    }
}

/// Returns the range of indexes that `range` means for a vector of `len` pages.
///
/// # Panics
/// If it is not within them.
#[track_caller]
fn resolve(range: &impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let start = match range.start_bound() {
        Bound::Included(&start) => start,
        Bound::Excluded(&before) => before.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(&last) => last.saturating_add(1),
        Bound::Excluded(&end) => end,
        Bound::Unbounded => len,
    };
    assert!(start <= end && end <= len, "pages {start}..{end} of a vector of {len} pages");
    start..end
}

/// Pages that left a [`PageVec`], first to last; dropping it frees those that were not taken.
pub struct PageVecIter<S: PageSource, const N: usize> {
    /// The last page first, so that taking a page is a [`pop`](PageVec::pop).
    reversed: PageVec<S, N>,
}

impl<S: PageSource, const N: usize> IntoIterator for PageVec<S, N> {
    type Item = Page<S>;
    type IntoIter = PageVecIter<S, N>;

    fn into_iter(self) -> PageVecIter<S, N> {
        let mut reversed = self;
        let len = reversed.len();
        reversed.pages.0[..len].reverse();
        PageVecIter { reversed }
    }
}

impl<S: PageSource, const N: usize> Iterator for PageVecIter<S, N> {
    type Item = Page<S>;

    #[inline]
    fn next(&mut self) -> Option<Page<S>> {
        self.reversed.pop()
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.reversed.len(), Some(self.reversed.len()))
    }
}

impl<S: PageSource, const N: usize> ExactSizeIterator for PageVecIter<S, N> {}

impl<S: PageSource, const N: usize> FusedIterator for PageVecIter<S, N> {}

impl<S: PageSource, const N: usize> fmt::Debug for PageVecIter<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.reversed.as_raw().iter().rev()).finish()
    }
}

impl<S: PageSource, const N: usize> Drop for PageVec<S, N> {
    #[inline]
    fn drop(&mut self) {
        self.clear();
    }
}

impl<S: PageSource, const N: usize> fmt::Debug for PageVec<S, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_raw()).finish()
    }
}

#[cfg(test)]
mod tests;
