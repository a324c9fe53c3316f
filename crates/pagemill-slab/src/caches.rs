//! `Caches`: the caches of a heap, in pages of its allocator: together they have 12 KiB, which is more than a
//! kernel's stack should hold.

use core::ptr::NonNull;
use core::slice;

use pagemill::contig::FrameRange;
use pagemill::machine::DirectMap;
use pagemill::source::PageSource;
use pagemill::units::PAGE_SIZE;
use pagemill::{AllocPages, Gfp, Platform};

use crate::cache::Cache;
use crate::class::NR_CLASSES;
use crate::config::CacheError;
use crate::slabs::Slabs;

/// One cache for each size class.
///
/// `heap-caches`: `first` points to `nr` initialised caches in `memory`, which this owns; all
/// [`NR_CLASSES`] of them once [`new`](Self::new) has returned.
pub(crate) struct Caches<'s, S: PageSource<Platform: DirectMap>> {
    first: NonNull<Cache<'s, S>>,
    nr: usize,
    memory: FrameRange<S>,
}

// SAFETY: 1. shared caches are all that it gives access to.
unsafe impl<'s, S: PageSource<Platform: DirectMap>> Sync for Caches<'s, S> where
    (Cache<'s, S>, FrameRange<S>): Sync
{
}
// SAFETY: 1. the caches are owned, and dropped by any thread if one may be.
unsafe impl<'s, S: PageSource<Platform: DirectMap>> Send for Caches<'s, S> where
    (Cache<'s, S>, FrameRange<S>): Send
{
}

impl<'s, S: PageSource<Platform: DirectMap>> Caches<'s, S> {
    /// Makes the caches, smallest class first.
    pub(crate) fn new(
        slabs: &'s Slabs<S>,
        name: &'static str,
        mut make: impl FnMut(usize) -> Result<Cache<'s, S>, CacheError>,
    ) -> Result<Self, CacheError> {
        const { assert!(align_of::<Cache<'_, S>>() <= PAGE_SIZE) };
        let source = slabs.source();
        let nr_pages = (NR_CLASSES * size_of::<Cache<'_, S>>()).div_ceil(PAGE_SIZE);
        let memory = source
            .clone()
            .alloc_contig(Gfp::KERNEL, nr_pages, 1, None)
            .map_err(|error| CacheError::NoMemory { name, error })?;
        let first = slabs.platform().frame_ptr(memory.pfn()).cast();
        let mut caches = Self { first, nr: 0, memory };
        for class in 0..NR_CLASSES {
            let cache = make(class)?;
            // SAFETY: 1. in the memory, which has room for all.
            let place = unsafe { caches.first.add(class) };
            // SAFETY: 1. valid, aligned, nobody else's: adjacent frames (`DirectMap`) that were just allocated.
            unsafe { place.write(cache) };
            caches.nr += 1;
        }
        Ok(caches)
    }

    /// Returns the cache of a class.
    #[inline]
    pub(crate) fn of(&self, class: usize) -> &Cache<'s, S> {
        assert!(class < NR_CLASSES, "a class of the heap");
        // SAFETY: 1. in bounds: checked.
        let cache = unsafe { self.first.add(class) };
        // SAFETY: 1. initialised: `heap-caches`. 2. not written as a whole until this is dropped.
        unsafe { cache.as_ref() }
    }

    pub(crate) fn as_slice(&self) -> &[Cache<'s, S>] {
        // SAFETY: 1. `nr` initialised caches: `heap-caches`. 2. as in `of`.
        unsafe { slice::from_raw_parts(self.first.as_ptr(), self.nr) }
    }
}

impl<S: PageSource<Platform: DirectMap>> Drop for Caches<'_, S> {
    fn drop(&mut self) {
        // In a child of `fork`, the pages may not be mapped.
        if self.memory.source().allocator().platform().is_abandoned() {
            return;
        }
        for class in 0..self.nr {
            // SAFETY: 1. in bounds: `heap-caches`.
            let cache = unsafe { self.first.add(class) };
            // SAFETY: 1. initialised: `heap-caches`. 2. not used again: this is being dropped.
            unsafe { cache.drop_in_place() };
        }
    }
}
