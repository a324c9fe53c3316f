//! `Heap`: objects of any size, from a cache for each size class, or as folios.

use core::alloc::Layout;
use core::fmt;
use core::ptr::NonNull;

use pagemill::accounts::AccountId;
use pagemill::machine::DirectMap;
use pagemill::reclaim::{ShrinkControl, Shrinker};
use pagemill::source::PageSource;
use pagemill::{Gfp, PageAllocator, Platform};

use crate::cache::Cache;
use crate::caches::Caches;
use crate::class::{self, CLASS_SIZES, NR_CLASSES};
use crate::config::{CacheConfig, CacheError, Checks, Refill};
use crate::info::SlabInfo;
use crate::large::{self, LargeRequest};
use crate::slabs::Slabs;
use crate::tag::{CacheId, Kind};

/// The configuration of a heap; start from [`HeapConfig::new`].
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "plain data; start from HeapConfig::new")]
pub struct HeapConfig {
    /// How caches take pages; see [`CacheConfig::refill`].
    pub refill: Refill,
    /// The account that pays for all pages.
    pub account: Option<AccountId>,
    /// Objects in one array of a CPU; see [`CacheConfig::array`].
    pub array: Option<u16>,
    /// What caches check; see [`CacheConfig::checks`].
    pub checks: Checks,
}

/// A heap: Linux's `kmalloc`.
///
/// Objects of up to 2 KiB come from 26 caches; rounding up to the size of a cache wastes less than a quarter of
/// objects of 40 bytes and more. Larger objects are folios, which have a power of two of pages, and objects
/// above 4 MiB are contiguous ranges of exactly the pages that they need. An alignment above 8 bytes is
/// served by a class whose size is a multiple of it, one above 2 KiB by a folio.
///
/// # Concurrency
/// As for [`Cache`].
///
/// # Examples
/// ```
/// use core::alloc::Layout;
///
/// use pagemill::Gfp;
/// use pagemill_slab::{Heap, HeapConfig, Slabs};
///
/// # let frames = pagemill_host::HostAllocator::new(64 << 20)?;
/// let slabs = Slabs::new(&*frames)?;
/// let heap = Heap::new(&slabs, &HeapConfig::new())?;
/// let layout = Layout::from_size_align(100, 8)?;
/// let object = heap.alloc(Gfp::KERNEL, layout).expect("there is memory");
/// assert_eq!(unsafe { heap.usable_size(object) }, 112);
/// // The object is from this heap, and not used again.
/// unsafe { heap.free(object) };
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Heap<'s, S: PageSource<Platform: DirectMap>> {
    caches: Caches<'s, S>,
    /// The allocator of all pages. Claims are taken from it, before a cache is accessed: in a child of `fork`,
    /// where the pages with the caches may not be mapped, they fail.
    allocator: &'s PageAllocator<S::Platform>,
    slabs: &'s Slabs<S>,
    first_id: CacheId,
    account: Option<AccountId>,
}

impl HeapConfig {
    /// Configures a heap whose caches are refilled in bulk.
    #[must_use]
    pub const fn new() -> Self {
        Self { refill: Refill::Bulk, account: None, array: None, checks: Checks::Owner }
    }
}

impl Default for HeapConfig {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(clippy::cast_possible_truncation, reason = "26")]
const NR_IDS: u32 = NR_CLASSES as u32;

/// The names of the caches, as Linux has them.
const NAMES: [&str; NR_CLASSES] = [
    "kmalloc-8",
    "kmalloc-16",
    "kmalloc-24",
    "kmalloc-32",
    "kmalloc-48",
    "kmalloc-64",
    "kmalloc-80",
    "kmalloc-96",
    "kmalloc-112",
    "kmalloc-128",
    "kmalloc-160",
    "kmalloc-192",
    "kmalloc-224",
    "kmalloc-256",
    "kmalloc-320",
    "kmalloc-384",
    "kmalloc-448",
    "kmalloc-512",
    "kmalloc-640",
    "kmalloc-768",
    "kmalloc-896",
    "kmalloc-1k",
    "kmalloc-1280",
    "kmalloc-1536",
    "kmalloc-1792",
    "kmalloc-2k",
];

