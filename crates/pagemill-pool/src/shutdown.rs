//! The end of a pool: waiting for pages that are still out, and telling for whom.

use alloc::vec::Vec;
use core::fmt;

use crate::ledger::Holder;
use crate::pool_ref::PoolRef;

/// A pool that is ending: it hands nothing out, and what comes back goes to the page allocator.
///
/// Dropping it ends the waiting. Pages that are still out then find their way to the page allocator
/// all the same; each keeps its reference to the pool.
#[derive(Debug)]
pub struct Draining<R: PoolRef> {
    pool: R,
}

/// Pages that are out although their pool has ended.
///
/// # Source
/// `linux-6.12` `net/core/page_pool.c` `page_pool_release_retry`, its warning
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Outstanding {
    /// How many there are; negative if more came back than went out.
    pub inflight: i32,
    /// Who has them, those with the most first; empty unless the owner was
    /// [`Tracked`](crate::Tracked).
    pub holders: Vec<Holder>,
}

impl<R: PoolRef> Draining<R> {
    pub(crate) const fn new(pool: R) -> Self {
        Self { pool }
    }

    /// Releases the pages that have returned by now, and reports those that are still in use.
    pub fn poll(&mut self) -> Option<Outstanding> {
        let pool = self.pool.pool();
        // Left to do only where a mapper panicked while the ring was emptied.
        pool.scrub();
        match pool.inflight() {
            0 => None,
            inflight => Some(Outstanding { inflight, holders: pool.holders() }),
        }
    }

    /// Tells whether all pages are back.
    pub fn is_complete(&mut self) -> bool {
        self.poll().is_none()
    }

    /// Waits until all pages are back; `pause` is called with what is still out, waits a while, and
    /// returns whether to go on.
    ///
    /// # Errors
    /// What was still out when `pause` returned false, or at once where waiting does not help: more came
    /// back than went out, or this is a child of `fork`, to which no page comes back.
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
