//! Shared pages: one frame with several counted owners.

use core::fmt;
use core::mem::ManuallyDrop;
use core::ptr;

use crate::base::raw_page::RawPage;
use crate::base::sync::{Ordering, fence_acquire};
use crate::base::units::{PAGE_SIZE, Pfn};
use crate::memmap::links::RefCount;
use crate::page::page::Page;
use crate::page::source::PageSource;
use crate::platform::platform::DirectMap;

/// One of several owners of a frame; dropping the last one frees the frame.
///
/// Only shared pages use the count: an owned [`Page`] is unique, so allocating and freeing it touches
/// none.
///
/// `shared-count`: the frame's count is the number of `SharedPage`s for it, those on lists
/// included; its top bit says that one of them is on a list.
pub struct SharedPage<S: PageSource> {
    raw: RawPage,
    source: S,
}

/// Set while an owner is on a list: a frame has only one link.
const LISTED: u32 = 1 << 31;
/// Limit on owners; a program that reaches it leaks them.
const MAX_OWNERS: u32 = 1 << 30;

impl<S: PageSource> Page<S> {
    /// Turns the page into a shared one with one owner.
    #[must_use]
    pub fn share(self) -> SharedPage<S> {
        let (raw, source) = self.into_parts();
        let page = SharedPage { raw, source };
        // Relaxed: other owners reach other threads by means that order this store.
        page.count().store(1, Ordering::Relaxed);
        page
    }
}

impl<S: PageSource> SharedPage<S> {
    /// Returns the frame's number.
    #[inline]
    #[must_use]
    pub fn pfn(&self) -> Pfn {
        self.raw.pfn()
    }

    /// Returns how many owners the frame has now.
    #[must_use]
    pub fn nr_owners(&self) -> u32 {
        // Relaxed: the number may change at any time.
        self.count().load(Ordering::Relaxed) & !LISTED
    }

    /// Turns the page back into an owned one.
    ///
    /// # Errors
    /// Returns `self` if there are other owners.
    pub fn try_unshare(self) -> Result<Page<S>, Self> {
        // Acquire pairs with the Release decrement of the owner before this one. No owner can
        // appear at the same time: only owners make owners, and this is the only one.
        if self.count().load(Ordering::Acquire) == 1 {
            let (raw, source) = self.into_parts();
            Ok(Page::new(source, raw))
        } else {
            Err(self)
        }
    }

    /// Marks the frame as being on a list, and gives up the handle.
    pub(crate) fn enlist(self) -> Result<RawPage, Self> {
        // Acquire pairs with the Release in `delist`: the last list is done with the link.
        if self.count().fetch_or(LISTED, Ordering::Acquire) & LISTED != 0 {
            return Err(self);
        }
        Ok(self.into_parts().0)
    }

    /// Makes the handle that [`enlist`](Self::enlist) gave up.
    pub(crate) fn delist(source: S, raw: RawPage) -> Self {
        let page = Self { raw, source };
        // Release pairs with the Acquire in `enlist`: this list is done with the link before another
        // takes the frame.
        page.count().fetch_and(!LISTED, Ordering::Release);
        page
    }

    /// Returns whether the owner on a list is the only one, and so may free the frame.
    pub(crate) fn is_only_owner(source: &S, raw: RawPage) -> bool {
        let allocator = source.allocator();
        let count = allocator.frames().refs(allocator.frame_of(raw));
        // Acquire pairs with the Release decrement of the owner before this one.
        count.load(Ordering::Acquire) & !LISTED == 1
    }

    pub(crate) fn source(&self) -> &S {
        &self.source
    }

    fn count(&self) -> &RefCount {
        let allocator = self.source.allocator();
        allocator.frames().refs(allocator.frame_of(self.raw))
    }

    fn into_parts(self) -> (RawPage, S) {
        let this = ManuallyDrop::new(self);
        // SAFETY: 1. valid to read: it is behind a reference. 2. not dropped twice: `this` is never
        // dropped.
        let source = unsafe { ptr::read(&raw const this.source) };
        (this.raw, source)
    }
}

