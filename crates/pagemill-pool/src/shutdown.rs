//! Pool shutdown: waits for pages still in use, and reports who holds them.

use alloc::vec::Vec;
use core::fmt;

use crate::ledger::Holder;
use crate::pool_ref::PoolRef;

/// A pool that is shutting down: it hands out nothing, and returned pages go to the page allocator.
///
/// Dropping it ends the waiting. Pages still in use are then freed to the page allocator when they
/// return; each keeps its reference to the pool.
#[derive(Debug)]
#[must_use = "pages may still be in flight"]
pub struct Draining<R: PoolRef> {
    pool: R,
}

/// The pages still in use after their pool has ended.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `page_pool_release_retry`, its warning
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outstanding {
    /// Number of pages; negative if more pages were released than taken.
    pub inflight: i32,
    /// Their holders, those with the most pages first; empty unless the pool is
    /// [`Tracked`](crate::sources::Tracked).
    pub holders: Vec<Holder>,
}

impl<R: PoolRef> Draining<R> {
    pub(crate) const fn new(pool: R) -> Self {
        Self { pool }
    }

    /// Releases the pages that have returned by now, and reports those that are still in use.
    #[must_use = "pages may still be in flight"]
    pub fn poll(&mut self) -> Option<Outstanding> {
        let pool = self.pool.pool();
        // Finds pages only if a mapper panicked while the ring was emptied.
        pool.scrub();
        match pool.inflight() {
            0 => None,
            inflight => Some(Outstanding { inflight, holders: pool.holders() }),
        }
    }

    /// Returns whether all pages have been returned.
    #[must_use = "pages may still be in flight"]
    pub fn is_complete(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits until all pages have been returned. `pause` is called with the pages still in use, waits a
    /// while, and returns whether to continue.
    ///
    /// # Errors
    /// The pages still in use when `pause` returned false, or at once if waiting is useless: more pages
    /// were released than taken, or this is a child of `fork`, to which no page returns.
    pub fn wait(mut self, mut pause: impl FnMut(&Outstanding) -> bool) -> Result<(), Outstanding> {
        while let Some(outstanding) = self.poll() {
            let is_hopeless = outstanding.inflight < 0 || self.pool.pool().is_abandoned();
            if is_hopeless || !pause(&outstanding) {
                return Err(outstanding);
            }
        }
        Ok(())
    }
}

impl fmt::Display for Outstanding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} pages of the pool are still out", self.inflight)?;
        let mut separator = ": ";
        for holder in &self.holders {
            write!(f, "{separator}{holder}")?;
            separator = ", ";
        }
        Ok(())
    }
}

impl core::error::Error for Outstanding {}
