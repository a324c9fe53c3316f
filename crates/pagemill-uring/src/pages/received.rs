//! `Received`: bytes that arrived on a connection, and the pages that hold them.

use core::fmt;

use crate::pages::filled::FilledPage;
use crate::pages::held::Lease;
use crate::pages::ring_page::RingPage;

/// Bytes that arrived on one connection, in order, and the pages that own them.
///
/// It can be kept, and sent to another thread; there, dropping it returns the pages. Nearly always, all
/// pages but the last are full.
///
/// While it exists its pages count as held, towards the limits of the
/// [`ReceiveConfig`](crate::ReceiveConfig).
pub struct Received<F> {
    pages: Vec<FilledPage<F>>,
    len: usize,
    _lease: Lease,
}

impl<F: RingPage> Received<F> {
    /// Makes a value of pages that have `len` bytes together.
    pub(crate) fn new(pages: Vec<FilledPage<F>>, len: usize, lease: Lease) -> Self {
        debug_assert!(pages.iter().map(FilledPage::len).sum::<usize>() == len, "{len} bytes");
        Self { pages, len, _lease: lease }
    }

    /// Returns the number of bytes, at least one.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Returns the number of pages.
    #[inline]
    #[must_use]
    pub fn nr_pages(&self) -> usize {
        self.pages.len()
    }

    /// Returns the bytes, page by page.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        self.pages.iter().map(|page| &**page)
    }

    /// Returns the bytes, page by page, for changing them in place.
    pub fn pieces_mut(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.pages.iter_mut().map(|page| &mut **page)
    }

    /// Appends a copy of the bytes to `bytes`.
    pub fn copy_to(&self, bytes: &mut Vec<u8>) {
        self.pieces().for_each(|piece| bytes.extend_from_slice(piece));
    }

    /// Gives up the pages, which no longer count as held.
    ///
    /// What limits the number of pages that are kept like this is the page allocator alone.
    #[must_use = "pages that are dropped return to their source"]
    pub fn into_pages(self) -> Vec<FilledPage<F>> {
        self.pages
    }
}

impl<F> fmt::Debug for Received<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received({} bytes in {} pages)", self.len, self.pages.len())
    }
}
