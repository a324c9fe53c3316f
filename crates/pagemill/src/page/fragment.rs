//! Page fragments: one page or folio carved into pieces with an owner each; the last piece frees it.
//!
//! While a page is carved, its owning handle does not exist. The carver and each fragment hold the
//! page's word and a clone of its source, and the last of them makes the handle again. So no borrow can
//! reach all bytes, and nothing is duplicated other than by its own `Clone`.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::NonNull;

use crate::base::raw_page::RawPage;
use crate::base::sync::{Ordering, fence_acquire};
use crate::base::units::{NodeId, PAGE_SIZE, Pfn};
use crate::memmap::links::RefCount;
use crate::page::owned::{Owned, Unowned};
use crate::page::source::PageSource;
use crate::platform::platform::DirectMap;

/// A [`Page`](crate::Page) or [`Folio`](crate::Folio) whose bytes are accessible, and which can be
/// carved.
pub trait OwnsBytes: Owned<Source: PageSource<Platform: DirectMap>> {}

impl<T: Owned<Source: PageSource<Platform: DirectMap>>> OwnsBytes for T {}

/// Share count that a carver starts with, so that carving a fragment needs no atomic operation. It
/// exceeds the number of bytes in the largest block.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `BIAS_MAX`
const BIAS: u32 = 1 << 30;

/// Hands out a page in fragments.
///
/// `frag-count`: the frame's count is the number of fragments, plus `BIAS - nr_given` while the
/// carver lives. The fragment or carver that reduces it to zero holds the last copy of the page's
/// word, as does a carver that finds no fragment left: only that one may make the owner again.
/// `frag-disjoint`: no byte is in two fragments. The carver hands out each byte once, and starts
/// again only after the count has shown that no fragment exists. The page has no owning handle
/// while it is carved, so nothing else reaches the bytes.
///
/// # Examples
/// ```
/// # use pagemill::fragment::Carver;
/// # use pagemill::machine::DirectMap;
/// # use pagemill::{AllocPages, Gfp, Platform};
/// # fn example<S: AllocPages<Platform: DirectMap>>(frames: S) -> Option<()> {
/// let mut carver = Carver::new(frames.alloc_page(Gfp::KERNEL)?);
/// let (mut one, mut two) = (carver.carve(100, 64)?, carver.carve(100, 64)?);
/// one.as_bytes_mut().fill(1);
/// two.as_bytes_mut().fill(2);
/// assert_eq!(two.offset(), 128);
/// # Some(()) }
/// ```
/// The page's bytes cannot be accessed while fragments exist:
/// ```compile_fail,E0599
/// # use pagemill::fragment::Carver;
/// # use pagemill::machine::DirectMap;
/// # use pagemill::{AllocPages, Gfp, Platform};
/// # fn example<S: AllocPages<Platform: DirectMap>>(frames: S) -> Option<()> {
/// let mut carver = Carver::new(frames.alloc_page(Gfp::KERNEL)?);
/// let mut piece = carver.carve(100, 1)?;
/// let all = carver.owner().as_bytes();
/// piece.as_bytes_mut()[0] = all[0];
/// # Some(()) }
/// ```
/// Only pages and folios can be carved, not a value that holds one of them:
/// ```compile_fail,E0277
/// # use pagemill::fragment::Carver;
/// # use pagemill::machine::DirectMap;
/// # use pagemill::{AllocPages, Gfp, Platform};
/// # use core::cell::RefCell;
/// # fn example<S: AllocPages<Platform: DirectMap>>(frames: S) -> Option<()> {
/// let carver = Carver::new((frames.alloc_page(Gfp::KERNEL)?, RefCell::new(vec![1_u8])));
/// # Some(()) }
/// ```
/// A fragment cannot leave the thread that its source is bound to:
/// ```compile_fail,E0277
/// # use pagemill::fragment::Fragment;
/// # use pagemill::machine::DirectMap;
/// # use pagemill::source::PageSource;
/// # use pagemill::{Page, PageAllocator, Platform};
/// fn sent<T: Send>(_: T) {}
/// # struct Bound<'a, P: Platform>(&'a PageAllocator<P>, core::marker::PhantomData<*mut ()>);
/// # impl<P: Platform> Clone for Bound<'_, P> {
/// #     fn clone(&self) -> Self { Self(self.0, self.1) }
/// # }
/// # unsafe impl<P: Platform> PageSource for Bound<'_, P> {
/// #     type Platform = P;
/// #     fn allocator(&self) -> &PageAllocator<P> { self.0 }
/// # }
/// # fn example<P: DirectMap>(fragment: Fragment<Page<Bound<'_, P>>>) {
/// sent(fragment);
/// # }
/// ```
pub struct Carver<P: OwnsBytes> {
    raw: RawPage,
    /// Taken out once: by `into_owner` or by `drop`.
    source: ManuallyDrop<P::Source>,
    used: usize,
    nr_given: u32,
    /// Dropping a carver may drop a `P`.
    owner: PhantomData<P>,
}