impl<'s, S: PageSource<Platform: DirectMap>> Heap<'s, S> {
    /// Makes a heap.
    ///
    /// # Errors
    /// As for [`Cache::new`]. Nothing stays allocated then.
    ///
    /// # Cost
    /// One page or more for each cache: two arrays for each CPU, and 8 more. Four pages for the caches
    /// themselves.
    pub fn new(slabs: &'s Slabs<S>, config: &HeapConfig) -> Result<Self, CacheError> {
        let first_id = slabs.new_ids(NR_IDS).ok_or(CacheError::TooManyCaches { name: NAMES[0] })?;
        let &HeapConfig { refill, account, array, checks } = config;
        let caches = Caches::new(slabs, NAMES[0], |class| {
            let plain = CacheConfig::new(NAMES[class], CLASS_SIZES[class], 8);
            // With red zones, sizes are no powers of two, so the alignment must be said.
            let align = 1 << CLASS_SIZES[class].trailing_zeros();
            let config = CacheConfig { align, refill, account, array, checks, ..plain };
            Cache::with_id(slabs, &config, first_id.behind(class))
        })?;
        Ok(Self { caches, allocator: slabs.source().allocator(), slabs, first_id, account })
    }

    /// Allocates an object. Its bytes have any values, or are zero with [`Gfp::ZERO`].
    ///
    /// # Errors
    /// `None` if there is no memory, if the size is more than a zone has, or if the direct map does not keep
    /// an alignment above the page size.
    ///
    /// # Source
    /// `linux-6.12` `include/linux/slab.h` `kmalloc`. Differs: an object of no bytes is allocated, too.
    #[inline]
    #[must_use = "the object leaks unless it is freed"]
    pub fn alloc(&self, gfp: Gfp, layout: Layout) -> Option<NonNull<u8>> {
        match class::of_usual(layout) {
            Some(class) => self.alloc_of(gfp, class),
            None => self.alloc_unusual(gfp, layout),
        }
    }

    /// Frees an object whose layout the caller knows.
    ///
    /// # Panics
    /// If the object is of another cache than the layout says, and as for [`Cache::free`].
    ///
    /// # Safety
    /// The object is from this heap, was allocated with this layout, and is not used again.
    #[inline]
    pub unsafe fn free_sized(&self, object: NonNull<u8>, layout: Layout) {
        match class::of_usual(layout) {
            // SAFETY: 1. from this cache, given up: the caller's obligation.
            Some(class) => unsafe { self.free_of(object, class) },
            // SAFETY: 1. from this heap with this layout, given up: the caller's obligation.
            None => unsafe { self.free_unusual(object, layout) },
        }
    }

    /// Frees an object.
    ///
    /// # Panics
    /// If the address is not that of an object of this heap, and as for [`Cache::free`].
    ///
    /// # Safety
    /// The object is from this heap, and is not used again.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `kfree`
    #[track_caller]
    pub unsafe fn free(&self, object: NonNull<u8>) {
        // In a child of `fork`, the table may not be mapped.
        if self.slabs.platform().is_abandoned() {
            return;
        }
        match self.class_of(object) {
            // SAFETY: 1. from this cache, given up: the caller's obligation.
            Some(class) => unsafe { self.caches.of(class).free(object) },
            // SAFETY: 1. a large object if it is one, given up: the caller's obligation.
            None => unsafe { large::free(self.slabs, object) },
        }
    }

    /// Returns how many bytes of an object may be used: at least as many as were asked for. Zero in a child of
    /// `fork`.
    ///
    /// # Panics
    /// If the address is not that of an object of this heap.
    ///
    /// # Safety
    /// The object is from this heap, and was not freed.
    ///
    /// # Source
    /// `linux-6.12` `mm/slab_common.c` `ksize`
    #[must_use]
    #[track_caller]
    pub unsafe fn usable_size(&self, object: NonNull<u8>) -> usize {
        if self.allocator.platform().is_abandoned() {
            return 0;
        }
        match self.class_of(object) {
            Some(class) => CLASS_SIZES[class],
            None => large::size(self.slabs, object),
        }
    }

