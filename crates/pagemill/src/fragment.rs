//! Pieces of a page, each with an owner of its own; the last one takes the page with it.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use crate::memmap::RefCount;
use crate::page::{Folio, Page};
use crate::platform::DirectMap;
use crate::returning::{Returning, TakeBack};
use crate::source::PageSource;
use crate::sync::{Ordering, fence_acquire};
use crate::units::PAGE_SIZE;

/// What owns the bytes of a page or block: a [`Page`], a [`Folio`], or one of these with something
/// beside it, also where it is [`Returning`].
///
/// # Safety
/// The bytes are the value's own, always the same, initialised, and good for as long as it lives;
/// so is the count, which nobody else uses meanwhile.
pub unsafe trait OwnsBytes: sealed::Sealed {
    /// Returns where the bytes are.
    #[doc(hidden)]
    fn bytes_ptr(&self) -> NonNull<[u8]>;

    /// Returns the count of those who share the frame.
    #[doc(hidden)]
    fn share_count(&self) -> &RefCount;
}

mod sealed {
    /// The bytes must be owned, which only this crate can vouch for.
    #[expect(unnameable_types, reason = "sealed")]
    pub trait Sealed {}
}

impl<S: PageSource<Platform: DirectMap>> sealed::Sealed for Page<S> {}

// SAFETY: 1. its own: a page is unique. 2. initialised, the same, alive: DirectMap. 3. the count is
// used by SharedPage otherwise, of which there is none while there is a Page.
unsafe impl<S: PageSource<Platform: DirectMap>> OwnsBytes for Page<S> {
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        let first = self.source().allocator().platform().frame_ptr(self.pfn());
        NonNull::slice_from_raw_parts(first, PAGE_SIZE)
    }

    fn share_count(&self) -> &RefCount {
        let allocator = self.source().allocator();
        allocator.frames().refs(allocator.frame_of(self.raw()))
    }
}

impl<S: PageSource<Platform: DirectMap>> sealed::Sealed for Folio<S> {}

// SAFETY: 1. to 3. as for Page; frames of a block follow each other in memory: DirectMap.
unsafe impl<S: PageSource<Platform: DirectMap>> OwnsBytes for Folio<S> {
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        let first = self.source().allocator().platform().frame_ptr(self.pfn());
        NonNull::slice_from_raw_parts(first, PAGE_SIZE << self.order().value())
    }

    fn share_count(&self) -> &RefCount {
        let allocator = self.source().allocator();
        allocator.frames().refs(allocator.frame_of(self.raw()))
    }
}

impl<P: OwnsBytes, X> sealed::Sealed for (P, X) {}

// SAFETY: 1. to 3. as for what it holds: nothing else is added.
unsafe impl<P: OwnsBytes, X> OwnsBytes for (P, X) {
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        self.0.bytes_ptr()
    }

    fn share_count(&self) -> &RefCount {
        self.0.share_count()
    }
}

impl<P: OwnsBytes, H: TakeBack<P>> sealed::Sealed for Returning<P, H> {}

// SAFETY: 1. to 3. as for what it holds: its dereference is the same value each time.
unsafe impl<P: OwnsBytes, H: TakeBack<P>> OwnsBytes for Returning<P, H> {
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        (**self).bytes_ptr()
    }

    fn share_count(&self) -> &RefCount {
        (**self).share_count()
    }
}

/// Claims that a carver starts with, so that handing out a fragment needs no atomic operation: more
/// than there are bytes in the largest block.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `BIAS_MAX`
const BIAS: u32 = 1 << 30;

/// A page that is handed out in pieces.
///
/// `frag-count`: the frame's count is the number of fragments, plus `BIAS - nr_given` while the
/// carver lives; each of them holds a copy of the owner, and who brings the count to zero drops it.
/// `frag-disjoint`: since the count was last found to be the carver's alone, no byte was handed out
/// twice.
///
/// # Examples
/// ```
/// # use pagemill::*;
/// # fn example<S: AllocPages<Platform: DirectMap>>(frames: S) -> Option<()> {
/// let mut carver = Carver::new(frames.alloc_page(Gfp::KERNEL)?);
/// let (mut one, mut two) = (carver.carve(100, 64)?, carver.carve(100, 64)?);
/// one.as_bytes_mut().fill(1);
/// two.as_bytes_mut().fill(2);
/// assert_eq!(two.offset(), 128);
/// # Some(()) }
/// ```
pub struct Carver<P: OwnsBytes> {
    owner: ManuallyDrop<P>,
    used: usize,
    nr_given: u32,
}

/// Some bytes of a page, owned; dropping the last fragment lets go of the page.
pub struct Fragment<P: OwnsBytes> {
    /// A copy; see `frag-count`.
    owner: ManuallyDrop<P>,
    offset: u32,
    len: u32,
    /// Send and Sync are said below.
    _owner: PhantomData<*mut P>,
}

// SAFETY: 1. fragments on several threads look at copies of one owner: P: Sync. 2. the last one
// drops it, on whatever thread: P: Send.
unsafe impl<P: OwnsBytes + Send + Sync> Send for Fragment<P> {}
// SAFETY: 1. a shared fragment gives out shared references to bytes and owner only: P: Sync.
unsafe impl<P: OwnsBytes + Send + Sync> Sync for Fragment<P> {}

