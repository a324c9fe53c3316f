//! `FrameRange`: a handle of any number of adjacent frames, which can be split at any frame.

use core::fmt;
use core::mem;
use core::ptr::NonNull;

use crate::base::raw_page::{Class, RawPage};
use crate::base::units::{MAX_ORDER, NodeId, Order, PAGE_SIZE, Pfn, PhysAddr};
use crate::page::page::{Folio, Page};
use crate::page::source::PageSource;
use crate::page_alloc::contig::Taken;
use crate::platform::platform::DirectMap;

/// Adjacent frames and the right to use them; dropping it frees them at once.
///
/// Their number is any, and they need not be aligned. Returned by
/// [`alloc_contig`](crate::AllocPages::alloc_contig) and
/// [`alloc_contig_range`](crate::AllocPages::alloc_contig_range).
///
/// # Cost
/// Freeing costs the same as allocating: one lock for up to 16 pageblocks, and then the words of their
/// bitmaps.
///
/// # Examples
/// It cannot be used after a part of it was split off and freed:
/// ```compile_fail,E0382
/// # use pagemill::contig::FrameRange;
/// # use pagemill::source::PageSource;
/// # fn example<S: PageSource>(range: FrameRange<S>) {
/// let (front, back) = range.split_at(3);
/// drop(back);
/// range.pfn();
/// # }
/// ```
pub struct FrameRange<S: PageSource> {
    /// The class of the single pages.
    class: Class,
    start: Pfn,
    /// Number of frames; zero once the range was taken apart, and for an empty part.
    nr: usize,
    source: S,
}

impl<S: PageSource> FrameRange<S> {
    /// Makes the owner of a range that [`into_raw`](Self::into_raw) gave up: `nr` frames, of which `first`
    /// is the first one.
    ///
    /// # Panics
    /// If `first` is a block of order above zero.
    ///
    /// # Safety
    /// `first` and `nr` were returned by [`into_raw`](Self::into_raw) of a range of the same allocator,
    /// and only one owner is made of them.
    #[track_caller]
    pub unsafe fn from_raw(source: S, first: RawPage, nr: usize) -> Self {
        assert!(first.order() == Order::ZERO, "{first:?} is not a single page");
        Self { class: first.class(), start: first.pfn(), nr, source }
    }

    /// Gives up the ownership without freeing the frames. Returns the first frame, with the list and the
    /// account that all frames return to, and the number of frames.
    #[must_use = "the frames leak unless they are taken over again"]
    pub fn into_raw(mut self) -> (RawPage, usize) {
        (self.class.at(self.start), mem::take(&mut self.nr))
    }

    /// Gives up the ownership without freeing the frames, and returns the first frame's number and the
    /// number of frames.
    ///
    /// [`free_pfn_range`](crate::AllocPages::free_pfn_range) frees them, in one call or in any pieces. The
    /// allocator remembers the account of charged frames until then.
    #[must_use = "the frames leak unless they are freed"]
    pub fn into_pfn(mut self) -> (Pfn, usize) {
        let nr = mem::take(&mut self.nr);
        if !self.class.account().is_none() {
            let start = self.start.value();
            self.source.allocator().keep_charges(self.class, start..start + nr as u64);
        }
        (self.start, nr)
    }

    /// Makes the owner of frames that the allocator of `source` has just handed out.
    pub(crate) fn new(source: S, taken: Taken) -> Self {
        let Taken { class, start, nr } = taken;
        Self { class, start, nr, source }
    }