    /// Changes the size of an object, and moves it if it does not fit where it is, or would leave more than
    /// half of a large object unused. Bytes behind the old size have any values.
    ///
    /// # Errors
    /// `None` if there is no memory; the object stays as it was.
    ///
    /// # Panics
    /// As for [`free_sized`](Self::free_sized).
    ///
    /// # Safety
    /// As for [`free_sized`](Self::free_sized), unless the result is `None`. `new_size`, rounded up to the
    /// alignment, is at most `isize::MAX`.
    ///
    /// # Source
    /// `linux-6.12` `mm/slub.c` `krealloc_noprof`
    #[must_use = "the object may have moved"]
    #[track_caller]
    pub unsafe fn realloc(
        &self,
        gfp: Gfp,
        object: NonNull<u8>,
        layout: Layout,
        new_size: usize,
    ) -> Option<NonNull<u8>> {
        if self.allocator.platform().is_abandoned() {
            return None;
        }
        let new_layout = Layout::from_size_align(new_size, layout.align()).ok()?;
        let (old, new) = (class::of_layout(layout), class::of_layout(new_layout));
        let fits = match (old, new) {
            (Some(old), Some(new)) => old == new,
            (None, None) => large::fits(self.slabs, object, new_size),
            _ => false,
        };
        if fits {
            return Some(object);
        }
        let moved = self.alloc(gfp.difference(Gfp::ZERO), new_layout)?;
        let len = layout.size().min(new_size);
        // SAFETY: 1. valid: both objects have at least as many bytes. 2. apart: the new one was just
        // allocated.
        unsafe { object.copy_to_nonoverlapping(moved, len) };
        // SAFETY: 1. from this heap with this layout, given up: the caller's obligation.
        unsafe { self.free_sized(object, layout) };
        Some(moved)
    }

    /// Does what [`Cache::shrink`] does for all caches, and returns the number of pages.
    pub fn shrink(&self) -> usize {
        self.caches().iter().map(Cache::shrink).sum()
    }