impl<P: OwnsBytes> Carver<P> {
    /// Begins to hand out the bytes of `owner`, from the first on.
    pub fn new(owner: P) -> Self {
        // Relaxed: whoever else gets a claim gets it from this thread, by means that order.
        owner.share_count().store(BIAS, Ordering::Relaxed);
        Self { owner: ManuallyDrop::new(owner), used: 0, nr_given: 0 }
    }

    /// Hands out the next `len` bytes from a multiple of `align` on; `None` if they do not fit.
    ///
    /// A fragment has at least one byte.
    ///
    /// # Panics
    /// If `align` is no power of two.
    #[inline]
    pub fn carve(&mut self, len: usize, align: usize) -> Option<Fragment<P>> {
        let (offset, len) = (self.used.next_multiple_of(pow2(align)), len.max(1));
        let end = offset.checked_add(len)?;
        if end > self.owner.bytes_ptr().len() {
            return None;
        }
        self.used = end;
        // As many as there are bytes at most, which is less than BIAS.
        self.nr_given += 1;
        // SAFETY: 1. valid to read: a reference. 2. dropped once in all: `frag-count`.
        let owner = ManuallyDrop::new(unsafe { ptr::read(&raw const *self.owner) });
        #[expect(clippy::cast_possible_truncation, reason = "a block has at most 4 MiB")]
        let (offset, len) = (offset as u32, len as u32);
        Some(Fragment { owner, offset, len, _owner: PhantomData })
    }

    /// Returns how many bytes are left behind those that were handed out.
    #[must_use]
    pub fn left(&self) -> usize {
        self.owner.bytes_ptr().len() - self.used
    }

    /// Begins anew if no fragment is left, and tells whether it did.
    pub fn reset(&mut self) -> bool {
        let count = self.owner.share_count();
        // Acquire pairs with the Release in Fragment::drop: what they did to the bytes is over.
        if count.load(Ordering::Acquire) != BIAS - self.nr_given {
            return false;
        }
        // Relaxed: as in `new`.
        count.store(BIAS, Ordering::Relaxed);
        (self.used, self.nr_given) = (0, 0);
        true
    }

    /// Returns the owner of the bytes.
    pub fn owner(&self) -> &P {
        &self.owner
    }
}

impl<P: OwnsBytes> Drop for Carver<P> {
    fn drop(&mut self) {
        // SAFETY: 1. these claims are the carver's, and it is gone after this: `frag-count`.
        if unsafe { is_last(&*self.owner, BIAS - self.nr_given) } {
            // SAFETY: 1. once: nobody else brings the count to zero (`frag-count`).
            unsafe { ManuallyDrop::drop(&mut self.owner) };
        }
    }
}

impl<P: OwnsBytes> Fragment<P> {
    /// Returns the bytes, with whatever their last user left in them.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        // SAFETY: 1. initialised and alive: OwnsBytes; the owner lives while its count is not zero.
        // 2. not written meanwhile: they are this fragment's (`frag-disjoint`), which is borrowed.
        unsafe { self.bytes_ptr().as_ref() }
    }

    /// Returns the bytes, to be changed.
    #[inline]
    #[must_use]
    pub fn as_bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: 1. initialised and alive: as in `as_bytes`. 2. exclusive: they are this
        // fragment's (`frag-disjoint`), which is borrowed uniquely.
        unsafe { self.bytes_ptr().as_mut() }
    }

    /// Lets go of the bytes, and returns the owner of the page if they were the last.
    #[must_use]
    pub fn into_owner(self) -> Option<P> {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: 1. this claim is the fragment's, which is never dropped: `frag-count`.
        if !unsafe { is_last(&*this.owner, 1) } {
            return None;
        }
        // SAFETY: 1. once: nobody else brings the count to zero (`frag-count`).
        Some(unsafe { ManuallyDrop::take(&mut this.owner) })
    }

    /// Returns where in the page the bytes begin.
    #[inline]
    #[must_use]
    pub fn offset(&self) -> usize {
        self.offset as usize
    }

    /// Returns the owner of the page's bytes, which all its fragments share.
    #[inline]
    #[must_use]
    pub fn owner(&self) -> &P {
        &self.owner
    }

    #[inline]
    fn bytes_ptr(&self) -> NonNull<[u8]> {
        let first = self.owner.bytes_ptr().cast::<u8>();
        // SAFETY: 1. within the bytes: `carve` saw to it.
        let first = unsafe { first.add(self.offset()) };
        NonNull::slice_from_raw_parts(first, self.len as usize)
    }
}

impl<P: OwnsBytes> Drop for Fragment<P> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: 1. this claim is the fragment's, and it is gone after this: `frag-count`.
        if unsafe { is_last(&*self.owner, 1) } {
            // SAFETY: 1. once: nobody else brings the count to zero (`frag-count`).
            unsafe { ManuallyDrop::drop(&mut self.owner) };
        }
    }
}

/// Gives `nr` claims up, and tells whether they were the last: then the caller has the owner.
///
/// # Safety
/// The caller has these claims, and uses `owner` no more unless they were the last.
#[inline]
unsafe fn is_last<P: OwnsBytes>(owner: &P, nr: u32) -> bool {
    // Release pairs with the fence of the last one, and with the load in `Carver::reset`.
    let last = owner.share_count().fetch_sub(nr, Ordering::Release) == nr;
    if last {
        fence_acquire();
    }
    last
}

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
