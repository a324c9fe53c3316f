//! Shared pages: one frame with several counted owners.

use core::fmt;

use crate::base::raw_page::RawPage;
use crate::base::sync::{Ordering, fence_acquire};
use crate::base::units::{PAGE_SIZE, Pfn};
use crate::memmap::links::RefCount;
use crate::page::page::{Handle, Page, Release};
use crate::page::source::PageSource;
use crate::platform::platform::DirectMap;

/// One of several owners of a frame; dropping the last one frees the frame.
///
/// Only shared pages use the count: an owned [`Page`] is unique, so allocating and freeing it touches
/// none.
///
/// `shared-count`: the frame's count is the number of `SharedPage`s for it, those on lists
/// included; its top bit says that one of them is on a list.
pub struct SharedPage<S: PageSource>(Handle<S, FreeLast>);

/// Frees a page if this owner is the last one.
pub(crate) enum FreeLast {}

impl Release for FreeLast {
    fn release<S: PageSource>(source: &S, raw: RawPage) {
        // Release pairs with the fence of the last owner: what this one did with the frame
        // happens before it is freed.
        if count(source, raw).fetch_sub(1, Ordering::Release) == 1 {
            fence_acquire();
            source.allocator().free_single(raw);
        }
    }
}

/// Returns the number of owners of a frame, and its bit for being on a list.
fn count<S: PageSource>(source: &S, raw: RawPage) -> &RefCount {
    let allocator = source.allocator();
    allocator.frames().refs(allocator.frame_of(raw))
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
        let page = SharedPage(Handle::new(source, raw));
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
        self.0.raw().pfn()
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
            let (raw, source) = self.0.into_parts();
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
        Ok(self.0.into_parts().0)
    }

    /// Makes the handle that [`enlist`](Self::enlist) gave up.
    pub(crate) fn delist(source: S, raw: RawPage) -> Self {
        let page = Self(Handle::new(source, raw));
        // Release pairs with the Acquire in `enlist`: this list is done with the link before another
        // takes the frame.
        page.count().fetch_and(!LISTED, Ordering::Release);
        page
    }

    /// Returns whether the owner on a list is the only one, and so may free the frame.
    pub(crate) fn is_only_owner(source: &S, raw: RawPage) -> bool {
        // Acquire pairs with the Release decrement of the owner before this one.
        count(source, raw).load(Ordering::Acquire) & !LISTED == 1
    }

    pub(crate) fn source(&self) -> &S {
        self.0.source()
    }

    fn count(&self) -> &RefCount {
        count(self.0.source(), self.0.raw())
    }
}

impl<S: PageSource<Platform: DirectMap>> SharedPage<S> {
    /// Returns the bytes of the frame.
    #[inline]
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; PAGE_SIZE] {
        self.0.first_page()
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
        Self(Handle::new(self.0.source().clone(), self.0.raw()))
    }
}

impl<S: PageSource> fmt::Debug for SharedPage<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SharedPage(pfn {}, {} owners)", self.pfn(), self.nr_owners())
    }
}

#[cfg(test)]
#[expect(unsafe_code, reason = "a platform for tests")]
mod tests;