    /// Yields the state of each cache.
    pub fn info(&self) -> impl Iterator<Item = SlabInfo> + '_ {
        self.caches().iter().map(Cache::info)
    }

    /// Returns the caches, those with the smallest objects first; none in a child of `fork`.
    pub fn caches(&self) -> &[Cache<'s, S>] {
        if self.allocator.platform().is_abandoned() { &[] } else { self.caches.as_slice() }
    }

    /// Frees an object of a usual layout if the CPU's array has room for it, and returns whether it did.
    ///
    /// # Safety
    /// If the address is that of an object of this heap, the object was allocated with this layout and is
    /// given up. If it is not, the heap checks owners.
    #[cfg(not(loom))]
    #[inline]
    pub(crate) unsafe fn try_free(&self, object: NonNull<u8>, layout: Layout) -> bool {
        match class::of_usual(layout) {
            // SAFETY: 1. given up if it is of this cache: the caller's obligation.
            Some(class) => unsafe { self.try_free_of(object, class) },
            None => false,
        }
    }

    /// Returns the table that the heap was made from.
    #[must_use]
    pub fn slabs(&self) -> &'s Slabs<S> {
        self.slabs
    }

    #[inline]
    fn alloc_of(&self, gfp: Gfp, class: usize) -> Option<NonNull<u8>> {
        let object = match self.pop_of(class) {
            Some(object) => object,
            None => self.alloc_slowly(gfp, class)?,
        };
        if gfp.contains(Gfp::ZERO) {
            self.caches.of(class).zero(object);
        }
        Some(object)
    }

    #[inline]
    fn pop_of(&self, class: usize) -> Option<NonNull<u8>> {
        let claim = self.allocator.try_claim_cpu_at_once()?;
        // SAFETY: 1. of the allocator of the pages of all caches: that of `slabs`.
        unsafe { self.caches.of(class).pop_claimed(claim) }
    }

    #[cold]
    #[inline(never)]
    fn alloc_slowly(&self, gfp: Gfp, class: usize) -> Option<NonNull<u8>> {
        if self.allocator.platform().is_abandoned() {
            return None;
        }
        self.caches.of(class).alloc_slowly(gfp)
    }

    /// # Safety
    /// The object is of this class, and given up.
    #[inline]
    unsafe fn free_of(&self, object: NonNull<u8>, class: usize) {
        // SAFETY: 1. given up: the caller's obligation.
        if !unsafe { self.try_free_of(object, class) } {
            // SAFETY: 1. given up: the caller's obligation.
            unsafe { self.free_slowly(object, class) };
        }
    }

    /// # Safety
    /// As for [`try_free`](Self::try_free).
    #[inline]
    unsafe fn try_free_of(&self, object: NonNull<u8>, class: usize) -> bool {
        let Some(claim) = self.allocator.try_claim_cpu_at_once() else { return false };
        // SAFETY: 1. of the allocator of the pages of all caches: that of `slabs`. 2. given up: the caller's
        // obligation.
        unsafe { self.caches.of(class).try_push_claimed(claim, object) }
    }

    /// # Safety
    /// The object is of this class, and given up.
    #[cold]
    #[inline(never)]
    unsafe fn free_slowly(&self, object: NonNull<u8>, class: usize) {
        if !self.allocator.platform().is_abandoned() {
            // SAFETY: 1. given up: the caller's obligation.
            unsafe { self.caches.of(class).free_slowly(object) };
        }
    }

    /// Allocates an object with an alignment above 8, or a large one.
    #[cold]
    #[inline(never)]
    fn alloc_unusual(&self, gfp: Gfp, layout: Layout) -> Option<NonNull<u8>> {
        match class::of_layout(layout) {
            Some(class) => self.alloc_of(gfp, class),
            None => large::alloc(self.slabs, &LargeRequest { gfp, layout, account: self.account }),
        }
    }

    /// Frees an object with an alignment above 8, or a large one.
    ///
    /// # Safety
    /// As for [`free_sized`](Self::free_sized).
    #[cold]
    #[inline(never)]
    unsafe fn free_unusual(&self, object: NonNull<u8>, layout: Layout) {
        match class::of_layout(layout) {
            // SAFETY: 1. from this cache, given up: the caller's obligation.
            Some(class) => unsafe { self.free_of(object, class) },
            // SAFETY: 1. a large object, given up: the caller's obligation.
            None => unsafe { large::free(self.slabs, object) },
        }
    }

    /// Returns the class of the object at this address; `None` if it is in no slab of this heap.
    fn class_of(&self, object: NonNull<u8>) -> Option<usize> {
        let frame = self.slabs.frame_of(object.addr().get())?;
        match self.slabs.tag(frame).kind() {
            Kind::Head(id, _) | Kind::Tail(id, _) => {
                id.distance_from(self.first_id).filter(|&class| class < NR_CLASSES)
            }
            Kind::Large | Kind::Other => None,
        }
    }
}

/// A heap that lives for ever can be registered, as a [`Cache`] can: empty slabs of all caches are freed before
/// free objects of CPUs return to slabs.
impl<S: PageSource<Platform: DirectMap>> Shrinker for Heap<'static, S>
where
    Self: Sync,
{
    fn count(&self, _control: ShrinkControl) -> usize {
        self.caches().iter().map(Cache::nr_spare_pages).sum()
    }

    fn scan(&self, nr: usize, _control: ShrinkControl) -> usize {
        let mut freed = 0;
        for is_flushed in [false, true] {
            for cache in self.caches() {
                if freed >= nr {
                    return freed;
                }
                if is_flushed {
                    cache.flush();
                }
                freed += cache.free_empty(nr - freed);
            }
        }
        freed
    }
}

impl<S: PageSource<Platform: DirectMap>> fmt::Debug for Heap<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Heap").field("slabs", self.slabs).finish_non_exhaustive()
    }
}
