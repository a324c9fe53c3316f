//! Filled page: a page with the number of bytes that the kernel wrote to it.

use core::fmt;

use crate::pages::ring_page::RingPage;

/// A page and the number of its first bytes that were received.
///
/// It derefs to these bytes.
pub struct FilledPage<F> {
    page: F,
    len: u32,
}

impl<F> FilledPage<F> {
    /// Makes a page of `len` bytes, which is at most the length of a page.
    #[inline]
    pub(crate) fn new(page: F, len: u32) -> Self {
        Self { page, len }
    }

    /// Returns the page, which has arbitrary bytes after the received ones.
    #[inline]
    #[must_use = "a page that is dropped returns to its source"]
    pub fn into_page(self) -> F {
        self.page
    }

    /// Returns the page, for tests whose pages have no bytes.
    #[cfg(test)]
    pub(crate) fn page_ref(&self) -> &F {
        &self.page
    }

    /// Returns the number of received bytes.
    #[expect(clippy::len_without_is_empty, reason = "it is never empty")]
    #[inline]
    #[must_use]
    pub fn len(&self) -> usize {
        self.len as usize
    }
}

impl<F: RingPage> core::ops::Deref for FilledPage<F> {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.page.bytes().get(..self.len as usize).unwrap_or_default()
    }
}

impl<F: RingPage> core::ops::DerefMut for FilledPage<F> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [u8] {
        self.page.bytes_mut().get_mut(..self.len as usize).unwrap_or_default()
    }
}

impl<F> fmt::Debug for FilledPage<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FilledPage({} bytes)", self.len)
    }
}
