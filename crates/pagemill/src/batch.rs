//! A few pages on the stack, for where they cannot stay in a list.

use crate::handle::{Class, RawPage};
use crate::pageblock::WordRun;
use crate::units::Pfn;

/// Up to 64 pages.
#[derive(Debug)]
pub(crate) struct Batch {
    pages: [RawPage; Self::CAPACITY],
    len: usize,
}

impl Batch {
    pub(crate) const CAPACITY: usize = 64;

    pub(crate) const fn new() -> Self {
        Self { pages: [RawPage::PLACEHOLDER; Self::CAPACITY], len: 0 }
    }

    /// Replaces the content by as many pages as `source` has and fit.
    pub(crate) fn fill(&mut self, source: impl Iterator<Item = RawPage>) {
        self.len = 0;
        for (entry, page) in self.pages.iter_mut().zip(source) {
            *entry = page;
            self.len += 1;
        }
    }

    /// Appends the pages of one word of a pageblock's bitmap.
    ///
    /// # Panics
    /// If they do not fit.
    pub(crate) fn push_run(&mut self, class: Class, run: WordRun) {
        let mut rest = run.mask;
        while rest != 0 {
            let pfn = Pfn::new(run.base + u64::from(rest.trailing_zeros()));
            self.pages[self.len] = class.at(pfn);
            self.len += 1;
            rest &= rest - 1;
        }
    }

    /// Appends a page.
    ///
    /// # Panics
    /// If there is no room.
    #[inline]
    pub(crate) fn push(&mut self, page: RawPage) {
        self.pages[self.len] = page;
        self.len += 1;
    }

    #[inline]
    pub(crate) fn is_full(&self) -> bool {
        self.len == Self::CAPACITY
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    pub(crate) fn as_slice(&self) -> &[RawPage] {
        &self.pages[..self.len]
    }
}
