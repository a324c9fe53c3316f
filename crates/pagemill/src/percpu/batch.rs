//! Batch: up to 64 pages on the stack, for pages that bypass the per-CPU lists.

use core::mem::MaybeUninit;

use crate::base::raw_page::RawPage;

/// Up to 64 pages.
///
/// `batch-init`: the first `len` entries of `pages` are initialised.
#[derive(Debug)]
pub(crate) struct Batch {
    pages: [MaybeUninit<RawPage>; Self::CAPACITY],
    len: usize,
}

impl Batch {
    pub(crate) const CAPACITY: usize = 64;

    pub(crate) const fn new() -> Self {
        Self { pages: [MaybeUninit::uninit(); Self::CAPACITY], len: 0 }
    }

    /// Appends `nr` pages, which `write` writes.
    ///
    /// # Panics
    /// If they do not fit.
    ///
    /// # Safety
    /// `write` initialises every entry of the slice.
    pub(crate) unsafe fn fill(
        &mut self,
        nr: usize,
        write: impl FnOnce(&mut [MaybeUninit<RawPage>]),
    ) {
        write(&mut self.pages[self.len..][..nr]);
        self.len += nr;
    }

    /// Appends a page.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub(crate) fn push(&mut self, page: RawPage) {
        self.pages[self.len].write(page);
        self.len += 1;
    }

    #[inline]
    pub(crate) fn room(&self) -> usize {
        Self::CAPACITY - self.len
    }

    pub(crate) fn is_full(&self) -> bool {
        self.room() == 0
    }

    pub(crate) fn as_slice(&self) -> &[RawPage] {
        // SAFETY: 1. initialised: `batch-init`.
        unsafe { self.pages[..self.len].assume_init_ref() }
    }
}