/// Some bytes of a page, owned; dropping the last fragment frees the page.
pub struct Fragment<P: OwnsBytes> {
    raw: RawPage,
    /// This fragment's own clone; taken out once: by `into_owner` or by `drop`.
    source: ManuallyDrop<P::Source>,
    offset: u32,
    len: u32,
    /// Dropping a fragment may drop a `P`.
    owner: PhantomData<P>,
}

impl<P: OwnsBytes> Carver<P> {
    /// Starts to hand out the bytes of `owner`, from the first on.
    pub fn new(owner: P) -> Self {
        let (raw, source) = owner.take_apart();
        // Relaxed: fragments reach other threads by means that order this store.
        share_count(&source, raw).store(BIAS, Ordering::Relaxed);
        let source = ManuallyDrop::new(source);
        Self { raw, source, used: 0, nr_given: 0, owner: PhantomData }
    }

    /// Returns the next `len` bytes from a multiple of `align` on; `None` if they do not fit.
    ///
    /// A fragment has at least one byte.
    ///
    /// # Panics
    /// If `align` is not a power of two.
    #[inline]
    #[track_caller]
    #[must_use = "a fragment that is dropped is given back"]
    pub fn carve(&mut self, len: usize, align: usize) -> Option<Fragment<P>> {
        let (offset, len) = (self.used.next_multiple_of(pow2(align)), len.max(1));
        let end = offset.checked_add(len)?;
        if end > len_bytes(self.raw) {
            return None;
        }
        // Cloned before anything changes: `clone` is the user's code, which may panic.
        let source = ManuallyDrop::new(P::Source::clone(&self.source));
        self.used = end;
        // There are at most as many as there are bytes, which is less than BIAS.
        self.nr_given += 1;
        #[expect(clippy::cast_possible_truncation, reason = "a block has at most 4 MiB")]
        let (offset, len) = (offset as u32, len as u32);
        Some(Fragment { raw: self.raw, source, offset, len, owner: PhantomData })
    }

    /// Returns how many bytes have not been handed out.
    #[must_use]
    pub fn left(&self) -> usize {
        len_bytes(self.raw) - self.used
    }

    /// Returns whether no fragment exists. This holds until the next one is carved.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        // Acquire pairs with the Release in `give_up`: all accesses through fragments happened before.
        share_count(&*self.source, self.raw).load(Ordering::Acquire) == BIAS - self.nr_given
    }

    /// Starts again from the first byte if no fragment exists, and returns whether it did.
    #[must_use = "the carver may still have fragments"]
    pub fn reset(&mut self) -> bool {
        let is_whole = self.is_whole();
        if is_whole {
            // Relaxed: as in `new`.
            share_count(&*self.source, self.raw).store(BIAS, Ordering::Relaxed);
            (self.used, self.nr_given) = (0, 0);
        }
        is_whole
    }

    /// Ends the carving. Returns the owner of the page if no fragment exists; otherwise the last
    /// fragment frees the page.
    #[must_use = "a page that is dropped is freed"]
    pub fn into_owner(self) -> Option<P> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: 1. taken once: `this` is never dropped.
        let source = unsafe { ManuallyDrop::take(&mut this.source) };
        // SAFETY: 1. `BIAS - nr_given` is the carver's part of the count (`frag-count`), and the
        // carver ends here. 2. `source` is the carver's.
        unsafe { give_up(this.raw, source, BIAS - this.nr_given) }
    }

    /// Returns the number of the page's first frame.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.raw.pfn()
    }

    /// Returns the node that the page is on.
    #[inline]
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.source.allocator().node_of(self.raw)
    }
}