impl<S: PageSource<Platform: DirectMap>> SharedPage<S> {
    /// Returns the bytes of the frame.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        let bytes = self.source.allocator().platform().frame_ptr(self.pfn()).cast();
        // SAFETY: 1. valid and aligned: `DirectMap`. 2. no writer: shared pages lend no unique
        // reference, and the frame cannot become an owned page while this shared page exists
        // (`shared-count`).
        unsafe { bytes.as_ref() }
    }
}

impl<S: PageSource> Clone for SharedPage<S> {
    /// Adds an owner.
    ///
    /// # Panics
    /// If there are 2^30 owners already.
    fn clone(&self) -> Self {
        // Relaxed: the new owner comes from an existing one.
        let owners = self.count().fetch_add(1, Ordering::Relaxed) & !LISTED;
        if owners >= MAX_OWNERS {
            // Undone, so that failed attempts never add up to an overflow.
            self.count().fetch_sub(1, Ordering::Relaxed);
            panic!("frame {} has {owners} owners already", self.pfn());
        }
        Self { raw: self.raw, source: self.source.clone() }
    }
}

impl<S: PageSource> Drop for SharedPage<S> {
    fn drop(&mut self) {
        // Release pairs with the fence of the last owner: what this one did with the frame
        // happens before it is freed.
        if self.count().fetch_sub(1, Ordering::Release) == 1 {
            fence_acquire();
            self.source.allocator().free_single(self.raw);
        }
    }
}

impl<S: PageSource> fmt::Debug for SharedPage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPage(pfn {}, {} owners)", self.pfn(), self.nr_owners())
    }
}

#[cfg(test)]
mod tests {
    use alloc::boxed::Box;
    use core::panic::AssertUnwindSafe;
    use core::ptr::NonNull;

    use super::*;
    use crate::alloc_pages::AllocPages;
    use crate::base::gfp::Gfp;
    use crate::base::units::{CpuId, NodeId, PhysAddr};
    use crate::config::config::{Config, MemoryRegion};
    use crate::page_alloc::allocator::PageAllocator;
    use crate::platform::platform::Platform;

    struct Alone;

    impl Platform for Alone {
        fn nr_cpus(&self) -> u32 {
            1
        }
        fn pin(&self) -> CpuId {
            CpuId::new(0)
        }
        unsafe fn zero_pages(&self, _pfn: Pfn, _nr_pages: usize) {}
    }

    #[derive(Clone, Copy)]
    #[repr(align(128))]
    struct Aligned {
        _bytes: [u8; 128],
    }

    #[test]
    fn a_refused_owner_is_not_counted() {
        let region =
            MemoryRegion { start: PhysAddr::new(0), len_bytes: 1 << 20, node: NodeId::new(0) };
        let memory = [region];
        let config = Config::new(&memory, 1);
        let size = PageAllocator::<Alone>::metadata_layout(&config).unwrap().size();
        let metadata = Box::leak(alloc::vec![Aligned { _bytes: [0; 128] }; size / 128 + 1].into());
        let metadata: &mut [Aligned] = metadata;
        let metadata = NonNull::slice_from_raw_parts(NonNull::from(metadata).cast(), size);
        // SAFETY: 1. the metadata memory is initialised, aligned, and leaked for this test alone.
        // 2. no access to frames: they have no memory.
        let allocator = unsafe { PageAllocator::new(&config, metadata, Alone) }.unwrap();
        let page = allocator.alloc_page(Gfp::KERNEL).unwrap().share();
        page.count().store(MAX_OWNERS, Ordering::Relaxed);
        for _ in 0..3 {
            let clone = AssertUnwindSafe(|| page.clone().pfn());
            assert!(std::panic::catch_unwind(clone).is_err());
            assert_eq!(page.nr_owners(), MAX_OWNERS);
        }
        page.count().store(1, Ordering::Relaxed);
    }
}