    /// Returns the number of the first frame.
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.start
    }

    /// Returns the address of the first byte.
    #[must_use]
    pub fn phys_addr(&self) -> PhysAddr {
        self.start.start()
    }

    /// Returns the number of frames; zero for an empty part of a split range.
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.nr
    }

    /// Returns the node that the frames are on.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.source.allocator().node_of(self.class.at(self.start))
    }

    /// Returns how the allocator is reached.
    pub fn source(&self) -> &S {
        &self.source
    }

    /// Splits the range into its first `nr` frames and the others; either part may be empty.
    ///
    /// # Panics
    /// If the range has fewer frames.
    #[track_caller]
    #[must_use = "a part that is dropped is freed"]
    pub fn split_at(mut self, nr: usize) -> (Self, Self) {
        let back = self.split_off(nr);
        (self, back)
    }

    /// Keeps the first `nr` frames and returns the others.
    ///
    /// # Panics
    /// If the range has fewer frames.
    #[track_caller]
    #[must_use = "a part that is dropped is freed"]
    pub fn split_off(&mut self, nr: usize) -> Self {
        assert!(nr <= self.nr, "split at frame {nr}: the range has {} frames", self.nr);
        let back = Self {
            class: self.class,
            start: self.pfn_at(nr),
            nr: self.nr - nr,
            source: self.source.clone(),
        };
        self.nr = nr;
        back
    }

    /// Appends the frames of `other` to this range, if they come right behind its own.
    ///
    /// # Errors
    /// `other`, if its first frame is not the one behind this range's last, or if it is of another
    /// allocator, zone, migrate type or account. A range without frames is never refused, and one to which
    /// frames are appended becomes `other`.
    pub fn append(&mut self, other: Self) -> Result<(), Self> {
        if other.nr == 0 {
            return Ok(());
        }
        if self.nr == 0 {
            *self = other;
            return Ok(());
        }
        let is_next = self.start.value() + self.nr as u64 == other.start.value();
        let is_same = core::ptr::eq(self.source.allocator(), other.source.allocator());
        if !is_next || !is_same || self.class != other.class {
            return Err(other);
        }
        self.nr += other.into_raw().1;
        Ok(())
    }

    /// Splits the range into its single pages, which are then freed one by one.
    pub fn into_pages(self) -> RangePages<S> {
        RangePages(self)
    }

    /// Turns the range into a folio.
    ///
    /// # Errors
    /// The range, if its number of frames is not a power of two up to 2^[`MAX_ORDER`], or if its first
    /// frame is not a multiple of that number.
    pub fn into_folio(mut self) -> Result<Folio<S>, Self> {
        let order = Order::all().find(|order| order.nr_pages() == self.nr);
        match order.filter(|&order| self.start.is_aligned(order)) {
            None => Err(self),
            Some(order) => {
                // First: a clone that panics leaves the frames to this range, which frees them.
                let source = self.source.clone();
                self.nr = 0;
                let raw = self.class.with_order(order).at(self.start);
                Ok(Folio::new(source, raw))
            }
        }
    }

    /// Returns the frame at position `nr`, which may be the one behind the last.
    fn pfn_at(&self, nr: usize) -> Pfn {
        // The frame behind the last one of a range at the top has no number; an empty part there needs
        // one, but frees nothing.
        Pfn::new((self.start.value() + nr as u64).min(Pfn::MAX.value()))
    }
}

const _: () = assert!(MAX_ORDER.nr_pages() <= usize::MAX / PAGE_SIZE);

impl<S: PageSource> From<Folio<S>> for FrameRange<S> {
    /// Turns a folio into a range, which can be split at any frame.
    fn from(folio: Folio<S>) -> Self {
        let (raw, source) = folio.into_parts();
        let (class, nr) = (raw.class().with_order(Order::ZERO), raw.order().nr_pages());
        Self { class, start: raw.pfn(), nr, source }
    }
}

impl<S: PageSource> From<Page<S>> for FrameRange<S> {
    /// Turns a page into a range of one frame.
    fn from(page: Page<S>) -> Self {
        let (raw, source) = page.into_parts();
        Self { class: raw.class(), start: raw.pfn(), nr: 1, source }
    }
}

impl<S: PageSource<Platform: DirectMap>> FrameRange<S> {
    /// Returns the bytes of the frames, with what their last users left in them.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: 1. valid, aligned and contiguous: DirectMap; all frames are of the map. 2. not written
        // meanwhile: this handle owns the frames and is borrowed.
        unsafe { self.bytes_ptr().as_ref() }
    }

    /// Returns the bytes of the frames, for writing.
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 1. valid, aligned and contiguous: as in `as_bytes`. 2. exclusive: this handle owns the
        // frames and is borrowed uniquely.
        unsafe { self.bytes_ptr().as_mut() }
    }

    fn bytes_ptr(&self) -> NonNull<[u8]> {
        if self.nr == 0 {
            // The frame behind the last one may have no pointer.
            return NonNull::slice_from_raw_parts(NonNull::dangling(), 0);
        }
        let first = self.source.allocator().platform().frame_ptr(self.start);
        NonNull::slice_from_raw_parts(first, self.nr * PAGE_SIZE)
    }
}

impl<S: PageSource> Drop for FrameRange<S> {
    fn drop(&mut self) {
        let Self { class, start, nr, .. } = *self;
        if nr > 0 {
            self.source.allocator().free_contig(Taken { class, start, nr });
        }
    }
}

impl<S: PageSource> fmt::Debug for FrameRange<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrameRange(pfn {}, {} frames)", self.start, self.nr)
    }
}

/// Iterator over the single pages of a [`FrameRange`]; dropping it frees those not taken.
#[must_use = "dropping this frees the pages that were not taken"]
pub struct RangePages<S: PageSource>(FrameRange<S>);

impl<S: PageSource> Iterator for RangePages<S> {
    type Item = Page<S>;

    fn next(&mut self) -> Option<Page<S>> {
        let left = self.0.nr.checked_sub(1)?;
        // First: as in `into_folio`.
        let source = self.0.source.clone();
        let raw = self.0.class.at(self.0.start);
        self.0.start = self.0.pfn_at(1);
        self.0.nr = left;
        Some(Page::new(source, raw))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.0.nr, Some(self.0.nr))
    }
}

impl<S: PageSource> ExactSizeIterator for RangePages<S> {}

impl<S: PageSource> fmt::Debug for RangePages<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RangePages").field(&self.0).finish()
    }
}