impl<P: OwnsBytes> Drop for Carver<P> {
    fn drop(&mut self) {
        // SAFETY: 1. taken once: `drop` runs once, and not after `into_owner`.
        let source = unsafe { ManuallyDrop::take(&mut self.source) };
        // SAFETY: 1. `BIAS - nr_given` is the carver's part of the count (`frag-count`), and the
        // carver ends here. 2. `source` is the carver's.
        drop(unsafe { give_up::<P>(self.raw, source, BIAS - self.nr_given) });
    }
}

impl<P: OwnsBytes> Fragment<P> {
    /// Returns the bytes, with what their last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: 1. initialised and alive: `DirectMap`; the frame is not freed while its count is
        // above zero (`frag-count`), and the platform lives as long as the source. 2. no writer:
        // only this fragment has these bytes (`frag-disjoint`), and it is borrowed.
        unsafe { self.bytes_ptr().as_ref() }
    }

    /// Returns the bytes, for writing.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 1. initialised and alive: as in `as_bytes`. 2. exclusive: only this fragment has
        // these bytes (`frag-disjoint`), and it is borrowed uniquely.
        unsafe { self.bytes_ptr().as_mut() }
    }

    /// Gives up the bytes. Returns the owner of the page if this was the last fragment and the carver
    /// is gone.
    #[must_use = "a page that is dropped is freed"]
    #[inline]
    pub fn into_owner(self) -> Option<P> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: 1. taken once: `this` is never dropped.
        let source = unsafe { ManuallyDrop::take(&mut this.source) };
        // SAFETY: 1. the fragment's part of the count is one (`frag-count`), and the fragment ends
        // here. 2. `source` is the fragment's.
        unsafe { give_up(this.raw, source, 1) }
    }

    /// Returns the offset of the bytes in the page.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Returns the number of the page's first frame.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.raw.pfn()
    }

    /// Returns the node that the page is on.
    #[inline]
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.source.allocator().node_of(self.raw)
    }

    #[inline]
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        let first = self.source.allocator().platform().frame_ptr(self.raw.pfn());
        // SAFETY: 1. in bounds: `carve` checked that the fragment is within the page.
        // 2. contiguous: the frames of a block are consecutive in memory (`DirectMap`).
        let first = unsafe { first.add(self.offset()) };
        NonNull::slice_from_raw_parts(first, self.len as usize)
    }
}

impl<P: OwnsBytes> Drop for Fragment<P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: 1. taken once: `drop` runs once, and not after `into_owner`.
        let source = unsafe { ManuallyDrop::take(&mut self.source) };
        // SAFETY: 1. the fragment's part of the count is one (`frag-count`), and the fragment ends
        // here. 2. `source` is the fragment's.
        drop(unsafe { give_up::<P>(self.raw, source, 1) });
    }
}

/// Subtracts `nr` from the share count, and returns the owner if the count is now zero.
///
/// # Safety
/// `nr` is the caller's part of the share count, and the caller gives it up. `raw` was returned by
/// [`Owned::take_apart`], and `source` reaches its allocator.
#[inline]
unsafe fn give_up<P: OwnsBytes>(raw: RawPage, source: P::Source, nr: u32) -> Option<P> {
    // Release pairs with the fence of the last one, and with the load in `Carver::is_whole`.
    if share_count(&source, raw).fetch_sub(nr, Ordering::Release) != nr {
        return None;
    }
    fence_acquire();
    // Nobody else brings the count to zero (`frag-count`), so the page has no owner.
    Some(P::from_unowned(source, Unowned(raw)))
}

/// Returns a frame's share count, which only the carver and the fragments use while the page is carved.
#[inline]
fn share_count<S: PageSource>(source: &S, raw: RawPage) -> &RefCount {
    let allocator = source.allocator();
    allocator.frames().refs(allocator.frame_of(raw))
}

#[inline]
fn len_bytes(raw: RawPage) -> usize {
    PAGE_SIZE << raw.order().value()
}

#[track_caller]
fn pow2(align: usize) -> usize {
    assert!(align.is_power_of_two(), "an alignment is a power of two, and {align} is none");
    align
}

impl<P: OwnsBytes> fmt::Debug for Carver<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Carver").field("left", &self.left()).finish_non_exhaustive()
    }
}

impl<P: OwnsBytes> fmt::Debug for Fragment<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fragment({} bytes at {})", self.len, self.offset)
    }
}
